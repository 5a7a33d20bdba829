"""What is done beside a server under test, without the seconds that a process of its own takes to start."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from server import checks, config, embedded, migrate, run
from server.context import Role
from server.features.accounts import registration

P = ParamSpec("P")
T = TypeVar("T")
# A command waits for a connection of a busy database, at most.
TIMEOUT_S = 60


def mint(
    environment: Mapping[str, str],
    data_dir: Path,
    count: int,
    *,
    role: str = "student",
    ttl_s: int = 3600,
) -> list[dict[str, Any]]:
    """Make accounts, as `fourtalk user mint` does."""
    settings = config.from_env(environment, data_dir=data_dir)
    minted = _in_transaction(
        settings,
        lambda session: registration.mint(
            session, count=count, role=Role(role), ttl_s=ttl_s, settings=settings
        ),
    )
    return [msgspec.to_builtins(one) for one in minted]


def violations(environment: Mapping[str, str], data_dir: Path) -> list[Any]:
    """Return what `fourtalk check` finds wrong."""
    proof = _in_transaction(
        config.from_env(environment, data_dir=data_dir),
        lambda session: checks.prove(session, every_room=True),
    )
    found: list[Any] = msgspec.to_builtins(proof.violations)
    return found


def prepare(data_dir: Path) -> None:
    """Give a data dir that is not there yet a migrated database, as its first start would make it."""
    if not data_dir.exists():
        data_dir.mkdir(parents=True, mode=0o700)
        shutil.copytree(_cluster() / "postgres", data_dir / "postgres")


@functools.cache
def _cluster() -> Path:
    """Make a data dir once in this process, to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="fourtalk-cluster-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with embedded.Embedded(folder, fsync=False) as servers:
        servers.acquire()
        servers.start_postgres()
        _in_thread(migrate.upgrade, servers.database_url)
    return folder


def _in_transaction(settings: config.Settings, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    return _in_thread(run.in_transaction, settings, work)


def _in_thread(do: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do it in a thread: the test that waits for it may have a loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(do, *arguments, **options).result(TIMEOUT_S)

"""`fourtalk serve` as a process of its own, and the commands beside it: what acceptance runs start."""

import functools
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]  # it has no types

from server.ports import free_port
from tests import beside
from tests.forked import Forked

READY = "fourtalk is ready"
# What of our own environment a server needs; everything else would configure it by accident.
KEPT = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "TMPDIR")
# Each making waits for the database a few times, so accounts are made in advance.
MINTED = 40
MEDIA_KEY, MEDIA_SECRET = "journeys", "a secret of the media server, long enough"
VIETNAM, AMERICA, NOWHERE = "14.160.0.1", "8.8.8.8", "192.0.2.1"


class Product:
    """One server on a data dir of its own.

    Args:
        folder: Holds the data dir and the log.
        options: Of `fourtalk serve`.
        environment: Variables beside what every server here has: no limits of rates, and keys of webhooks.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self._options = ("--port", str(self.port), *(options or ("--time-travel",)))
        self._environment = {
            **{name: os.environ[name] for name in KEPT if name in os.environ},  # noqa: TID251 - for a child
            "RATE_LIMITS": "off",
            "FOURTALK_WEB": "off",
            "PUBLIC_URL": self.base,
            "LIVEKIT_API_KEY": MEDIA_KEY,
            "LIVEKIT_API_SECRET": MEDIA_SECRET,
            **(environment or {}),
        }
        self._process: Forked | None = None
        self._unused: dict[str, list[Any]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def words(self) -> str:
        """Return the last of what the server has written to its log."""
        return (self.folder / "serve.log").read_text()[-3000:]

    def start(self) -> None:
        """Start it, and return once it says that it is ready."""
        beside.prepare(self._data_dir)
        self._process = self._run("serve", *self._options)
        assert READY in self._process.line(), self.words

    def stop(self) -> int:
        """End it in good order and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        code, _ = process.end(signal.SIGTERM)
        return code

    def kill(self) -> None:
        """End it as a power cut would."""
        process, self._process = self._process, None
        assert process is not None, "it was started"
        process.end(signal.SIGKILL)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command beside it."""
        code, out = self._run(*arguments).end()
        return subprocess.CompletedProcess(arguments, code, out, self.words)

    def mint(self, count: int = 1, role: str = "student") -> list[Any]:
        """Return accounts that nobody has used, each with `user_id`, `email` and `access_token`."""
        unused = self._unused.setdefault(role, [])
        if len(unused) < count:
            unused += beside.mint(self._environment, self._data_dir, max(count, MINTED), role=role)
        taken, self._unused[role] = unused[:count], unused[count:]
        return taken

    @functools.cached_property
    def admin(self) -> Any:
        """Return the account of an administrator."""
        return self.mint(role="admin")[0]

    def violations(self) -> Any:
        """Return what `fourtalk check` finds wrong."""
        return beside.violations(self._environment, self._data_dir)

    def errors(self) -> list[str]:
        """Return what the server has logged as an error."""
        lines = (self.folder / "serve.log").read_text().splitlines()
        return [line for line in lines if '"level":"error"' in line or "Traceback" in line]

    def _run(self, *arguments: str) -> Forked:
        return Forked(
            *(*arguments, "--data-dir", str(self._data_dir)),
            environment=self._environment,
            log=self.folder / "serve.log",
        )


def countries(path: Path) -> Path:
    """Write a country file that knows two networks."""
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-Country")
    for country, network in (("VN", "14.160.0.0/11"), ("US", "8.8.8.0/24")):
        writer.insert_network(IPSet([network]), {"country": {"iso_code": country}})
    writer.to_db_file(str(path))
    return path

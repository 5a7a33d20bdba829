"""Real PostgreSQL and Valkey for every test: started once per worker in a folder of its own, a database for each module."""

import atexit
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, lru_cache
from pathlib import Path

import asyncpg
import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from xdist.remote import Producer  # type: ignore[import-untyped]  # it has no types
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from server import db, embedded, migrate
from server.clock import Clock

TEMPLATE = "template_fourtalk"
KEPT = "test_kept"
# `record_property(FIGURES, …)`: what a test measured is shown at the end of the run.
FIGURES = "figures"
# Folders that are run first, the longest before the others.
LONG = {
    name: place
    for place, name in enumerate(("browser", "livekit", "simulation", "chaos", "client", "journeys", "load"))
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full",
        action="store_true",
        help="the long form of tests that have one: thousands of rounds instead of dozens",
    )
    parser.addoption(
        "--operations",
        type=int,
        help="how many operations the random lives of money do (200,000 in the long form)",
    )
    parser.addoption(
        "--screens",
        type=Path,
        help="a folder for pictures of every page that tests/browser looks at, at three widths, light and dark",
    )
    parser.addoption(
        "--minutes",
        type=float,
        default=30.0,
        help="how long tests/browser keeps a room open in the long form, to see that nothing piles up in its page",
    )
    parser.addoption(
        "--figures",
        type=Path,
        default=Path("browser-figures.json"),
        help="where the long form of tests/browser writes what it measured",
    )
    parser.addoption(
        "--keep-servers",
        action="store_true",
        help="the servers of this process's first run, and one database, serve its later runs and its forks (mutation)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose files take a minute or more: at the end, one of them would keep everybody waiting."""
    items.sort(key=lambda item: LONG.get(item.path.parent.name, len(LONG)))


class _ByFile(LoadFileScheduling):  # type: ignore[misc]
    """A file is on one worker, and all that need a browser are: four people with video take what a core has."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "browser" if file.startswith("tests/browser/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByFile:
    """Divide the tests among the workers; pytest 9.2 keeps xdist's own groups from its scheduler."""
    return _ByFile(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that the tests recorded."""
    figures = [
        f"{report.nodeid.rpartition('::')[2]}: {value}"
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        if isinstance(report, pytest.TestReport)
        for name, value in report.user_properties
        if name == FIGURES
    ]
    if figures:
        terminalreporter.section(FIGURES)
        for line in figures:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether a test that has a long form takes it."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def operations(request: pytest.FixtureRequest) -> int | None:
    """How many operations were asked for, where that is not what the form of the test says."""
    asked: int | None = request.config.getoption("--operations")
    return asked


def pytest_configure() -> None:
    _log_plainly()


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Undo what a command configured: its log goes to the captured stderr of its test, which ends with it."""
    yield
    structlog.reset_defaults()
    _log_plainly()


def _log_plainly() -> None:
    """Show a traceback as Python does: structlog's own, in colours, cost a fifteenth of all tests."""
    *others, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*others, plain])


@pytest.fixture(scope="session")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[embedded.Embedded]:
    """The embedded servers of this test worker."""
    if request.config.getoption("--keep-servers"):
        yield _kept_servers()
        return
    with embedded.Embedded(tmp_path_factory.mktemp("data"), fsync=False) as servers:
        _start(servers)
        yield servers


@cache
def _kept_servers() -> embedded.Embedded:
    # A fork ends without this, so it stops nothing that others still use.
    folder = tempfile.TemporaryDirectory(prefix="fourtalk-")
    atexit.register(folder.cleanup)
    servers = embedded.Embedded(Path(folder.name), fsync=False)
    atexit.register(servers.stop)
    _start(servers)
    return servers


def _start(servers: embedded.Embedded) -> None:
    servers.acquire()
    servers.start_postgres()
    servers.start_valkey()


@pytest.fixture(scope="session")
def template(servers: embedded.Embedded) -> str:
    """A database that is migrated to head, to be cloned."""
    return _template(servers)


@cache
def _template(servers: embedded.Embedded) -> str:
    import asyncio

    asyncio.run(_execute(_maintenance(servers), f"create database {TEMPLATE}"))
    migrate.upgrade(embedded.database_url(servers.sockets, TEMPLATE))
    return TEMPLATE


@pytest.fixture
def fresh_database(
    servers: embedded.Embedded, template: str
) -> Callable[[], AbstractAsyncContextManager[str]]:
    """Makes databases: each has a URL, is migrated and empty, and goes with its context."""

    @asynccontextmanager
    async def fresh() -> AsyncIterator[str]:
        name = f"test_{uuid.uuid4().hex}"
        await _execute(_maintenance(servers), f"create database {name} template {template}")
        try:
            yield embedded.database_url(servers.sockets, name)
        finally:
            await _execute(_maintenance(servers), f"drop database {name} with (force)")

    return fresh


@pytest.fixture
async def database_url(
    shared_database: str | None, fresh_database: Callable[[], AbstractAsyncContextManager[str]]
) -> AsyncIterator[str]:
    """The URL of a migrated database: the module's, emptied, or where its module says `OWN_DATABASE`, a fresh one."""
    if shared_database is not None:
        await _execute(shared_database, EMPTY)
        yield shared_database
        return
    async with fresh_database() as url:
        yield url


@pytest.fixture
def shared_database(request: pytest.FixtureRequest) -> str | None:
    """The URL of the module's database, but for those that change what no emptying brings back."""
    if getattr(request.module, "OWN_DATABASE", False):
        return None
    url: str = request.getfixturevalue("module_database")
    return url


@pytest.fixture(scope="module")
def module_database(
    request: pytest.FixtureRequest, servers: embedded.Embedded, template: str
) -> Iterator[str]:
    """A database for the tests of one module: making one costs more than most of them."""
    import asyncio

    if request.config.getoption("--keep-servers"):
        url = _kept_database(servers, template)
        asyncio.run(_execute(url, EMPTY))
        yield url
        return
    name = f"test_{uuid.uuid4().hex}"
    asyncio.run(_execute(_maintenance(servers), f"create database {name} template {template}"))
    yield embedded.database_url(servers.sockets, name)
    asyncio.run(_execute(_maintenance(servers), f"drop database {name} with (force)"))


@cache
def _kept_database(servers: embedded.Embedded, template: str) -> str:
    # One for all modules, since a mutant's tests come from many, the fastest first; and what its engine compiled serves all.
    import asyncio

    asyncio.run(_execute(_maintenance(servers), f"create database {KEPT} template {template}"))
    return embedded.database_url(servers.sockets, KEPT)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = _engine(database_url)
    yield engine
    # Its connections belong to the loop of this test.
    await engine.dispose()


@lru_cache(maxsize=1)
def _engine(url: str) -> AsyncEngine:
    """Return an engine for all tests of a database: each of them would compile the same statements again."""
    return db.create_engine(url)


@pytest.fixture
def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return db.create_sessions(engine)


@pytest.fixture
def redis_url(servers: embedded.Embedded) -> str:
    """The worker's Valkey; keys are shared between its tests, so tests use names of their own."""
    return servers.redis_url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def in_ci() -> bool:
    return os.environ.get("CI") == "true"


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).parent.parent


# Past the guards: what is kept for ever is deleted too, but for what migrations wrote.
EMPTY = """
do $$
declare
  name text;
begin
  set local session_replication_role = replica;
  -- Most tests write to some of the tables: the others have no page yet.
  for name in select relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r' and pg_relation_size(oid) > 0
      and relname not in ('alembic_version', 'policy', 'payment_transition')
  loop
    execute format('delete from %I', name);
  end loop;
  -- The migrations wrote the first terms; whoever enacts others does not mean them for the next test.
  delete from policy where version > 1;
  perform setval(format('%I', sequencename), start_value, false) from pg_sequences where last_value is not null;
end$$
"""


def _maintenance(servers: embedded.Embedded) -> str:
    return embedded.database_url(servers.sockets, "postgres")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()

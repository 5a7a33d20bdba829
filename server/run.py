"""Run the server: embedded parts where nothing is configured, migrations, uvicorn, and a graceful end."""

import asyncio
import contextlib
import functools
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import FrameType
from typing import TypeVar

import msgspec
import structlog
import uvicorn
import uvloop
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import ownership
from server import app, db, embedded, migrate
from server.config import ConfigError, Settings
from server.gateway import wire
from server.http import health
from server.http.connection import HttpConnection
from server.integrations import livekit_server
from server.web import site
from server.workers import Place, supervise

T = TypeVar("T")

log = structlog.get_logger()

# After the sockets are drained, requests in flight get this long; then the process ends all the same.
SHUTDOWN_TIMEOUT_S = 10
READY_POLL_S = 0.05
# What the pools of one process open at most (`db.POOL_SIZE`, `app.STEADY_POOL_SIZE` and their bursts), and some more.
CONNECTIONS_EACH = 60


class _ForcedEnd(Exception):  # noqa: N818 - nothing is wrong
    """Somebody does not want to wait for a graceful end."""


def serve(settings: Settings, *, host: str, port: int, workers: int, time_travel: bool) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    Raises:
        ConfigError: Time travel was asked for with a configured database, or with several workers.
        DataDirBusyError: Another process serves from this data dir.
        EmbeddedError: A server from a wheel did not start.
    """
    if time_travel and settings.database_url is not None:
        raise ConfigError("--time-travel needs the embedded database: DATABASE_URL must not be set")
    if time_travel and workers > 1:
        # An advance runs what falls due in order, in one process; the others would run theirs on their own.
        raise ConfigError("--time-travel moves the clock of one process: it needs --workers 1")
    if not settings.rate_limits:
        log.warning("unlimited", what=health.UNLIMITED)
    _allow_descriptors()
    with _backends(settings, port=port, workers=workers) as complete:
        assert complete.database_url is not None, "the backends have filled it in"
        migrate.upgrade(complete.database_url)
        if settings.database_url is None:
            # Holding the lock of the data dir proves that every process that ran rooms of this database has ended.
            in_transaction(complete, lambda session: ownership.outlive(session, None))
        work = functools.partial(
            _work,
            complete,
            host=host,
            port=port,
            time_travel=time_travel,
            own_media=complete.livekit.url != settings.livekit.url,
        )
        announce = functools.partial(print, f"fourtalk is ready at http://{host}:{port}", flush=True)
        if workers == 1:
            return work(Place(announce))
        return supervise(work, count=workers, address=(host, port), announce=announce)


def _work(
    settings: Settings, place: Place, *, host: str, port: int, time_travel: bool, own_media: bool
) -> int:
    """Serve in this process until it is told to end; return the exit code."""

    async def run() -> int:
        async with (
            app.running(
                settings,
                node=place.node,
                predecessor=place.predecessor,
                time_travel=time_travel,
                own_media=own_media,
            ) as application,
            _making_client(settings),
        ):
            server = _Server(application, place, host=host, port=port)
            await server.serve(None if place.listener is None else [place.listener])
            if server.force_exit:
                raise _ForcedEnd
            return 0 if server.was_ready else 1

    try:
        return uvloop.run(run())
    except BaseExceptionGroup as ends:
        # It came through the task groups of everything that ran.
        if ends.split(_ForcedEnd)[1] is not None:
            raise
        return 0


@contextlib.asynccontextmanager
async def _making_client(settings: Settings) -> AsyncIterator[None]:
    """Make the browser client beside the block, which does not wait for it; of several workers one does the work."""
    async with asyncio.TaskGroup() as tasks:
        maker = tasks.create_task(site.make()) if settings.makes_client else None
        yield
        if maker is not None:
            maker.cancel()


def _allow_descriptors() -> None:
    """Take all descriptors that the system grants: by default it is 1,024, and every socket is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Server(uvicorn.Server):
    """uvicorn, but its end first drains the sockets (realtime.md 5.6, trap 4)."""

    def __init__(self, application: app.Application, place: Place, *, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                application.asgi,
                host=host,
                port=port,
                http=HttpConnection,
                ws=wire.protocol_class(),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            )
        )
        self.was_ready = False
        self._application = application
        self._place = place
        self._forced = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End gracefully and with exit code 0; a second signal ends at once."""
        del sig, frame
        if self.should_exit:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self._forced.set)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so once everything that a request needs is there."""
        await super().startup(sockets)
        while self.started and not self.should_exit and not self.was_ready:
            self.was_ready = (await self._application.health.look()).status != health.UNAVAILABLE
            if not self.was_ready:
                await asyncio.sleep(READY_POLL_S)
        if self.was_ready:
            self._place.announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of everybody in good order, then stop listening."""
        if self.was_ready:
            async with asyncio.TaskGroup() as tasks:
                drain = tasks.create_task(self._application.drain())
                forced = tasks.create_task(self._forced.wait())
                await asyncio.wait({drain, forced}, return_when=asyncio.FIRST_COMPLETED)
                drain.cancel()
                forced.cancel()
        await super().shutdown(sockets)


@contextlib.contextmanager
def _backends(settings: Settings, *, port: int, workers: int) -> Iterator[Settings]:
    """Start what is not configured, and yield settings that name every address."""
    with contextlib.ExitStack() as stack:
        if settings.database_url is None or settings.redis_url is None:
            servers = stack.enter_context(embedded.Embedded(settings.data_dir))
            servers.acquire()
            if settings.database_url is None:
                servers.start_postgres(connections=max(embedded.CONNECTIONS, workers * CONNECTIONS_EACH))
                settings = msgspec.structs.replace(settings, database_url=servers.database_url)
            if settings.redis_url is None:
                servers.start_valkey()
                settings = msgspec.structs.replace(settings, redis_url=servers.redis_url)
        media = livekit_server.beside(settings, port=port)
        if media is not None:
            settings = msgspec.structs.replace(settings, livekit=stack.enter_context(media))
        yield settings


def in_transaction(settings: Settings, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Do the work of a command beside the server in one transaction, and return its result."""

    async def run(sessions: async_sessionmaker[AsyncSession]) -> T:
        async with sessions.begin() as session:
            return await work(session)

    return in_database(settings, run)


def in_database(settings: Settings, work: Callable[[async_sessionmaker[AsyncSession]], Awaitable[T]]) -> T:
    """Do the work of a command beside the server in the migrated database, and return its result."""

    async def run(url: str) -> T:
        engine = db.create_engine(url, pool_size=1)
        try:
            return await work(db.create_sessions(engine))
        finally:
            await engine.dispose()

    with database(settings) as url:
        return asyncio.run(run(url))


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Yield the URL of the migrated database, starting the embedded one for as long when nobody runs it."""
    if settings.database_url is not None:
        migrate.upgrade(settings.database_url)
        yield settings.database_url
        return
    servers = embedded.Embedded(settings.data_dir)
    try:
        servers.acquire()
    except embedded.DataDirBusyError:
        # A server runs on this data dir: its database listens there and is migrated.
        yield servers.database_url
        return
    with servers:
        servers.start_postgres()
        migrate.upgrade(servers.database_url)
        yield servers.database_url

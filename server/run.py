"""Run the server: embedded parts where nothing is configured, migrations, uvicorn, and a graceful end."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from types import FrameType
from typing import TypeVar

import aiohttp
import msgspec
import uvicorn
import uvloop
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server import app, db, embedded, migrate
from server.config import ConfigError, Settings
from server.gateway import wire
from server.http.connection import HttpConnection
from server.integrations import livekit_server

T = TypeVar("T")

# After the sockets are drained, requests in flight get this long; then the process ends all the same.
SHUTDOWN_TIMEOUT_S = 10
READY_POLL_S = 0.05


def serve(settings: Settings, *, host: str, port: int, time_travel: bool) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    Raises:
        ConfigError: Time travel was asked for with a configured database.
        DataDirBusyError: Another process serves from this data dir.
        EmbeddedError: A server from a wheel did not start.
    """
    if time_travel and settings.database_url is not None:
        raise ConfigError("--time-travel needs the embedded database: DATABASE_URL must not be set")
    _allow_descriptors()
    with _backends(settings, port=port) as complete:
        assert complete.database_url is not None, "the backends have filled it in"
        migrate.upgrade(complete.database_url)

        async def run() -> int:
            async with app.running(
                complete,
                time_travel=time_travel,
                # Holding the lock of the data dir proves that no other process runs rooms of this database.
                exclusive=settings.database_url is None,
                own_media=complete.livekit.url != settings.livekit.url,
            ) as application:
                server = _Server(application, host=host, port=port)
                await server.serve()
                return 0 if server.was_ready else 1

        return uvloop.run(run())


def _allow_descriptors() -> None:
    """Take all descriptors that the system grants: by default it is 1,024, and every socket is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Server(uvicorn.Server):
    """uvicorn, but its end first drains the sockets (realtime.md 5.6, trap 4)."""

    def __init__(self, application: app.Application, *, host: str, port: int) -> None:
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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End gracefully and with exit code 0; a second signal ends at once."""
        del sig, frame
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so once `/health/ready` answers 200."""
        await super().startup(sockets)
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.config.host, self.config.host)  # noqa: S104
        async with aiohttp.ClientSession() as http:
            while self.started and not self.should_exit and not self.was_ready:
                async with http.get(f"http://{host}:{self.config.port}/health/ready") as answer:
                    self.was_ready = answer.status == HTTPStatus.OK
                if not self.was_ready:
                    await asyncio.sleep(READY_POLL_S)
        if self.was_ready:
            print(f"fourtalk is ready at http://{self.config.host}:{self.config.port}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of everybody in good order, then stop listening."""
        if self.was_ready:
            await self._application.drain()
        await super().shutdown(sockets)


@contextlib.contextmanager
def _backends(settings: Settings, *, port: int) -> Iterator[Settings]:
    """Start what is not configured, and yield settings that name every address."""
    with contextlib.ExitStack() as stack:
        if settings.database_url is None or settings.redis_url is None:
            servers = stack.enter_context(embedded.Embedded(settings.data_dir))
            servers.acquire()
            if settings.database_url is None:
                servers.start_postgres()
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

"""A bad line between a server and its Valkey: slow, cut, or dead, whatever the test asks for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

CHUNK_BYTES = 64 * 1024


class Proxy:
    """Passes on to a Unix socket what comes in over TCP, and back."""

    def __init__(self, target: Path) -> None:
        self.delay_s = 0.0
        """How long each chunk is on its way, in each direction."""
        self.is_down = False
        """New connections are dropped at once."""
        self.connections = 0
        """How many were made."""
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def redis_url(self) -> str:
        """Return where it listens."""
        assert self._server is not None, "it runs"
        port = self._server.sockets[0].getsockname()[1]
        return f"redis://127.0.0.1:{port}/0"

    @classmethod
    @asynccontextmanager
    async def to(cls, redis_url: str) -> AsyncIterator[Self]:
        """Run a proxy to a Valkey that listens on a Unix socket."""
        proxy = cls(Path(redis_url.removeprefix("unix://")))
        proxy._server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        try:
            yield proxy
        finally:
            proxy._server.close()
            proxy.cut()

    def cut(self) -> None:
        """Drop every connection, with what is under way."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.is_down:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(reader, far_writer))
                tasks.create_task(self._pass_on(far_reader, writer))
        finally:
            self._writers -= pair
            for each in pair:
                each.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass chunks on, each as late as it was told when it came, so that a slow line is not a narrow one."""
        loop = asyncio.get_running_loop()

        def write(chunk: bytes) -> None:
            if not writer.is_closing():
                writer.write(chunk)

        try:
            while chunk := await reader.read(CHUNK_BYTES):
                if self.delay_s:
                    loop.call_later(self.delay_s, write, chunk)
                else:
                    write(chunk)
        except OSError:
            pass
        # A line that ended on one side has ended on both.
        writer.transport.abort()

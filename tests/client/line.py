"""A TCP line between clients and a server that breaks when the test says so."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

CHUNK_BYTES = 64 * 1024


class Line:
    """Passes on to a port what comes in, and back."""

    def __init__(self, port: int) -> None:
        self.cuts = 0
        self.is_down = False
        """New connections are dropped at once."""
        self._port = port
        self._server: asyncio.Server | None = None
        self._pairs: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int, *, at: tuple[str, int] = ("127.0.0.1", 0)) -> AsyncIterator[Self]:
        """Run a line to a port of this machine; `at` is where it listens."""
        line = cls(port)
        line._server = await asyncio.start_server(line._serve, *at)
        try:
            yield line
        finally:
            line._server.close()
            for pair in list(line._pairs):
                _abort(pair)

    @property
    def port(self) -> int:
        """Return where it listens."""
        assert self._server is not None, "it runs"
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Drop one of the connections, with what is under way on it; nothing if there is none."""
        if self._pairs:
            self.cuts += 1
            _abort(random.choice(self._pairs))

    def fall(self) -> None:
        """Drop every connection, and let none through until `is_down` is false again."""
        self.is_down = True
        for pair in list(self._pairs):
            _abort(pair)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_down:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self._pairs.append(pair)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass_on(reader, far_writer))
                tasks.create_task(_pass_on(far_reader, writer))
        finally:
            self._pairs.remove(pair)
            _abort(pair)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        # A line that ended on one side has ended on both; what was said before that still arrives.
        writer.close()


def _abort(pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
    for writer in pair:
        writer.transport.abort()

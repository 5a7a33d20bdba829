"""Connections that send whole requests live; those that do not are bounded and end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from server.http.connection import HEAD_BYTES, REQUEST_BYTES, HttpConnection

REFUSED_ABOVE = 64 * 1024
# What is sent before the end is heard of.
IN_THE_KERNEL = 16 * 1024 * 1024


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Answer 413 to what is too long before it is there, and otherwise say how much came."""
    headers = dict(scope["headers"])
    if int(headers.get(b"content-length", b"0")) > REFUSED_ABOVE:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
        return
    size, has_more = 0, True
    while has_more:
        message = await receive()
        size += len(message.get("body", b""))
        has_more = message.get("more_body", False)
    body = b"%d" % size
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of a uvicorn with our protocol class."""
    server = uvicorn.Server(
        uvicorn.Config(
            _application, http=HttpConnection, lifespan="off", log_level="critical", access_log=False
        )
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve([listener]))
            while not server.started:
                assert not serving.done()
                await asyncio.sleep(0.01)
            yield listener.getsockname()[1]
            server.should_exit = True


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head.split(b" ")[1], await reader.readexactly(size)


async def test_a_connection_is_used_again_also_for_requests_in_pieces(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for pieces in (
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
        [b"POST / HTTP/1.1\r\nHo", b"st: x\r\nContent-Length: 4\r\n", b"\r\nab", b"cd"],
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    ):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        answers.append(await _answer(reader))
    writer.close()

    assert answers == [(b"200", b"0"), (b"200", b"4"), (b"200", b"0")]


async def test_requests_one_behind_the_other_are_answered_in_order(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"".join(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (n, b"x" * n) for n in (1, 2, 3)
        )
    )

    assert [await _answer(reader) for _ in range(3)] == [(b"200", b"1"), (b"200", b"2"), (b"200", b"3")]
    writer.close()


async def test_who_sends_too_long_a_body_reads_why(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    size = REQUEST_BYTES // 2
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(size // 8_192):
        writer.write(b"x" * 8_192)
        await writer.drain()

    assert await _answer(reader) == (b"413", b"")
    writer.close()


@pytest.mark.parametrize(
    ("start", "more", "most"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"x" * 1_024, HEAD_BYTES),
        (b"GET /", b"x" * 1_024, HEAD_BYTES),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 100, HEAD_BYTES),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n", b"x" * 8_192, REQUEST_BYTES),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"T: t\r\n" * 1_000, REQUEST_BYTES),
    ],
    ids=["header", "target", "headers", "body", "trailers"],
)
async def test_what_does_not_end_is_ended(port: int, start: bytes, more: bytes, most: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(start)

    sent = await _sent_until_reset(writer, more)

    assert sent < most + IN_THE_KERNEL
    writer.close()


async def _sent_until_reset(writer: asyncio.StreamWriter, more: bytes) -> int:
    sent = 0
    try:
        while True:
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(0)
            sent += len(more)
    except OSError:
        return sent

"""Readers that are slow or stop: bounded memory, gone in time, and nobody else notices."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.gateway.connection import PIECE_BYTES, Connection
from server.gateway.limits import Limits
from server.gateway.protocol import Publication
from tests.gateway.harness import Client, Node, client, eventually, serving

BIG = {"text": "x" * 2_000}


@asynccontextmanager
async def small_client(node: Node, receive_bytes: int = 4096) -> AsyncIterator[Client]:
    """A client whose kernel takes little, so that not reading shows at once."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", node.port))
    async with client(node, sock=raw) as one:
        yield one


def connection_of(node: Node, one: Client) -> Connection:
    return node.gateway._connections[one.connected["conn"]]


async def gone(node: Node, connection: Connection, within_s: float) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await eventually(lambda: connection.id not in node.gateway._connections, within_s)
    return loop.time() - began


async def test_reader_that_stops_is_gone_and_costs_the_others_nothing(node: Node) -> None:
    channel = f"room:{uuid.uuid4()}"
    async with client(node) as fast, small_client(node) as stuck:
        for each in (fast, stuck):
            await each.call("subscribe", ch=channel)
        connection = connection_of(node, stuck)
        stuck.socket.transport.pause_reading()
        most = 0
        for _ in range(1_000):
            node.post(channel, BIG)
            if connection.id in node.gateway._connections:
                most = max(most, connection._backlog_bytes + connection.wire.buffered)
            await asyncio.sleep(0.0005)
        await fast.until(lambda: len(fast.offs(channel)) == 1_000)
        await gone(node, connection, 10)
        stuck.socket.transport.abort()

    assert fast.offs(channel) == list(range(1, 1_001))
    assert most < 512 * 1024 + 3 * PIECE_BYTES
    assert node.count("fourtalk_closes_total", code="4205") == 1
    assert node.count("fourtalk_congested") == 0


async def test_reader_that_stops_is_gone_within_ten_seconds_without_more_to_send(node: Node) -> None:
    channel = f"room:{uuid.uuid4()}"
    async with small_client(node) as stuck:
        await stuck.call("subscribe", ch=channel)
        connection = connection_of(node, stuck)
        stuck.socket.transport.pause_reading()
        while not connection.is_paused:
            node.post(channel, BIG)
            await asyncio.sleep(0.001)
        took = await gone(node, connection, 10)
        stuck.socket.transport.abort()

    assert took >= 4


async def test_slow_reader_gets_everything_that_lasts(redis_url: str) -> None:
    channel = f"room:{uuid.uuid4()}"
    async with serving(redis_url) as node, small_client(node, 65_536) as slow:
        await slow.call("subscribe", ch=channel)
        connection = connection_of(node, slow)
        slow.socket.transport.pause_reading()
        posted = 0
        while connection._backlog_bytes < 200_000:
            node.post(channel, BIG)
            node.gateway.publish(channel, [Publication(None, "typing", 1, b"{}")])
            posted += 1
            await asyncio.sleep(0.001)
        kept = len(connection._backlog)
        slow.socket.transport.resume_reading()
        await slow.until(lambda: len(slow.offs(channel)) == posted, 10)
        node.post(channel)
        await slow.until(lambda: len(slow.offs(channel)) == posted + 1)
        is_fast = connection in node.gateway.hub._channels[channel].fast

    assert slow.offs(channel) == list(range(1, posted + 2))
    assert kept < posted
    assert is_fast
    assert not connection.is_congested
    assert node.count("fourtalk_dropped_total", cause="conflated") > 0


async def test_volatile_goes_first(redis_url: str) -> None:
    channel = f"room:{uuid.uuid4()}"
    async with serving(redis_url, limits=Limits(queue_messages=10)) as node, small_client(node) as slow:
        await slow.call("subscribe", ch=channel)
        connection = connection_of(node, slow)
        slow.socket.transport.pause_reading()
        while not connection.is_paused:
            node.post(channel, BIG)
            await asyncio.sleep(0.001)
        for number in range(30):
            node.gateway.publish(channel, [Publication(None, f"kind{number}", 1, b"{}")])
        await asyncio.sleep(0.05)
        is_open = not connection.is_ended
        slow.socket.transport.abort()

    assert is_open
    assert node.count("fourtalk_dropped_total", cause="slow") > 0


async def test_reader_that_comes_back_too_late_recovers(redis_url: str) -> None:
    channel = f"room:{uuid.uuid4()}"
    async with serving(redis_url) as node:
        async with small_client(node) as slow:
            await slow.call("subscribe", ch=channel)
            connection = connection_of(node, slow)
            slow.socket.transport.pause_reading()
            while not connection.is_ended:
                node.post(channel, BIG)
                await asyncio.sleep(0.001)
            slow.socket.transport.resume_reading()
            code = await slow.closed()
            last = slow.offs(channel)[-1]
        since = [{"ch": channel, "epoch": "e1", "off": last}]
        async with client(node, since=since) as again:
            view = again.connected["subs"][channel]
            offs = [event["off"] for event in view["events"]]

    assert code == 4205
    assert slow.offs(channel) == list(range(1, last + 1))
    assert view["recovered"]
    assert offs[0] == last + 1

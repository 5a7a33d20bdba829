"""Thousands of connections that are no clients: nobody else notices, and what they cost is given back."""

import asyncio
import base64
import os
import random
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.http.connection import REQUEST_S, UNFINISHED_MAX
from tests.chaos.client import Client, Town, town
from tests.chaos.pair import quantile
from tests.chaos.server import Server, running

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

ASK_EVERY_S = 0.02
# Descriptors of the tests beside the attackers', and of the server beside its guests'.
SPARE = 1_000
# What the server may hold beyond the connections: pools that grew, one to Valkey more.
OWN_DESCRIPTORS = 60
# What the allocator keeps of a burst, for each connection of it and for the caches that fill with the first requests;
# and what the next burst may add to that.
RESIDUE_BYTES = 64 * 1024 * 1024
RESIDUE_BYTES_EACH = 8 * 1024
NEXT_RESIDUE_BYTES = 32 * 1024 * 1024
# An unfinished request ends after REQUEST_S, a socket without `connect` after 5 s and its goodbye.
GONE_S = REQUEST_S + 30
ALL_GONE_S = 3 * GONE_S
TRICKLE_S = 0.5
# Connections made before this process looks at anything else.
BURST = 100
MIB = 1024 * 1024
HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: fourtalk.v1.json\r\nSec-WebSocket-Key: {key}\r\n"
)

Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def _handshake() -> bytes:
    return HANDSHAKE.format(key=base64.b64encode(os.urandom(16)).decode()).encode()


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(random.randbytes(2_000))
    await reader.read()


async def _endless_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET / HTTP/1.1\r\nX-Long: ")
    while True:
        writer.write(b"x" * 8_192)
        await writer.drain()
        await asyncio.sleep(0)


async def _oversized_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()
        await asyncio.sleep(0.01)


async def _half_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _slow_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _trickle(writer, b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-Slow: 1\r\n" * 1_000)


async def _slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    await _trickle(writer, b"{" + b" " * 900)


async def _slow_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _trickle(writer, _handshake() + b"X-Slow: 1\r\n" * 1_000)


async def _silent_socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_handshake() + b"\r\n")
    await reader.read()


async def _half_frame(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_handshake() + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x81\xfe\x10\x00" + random.randbytes(100))  # of 4,096
    await reader.read()


async def _garbage_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_handshake() + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(random.randbytes(4_000))
    await reader.read()


async def _oversized_frame(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_handshake() + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))
    while True:
        writer.write(bytes(16_384))
        await writer.drain()
        await asyncio.sleep(0.01)


ATTACKS: tuple[Attack, ...] = (
    _garbage, _endless_head, _oversized_body, _half_open, _slow_head, _slow_body, _slow_handshake, _silent_socket,
    _half_frame, _garbage_frames, _oversized_frame,
)  # fmt: skip


async def _trickle(writer: asyncio.StreamWriter, data: bytes) -> None:
    for number in range(len(data)):
        writer.write(data[number : number + 1])
        await writer.drain()
        await asyncio.sleep(TRICKLE_S)


class Attackers:
    """Who they are, and what became of them."""

    def __init__(self, port: int) -> None:
        self.ended: Counter[str] = Counter()
        """How many the server has got rid of, by attack."""
        self.longest_s = 0.0
        self.held = 0
        self.most = 0
        self._port = port

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait for something that the server has to do now."""
        end = time.monotonic() + ALL_GONE_S
        while not happened():
            assert time.monotonic() < end, self.ended
            await asyncio.sleep(0.01)

    async def attack(self, attack: Attack) -> None:
        """Keep at it until the server ends it."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            self.ended[attack.__name__] += 1
            return
        self.held += 1
        self.most = max(self.most, self.held)
        began = time.monotonic()
        try:
            await attack(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.held -= 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.ended[attack.__name__] += 1
            writer.transport.abort()


async def _life(room_id: str, speaker: Client, answers: list[float], over: asyncio.Event) -> None:
    """Talk as people do, and note how long each answer takes."""
    while not over.is_set():
        asked_at = time.monotonic()
        await speaker.ask("chat.send", {"text": f"text {len(answers)}"}, ch=f"room:{room_id}")
        answers.append(time.monotonic() - asked_at)
        await asyncio.sleep(ASK_EVERY_S)


@asynccontextmanager
async def _descriptors(count: int) -> AsyncIterator[None]:
    """Let this process have as many descriptors as it needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"the system grants {hard} descriptors, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _guests(of: Town, server: Server) -> tuple[str, list[Client]]:
    accounts = await server.mint(2)
    room_id = await of.open_talk(server.base, accounts[0])
    guests = [of.client(server.base, account) for account in accounts]
    for guest in guests:
        await guest.connect()
        await guest.join(room_id)
    return room_id, guests


async def test_connections_that_are_no_clients_cost_nobody_anything(
    tmp_path: Path,
    database_url: str,
    redis_url: str,
    record_property: Callable[[str, object], None],
    *,
    full: bool,
) -> None:
    count, waves = (10_000, 2) if full else (1_000, 1)
    server = Server(tmp_path / "server", database_url=database_url, redis_url=redis_url)
    async with _descriptors(count + SPARE), running(server), town() as of:
        room_id, guests = await _guests(of, server)
        answers: list[float] = []
        over = asyncio.Event()
        usages = [server.usage()]
        attackers = Attackers(server.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_life(room_id, guests[0], answers, over))
            await asyncio.sleep(1)
            quiet = len(answers)

            for _ in range(waves):
                await _wave(attackers, count)
                # The guests' own requests were never in the way of anybody's limit.
                room = await of.call(server.base, guests[0].account, "GET", f"/rooms/{room_id}")
                assert len(room["participants"]) == len(guests)
                usages.append(server.usage())
            over.set()

        assert attackers.ended.total() == count * waves
        assert attackers.longest_s < GONE_S, "half a request is not waited for"
        texts = [f"text {number}" for number in range(len(answers))]
        for guest in guests:
            heard = [event["d"] for event in guest.events[f"room:{room_id}"]]
            assert [said["text"] for said in heard if "text" in said] == texts
            assert (guest.connects, guest.faults, guest.lost.is_set()) == (1, [], False)
        for usage in usages[1:]:
            assert usage.descriptors - usages[0].descriptors < OWN_DESCRIPTORS
            assert (
                usage.resident_bytes - usages[0].resident_bytes < RESIDUE_BYTES + count * RESIDUE_BYTES_EACH
            )
        for usage in usages[2:]:
            assert usage.resident_bytes - usages[1].resident_bytes < NEXT_RESIDUE_BYTES
        record_property(
            "figures",
            f"{waves} x {count} attackers, {attackers.most} at once, none for longer than "
            f"{attackers.longest_s:.1f} s; answers p99 {quantile(answers[:quiet], 0.99) * 1000:.0f} ms before, "
            f"{quantile(answers[quiet:], 0.99) * 1000:.0f} ms meanwhile ({len(answers) - quiet} asked); memory "
            f"{[round(usage.resident_bytes / MIB) for usage in usages]} MiB, "
            f"descriptors {[usage.descriptors for usage in usages]} before and after",
        )
    assert server.errors() == []


async def _wave(attackers: Attackers, count: int) -> None:
    """Attack in all ways at once, until all are gone."""
    before = attackers.ended.total()
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(attackers.attack(ATTACKS[number % len(ATTACKS)]))
            if number % BURST == 0:
                await asyncio.sleep(0)
        await attackers.until(lambda: attackers.ended.total() == before + count)


async def test_who_waits_longest_gives_way_to_the_next(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    server = Server(tmp_path / "server", database_url=database_url, redis_url=redis_url)
    crowd = UNFINISHED_MAX + 100
    async with _descriptors(crowd + SPARE), running(server), town() as of:
        (somebody,) = await server.mint(1)
        attackers = Attackers(server.port)
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(attackers.attack(_half_open)) for _ in range(crowd)]
            await attackers.until(lambda: attackers.ended.total() == crowd - UNFINISHED_MAX)
            wallet = await of.call(server.base, somebody, "GET", "/wallet")
            await attackers.until(lambda: attackers.ended.total() > crowd - UNFINISHED_MAX)
            within_s = time.monotonic() - began
            for each in waiting:
                each.cancel()

        assert wallet["balance"]["amount"] == 0
        assert within_s < REQUEST_S, "it was the crowd and not the time"
    assert server.errors() == []

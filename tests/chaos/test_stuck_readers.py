"""Many people stop reading: they are gone in time, cost bounded memory, and the others notice nothing."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.client import Body, Client, town
from tests.chaos.pair import quantile
from tests.chaos.server import Server, running

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

STUCK, STUCK_FULL = 60, 200
TEXT = "x" * 1_900
QUIET, QUIET_FULL = 200, 2_000
# Half of what one socket may ask at the same time.
SIDE_BY_SIDE = 4
# What the kernel holds of a socket that nobody reads: 256 KiB here and little at the reader, and 64 KiB of the process.
KERNEL_BYTES = 512 * 1024
# PROTOCOL 3: a peer that stops reading is gone within 10 s.
GONE_S = 10.0
# Beside the rest of the suite both ends wait for the machine; the long form has it for itself.
BUSY_S = 30.0
# Of each reader the queue and the transport's buffer (PROTOCOL 3: 512 KiB, and two frames), and what a process takes
# and keeps while many people are in it.
TRANSPORT_BYTES = 64 * 1024
PROCESS_BYTES = 32 * 1024 * 1024
# Who reads nothing answers no ping either; whichever is noticed first.
SLOW_CONSUMER, NO_PONG = 4205, 4202
NO_CLOSE_FRAME = 1006
MIB = 1024 * 1024
SETTLE_S = 60.0
LOOK_S = 0.05


class Lecture:
    """One who speaks, one who listens well, and how long words take between them."""

    def __init__(self, room_id: str, speaker: Client, listener: Client) -> None:
        self.room_id = room_id
        self.speaker = speaker
        self.listener = listener
        self.said = 0
        self._said_at: dict[str, float] = {}
        self._took: list[float] = []
        listener.on_event = self._heard

    async def say(self) -> None:
        """Say some things side by side."""
        await asyncio.gather(*(self._say() for _ in range(SIDE_BY_SIDE)))

    async def _say(self) -> None:
        text = f"{self.said} {TEXT}"
        self.said += 1
        self._said_at[text] = time.monotonic()
        await self.speaker.ask("chat.send", {"text": text}, ch=f"room:{self.room_id}")

    def took(self) -> list[float]:
        """Return the seconds of each word since this was asked last."""
        took, self._took = self._took, []
        return took

    def _heard(self, event: Body) -> None:
        said_at = self._said_at.get(event["d"].get("text", ""))
        if said_at is not None:
            self._took.append(time.monotonic() - said_at)


async def test_who_stops_reading_is_gone_and_costs_nobody_anything(
    tmp_path: Path,
    database_url: str,
    redis_url: str,
    record_property: Callable[[str, object], None],
    *,
    full: bool,
) -> None:
    server = Server(tmp_path / "server", database_url=database_url, redis_url=redis_url)
    async with running(server), town() as of:
        stuck = STUCK_FULL if full else STUCK
        accounts = await server.mint(2 + stuck)
        room_id = await of.open_talk(server.base, accounts[0])
        speaker, listener, *readers = (of.client(server.base, account) for account in accounts)
        for person in (speaker, listener):
            await person.connect()
            await person.join(room_id)
        for reader in readers:
            await reader.connect()
            await reader.follow(f"room:{room_id}")
        lecture = Lecture(room_id, speaker, listener)
        for _ in range((QUIET_FULL if full else QUIET) // SIDE_BY_SIDE):
            await lecture.say()
        quiet = lecture.took()
        before = server.usage()

        ports = {reader.port for reader in readers}
        for reader in readers:
            reader.stop_reading()
        most = before.resident_bytes
        filled_at: float | None = None
        said_before = lecture.said
        while staying := ports & server.peers():
            await lecture.say()
            most = max(most, server.usage().resident_bytes)
            if filled_at is None and (lecture.said - said_before) * len(TEXT) > KERNEL_BYTES:
                filled_at = time.monotonic()
            assert filled_at is None or time.monotonic() < filled_at + (GONE_S if full else BUSY_S), (
                f"{len(staying)} stay"
            )
        gone_s = 0.0 if filled_at is None else time.monotonic() - filled_at
        meanwhile = lecture.took()
        for reader in readers:
            reader.read_on()
        await _until(lambda: all(reader.lost.is_set() for reader in readers))
        await _until(lambda: len(listener.events[f"room:{room_id}"]) >= lecture.said)

        spoken = [event["d"]["text"] for event in listener.events[f"room:{room_id}"] if "text" in event["d"]]
        assert sorted(int(text.split()[0]) for text in spoken) == list(range(lecture.said))
        for person in (speaker, listener):
            assert (person.connects, person.faults, person.lost.is_set()) == (1, [], False)
        codes = Counter(reader.close_codes[-1] for reader in readers)
        assert codes.keys() <= {SLOW_CONSUMER, NO_PONG, NO_CLOSE_FRAME, None}, codes
        assert [reader.faults for reader in readers if reader.faults] == [], "up to the end each and in order"
        bound = stuck * (512 * 1024 + TRANSPORT_BYTES) + PROCESS_BYTES
        assert most - before.resident_bytes < bound
        record_property(
            "figures",
            f"{stuck} stopped reading, ended by {dict(codes)}, the last was gone {gone_s:.1f} s after the kernel was full; words of 1,900 "
            f"characters arrived with p99 {quantile(quiet, 0.99) * 1000:.0f} ms before ({len(quiet)}), "
            f"{quantile(meanwhile, 0.99) * 1000:.0f} ms meanwhile ({len(meanwhile)}); memory "
            f"{before.resident_bytes / MIB:.0f} MiB before, {most / MIB:.0f} at most (bound +{bound / MIB:.0f})",
        )
    assert server.errors() == []


async def _until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + SETTLE_S
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(LOOK_S)

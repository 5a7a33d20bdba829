"""One of two nodes is stopped in good order while people listen: they go on at the other, and miss nothing."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.client import Client
from tests.chaos.pair import Pair, pair, quantile

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

DRAIN = 4200
# PROTOCOL 3 and realtime.md 5.9: of so many at least every event is recovered.
RECOVERED = 0.999
# So many connect at the same time, as a balancer would let them.
AT_ONCE = 50
# What all listeners together hear in a second: as much as this one process can read beside the servers.
HEARD_A_SECOND = 1_000
SETTLE_S = 60.0
LOOK_S = 0.05


async def test_who_listens_at_a_node_that_is_stopped_goes_on_at_the_other(
    tmp_path: Path,
    database_url: str,
    redis_url: str,
    record_property: Callable[[str, object], None],
    *,
    full: bool,
) -> None:
    count = 2_000 if full else 200
    async with pair(tmp_path, database_url, [redis_url] * 2) as both:
        leaving, staying = both.nodes
        room = f"room:{both.room_id}"
        accounts = await leaving.mint(count)
        listeners = [both.of.client(leaving.base, account) for account in accounts]
        await _in_turn(listeners, room)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_talk(both, count / HEARD_A_SECOND, over))
            await _until(lambda: len(both.said) >= 3)
            for person in (*both.people, *listeners):
                person.base = staying.base
            began = time.monotonic()

            code = await leaving.stop()

            ended_s = time.monotonic() - began
            await _until(lambda: all(listener.online.is_set() for listener in listeners))
            back_s = time.monotonic() - began
            over.set()
        await both.check()
        speaker = both.people[0]
        head = speaker.places[room].off
        await _until(lambda: all(listener.places[room].off == head for listener in listeners))

        assert code == 0
        told = [listener for listener in listeners if listener.close_codes[0] == DRAIN]
        assert len(told) == count
        delays = sorted(listener.advice[0]["retry_after_ms"] for listener in listeners)
        assert len(set(delays)) > count / 4, "not all in the same moment"
        recovered = [listener for listener in listeners if listener.faults == []]
        assert len(recovered) >= count * RECOVERED, [listener.faults for listener in listeners][:5]
        for listener in recovered:
            heard = listener.events[room]
            assert heard == speaker.events[room][-len(heard) :]
        again = Counter(
            code for listener in listeners for code in (*listener.refusals, *listener.close_codes[1:])
        )
        record_property(
            "figures",
            f"{count} sockets, all told {DRAIN} with {delays[0]} to {delays[-1]} ms (p50 {quantile(delays, 0.5):.0f}); "
            f"ended after {ended_s:.1f} s, all back after {back_s:.1f} s, {len(recovered)} recovered, "
            f"{len(both.said)} said meanwhile, tries in vain: {dict(again)}",
        )


async def _in_turn(listeners: list[Client], room: str) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def listen(listener: Client) -> None:
        async with slots:
            listener.come()
            await listener.online.wait()
            await listener.follow(room)

    async with asyncio.TaskGroup() as tasks:
        for listener in listeners:
            tasks.create_task(listen(listener))


async def _talk(both: Pair, every_s: float, over: asyncio.Event) -> None:
    """Let all people of the room speak in turn, wherever it runs."""
    number = 0
    while not over.is_set():
        await both.say(both.people[number % len(both.people)], f"text {number}")
        number += 1
        await asyncio.sleep(every_s)


async def _until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + SETTLE_S
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(LOOK_S)

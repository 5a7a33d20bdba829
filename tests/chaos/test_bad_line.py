"""Valkey dies, forgets, is slow, hangs up or freezes between two nodes: nothing that lasts is lost or shown twice."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.chaos.backends import Backends
from tests.chaos.client import OVERLOADED, UNKNOWN_OUTCOME, Client, RefusedError
from tests.chaos.pair import Pair, pair
from tests.chaos.proxy import Proxy

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

SAY_EVERY_S = 0.05
SLOW_S = 0.2
CUT_EVERY_S = 0.3
FLUSH_EVERY_S = 0.5
# After the worst of it everything is taken again within this: a reconnect, and the beats by which nodes find each other.
BACK_S = 15.0

Fault = Callable[[Backends, list[Proxy]], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _killed(backends: Backends, lines: list[Proxy]) -> AsyncIterator[None]:
    await backends.kill_valkey()
    yield
    await backends.start_valkey()


@asynccontextmanager
async def _frozen(backends: Backends, lines: list[Proxy]) -> AsyncIterator[None]:
    backends.freeze_valkey()
    try:
        yield
    finally:
        backends.thaw_valkey()


@asynccontextmanager
async def _forgetful(backends: Backends, lines: list[Proxy]) -> AsyncIterator[None]:
    async def flush() -> None:
        async with Redis.from_url(backends.redis_url, socket_timeout=None) as redis:
            await redis.flushall()

    async with _again_and_again(flush, FLUSH_EVERY_S):
        yield


@asynccontextmanager
async def _slow(backends: Backends, lines: list[Proxy]) -> AsyncIterator[None]:
    for line in lines:
        line.delay_s = SLOW_S
    yield
    for line in lines:
        line.delay_s = 0.0


@asynccontextmanager
async def _cut(backends: Backends, lines: list[Proxy]) -> AsyncIterator[None]:
    async def cut() -> None:
        for line in lines:
            line.cut()

    async with _again_and_again(cut, CUT_EVERY_S):
        yield


@asynccontextmanager
async def _one_sided(backends: Backends, lines: list[Proxy]) -> AsyncIterator[None]:
    lines[0].is_down = True
    lines[0].cut()
    yield
    lines[0].is_down = False


FAULTS: dict[str, Fault] = {
    "killed": _killed,
    "FLUSHALL": _forgetful,
    "slow by 200 ms": _slow,
    "cut": _cut,
    "away from one": _one_sided,
    "frozen": _frozen,
}


@asynccontextmanager
async def _again_and_again(do: Callable[[], object], every_s: float) -> AsyncIterator[None]:
    async def loop() -> None:
        while True:
            await do()  # type: ignore[misc]  # each is a coroutine function
            await asyncio.sleep(every_s)

    async with asyncio.TaskGroup() as tasks:
        looping = tasks.create_task(loop())
        yield
        looping.cancel()


class Answers:
    """What people were told while the line was bad."""

    def __init__(self) -> None:
        self.codes: Counter[int | None] = Counter()
        self.slowest_s = 0.0

    async def say(self, both: Pair, person: Client, text: str) -> None:
        """Say something under one key until it is taken; each try must be answered."""
        key = str(uuid.uuid4())
        while True:
            asked_at = time.monotonic()
            try:
                await person.ask("chat.send", {"text": text}, ch=f"room:{both.room_id}", key=key)
            except RefusedError as refusal:
                code: int | None = refusal.code
            else:
                code = None
            self.slowest_s = max(self.slowest_s, time.monotonic() - asked_at)
            self.codes[code] += 1
            if code is None:
                both.said.append(text)
                return
            assert code in (OVERLOADED, UNKNOWN_OUTCOME)
            await asyncio.sleep(SAY_EVERY_S)


async def test_whatever_happens_to_valkey_nothing_is_lost_or_shown_twice(
    tmp_path: Path,
    backends: Backends,
    record_property: Callable[[str, object], None],
    *,
    full: bool,
) -> None:
    away_s = 25.0 if full else 3.0
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(Proxy.to(backends.redis_url)) for _ in range(2)]
        urls = [line.redis_url for line in lines]
        both = await stack.enter_async_context(pair(tmp_path, backends.database_url, urls))
        for name, fault in FAULTS.items():
            answers = Answers()

            async with asyncio.TaskGroup() as tasks:
                # Left when the time is over, while those who were refused still try.
                async with fault(backends, lines):
                    for person in both.people:
                        tasks.create_task(_talk(both, person, answers, f"{name} {person.user_id}", away_s))
                    await asyncio.sleep(away_s)
                over_at = time.monotonic()
            back_s = time.monotonic() - over_at
            for person in both.people:
                await answers.say(both, person, f"{name} is over {person.user_id}")
            settled_at = time.monotonic()
            await both.check()
            settled_s = time.monotonic() - settled_at

            assert back_s < BACK_S, name
            assert [person.connects for person in both.people] == [1, 1, 1], f"{name}: sockets stay open"
            record_property(
                "figures",
                f"{name} for {away_s:.0f} s: {answers.codes[None]} said, {answers.codes[OVERLOADED]} x 130 and "
                f"{answers.codes[UNKNOWN_OUTCOME]} x 132, the slowest answer after {answers.slowest_s:.1f} s, taken "
                f"again after {back_s:.1f} s, everywhere after another {settled_s:.1f} s, "
                f"{sum(person.repeated for person in both.people)} events came twice and were dropped so far",
            )


async def _talk(both: Pair, person: Client, answers: Answers, what: str, for_s: float) -> None:
    end = time.monotonic() + for_s
    number = 0
    while time.monotonic() < end:
        number += 1
        await answers.say(both, person, f"{what} {number}")
        await asyncio.sleep(SAY_EVERY_S)

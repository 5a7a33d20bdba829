"""Two transactions that are open at once: one stops before each of its statements in turn, and the other comes between."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.util import await_only

from billing.errors import BillingError

# A deed opens its own transactions, and answers with something or is refused.
Do = Callable[[], Awaitable[object]]


class _Stop:
    """Where somebody stops: before their statement of this number, or None for their first commit."""

    def __init__(self, before: int | None) -> None:
        self._before = before
        self.steps = 0
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    def step(self, *, commits: bool) -> None:
        if self.steps == self._before or (self._before is None and commits and not self.reached.is_set()):
            self.reached.set()
            await_only(self.go.wait())
        self.steps += 1


_STOP: ContextVar[_Stop | None] = ContextVar("_STOP", default=None)


@contextmanager
def stops(engine: AsyncEngine) -> Iterator[None]:
    """Let deeds on this engine stop before their statements."""

    def step(*, commits: bool) -> None:
        stop = _STOP.get()
        if stop is not None:
            stop.step(commits=commits)

    def states(*_: object) -> None:
        step(commits=False)

    def ends(*_: object) -> None:
        step(commits=True)

    listeners = {"before_cursor_execute": states, "commit": ends}
    for name, listener in listeners.items():
        event.listen(engine.sync_engine, name, listener)
    yield
    for name, listener in listeners.items():
        event.remove(engine.sync_engine, name, listener)


class Scene(msgspec.Struct, frozen=True):
    """Two who want the same, and what must have come of it."""

    deeds: tuple[Do, Do]
    verify: Callable[[object, object], Awaitable[None]]
    """Of the answers, in the order of the deeds."""


async def every_way(engine: AsyncEngine, scene: Callable[[], Awaitable[Scene]], *, most: int | None) -> int:
    """Have each of the two come after the other, and in between its statements; return how many ways there were.

    Args:
        engine: Of the deeds.
        scene: Makes the same anew for each way.
        most: In how many places one stops, spread evenly, the commit among them; None for all.
    """
    ways = 0
    with stops(engine):
        async with engine.connect() as watch:
            for turn in (0, 1):
                commits = _Stop(None)
                await _live(watch, scene, turn, commits)
                last = commits.steps - 1
                # The last of all is one after the other.
                places = range(last + 2) if most is None else [last * n // most for n in range(1, most)]
                for before in places:
                    await _live(watch, scene, turn, _Stop(before))
                ways += 1 + len(places)
    return ways


async def _live(
    watch: AsyncConnection, scene: Callable[[], Awaitable[Scene]], turn: int, stop: _Stop
) -> None:
    made = await scene()
    first, second = await _between(watch, made.deeds[turn], made.deeds[1 - turn], stop)
    await made.verify(*((first, second) if turn == 0 else (second, first)))


async def _between(watch: AsyncConnection, first: Do, second: Do, stop: _Stop) -> tuple[object, object]:
    async def stopped() -> object:
        _STOP.set(stop)
        return await _answer(first)

    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(stopped())
        reached = tasks.create_task(stop.reached.wait())
        await asyncio.wait((one, reached), return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        other = tasks.create_task(_answer(second))
        await _done_or_blocked(watch, other)
        stop.go.set()
    return one.result(), other.result()


async def _answer(deed: Do) -> object:
    """Do it; a refusal is an answer, anything else is a fault."""
    try:
        return await deed()
    except BillingError as error:
        return error


async def _done_or_blocked(watch: AsyncConnection, task: asyncio.Task[object]) -> None:
    while not task.done():
        await asyncio.wait((task,), timeout=0.002)
        async with watch.begin():
            if await watch.scalar(_WAITS) is not None:
                return


_WAITS = text(
    "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
)

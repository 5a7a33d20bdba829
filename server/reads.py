"""One statement for the look-ups of many: whoever asks while another look-up is on its way shares the next one.

The same idea as `rooms.commits`, for reading. An idle process asks at once, a busy one for many in one round trip; each
asker gets its own row and nobody else's. A look-up sees everything that was committed before it was asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms.held import LOST, HeldConnection

log = structlog.get_logger()

# Two statements at once, so that a slow one keeps only half of the others waiting; more would make groups smaller.
LANES = 2
# A group is answered in one go. So many rows take 2 ms to decode, in which nobody else is served.
GROUP_MAX = 500
# SQLSTATE classes that say nothing of the question: the connection is gone, the server is full, stops, or took too long.
_AWAY = ("08", "53", "57")


class NotReadError(OSError):
    """The database did not answer."""


class Lookup:
    """A question that can be asked for many at once; one object each, at the top of a module.

    Args:
        sql: Takes one array for each part of a key. Its rows begin with the number of their key, as `unnest(…) with
            ordinality` counts them, and there is at most one for each.
    """

    __slots__ = ("sql",)

    def __init__(self, sql: str) -> None:
        self.sql = sql


Key = tuple[Any, ...]
Answer = asyncio.Future[asyncpg.Record | None]


class Reads:
    """The look-ups of a process. Use it as `async with reads.running():`."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._waiting: dict[Lookup, dict[Key, Answer]] = {}
        self._has_mail = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer what is asked as long as the block runs."""
        async with asyncio.TaskGroup() as tasks:
            lanes = [tasks.create_task(self._run()) for _ in range(LANES)]
            try:
                yield
            finally:
                for lane in lanes:
                    lane.cancel()
                for waiting in self._waiting.values():
                    _fail(waiting, NotReadError("the server is stopping"))

    async def find(self, lookup: Lookup, *key: Any) -> asyncpg.Record | None:
        """Return the row of a key, without its number, None if there is none.

        Raises:
            NotReadError: The database is away.
        """
        return await self._ask(lookup, key)

    async def find_all(self, lookup: Lookup, keys: Sequence[Key]) -> list[asyncpg.Record | None]:
        """Return the rows of several keys, in their order.

        Raises:
            NotReadError: The database is away.
        """
        return list(await asyncio.gather(*[self._ask(lookup, key) for key in keys]))

    def _ask(self, lookup: Lookup, key: Key) -> Answer:
        waiting = self._waiting.setdefault(lookup, {})
        answer = waiting.get(key)
        if answer is None:
            answer = waiting[key] = asyncio.get_running_loop().create_future()
            self._has_mail.set()
        # Shielded: whoever waits first may give up, the others of the same key still want to know.
        return asyncio.shield(answer)

    async def _run(self) -> None:
        lane = _Lane(HeldConnection(self._sessions))
        try:
            while True:
                while not self._waiting:
                    self._has_mail.clear()
                    await self._has_mail.wait()
                await lane.answer(*self._next())
        finally:
            await lane.close()

    def _next(self) -> tuple[Lookup, dict[Key, Answer]]:
        """Take the look-ups of one kind; the kind that was asked for first."""
        lookup, waiting = next(iter(self._waiting.items()))
        del self._waiting[lookup]
        if len(waiting) > GROUP_MAX:
            asked = list(waiting.items())
            waiting = dict(asked[:GROUP_MAX])
            self._waiting[lookup] = dict(asked[GROUP_MAX:])
        return lookup, waiting


class _Lane:
    """One connection and the group that is on its way over it."""

    def __init__(self, held: HeldConnection) -> None:
        self._held = held

    async def answer(self, lookup: Lookup, group: Mapping[Key, Answer]) -> None:
        """Find the rows of a group and give each asker its own."""
        try:
            rows = await self._fetch_surely(lookup, list(group))
        except asyncpg.PostgresError as error:
            if len(group) == 1:
                _fail(group, error)
                return
            # One of them does not fit: each for itself, so that it harms nobody else.
            log.warning("lookups_refused", count=len(group), sqlstate=error.sqlstate, error=str(error))
            for key, answer in group.items():
                await self.answer(lookup, {key: answer})
        except Exception as error:  # noqa: BLE001 - whatever it is, the askers hear of it, and the lane goes on
            _fail(group, error)
        except BaseException:
            _fail(group, NotReadError("the server is stopping"))
            raise
        else:
            found = {row[0]: row for row in rows}
            for no, answer in enumerate(group.values(), 1):
                if not answer.done():
                    answer.set_result(found.get(no))

    async def close(self) -> None:
        """Let go of the connection; what is on its way over it is cut off."""
        await self._held.close()

    async def _fetch_surely(self, lookup: Lookup, keys: Sequence[Key]) -> Sequence[asyncpg.Record]:
        """Ask once more on a new connection: reading twice is as good as once, and an idle connection may have died."""
        is_new = self._held.is_new
        try:
            return await self._fetch(lookup, keys)
        except NotReadError:
            if is_new:
                raise
        return await self._fetch(lookup, keys)

    async def _fetch(self, lookup: Lookup, keys: Sequence[Key]) -> Sequence[asyncpg.Record]:
        try:
            raw = await self._held.open()
            return await raw.fetch(lookup.sql, *zip(*keys, strict=True))  # type: ignore[no-any-return] # asyncpg's
        except asyncpg.PostgresError as error:
            if str(error.sqlstate).startswith(_AWAY):
                await self.close()
                raise NotReadError(str(error)) from error
            raise
        except LOST as error:
            await self.close()
            raise NotReadError(str(error)) from error


def _fail(group: Mapping[Key, Answer], error: Exception) -> None:
    for answer in group.values():
        if not answer.done():
            answer.set_exception(error)
            answer.exception()  # seen, also when nobody waits any more

"""Time travel for demo and tests: the business clock's offset, and an advance through everything that falls due.

The offset is a row, so it survives restarts, and every process that starts reads it. Wall time never moves
(DESIGN §4, Clocks).
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server.clock import Clock
from server.context import Parts
from server.errors import BadRequestError, FieldError
from server.relay import Relay
from server.request import decode_request
from server.runner import Runner
from server.upkeep import ClockOffset

# A century: more is a slip. Dates end in the year 9999, and everything that adds to one needs room.
ADVANCE_MOST_S = 100 * 366 * 86_400
LATEST = datetime(3000, 1, 1, tzinfo=UTC)


class MoveClock(msgspec.Struct, frozen=True):
    """Move business time forward: by some seconds, or to a moment."""

    advance_s: Annotated[float, Meta(ge=0, le=ADVANCE_MOST_S)] | None = None
    set: Annotated[datetime, Meta(tz=True)] | None = None


class ClockView(msgspec.Struct, frozen=True):
    """Business time, once everything due by then has run."""

    now: datetime


async def load(sessions: async_sessionmaker[AsyncSession], clock: Clock) -> None:
    """Set the clock as the database says."""
    async with sessions() as session:
        clock.offset = await session.scalar(select(ClockOffset.ahead)) or timedelta()


class Traveller:
    """Moves business time."""

    def __init__(self, parts: Parts, relay: Relay, jobs: Runner) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._relay = relay
        self._jobs = jobs
        # One journey at a time: two would pin the clock at each other's moments.
        self._busy = asyncio.Lock()

    async def advance(self, command: MoveClock) -> datetime:
        """Move business time forward, running what falls due on the way in order, each with its own due time as now.

        Raises:
            BadRequestError: Not exactly one of both is given, or it leads back.
        """
        async with self._busy, self._jobs.paused():
            now = self._clock.now()
            until = _target(command, now)
            try:
                await self._run_until(until)
                await self._arrive(until)
            finally:
                self._clock.release()
                await self._keep_offset()
            return self._clock.now()

    async def _run_until(self, until: datetime) -> None:
        """Run what falls due by then.

        Periodic work finds only what something else has left: a row that found nothing is passed over until something
        happens, so that a quiet year costs no more than a quiet hour. So is one that another process has taken.
        """
        rested: frozenset[int] = frozenset()
        await self._relay.flush()
        while True:
            room_at = await self._parts.rooms.next_due(until)
            job = await self._jobs.next_due(room_at or until, but=rested)
            if job is not None and (room_at is None or job[0] <= room_at):
                self._stop_at(job[0])
                found = await self._jobs.run_one(job[1])
                rested = frozenset() if found else rested | {job[1]}
            elif room_at is not None:
                self._stop_at(room_at)
                await self._parts.rooms.run_next(self._clock.now())
                rested = frozenset()
            else:
                return
            await self._relay.flush()

    def _stop_at(self, due: datetime) -> None:
        # What was due before the journey began runs now: business time never goes back.
        self._clock.pin(max(due, self._clock.now()))

    async def _arrive(self, until: datetime) -> None:
        self._stop_at(until)
        await self._parts.rooms.catch_up(until)
        await self._jobs.run_due(only="business")
        await self._relay.flush()

    async def _keep_offset(self) -> None:
        values = {"ahead": self._clock.offset}
        async with self._parts.sessions.begin() as session:
            await session.execute(
                insert(ClockOffset)
                .values(id=1, **values)
                .on_conflict_do_update(index_elements=[ClockOffset.id], set_=values)
            )


def routes(parts: Parts, relay: Relay, jobs: Runner) -> Sequence[HTTPRouteHandler]:
    """Return the route that moves the clock; it exists only where time may travel."""
    traveller = Traveller(parts, relay, jobs)

    @post("/api/v1/dev/clock", status_code=200, include_in_schema=False)
    async def move_clock(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Move business time forward and answer it once everything due by then has run."""
        now = await traveller.advance(decode_request(MoveClock, await request.body()))
        return Response(msgspec.json.encode(ClockView(now)), media_type="application/json")

    return [move_clock]


def _target(command: MoveClock, now: datetime) -> datetime:
    if (command.advance_s is None) == (command.set is None):
        raise BadRequestError("Give either advance_s or set.", (FieldError("advance_s", "one of the two"),))
    until = command.set or now + timedelta(seconds=command.advance_s or 0)
    if not now <= until <= LATEST:
        raise BadRequestError(
            "Business time goes forward, and not beyond the year 3000.",
            (FieldError("set" if command.set else "advance_s", f"now it is {now:%Y-%m-%dT%H:%M:%SZ}"),),
        )
    return until

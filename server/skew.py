"""How far this machine's clock is from the database's: taken off, shown, and an alarm where it is much.

Deadlines of rooms, lessons, jobs and tokens are written by one node and kept by another; they hold only if all nodes
tell the same time. The database's clock is the one that all of them see.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Gauge
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server import outage
from server.clock import Clock
from server.errors import OverloadedError

log = structlog.get_logger()

# After somebody sets the machine's clock, deadlines are wrong for so long at most. A look is one short query.
WATCH_S = 5.0
# DESIGN decision 14. Machines that keep their clocks by NTP are some milliseconds apart; those are left alone, since
# a correction is never exact either.
TOLERATED = timedelta(seconds=1)

SKEW = Gauge("fourtalk_clock_skew_s", "How far this machine's clock is ahead of the database's")


async def look(sessions: async_sessionmaker[AsyncSession], clock: Clock) -> None:
    """Compare the clocks, and have `clock` tell the database's time where the machine's is wrong.

    Raises:
        OverloadedError: The database is away.
    """
    with outage.refused():
        async with sessions() as session:
            _ = await session.connection()  # connecting takes longer than asking
            asked_at = datetime.now(UTC)
            database = await session.scalar(select(func.clock_timestamp()))
            answered_at = datetime.now(UTC)
    assert database is not None, "a clock always says something"
    # It was read somewhere between question and answer.
    doubt = (answered_at - asked_at) / 2
    found = asked_at + doubt - database
    SKEW.set(found.total_seconds())
    skew = judged(clock.skew, found, doubt=abs(doubt))
    if skew != clock.skew:
        clock.skew = skew
        if skew:
            log.error("clock_skewed", skew_s=skew.total_seconds())
        else:
            log.info("clock_right_again")


def judged(known: timedelta, found: timedelta, *, doubt: timedelta) -> timedelta:
    """Return what to take off the clock: what was found, if the measurement leaves no doubt that it is news."""
    if abs(found) + doubt <= TOLERATED:
        return timedelta()
    is_news = abs(found) - doubt > TOLERATED and abs(found - known) > doubt
    return found if is_news else known


async def watch(sessions: async_sessionmaker[AsyncSession], clock: Clock) -> None:
    """Look again and again until cancelled."""
    while True:
        await asyncio.sleep(WATCH_S)
        try:
            await look(sessions, clock)
        except OverloadedError:
            log.debug("clock_not_compared")

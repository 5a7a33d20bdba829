"""How wrong this machine's clock is, measured against the database's, which all processes share.

A clock that is more than a second off is an alarm, and is not believed: wall time is then what the database says, so
no deadline of this process (a token's, a seat's, a lesson's) differs from what the others keep (DESIGN decision 14).
Leases do not ask any clock but the database's.
"""

import asyncio
from datetime import datetime, timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server import outage
from server.clock import Clock
from server.gateway.metrics import Metrics

log = structlog.get_logger()

# Below it, two clocks that are kept by NTP are called equal: measuring through a busy database is no better.
ALLOWED = timedelta(seconds=1)
# A clock that jumps is noticed within this time; a query every five seconds costs nothing.
EVERY_S = 5.0
# Somebody must look; that it is still so is said every ten minutes.
REMIND_S = 600.0


class Skew:
    """Keeps one process's clock right."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], clock: Clock, *, metrics: Metrics) -> None:
        self._sessions = sessions
        self._metrics = metrics
        self._clock = clock
        self._remind_at = 0.0

    async def measure(self) -> None:
        """Compare the clocks once, and correct ours if it is wrong."""
        async with self._sessions() as session:
            _ = await session.connection()  # opening one may take long, and is not what is measured
            before = self._clock.own()
            theirs: datetime = (await session.execute(text("select clock_timestamp()"))).scalar_one()
            after = self._clock.own()
        # Theirs was read at some moment between the two. A busy database answers late, and what is beyond doubt then
        # counts all the same: a node that waited for a better moment would end lessons early until it came.
        doubt = (after - before) / 2
        skew = before + doubt - theirs
        if not timedelta() <= doubt < abs(abs(skew) - ALLOWED):
            return
        self._metrics.clock_skew.set(abs(skew.total_seconds()))
        is_news = abs(skew - self._clock.skew) > doubt
        self._take((skew if is_news else self._clock.skew) if abs(skew) > ALLOWED else timedelta())

    def _take(self, skew: timedelta) -> None:
        was_wrong, self._clock.skew = bool(self._clock.skew), skew
        now = asyncio.get_running_loop().time()
        if skew and (not was_wrong or now >= self._remind_at):
            self._remind_at = now + REMIND_S
            log.error("clock_skewed", ahead_s=round(skew.total_seconds(), 3))
        elif was_wrong and not skew:
            log.info("clock_right_again")

    async def probe(self) -> None:
        """Raise while this machine's clock is wrong."""
        if self._clock.skew:
            raise RuntimeError("this machine's clock is wrong")

    async def run(self) -> None:
        """Compare the clocks until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.measure()
            except Exception as error:
                if not outage.is_away(error):
                    log.exception("clock_not_measured")

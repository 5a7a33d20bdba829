"""The two clocks everything asks for time: business time, which can travel, and the wall clock.

DESIGN §4 (Clocks) says which of the two rules what. Business time is the wall clock plus an offset, so it
ticks on between two advances.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """Business time (`now`) and wall time (`wall`), both aware UTC.

    The offset is a row in the database; `server/travel.py` reads and writes it. A clock without an offset
    is the wall clock. `own` reads this machine's clock, right or wrong; `server/skew.py` finds out which.
    """

    def __init__(
        self, offset: timedelta = timedelta(), *, own: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.offset = offset
        self.own = own
        self.skew = timedelta()
        """How far this machine's clock is ahead, where that is too much."""
        self._pinned: datetime | None = None

    def wall(self) -> datetime:
        """Return the wall clock's time."""
        return self.own() - self.skew

    def now(self) -> datetime:
        """Return business time, or the moment at which the clock is pinned."""
        return self._pinned or self.wall() + self.offset

    def pin(self, at: datetime) -> None:
        """Stop business time at `at`: what falls due then runs with its own due time as now."""
        self._pinned = at
        self.offset = at - self.wall()

    def release(self) -> None:
        """Let business time tick on from the pinned moment."""
        if self._pinned is not None:
            self.offset = self._pinned - self.wall()
            self._pinned = None

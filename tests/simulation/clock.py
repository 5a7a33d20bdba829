"""Clocks that stand still until the machine moves them."""

from datetime import UTC, datetime, timedelta

from server.clock import Clock


class HandClock(Clock):
    """Wall and business clock; both stand still between two steps, however long Hypothesis thinks."""

    def __init__(self) -> None:
        super().__init__()
        self._wall = datetime.now(UTC).replace(microsecond=0)

    def wall(self) -> datetime:
        return self._wall

    def let_pass(self, time: timedelta) -> None:
        """Let time pass, on both clocks."""
        self._wall += time

"""What stands between us and Stripe's limits: a pace for each endpoint, and a rest when Stripe is away. No I/O."""

import asyncio
import time
from collections.abc import Callable

from billing.errors import StripeAwayError

# Stripe takes 25 requests a second for each endpoint ("Rate limits"); the rest is for people in its dashboard and for
# other processes, whose bucket is their own.
PER_SECOND = 20.0
# Whoever would wait longer is better told to come back: a request of a person has no more patience.
WAIT_MOST_S = 5.0
# Fewer would rest after a hiccup; more would let every caller wait for a time-out of its own.
FAILURES_MOST = 5
# Long enough for Stripe to get up again, short enough that a person presses the button once more.
REST_S = 10.0


class Gate:
    """Lets calls through at a pace, and none while Stripe is away."""

    def __init__(
        self, *, per_second: float = PER_SECOND, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._free_at: dict[str, float] = {}
        """When an endpoint's bucket is full again; it holds a second's worth."""
        self._failures = 0
        self._rests_until = 0.0

    async def enter(self, endpoint: str) -> None:
        """Wait for this call's turn.

        Raises:
            StripeAwayError: Stripe is away, or too many wait already.
        """
        now = self._monotonic()
        if now < self._rests_until:
            raise StripeAwayError("resting after failures")
        if self._failures >= FAILURES_MOST:
            # This call finds out whether Stripe is back; the others wait for what it learns.
            self._rests_until = now + REST_S
        free_at = max(self._free_at.get(endpoint, 0.0), now - 1.0)
        wait_s = free_at + 1.0 / self._per_second - now
        if wait_s > WAIT_MOST_S:
            raise StripeAwayError("too many calls wait")
        self._free_at[endpoint] = free_at + 1.0 / self._per_second
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def answered(self) -> None:
        """Note that Stripe is there, whatever it said."""
        self._failures = 0
        self._rests_until = 0.0

    def failed(self) -> None:
        """Note that it did not answer, or not sensibly."""
        self._failures += 1
        if self._failures >= FAILURES_MOST:
            self._rests_until = self._monotonic() + REST_S

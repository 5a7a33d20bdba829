"""A machine's clock is corrected when it is surely wrong, and left alone when it is not."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server import skew
from server.clock import Clock


@pytest.mark.parametrize(
    ("known_s", "found_s", "doubt_s", "judged_s"),
    [
        (0, 0.3, 0.01, 0),  # what NTP leaves
        (0, 300, 0.01, 300),
        (0, -300, 0.01, -300),
        (0, 300, 40, 300),  # read in a bad moment, and wrong all the same
        (0, 1.5, 2, 0),  # a slow answer, and no wrong clock
        (300, 300.2, 0.5, 300),  # nothing new
        (300, 290, 0.01, 290),
        (300, 0.2, 0.01, 0),  # somebody has set it
        (300, 0.2, 3, 300),  # perhaps somebody has
    ],
)
def test_what_is_found_counts_when_it_is_beyond_doubt(
    known_s: float, found_s: float, doubt_s: float, judged_s: float
) -> None:
    known, found, doubt = (timedelta(seconds=seconds) for seconds in (known_s, found_s, doubt_s))

    assert skew.judged(known, found, doubt=doubt) == timedelta(seconds=judged_s)


async def test_a_correction_that_is_wrong_itself_is_undone(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    clock = Clock()
    clock.skew = timedelta(minutes=5)

    await skew.look(sessions, clock)

    assert clock.skew == timedelta()
    assert abs(clock.wall() - datetime.now(UTC)) < timedelta(seconds=1)

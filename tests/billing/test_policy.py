from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from billing import policy
from billing.models import SourceKind
from tests.billing.world import FIRST_TERMS, NOW, Sessions


async def test_the_first_terms_are_the_originals(sessions: Sessions) -> None:
    async with sessions() as session:
        terms = await policy.current(session, datetime(1970, 1, 1, tzinfo=UTC))

    assert terms == FIRST_TERMS


async def test_new_terms_are_in_force_from_their_moment(sessions: Sessions) -> None:
    async with sessions() as session:
        await session.execute(
            text(
                "insert into policy (version, effective_from, course_platform_bps, course_referral_bps,"
                " attendance_percent, min_price, course_risk_days, booking_risk_days, actor, reason)"
                " values (2, :at, 4000, 8000, 25, 200, 1, 8, 'admin:1', 'Better terms.')"
            ),
            {"at": NOW},
        )

        before = await policy.current(session, NOW - timedelta(microseconds=1))
        after = await policy.current(session, NOW)
        both = await policy.versions(session, [1, 2, 2])
        changes = [await policy.next_change(session, at) for at in (NOW - timedelta(days=1), NOW)]

    assert (before.version, after.version) == (1, 2)
    assert both == {1: before, 2: after}
    assert changes == [NOW, None]


@pytest.mark.parametrize(
    ("kind", "days"),
    [
        (SourceKind.COURSE_SESSION, 0),
        (SourceKind.COURSE_SLICE, 0),
        (SourceKind.BOOKING, 7),
        (SourceKind.PACKAGE_SLICE, 7),
    ],
)
async def test_the_risk_window_depends_on_what_was_bought(
    sessions: Sessions, kind: SourceKind, days: int
) -> None:
    async with sessions() as session:
        terms = await policy.current(session, NOW)

    assert terms.risk_window(kind) == timedelta(days=days)

"""Versioned terms: each hold keeps the version it was placed under, and a new version touches no old hold."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.models import PolicyRow, SourceKind

# B-08d: for so long after a hold was settled its student may dispute it.
DISPUTE_WINDOW = timedelta(days=30)
# B-08f: as much as an administrator may give by themself, in minor units; above it is the owner's word.
GOODWILL_ADMIN_MOST = 5_000


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the terms. Basis points are always the tutor's share."""

    version: int
    course_platform_bps: int
    course_referral_bps: int
    attendance_percent: int
    """Of the lesson's time, at least, for a release; the same for the tutor's own presence."""
    min_price: int
    """In minor units."""
    course_risk_days: int
    booking_risk_days: int
    top_up_least: int
    """One top-up, in minor units."""
    top_up_most: int
    withdrawal_least: int
    """In minor units."""
    withdrawal_two_people_above: int
    """Of a larger withdrawal two administrators must say yes."""
    payout_freeze_hours: int
    """For so long after a change, a payout account is not paid to."""

    def risk_window(self, source_kind: SourceKind) -> timedelta:
        """Return how long after a settlement late evidence adjusts it without anybody's word."""
        match source_kind:
            case SourceKind.COURSE_SESSION | SourceKind.COURSE_SLICE:
                return timedelta(days=self.course_risk_days)
            case SourceKind.BOOKING | SourceKind.PACKAGE_SLICE:
                return timedelta(days=self.booking_risk_days)


async def current(session: AsyncSession, now: datetime) -> Policy:
    """Return the terms in force at `now`."""
    row = await session.scalar(
        select(PolicyRow)
        .where(PolicyRow.effective_from <= now)
        .order_by(PolicyRow.effective_from.desc(), PolicyRow.version.desc())
        .limit(1)
    )
    assert row is not None, "the first version is in force since 1970"
    return _policy(row)


async def next_change(session: AsyncSession, now: datetime) -> datetime | None:
    """Return when other terms come into force after `now`, as far as that is known."""
    return await session.scalar(
        select(func.min(PolicyRow.effective_from)).where(PolicyRow.effective_from > now)
    )


async def versions(session: AsyncSession, wanted: Iterable[int]) -> dict[int, Policy]:
    """Return the named versions."""
    rows = await session.scalars(select(PolicyRow).where(PolicyRow.version.in_(set(wanted))))
    return {row.version: _policy(row) for row in rows}


def _policy(row: PolicyRow) -> Policy:
    return msgspec.convert(row, Policy, from_attributes=True)

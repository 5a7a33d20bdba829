"""Versioned terms: each hold keeps the version it was placed under, and a new version touches no old hold.

`Policy` is the one place where a business number of money lives: the code reads its fields, `enact` checks and stores
them, and what people are shown is made from them.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from billing.errors import (
    PolicyFarError,
    PolicyInvalidError,
    PolicyMovedError,
    PolicyOrderError,
    PolicyPastError,
    PolicyUnchangedError,
    Problem,
    ReasonTooShortError,
)
from billing.models import REASON_LEAST, PackageExpiry, PolicyRow, SourceKind
from billing.money import BPS_WHOLE

# Who came by the tutor's own code is the tutor's; everybody else is ours (C-01).
REFERRAL: Final = "referral"
# Bookings and packages: the tutor's lifetime earnings decide, whoever brought the student (C-02, C-48).
TIER: Final = "tier"
TIERED: Final = frozenset({SourceKind.BOOKING, SourceKind.PACKAGE_SLICE})

# More tiers than this are a slip; the database refuses them too.
TIERS_MOST = 20


class Tier(msgspec.Struct, frozen=True):
    """From so much lifetime net earnings on, the platform keeps so much of a booking or package."""

    from_earned: int
    """In minor units; the first tier begins at 0."""
    fee_bps: int
    """The platform's share."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the terms. Basis points are the tutor's share, but for the fees of tiers; money is in minor units."""

    version: int
    course_platform_bps: int
    course_referral_bps: int
    booking_tiers: tuple[Tier, ...]
    tiers_count_everything: bool
    """Lifetime earnings count courses too, not only what tiers are for."""
    attendance_percent: int
    """Of the lesson's time, at least, for a release; the same for the tutor's own presence."""
    min_price: int
    course_risk_days: int
    booking_risk_days: int
    free_cancel_hours: int
    """Until so long before a booking its student cancels without a charge."""
    free_cancel_kindness_minutes: int
    """And so long after that moment still."""
    late_cancel_percent: int
    """Of the price, back to a student who cancels later (B-08a, G-5)."""
    dispute_days: int
    """For so long after a lesson its student may dispute it."""
    goodwill_admin_most: int
    """One credit of ours by an administrator; a larger one is the owner's."""
    goodwill_most: int
    package_expiry: PackageExpiry
    package_warning_days: int
    """So long before its end the student is reminded of a package."""
    package_refund_days: int
    """For so long after buying a package its student may give back what is unused."""
    top_up_least: int
    """One top-up."""
    top_up_most: int
    withdrawal_least: int
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


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different from the version before; a field for each of the terms. What is absent stays."""

    course_platform_bps: int | UnsetType = UNSET
    course_referral_bps: int | UnsetType = UNSET
    booking_tiers: tuple[Tier, ...] | UnsetType = UNSET
    tiers_count_everything: bool | UnsetType = UNSET
    attendance_percent: int | UnsetType = UNSET
    min_price: int | UnsetType = UNSET
    course_risk_days: int | UnsetType = UNSET
    booking_risk_days: int | UnsetType = UNSET
    free_cancel_hours: int | UnsetType = UNSET
    free_cancel_kindness_minutes: int | UnsetType = UNSET
    late_cancel_percent: int | UnsetType = UNSET
    dispute_days: int | UnsetType = UNSET
    goodwill_admin_most: int | UnsetType = UNSET
    goodwill_most: int | UnsetType = UNSET
    package_expiry: str | UnsetType = UNSET
    package_warning_days: int | UnsetType = UNSET
    package_refund_days: int | UnsetType = UNSET
    top_up_least: int | UnsetType = UNSET
    top_up_most: int | UnsetType = UNSET
    withdrawal_least: int | UnsetType = UNSET
    withdrawal_two_people_above: int | UnsetType = UNSET
    payout_freeze_hours: int | UnsetType = UNSET


class Enacted(msgspec.Struct, frozen=True, kw_only=True):
    """A version with its history."""

    policy: Policy
    effective_from: datetime
    actor: str
    reason: str
    is_replaced: bool = False
    """Newer terms came before it could begin, so it never was in force and never will be."""


# A hundred thousand of the major unit: beyond it a limit of money is a slip of the keyboard. A year, likewise.
_MONEY_MOST = 10_000_000
_DAYS_MOST = 366
# Later than in a year is a slip of the keyboard too, and would be in the way of everything before it.
_AHEAD_MOST = timedelta(days=_DAYS_MOST)
_SHARE = (0, BPS_WHOLE)
_PERCENT = (0, 100)
_DAYS = (0, _DAYS_MOST)
_HOURS = (0, _DAYS_MOST * 24)

# What a number may be, both ends included.
RANGES: dict[str, tuple[int, int]] = {
    "course_platform_bps": _SHARE,
    "course_referral_bps": _SHARE,
    "attendance_percent": _PERCENT,
    "min_price": (1, _MONEY_MOST),
    "course_risk_days": _DAYS,
    "booking_risk_days": _DAYS,
    "free_cancel_hours": _HOURS,
    "free_cancel_kindness_minutes": (0, 24 * 60),
    "late_cancel_percent": _PERCENT,
    "dispute_days": _DAYS,
    "goodwill_admin_most": (0, _MONEY_MOST),
    "goodwill_most": (0, _MONEY_MOST),
    "package_warning_days": _DAYS,
    "package_refund_days": _DAYS,
    "top_up_least": (1, _MONEY_MOST),
    "top_up_most": (1, _MONEY_MOST),
    "withdrawal_least": (1, _MONEY_MOST),
    "withdrawal_two_people_above": (0, _MONEY_MOST),
    "payout_freeze_hours": _HOURS,
}


async def current(session: AsyncSession, now: datetime) -> Policy:
    """Return the terms in force at `now`."""
    return (await in_force(session, now)).policy


async def in_force(session: AsyncSession, now: datetime) -> Enacted:
    """Return the terms in force at `now`, with who made them and why."""
    row = await session.scalar(
        select(PolicyRow).where(PolicyRow.effective_from <= now).order_by(PolicyRow.version.desc()).limit(1)
    )
    assert row is not None, "the first version is in force since 1970"
    return _enacted(row)


async def newest(session: AsyncSession) -> Policy:
    """Return the newest version, in force or not yet."""
    row = await session.scalar(select(PolicyRow).order_by(PolicyRow.version.desc()).limit(1))
    assert row is not None, "the first version comes with the table"
    return _policy(row)


async def next_change(session: AsyncSession, now: datetime) -> datetime | None:
    """Return when other terms come into force after `now`, as far as that is known."""
    begun = select(func.max(PolicyRow.version)).where(PolicyRow.effective_from <= now).scalar_subquery()
    return await session.scalar(
        select(func.min(PolicyRow.effective_from)).where(
            PolicyRow.version > begun, PolicyRow.effective_from > now
        )
    )


async def versions(session: AsyncSession, wanted: Iterable[int]) -> dict[int, Policy]:
    """Return the named versions."""
    rows = await session.scalars(select(PolicyRow).where(PolicyRow.version.in_(set(wanted))))
    return {row.version: _policy(row) for row in rows}


async def history(session: AsyncSession, *, limit: int, before: int | None = None) -> Sequence[Enacted]:
    """Return versions, the newest first; with `before` only older ones than that."""
    newer = aliased(PolicyRow)
    is_replaced = (
        select(newer.version)
        .where(newer.version > PolicyRow.version, newer.effective_from <= PolicyRow.effective_from)
        .exists()
    )
    query = select(PolicyRow, is_replaced).order_by(PolicyRow.version.desc()).limit(limit)
    if before is not None:
        query = query.where(PolicyRow.version < before)
    return [_enacted(row, is_replaced=replaced) for row, replaced in await session.execute(query)]


async def enact(
    session: AsyncSession,
    changes: Changes,
    *,
    base_version: int,
    effective_from: datetime,
    actor: str,
    reason: str,
    replace_planned: bool = False,
    now: datetime,
) -> Enacted:
    """Make the next version of the terms. What was bought before it is in force keeps its own.

    Args:
        session: Commits the version.
        changes: To the newest version.
        base_version: The newest version as whoever asks knows it.
        effective_from: When it comes into force.
        actor: Who asks.
        reason: For everybody who reads the history.
        replace_planned: May begin before versions that are planned, which then never come into force.
        now: Business time.

    Raises:
        ReasonTooShortError: Fewer than ten characters.
        PolicyMovedError: Somebody made a newer version meanwhile.
        PolicyInvalidError: A value is none that the terms can have; names each of them.
        PolicyUnchangedError: Nothing is different.
        PolicyPastError: It would have been in force before now.
        PolicyFarError: It would come into force in more than a year.
        PolicyOrderError: A version before it comes into force later, and is not to be replaced.
    """
    if len(reason.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
    # Two at once: the second waits here, and then sees the version of the first.
    await session.execute(_LOCK)
    base = await newest(session)
    if base.version != base_version:
        raise PolicyMovedError(base.version)
    if effective_from < now:
        raise PolicyPastError(now)
    if effective_from > now + _AHEAD_MOST:
        raise PolicyFarError(now + _AHEAD_MOST)
    planned = await session.scalar(
        select(func.max(PolicyRow.effective_from)).where(PolicyRow.effective_from > effective_from)
    )
    # The same terms as planned, only sooner, are something new.
    terms = amended(base, changes) if planned is None else _next(base, changes)
    if planned is not None and not replace_planned:
        raise PolicyOrderError(planned)
    values = {name: getattr(terms, name) for name in terms.__struct_fields__}
    values["booking_tiers"] = msgspec.to_builtins(terms.booking_tiers)
    made = {"effective_from": effective_from, "actor": actor, "reason": reason}
    await session.execute(insert(PolicyRow).values(**values, **made, replaces_planned=planned is not None))
    return Enacted(policy=terms, effective_from=effective_from, actor=actor, reason=reason)


def amended(base: Policy, changes: Changes) -> Policy:
    """Return the version that follows `base`.

    Raises:
        PolicyInvalidError: A value is none that the terms can have; names each of them.
        PolicyUnchangedError: Nothing is different.
    """
    terms = _next(base, changes)
    if msgspec.structs.replace(terms, version=base.version) == base:
        raise PolicyUnchangedError
    return terms


def _next(base: Policy, changes: Changes) -> Policy:
    wanted = {
        name: value for name in changes.__struct_fields__ if (value := getattr(changes, name)) is not UNSET
    }
    found = tuple(problems(msgspec.structs.asdict(base) | wanted))
    if found:
        raise PolicyInvalidError(found)
    if "package_expiry" in wanted:
        wanted["package_expiry"] = PackageExpiry(wanted["package_expiry"])
    return msgspec.structs.replace(base, **wanted, version=base.version + 1)


def problems(terms: dict[str, Any]) -> Iterator[Problem]:
    """Say what is wrong with values that the terms are to have, by field; each has a code of its own."""
    for field, (least, most) in RANGES.items():
        if not least <= terms[field] <= most:
            yield Problem(field, f"{field}_out_of_range", f"must be from {least} to {most}")
    yield from _problems_of_tiers(terms["booking_tiers"])
    if terms["package_expiry"] not in set(PackageExpiry):
        words = " or ".join(PackageExpiry)
        yield Problem("package_expiry", "package_expiry_unknown", f"must be {words}")
    if terms["top_up_least"] > terms["top_up_most"]:
        yield Problem("top_up_least", "top_up_range_empty", "must not be above top_up_most")
    if terms["goodwill_admin_most"] > terms["goodwill_most"]:
        yield Problem("goodwill_admin_most", "goodwill_range_empty", "must not be above goodwill_most")


def tutor_bps(policy: Policy, source_kind: SourceKind, attribution: str, *, lifetime: int) -> int:
    """Return the tutor's share of what is bought now: by who brought the student, or by the tutor's tier.

    Args:
        policy: The terms in force.
        source_kind: What is bought.
        attribution: `REFERRAL` where the tutor brought the student; of tier products it says nothing.
        lifetime: The tutor's net earnings so far (`lifetime.net`), in minor units; only tiers ask for it.
    """
    if source_kind in TIERED:
        return BPS_WHOLE - tier_of(policy, lifetime).fee_bps
    return policy.course_referral_bps if attribution == REFERRAL else policy.course_platform_bps


def tier_of(policy: Policy, lifetime: int) -> Tier:
    """Return the tier of a tutor who has earned so much."""
    return next(tier for tier in reversed(policy.booking_tiers) if tier.from_earned <= max(lifetime, 0))


_LOCK = text("select pg_advisory_xact_lock(hashtextextended('policy', 0))")


def _problems_of_tiers(tiers: Sequence[Tier]) -> Iterator[Problem]:
    field = "booking_tiers"
    if not 1 <= len(tiers) <= TIERS_MOST:
        yield Problem(field, "booking_tiers_count_out_of_range", f"must be from 1 to {TIERS_MOST} tiers")
        return
    if tiers[0].from_earned != 0:
        yield Problem(field, "booking_tiers_not_from_zero", "the first tier must begin at 0")
    begins = [tier.from_earned for tier in tiers]
    if any(later <= earlier for earlier, later in itertools.pairwise(begins)):
        yield Problem(field, "booking_tiers_not_ascending", "each tier must begin above the one before it")
    if begins[-1] > _TIER_MOST:
        yield Problem(field, "booking_tiers_out_of_range", f"a tier must begin at {_TIER_MOST} at most")
    if not all(0 <= tier.fee_bps <= BPS_WHOLE for tier in tiers):
        yield Problem(field, "booking_tiers_fee_out_of_range", f"a fee must be from 0 to {BPS_WHOLE}")


# Nobody's lifetime earnings reach a billion of the major unit.
_TIER_MOST = 100_000_000_000


def _enacted(row: PolicyRow, *, is_replaced: bool = False) -> Enacted:
    return Enacted(
        policy=_policy(row),
        effective_from=row.effective_from,
        actor=row.actor,
        reason=row.reason,
        is_replaced=is_replaced,
    )


def _policy(row: PolicyRow) -> Policy:
    return msgspec.convert(row, Policy, from_attributes=True)

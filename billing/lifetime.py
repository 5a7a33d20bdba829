"""What a tutor has earned so far, and the tier that follows from it (B-10)."""

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.models import OwnerId
from billing.money import Money
from billing.policy import TIERED, Policy, tier_of


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tutor stands among the tiers of bookings and packages."""

    earned: Money
    """So far, net; what was given back later does not count."""
    fee_bps: int
    """Of the next booking or package."""
    next_from: Money | None
    """Where the next tier begins; None in the last."""
    missing: Money | None
    next_fee_bps: int | None


async def net(session: AsyncSession, tutor_id: OwnerId, *, everything: bool, currency: str = "USD") -> int:
    """Return a tutor's net earnings in minor units, by the newest division of each settled hold.

    Args:
        session: Only read.
        tutor_id: Whose.
        everything: Courses too, not only what tiers are for.
        currency: Only of this one.
    """
    values = {
        "tutor_id": tutor_id,
        "currency": currency,
        "everything": everything,
        "tiered": [kind.value for kind in TIERED],
    }
    return int(await session.scalar(_NET, values) or 0)


async def progress(session: AsyncSession, tutor_id: OwnerId, terms: Policy) -> Progress:
    """Return a tutor's tier under these terms, and how far the next one is."""
    earned = await net(session, tutor_id, everything=terms.tiers_count_everything)
    return standing(terms, earned)


def standing(terms: Policy, earned: int) -> Progress:
    """Return the tier of a tutor who has earned so much. Pure."""
    above = next((tier for tier in terms.booking_tiers if tier.from_earned > max(earned, 0)), None)
    return Progress(
        earned=Money(earned),
        fee_bps=tier_of(terms, earned).fee_bps,
        next_from=None if above is None else Money(above.from_earned),
        missing=None if above is None else Money(above.from_earned - earned),
        next_fee_bps=None if above is None else above.fee_bps,
    )


_NET = text("""
  select coalesce(sum(s.to_tutor), 0)::bigint
  from hold h
  join hold_settlement s on s.hold_id = h.id
    and s.number = (select max(number) from hold_settlement n where n.hold_id = h.id)
  where h.tutor_id = :tutor_id and h.currency = :currency
    and (:everything or h.source_kind = any(cast(:tiered as text[])))
""")

"""What a period would have been under other terms: every stored settlement, judged again by its stored facts.

One statement over the whole period, in integers; nothing is written. What attendance decided is measured against the
other threshold; what people decided stays, as does what who came decided, and what is not given back is divided by the
other split. A tier is chosen by what the tutor really had earned when the hold was placed.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.models import PackageExpiry
from billing.money import BPS_WHOLE, Money
from billing.policy import REFERRAL, TIERED, Policy

# Tutors that a report names; the totals are of all of them.
TUTORS_MOST = 100


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the settled holds of a period."""

    released: int
    """Holds of which the tutor and the platform got something."""
    refunded: int
    """Holds that went back whole."""
    to_tutors: Money
    to_platform: Money
    to_students: Money


class TutorChange(msgspec.Struct, frozen=True, kw_only=True):
    """What the other terms would have been for one tutor."""

    tutor_id: UUID
    holds: int
    was: Money
    would_be: Money
    change: Money


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A period as it was, and as it would have been."""

    since: datetime
    until: datetime
    holds: int
    """Settled in the period; each counts with where its money is now."""
    changed: int
    """Holds of which somebody would have got another amount."""
    was: Outcome
    would_be: Outcome
    tutors: tuple[TutorChange, ...]
    """Those whose earnings would differ, the largest difference first; at most a hundred."""


async def run(
    session: AsyncSession, terms: Policy, *, since: datetime, until: datetime, currency: str = "USD"
) -> Report:
    """Judge what was settled in `[since, until)` again under these terms."""
    values = {
        "since": since,
        "until": until,
        "currency": currency,
        "attendance_percent": terms.attendance_percent,
        "platform_bps": terms.course_platform_bps,
        "referral_bps": terms.course_referral_bps,
        "referral": REFERRAL,
        "refund_expired": terms.package_expiry is PackageExpiry.REFUND,
        "everything": terms.tiers_count_everything,
        "tiered": [kind.value for kind in TIERED],
        "begins": [tier.from_earned for tier in terms.booking_tiers],
        "shares": [BPS_WHOLE - tier.fee_bps for tier in terms.booking_tiers],
        "most": TUTORS_MOST,
    }
    total, *tutors = (await session.execute(_JUDGE, values)).all()
    return Report(
        since=since,
        until=until,
        holds=total.holds,
        changed=total.changed,
        was=_outcome(total, "", currency),
        would_be=_outcome(total, "new_", currency),
        tutors=tuple(
            TutorChange(
                tutor_id=row.tutor_id,
                holds=row.holds,
                was=Money(row.to_tutor, currency),
                would_be=Money(row.new_to_tutor, currency),
                change=Money(row.new_to_tutor - row.to_tutor, currency),
            )
            for row in tutors
        ),
    )


def _outcome(row: Row[*tuple[Any, ...]], prefix: str, currency: str) -> Outcome:
    return Outcome(
        released=getattr(row, f"{prefix}released"),
        refunded=row.holds - getattr(row, f"{prefix}released"),
        to_tutors=Money(getattr(row, f"{prefix}to_tutor"), currency),
        to_platform=Money(getattr(row, f"{prefix}to_platform"), currency),
        to_students=Money(getattr(row, f"{prefix}to_student"), currency),
    )


# The first row is the total of all; a tutor's row is there where the tutor's part would differ.
_JUDGE = text("""
with settled as (
  select h.id, h.tutor_id, h.source_kind, h.attribution, h.amount, h.placed_at,
    s.to_tutor, s.to_platform, s.to_student,
    case
      when s.cause = 'expired' then case when :refund_expired then h.amount else 0 end
      when s.cause not in ('attendance', 'tutor_absent', 'adjustment') or f.lesson_id is null
        or first.cause = 'outcome' then s.to_student
      when f.cancelled or f.total_s = 0
        or f.tutor_attended_s * 100 < cast(:attendance_percent as integer) * f.planned_s
        or coalesce(p.attended_s, 0) * 100 < cast(:attendance_percent as integer) * f.total_s then h.amount
      else 0
    end as new_to_student
  from hold_settlement first
  join hold h on h.id = first.hold_id
  join hold_settlement s on s.hold_id = h.id
    and s.number = (select max(number) from hold_settlement n where n.hold_id = h.id)
  left join lesson_facts f on f.lesson_id = s.lesson_id and f.version = s.facts_version
  left join lesson_presence p
    on p.lesson_id = f.lesson_id and p.version = f.version and p.student_id = h.student_id
  where first.number = 0 and first.settled_at >= :since and first.settled_at < :until and h.currency = :currency
),
-- What each tutor earned, settlement by settlement, with the moments at which a tier was chosen in between.
moments as (
  select h.tutor_id, s.settled_at as at, false as is_choice, null::uuid as hold_id,
    s.to_tutor - coalesce(lag(s.to_tutor) over (partition by s.hold_id order by s.number), 0) as net
  from hold h
  join hold_settlement s on s.hold_id = h.id
  where h.currency = :currency and h.tutor_id in (
      select tutor_id from settled where source_kind = any(cast(:tiered as text[]))
    )
    and (:everything or h.source_kind = any(cast(:tiered as text[])))
  union all
  select tutor_id, placed_at, true, id, 0 from settled where source_kind = any(cast(:tiered as text[]))
),
lifetimes as (
  select hold_id, is_choice,
    sum(net) over (partition by tutor_id order by at, is_choice rows unbounded preceding) as net
  from moments
),
shared as (
  select s.*,
    case
      when l.hold_id is not null then (
        select share from unnest(cast(:begins as bigint[]), cast(:shares as integer[])) as tier (begins, share)
        where begins <= greatest(l.net, 0) order by begins desc limit 1
      )
      when s.attribution = :referral then cast(:referral_bps as integer)
      else cast(:platform_bps as integer)
    end as bps
  from settled s left join lifetimes l on l.hold_id = s.id and l.is_choice
),
divided as (
  select *, (amount - new_to_student) * bps / 10000 as new_to_tutor from shared
)
select tutor_id, grouping(tutor_id) as is_total, count(*) as holds,
  count(*) filter (where (to_tutor, to_student) <> (new_to_tutor, new_to_student)) as changed,
  count(*) filter (where to_student < amount) as released,
  coalesce(sum(to_tutor), 0)::bigint as to_tutor,
  coalesce(sum(to_platform), 0)::bigint as to_platform,
  coalesce(sum(to_student), 0)::bigint as to_student,
  count(*) filter (where new_to_student < amount) as new_released,
  coalesce(sum(new_to_tutor), 0)::bigint as new_to_tutor,
  coalesce(sum(amount - new_to_student - new_to_tutor), 0)::bigint as new_to_platform,
  coalesce(sum(new_to_student), 0)::bigint as new_to_student
from divided
group by grouping sets ((), (tutor_id))
having grouping(tutor_id) = 1 or sum(to_tutor) <> sum(new_to_tutor)
order by is_total desc, abs(sum(to_tutor) - sum(new_to_tutor)) desc, tutor_id
limit cast(:most as integer) + 1
""")

"""What a tutor earned: by day or month, by what was sold, and where it is now."""

from collections.abc import Collection, Iterable
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import Row, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from billing.models import (
    Account,
    AccountKind,
    OwnerId,
    PayoutAccount,
    PayoutMethod,
    SourceKind,
    Withdrawal,
    WithdrawalStatus,
)
from billing.money import Money

By = Literal["day", "month"]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tutor's money is now."""

    held: Money
    """Paid by students for lessons that are not settled, before the split."""
    pending: Money
    """Still in the risk window."""
    disputed: Money
    """Frozen until a dispute is decided."""
    available: Money
    """What can be withdrawn: the earnings, less what is owed."""
    owed: Money
    """Repaid from the next earnings."""
    reserved: Money
    """Of withdrawals that have not left us."""
    withdrawn: Money
    """In all."""


class Earned(msgspec.Struct, frozen=True, kw_only=True):
    """What lessons brought."""

    gross: Money
    """Paid by students, less what went back to them."""
    fee: Money
    """Ours."""
    net: Money
    """The tutor's."""
    refunded: Money
    lessons: int
    """Holds of which the tutor got something."""


class Period(Earned, frozen=True, kw_only=True):
    """What one day or month brought, by the tutor's own calendar."""

    begins: date


class Share(Earned, frozen=True, kw_only=True):
    """What one product and share of the split brought."""

    source_kind: SourceKind
    attribution: str
    tutor_bps: int


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What students brought: sold = earned + platform + held + refunded."""

    sold: Money
    earned: Money
    """The tutor's."""
    platform: Money
    held: Money
    refunded: Money


class WithdrawalView(msgspec.Struct, frozen=True, kw_only=True):
    """A withdrawal as its tutor and administrators see it."""

    id: UUID
    tutor_id: UUID
    amount: Money
    status: WithdrawalStatus
    method: PayoutMethod
    account_last4: str | None
    note: str | None
    is_held: bool
    held_reason: str | None
    approvals: int
    approvals_needed: int
    answer: str | None
    """Why it was rejected."""
    reference: str | None
    requested_at: datetime
    ended_at: datetime | None


async def standing(session: AsyncSession, tutor_id: OwnerId, currency: str = "USD") -> Standing:
    """Return where a tutor's money is now."""
    rows = await session.execute(
        select(Account.kind, Account.balance).where(
            Account.owner_id == tutor_id, Account.currency == currency
        )
    )
    balances = dict(rows.all())
    sums = (await session.execute(_SUMS, {"tutor_id": tutor_id, "currency": currency})).one()
    owed = -balances.get(AccountKind.TUTOR_DEBT, 0)
    return Standing(
        held=Money(sums.held, currency),
        pending=Money(balances.get(AccountKind.EARNINGS_PENDING, 0), currency),
        disputed=Money(sums.disputed, currency),
        available=Money(max(balances.get(AccountKind.EARNINGS, 0) - owed, 0), currency),
        owed=Money(owed, currency),
        reserved=Money(balances.get(AccountKind.WITHDRAWAL, 0), currency),
        withdrawn=Money(sums.withdrawn, currency),
    )


async def periods(
    session: AsyncSession,
    tutor_id: OwnerId,
    *,
    by: By,
    zone: str,
    since: date,
    until: date,
    currency: str = "USD",
) -> list[Period]:
    """Return the days or months in which lessons were settled, in order.

    Args:
        session: Only read.
        tutor_id: Whose.
        by: How finely.
        zone: IANA name of the calendar's zone.
        since: The first day.
        until: The day after the last.
        currency: Only of this one.
    """
    values = {"by": by, **_span(tutor_id, zone, since, until, currency)}
    rows = await session.execute(_PERIODS, values)
    return [Period(begins=row.begins, **_earned(row, currency)) for row in rows]


async def shares(
    session: AsyncSession,
    tutor_id: OwnerId,
    *,
    zone: str,
    since: date,
    until: date,
    currency: str = "USD",
) -> list[Share]:
    """Return the same earnings by product and share of the split (the tier, or who brought the student)."""
    rows = await session.execute(_SHARES, _span(tutor_id, zone, since, until, currency))
    return [
        Share(
            source_kind=SourceKind(row.source_kind),
            attribution=row.attribution,
            tutor_bps=row.tutor_bps,
            **_earned(row, currency),
        )
        for row in rows
    ]


async def brought(
    session: AsyncSession,
    tutor_id: OwnerId,
    *,
    attribution: str,
    students: Collection[OwnerId] | None = None,
    currency: str = "USD",
) -> dict[UUID, Brought]:
    """Return what each student brought a tutor by holds of one attribution; who bought nothing is absent.

    Args:
        session: Only read.
        tutor_id: Whose lessons.
        attribution: As the holds were placed.
        students: Only these; without it, everybody.
        currency: Only of this one.
    """
    values = {
        "tutor_id": tutor_id,
        "attribution": attribution,
        "students": None if students is None else list(students),
        "currency": currency,
    }
    return {
        row.student_id: Brought(
            **{name: Money(getattr(row, name), currency) for name in Brought.__struct_fields__}
        )
        for row in await session.execute(_BROUGHT, values)
    }


def added(parts: Iterable[Brought], currency: str = "USD") -> Brought:
    """Return the sum of what students brought."""
    sums = dict.fromkeys(Brought.__struct_fields__, 0)
    for part in parts:
        for name in sums:
            sums[name] += getattr(part, name).amount
    return Brought(**{name: Money(amount, currency) for name, amount in sums.items()})


async def withdrawals(
    session: AsyncSession,
    *,
    tutor_id: OwnerId | None = None,
    status: WithdrawalStatus | None = None,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
) -> list[WithdrawalView]:
    """Return withdrawals, the newest first.

    Args:
        session: Only read.
        tutor_id: Only theirs.
        status: Only these.
        limit: At most so many.
        before: Only older ones than the one asked for then, with this id.
    """
    query = (
        select(Withdrawal, PayoutAccount.last4)
        .join(PayoutAccount, PayoutAccount.id == Withdrawal.payout_account)
        .order_by(Withdrawal.requested_at.desc(), Withdrawal.id.desc())
        .limit(limit)
    )
    if tutor_id is not None:
        query = query.where(Withdrawal.tutor_id == tutor_id)
    if status is not None:
        query = query.where(Withdrawal.status == status)
    if before is not None:
        query = query.where(tuple_(Withdrawal.requested_at, Withdrawal.id) < tuple_(*before))
    return [view(row, last4) for row, last4 in await session.execute(query)]


def view(row: Withdrawal, last4: str | None) -> WithdrawalView:
    """Show a withdrawal."""
    return WithdrawalView(
        id=row.id,
        tutor_id=row.tutor_id,
        amount=Money(row.amount, row.currency),
        status=WithdrawalStatus(row.status),
        method=PayoutMethod(row.method),
        account_last4=last4,
        note=row.note,
        is_held=row.held_by is not None,
        held_reason=row.held_reason,
        approvals=(row.approved_by is not None) + (row.confirmed_by is not None),
        approvals_needed=2 if row.amount > row.two_people_above else 1,
        answer=row.answer,
        reference=row.reference,
        requested_at=row.requested_at,
        ended_at=row.ended_at,
    )


def _earned(row: Row[*tuple[Any, ...]], currency: str) -> dict[str, Any]:
    parts = {name: Money(getattr(row, name), currency) for name in ("gross", "fee", "net", "refunded")}
    return {**parts, "lessons": row.lessons}


def _span(tutor_id: OwnerId, zone: str, since: date, until: date, currency: str) -> dict[str, object]:
    return {"tutor_id": tutor_id, "zone": zone, "since": since, "until": until, "currency": currency}


# A lesson counts when it was settled, with what its newest division says.
_SETTLED = """
  from hold h
  join hold_settlement f on f.hold_id = h.id and f.number = 0
  join hold_settlement s on s.hold_id = h.id
    and s.number = (select max(number) from hold_settlement n where n.hold_id = h.id)
  where h.tutor_id = :tutor_id and h.currency = :currency
    and f.settled_at >= cast(:since as date)::timestamp at time zone :zone
    and f.settled_at < cast(:until as date)::timestamp at time zone :zone
"""
_PARTS = """
  sum(s.to_tutor + s.to_platform)::bigint as gross, sum(s.to_platform)::bigint as fee,
  sum(s.to_tutor)::bigint as net, sum(s.to_student)::bigint as refunded,
  count(*) filter (where s.to_tutor > 0) as lessons
"""
_PERIODS = text(
    f"select date_trunc(:by, f.settled_at at time zone :zone)::date as begins, {_PARTS} {_SETTLED}"
    " group by 1 order by 1"
)
_SHARES = text(
    f"select h.source_kind, h.attribution, h.tutor_bps, {_PARTS} {_SETTLED} group by 1, 2, 3 order by 1, 2, 3"
)
_BROUGHT = text("""
  select h.student_id, sum(h.amount)::bigint as sold,
    coalesce(sum(s.to_tutor), 0)::bigint as earned, coalesce(sum(s.to_platform), 0)::bigint as platform,
    coalesce(sum(h.amount) filter (where h.status = 'held'), 0)::bigint as held,
    coalesce(sum(s.to_student), 0)::bigint as refunded
  from hold h
  left join hold_settlement s on s.hold_id = h.id
    and s.number = (select max(number) from hold_settlement n where n.hold_id = h.id)
  where h.tutor_id = :tutor_id and h.attribution = :attribution and h.currency = :currency
    and (cast(:students as uuid[]) is null or h.student_id = any(cast(:students as uuid[])))
  group by h.student_id
""")
_SUMS = text("""
  select
    (select coalesce(sum(amount), 0)::bigint from hold
      where tutor_id = :tutor_id and currency = :currency and status = 'held') as held,
    (select coalesce(sum(amount), 0)::bigint from withdrawal
      where tutor_id = :tutor_id and currency = :currency and status = 'completed') as withdrawn,
    (select coalesce(sum(a.balance), 0)::bigint
      from (select distinct hold_id from hold_freeze) f
      join hold h on h.id = f.hold_id
      join ledger_account a on a.kind = 'frozen' and a.owner_id = h.id and a.currency = h.currency
      where h.tutor_id = :tutor_id and h.currency = :currency) as disputed
""")

"""What a period brought the platform, from the ledger: its share of each product, and what everything else cost."""

from collections.abc import Iterable
from datetime import date
from typing import Literal

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.models import JournalKind, SourceKind
from billing.money import Money

By = Literal["day", "month"]


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Where the money of settled lessons went, less what later came back."""

    to_tutors: Money
    to_platform: Money
    to_students: Money


class SourceRevenue(Split, frozen=True, kw_only=True):
    """The same of one product."""

    source_kind: SourceKind


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of movement that belongs to no lesson did to the platform's money; below zero: it cost that."""

    kind: JournalKind
    amount: Money


class RevenuePeriod(Split, frozen=True, kw_only=True):
    """What one day or month brought."""

    begins: date
    costs: Money
    net: Money
    """`to_platform` and `costs` together."""


class Revenue(msgspec.Struct, frozen=True, kw_only=True):
    """What a period brought: `total` is the sum of the sources, and of the periods."""

    total: Split
    costs_in_all: Money
    net: Money
    sources: tuple[SourceRevenue, ...]
    costs: tuple[Cost, ...]
    periods: tuple[RevenuePeriod, ...]
    """Those in which something moved, in order."""


class _Sum(msgspec.Struct, frozen=True):
    begins: date
    source_kind: str | None
    kind: str | None
    to_tutors: int
    to_platform: int
    to_students: int
    expense: int


async def revenue(
    session: AsyncSession, *, by: By, zone: str, since: date, until: date, currency: str = "USD"
) -> Revenue:
    """Return what came in between two days, by the calendar of a zone.

    A movement counts when it was made: a refund of last month's lesson is this month's.

    Args:
        session: Only read.
        by: How finely the periods are cut.
        zone: IANA name of the calendar's zone.
        since: The first day.
        until: The day after the last.
        currency: Only of this one.
    """
    span = {"by": by, "zone": zone, "since": since, "until": until, "currency": currency}
    sums = [_Sum(*row) for row in await session.execute(_SUMS, span)]
    costs = sum(one.to_platform + one.expense for one in sums if one.source_kind is None)
    of_lessons = [one for one in sums if one.source_kind is not None]
    return Revenue(
        total=Split(**_parts(of_lessons, currency)),
        costs_in_all=Money(costs, currency),
        net=Money(costs + sum(one.to_platform + one.expense for one in of_lessons), currency),
        sources=tuple(
            SourceRevenue(
                source_kind=kind,
                **_parts((one for one in of_lessons if one.source_kind == kind), currency),
            )
            for kind in SourceKind
            if any(one.source_kind == kind for one in of_lessons)
        ),
        costs=tuple(_costs(sums, currency)),
        periods=tuple(
            _period(begins, [one for one in sums if one.begins == begins], currency)
            for begins in sorted({one.begins for one in sums})
        ),
    )


def _period(begins: date, sums: list[_Sum], currency: str) -> RevenuePeriod:
    of_lessons = [one for one in sums if one.source_kind is not None]
    costs = sum(one.to_platform + one.expense for one in sums if one.source_kind is None)
    net = costs + sum(one.to_platform + one.expense for one in of_lessons)
    parts = _parts(of_lessons, currency)
    return RevenuePeriod(begins=begins, **parts, costs=Money(costs, currency), net=Money(net, currency))


def _costs(sums: list[_Sum], currency: str) -> Iterable[Cost]:
    for kind in JournalKind:
        amount = sum(one.to_platform + one.expense for one in sums if one.kind == kind)
        if amount:
            yield Cost(kind=kind, amount=Money(amount, currency))


def _parts(sums: Iterable[_Sum], currency: str) -> dict[str, Money]:
    found = list(sums)
    return {
        name: Money(sum(getattr(one, name) for one in found), currency) for name in Split.__struct_fields__
    }


# A leg of a lesson's money names its hold. What a tutor has, waits for, owes, or has frozen is all theirs: moves between
# those add up to nothing. What a student pays goes into escrow, and is nobody's yet.
_SUMS = text("""
  select begins, source_kind, kind, to_tutors, to_platform, to_students, expense
  from (
    select date_trunc(:by, j.at at time zone :zone)::date as begins, h.source_kind,
      case when h.id is null then j.kind end as kind,
      sum(t.amount * (case when h.id is null then 0 else
        (c.kind in ('earnings', 'earnings_pending', 'tutor_debt', 'frozen'))::int
        - (d.kind in ('earnings', 'earnings_pending', 'tutor_debt', 'frozen'))::int end))::bigint as to_tutors,
      sum(t.amount * ((c.kind = 'platform_revenue')::int - (d.kind = 'platform_revenue')::int))::bigint as to_platform,
      sum(t.amount * (case when h.id is null or c.kind = 'escrow' then 0 else
        (c.kind = 'wallet')::int - (d.kind = 'wallet')::int end))::bigint as to_students,
      sum(t.amount * ((c.kind = 'platform_expense')::int - (d.kind = 'platform_expense')::int))::bigint as expense
    from ledger_journal j
    join ledger_transfer t on t.journal_id = j.id and t.currency = :currency
    join ledger_account c on c.id = t.credit_account
    join ledger_account d on d.id = t.debit_account
    left join hold h on h.id = t.hold_id
    where j.at >= cast(:since as date)::timestamp at time zone :zone
      and j.at < cast(:until as date)::timestamp at time zone :zone
    group by 1, 2, 3
  ) sums
  where to_tutors <> 0 or to_platform <> 0 or to_students <> 0 or expense <> 0
  order by begins
""")

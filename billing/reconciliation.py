"""Stripe's books against ours: each movement of our balance there has exactly one journal here, and the other way round.

Objects are listed, not events: an event that Stripe never made leaves its object all the same. What is missing here is
repaired by the same function that a webhook would have called; nothing else is repaired, people look at it.

A movement or a journal of the last minutes may still be on its way (`timing`); it is judged next time.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid5

import msgspec
from sqlalchemy import BigInteger, bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import card_disputes, card_payments, card_refunds, stripe_entries, top_ups
from billing.crashpoints import crashpoint
from billing.errors import BillingError
from billing.ledger import AccountKey, Order
from billing.models import (
    PLATFORM,
    Account,
    AccountKind,
    CardRefund,
    FindingOutcome,
    JournalKind,
    StripeEntry,
    StripeFinding,
)
from billing.money import EXPONENTS
from billing.stripe_api import StripeApi
from billing.stripe_objects import BalanceTransaction, Dispute, Payment

Sessions = async_sessionmaker[AsyncSession]
Detail = dict[str, str | int | None]

# A webhook that is lost is sent again within the hour; what is older than two days was seen a hundred times.
WINDOW = timedelta(hours=48)
# Longer than a webhook takes to arrive and its job to run.
TIMING = timedelta(minutes=10)

# Reporting categories of what banks take and give back.
DISPUTING = ("dispute", "dispute_reversal")

# Movements have no UUID; references of their journals are made of their ids.
_REFERENCES = UUID("6f0f6f3e-3b0e-4d0c-9a53-6a0b6a1d3c55")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference."""

    subject: str
    """The movement (txn_), `journal:<id>`, or `balance:<currency>`."""
    outcome: FindingOutcome
    detail: Detail


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one look found. What was repaired is matched."""

    matched: int
    timing: int
    repaired: int
    findings: tuple[Finding, ...]


class _Here(msgspec.Struct, frozen=True, kw_only=True):
    """One entry with what its journal did."""

    id: str
    journal_id: int
    amount: int
    fee: int
    currency: str
    at: datetime
    net: int
    """By which the journal raised what we say is at Stripe."""
    owner_id: UUID | None
    """Whose wallet it credited."""


class _There(msgspec.Struct, frozen=True, kw_only=True):
    """Stripe's side."""

    movements: Mapping[str, BalanceTransaction]
    payments: Mapping[str, Payment]
    """By their charge."""
    disputes: Mapping[str, Dispute]
    """Those that moved something."""
    totals: Mapping[str, int] | None
    """Of the balance, by currency; None if it moved while we looked."""


async def run(sessions: Sessions, api: StripeApi, *, now: datetime, window: timedelta = WINDOW) -> Report:
    """Compare, repair what is missing here, compare again, and keep what still differs.

    Raises:
        StripeAwayError: Stripe does not answer.
    """
    since = now - window
    there = await _look_there(api, since, now + TIMING)
    crashpoint("reconciliation.looked")
    first = await _compare(sessions, there, since=since, now=now)
    repaired = 0
    # The oldest first: a dispute needs the payment that it is about.
    for finding in reversed(first.findings):
        if finding.outcome is FindingOutcome.MISSING_HERE:
            repaired += await _repair(sessions, there, there.movements[finding.subject], now=now)
            crashpoint("reconciliation.repaired")
    report = await _compare(sessions, there, since=since, now=now) if repaired else first
    await _keep(sessions, report, there, now=now)
    return msgspec.structs.replace(report, repaired=repaired)


async def _look_there(api: StripeApi, since: datetime, until: datetime) -> _There:
    before = await api.balance()
    movements = {one.id: one async for one in api.list_balance_transactions(since, until)}
    payments = {
        one.latest_charge.id: one
        async for one in api.list_payments(since - WINDOW, until)
        if one.latest_charge is not None
    }
    disputing = {one.source for one in movements.values() if one.reporting_category in DISPUTING}
    disputes = {source: await api.retrieve_dispute(source) for source in disputing if source is not None}
    # An older payment may have moved money only now (captured late, or by a bank debit); those are few.
    after = await api.balance()
    totals = {currency: after.total(currency) for currency in EXPONENTS}
    is_still = all(before.total(currency) == total for currency, total in totals.items())
    return _There(
        movements=movements, payments=payments, disputes=disputes, totals=totals if is_still else None
    )


async def _compare(sessions: Sessions, there: _There, *, since: datetime, now: datetime) -> Report:
    async with sessions() as session:
        # One snapshot: entries, journals and balances of the same moment.
        await session.execute(_SNAPSHOT)
        here = await _entries(session, there.movements, since)
        strays = await _strays(session, now - since)
        balances = await _balances(session)
    findings: list[Finding] = []
    matched = timing = 0
    unexplained: defaultdict[str, int] = defaultdict(int)
    for movement in there.movements.values():
        entry = here.get(movement.id)
        if entry is not None:
            finding = _difference(movement, entry, there.payments.get(movement.source or ""))
            unexplained[movement.currency.upper()] += movement.net
            unexplained[entry.currency] -= entry.net
        else:
            finding = _finding(movement.id, FindingOutcome.MISSING_HERE, _facts(movement))
            unexplained[movement.currency.upper()] += movement.net
            if now - movement.at < TIMING:
                timing += 1
                continue
        matched += finding is None
        findings += [finding] if finding is not None else []
    for entry in here.values():
        if entry.id not in there.movements:
            unexplained[entry.currency] -= entry.net
            if now - entry.at < TIMING:
                timing += 1
            else:
                detail = Detail(journal=str(entry.journal_id), net=entry.net, currency=entry.currency)
                findings.append(_finding(entry.id, FindingOutcome.MISSING_THERE, detail))
    for journal_id, currency, net in strays:
        unexplained[currency] -= net
        detail = Detail(net=net, currency=currency)
        findings.append(_finding(f"journal:{journal_id}", FindingOutcome.MISSING_THERE, detail))
    findings += _balance_findings(there, balances, unexplained)
    return Report(matched=matched, timing=timing, repaired=0, findings=tuple(findings))


def _difference(movement: BalanceTransaction, entry: _Here, payment: Payment | None) -> Finding | None:
    """Return how a movement and its entry differ."""
    said = (movement.amount, movement.fee, movement.currency.upper(), movement.net)
    if said != (entry.amount, entry.fee, entry.currency, entry.net):
        detail = _facts(movement) | Detail(here=entry.net, journal=str(entry.journal_id))
        return _finding(movement.id, FindingOutcome.AMOUNT_DIFFERS, detail)
    if payment is None or payment.tagged(top_ups.TAG) is None:
        return None
    owner = payment.tagged(top_ups.OWNER_TAG)
    if owner != entry.owner_id:
        detail = Detail(there=str(owner), here=str(entry.owner_id), journal=str(entry.journal_id))
        return _finding(movement.id, FindingOutcome.OWNER_DIFFERS, detail)
    return None


def _balance_findings(
    there: _There, balances: Mapping[str, int], unexplained: Mapping[str, int]
) -> Iterable[Finding]:
    """Compare the balances, less what is known to differ."""
    if there.totals is None:
        return
    for currency, total in there.totals.items():
        here = -balances.get(currency, 0)
        if total - here != unexplained.get(currency, 0):
            detail = Detail(there=total, here=here, known=unexplained.get(currency, 0))
            yield _finding(f"balance:{currency}", FindingOutcome.BALANCE_DIFFERS, detail)


# Our side -----------------------------------------------------------------------------------------------------------

# What a journal did to `stripe` (a debit there is money that came), and whose wallet it credited.
_SNAPSHOT = text("set transaction isolation level repeatable read")
_NET = text("""
    select t.journal_id, d.currency,
      sum(case when d.kind = 'stripe' then t.amount else 0 end
        - case when c.kind = 'stripe' then t.amount else 0 end)::bigint as net,
      (array_agg(c.owner_id) filter (where c.kind = 'wallet'))[1] as owner_id
    from ledger_transfer t
    join ledger_account d on d.id = t.debit_account
    join ledger_account c on c.id = t.credit_account
    where t.journal_id = any (:journals)
    group by t.journal_id, d.currency
""").bindparams(bindparam("journals"))

# Journal ids begin with the milliseconds of the database's clock (migration 0001).
_STRAYS = text("""
    select t.journal_id, a.currency,
      sum(case when t.debit_account = a.id then t.amount else -t.amount end)::bigint as net
    from ledger_account a
    join ledger_transfer t on a.id in (t.debit_account, t.credit_account)
    left join stripe_entry e on e.journal_id = t.journal_id
    where a.kind = 'stripe' and e.id is null
      and t.journal_id >= (extract(epoch from clock_timestamp() - cast(:window as interval)) * 1000)::bigint << 20
    group by t.journal_id, a.currency
""")


async def _entries(
    session: AsyncSession, movements: Mapping[str, BalanceTransaction], since: datetime
) -> dict[str, _Here]:
    """Return the entries of this time, and those of movements of this time."""
    named = StripeEntry.id == func.any(bindparam("ids", list(movements), expanding=False))
    rows = (await session.scalars(select(StripeEntry).where(or_(StripeEntry.at >= since, named)))).all()
    done = await session.execute(_NET, {"journals": [row.journal_id for row in rows]})
    effects = {row.journal_id: row for row in done}
    return {
        row.id: _Here(
            id=row.id,
            journal_id=row.journal_id,
            amount=row.amount,
            fee=row.fee,
            currency=row.currency,
            at=row.at,
            net=effects[row.journal_id].net,
            owner_id=effects[row.journal_id].owner_id,
        )
        for row in rows
    }


async def _strays(session: AsyncSession, window: timedelta) -> Sequence[tuple[int, str, int]]:
    """Return the journals of late that touch `stripe` and tell of no movement."""
    rows = await session.execute(_STRAYS, {"window": window})
    return [(row.journal_id, row.currency, row.net) for row in rows]


async def _balances(session: AsyncSession) -> dict[str, int]:
    query = (
        select(Account.currency, func.sum(Account.balance).cast(BigInteger))
        .where(Account.kind == AccountKind.STRIPE)
        .group_by(Account.currency)
    )
    return dict((await session.execute(query)).all())


# Repairs ------------------------------------------------------------------------------------------------------------


async def _repair_charge(
    session: AsyncSession, there: _There, movement: BalanceTransaction, now: datetime
) -> bool:
    payment = there.payments.get(movement.source or "")
    if payment is not None and payment.tagged(card_payments.AUTHORIZATION_TAG) is not None:
        await card_payments.hear(session, payment, now=now)
        return True
    top_up_id = None if payment is None else payment.tagged(top_ups.TAG)
    if payment is None or top_up_id is None:
        return False
    await top_ups.apply(session, top_up_id, checkout=None, payment=payment, now=now)
    return True


async def _repair_dispute(
    session: AsyncSession, there: _There, movement: BalanceTransaction, now: datetime
) -> bool:
    await card_disputes.apply(session, there.disputes[movement.source or ""], now=now)
    return True


async def _repair_refund(
    session: AsyncSession, there: _There, movement: BalanceTransaction, now: datetime
) -> bool:
    """Have a refund of ours looked at again; it is booked by its job, a moment later."""
    del there
    known = select(CardRefund.id).where(CardRefund.refund == movement.source)
    refund_id = await session.scalar(known)
    if refund_id is not None:
        await card_refunds.look(session, refund_id, now=now)
    return False


async def _repair_fee(
    session: AsyncSession, there: _There, movement: BalanceTransaction, now: datetime
) -> bool:
    """Book what Stripe takes for its services."""
    del there
    other = AccountKey(AccountKind.PLATFORM_EXPENSE, PLATFORM, movement.currency.upper())
    return await _post(session, movement, JournalKind.CARD_FEE, other, now)


async def _repair_payout(
    session: AsyncSession, there: _There, movement: BalanceTransaction, now: datetime
) -> bool:
    """Book what Stripe sends to our bank, or gets back from it."""
    del there
    other = AccountKey(AccountKind.BANK, PLATFORM, movement.currency.upper())
    return await _post(session, movement, JournalKind.BANK_TRANSFER, other, now)


Repair = Callable[[AsyncSession, _There, BalanceTransaction, datetime], Awaitable[bool]]

# By Stripe's reporting category. What is missing here was told by nobody, or is told to nobody (fees, our payouts).
REPAIRS: Mapping[str, Repair] = {
    "charge": _repair_charge,
    **dict.fromkeys(DISPUTING, _repair_dispute),
    "refund_failure": _repair_refund,
    "fee": _repair_fee,
    "payout": _repair_payout,
    "payout_reversal": _repair_payout,
}


async def _post(
    session: AsyncSession, movement: BalanceTransaction, kind: JournalKind, other: AccountKey, now: datetime
) -> bool:
    order = Order(
        kind=kind,
        scope="stripe",
        key=f"movement:{movement.id}",
        request=(movement.amount, movement.fee, movement.currency),
        actor="system:reconciliation",
        reason=None,
        ref_type="stripe_movement",
        ref_id=uuid5(_REFERENCES, movement.id),
        at=now,
    )
    return await stripe_entries.post(session, order, movement, other=other) is not None


async def _repair(sessions: Sessions, there: _There, movement: BalanceTransaction, *, now: datetime) -> bool:
    """Do what a webhook would have done; return whether it helped."""
    repair = REPAIRS.get(movement.reporting_category)
    if repair is None:
        return False
    try:
        async with sessions.begin() as session:
            return await repair(session, there, movement, now)
    except BillingError:
        # It does not fit to what is here: the finding stays, with what there is to know of it.
        return False


async def _keep(sessions: Sessions, report: Report, there: _There, *, now: datetime) -> None:
    """Write down what differs, and close what does not any more."""
    rows = [
        {"subject": one.subject, "outcome": one.outcome, "detail": one.detail, "found_at": now}
        for one in sorted(report.findings, key=lambda one: one.subject)
    ]
    open_now = {row["subject"] for row in rows}
    judged = [*there.movements, *(f"balance:{currency}" for currency in there.totals or ())]
    async with sessions.begin() as session:
        for row in rows:
            query = insert(StripeFinding).values(row)
            changed = {"outcome": query.excluded.outcome, "detail": query.excluded.detail, "solved_at": None}
            await session.execute(query.on_conflict_do_update(index_elements=["subject"], set_=changed))
        await session.execute(
            update(StripeFinding)
            .where(
                StripeFinding.solved_at.is_(None),
                StripeFinding.subject.in_([subject for subject in judged if subject not in open_now]),
            )
            .values(solved_at=now)
        )


def _finding(subject: str, outcome: FindingOutcome, detail: Detail) -> Finding:
    return Finding(subject=subject, outcome=outcome, detail=detail)


def _facts(movement: BalanceTransaction) -> Detail:
    return Detail(
        net=movement.net,
        currency=movement.currency.upper(),
        category=movement.reporting_category,
        source=movement.source,
    )

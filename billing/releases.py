"""Empty the escrow of holds as somebody or something decided: to tutor and platform by the split, or back.

Who decides, and whether it may be decided, is the caller's (`settlement.py`, `payments.py`, `packages.py`), who has locked
the holds; an administrator decides by `by_hand`. Here is what a decision does: one journal, a row of `hold_settlement` for each hold,
the risk window, and the events.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

import msgspec
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncSession

from billing import divisions, ledger, maturity, outbox, policy
from billing.errors import HoldNotHeldError, ReasonTooShortError
from billing.facts import Decision
from billing.holds import refunded
from billing.ledger import AccountKey, Leg, Order
from billing.messages import HoldReleased, WalletChanged
from billing.models import (
    REASON_LEAST,
    AccountKind,
    Cause,
    Hold,
    HoldId,
    HoldStatus,
    JournalKind,
    OwnerId,
    Settlement,
    SourceKind,
)
from billing.money import Money
from billing.policy import Policy
from billing.rows import Rows


class Release(msgspec.Struct, frozen=True):
    """What becomes of one hold."""

    hold: Hold
    decision: Decision
    risk_until: datetime | None


async def settle(
    session: AsyncSession,
    releases: Sequence[Release],
    order: Order,
    *,
    reason: str | None,
    facts_version: int | None,
) -> tuple[tuple[HoldId, ...], tuple[HoldId, ...]]:
    """Move the money of held holds, each in one of two ways; return those that were released, and those refunded.

    Args:
        session: Has locked the holds; commits all or nothing.
        releases: At least one, of one lesson, booking or package.
        order: Of the journal; its key was never used.
        reason: Shown to both parties.
        facts_version: Of the lesson's facts, where these decided.
    """
    events, done = _tell(releases, reason)
    rows = (_rows(releases, order, reason, facts_version), outbox.rows(session, events, at=order.at))
    posted = await ledger.post(session, order, _legs(releases), rows=rows)
    assert not posted.replayed, "a hold that is held was not settled before"
    await maturity.begin(session, ((one.hold, one.risk_until) for one in releases))
    earned = {
        (OwnerId(one.hold.tutor_id), one.hold.currency)
        for one in releases
        if one.risk_until is None and one.decision.to_tutor
    }
    await maturity.repay_all(session, earned, now=order.at)
    return done


async def by_hand(
    session: AsyncSession, hold_id: UUID, *, percent: int, actor: str, reason: str, now: datetime
) -> Decision:
    """Pay a part of a held hold out by its split, as an administrator decides; the rest goes back (C-04).

    Whole cents go back, what is left of one is released. Return what went where.

    Args:
        session: Commits all or nothing.
        hold_id: Which.
        percent: Of the amount, from 1 to 100.
        actor: Who decided.
        reason: Shown to both parties, in at least ten characters.
        now: Business time.

    Raises:
        ReasonTooShortError: Fewer than ten characters.
        HoldNotFoundError: There is no such hold.
        HoldNotHeldError: It is released or refunded already.
    """
    assert 1 <= percent <= 100, "of nothing it would be a refund"
    if len(reason.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
    hold = await divisions.locked(session, hold_id)
    if hold.status != HoldStatus.HELD:
        raise HoldNotHeldError(hold_id, hold.status)
    division = divisions.divide(hold.amount, hold.tutor_bps, to_student=hold.amount * (100 - percent) // 100)
    decision = Decision(cause=Cause.ADMIN, **msgspec.structs.asdict(division))
    terms = (await policy.versions(session, {hold.policy_version}))[hold.policy_version]
    order = Order(
        kind=JournalKind.SETTLEMENT,
        scope="release",
        # A hold is released once.
        key=str(hold_id),
        request=(hold_id, percent),
        actor=actor,
        reason=reason,
        ref_type="hold",
        ref_id=hold_id,
        at=now,
    )
    release = Release(hold, decision, risk_until(terms, hold, now))
    await settle(session, [release], order, reason=reason, facts_version=None)
    return decision


def _rows(releases: Sequence[Release], order: Order, reason: str | None, facts_version: int | None) -> Rows:
    """Return what is stored of a settlement."""
    knowns = [known(one.hold, one.decision) for one in releases]
    decisions = [one.decision for one in releases]
    lessons = [None if facts_version is None else one.hold.lesson_id for one in releases]
    return Rows(
        cast(Table, Settlement.__table__),
        {
            **{name: [one[name] for one in knowns] for name in knowns[0]},
            "lesson_id": lessons,
            "hold_id": [one.hold.id for one in releases],
            "amount": [one.hold.amount for one in releases],
            "tutor_bps": [one.hold.tutor_bps for one in releases],
            "to_tutor": [decision.to_tutor for decision in decisions],
            "to_platform": [decision.to_platform for decision in decisions],
            "to_student": [decision.to_student for decision in decisions],
            "cause": [decision.cause.value for decision in decisions],
            "risk_until": [one.risk_until for one in releases],
        },
        {
            "number": 0,
            "actor": order.actor,
            "reason": reason,
            "facts_version": facts_version,
            "settled_at": order.at,
        },
        journal="journal_id",
    )


def known(hold: Hold, decision: Decision) -> dict[str, object]:
    """Return what a settlement and an adjustment both say of why."""
    return {
        "lesson_id": hold.lesson_id,
        "attended_s": decision.attended_s,
        "tutor_attended_s": decision.tutor_attended_s,
        "total_s": decision.total_s,
        "threshold_percent": decision.threshold_percent,
    }


def risk_until(terms: Policy, hold: Hold, now: datetime) -> datetime | None:
    """Return how long a settlement of now is at risk, by the terms of its hold."""
    window = terms.risk_window(SourceKind(hold.source_kind))
    return now + window if window else None


def earnings(hold: Hold, until: datetime | None) -> AccountKey:
    """Name the account that takes the tutor's share of a hold that is at risk until then."""
    kind = AccountKind.EARNINGS if until is None else AccountKind.EARNINGS_PENDING
    return AccountKey(kind, hold.tutor_id, hold.currency)


def _legs(releases: Sequence[Release]) -> list[Leg]:
    legs: list[Leg] = []
    for one in releases:
        hold, decision = one.hold, one.decision
        parts = (
            (earnings(hold, one.risk_until), decision.to_tutor),
            (divisions.revenue(hold), decision.to_platform),
            (hold.wallet_account, decision.to_student),
        )
        legs += [
            Leg(hold.escrow_account, account, Money(amount, hold.currency), HoldId(hold.id))
            for account, amount in parts
            if amount
        ]
    return legs


def _tell(
    releases: Sequence[Release], reason: str | None
) -> tuple[list[msgspec.Struct], tuple[tuple[HoldId, ...], tuple[HoldId, ...]]]:
    """Return the events of a settlement, and the holds that were released, and those refunded."""
    events: list[msgspec.Struct] = []
    released_ids: list[HoldId] = []
    refunded_ids: list[HoldId] = []
    changed: set[tuple[UUID, str]] = set()
    for one in releases:
        hold = one.hold
        if one.decision.to_student == hold.amount:
            events.append(refunded(hold, one.decision.cause, reason))
            refunded_ids.append(HoldId(hold.id))
        else:
            events.append(_released(hold, one.decision))
            released_ids.append(HoldId(hold.id))
            changed.add((hold.tutor_id, hold.currency))
        # What was held for the student is not held any more, either way.
        changed.add((hold.student_id, hold.currency))
    events += [WalletChanged(OwnerId(owner_id), currency) for owner_id, currency in sorted(changed)]
    return events, (tuple(released_ids), tuple(refunded_ids))


def _released(hold: Hold, decision: Decision) -> HoldReleased:
    return HoldReleased(
        hold_id=HoldId(hold.id),
        student_id=OwnerId(hold.student_id),
        tutor_id=OwnerId(hold.tutor_id),
        lesson_id=hold.lesson_id,
        source_kind=SourceKind(hold.source_kind),
        source_id=hold.source_id,
        amount=Money(hold.amount, hold.currency),
        tutor_share=Money(decision.to_tutor, hold.currency),
        platform_share=Money(decision.to_platform, hold.currency),
        cause=decision.cause,
    )

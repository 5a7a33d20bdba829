"""Settle the holds of a lesson that is over, exactly once.

Level-triggered: whether a lesson is due is a row (`settle_due`), not a message. The room that ends, a repeated
end and the sweeper may all ask; whoever deletes the row moves the money, in the same transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import Table, delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import ledger, maturity, outbox, policy
from billing.crashpoints import crashpoint
from billing.errors import BillingError, InsufficientFundsError, LessonNotSettledError
from billing.facts import Decision, LessonFacts, Presence, decide
from billing.holds import refunded
from billing.ledger import AccountKey, Leg, Order
from billing.messages import HoldAdjusted, HoldReleased, WalletChanged
from billing.models import (
    AccountKind,
    Cause,
    Due,
    FactsRow,
    Hold,
    HoldId,
    HoldStatus,
    JournalKind,
    OwnerId,
    PresenceRow,
    Review,
    Settlement,
    SourceKind,
)
from billing.money import Money
from billing.policy import Policy
from billing.rows import Rows

log = structlog.get_logger()

ACTOR = "system:settlement"

# Version of the facts that decide the settlement; what comes later can only adjust.
FROZEN = 1


class Settled(msgspec.Struct, frozen=True):
    """What one settlement did."""

    lesson_id: UUID
    released: tuple[HoldId, ...]
    refunded: tuple[HoldId, ...]


class Reconsidered(msgspec.Struct, frozen=True):
    """What late evidence did."""

    adjusted: tuple[HoldId, ...] = ()
    to_review: tuple[HoldId, ...] = ()


async def due(session: AsyncSession, facts: LessonFacts, *, now: datetime) -> bool:
    """Freeze what is known about a lesson and make its settlement due; return False if that was done before.

    From here on no hold can be placed for the lesson, and later evidence goes to `reconsider`.
    """
    await ledger.lock_lessons(session, [facts.lesson_id], shared=False)
    if await _newest(session, facts.lesson_id) is not None:
        return False
    await _write_facts(session, facts, FROZEN, now)
    await session.execute(insert(Due).values(lesson_id=facts.lesson_id, due_at=now))
    crashpoint("due.written")
    return True


async def settle(session: AsyncSession, lesson_id: UUID, *, now: datetime) -> Settled | None:
    """Release or refund every open hold of a lesson; return None if the lesson is not due (any more)."""
    claimed = await session.scalar(delete(Due).where(Due.lesson_id == lesson_id).returning(Due.lesson_id))
    return None if claimed is None else await _settle(session, lesson_id, now)


async def sweep(sessions: async_sessionmaker[AsyncSession], now: datetime) -> int:
    """Settle everything that is due, a transaction for each lesson; return how many were settled here.

    A lesson that somebody else is settling is passed over. One that cannot be settled is logged and stays due.
    """
    async with sessions() as session:
        waiting = (
            await session.scalars(select(Due.lesson_id).where(Due.due_at <= now).order_by(Due.due_at))
        ).all()
    settled = 0
    for lesson_id in waiting:
        crashpoint("sweep.found")
        try:
            async with sessions.begin() as session:
                free = select(Due.lesson_id).where(Due.lesson_id == lesson_id)
                claimed = await session.scalar(
                    delete(Due)
                    .where(Due.lesson_id == free.with_for_update(skip_locked=True).scalar_subquery())
                    .returning(Due.lesson_id)
                )
                if claimed is not None:
                    await _settle(session, lesson_id, now)
                    settled += 1
        except (BillingError, SQLAlchemyError):
            log.exception("settlement_failed", lesson_id=str(lesson_id))
    return settled


async def reconsider(session: AsyncSession, facts: LessonFacts, *, now: datetime) -> Reconsidered:
    """Judge a settled lesson again by evidence that came late.

    No hold changes. A different outcome within the risk window is an adjustment, a journal of its own; outside of
    it, or where the money is gone, the hold is noted for review. What an admin decided or a cancellation gave back
    stays.

    Raises:
        LessonNotSettledError: The lesson's holds wait for their settlement, or it never ended.
    """
    await ledger.lock_lessons(session, [facts.lesson_id], shared=False)
    newest = await _newest(session, facts.lesson_id)
    waiting = await session.scalar(select(Due.lesson_id).where(Due.lesson_id == facts.lesson_id))
    if newest is None or waiting is not None:
        raise LessonNotSettledError(facts.lesson_id)
    if newest.digest == facts.digest:
        return Reconsidered()
    version = newest.version + 1
    await _write_facts(session, facts, version, now)
    adjusted: list[HoldId] = []
    to_review: list[HoldId] = []
    for hold, latest in await _settled_holds(session, facts.lesson_id):
        assert latest.threshold_percent is not None, "facts decided it, so it has a threshold"
        presence = facts.students.get(OwnerId(hold.student_id), Presence(0))
        decision = decide(
            amount=hold.amount,
            tutor_bps=hold.tutor_bps,
            attended_s=presence.attended_s,
            total_s=facts.total_s,
            threshold_percent=latest.threshold_percent,
            tutor_absent=facts.tutor_absent,
            cancelled=facts.cancelled,
        )
        if decision.to_student == latest.to_student:
            await session.execute(delete(Review).where(Review.hold_id == hold.id))
        elif await _adjust(session, hold, latest, decision, version, now):
            await session.execute(delete(Review).where(Review.hold_id == hold.id))
            adjusted.append(HoldId(hold.id))
        else:
            await _note_for_review(session, hold, decision, version, now)
            to_review.append(HoldId(hold.id))
    return Reconsidered(tuple(adjusted), tuple(to_review))


async def _settle(session: AsyncSession, lesson_id: UUID, now: datetime) -> Settled:
    """Move the money of a lesson whose due row is deleted by this transaction."""
    crashpoint("settlement.claimed")
    facts = await session.get_one(FactsRow, (lesson_id, FROZEN))
    found = await _held(session, lesson_id)
    if not found:
        return Settled(lesson_id, (), ())
    terms = await policy.versions(session, {hold.policy_version for hold, _ in found})
    settled = [
        _Settled(
            hold, _judge(facts, hold, attended_s, terms), _risk_until(terms[hold.policy_version], hold, now)
        )
        for hold, attended_s in found
    ]
    order = Order(
        kind=JournalKind.SETTLEMENT,
        scope="settle",
        key=str(lesson_id),
        request=lesson_id,
        actor=facts.actor or ACTOR,
        reason=facts.reason or settled[0].decision.cause,
        ref_type="lesson",
        ref_id=lesson_id,
        at=now,
    )
    events, done = _tell(facts, settled)
    rows = (_rows(facts, settled, order), outbox.rows(session, events, at=now))
    posted = await ledger.post(session, order, _legs(lesson_id, settled), rows=rows)
    assert not posted.replayed, "the due row was there, so nobody settled this lesson before"
    await maturity.begin(session, [(one.hold, one.risk_until) for one in settled])
    crashpoint("settlement.written")
    return done


class _Settled(msgspec.Struct, frozen=True):
    """A hold and what becomes of it."""

    hold: Hold
    decision: Decision
    risk_until: datetime | None


async def _held(session: AsyncSession, lesson_id: UUID) -> Sequence[tuple[Hold, int]]:
    """Lock the open holds of a lesson by id, and return each with its student's seconds."""
    seconds = (
        select(PresenceRow.attended_s)
        .where(
            PresenceRow.lesson_id == Hold.lesson_id,
            PresenceRow.version == FROZEN,
            PresenceRow.student_id == Hold.student_id,
        )
        .scalar_subquery()
    )
    rows = await session.execute(
        select(Hold, func.coalesce(seconds, 0))
        .where(Hold.lesson_id == lesson_id, Hold.status == HoldStatus.HELD)
        .order_by(Hold.id)
        .with_for_update(key_share=True, of=Hold)
        .execution_options(populate_existing=True)
    )
    return [(hold, attended_s) for hold, attended_s in rows]


def _judge(facts: FactsRow, hold: Hold, attended_s: int, terms: Mapping[int, Policy]) -> Decision:
    return decide(
        amount=hold.amount,
        tutor_bps=hold.tutor_bps,
        attended_s=attended_s,
        total_s=facts.total_s,
        threshold_percent=terms[hold.policy_version].attendance_percent,
        tutor_absent=facts.tutor_absent,
        cancelled=facts.cancelled,
    )


def _rows(facts: FactsRow, settled: Sequence[_Settled], order: Order) -> Rows:
    """Return what is stored of a settlement."""
    decisions = [one.decision for one in settled]
    return Rows(
        cast(Table, Settlement.__table__),
        {
            "hold_id": [one.hold.id for one in settled],
            "amount": [one.hold.amount for one in settled],
            "tutor_bps": [one.hold.tutor_bps for one in settled],
            "to_tutor": [decision.to_tutor for decision in decisions],
            "to_platform": [decision.to_platform for decision in decisions],
            "to_student": [decision.to_student for decision in decisions],
            "cause": [decision.cause.value for decision in decisions],
            "attended_s": [decision.attended_s for decision in decisions],
            "total_s": [decision.total_s for decision in decisions],
            "threshold_percent": [decision.threshold_percent for decision in decisions],
            "risk_until": [one.risk_until for one in settled],
        },
        {
            "number": 0,
            "actor": order.actor,
            "reason": facts.reason,
            "lesson_id": facts.lesson_id,
            "facts_version": FROZEN,
            "settled_at": order.at,
        },
        journal="journal_id",
    )


def _legs(lesson_id: UUID, settled: Sequence[_Settled]) -> list[Leg]:
    """Return the legs that empty the escrow: to tutor and platform, or back to the student."""
    legs: list[Leg] = []
    for one in settled:
        hold, decision = one.hold, one.decision
        parts = (
            (_earnings(hold, one.risk_until), decision.to_tutor),
            (ledger.revenue(lesson_id, hold.currency), decision.to_platform),
            (hold.wallet_account, decision.to_student),
        )
        legs += [
            Leg(hold.escrow_account, account, Money(amount, hold.currency), HoldId(hold.id))
            for account, amount in parts
            if amount
        ]
    return legs


def _tell(facts: FactsRow, settled: Sequence[_Settled]) -> tuple[list[msgspec.Struct], Settled]:
    """Return the events of a settlement, and what it did."""
    events: list[msgspec.Struct] = []
    released_ids: list[HoldId] = []
    refunded_ids: list[HoldId] = []
    changed: set[tuple[UUID, str]] = set()
    for one in settled:
        hold, decision = one.hold, one.decision
        if decision.to_student == hold.amount:
            events.append(refunded(hold, decision.cause, facts.reason))
            refunded_ids.append(HoldId(hold.id))
        else:
            events.append(_released(hold, decision))
            released_ids.append(HoldId(hold.id))
            changed.add((hold.tutor_id, hold.currency))
        # What was held for the student is not held any more, either way.
        changed.add((hold.student_id, hold.currency))
    events += [WalletChanged(OwnerId(owner_id), currency) for owner_id, currency in sorted(changed)]
    return events, Settled(facts.lesson_id, tuple(released_ids), tuple(refunded_ids))


async def _adjust(
    session: AsyncSession, hold: Hold, latest: Settlement, decision: Decision, version: int, now: datetime
) -> bool:
    """Move the difference, if the risk window allows it and the money is there."""
    if (
        latest.risk_until is None
        or now >= latest.risk_until
        or not await maturity.is_at_risk(session, hold.id)
    ):
        return False
    tutor = _earnings(hold, latest.risk_until)
    assert hold.lesson_id is not None, "a settled lesson has its holds"
    platform = ledger.revenue(hold.lesson_id, hold.currency)
    ids = await ledger.accounts(session, (tutor, platform))
    legs: list[Leg] = []
    for account, change in (
        (ids[tutor], decision.to_tutor - latest.to_tutor),
        (ids[platform], decision.to_platform - latest.to_platform),
    ):
        # The split is frozen, so both shares rise out of the student's wallet or both fall back into it.
        giver, taker = (hold.wallet_account, account) if change > 0 else (account, hold.wallet_account)
        if change:
            legs.append(Leg(giver, taker, Money(abs(change), hold.currency), HoldId(hold.id)))
    number = latest.number + 1
    order = Order(
        kind=JournalKind.ADJUSTMENT,
        scope="adjustment",
        key=f"{hold.id}:{number}",
        request=decision,
        actor=ACTOR,
        reason="late evidence",
        ref_type="hold",
        ref_id=hold.id,
        at=now,
    )
    try:
        async with session.begin_nested():
            posted = await ledger.post(session, order, legs)
    except InsufficientFundsError:
        return False
    await session.execute(
        insert(Settlement).values(
            _row(hold, decision)
            | {
                "number": number,
                "cause": Cause.ADJUSTMENT,
                "actor": order.actor,
                "reason": order.reason,
                "facts_version": version,
                "risk_until": latest.risk_until,
                "journal_id": posted.journal_id,
                "settled_at": now,
            }
        )
    )
    crashpoint("adjustment.written")
    outbox.record(session, _adjusted(hold, decision), at=now)
    for owner_id in (hold.student_id, hold.tutor_id):
        outbox.record(session, WalletChanged(OwnerId(owner_id), hold.currency), at=now)
    return True


async def _note_for_review(
    session: AsyncSession, hold: Hold, decision: Decision, version: int, now: datetime
) -> None:
    noted = {"facts_version": version, "to_student": decision.to_student, "opened_at": now}
    await session.execute(
        upsert(Review)
        .values(hold_id=hold.id, lesson_id=hold.lesson_id, **noted)
        .on_conflict_do_update(index_elements=[Review.hold_id], set_=noted)
    )


async def _settled_holds(session: AsyncSession, lesson_id: UUID) -> Sequence[tuple[Hold, Settlement]]:
    """Return the holds of a lesson that facts decided, locked, each with its newest settlement."""
    newest = (
        select(Settlement.hold_id, func.max(Settlement.number).label("number"))
        .where(Settlement.lesson_id == lesson_id)
        .group_by(Settlement.hold_id)
        .subquery()
    )
    rows = await session.execute(
        select(Hold, Settlement)
        .join(newest, newest.c.hold_id == Hold.id)
        .join(Settlement, (Settlement.hold_id == newest.c.hold_id) & (Settlement.number == newest.c.number))
        .where(Settlement.cause.in_((Cause.ATTENDANCE, Cause.TUTOR_ABSENT, Cause.ADJUSTMENT)))
        .order_by(Hold.id)
        .with_for_update(key_share=True, of=Hold)
    )
    return [(hold, settlement) for hold, settlement in rows]


async def _newest(session: AsyncSession, lesson_id: UUID) -> FactsRow | None:
    return await session.scalar(
        select(FactsRow).where(FactsRow.lesson_id == lesson_id).order_by(FactsRow.version.desc()).limit(1)
    )


async def _write_facts(session: AsyncSession, facts: LessonFacts, version: int, now: datetime) -> None:
    terms = await policy.current(session, facts.ended_at)
    await session.execute(
        insert(FactsRow).values(
            lesson_id=facts.lesson_id,
            version=version,
            tutor_id=facts.tutor_id,
            planned_s=facts.planned_s,
            total_s=facts.total_s,
            tutor_attended_s=facts.tutor_attended_s,
            tutor_absent=facts.tutor_absent,
            cancelled=facts.cancelled,
            actor=facts.actor,
            reason=facts.reason,
            absence_percent=terms.attendance_percent,
            ended_at=facts.ended_at,
            evidence=msgspec.to_builtins(facts.evidence, str_keys=True),
            digest=facts.digest,
            recorded_at=now,
        )
    )
    rows = [
        {
            "lesson_id": facts.lesson_id,
            "version": version,
            "student_id": student_id,
            "attended_s": presence.attended_s,
            "intervals": msgspec.to_builtins(presence.intervals),
            "confidence": presence.confidence,
        }
        for student_id, presence in facts.students.items()
    ]
    if rows:
        await session.execute(insert(PresenceRow), rows)


def _row(hold: Hold, decision: Decision) -> dict[str, object]:
    """Return what an adjustment stores of the new division."""
    return {
        "hold_id": hold.id,
        "amount": hold.amount,
        "tutor_bps": hold.tutor_bps,
        "to_tutor": decision.to_tutor,
        "to_platform": decision.to_platform,
        "to_student": decision.to_student,
        "lesson_id": hold.lesson_id,
        "attended_s": decision.attended_s,
        "total_s": decision.total_s,
        "threshold_percent": decision.threshold_percent,
    }


def _risk_until(terms: Policy, hold: Hold, now: datetime) -> datetime | None:
    window = terms.risk_window(SourceKind(hold.source_kind))
    return now + window if window else None


def _earnings(hold: Hold, risk_until: datetime | None) -> AccountKey:
    kind = AccountKind.EARNINGS if risk_until is None else AccountKind.EARNINGS_PENDING
    return AccountKey(kind, hold.tutor_id, hold.currency)


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


def _adjusted(hold: Hold, decision: Decision) -> HoldAdjusted:
    return HoldAdjusted(
        hold_id=HoldId(hold.id),
        student_id=OwnerId(hold.student_id),
        tutor_id=OwnerId(hold.tutor_id),
        lesson_id=hold.lesson_id,
        source_kind=SourceKind(hold.source_kind),
        source_id=hold.source_id,
        amount=Money(hold.amount, hold.currency),
        tutor_share=Money(decision.to_tutor, hold.currency),
        platform_share=Money(decision.to_platform, hold.currency),
        refunded=Money(decision.to_student, hold.currency),
    )

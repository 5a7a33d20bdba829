"""Settle the holds of a lesson that is over, exactly once.

Level-triggered: whether a lesson is due is a row (`settle_due`), not a message. The room that ends, a repeated
end and the sweeper may all ask; whoever deletes the row moves the money, in the same transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import ColumnElement, Select, Uuid, bindparam, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import aliased

from billing import divisions, ledger, maturity, outbox, packages, payment_moves, policy, releases, reviews
from billing.crashpoints import crashpoint
from billing.divisions import Division
from billing.errors import BillingError, InsufficientFundsError, LessonNotSettledError
from billing.facts import Decision, LessonFacts, decide, decide_booking, is_absent, is_by_outcome
from billing.ledger import AccountKey, Order
from billing.messages import HoldAdjusted, WalletChanged
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
    Payment,
    PaymentMethod,
    PaymentReason,
    PresenceRow,
    Settlement,
    SourceKind,
)
from billing.money import Money
from billing.payment_moves import Wish
from billing.policy import Policy
from billing.releases import Release

log = structlog.get_logger()

ACTOR = "system:settlement"

# Version of the facts that decide the settlement; what comes later can only adjust.
FROZEN = 1


class Settled(msgspec.Struct, frozen=True):
    """What one settlement did."""

    lesson_id: UUID
    released: tuple[HoldId, ...]
    refunded: tuple[HoldId, ...]


class Foreseen(msgspec.Struct, frozen=True):
    """What would become of one hold."""

    student_id: OwnerId
    amount: Money
    decision: Decision


class Reconsidered(msgspec.Struct, frozen=True):
    """What late evidence did."""

    adjusted: tuple[HoldId, ...] = ()
    to_review: tuple[HoldId, ...] = ()


def _take(which: ColumnElement[bool]) -> Select[FactsRow, Sequence[UUID], Sequence[int], bool, bool]:
    """Return the statement that takes a lesson off the list, and reads what decides its money.

    That is frozen: it stands since the facts were written, under the lock of the lesson.
    """
    taken = delete(Due).where(which).returning(Due.lesson_id, Due.version).cte("taken")
    return (
        select(
            FactsRow,
            func.array_agg(PresenceRow.student_id),
            func.array_agg(PresenceRow.attended_s),
            select(Payment.id).where(Payment.lesson_id == FactsRow.lesson_id).exists(),
            select(Hold.id)
            .where(Hold.lesson_id == FactsRow.lesson_id, Hold.source_kind == SourceKind.PACKAGE_SLICE)
            .exists(),
        )
        .join(taken, (taken.c.lesson_id == FactsRow.lesson_id) & (taken.c.version == FactsRow.version))
        .outerjoin(
            PresenceRow,
            (PresenceRow.lesson_id == FactsRow.lesson_id) & (PresenceRow.version == FactsRow.version),
        )
        .group_by(FactsRow.lesson_id, FactsRow.version)
    )


# Made once: to put such a statement together costs as much as to send it.
_LESSON = bindparam("lesson", type_=Uuid)
_TAKE = _take(Due.lesson_id == _LESSON)
_TAKE_FREE = _take(
    Due.lesson_id
    == select(Due.lesson_id)
    .where(Due.lesson_id == _LESSON)
    .with_for_update(skip_locked=True)
    .scalar_subquery()
)
_HELD = (
    select(Hold)
    .where(Hold.lesson_id == _LESSON, Hold.status == HoldStatus.HELD)
    .order_by(Hold.id)
    .with_for_update(key_share=True)
    .execution_options(populate_existing=True)
)


class _Claimed(msgspec.Struct, frozen=True):
    """A lesson whose money this transaction moves, and what decides that."""

    facts: FactsRow
    attended: Mapping[UUID, int]
    """Seconds by student; who was never there is not among them."""
    is_booked: bool
    """Whether payments belong to it."""
    is_packed: bool
    """Whether packages pay for it."""


async def due(session: AsyncSession, facts: LessonFacts, *, now: datetime) -> bool:
    """Freeze what is known about a lesson and make its settlement due; return False if that was done before.

    From here on no hold can be placed for the lesson, and later evidence goes to `reconsider`.
    """
    await ledger.lock_lessons(session, [facts.lesson_id], shared=False)
    if await _newest(session, facts.lesson_id) is not None:
        return False
    await _write_facts(session, facts, FROZEN, now, is_by_hold=True)
    await session.execute(insert(Due).values(lesson_id=facts.lesson_id, due_at=now))
    crashpoint("due.written")
    return True


async def settle(session: AsyncSession, lesson_id: UUID, *, now: datetime) -> Settled | None:
    """Release or refund every open hold of a lesson; return None if the lesson is not due (any more)."""
    claimed = await _claim(session, _TAKE, lesson_id)
    return None if claimed is None else await _settle(session, claimed, now)


async def foresee(session: AsyncSession, facts: LessonFacts) -> Sequence[Foreseen]:
    """Return what `settle` would do with each open hold of a lesson if these were its facts. Nothing is written.

    Of packages only what is paid: a lesson that was not given goes back to its package. A booking that is to be paid by
    card has no hold yet.
    """
    held = select(Hold).where(Hold.lesson_id == facts.lesson_id, Hold.status == HoldStatus.HELD)
    holds = (await session.scalars(held.order_by(Hold.id))).all()
    return [
        Foreseen(OwnerId(hold.student_id), Money(hold.amount, hold.currency), decision)
        for hold, _, decision in await _decided(session, holds, facts, _attended(facts))
        if hold.source_kind != SourceKind.PACKAGE_SLICE or decision.to_student == 0
    ]


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
                claimed = await _claim(session, _TAKE_FREE, lesson_id)
                if claimed is not None:
                    await _settle(session, claimed, now)
                    settled += 1
        except (BillingError, SQLAlchemyError):
            log.exception("settlement_failed", lesson_id=str(lesson_id))
    return settled


async def reconsider(session: AsyncSession, facts: LessonFacts, *, now: datetime) -> Reconsidered:
    """Judge a settled lesson again by evidence that came late, and each hold by the rule that settled it.

    No hold changes. A different outcome within the risk window is an adjustment, a journal of its own; outside of
    it, where the money is gone, or where the lesson went back to its package, the hold is noted for review. What an
    admin decided or a cancellation gave back stays. The tutor is measured as when the lesson was frozen: by the terms of
    each sale, or, where a process of once froze it, by the one threshold that decided then.

    Raises:
        LessonNotSettledError: The lesson's holds wait for their settlement, or it never ended.
    """
    await ledger.lock_lessons(session, [facts.lesson_id], shared=False)
    newest = await _newest(session, facts.lesson_id)
    waiting = await session.scalar(select(Due.lesson_id).where(Due.lesson_id == facts.lesson_id))
    if newest is None or waiting is not None:
        raise LessonNotSettledError(facts.lesson_id)
    frozen = await session.get_one(FactsRow, (facts.lesson_id, FROZEN))
    # A process of once may have heard of the same by another rule.
    if (newest.digest, newest.is_by_hold) == (facts.digest, frozen.is_by_hold):
        return Reconsidered()
    version = newest.version + 1
    told = await _write_facts(session, facts, version, now, is_by_hold=frozen.is_by_hold)
    attended = _attended(facts)
    adjusted: list[HoldId] = []
    to_review: list[HoldId] = []
    booked = {payment.hold_id: payment for payment in await payment_moves.of_lesson(session, facts.lesson_id)}
    judged = []
    for hold, latest, first_cause in await _settled_holds(session, facts.lesson_id):
        by_outcome = is_by_outcome(SourceKind(hold.source_kind), first_cause)
        judged.append(
            (hold, latest, _judged(hold, _threshold(latest), told, attended, by_outcome=by_outcome))
        )
    await _lock_accounts(session, judged, now)
    for hold, latest, decision in judged:
        payment = booked.get(hold.id)
        if decision.to_student == latest.to_student:
            await reviews.forget(session, hold, facts.lesson_id)
        elif (payment is None or payment_moves.may_follow(payment, decision.to_student)) and await _adjust(
            session, hold, latest, decision, version, now
        ):
            await reviews.forget(session, hold, facts.lesson_id)
            if payment is not None:
                await payment_moves.follow(
                    session, payment, Wish(reason=PaymentReason.LATE_EVIDENCE), actor=ACTOR, now=now
                )
            adjusted.append(HoldId(hold.id))
        else:
            await reviews.note(
                session, hold, facts.lesson_id, decision.to_student, facts_version=version, now=now
            )
            to_review.append(HoldId(hold.id))
    returned = await packages.returned(session, facts.lesson_id)
    terms = await policy.versions(session, {hold.policy_version for hold, _ in returned})
    for hold, by_outcome in returned:
        percent = terms[hold.policy_version].attendance_percent
        decision = _judged(hold, percent, told, attended, by_outcome=by_outcome)
        if decision.to_student == hold.amount:
            await reviews.forget(session, hold, facts.lesson_id)
        else:
            await reviews.note(
                session, hold, facts.lesson_id, decision.to_student, facts_version=version, now=now
            )
            to_review.append(HoldId(hold.id))
    return Reconsidered(tuple(adjusted), tuple(to_review))


def judge(
    hold: Hold,
    threshold_percent: int,
    *,
    by_outcome: bool,
    attended_s: int,
    tutor_attended_s: int,
    total_s: int,
    tutor_absent: bool,
    cancelled: bool,
) -> Decision:
    """Decide one hold by what is known of its lesson: by who came, or by attendance (`facts.is_by_outcome`)."""
    if by_outcome:
        return decide_booking(
            amount=hold.amount,
            tutor_bps=hold.tutor_bps,
            attended_s=attended_s,
            total_s=total_s,
            threshold_percent=threshold_percent,
            tutor_attended_s=tutor_attended_s,
            cancelled=cancelled,
        )
    return decide(
        amount=hold.amount,
        tutor_bps=hold.tutor_bps,
        attended_s=attended_s,
        total_s=total_s,
        threshold_percent=threshold_percent,
        tutor_absent=tutor_absent,
        cancelled=cancelled,
    )


async def _claim(
    session: AsyncSession, take: Select[FactsRow, Sequence[UUID], Sequence[int], bool, bool], lesson_id: UUID
) -> _Claimed | None:
    """Take a lesson off the list of those that are due; return None if it is not there (any more)."""
    row = (await session.execute(take, {"lesson": lesson_id})).one_or_none()
    if row is None:
        return None
    facts, students, seconds, is_booked, is_packed = row
    # Of a lesson without students the one row is empty.
    return _Claimed(facts, dict(zip(students, seconds, strict=True)), is_booked, is_packed)


async def _settle(session: AsyncSession, claimed: _Claimed, now: datetime) -> Settled:
    """Move the money of a lesson whose due row is deleted by this transaction."""
    crashpoint("settlement.claimed")
    facts, attended = claimed.facts, claimed.attended
    lesson_id = facts.lesson_id
    if claimed.is_packed and (facts.cancelled or not facts.tutor_attended_s):
        await packages.return_lesson(session, lesson_id, now=now)
    booked = await payment_moves.of_lesson(session, lesson_id) if claimed.is_booked else ()
    holds = (await session.scalars(_HELD, {"lesson": lesson_id})).all()
    if not holds and not booked:
        return Settled(lesson_id, (), ())
    for payment in booked:
        if payment.method == PaymentMethod.CARD and payment.hold_id is not None:
            # What goes back may go on to the card, in a journal of its own.
            await payment_moves.lock_accounts(session, payment)
    ids = await _release(session, facts, holds, attended, now) if holds else ((), ())
    for payment in booked:
        came = payment_moves.Came(
            student_s=attended.get(payment.student_id, 0),
            tutor_s=facts.tutor_attended_s,
            cancelled=facts.cancelled,
        )
        await payment_moves.settle_outcome(session, payment, came, now=now)
    crashpoint("settlement.written")
    return Settled(lesson_id, *ids)


async def _release(
    session: AsyncSession,
    facts: FactsRow,
    holds: Sequence[Hold],
    attended: Mapping[UUID, int],
    now: datetime,
) -> tuple[tuple[HoldId, ...], tuple[HoldId, ...]]:
    """Settle the holds of a lesson in one journal."""
    decided = [
        Release(hold, decision, releases.risk_until(terms, hold, now))
        for hold, terms, decision in await _decided(session, holds, facts, attended)
    ]
    order = Order(
        kind=JournalKind.SETTLEMENT,
        scope="settle",
        key=str(facts.lesson_id),
        request=facts.lesson_id,
        actor=facts.actor or ACTOR,
        reason=facts.reason or decided[0].decision.cause,
        ref_type="lesson",
        ref_id=facts.lesson_id,
        at=now,
    )
    return await releases.settle(session, decided, order, reason=facts.reason, facts_version=FROZEN)


async def _decided(
    session: AsyncSession,
    holds: Sequence[Hold],
    facts: FactsRow | LessonFacts,
    attended: Mapping[OwnerId, int] | Mapping[UUID, int],
) -> Sequence[tuple[Hold, Policy, Decision]]:
    """Return with each hold the terms it was placed under, and what they make of the facts."""
    terms = await policy.versions(session, {hold.policy_version for hold in holds})
    return [
        (
            hold,
            terms[hold.policy_version],
            _judged(
                hold,
                terms[hold.policy_version].attendance_percent,
                facts,
                attended,
                by_outcome=is_by_outcome(SourceKind(hold.source_kind)),
            ),
        )
        for hold in holds
    ]


async def _lock_accounts(
    session: AsyncSession, judged: Sequence[tuple[Hold, Settlement, Decision]], now: datetime
) -> None:
    """Lock the accounts of all adjustments at once: each is a journal, and one after the other would be another order."""
    wanted = [
        account
        for hold, latest, decision in judged
        if decision.to_student != latest.to_student and _is_within(latest, now)
        for account in (
            releases.earnings(hold, latest.risk_until),
            divisions.revenue(hold),
            AccountKey(AccountKind.WALLET, hold.student_id, hold.currency),
        )
    ]
    if wanted:
        await ledger.accounts(session, wanted)
        await ledger.locked(session, wanted)


def _is_within(latest: Settlement, now: datetime) -> bool:
    """Return whether late evidence may still adjust this by itself."""
    return latest.risk_until is not None and now < latest.risk_until


def _threshold(latest: Settlement) -> int:
    assert latest.threshold_percent is not None, "facts decided it, so it has a threshold"
    return latest.threshold_percent


async def _adjust(
    session: AsyncSession, hold: Hold, latest: Settlement, decision: Decision, version: int, now: datetime
) -> bool:
    """Move the difference, if the risk window allows it and the money is there."""
    if not _is_within(latest, now) or not await maturity.is_at_risk(session, hold.id):
        return False
    division = Division(decision.to_tutor, decision.to_platform, decision.to_student)
    order = Order(
        kind=JournalKind.ADJUSTMENT,
        scope="adjustment",
        key=f"{hold.id}:{latest.number + 1}",
        request=decision,
        actor=ACTOR,
        reason="late evidence",
        ref_type="hold",
        ref_id=hold.id,
        at=now,
    )
    try:
        async with session.begin_nested():
            await divisions.change(
                session,
                hold,
                latest,
                division,
                order,
                cause=Cause.ADJUSTMENT,
                tutor=[(releases.earnings(hold, latest.risk_until), division.to_tutor - latest.to_tutor)],
                known=releases.known(hold, decision) | {"facts_version": version},
            )
    except InsufficientFundsError:
        return False
    crashpoint("adjustment.written")
    outbox.record(session, _adjusted(hold, decision), at=now)
    for owner_id in (hold.student_id, hold.tutor_id):
        outbox.record(session, WalletChanged(OwnerId(owner_id), hold.currency), at=now)
    return True


def _judged(
    hold: Hold,
    threshold_percent: int,
    facts: FactsRow | LessonFacts,
    attended: Mapping[OwnerId, int] | Mapping[UUID, int],
    *,
    by_outcome: bool,
) -> Decision:
    return judge(
        hold,
        threshold_percent,
        by_outcome=by_outcome,
        attended_s=attended.get(OwnerId(hold.student_id), 0),
        tutor_attended_s=facts.tutor_attended_s,
        total_s=facts.total_s,
        tutor_absent=_is_absent(facts, threshold_percent),
        cancelled=facts.cancelled,
    )


def _is_absent(facts: FactsRow | LessonFacts, own_percent: int) -> bool:
    """Say whether the lesson counts as not given to a hold whose terms name this threshold."""
    return is_absent(
        facts.tutor_attended_s,
        planned_s=facts.planned_s,
        total_s=facts.total_s,
        threshold_percent=facts.tutor_percent(own_percent) if isinstance(facts, FactsRow) else own_percent,
    )


def _attended(facts: LessonFacts) -> Mapping[OwnerId, int]:
    return {student_id: presence.attended_s for student_id, presence in facts.students.items()}


async def _settled_holds(session: AsyncSession, lesson_id: UUID) -> Sequence[tuple[Hold, Settlement, Cause]]:
    """Return the holds of a lesson that facts decided, locked, each with its newest settlement and its first cause."""
    # A statement of its own: what others did while this one waited for them is only seen by the next.
    holds = select(Hold.id).where(Hold.lesson_id == lesson_id).order_by(Hold.id)
    await session.execute(holds.with_for_update(key_share=True))
    first = aliased(Settlement)
    newest = (
        select(Settlement.hold_id, func.max(Settlement.number).label("number"))
        # By the hold: what people gave back names no lesson.
        .join(Hold, Hold.id == Settlement.hold_id)
        .where(Hold.lesson_id == lesson_id)
        .group_by(Settlement.hold_id)
        .subquery()
    )
    rows = await session.execute(
        select(Hold, Settlement, first.cause)
        .join(newest, newest.c.hold_id == Hold.id)
        .join(Settlement, (Settlement.hold_id == newest.c.hold_id) & (Settlement.number == newest.c.number))
        .join(first, (first.hold_id == newest.c.hold_id) & (first.number == 0))
        .where(Settlement.cause.in_((Cause.ATTENDANCE, Cause.TUTOR_ABSENT, Cause.OUTCOME, Cause.ADJUSTMENT)))
        .order_by(Hold.id)
    )
    return [(hold, settlement, Cause(cause)) for hold, settlement, cause in rows]


async def _newest(session: AsyncSession, lesson_id: UUID) -> FactsRow | None:
    return await session.scalar(
        select(FactsRow).where(FactsRow.lesson_id == lesson_id).order_by(FactsRow.version.desc()).limit(1)
    )


async def _write_facts(
    session: AsyncSession, facts: LessonFacts, version: int, now: datetime, *, is_by_hold: bool
) -> FactsRow:
    terms = await policy.current(session, facts.ended_at)
    told = await session.scalars(
        insert(FactsRow)
        .values(
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
            is_by_hold=is_by_hold,
            ended_at=facts.ended_at,
            evidence=msgspec.to_builtins(facts.evidence, str_keys=True),
            digest=facts.digest,
            recorded_at=now,
        )
        .returning(FactsRow)
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
    return told.one()


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

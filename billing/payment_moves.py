"""How a payment goes along its arrows, and its money with it.

Callers have locked the payment, and whatever stands before it in the order of locks: lesson → payment → hold. People come
by `payments.py`, the end of a lesson by `settlement.py`, a card by `card_payments.py`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TypedDict
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import ColumnElement, Select, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from billing import card_refunds, holds, jobs, ledger, outbox, payment_states, policy, refunds, releases
from billing.crashpoints import crashpoint
from billing.errors import PaymentNotFoundError, PaymentStateError
from billing.facts import Decision, decide_booking, paid
from billing.holds import NewHold
from billing.ledger import AccountKey, Order
from billing.messages import PaymentAuthorized, PaymentCaptured, PaymentRefunded, PaymentVoided
from billing.models import (
    AccountKind,
    Cause,
    FactsRow,
    Hold,
    HoldId,
    HoldStatus,
    JournalKind,
    OwnerId,
    Payment,
    PaymentEvent,
    PaymentMethod,
    PaymentReason,
    PaymentRefund,
    PaymentState,
    PresenceRow,
    Review,
    Settlement,
    SourceKind,
    Verdict,
)
from billing.money import Money
from billing.refunds import GivenBack
from billing.releases import Release

# Kind of the job that carries a card on.
CARD_JOB = "card_payment"
# Who decides when the end of a lesson does.
OUTCOME = "system:settlement"
# Version of a lesson's facts that decides; what comes later can only adjust.
FROZEN = 1
_OPENED_BY_OTHERS = (AccountKind.FROZEN, AccountKind.TUTOR_DEBT)
# Key of the one refund of a card whose payment was let go.
LET_GO = "void"


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be paid; everything that decides its money is frozen when the payment is opened."""

    id: UUID
    lesson_id: UUID
    student_id: OwnerId
    tutor_id: OwnerId
    money: Money
    tutor_bps: int
    attribution: str
    policy_version: int
    starts_at: datetime


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """What the facts of a lesson say of one booking."""

    student_s: int
    tutor_s: int
    cancelled: bool


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to go back, and how."""

    amount: Money | None = None
    """None for all that is left."""
    to_card: bool = False
    """From the wallet on to the card that it came from."""
    reason: PaymentReason
    words: str | None = None
    """Shown to both parties."""
    key: str | None = None
    """The same key is the same refund; what nobody asked for has none."""


class _Back(msgspec.Struct, frozen=True):
    """What went back, by which division of the hold, and how it was asked for."""

    settled: Settlement
    amount: int
    wish: Wish


class CardDue(msgspec.Struct, frozen=True):
    """Payload of the card's job."""

    payment_id: UUID


class Told(TypedDict):
    """What each event of a payment says."""

    payment_id: UUID
    lesson_id: UUID
    student_id: OwnerId
    tutor_id: OwnerId
    amount: Money
    reason: PaymentReason


async def locked(session: AsyncSession, payment_id: UUID) -> Payment:
    """Lock a payment and read it as it is now; whoever changes its hold does this first.

    Raises:
        PaymentNotFoundError: There is none.
    """
    row = await session.scalar(_locking(Payment.id == payment_id))
    if row is None:
        raise PaymentNotFoundError
    return row


async def of_lesson(session: AsyncSession, lesson_id: UUID) -> Sequence[Payment]:
    """Lock and return the payments of a lesson."""
    return (await session.scalars(_locking(Payment.lesson_id == lesson_id).order_by(Payment.id))).all()


async def of_hold(session: AsyncSession, hold_id: UUID) -> Payment | None:
    """Lock and return the payment that a hold belongs to, before the hold itself is locked."""
    return await session.scalar(_locking(Payment.hold_id == hold_id))


async def of_holds(session: AsyncSession, hold_ids: Collection[UUID]) -> None:
    """Lock the payments that these holds belong to, before the holds themselves are locked."""
    await session.execute(_locking(Payment.hold_id.in_(hold_ids)).order_by(Payment.id))


async def decide(
    session: AsyncSession,
    row: Payment,
    verdict: Verdict,
    reason: PaymentReason,
    *,
    actor: str,
    words: str | None,
    now: datetime,
) -> None:
    """Decide how a payment ends, and do it if its money is here; a card is asked by its job."""
    row.verdict, row.verdict_reason, row.verdict_actor, row.verdict_words = verdict, reason, actor, words
    await session.flush()
    if row.hold_id is not None:
        await _conclude(session, row, now)
    else:
        if verdict is Verdict.VOID:
            await _go(session, row, PaymentState.VOIDED, reason, actor, now)
        await look(session, row.id, at=now)
    crashpoint("payment.decided")


async def settle_outcome(session: AsyncSession, row: Payment, came: Came, *, now: datetime) -> None:
    """End the payment of a lesson that is over, by who came; the payment is locked, and its hold is settled already.

    A card that is only authorised is captured next, and settled by the same facts. Whatever was decided before stays.
    """
    if row.verdict is not None:
        return
    verdict, reason = payment_states.outcome(
        student_came=came.student_s > 0, tutor_came=came.tutor_s > 0, cancelled=came.cancelled
    )
    if row.hold_id is not None:
        hold = await session.get_one(Hold, row.hold_id, populate_existing=True)
        if (hold.status == HoldStatus.RELEASED) is not (verdict is Verdict.CAPTURE):
            # Somebody gave the hold back past its payment; money is where it is.
            verdict, reason = Verdict.VOID, PaymentReason.CANCELLED
    if row.hold_id is None:
        await decide(session, row, verdict, reason, actor=OUTCOME, words=None, now=now)
        return
    row.verdict, row.verdict_reason, row.verdict_actor = verdict, reason, OUTCOME
    await session.flush()
    await _walk(session, row, now)


async def reserved(session: AsyncSession, row: Payment, *, now: datetime) -> None:
    """The money of a locked payment is there; if the tutor has agreed too, it is authorised."""
    if row.state != PaymentState.PENDING or row.accepted_at is None or row.verdict is not None:
        return
    assert row.accepted_by is not None, "whoever agrees is written down"
    await _go(
        session,
        row,
        PaymentState.AUTHORIZED,
        PaymentReason.ACCEPTED,
        row.accepted_by,
        now,
        authorized=row.amount,
    )


async def place(session: AsyncSession, booking: Booking, *, now: datetime) -> HoldId:
    """Hold a booking's price in escrow, from the student's wallet.

    Raises:
        InsufficientFundsError: The wallet has too little.
        AlreadyHeldError: The student has an open hold for this lesson.
        LessonOverError: The lesson is over.
    """
    hold = NewHold(
        id=HoldId(uuid4()),
        lesson_id=booking.lesson_id,
        tutor_id=booking.tutor_id,
        money=booking.money,
        tutor_bps=booking.tutor_bps,
        attribution=booking.attribution,
        policy_version=booking.policy_version,
        source_kind=SourceKind.BOOKING,
        source_id=booking.id,
    )
    key = f"payment:{booking.id}"
    return (await holds.place(session, holds=[hold], student_id=booking.student_id, key=key, now=now))[0]


async def take_in(session: AsyncSession, row: Payment, *, now: datetime) -> None:
    """Hold what a card brought into the wallet; what is decided already is done in the same transaction.

    The payment is locked, and its lesson before it. A lesson that is over takes a hold only if it is settled at once;
    the database checks that when the transaction ends.
    """
    booking = Booking(
        id=row.id,
        lesson_id=row.lesson_id,
        student_id=OwnerId(row.student_id),
        tutor_id=OwnerId(row.tutor_id),
        money=Money(row.amount, row.currency),
        tutor_bps=row.tutor_bps,
        attribution=row.attribution,
        policy_version=row.policy_version,
        starts_at=row.starts_at,
    )
    await session.execute(text("select set_config('billing.settling', :id, true)"), {"id": str(row.id)})
    row.hold_id = await place(session, booking, now=now)
    await session.flush()
    if row.verdict is not None:
        await _conclude(session, row, now)


async def send_back(session: AsyncSession, row: Payment, *, now: datetime) -> None:
    """A card was captured while its payment was let go: the money is in the wallet, and goes back."""
    await card_refunds.ask(session, row, row.amount, key=LET_GO, now=now)


async def give_up(session: AsyncSession, row: Payment, *, now: datetime) -> None:
    """The card of a locked payment brings nothing: let the payment go."""
    reason, actor = PaymentReason.CARD_FAILED, "system:cards"
    if row.verdict is None:
        row.verdict, row.verdict_reason, row.verdict_actor = Verdict.VOID, reason, actor
        await session.flush()
    await _go(session, row, PaymentState.VOIDED, reason, actor, now)


def may_follow(row: Payment, to_student: int) -> bool:
    """Return whether a payment can follow a new division of its hold that leaves the student so much."""
    return row.state in (PaymentState.CAPTURED, PaymentState.PARTIALLY_REFUNDED) and to_student > row.refunded


async def follow(
    session: AsyncSession, row: Payment, wish: Wish, *, actor: str, now: datetime
) -> PaymentRefund | None:
    """Bring a locked payment to what the newest division of its hold says; return the refund, if there is one.

    Raises:
        NotByCardError: It is to go to a card, and so much did not come from one.
    """
    settled = (
        await session.scalars(
            select(Settlement)
            .where(Settlement.hold_id == row.hold_id)
            .order_by(Settlement.number.desc())
            .limit(1)
        )
    ).one()
    if not may_follow(row, settled.to_student):
        return None
    given = _Back(settled, settled.to_student - row.refunded, wish)
    state = payment_states.after_refund(row.captured, settled.to_student)
    if state != row.state:
        await _go(session, row, state, wish.reason, actor, now, refunded=settled.to_student)
    row.refunded = settled.to_student
    await session.flush()
    return await _note_refund(session, row, given, actor, now)


async def give_back(
    session: AsyncSession,
    hold_id: UUID,
    *,
    amount: Money | None,
    cause: Cause,
    actor: str,
    reason: str,
    key: str,
    now: datetime,
) -> GivenBack:
    """Give money of any released hold back, and bring the payment that it belongs to along: see `refunds.give_back`.

    Callers who hold the lock of the hold locked its payment before (`of_hold`).
    """
    row = await of_hold(session, hold_id)
    given = await refunds.give_back(
        session, hold_id, amount=amount, cause=cause, actor=actor, reason=reason, key=key, now=now
    )
    if row is not None:
        await follow(session, row, Wish(reason=PaymentReason.OTHER, words=reason), actor=actor, now=now)
    return given


async def look(session: AsyncSession, payment_id: UUID, *, at: datetime) -> None:
    """Have the card of a payment carried on by its job."""
    await jobs.enqueue(session, CARD_JOB, CardDue(payment_id), key=str(payment_id), run_at=at)


def told(row: Payment, reason: PaymentReason) -> Told:
    """Return what each event of a payment says."""
    return Told(
        payment_id=row.id,
        lesson_id=row.lesson_id,
        student_id=OwnerId(row.student_id),
        tutor_id=OwnerId(row.tutor_id),
        amount=Money(row.amount, row.currency),
        reason=reason,
    )


def accounts_of(row: Payment) -> list[AccountKey]:
    """Name every account that money of a payment may go through, but those of Stripe."""
    student = (AccountKind.WALLET, AccountKind.CARD_REFUND)
    tutor = (AccountKind.EARNINGS_PENDING, AccountKind.EARNINGS, AccountKind.TUTOR_DEBT)
    frozen = () if row.hold_id is None else (AccountKey(AccountKind.FROZEN, row.hold_id, row.currency),)
    return [
        *frozen,
        *(AccountKey(kind, row.student_id, row.currency) for kind in student),
        *(AccountKey(kind, row.tutor_id, row.currency) for kind in tutor),
        AccountKey(AccountKind.ESCROW, row.lesson_id, row.currency),
        ledger.revenue(row.lesson_id, row.currency),
    ]


async def lock_accounts(session: AsyncSession, row: Payment, *more: AccountKey) -> None:
    """Lock all accounts of a payment at once, and its hold before them.

    Who posts more than one journal would lock one after the other, which is another order.
    """
    if row.hold_id is not None:
        await _hold_of(session, row)
    wanted = [*accounts_of(row), *more]
    # Whoever freezes a share or makes a debt opens the account.
    await ledger.accounts(session, [key for key in wanted if key.kind not in _OPENED_BY_OTHERS])
    await ledger.locked(session, wanted)


# How it is done -----------------------------------------------------------------------------------------------------


async def _conclude(session: AsyncSession, row: Payment, now: datetime) -> None:
    """Do what was decided with the hold of a payment."""
    hold = await _hold_of(session, row)
    if row.method == PaymentMethod.CARD:
        await lock_accounts(session, row)
    if hold.status != HoldStatus.HELD:
        # Given back past its payment.
        raise PaymentStateError(row.state, row.verdict)
    terms = (await policy.versions(session, {row.policy_version}))[row.policy_version]
    by_facts = row.verdict_actor == OUTCOME
    decision = (
        await _by_facts(session, row, FROZEN, terms.attendance_percent) if by_facts else _by_people(row)
    )
    verdict, reason, actor = _decided(row)
    order = Order(
        kind=JournalKind.REFUND if decision.to_student else JournalKind.SETTLEMENT,
        scope="payment",
        key=f"{row.id}:{verdict}",
        request=(row.id, row.amount, verdict),
        actor=actor,
        reason=row.verdict_words or reason,
        ref_type="booking",
        ref_id=row.id,
        at=now,
    )
    # What people let go is nothing that evidence could change.
    is_judged = by_facts or verdict is Verdict.CAPTURE
    until = releases.risk_until(terms, hold, now) if is_judged else None
    await releases.settle(
        session,
        [Release(hold, decision, until)],
        order,
        reason=row.verdict_words,
        facts_version=FROZEN if by_facts else None,
    )
    if by_facts:
        await _hear_later_facts(session, row, decision, terms.attendance_percent, now)
    await _walk(session, row, now)


async def _hold_of(session: AsyncSession, row: Payment) -> Hold:
    """Lock the hold of a payment and read it as it is now."""
    return (
        await session.scalars(
            select(Hold)
            .where(Hold.id == row.hold_id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
    ).one()


def _by_people(row: Payment) -> Decision:
    """Divide as people decided, without the facts of a lesson."""
    if row.verdict == Verdict.CAPTURE:
        return paid(row.amount, row.tutor_bps, Cause.FORFEITED)
    _, _, actor = _decided(row)
    cause = Cause.ADMIN if actor.startswith("admin:") else Cause.CANCELLED
    return Decision(cause=cause, to_tutor=0, to_platform=0, to_student=row.amount)


async def _by_facts(session: AsyncSession, row: Payment, version: int, threshold_percent: int) -> Decision:
    """Divide as the facts of the lesson ask for."""
    facts = await session.get_one(FactsRow, (row.lesson_id, version))
    presence = await session.get(PresenceRow, (row.lesson_id, version, row.student_id))
    return decide_booking(
        amount=row.amount,
        tutor_bps=row.tutor_bps,
        attended_s=presence.attended_s if presence else 0,
        total_s=facts.total_s,
        threshold_percent=threshold_percent,
        tutor_attended_s=facts.tutor_attended_s,
        cancelled=facts.cancelled,
    )


async def _hear_later_facts(
    session: AsyncSession, row: Payment, decision: Decision, threshold_percent: int, now: datetime
) -> None:
    """Have people look where evidence came before a card was captured, and after the facts were frozen."""
    newest = await session.scalar(
        select(func.max(FactsRow.version)).where(FactsRow.lesson_id == row.lesson_id)
    )
    assert newest is not None, "facts decided it"
    later = await _by_facts(session, row, newest, threshold_percent)
    if later.to_student != decision.to_student:
        noted = {"facts_version": newest, "to_student": later.to_student, "opened_at": now}
        await session.execute(upsert(Review).values(hold_id=row.hold_id, lesson_id=row.lesson_id, **noted))


async def _walk(session: AsyncSession, row: Payment, now: datetime) -> None:
    """Go the way of a verdict whose money has moved."""
    verdict, reason, actor = _decided(row)
    for state in payment_states.path(PaymentState(row.state), verdict):
        match state:
            case PaymentState.AUTHORIZED:
                await _go(session, row, state, PaymentReason.ACCEPTED, actor, now, authorized=row.amount)
            case PaymentState.CAPTURED:
                await _go(session, row, state, reason, actor, now, captured=row.amount)
            case PaymentState.REFUNDED:
                await _go(session, row, state, reason, actor, now, refunded=row.amount)
                await _note_return(session, row, reason, actor, now)
            case _:
                await _go(session, row, state, reason, actor, now)
                await session.flush()
                if row.method == PaymentMethod.CARD:
                    # It was taken before it could be lost.
                    await send_back(session, row, now=now)
    await session.flush()


def _decided(row: Payment) -> tuple[Verdict, PaymentReason, str]:
    """Return how a payment ends, why, and by whose word."""
    assert row.verdict is not None, "only what is decided is done"
    assert row.verdict_reason is not None, "a constraint says so"
    assert row.verdict_actor is not None, "a constraint says so"
    return Verdict(row.verdict), PaymentReason(row.verdict_reason), row.verdict_actor


async def _note_return(
    session: AsyncSession, row: Payment, reason: PaymentReason, actor: str, now: datetime
) -> None:
    """Note that the whole price went back as it was captured, to the card if it came from one."""
    await session.flush()
    settled = await session.get_one(Settlement, (row.hold_id, 0))
    by_card = row.method == PaymentMethod.CARD
    wish = Wish(to_card=by_card, reason=reason, words=row.verdict_words)
    await _note_refund(session, row, _Back(settled, row.amount, wish), actor, now)


async def _go(
    session: AsyncSession,
    row: Payment,
    to: PaymentState,
    reason: PaymentReason,
    actor: str,
    now: datetime,
    **amounts: int,
) -> None:
    """Go along one arrow: a row of the history, the state, and the amounts that belong to it."""
    payment_states.require_arrow(PaymentState(row.state), to)
    # What was changed before belongs to the state before.
    await session.flush()
    step = {
        "payment_id": row.id,
        "seq": row.seq + 1,
        "from_state": row.state,
        "to_state": to,
        "reason": reason,
        "actor": actor,
        "at": now,
    }
    await session.execute(insert(PaymentEvent).values(step))
    row.seq, row.state = row.seq + 1, to
    for name, amount in amounts.items():
        setattr(row, name, amount)
    match to:
        case PaymentState.AUTHORIZED:
            outbox.record(session, PaymentAuthorized(**told(row, reason)), at=now)
        case PaymentState.CAPTURED:
            outbox.record(session, PaymentCaptured(**told(row, reason)), at=now)
        case PaymentState.VOIDED:
            outbox.record(session, PaymentVoided(**told(row, reason)), at=now)
        case PaymentState.PENDING | PaymentState.REFUNDED | PaymentState.PARTIALLY_REFUNDED:
            # Told with what was refunded.
            pass


async def _note_refund(
    session: AsyncSession, row: Payment, given: _Back, actor: str, now: datetime
) -> PaymentRefund:
    """Write a refund down, have it sent on to the card if that was asked, and tell of it."""
    wish = given.wish
    made = PaymentRefund(
        id=uuid4(),
        payment_id=row.id,
        key=wish.key,
        amount=given.amount,
        is_whole=wish.amount is None,
        to_card=wish.to_card,
        reason=wish.reason,
        words=wish.words,
        actor=actor,
        hold_id=given.settled.hold_id,
        settlement_no=given.settled.number,
        at=now,
    )
    session.add(made)
    await session.flush()
    if wish.to_card:
        await card_refunds.ask(session, row, given.amount, key=str(made.id), now=now)
    back = Money(given.amount, row.currency)
    event = PaymentRefunded(**told(row, wish.reason), refunded=back, to_card=wish.to_card)
    outbox.record(session, event, at=now)
    return made


def _locking(condition: ColumnElement[bool]) -> Select[Payment]:
    return (
        select(Payment)
        .where(condition)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )

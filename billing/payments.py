"""What people do with the payment of a booking: open it, agree, and then capture it, let it go, or give it back.

    PENDING ──► AUTHORIZED ──► CAPTURED ──► PARTIALLY_REFUNDED ──► REFUNDED
       └────────────┴─────────► VOIDED

The money of a wallet is held from the beginning. A card is authorised at Stripe and captured when it is decided how the
payment ends (`card_payments.py`); its money goes through the wallet into the same hold. How a payment ends is decided
once (`verdict`): by people here, or by who came to the lesson (`payment_moves.settle_outcome`). With a hold the verdict
is done at once, in the transaction of the decision; else the card's job does it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger, payment_moves, payment_states, refunds
from billing.crashpoints import crashpoint
from billing.errors import (
    IdempotencyMismatchError,
    InvalidKeyError,
    LessonOverError,
    PaymentNotFoundError,
    PaymentStateError,
    ReasonTooShortError,
    RefundTooLargeError,
)
from billing.ledger import KEY_MOST
from billing.models import (
    REASON_LEAST,
    START,
    AuthorizationStatus,
    CardAuthorization,
    Cause,
    FactsRow,
    Payment,
    PaymentEvent,
    PaymentMethod,
    PaymentReason,
    PaymentRefund,
    PaymentState,
    Verdict,
)
from billing.money import Money
from billing.payment_moves import FROZEN, Booking, Wish, locked

# The student's own browser has Stripe authorise their card at once; the job only comes for one that closed.
GRACE = timedelta(minutes=2)


# Reading ------------------------------------------------------------------------------------------------------------


async def get(session: AsyncSession, payment_id: UUID) -> Payment:
    """Return a payment as it is now.

    Raises:
        PaymentNotFoundError: There is none.
    """
    row = await session.get(Payment, payment_id, populate_existing=True)
    if row is None:
        raise PaymentNotFoundError
    return row


async def history(session: AsyncSession, payment_id: UUID) -> Sequence[PaymentEvent]:
    """Return the steps of a payment, in their order."""
    query = select(PaymentEvent).where(PaymentEvent.payment_id == payment_id).order_by(PaymentEvent.seq)
    return (await session.scalars(query)).all()


# What people do -----------------------------------------------------------------------------------------------------


async def open_payment(
    session: AsyncSession,
    booking: Booking,
    *,
    method: PaymentMethod,
    card: str | None = None,
    now: datetime,
) -> Payment:
    """Open the payment of a booking, once; from a wallet the money is held at once, so that agreeing cannot fail.

    A card is authorised next, by `card_payments.start` while the student is there, or made ready for later.

    Args:
        session: Commits all or nothing.
        booking: What is to be paid.
        method: Where the money comes from.
        card: A saved card; without one the student gives one in Stripe's form.
        now: Business time.

    Raises:
        InvalidAmountError: The price is not positive.
        InsufficientFundsError: The wallet has too little; says how much is missing.
        IdempotencyMismatchError: The booking's payment was opened otherwise.
        LessonOverError: The lesson is over.
    """
    ledger.require_movable(booking.money)
    await ledger.lock_lessons(session, [booking.lesson_id], shared=True)
    actor = f"user:{booking.student_id}"
    first = insert(PaymentEvent).values(
        payment_id=booking.id,
        seq=1,
        from_state=START,
        to_state=PaymentState.PENDING,
        reason=PaymentReason.BOOKED,
        actor=actor,
        at=now,
    )
    if await session.scalar(first.on_conflict_do_nothing().returning(PaymentEvent.seq)) is None:
        return await _opened(session, booking, method)
    if await session.get(FactsRow, (booking.lesson_id, FROZEN)) is not None:
        raise LessonOverError
    hold_id = await payment_moves.place(session, booking, now=now) if method is PaymentMethod.WALLET else None
    row = Payment(
        id=booking.id,
        lesson_id=booking.lesson_id,
        student_id=booking.student_id,
        tutor_id=booking.tutor_id,
        amount=booking.money.amount,
        currency=booking.money.currency,
        tutor_bps=booking.tutor_bps,
        attribution=booking.attribution,
        policy_version=booking.policy_version,
        starts_at=booking.starts_at,
        method=method,
        state=PaymentState.PENDING,
        seq=1,
        authorized=0,
        captured=0,
        refunded=0,
        hold_id=hold_id,
        card=card,
        opened_at=now,
    )
    session.add(row)
    await session.flush()
    if method is PaymentMethod.CARD:
        await _begin_card(session, row, now)
    crashpoint("payment.opened")
    return row


async def authorize(session: AsyncSession, payment_id: UUID, *, actor: str, now: datetime) -> Payment:
    """The tutor agrees. A payment whose card is not authorised yet follows as soon as it is; again is harmless.

    Raises:
        PaymentNotFoundError: There is none.
        PaymentStateError: It was let go, or its end is decided.
    """
    row = await locked(session, payment_id)
    if row.accepted_at is not None:
        return row
    if row.state != PaymentState.PENDING or row.verdict is not None:
        raise PaymentStateError(row.state, row.verdict)
    row.accepted_at, row.accepted_by = now, actor
    if row.hold_id is not None or await _is_card_authorized(session, row):
        await payment_moves.reserved(session, row, now=now)
    await session.flush()
    return row


async def capture(
    session: AsyncSession,
    payment_id: UUID,
    *,
    reason: PaymentReason,
    actor: str,
    words: str | None = None,
    now: datetime,
) -> Payment:
    """Let the tutor keep the price: the student cancelled too late, or is reported absent; again is harmless.

    Raises:
        ReasonTooShortError: An administrator gave fewer than ten characters.
        PaymentNotFoundError: There is none.
        PaymentStateError: It is not agreed, or ends otherwise.
    """
    assert reason in payment_states.CAPTURES, "everything else is captured by the lesson's end"
    return await _end(session, payment_id, Verdict.CAPTURE, reason, actor=actor, words=words, now=now)


async def void(
    session: AsyncSession,
    payment_id: UUID,
    *,
    reason: PaymentReason,
    actor: str,
    words: str | None = None,
    now: datetime,
) -> Payment:
    """Let a payment go before it is captured, whole: what is held goes back, and a card is released; again is harmless.

    Raises:
        ReasonTooShortError: An administrator gave fewer than ten characters.
        PaymentNotFoundError: There is none.
        PaymentStateError: It is captured, or will be.
    """
    assert reason in payment_states.VOIDS, "why a payment is let go"
    return await _end(session, payment_id, Verdict.VOID, reason, actor=actor, words=words, now=now)


async def return_whole(
    session: AsyncSession,
    payment_id: UUID,
    *,
    actor: str,
    words: str | None = None,
    now: datetime,
) -> Payment:
    """Capture and refund at once, for the tutor did not come (C-11); again is harmless.

    Raises:
        ReasonTooShortError: An administrator gave fewer than ten characters.
        PaymentNotFoundError: There is none.
        PaymentStateError: It is not agreed, or ends otherwise.
    """
    reason = PaymentReason.NO_SHOW_TUTOR
    return await _end(session, payment_id, Verdict.RETURN, reason, actor=actor, words=words, now=now)


async def refund(
    session: AsyncSession, payment_id: UUID, wish: Wish, *, actor: str, now: datetime
) -> PaymentRefund:
    """Give money of a captured payment back to the wallet, and from there to the card it came from if asked.

    Args:
        session: Commits all or nothing.
        payment_id: Which.
        wish: How much and where to, with a key, and words in which an administrator needs ten characters.
        actor: Who asked for it.
        now: Business time.

    Raises:
        InvalidKeyError: The key is empty or too long.
        ReasonTooShortError: An administrator gave fewer than ten characters.
        PaymentNotFoundError: There is none.
        PaymentStateError: It is not captured, or everything is back.
        InvalidAmountError: The amount is not positive.
        RefundTooLargeError: More than is left.
        NotByCardError: So much did not come from a card.
        IdempotencyMismatchError: The key was used with another refund.
    """
    assert wish.reason in payment_states.REFUNDS, "why money goes back"
    if wish.key is None or not 1 <= len(wish.key) <= KEY_MOST or "\0" in wish.key:
        raise InvalidKeyError
    _require_words(actor, wish.words)
    if wish.amount is not None:
        ledger.require_movable(wish.amount)
    row = await locked(session, payment_id)
    query = select(PaymentRefund).where(PaymentRefund.payment_id == row.id, PaymentRefund.key == wish.key)
    earlier = await session.scalar(query)
    if earlier is not None:
        _require_same(earlier, wish, actor)
        return earlier
    if row.state not in (PaymentState.CAPTURED, PaymentState.PARTIALLY_REFUNDED):
        raise PaymentStateError(row.state, row.verdict)
    rest = Money(row.captured - row.refunded, row.currency)
    if wish.amount is not None and (wish.amount.currency != row.currency or wish.amount.amount > rest.amount):
        raise RefundTooLargeError(rest)
    assert row.hold_id is not None, "a constraint says so"
    if wish.to_card:
        await payment_moves.lock_accounts(session, row)
    await refunds.give_back(
        session,
        row.hold_id,
        amount=wish.amount,
        cause=Cause.REFUND,
        actor=actor,
        reason=wish.words or wish.reason,
        # Of the division before it, which a key of any length is not: under the lock it happens once.
        key=f"payment:{row.id}:{row.refunded}",
        now=now,
    )
    made = await payment_moves.follow(session, row, wish, actor=actor, now=now)
    assert made is not None, "something was given back"
    return made


async def move(session: AsyncSession, payment_id: UUID, *, starts_at: datetime, now: datetime) -> Payment:
    """The lesson is at another time: the money stays, and a card is authorised when it is time for that.

    Raises:
        PaymentNotFoundError: There is none.
        PaymentStateError: Its end is decided.
    """
    row = await locked(session, payment_id)
    if row.verdict is not None:
        raise PaymentStateError(row.state, row.verdict)
    row.starts_at = starts_at
    await session.flush()
    if row.method == PaymentMethod.CARD:
        await payment_moves.look(session, row.id, at=now)
    return row


async def _end(
    session: AsyncSession,
    payment_id: UUID,
    verdict: Verdict,
    reason: PaymentReason,
    *,
    actor: str,
    words: str | None,
    now: datetime,
) -> Payment:
    """Decide how a payment ends, once; what was not agreed can only be let go."""
    _require_words(actor, words)
    row = await locked(session, payment_id)
    if row.verdict == verdict:
        return row
    states = payment_states.UNDECIDED if verdict is Verdict.VOID else (PaymentState.AUTHORIZED,)
    if row.state not in states or row.verdict is not None:
        raise PaymentStateError(row.state, row.verdict)
    await payment_moves.decide(session, row, verdict, reason, actor=actor, words=words, now=now)
    return row


def _require_same(earlier: PaymentRefund, wish: Wish, actor: str) -> None:
    """Refuse a key that was used with another refund.

    Raises:
        IdempotencyMismatchError: It was.
    """
    known = (earlier.is_whole, earlier.reason, earlier.to_card, earlier.actor)
    asked = (wish.amount is None, wish.reason, wish.to_card, actor)
    if known != asked or (wish.amount is not None and wish.amount.amount != earlier.amount):
        raise IdempotencyMismatchError


def _require_words(actor: str, words: str | None) -> None:
    """Refuse an administrator who does not say why.

    Raises:
        ReasonTooShortError: Fewer than ten characters.
    """
    if actor.startswith("admin:") and len((words or "").strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)


async def _opened(session: AsyncSession, booking: Booking, method: PaymentMethod) -> Payment:
    """Return the payment that was opened before, if it is the same.

    Raises:
        IdempotencyMismatchError: It is another.
    """
    row = await get(session, booking.id)
    known = (row.lesson_id, row.student_id, row.tutor_id, row.amount, row.currency, row.tutor_bps, row.method)
    asked = (
        booking.lesson_id,
        booking.student_id,
        booking.tutor_id,
        booking.money.amount,
        booking.money.currency,
        booking.tutor_bps,
        method,
    )
    if known != asked:
        raise IdempotencyMismatchError
    return row


async def _begin_card(session: AsyncSession, row: Payment, now: datetime) -> None:
    """Want an authorisation now if it lives until the lesson; else the card is made ready, and authorised before it."""
    is_near = payment_states.is_near(row.starts_at, now)
    if is_near:
        session.add(
            CardAuthorization(
                id=uuid4(),
                payment_id=row.id,
                number=1,
                card=row.card,
                off_session=False,
                status=AuthorizationStatus.WANTED,
                opened_at=now,
            )
        )
        await session.flush()
    await payment_moves.look(session, row.id, at=now + GRACE)


async def _is_card_authorized(session: AsyncSession, row: Payment) -> bool:
    found = await session.scalar(
        select(CardAuthorization.id).where(
            CardAuthorization.payment_id == row.id,
            CardAuthorization.status == AuthorizationStatus.AUTHORIZED,
        )
    )
    return found is not None

"""The rules of a booking's payment: where it may go, how a lesson ends it, and what its card needs next. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from billing.errors import PaymentStateError
from billing.models import (
    AuthorizationStatus,
    CardAuthorization,
    Payment,
    PaymentReason,
    PaymentState,
    Verdict,
)

# Exactly these (ED-50 to ED-56); the table `payment_transition` has the same and `START` → PENDING. A further refund of
# a part is no arrow: it changes amounts.
ARROWS: Mapping[PaymentState, frozenset[PaymentState]] = {
    PaymentState.PENDING: frozenset({PaymentState.AUTHORIZED, PaymentState.VOIDED}),
    PaymentState.AUTHORIZED: frozenset({PaymentState.CAPTURED, PaymentState.VOIDED}),
    PaymentState.CAPTURED: frozenset({PaymentState.REFUNDED, PaymentState.PARTIALLY_REFUNDED}),
    PaymentState.PARTIALLY_REFUNDED: frozenset({PaymentState.REFUNDED}),
    PaymentState.VOIDED: frozenset(),
    PaymentState.REFUNDED: frozenset(),
}
UNDECIDED = (PaymentState.PENDING, PaymentState.AUTHORIZED)

# Why somebody may decide one way or another.
CAPTURES = frozenset({PaymentReason.NO_SHOW_STUDENT, PaymentReason.STUDENT_CANCEL_LATE})
VOIDS = frozenset(
    {
        PaymentReason.DECLINED,
        PaymentReason.WITHDRAWN,
        PaymentReason.EXPIRED,
        PaymentReason.STUDENT_CANCEL,
        PaymentReason.TUTOR_CANCEL,
        PaymentReason.CANCELLED,
    }
)
REFUNDS = frozenset(
    {
        PaymentReason.STUDENT_CANCEL,
        PaymentReason.TUTOR_CANCEL,
        PaymentReason.NO_SHOW_TUTOR,
        PaymentReason.GOODWILL,
        PaymentReason.OTHER,
    }
)

# An authorisation with the student there lives for seven days ("Place a hold on a payment method"). Six leave a day for
# the lesson itself, its end, and whatever keeps us from capturing.
NEAR = timedelta(days=6)
# One without them lives for 4 days and 18 hours where it is shortest (Visa). Two days before the lesson leave the
# student time to answer their bank or to give another card, and two days and more after it to capture.
AHEAD = timedelta(hours=48)
# So long before an authorisation is lost the money is taken into escrow. A second authorisation beside the first would
# bind the student's limit twice and might ask for them again; taken, it cannot be lost, and a lesson that is not held
# sends it back. Half a day is enough for an outage of Stripe or of ours.
KEEP = timedelta(hours=12)
# A card that a bank let go of is tried again; who was refused so often is not asked for ever.
TRIES_MOST = 3

LIVE = (AuthorizationStatus.WANTED, AuthorizationStatus.ASKED, AuthorizationStatus.AUTHORIZED)


class CardStep(StrEnum):
    """What a payment's card needs next."""

    BEGIN = "begin"
    """Write down that Stripe may know from now on."""
    CREATE = "create"
    TRY = "try"
    """Want another authorisation."""
    CAPTURE = "capture"
    CANCEL = "cancel"
    DROP = "drop"
    """Forget what Stripe never heard of."""
    LOSE = "lose"
    """Give the payment up."""
    WAIT = "wait"
    NOTHING = "nothing"


def may_go(state: PaymentState, to: PaymentState) -> bool:
    """Return whether there is an arrow."""
    return to in ARROWS[state]


def require_arrow(state: PaymentState, to: PaymentState) -> None:
    """Refuse what is no arrow.

    Raises:
        PaymentStateError: The payment cannot go there from where it is.
    """
    if not may_go(state, to):
        raise PaymentStateError(state, None)


def path(state: PaymentState, verdict: Verdict) -> tuple[PaymentState, ...]:
    """Return the states that a verdict leads through from an undecided one."""
    if verdict is Verdict.VOID:
        return (PaymentState.VOIDED,)
    # Who gave the lesson, or came to it, had agreed to it.
    agreed = () if state is PaymentState.AUTHORIZED else (PaymentState.AUTHORIZED,)
    returned = () if verdict is Verdict.CAPTURE else (PaymentState.REFUNDED,)
    return (*agreed, PaymentState.CAPTURED, *returned)


def outcome(*, student_came: bool, tutor_came: bool, cancelled: bool) -> tuple[Verdict, PaymentReason]:
    """Say how a lesson that is over ends its payment (B-08)."""
    if cancelled:
        return Verdict.VOID, PaymentReason.CANCELLED
    match student_came, tutor_came:
        case True, True:
            return Verdict.CAPTURE, PaymentReason.COMPLETED
        case False, True:
            return Verdict.CAPTURE, PaymentReason.NO_SHOW_STUDENT
        case True, False:
            return Verdict.RETURN, PaymentReason.NO_SHOW_TUTOR
        case _:
            return Verdict.VOID, PaymentReason.NOT_HELD


def after_refund(captured: int, refunded: int) -> PaymentState:
    """Return the state of a captured payment of which so much is back."""
    assert 0 < refunded <= captured, "no more than what was captured can be refunded"
    return PaymentState.REFUNDED if refunded == captured else PaymentState.PARTIALLY_REFUNDED


def is_near(starts_at: datetime, now: datetime) -> bool:
    """Return whether a card can be authorised now for a lesson that starts then."""
    return starts_at - now <= NEAR


def next_card_step(
    payment: Payment, newest: CardAuthorization | None, now: datetime
) -> tuple[CardStep, datetime | None]:
    """Say what a payment by card needs next, and until when there is nothing to do.

    Args:
        payment: As it is.
        newest: Its last authorisation.
        now: Business time.
    """
    live = newest if newest is not None and newest.status in LIVE else None
    if live is not None and live.began_at is None:
        # A verdict is not waited for: what Stripe has not heard of needs no cancelling.
        return (CardStep.DROP if payment.verdict == Verdict.VOID else CardStep.BEGIN), None
    if payment.state not in UNDECIDED or payment.verdict == Verdict.VOID:
        return (CardStep.NOTHING if live is None else CardStep.CANCEL), None
    if payment.hold_id is not None:
        return CardStep.NOTHING, None
    if live is None:
        return _without(payment, newest, now)
    if live.status == AuthorizationStatus.WANTED:
        return CardStep.CREATE, None
    if live.status == AuthorizationStatus.ASKED:
        if payment.verdict is not None or now >= payment.starts_at:
            return CardStep.LOSE, None
        return CardStep.WAIT, payment.starts_at
    assert live.capture_before is not None, "a constraint says so"
    if payment.verdict is not None or now >= live.capture_before - KEEP:
        return CardStep.CAPTURE, None
    return CardStep.WAIT, live.capture_before - KEEP


def may_come_late(payment: Payment, newest: CardAuthorization) -> bool:
    """Return whether Stripe may hear of an authorisation only now that its payment was let go without it."""
    is_unheard = newest.began_at is not None and newest.intent is None
    return (
        is_unheard and newest.status == AuthorizationStatus.CANCELLED and payment.state == PaymentState.VOIDED
    )


def _without(
    payment: Payment, newest: CardAuthorization | None, now: datetime
) -> tuple[CardStep, datetime | None]:
    """Say what is next where nothing is authorised, nor about to be."""
    due = payment.starts_at - AHEAD
    if payment.card is not None and (newest is None or newest.number < TRIES_MOST):
        # What a bank let go of is wanted back at once.
        if newest is not None or payment.verdict is not None or now >= due:
            return CardStep.TRY, None
        return CardStep.WAIT, due
    if payment.verdict is not None or now >= payment.starts_at:
        return CardStep.LOSE, None
    return CardStep.WAIT, payment.starts_at

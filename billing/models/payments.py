"""Payments of bookings: their states and history, what was authorised on a card, and what went back to one."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import REASON_LEAST, Base, one_of
from billing.models.holds import Settlement
from billing.models.ledger import Journal
from billing.models.terms import PolicyRow

# Where a history begins; no payment is ever in it.
START = "NEW"


class PaymentState(StrEnum):
    """Where a payment is; the words are those that people of bookings know. `payment_states.ARROWS` says where to."""

    PENDING = "PENDING"
    """The tutor has not agreed yet, or the card is not authorised yet."""
    AUTHORIZED = "AUTHORIZED"
    """Agreed, and the money is there: held in escrow, or authorised on the card."""
    CAPTURED = "CAPTURED"
    """Paid out by the split."""
    VOIDED = "VOIDED"
    """Let go before it was paid out."""
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    REFUNDED = "REFUNDED"
    """Everything that was captured is back."""


class PaymentMethod(StrEnum):
    """Where the money comes from."""

    WALLET = "wallet"
    CARD = "card"


class Verdict(StrEnum):
    """How a payment is to end. Decided once; a card needs a while until it is done."""

    CAPTURE = "capture"
    RETURN = "return"
    """Captured and refunded at once: the tutor did not come (C-11)."""
    VOID = "void"


class PaymentReason(StrEnum):
    """Why a payment went where it is."""

    BOOKED = "BOOKED"
    ACCEPTED = "ACCEPTED"
    COMPLETED = "COMPLETED"
    """Both were there."""
    NO_SHOW_STUDENT = "NO_SHOW_STUDENT"
    NO_SHOW_TUTOR = "NO_SHOW_TUTOR"
    NOT_HELD = "NOT_HELD"
    """Nobody was there."""
    DECLINED = "DECLINED"
    WITHDRAWN = "WITHDRAWN"
    EXPIRED = "EXPIRED"
    STUDENT_CANCEL = "STUDENT_CANCEL"
    STUDENT_CANCEL_LATE = "STUDENT_CANCEL_LATE"
    """Too late to get anything back."""
    TUTOR_CANCEL = "TUTOR_CANCEL"
    CANCELLED = "CANCELLED"
    """By an administrator, or by us."""
    CARD_FAILED = "CARD_FAILED"
    """The card was not authorised in time, or its authorisation was lost."""
    LATE_EVIDENCE = "LATE_EVIDENCE"
    """Evidence that came after the settlement changed it."""
    GOODWILL = "GOODWILL"
    OTHER = "OTHER"


class AuthorizationStatus(StrEnum):
    """Life of one try to authorise a card: wanted → asked → authorized → captured; from each also → cancelled."""

    WANTED = "wanted"
    """Whether Stripe knows of it is not known."""
    ASKED = "asked"
    """Stripe has it, and the student must do something: confirm it, answer their bank, give another card."""
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    """The money is ours."""
    CANCELLED = "cancelled"
    """Let go: by us, or because its time was over."""


class CardRefundStatus(StrEnum):
    """Life of a refund to a card: asked → sent; each also → failed."""

    ASKED = "asked"
    """Out of the wallet; whether Stripe knows of it is not known."""
    SENT = "sent"
    """It left our balance at Stripe. It may still fail: a bank can refuse it for weeks."""
    FAILED = "failed"
    """The money is back in the wallet."""


AUTHORIZATION_ARROWS = {
    AuthorizationStatus.WANTED: frozenset(
        {
            AuthorizationStatus.ASKED,
            AuthorizationStatus.AUTHORIZED,
            AuthorizationStatus.CAPTURED,
            AuthorizationStatus.CANCELLED,
        }
    ),
    AuthorizationStatus.ASKED: frozenset(
        {AuthorizationStatus.AUTHORIZED, AuthorizationStatus.CAPTURED, AuthorizationStatus.CANCELLED}
    ),
    AuthorizationStatus.AUTHORIZED: frozenset({AuthorizationStatus.CAPTURED, AuthorizationStatus.CANCELLED}),
}
CARD_REFUND_ARROWS = {
    CardRefundStatus.ASKED: frozenset({CardRefundStatus.SENT, CardRefundStatus.FAILED}),
    CardRefundStatus.SENT: frozenset({CardRefundStatus.FAILED}),
}


class PaymentTransition(Base):
    """An arrow that a payment may go along; the history refers to these rows, so there are no others."""

    __tablename__ = "payment_transition"

    from_state: Mapped[str] = mapped_column(primary_key=True)
    to_state: Mapped[str] = mapped_column(primary_key=True)


class PaymentEvent(Base):
    """One step in the life of a payment. Append-only; each begins where the one before it ended."""

    __tablename__ = "payment_event"
    __table_args__ = (
        UniqueConstraint("payment_id", "seq", "to_state"),
        ForeignKeyConstraint(
            ["from_state", "to_state"], [PaymentTransition.from_state, PaymentTransition.to_state]
        ),
        ForeignKeyConstraint(
            ["payment_id", "prev_seq", "from_state"],
            ["payment_event.payment_id", "payment_event.seq", "payment_event.to_state"],
        ),
        one_of("reason", PaymentReason),
        CheckConstraint("seq >= 1", name="seq_positive"),
        CheckConstraint(f"(seq = 1) = (from_state = '{START}')", name="begins_new"),
    )

    payment_id: Mapped[UUID] = mapped_column(primary_key=True)
    """Written before the payment itself, hence no foreign key: the payment's own says where it is."""
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    prev_seq: Mapped[int | None] = mapped_column(Integer, Computed("nullif(seq - 1, 0)", persisted=True))
    from_state: Mapped[str]
    to_state: Mapped[str]
    reason: Mapped[str]
    actor: Mapped[str]
    at: Mapped[datetime]


class Payment(Base):
    """What one booking costs, and how far it is paid. The newest event of the history is its state."""

    __tablename__ = "payment"
    __table_args__ = (
        ForeignKeyConstraint(
            ["id", "seq", "state"], [PaymentEvent.payment_id, PaymentEvent.seq, PaymentEvent.to_state]
        ),
        UniqueConstraint("hold_id"),
        UniqueConstraint("setup_id"),
        one_of("state", PaymentState),
        one_of("method", PaymentMethod),
        one_of("verdict", Verdict),
        one_of("verdict_reason", PaymentReason),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_code"),
        CheckConstraint("tutor_bps between 0 and 10000", name="bps_range"),
        CheckConstraint("student_id <> tutor_id", name="two_people"),
        CheckConstraint(
            "0 <= refunded and refunded <= captured and captured <= authorized and authorized <= amount",
            name="amounts_ordered",
        ),
        CheckConstraint(
            "case state when 'PENDING' then authorized = 0"
            " when 'AUTHORIZED' then authorized = amount and captured = 0"
            " when 'CAPTURED' then captured = amount and refunded = 0"
            " when 'PARTIALLY_REFUNDED' then refunded > 0 and refunded < captured"
            " when 'REFUNDED' then captured > 0 and refunded = captured"
            " when 'VOIDED' then captured = 0 else false end",
            name="amounts_fit_state",
        ),
        CheckConstraint("method <> 'wallet' or hold_id is not null", name="wallet_is_held"),
        CheckConstraint("captured = 0 or hold_id is not null", name="captured_by_hold"),
        CheckConstraint("method = 'card' or (card is null and setup_id is null)", name="card_by_card"),
        CheckConstraint(
            "(verdict is null) = (verdict_reason is null) and (verdict is null) = (verdict_actor is null)",
            name="verdict_whole",
        ),
        CheckConstraint(
            "coalesce(verdict_actor, '') not like 'admin:%'"
            f" or coalesce(length(verdict_words), 0) >= {REASON_LEAST}",
            name="admin_needs_words",
        ),
        CheckConstraint("state in ('PENDING', 'AUTHORIZED') or verdict is not null", name="ended_by_verdict"),
        Index(None, "lesson_id"),
        Index(None, "student_id", "opened_at", "id"),
        Index(None, "tutor_id", "opened_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """The booking's own: each is paid once."""
    lesson_id: Mapped[UUID]
    student_id: Mapped[UUID]
    tutor_id: Mapped[UUID]
    amount: Mapped[int]
    currency: Mapped[str]
    tutor_bps: Mapped[int] = mapped_column(Integer)
    attribution: Mapped[str]
    policy_version: Mapped[int] = mapped_column(Integer, ForeignKey(PolicyRow.version))
    starts_at: Mapped[datetime]
    """Of the lesson, which may be moved: a card is authorised before it."""
    method: Mapped[str]
    state: Mapped[str]
    seq: Mapped[int] = mapped_column(Integer)
    """Of the newest event."""
    authorized: Mapped[int] = mapped_column(server_default=text("0"))
    captured: Mapped[int] = mapped_column(server_default=text("0"))
    refunded: Mapped[int] = mapped_column(server_default=text("0"))
    hold_id: Mapped[UUID | None]
    """A card has one from the moment its money is with us. It says the same amount and split (trigger)."""
    accepted_at: Mapped[datetime | None]
    """When the tutor agreed."""
    accepted_by: Mapped[str | None]
    verdict: Mapped[str | None]
    verdict_reason: Mapped[str | None]
    verdict_actor: Mapped[str | None]
    verdict_words: Mapped[str | None]
    """Shown to both parties."""
    setup_id: Mapped[str | None]
    """Stripe's, seti_: a card that is to be authorised later is made ready for that now."""
    card: Mapped[str | None]
    """The saved card, pm_; empty until the student has given one."""
    opened_at: Mapped[datetime]


class PaymentRefund(Base):
    """Money of a captured payment that went back to the student. Append-only."""

    __tablename__ = "payment_refund"
    __table_args__ = (
        ForeignKeyConstraint(["hold_id", "settlement_no"], [Settlement.hold_id, Settlement.number]),
        UniqueConstraint("payment_id", "key"),
        one_of("reason", PaymentReason),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("length(key) between 1 and 255", name="key_length"),
        CheckConstraint(
            f"actor not like 'admin:%' or coalesce(length(words), 0) >= {REASON_LEAST}",
            name="admin_needs_words",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey(Payment.id))
    key: Mapped[str | None]
    """The same key is the same refund; one that nobody asked for has none."""
    amount: Mapped[int]
    is_whole: Mapped[bool]
    """Asked for as the rest, whatever it was."""
    to_card: Mapped[bool]
    """From the wallet on to the card."""
    reason: Mapped[str]
    words: Mapped[str | None]
    actor: Mapped[str]
    hold_id: Mapped[UUID]
    settlement_no: Mapped[int] = mapped_column(Integer)
    """The division of the hold after it."""
    at: Mapped[datetime]


class CardAuthorization(Base):
    """One try to authorise a card, written down before Stripe hears of it: one PaymentIntent."""

    __tablename__ = "card_authorization"
    __table_args__ = (
        UniqueConstraint("payment_id", "number"),
        UniqueConstraint("intent"),
        UniqueConstraint("journal_id"),
        Index(
            "uq_card_authorization_one_live",
            "payment_id",
            unique=True,
            postgresql_where=text("status in ('wanted', 'asked', 'authorized')"),
        ),
        one_of("status", AuthorizationStatus),
        CheckConstraint("number >= 1", name="number_positive"),
        CheckConstraint("broken >= 0", name="broken_not_negative"),
        CheckConstraint("not off_session or card is not null", name="off_session_by_card"),
        CheckConstraint("intent is null or began_at is not null", name="begun_before_intent"),
        CheckConstraint(
            "status not in ('asked', 'authorized', 'captured') or intent is not null", name="known_at_stripe"
        ),
        CheckConstraint("status <> 'authorized' or capture_before is not null", name="authorized_has_end"),
        CheckConstraint("(status = 'captured') = (journal_id is not null)", name="captured_is_booked"),
        CheckConstraint(
            "(status in ('captured', 'cancelled')) = (ended_at is not null)", name="ended_has_time"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey(Payment.id))
    number: Mapped[int] = mapped_column(Integer)
    card: Mapped[str | None]
    """The saved one that is tried, pm_; else the student gives one in Stripe's form."""
    off_session: Mapped[bool]
    """The student is not there to answer their bank."""
    status: Mapped[str] = mapped_column(server_default=text("'wanted'"))
    opened_at: Mapped[datetime]
    began_at: Mapped[datetime | None]
    """From here on Stripe may know of it."""
    broken: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """How often Stripe broke while it answered: it keeps that answer under the key, so the next call needs another."""
    intent: Mapped[str | None]
    """Stripe's, pi_."""
    capture_before: Mapped[datetime | None]
    """When the bank lets go of what was not captured."""
    failure: Mapped[str | None]
    """Stripe's code of why the card was not authorised."""
    journal_id: Mapped[int | None] = mapped_column(ForeignKey(Journal.id))
    """The one that brought the money into the wallet."""
    ended_at: Mapped[datetime | None]


class CardRefund(Base):
    """Money on its way from a wallet back to the card it came from, written down before Stripe hears of it."""

    __tablename__ = "card_refund"
    __table_args__ = (
        UniqueConstraint("payment_id", "key"),
        UniqueConstraint("refund"),
        UniqueConstraint("ask_journal"),
        UniqueConstraint("sent_journal"),
        UniqueConstraint("back_journal"),
        one_of("status", CardRefundStatus),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("length(key) between 1 and 255", name="key_length"),
        CheckConstraint("broken >= 0", name="broken_not_negative"),
        CheckConstraint("(refund is null) = (sent_journal is null)", name="sent_is_booked"),
        CheckConstraint("status <> 'sent' or refund is not null", name="sent_by_refund"),
        CheckConstraint(
            "(status = 'failed') = (back_journal is not null) and (status = 'failed') = (failure is not null)",
            name="failed_is_back",
        ),
        Index(None, "status"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey(Payment.id))
    authorization_id: Mapped[UUID] = mapped_column(ForeignKey(CardAuthorization.id))
    """What was captured from the card."""
    student_id: Mapped[UUID]
    key: Mapped[str]
    amount: Mapped[int]
    currency: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'asked'"))
    broken: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    refund: Mapped[str | None]
    """Stripe's, re_."""
    failure: Mapped[str | None]
    asked_at: Mapped[datetime]
    ask_journal: Mapped[int] = mapped_column(ForeignKey(Journal.id))
    sent_journal: Mapped[int | None] = mapped_column(ForeignKey(Journal.id))
    back_journal: Mapped[int | None] = mapped_column(ForeignKey(Journal.id))

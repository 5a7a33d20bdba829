"""Disputes: of people about a settled hold, of banks about a card payment; and whose share they keep from moving."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import REASON_LEAST, WORDS_LEAST, WORDS_MOST, Base, one_of
from billing.models.holds import Hold, Settlement


class DisputeStatus(StrEnum):
    """Life of a dispute: open → resolved, one way or the other. Before it there is no row."""

    OPEN = "open"
    UPHELD = "resolved_upheld"
    """The settlement stays as it was."""
    REFUNDED = "resolved_refunded"
    """Money went back to the student."""


DISPUTE_ARROWS = {DisputeStatus.OPEN: frozenset({DisputeStatus.UPHELD, DisputeStatus.REFUNDED})}


class DisputeReason(StrEnum):
    """What a dispute is about."""

    TUTOR_NO_SHOW = "tutor_no_show"
    SESSION_QUALITY = "session_quality"
    TECHNICAL_ISSUES = "technical_issues"
    INCORRECT_CHARGE = "incorrect_charge"
    UNAUTHORISED_CHARGE = "unauthorised_charge"
    NOT_AS_DESCRIBED = "not_as_described"
    OTHER = "other"
    CONTRADICTION = "contradicting_evidence"
    """Opened by ourselves: what people say and what was recorded do not fit."""


class CardDisputeStatus(StrEnum):
    """Life of a bank's dispute, from whatever we hear of it first: inquiry → open → won or lost, inquiry → closed."""

    INQUIRY = "inquiry"
    """The bank asks; no money moves."""
    OPEN = "open"
    WON = "won"
    LOST = "lost"
    CLOSED = "closed"
    """An inquiry of which nothing came."""


CARD_DISPUTE_ARROWS = {
    CardDisputeStatus.INQUIRY: frozenset(
        {CardDisputeStatus.OPEN, CardDisputeStatus.WON, CardDisputeStatus.LOST, CardDisputeStatus.CLOSED}
    ),
    CardDisputeStatus.OPEN: frozenset({CardDisputeStatus.WON, CardDisputeStatus.LOST}),
}


class Dispute(Base):
    """Somebody does not agree with how a hold was settled. One for each hold, once."""

    __tablename__ = "dispute"
    __table_args__ = (
        UniqueConstraint("hold_id"),
        # What is disputed is a division: a hold that was not settled has none.
        ForeignKeyConstraint(["hold_id", "ruling"], [Settlement.hold_id, Settlement.number]),
        one_of("status", DisputeStatus),
        one_of("reason", DisputeReason),
        CheckConstraint(f"length(words) between {WORDS_LEAST} and {WORDS_MOST}", name="words_length"),
        CheckConstraint("frozen >= 0", name="frozen_not_negative"),
        CheckConstraint(
            "(status <> 'open') = (resolved_at is not null) and (resolved_at is null) = (resolved_by is null)"
            " and (resolved_at is null) = (notes is null)",
            name="resolved_whole",
        ),
        CheckConstraint(
            f"notes is null or length(notes) between {REASON_LEAST} and {WORDS_MOST}", name="notes_length"
        ),
        CheckConstraint(
            "(status = 'resolved_refunded') = (coalesce(refunded, 0) > 0)", name="refunded_has_amount"
        ),
        Index(None, "status", "opened_at", "id"),
        Index(None, "opened_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hold_id: Mapped[UUID] = mapped_column(ForeignKey(Hold.id))
    ruling: Mapped[int] = mapped_column(Integer)
    """Number of the settlement that is disputed."""
    opened_by: Mapped[str]
    """`user:<id>` of the student, or `system:<what>`."""
    reason: Mapped[str]
    words: Mapped[str]
    frozen: Mapped[int]
    """What there was of the tutor's share to freeze; the rest had left us."""
    status: Mapped[str] = mapped_column(server_default=text("'open'"))
    opened_at: Mapped[datetime]
    resolved_by: Mapped[UUID | None]
    """An administrator."""
    notes: Mapped[str | None]
    """Why it was resolved as it was; both parties read it."""
    refunded: Mapped[int | None]
    resolved_at: Mapped[datetime | None]


class HoldFreeze(Base):
    """A dispute that keeps a tutor's share of a hold where it is; the row goes when the dispute is decided.

    Whoever changes it holds the lock of the hold. A bank and a student may both want the same share frozen: it is free
    when both have let go.
    """

    __tablename__ = "hold_freeze"
    __table_args__ = (Index(None, "dispute_id"),)

    hold_id: Mapped[UUID] = mapped_column(ForeignKey(Hold.id), primary_key=True)
    dispute_id: Mapped[UUID] = mapped_column(primary_key=True)
    """Of a dispute, or of a card dispute."""


class CardDispute(Base):
    """A bank takes a card payment back, or asks about it: what Stripe's object said last, and what we did."""

    __tablename__ = "card_dispute"
    __table_args__ = (
        UniqueConstraint("dispute"),
        one_of("status", CardDisputeStatus),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_code"),
        CheckConstraint("covered >= 0", name="covered_not_negative"),
        CheckConstraint("status = 'lost' or covered = 0", name="only_lost_is_covered"),
        CheckConstraint(
            "(status in ('won', 'lost', 'closed')) = (ended_at is not null)", name="ended_has_time"
        ),
        Index(None, "owner_id"),
        Index(None, "opened_at", postgresql_where=text("ended_at is null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """Made of Stripe's, so that it is the same whoever hears of it first."""
    dispute: Mapped[str]
    """Stripe's, dp_."""
    charge: Mapped[str]
    owner_id: Mapped[UUID]
    """The payer."""
    amount: Mapped[int]
    currency: Mapped[str]
    reason: Mapped[str]
    """Stripe's word for what the cardholder says."""
    status: Mapped[str]
    covered: Mapped[int] = mapped_column(server_default=text("0"))
    """Of what a lost dispute took, how much was booked to who bears it."""
    paid_at: Mapped[datetime]
    """When the payment became credit: what was bought later may have been bought with it."""
    opened_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

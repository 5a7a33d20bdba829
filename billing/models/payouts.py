"""Earnings that wait for the end of their risk window, and how earnings leave us."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import REASON_LEAST, Base, one_of
from billing.models.disputes import HoldFreeze
from billing.models.holds import Hold
from billing.models.ledger import Journal

# B-13: what a tutor may write beside a withdrawal.
NOTE_MOST = 500


class PayoutMethod(StrEnum):
    """How money reaches a tutor."""

    BANK = "bank"
    """By hand: an administrator makes a bank transfer and writes down its reference."""
    STRIPE = "stripe"
    """To the tutor's account at Stripe, and from there to their bank."""


class WithdrawalStatus(StrEnum):
    """Life of a withdrawal: pending → processing → completed; the first two also → rejected."""

    PENDING = "pending"
    PROCESSING = "processing"
    """Approved; money may be on its way."""
    COMPLETED = "completed"
    REJECTED = "rejected"
    """The money is back in the tutor's earnings."""


class AttemptStatus(StrEnum):
    """Life of one try to pay out by Stripe: submitted → paid, failed or cancelled."""

    SUBMITTED = "submitted"
    PAID = "paid"
    FAILED = "failed"
    """Whatever had left us is back."""
    CANCELLED = "cancelled"
    """Stripe never heard of it."""


WITHDRAWAL_ARROWS = {
    WithdrawalStatus.PENDING: frozenset({WithdrawalStatus.PROCESSING, WithdrawalStatus.REJECTED}),
    WithdrawalStatus.PROCESSING: frozenset({WithdrawalStatus.COMPLETED, WithdrawalStatus.REJECTED}),
}
ATTEMPT_ARROWS = {
    AttemptStatus.SUBMITTED: frozenset({AttemptStatus.PAID, AttemptStatus.FAILED, AttemptStatus.CANCELLED}),
}


class Maturing(Base):
    """A settled hold whose tutor's share is still at risk; the row goes when it becomes earnings.

    Whoever changes the row holds the lock of its hold.
    """

    __tablename__ = "maturing"
    __table_args__ = (
        ForeignKeyConstraint(["hold_id", "frozen_by"], [HoldFreeze.hold_id, HoldFreeze.dispute_id]),
        Index(None, "tutor_id"),
        Index(None, "frozen_by", postgresql_where=text("frozen_by is not null")),
    )

    hold_id: Mapped[UUID] = mapped_column(ForeignKey(Hold.id), primary_key=True)
    tutor_id: Mapped[UUID]
    mature_at: Mapped[datetime]
    frozen_by: Mapped[UUID | None]
    """A dispute that keeps it from maturing, one of its freezes; while it does, the money is in `frozen`."""


class PayoutAccount(Base):
    """Where a tutor's money goes. Never changed: another one replaces it, and withdrawals keep theirs."""

    __tablename__ = "payout_account"
    __table_args__ = (
        Index(
            "uq_payout_account_one_current",
            "tutor_id",
            unique=True,
            postgresql_where=text("replaced_at is null"),
        ),
        UniqueConstraint("stripe_account"),
        one_of("method", PayoutMethod),
        CheckConstraint(
            "(method = 'bank') = (sealed is not null) and (method = 'bank') = (last4 is not null)",
            name="bank_is_sealed",
        ),
        CheckConstraint("last4 is null or length(last4) between 1 and 4", name="last4_is_short"),
        CheckConstraint("method = 'stripe' or stripe_account is null", name="stripe_has_account"),
        CheckConstraint("usable_from >= created_at", name="usable_after_made"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tutor_id: Mapped[UUID]
    method: Mapped[str]
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Bank data, by `vault.py`."""
    last4: Mapped[str | None]
    """All that is shown of the account's number."""
    stripe_account: Mapped[str | None]
    """Empty until Stripe has answered."""
    created_at: Mapped[datetime]
    usable_from: Mapped[datetime]
    """A change is paid to only later: its owner has time to notice that it was somebody else's."""
    replaced_at: Mapped[datetime | None]


class Withdrawal(Base):
    """Earnings that a tutor wants to have. The money is reserved when it is asked for."""

    __tablename__ = "withdrawal"
    __table_args__ = (
        UniqueConstraint("request_journal"),
        UniqueConstraint("end_journal"),
        one_of("status", WithdrawalStatus),
        one_of("method", PayoutMethod),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("two_people_above >= 0", name="limit_not_negative"),
        CheckConstraint(f"note is null or length(note) <= {NOTE_MOST}", name="note_length"),
        CheckConstraint(
            "confirmed_by is null or coalesce(confirmed_by <> approved_by, false)", name="two_people"
        ),
        CheckConstraint(
            "coalesce(approved_by <> tutor_id, true) and coalesce(confirmed_by <> tutor_id, true)",
            name="not_by_oneself",
        ),
        CheckConstraint(
            "status not in ('processing', 'completed')"
            " or (approved_by is not null and (amount <= two_people_above or confirmed_by is not null))",
            name="approved_first",
        ),
        CheckConstraint(
            "(held_by is null) = (held_reason is null)"
            f" and (held_by is null or (length(held_reason) >= {REASON_LEAST}"
            " and status in ('pending', 'processing')))",
            name="held_with_reason",
        ),
        CheckConstraint(
            "(status in ('completed', 'rejected')) = (ended_at is not null)"
            " and (ended_at is null) = (end_journal is null)",
            name="ended_whole",
        ),
        CheckConstraint(
            f"status <> 'rejected' or (rejected_by is not null and coalesce(length(answer), 0) >= {REASON_LEAST})",
            name="rejected_with_answer",
        ),
        CheckConstraint(
            "status <> 'completed' or method <> 'bank' or coalesce(length(reference), 0) > 0",
            name="bank_transfer_has_reference",
        ),
        Index(None, "tutor_id", "requested_at", "id"),
        Index(None, "status", "requested_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tutor_id: Mapped[UUID]
    payout_account: Mapped[UUID] = mapped_column(ForeignKey(PayoutAccount.id))
    method: Mapped[str]
    amount: Mapped[int]
    currency: Mapped[str]
    two_people_above: Mapped[int]
    """Of the policy when it was asked for."""
    note: Mapped[str | None]
    """The tutor's."""
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    approved_by: Mapped[UUID | None]
    confirmed_by: Mapped[UUID | None]
    """The second administrator, where two must agree."""
    held_by: Mapped[UUID | None]
    """An administrator who stopped it for a while."""
    held_reason: Mapped[str | None]
    rejected_by: Mapped[UUID | None]
    answer: Mapped[str | None]
    """Why it was rejected, for the tutor."""
    reference: Mapped[str | None]
    """Of the bank transfer, or Stripe's payout."""
    requested_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    request_journal: Mapped[int] = mapped_column(ForeignKey(Journal.id))
    end_journal: Mapped[int | None] = mapped_column(ForeignKey(Journal.id))
    """The one that sent the money away, or gave it back."""


class PayoutAttempt(Base):
    """One try to pay a withdrawal out by Stripe, written down before Stripe hears of it."""

    __tablename__ = "payout_attempt"
    __table_args__ = (
        UniqueConstraint("withdrawal_id", "number"),
        UniqueConstraint("transfer"),
        UniqueConstraint("payout"),
        UniqueConstraint("reversal"),
        Index(
            "uq_payout_attempt_one_live",
            "withdrawal_id",
            unique=True,
            postgresql_where=text("status in ('submitted', 'paid')"),
        ),
        one_of("status", AttemptStatus),
        CheckConstraint("number >= 1", name="number_positive"),
        CheckConstraint("broken >= 0", name="broken_not_negative"),
        CheckConstraint("(transfer is null) = (transfer_journal is null)", name="transfer_is_booked"),
        CheckConstraint("(reversal is null) = (reversal_journal is null)", name="reversal_is_booked"),
        CheckConstraint("transfer is null or began_at is not null", name="begun_before_transfer"),
        CheckConstraint("payout is null or transfer is not null", name="transfer_before_payout"),
        CheckConstraint(
            "reversal is null or (transfer is not null and failure is not null)", name="reversal_undoes"
        ),
        CheckConstraint("(status = 'submitted') = (ended_at is null)", name="ended_has_time"),
        CheckConstraint(
            "status <> 'paid' or (payout is not null and failure is null)", name="paid_by_payout"
        ),
        CheckConstraint(
            "status <> 'failed' or (failure is not null and (transfer is null) = (reversal is null))",
            name="failed_is_back",
        ),
        CheckConstraint("status <> 'cancelled' or began_at is null", name="cancelled_never_began"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    withdrawal_id: Mapped[UUID] = mapped_column(ForeignKey(Withdrawal.id))
    number: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(server_default=text("'submitted'"))
    submitted_at: Mapped[datetime]
    began_at: Mapped[datetime | None]
    """From here on Stripe may know of it."""
    broken: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """How often Stripe broke while it answered: it keeps that answer under the key, so the next call needs another."""
    transfer: Mapped[str | None]
    transfer_journal: Mapped[int | None] = mapped_column(ForeignKey(Journal.id))
    payout: Mapped[str | None]
    failure: Mapped[str | None]
    """Stripe's code; what has left us must come back."""
    reversal: Mapped[str | None]
    reversal_journal: Mapped[int | None] = mapped_column(ForeignKey(Journal.id))
    ended_at: Mapped[datetime | None]

"""What is known of Stripe: top-ups, customers, the events it told us, and which journal each of its movements made."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import Base, one_of
from billing.models.ledger import Journal


class TopUpStatus(StrEnum):
    """Life of a top-up: created → pending → succeeded, failed or expired; each also at once."""

    CREATED = "created"
    """Wanted; whether Stripe knows of it is not known."""
    PENDING = "pending"
    """Stripe has it, and the payer has not paid yet."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"


class TopUpWay(StrEnum):
    """How somebody pays."""

    HOSTED = "hosted"
    """On Stripe's page."""
    ELEMENTS = "elements"
    """In a form of Stripe's in our page."""
    SAVED = "saved"
    """With a card that they saved before."""


class TopUp(Base):
    """Money that somebody wants in their wallet, written down before Stripe hears of it."""

    __tablename__ = "top_up"
    __table_args__ = (
        UniqueConstraint("owner_id", "key"),
        UniqueConstraint("checkout_id"),
        UniqueConstraint("payment_id"),
        UniqueConstraint("journal_id"),
        one_of("status", TopUpStatus),
        one_of("way", TopUpWay),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_code"),
        CheckConstraint("length(key) between 1 and 255", name="key_length"),
        CheckConstraint("attempt >= 0", name="attempt_not_negative"),
        CheckConstraint("(way = 'saved') = (method_id is not null)", name="way_has_method"),
        CheckConstraint(
            "status <> 'pending' or coalesce(checkout_id, payment_id) is not null", name="pending_is_known"
        ),
        CheckConstraint(
            "(status = 'succeeded') = (journal_id is not null)"
            " and (status <> 'succeeded' or payment_id is not null)",
            name="succeeded_is_credited",
        ),
        CheckConstraint(
            "(status in ('succeeded', 'failed', 'expired')) = (ended_at is not null)", name="ended_has_time"
        ),
        Index(None, "owner_id", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    key: Mapped[str]
    """The idempotency key of whoever wanted it."""
    amount: Mapped[int]
    currency: Mapped[str]
    way: Mapped[str]
    method_id: Mapped[str | None]
    """The saved card, pm_."""
    status: Mapped[str] = mapped_column(server_default=text("'created'"))
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Part of the key at Stripe: rises when an answer that Stripe keeps is a 500."""
    checkout_id: Mapped[str | None]
    payment_id: Mapped[str | None]
    reason: Mapped[str | None]
    """Stripe's code of why it failed."""
    journal_id: Mapped[int | None] = mapped_column(ForeignKey(Journal.id))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class StripeCustomer(Base):
    """Where somebody's saved cards are."""

    __tablename__ = "stripe_customer"
    __table_args__ = (UniqueConstraint("customer_id"),)

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[str]
    created_at: Mapped[datetime]


class StripeEntry(Base):
    """A movement of our balance at Stripe, and the one journal that tells of it. Append-only.

    Whatever journal touches the account `stripe` has one; `reconciliation.py` looks for those that have none.
    """

    __tablename__ = "stripe_entry"
    __table_args__ = (
        UniqueConstraint("journal_id"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_code"),
        CheckConstraint("amount <> 0 or fee <> 0", name="moves_something"),
        Index(None, "at"),
        Index(None, "source"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """Of the balance transaction, txn_."""
    journal_id: Mapped[int] = mapped_column(ForeignKey(Journal.id))
    source: Mapped[str]
    """What moved the money: ch_, re_, tr_, trr_, po_, dp_."""
    category: Mapped[str]
    """Stripe's reporting category."""
    amount: Mapped[int]
    """Negative where money left."""
    fee: Mapped[int]
    currency: Mapped[str]
    at: Mapped[datetime]
    """When it happened, by Stripe's clock."""


class StripeEvent(Base):
    """Something that Stripe told us, once. No more than a hint: what it is about is fetched."""

    __tablename__ = "stripe_event"
    __table_args__ = (
        CheckConstraint("length(id) between 1 and 255", name="id_length"),
        CheckConstraint("length(digest) = 32", name="digest_length"),
        Index(None, "received_at", "id", postgresql_where=text("handled_at is null")),
        Index("ix_stripe_event_all", "received_at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    object_id: Mapped[str | None]
    account: Mapped[str | None]
    """The connected account it is about, acct_."""
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the body. The body itself has names and addresses, and nobody needs it."""
    created_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    handled_at: Mapped[datetime | None]


class FindingOutcome(StrEnum):
    """What is wrong between Stripe's books and ours."""

    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"
    AMOUNT_DIFFERS = "amount_differs"
    OWNER_DIFFERS = "owner_differs"
    BALANCE_DIFFERS = "balance_differs"


class StripeFinding(Base):
    """A difference between Stripe's books and ours, until it is gone."""

    __tablename__ = "stripe_finding"
    __table_args__ = (
        one_of("outcome", FindingOutcome),
        Index(None, "found_at", postgresql_where=text("solved_at is null")),
    )

    subject: Mapped[str] = mapped_column(primary_key=True)
    """The balance transaction, `journal:<id>`, `balance:<currency>`, or `event:<id>`."""
    outcome: Mapped[str]
    detail: Mapped[dict[str, Any]]
    found_at: Mapped[datetime]
    solved_at: Mapped[datetime | None]

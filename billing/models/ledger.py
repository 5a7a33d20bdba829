"""Accounts, and the movements between them."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import REASON_LEAST, Base, one_of


class AccountKind(StrEnum):
    """Purpose of an account. Balance = credits - debits; what we owe to somebody never falls below zero."""

    WALLET = "wallet"
    """Owned by a student: credit that can be spent."""
    ESCROW = "escrow"
    """Owned by a lesson, or by a purchase for its slices that have no lesson yet."""
    EARNINGS_PENDING = "earnings_pending"
    """Owned by a tutor: released, still inside the risk window."""
    EARNINGS = "earnings"
    """Owned by a tutor: may be withdrawn."""
    TUTOR_DEBT = "tutor_debt"
    """Owned by a tutor, never above zero: what a late refund or a lost dispute took after it was paid out."""
    WITHDRAWAL = "withdrawal"
    """Owned by a tutor: asked for, and not yet known to have arrived."""
    CARD_REFUND = "card_refund"
    """Owned by a student: on its way back to their card, and not yet known to have arrived."""
    FROZEN = "frozen"
    """What nobody may touch until a dispute is decided: owned by a hold, its tutor's share, or by a card dispute, the
    payer's credit."""
    PLATFORM_REVENUE = "platform_revenue"
    """Our share, in shards: one hot row would serialise all settlements."""
    PLATFORM_EXPENSE = "platform_expense"
    """What we give and lose: admin adjustments, goodwill, fees of the card network, debts written off."""
    STRIPE = "stripe"
    """Money at Stripe, as a negative balance: it is reconciled with what Stripe says."""
    STRIPE_DISPUTED = "stripe_disputed"
    """Taken by banks for disputes that are open, as a negative balance."""
    BANK = "bank"
    """What was paid out by hand, as a negative balance."""
    SUSPENSE = "suspense"
    """Money that nobody could place; it must not stay."""


class JournalKind(StrEnum):
    """What moved money."""

    PURCHASE = "purchase"
    REFUND = "refund"
    SETTLEMENT = "settlement"
    ADJUSTMENT = "adjustment"
    ADMIN_ADJUSTMENT = "admin_adjustment"
    TOP_UP = "top_up"
    """Paid by card into a wallet."""
    CARD_FEE = "card_fee"
    CARD_REFUND = "card_refund"
    """Asked of the card network, arrived, or returned: three journals, told apart by their legs."""
    CARD_DISPUTE = "card_dispute"
    """A bank took money, or gave it back."""
    MATURITY = "maturity"
    """The risk window is over: earnings may be withdrawn."""
    EARNINGS_SPENT = "earnings_spent"
    """A tutor made earnings their own credit."""
    WITHDRAWAL = "withdrawal"
    """Asked for, arrived, or returned: three journals, told apart by their legs."""
    DISPUTE = "dispute"
    """Frozen, freed, or decided."""
    DEBT = "debt"
    """A tutor owes, or repays from new earnings."""
    GOODWILL = "goodwill"
    EXPIRY = "expiry"
    """Lessons of a package that nobody took."""
    BANK_TRANSFER = "bank_transfer"
    """Between our balance at Stripe and our bank."""
    REVERSAL = "reversal"
    """The whole of another journal, backwards."""


# Accounts of ours and of the world outside may have any balance; whose money is in the others must not be overdrawn.
FLOORLESS = (
    AccountKind.PLATFORM_REVENUE,
    AccountKind.PLATFORM_EXPENSE,
    AccountKind.STRIPE,
    AccountKind.STRIPE_DISPUTED,
    AccountKind.BANK,
    AccountKind.SUSPENSE,
)
_FLOORLESS = ", ".join(f"'{kind.value}'" for kind in FLOORLESS)


# Numbers of transactions rise with the pages: some bytes for each 32 of them find a minute among years.
_BRIN = {"pages_per_range": 32, "autosummarize": "on"}


class Account(Base):
    """A place where money is. The balance is written by the ledger's trigger alone."""

    __tablename__ = "ledger_account"
    __table_args__ = (
        UniqueConstraint("kind", "owner_id", "currency", "shard"),
        UniqueConstraint("id", "currency"),
        one_of("kind", AccountKind),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_code"),
        CheckConstraint(f"kind in ({_FLOORLESS}, 'tutor_debt') or balance >= 0", name="floor"),
        CheckConstraint("kind <> 'tutor_debt' or balance <= 0", name="debt"),
        # Nine quadrillion leaves room to add two balances within 64 bits.
        CheckConstraint("balance between -9000000000000000 and 9000000000000000", name="sane"),
        # Balances change in place: room on the page keeps the updates off the indexes.
        {"postgresql_with": {"fillfactor": 60}},
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    kind: Mapped[str]
    owner_id: Mapped[UUID]
    currency: Mapped[str]
    shard: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    balance: Mapped[int] = mapped_column(server_default=text("0"))


class Journal(Base):
    """One indivisible movement of money; its transfers are the legs. Append-only, partitioned by id."""

    __tablename__ = "ledger_journal"
    __table_args__ = (
        one_of("kind", JournalKind),
        CheckConstraint(
            f"actor not like 'admin:%' or coalesce(length(reason), 0) >= {REASON_LEAST}",
            name="admin_needs_reason",
        ),
        Index(None, "xid", postgresql_using="brin", postgresql_with=_BRIN),
        # Journals of a period: business time rises with the pages too.
        Index(None, "at", postgresql_using="brin", postgresql_with=_BRIN),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Made by `ledger_post`: milliseconds of the database's clock, then 20 bits of a sequence."""
    kind: Mapped[str]
    actor: Mapped[str]
    """`user:<id>`, `admin:<id>` or `system:<what>`."""
    reason: Mapped[str | None]
    ref_type: Mapped[str]
    ref_id: Mapped[UUID]
    at: Mapped[datetime]
    """Business time."""
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    xid: Mapped[int] = mapped_column(server_default=text("(pg_current_xact_id()::text::bigint)"))
    """The transaction that wrote it, by PostgreSQL's own number: ids may be committed out of order, and the number says
    which of them can still come (`seals.py`)."""


class Transfer(Base):
    """One debit and one credit of the same amount: an imbalance cannot be written down. Append-only.

    The trigger that applies the rows of a statement to the balances also sees that their journal and accounts are there,
    in this currency: foreign keys would look for each row.
    """

    __tablename__ = "ledger_transfer"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("debit_account <> credit_account", name="two_accounts"),
        Index(None, "debit_account", "journal_id"),
        Index(None, "credit_account", "journal_id"),
        {"postgresql_partition_by": "RANGE (journal_id)"},
    )

    journal_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    leg: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    debit_account: Mapped[int]
    credit_account: Mapped[int]
    currency: Mapped[str]
    amount: Mapped[int]
    hold_id: Mapped[UUID | None]
    """The hold whose money this is; written before the hold itself, hence no foreign key."""


class Request(Base):
    """A movement that was asked for: its key works once."""

    __tablename__ = "ledger_request"
    __table_args__ = (
        CheckConstraint("length(key) between 1 and 255", name="key_length"),
        CheckConstraint("length(request_hash) = 32", name="hash_length"),
    )

    scope: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    journal_id: Mapped[int]

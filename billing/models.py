"""Tables of money, and the words for what they hold.

Invalid states cannot be stored: each rule below is a constraint, or a trigger of the migration
`0001_billing` (append-only tables, the one writer of the ledger, the life of a hold).
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

OwnerId = NewType("OwnerId", UUID)
HoldId = NewType("HoldId", UUID)

# Owner of the accounts that belong to nobody but us.
PLATFORM = OwnerId(UUID(int=0))

# Shortest reason an admin may give for moving money (PROTOCOL §2).
REASON_LEAST = 10


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
    PLATFORM_REVENUE = "platform_revenue"
    """Our share, in shards: one hot row would serialise all settlements."""
    PLATFORM_EXPENSE = "platform_expense"
    """What admin adjustments give and take."""


class HoldStatus(StrEnum):
    """Life of a hold: held → released, or held → refunded. Never further."""

    HELD = "held"
    RELEASED = "released"
    REFUNDED = "refunded"


class SourceKind(StrEnum):
    """What was bought."""

    COURSE_SESSION = "course_session"
    COURSE_SLICE = "course_slice"
    BOOKING = "booking"
    PACKAGE_SLICE = "package_slice"


class Cause(StrEnum):
    """Why a hold was settled as it was."""

    ATTENDANCE = "attendance"
    TUTOR_ABSENT = "tutor_absent"
    CANCELLED = "cancelled"
    ADMIN = "admin"
    ADJUSTMENT = "adjustment"


class JournalKind(StrEnum):
    """What moved money."""

    PURCHASE = "purchase"
    REFUND = "refund"
    SETTLEMENT = "settlement"
    ADJUSTMENT = "adjustment"
    ADMIN_ADJUSTMENT = "admin_adjustment"


def one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    """Bind a text column to the words of an enumeration."""
    listed = ", ".join(f"'{word.value}'" for word in words)
    return CheckConstraint(f"{column} in ({listed})", name=f"{column}_known")


class Base(DeclarativeBase):
    """Tables of money."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012 -- SQLAlchemy reads it from the class
        int: BigInteger,
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
    }


class Outbox(Base):
    """A committed event on its way out; see `outbox.py`."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime]
    """Business time of what happened."""
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    reacted_at: Mapped[datetime | None]
    node: Mapped[UUID | None]


class PolicyRow(Base):
    """One version of the terms. Append-only; a hold keeps the version it was placed under."""

    __tablename__ = "policy"
    __table_args__ = (
        CheckConstraint(
            "course_platform_bps between 0 and 10000 and course_referral_bps between 0 and 10000",
            name="bps_range",
        ),
        CheckConstraint("attendance_percent between 0 and 100", name="percent_range"),
        CheckConstraint("min_price > 0", name="min_price_positive"),
        CheckConstraint("course_risk_days >= 0 and booking_risk_days >= 0", name="risk_not_negative"),
        CheckConstraint(f"length(reason) >= {REASON_LEAST}", name="reason_given"),
    )

    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    effective_from: Mapped[datetime]
    course_platform_bps: Mapped[int] = mapped_column(Integer)
    course_referral_bps: Mapped[int] = mapped_column(Integer)
    attendance_percent: Mapped[int] = mapped_column(Integer)
    min_price: Mapped[int]
    course_risk_days: Mapped[int] = mapped_column(Integer)
    booking_risk_days: Mapped[int] = mapped_column(Integer)
    actor: Mapped[str]
    reason: Mapped[str]


class Account(Base):
    """A place where money is. The balance is written by the ledger's trigger alone."""

    __tablename__ = "ledger_account"
    __table_args__ = (
        UniqueConstraint("kind", "owner_id", "currency", "shard"),
        UniqueConstraint("id", "currency"),
        one_of("kind", AccountKind),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_code"),
        CheckConstraint("kind in ('platform_revenue', 'platform_expense') or balance >= 0", name="floor"),
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


class Transfer(Base):
    """One debit and one credit of the same amount: an imbalance cannot be written down. Append-only."""

    __tablename__ = "ledger_transfer"
    __table_args__ = (
        ForeignKeyConstraint(["debit_account", "currency"], [Account.id, Account.currency]),
        ForeignKeyConstraint(["credit_account", "currency"], [Account.id, Account.currency]),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("debit_account <> credit_account", name="two_accounts"),
        Index(None, "debit_account", "journal_id"),
        Index(None, "credit_account", "journal_id"),
        {"postgresql_partition_by": "RANGE (journal_id)"},
    )

    journal_id: Mapped[int] = mapped_column(ForeignKey(Journal.id), primary_key=True)
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


class Hold(Base):
    """Money of one student set aside for one lesson."""

    __tablename__ = "hold"
    __table_args__ = (
        UniqueConstraint("id", "amount", "tutor_bps"),
        UniqueConstraint("source_id", "slice_no"),
        Index(
            "uq_hold_one_open",
            "student_id",
            "lesson_id",
            unique=True,
            postgresql_where=text("status = 'held' and lesson_id is not null"),
        ),
        ForeignKeyConstraint(
            ["wallet_account", "currency"], [Account.id, Account.currency], name="fk_hold_wallet"
        ),
        ForeignKeyConstraint(
            ["escrow_account", "currency"], [Account.id, Account.currency], name="fk_hold_escrow"
        ),
        one_of("status", HoldStatus),
        one_of("source_kind", SourceKind),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("tutor_bps between 0 and 10000", name="bps_range"),
        CheckConstraint("slice_no >= 1", name="slice_positive"),
        CheckConstraint("student_id <> tutor_id", name="two_people"),
        Index(None, "student_id", "placed_at", "id"),
        Index(None, "tutor_id", "placed_at", "id"),
        Index(None, "placed_at", "id"),
        Index(None, "lesson_id"),
        Index(None, "place_journal"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    student_id: Mapped[UUID]
    tutor_id: Mapped[UUID]
    lesson_id: Mapped[UUID | None]
    """Empty for a slice of a course whose session is not announced yet; set once."""
    source_kind: Mapped[str]
    source_id: Mapped[UUID]
    """The purchase or booking."""
    slice_no: Mapped[int] = mapped_column(Integer)
    amount: Mapped[int]
    currency: Mapped[str]
    tutor_bps: Mapped[int] = mapped_column(Integer)
    attribution: Mapped[str]
    """Why this share: `platform`, `referral`, …; frozen at the purchase."""
    policy_version: Mapped[int] = mapped_column(Integer, ForeignKey(PolicyRow.version))
    wallet_account: Mapped[int]
    escrow_account: Mapped[int]
    status: Mapped[str] = mapped_column(server_default=text("'held'"))
    placed_at: Mapped[datetime]
    place_journal: Mapped[int] = mapped_column(ForeignKey(Journal.id))


class FactsRow(Base):
    """What is known about a lesson that is over. Append-only.

    Version 1 decides the settlement; later versions are evidence that came too late for it.
    """

    __tablename__ = "lesson_facts"
    __table_args__ = (
        CheckConstraint("version >= 1", name="version_positive"),
        CheckConstraint("planned_s > 0 and tutor_attended_s >= 0", name="seconds_sane"),
        CheckConstraint("total_s between 0 and planned_s", name="total_within_plan"),
        # Nobody can be measured against nothing.
        CheckConstraint("total_s > 0 or tutor_absent or cancelled", name="total_needed"),
        CheckConstraint("absence_percent between 0 and 100", name="percent_range"),
    )

    lesson_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    tutor_id: Mapped[UUID]
    planned_s: Mapped[int]
    total_s: Mapped[int]
    tutor_attended_s: Mapped[int]
    tutor_absent: Mapped[bool]
    cancelled: Mapped[bool]
    actor: Mapped[str | None]
    """Who cancelled the lesson."""
    reason: Mapped[str | None]
    """Why it was cancelled."""
    absence_percent: Mapped[int] = mapped_column(Integer)
    """The policy's threshold when the lesson ended; `checks.py` measures `tutor_absent` against it."""
    ended_at: Mapped[datetime]
    evidence: Mapped[dict[str, Any]]
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of these facts: the same evidence told again makes no new version."""
    recorded_at: Mapped[datetime]


class PresenceRow(Base):
    """How long one student was in one lesson, and the intervals that say so. Append-only."""

    __tablename__ = "lesson_presence"
    __table_args__ = (
        ForeignKeyConstraint(["lesson_id", "version"], [FactsRow.lesson_id, FactsRow.version]),
        CheckConstraint("attended_s >= 0", name="attended_not_negative"),
    )

    lesson_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    student_id: Mapped[UUID] = mapped_column(primary_key=True)
    attended_s: Mapped[int]
    intervals: Mapped[list[dict[str, Any]]]
    confidence: Mapped[str]


class Due(Base):
    """A lesson that waits for its settlement; the row goes when the money moves."""

    __tablename__ = "settle_due"
    __table_args__ = (
        CheckConstraint("version = 1", name="first_version"),
        ForeignKeyConstraint(["lesson_id", "version"], [FactsRow.lesson_id, FactsRow.version]),
    )

    lesson_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    due_at: Mapped[datetime]


class Settlement(Base):
    """Where the money of a hold went. Append-only.

    Number 0 is the settlement and closes the hold; higher numbers are adjustments, each with the whole new
    division. Constraints: the parts are the amount, the split is the frozen one, and where attendance
    decides, the division is the one that the attendance asks for.
    """

    __tablename__ = "hold_settlement"
    __table_args__ = (
        ForeignKeyConstraint(["hold_id", "amount", "tutor_bps"], [Hold.id, Hold.amount, Hold.tutor_bps]),
        ForeignKeyConstraint(["hold_id", "previous"], ["hold_settlement.hold_id", "hold_settlement.number"]),
        ForeignKeyConstraint(["lesson_id", "facts_version"], [FactsRow.lesson_id, FactsRow.version]),
        one_of("cause", Cause),
        CheckConstraint("(number = 0) = (cause <> 'adjustment')", name="number_fits_cause"),
        CheckConstraint("number >= 0", name="number_not_negative"),
        CheckConstraint("to_tutor >= 0 and to_platform >= 0 and to_student >= 0", name="parts_not_negative"),
        CheckConstraint("to_tutor + to_platform + to_student = amount", name="parts_add_up"),
        CheckConstraint("to_tutor = (amount - to_student) * tutor_bps / 10000", name="frozen_split"),
        CheckConstraint(
            "cause <> 'attendance' or (attended_s is not null and total_s is not null and total_s > 0"
            " and threshold_percent is not null and to_student ="
            " case when attended_s * 100 >= threshold_percent * total_s then 0 else amount end)",
            name="attendance_rule",
        ),
        CheckConstraint(
            "cause not in ('tutor_absent', 'cancelled') or to_student = amount",
            name="undelivered_is_refunded",
        ),
        CheckConstraint(
            "cause not in ('attendance', 'tutor_absent')"
            " or (lesson_id is not null and facts_version is not null and facts_version = 1)",
            name="facts_decide",
        ),
        CheckConstraint("(lesson_id is null) = (facts_version is null)", name="facts_whole"),
        CheckConstraint(
            f"cause <> 'admin' or coalesce(length(reason), 0) >= {REASON_LEAST}", name="admin_needs_reason"
        ),
        Index(None, "lesson_id"),
    )

    hold_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    previous: Mapped[int | None] = mapped_column(Integer, Computed("nullif(number - 1, -1)", persisted=True))
    amount: Mapped[int]
    tutor_bps: Mapped[int] = mapped_column(Integer)
    to_tutor: Mapped[int]
    to_platform: Mapped[int]
    to_student: Mapped[int]
    cause: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str | None]
    lesson_id: Mapped[UUID | None]
    facts_version: Mapped[int | None] = mapped_column(Integer)
    attended_s: Mapped[int | None]
    total_s: Mapped[int | None]
    threshold_percent: Mapped[int | None] = mapped_column(Integer)
    risk_until: Mapped[datetime | None]
    """Until then late evidence adjusts by itself, and the tutor's share is pending."""
    journal_id: Mapped[int] = mapped_column(ForeignKey(Journal.id))
    settled_at: Mapped[datetime]


class Review(Base):
    """A hold whose late evidence disagrees with its settlement, outside the risk window: people decide."""

    __tablename__ = "hold_review"
    __table_args__ = (
        ForeignKeyConstraint(["lesson_id", "facts_version"], [FactsRow.lesson_id, FactsRow.version]),
        CheckConstraint("to_student >= 0", name="part_not_negative"),
    )

    hold_id: Mapped[UUID] = mapped_column(ForeignKey(Hold.id), primary_key=True)
    lesson_id: Mapped[UUID]
    facts_version: Mapped[int] = mapped_column(Integer)
    to_student: Mapped[int]
    """What the late evidence would give back."""
    opened_at: Mapped[datetime]

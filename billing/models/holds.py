"""Holds, the facts that decide them, and where their money went."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import REASON_LEAST, WORDS_MOST, Base, one_of
from billing.models.ledger import Account, Journal
from billing.models.terms import PolicyRow


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
    OUTCOME = "outcome"
    """Of a booking, or a lesson of a package: who was there at all."""
    FORFEITED = "forfeited"
    """Of a booking, or a lesson of a package: the student cancelled too late, or was reported absent; the tutor is paid."""
    ADMIN = "admin"
    ADJUSTMENT = "adjustment"
    """Late evidence."""
    REFUND = "refund"
    """An administrator, or a rule of the product, gave money of a released hold back."""
    DISPUTE = "dispute"
    """A dispute was decided for the student."""
    CARD_DISPUTE = "card_dispute"
    """The student's bank took the payment back."""
    EXPIRED = "expired"
    """Nobody took this lesson of a package in time; the terms say whose the money is."""


# Causes by which money of a settled hold goes back, in parts or whole; people decided, so evidence that comes later
# does not judge such a hold again.
GIVEN_BACK = (Cause.REFUND, Cause.DISPUTE, Cause.CARD_DISPUTE)
_LATER = ", ".join(f"'{cause.value}'" for cause in (Cause.ADJUSTMENT, *GIVEN_BACK))


class Hold(Base):
    """Money of one student set aside for one lesson."""

    __tablename__ = "hold"
    __table_args__ = (
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
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    student_id: Mapped[UUID]
    tutor_id: Mapped[UUID]
    lesson_id: Mapped[UUID | None]
    """Empty for a slice of a course whose session is not announced yet, and of a package while nobody has taken it.

    Set once; but a lesson of a package goes back to it while it is not over (trigger).
    """
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
    """By the policy when the lesson ended: of the lesson as a whole. Each hold has terms of its own."""
    cancelled: Mapped[bool]
    actor: Mapped[str | None]
    """Who cancelled the lesson."""
    reason: Mapped[str | None]
    """Why it was cancelled."""
    absence_percent: Mapped[int] = mapped_column(Integer)
    """The policy's threshold when the lesson ended; `checks.py` measures `tutor_absent` against it."""
    is_by_hold: Mapped[bool] = mapped_column(server_default=text("false"))
    """Each hold measures the tutor by its own terms. Facts of once have measured all of them by `absence_percent`."""
    ended_at: Mapped[datetime]
    evidence: Mapped[dict[str, Any]]
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of these facts: the same evidence told again makes no new version."""
    recorded_at: Mapped[datetime]
    known_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """By the database's clock: evidence stored later is not in these facts."""

    def tutor_percent(self, own_percent: int) -> int:
        """Return what the tutor is measured by for a hold whose terms name this threshold."""
        return own_percent if self.is_by_hold else self.absence_percent


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

    Number 0 is the settlement and closes the hold; higher numbers are adjustments and what was given back later, each
    with the whole new division. Constraints: the parts are the amount, the split is the frozen one, and where attendance
    decides, the division is the one that the attendance asks for. The trigger that closes the holds of a statement also
    sees that hold, facts and journal are there and say the same: foreign keys would look for each row.
    """

    __tablename__ = "hold_settlement"
    __table_args__ = (
        ForeignKeyConstraint(["hold_id", "previous"], ["hold_settlement.hold_id", "hold_settlement.number"]),
        one_of("cause", Cause),
        CheckConstraint(f"(number = 0) = (cause not in ({_LATER}))", name="number_fits_cause"),
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
            "cause <> 'outcome' or (attended_s is not null and tutor_attended_s is not null"
            " and to_student = case when tutor_attended_s > 0 then 0 else amount end)",
            name="outcome_rule",
        ),
        CheckConstraint("cause <> 'forfeited' or to_student = 0", name="forfeited_is_paid"),
        CheckConstraint(
            "cause not in ('attendance', 'tutor_absent', 'outcome')"
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
    tutor_attended_s: Mapped[int | None]
    """Only where it decides: by cause `outcome`."""
    total_s: Mapped[int | None]
    threshold_percent: Mapped[int | None] = mapped_column(Integer)
    risk_until: Mapped[datetime | None]
    """Until then late evidence adjusts by itself, and the tutor's share is pending."""
    journal_id: Mapped[int]
    settled_at: Mapped[datetime]


class Review(Base):
    """Late evidence of a lesson that disagrees with what became of a hold, and cannot adjust it: people decide.

    It was settled outside the risk window, or went back to its package; then it may pay for another lesson by now, and be
    in review for both.
    """

    __tablename__ = "hold_review"
    __table_args__ = (
        ForeignKeyConstraint(["lesson_id", "facts_version"], [FactsRow.lesson_id, FactsRow.version]),
        CheckConstraint("to_student >= 0", name="part_not_negative"),
        CheckConstraint(
            "(closed_at is null) = (closed_by is null) and (closed_at is null) = (notes is null)",
            name="closed_whole",
        ),
        CheckConstraint(
            f"notes is null or length(notes) between {REASON_LEAST} and {WORDS_MOST}", name="notes_length"
        ),
        UniqueConstraint("id", name="uq_hold_review_id"),
        Index(None, "opened_at", "id"),
    )

    hold_id: Mapped[UUID] = mapped_column(ForeignKey(Hold.id), primary_key=True)
    lesson_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(server_default=func.gen_random_uuid())
    facts_version: Mapped[int] = mapped_column(Integer)
    to_student: Mapped[int]
    """What the late evidence would leave the student of the hold's money."""
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[UUID | None]
    notes: Mapped[str | None]
    """The word with which somebody closed it."""

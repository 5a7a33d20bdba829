"""The table of bookings, and that of tutors' strikes.

What must never be stored is refused by the database: constraints of one row, exclusion constraints against two lessons
at once (of the tutor, courses included: `tutors.models.TutorTime`), triggers for the arrows and for what is frozen.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, func, select, text
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from billing.models import Package, one_of
from server.errors import NotFoundError
from server.features.accounts.models import User
from server.features.bookings import rules
from server.features.bookings.rules import BookingStatus
from server.models import Base


class Booking(Base):
    """A lesson of one student with one tutor. Its id is also that of its room, once there is one, and of its payment."""

    __tablename__ = "booking"
    __table_args__ = (
        one_of("status", rules.BookingStatus),
        one_of("outcome", rules.Outcome),
        one_of("cancelled_by", rules.Party),
        CheckConstraint(
            "(status in ('ended', 'cancelled', 'expired')) = (outcome is not null and ended_at is not null)",
            name="over_has_outcome",
        ),
        CheckConstraint("status = 'ended' or outcome = 'not_held'", name="held_if_ended"),
        CheckConstraint(
            "case when status in ('scheduled', 'active', 'ended') then accepted_at is not null"
            " when status in ('requested', 'expired') then accepted_at is null else true end",
            name="agreed_if_held",
        ),
        CheckConstraint("(status = 'cancelled') = (cancelled_by is not null)", name="cancelled_by_somebody"),
        CheckConstraint("(package_id is null) = (hourly_rate is not null)", name="paid_one_way"),
        CheckConstraint("(package_id is null) = (price > 0) and price >= 0", name="price_fits_way"),
        CheckConstraint("student_id <> tutor_id", name="two_people"),
        CheckConstraint(
            "ends_at - starts_at between interval '1 minute' and interval '600 minutes'",
            name="duration_range",
        ),
        CheckConstraint("answer_by > requested_at and answer_by <= starts_at", name="answer_before_start"),
        CheckConstraint("length(topic) <= 255", name="topic_length"),
        CheckConstraint("length(notes) <= 2000", name="notes_length"),
        CheckConstraint("version > 0", name="version_positive"),
        ExcludeConstraint(
            (text("student_id"), "="),
            (text("tstzrange(starts_at, ends_at)"), "&&"),
            name="ex_booking_student_id",
            using="gist",
            where=text("status in ('requested', 'scheduled', 'active')"),
        ),
        Index(None, "student_id", "starts_at", "id"),
        Index(None, "tutor_id", "starts_at", "id"),
        Index(None, "starts_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    student_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    tutor_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    package_id: Mapped[UUID | None] = mapped_column(ForeignKey(Package.__table__.c.id), index=True)
    """What pays for it instead of its student's money."""
    hourly_rate: Mapped[int | None] = mapped_column(BigInteger)
    price: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    policy_version: Mapped[int]
    starts_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ends_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    topic: Mapped[str] = mapped_column(Text)
    notes: Mapped[str] = mapped_column(Text)
    student_timezone: Mapped[str] = mapped_column(Text)
    tutor_timezone: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str | None] = mapped_column(Text)
    cancelled_by: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    """In words, of who declined or cancelled it."""
    requested_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    answer_by: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    accepted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    version: Mapped[int] = mapped_column(default=1)
    """Rises with every change."""

    @property
    def minutes(self) -> int:
        """Return the planned length."""
        return int((self.ends_at - self.starts_at).total_seconds()) // 60


class Strike(Base):
    """A booking that counts against its tutor: they did not come, or cancelled late."""

    __tablename__ = "tutor_strike"
    __table_args__ = (
        CheckConstraint("cause in ('no_show', 'late_cancel')", name="cause_known"),
        Index(None, "tutor_id", "at"),
    )

    booking_id: Mapped[UUID] = mapped_column(ForeignKey(Booking.id), primary_key=True)
    tutor_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    cause: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    lifted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """An administrator took it back."""


async def booking_of(session: AsyncSession, booking_id: UUID, *, lock: bool = False) -> Booking:
    """Return a booking; `lock` makes everybody else who changes it wait for this transaction.

    Raises:
        NotFoundError: There is none.
    """
    row = await find(session, booking_id, lock=lock)
    if row is None:
        raise NotFoundError("There is no such booking.")
    return row


async def find(session: AsyncSession, booking_id: UUID, *, lock: bool = False) -> Booking | None:
    """Return a booking, if there is one: the same for rooms, whose ids may be of anything."""
    query = select(Booking).where(Booking.id == booking_id)
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    found: Booking | None = await session.scalar(query)
    return found


async def strikes_of(session: AsyncSession, tutor_id: UUID, *, now: datetime) -> int:
    """Return how many strikes count against a tutor now."""
    query = select(func.count()).where(
        Strike.tutor_id == tutor_id,
        Strike.lifted_at.is_(None),
        Strike.at > now - rules.STRIKES_WITHIN,
    )
    return await session.scalar(query) or 0


def is_live(row: Booking) -> bool:
    """Return whether it takes its parties' time."""
    return BookingStatus(row.status) in rules.LIVE

"""Tables of courses, sessions and purchases, and the queries that are used twice.

What must never be stored is refused by the database: a constraint for each rule of one row, an exclusion constraint
against double-booked tutors (`tutors.models.TutorTime`), and triggers for the arrows of each life and for what is frozen.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from billing.models import Hold, one_of
from rooms.models import Room
from server.errors import NotFoundError
from server.features.accounts.models import ReferralCode, User
from server.features.courses import rules
from server.features.courses.rules import PurchaseStatus, SessionStatus
from server.models import Base


class Course(Base):
    """A series of sessions that a tutor sells, as a whole or one by one."""

    __tablename__ = "course"
    __table_args__ = (
        one_of("price_type", rules.PriceType),
        one_of("status", rules.CourseStatus),
        one_of("publication", rules.Publication),
        CheckConstraint("level in ('A1', 'A2', 'B1', 'B2', 'C1', 'C2')", name="level_known"),
        CheckConstraint("length(title) between 1 and 255", name="title_length"),
        CheckConstraint("length(description) <= 5000", name="description_length"),
        CheckConstraint("length(category) between 1 and 100", name="category_length"),
        CheckConstraint("duration_hours > 0", name="duration_positive"),
        CheckConstraint("total_sessions between 1 and 100", name="total_sessions_range"),
        CheckConstraint("max_students between 1 and 1000", name="max_students_range"),
        CheckConstraint("price_per_session > 0 and price_full_course > 0", name="prices_positive"),
        CheckConstraint(
            "case price_type when 'full_course' then price_full_course else price_per_session end is not null",
            name="leading_price_given",
        ),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_code"),
        Index(None, "created_at", "id", postgresql_where=text("publication = 'published'")),
        Index(None, "tutor_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tutor_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    language: Mapped[str] = mapped_column(Text)
    level: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text)
    duration_hours: Mapped[float]
    total_sessions: Mapped[int] = mapped_column(SmallInteger)
    """Announced; full-course purchases are cut into as many slices."""
    price_type: Mapped[str] = mapped_column(Text)
    price_per_session: Mapped[int | None] = mapped_column(BigInteger)
    price_full_course: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    max_students: Mapped[int] = mapped_column(SmallInteger)
    status: Mapped[str] = mapped_column(Text, server_default=rules.CourseStatus.UPCOMING)
    publication: Mapped[str] = mapped_column(Text, server_default=rules.Publication.DRAFT)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class CourseSession(Base):
    """One lesson of a course, with a room of its own."""

    __tablename__ = "course_session"
    __table_args__ = (
        UniqueConstraint("course_id", "number"),
        one_of("status", SessionStatus),
        CheckConstraint("number between 1 and 100", name="number_range"),
        CheckConstraint("length(title) between 1 and 255", name="title_length"),
        CheckConstraint(
            "ends_at - starts_at between interval '15 minutes' and interval '480 minutes'",
            name="duration_range",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    course_id: Mapped[UUID] = mapped_column(ForeignKey(Course.id))
    tutor_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    number: Mapped[int] = mapped_column(SmallInteger)
    title: Mapped[str] = mapped_column(Text)
    starts_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ends_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    status: Mapped[str] = mapped_column(Text, server_default=SessionStatus.SCHEDULED)
    room_id: Mapped[UUID] = mapped_column(ForeignKey(Room.id), unique=True)
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    reason: Mapped[str | None] = mapped_column(Text)
    """Why it ended or was cancelled."""

    @property
    def duration_minutes(self) -> int:
        """Return the planned length."""
        return int((self.ends_at - self.starts_at).total_seconds()) // 60


class Purchase(Base):
    """A full course or one session, bought by one student; its id is the id of the quote it came from."""

    __tablename__ = "purchase"
    __table_args__ = (
        one_of("kind", rules.PurchaseKind),
        one_of("status", PurchaseStatus),
        CheckConstraint("(kind = 'session') = (session_id is not null)", name="session_fits_kind"),
        CheckConstraint("kind = 'session' or status not in ('attended', 'missed')", name="full_course_life"),
        CheckConstraint("kind = 'full_course' or status <> 'completed'", name="session_life"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("tutor_bps between 0 and 10000", name="bps_range"),
        CheckConstraint("student_id <> tutor_id", name="two_people"),
        CheckConstraint("(status = 'active') = (ended_at is null)", name="ended_unless_active"),
        Index(
            "uq_purchase_live_course",
            "student_id",
            "course_id",
            unique=True,
            postgresql_where=text("kind = 'full_course' and status = 'active'"),
        ),
        Index(
            "uq_purchase_live_session",
            "student_id",
            "session_id",
            unique=True,
            postgresql_where=text("kind = 'session' and status <> 'cancelled'"),
        ),
        Index(None, "student_id", "created_at"),
        Index(None, "course_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    course_id: Mapped[UUID] = mapped_column(ForeignKey(Course.id))
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey(CourseSession.id))
    student_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    tutor_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    tutor_bps: Mapped[int] = mapped_column(SmallInteger)
    attribution: Mapped[str] = mapped_column(Text)
    policy_version: Mapped[int]
    status: Mapped[str] = mapped_column(Text, server_default=PurchaseStatus.ACTIVE)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    reason: Mapped[str | None] = mapped_column(Text)
    """Why it was cancelled."""


class Place(Base):
    """A paid seat in one announced session: who may enter, and the backstop of the maximum."""

    __tablename__ = "course_place"
    __table_args__ = (
        CheckConstraint("seat_no between 1 and max_students", name="seat_within_maximum"),
        Index(
            "uq_course_place_seat",
            "course_id",
            "number",
            "seat_no",
            unique=True,
            postgresql_where=text("live"),
        ),
        Index(
            "uq_course_place_student",
            "course_id",
            "number",
            "student_id",
            unique=True,
            postgresql_where=text("live"),
        ),
        Index(None, "purchase_id"),
    )

    hold_id: Mapped[UUID] = mapped_column(ForeignKey(Hold.__table__.c.id), primary_key=True)
    purchase_id: Mapped[UUID] = mapped_column(ForeignKey(Purchase.id))
    course_id: Mapped[UUID] = mapped_column(ForeignKey(Course.id))
    number: Mapped[int] = mapped_column(SmallInteger)
    """The session's; it need not be scheduled yet."""
    student_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    seat_no: Mapped[int] = mapped_column(SmallInteger)
    max_students: Mapped[int] = mapped_column(SmallInteger)
    """The course's, which never changes once something is sold."""
    live: Mapped[bool] = mapped_column(server_default=text("true"))
    """False once it is given back or its session cancelled."""


# --- Queries --------------------------------------------------------------------------------------


async def course_of(session: AsyncSession, course_id: UUID, *, lock: bool = False) -> Course:
    """Return a course; `lock` makes everything that sells or changes it wait for this transaction.

    Raises:
        NotFoundError: There is none.
    """
    query = select(Course).where(Course.id == course_id)
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    course = await session.scalar(query)
    if course is None:
        raise NotFoundError("There is no such course.")
    return course


async def lock_courses_of(session: AsyncSession, purchase_ids: Collection[UUID]) -> None:
    """Make everything that sells or changes the courses of these purchases wait for this transaction."""
    courses = select(Purchase.course_id).where(Purchase.id.in_(purchase_ids))
    await session.execute(
        select(Course.id)
        .where(Course.id.in_(courses))
        .order_by(Course.id)
        .with_for_update(key_share=True, of=Course)
    )


async def codes_of(session: AsyncSession, course_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return the referral codes of courses."""
    rows = await session.execute(
        select(ReferralCode.course_id, ReferralCode.code).where(ReferralCode.course_id.in_(set(course_ids)))
    )
    return dict(rows.all())


async def sessions_of(session: AsyncSession, course_id: UUID) -> list[CourseSession]:
    """Return a course's sessions by number."""
    rows = await session.scalars(
        select(CourseSession).where(CourseSession.course_id == course_id).order_by(CourseSession.number)
    )
    return list(rows)


async def session_of(session: AsyncSession, course_id: UUID, session_id: UUID) -> CourseSession:
    """Return one session of a course.

    Raises:
        NotFoundError: The course has no such session.
    """
    row = await session.get(CourseSession, session_id, populate_existing=True)
    if row is None or row.course_id != course_id:
        raise NotFoundError("There is no such session in this course.")
    return row


async def is_sold(session: AsyncSession, course_id: UUID, *, number: int | None = None) -> bool:
    """Return whether anybody has a live place in the course, or in one session of it."""
    query = select(Place.hold_id).where(Place.course_id == course_id, Place.live)
    if number is not None:
        query = query.where(Place.number == number)
    return await session.scalar(query.limit(1)) is not None


async def places_taken(session: AsyncSession, course_id: UUID) -> dict[int, int]:
    """Return how many live places each session number has; numbers without any are absent."""
    rows = await session.execute(
        select(Place.number, func.count().label("taken"))
        .where(Place.course_id == course_id, Place.live)
        .group_by(Place.number)
    )
    return {row.number: row.taken for row in rows}


async def students_in(session: AsyncSession, course_ids: list[UUID]) -> dict[UUID, int]:
    """Return how many people have an active purchase of each course (F.1 item 5)."""
    rows = await session.execute(
        select(Purchase.course_id, func.count(Purchase.student_id.distinct()).label("students"))
        .where(Purchase.course_id.in_(course_ids), Purchase.status == PurchaseStatus.ACTIVE)
        .group_by(Purchase.course_id)
    )
    return {row.course_id: row.students for row in rows}

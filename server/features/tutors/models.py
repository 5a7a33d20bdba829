"""The table of tutors' profiles."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, DateTime, ForeignKey, Text, text
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from server.features.accounts.models import User
from server.models import Base


class TutorProfile(Base):
    """What a tutor says of themselves. Whether they may teach stands in their account."""

    __tablename__ = "tutor_profile"
    __table_args__ = (
        CheckConstraint("hourly_rate between 500 and 50000", name="hourly_rate_is_sane"),
        CheckConstraint("experience_years between 0 and 80", name="experience_is_sane"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    subjects: Mapped[list[str]] = mapped_column(ARRAY(Text))
    languages: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """ISO 639-1."""
    hourly_rate: Mapped[int | None]
    """US cents."""
    experience_years: Mapped[int | None]
    is_adult: Mapped[bool]
    """They say that they are 18 or older."""
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    submitted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """When they last asked to be approved."""
    answer: Mapped[str | None] = mapped_column(Text)
    """Why they were refused."""


class TutorTime(Base):
    """When tutors teach: a row for each live course session and booking, kept by triggers of their tables.

    Nobody teaches two lessons at once, whatever they are (F.1 item 7); requests take the time too.
    """

    __tablename__ = "tutor_time"
    __table_args__ = (
        ExcludeConstraint(
            (text("tutor_id"), "="),
            (text("tstzrange(starts_at, ends_at)"), "&&"),
            name="ex_tutor_time_tutor_id",
            using="gist",
        ),
    )

    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    """Of the course session or the booking."""
    tutor_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    starts_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ends_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


async def profile_of(session: AsyncSession, user_id: UUID, *, now: datetime) -> TutorProfile:
    """Return a tutor's profile; of who has written nothing yet an empty one that is not stored."""
    return await session.get(TutorProfile, user_id) or TutorProfile(
        user_id=user_id,
        title="",
        description="",
        subjects=[],
        languages=[],
        hourly_rate=None,
        experience_years=None,
        is_adult=False,
        updated_at=now,
        submitted_at=None,
        answer=None,
    )

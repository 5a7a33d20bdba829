"""The table of tutors' profiles."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, DateTime, ForeignKey, Text
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

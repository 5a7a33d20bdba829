"""Tables of talks: what a host announced, and who was there."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, TextClause, text
from sqlalchemy.orm import Mapped, mapped_column

from rooms.models import Room
from server.features.accounts.models import User
from server.models import Base

LISTED_BY: Mapping[str, tuple[str | TextClause, ...]] = {
    "ix_talk_language": (text("lower(language)"),),
    "ix_talk_level": ("level",),
    "ix_talk_topic": (text("lower(topic)"),),
    "ix_talk_language_level": (text("lower(language)"), "level"),
    "ix_talk_nearby_language": ("region", text("lower(language)")),
}


class Talk(Base):
    """What a host announced of a talk. Its title, state, seats and times are the room's to say."""

    __tablename__ = "talk"
    __table_args__ = (
        CheckConstraint("region ~ '^[A-Z]{2}$'", name="region_is_a_country"),
        # The public list: newest first, everywhere or in one country. Closed talks leave these indexes.
        Index(
            "ix_talk_listed",
            "created_at",
            "id",
            postgresql_where=text("is_public and closed_at is null"),
        ),
        Index(
            "ix_talk_nearby",
            "region",
            "created_at",
            "id",
            postgresql_where=text("is_public and closed_at is null"),
        ),
        # The same narrowed by one wish, or by the pairs that people choose; what else they wish is filtered on the way.
        *(
            Index(name, *wishes, "created_at", "id", postgresql_where=text("is_public and closed_at is null"))
            for name, wishes in LISTED_BY.items()
        ),
        Index(None, "host_id", "created_at"),
        # The administrators' history: everybody's, newest first.
        Index("ix_talk_created_at_id", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    room_id: Mapped[UUID] = mapped_column(ForeignKey(Room.__table__.c.id), unique=True)
    code: Mapped[str] = mapped_column(Text, unique=True)
    host_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    """Who opened it; the host's role may pass on, this does not."""
    description: Mapped[str] = mapped_column(Text)
    language: Mapped[str] = mapped_column(Text)
    level: Mapped[str | None] = mapped_column(Text)
    topic: Mapped[str | None] = mapped_column(Text)
    region: Mapped[str | None] = mapped_column(Text)
    """ISO 3166-1 alpha-2; None lies near nobody."""
    city: Mapped[str | None] = mapped_column(Text)
    is_public: Mapped[bool]
    """A private talk is joined by its link and never listed."""
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    closed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    read_to: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Up to which number of the room's journal the stays below are told."""


class TalkStay(Base):
    """Somebody's time in a talk, from taking a seat to losing it; coming back makes another row."""

    __tablename__ = "talk_stay"
    __table_args__ = (
        Index(None, "user_id", "taken_at"),
        # Talks in which somebody is now, for bringing their own history up to date.
        Index("ix_talk_stay_open", "user_id", postgresql_where=text("left_at is null")),
    )

    talk_id: Mapped[UUID] = mapped_column(ForeignKey(Talk.id), primary_key=True)
    seat_generation: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    taken_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    """The seat was given."""
    joined_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """None: never came."""
    left_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

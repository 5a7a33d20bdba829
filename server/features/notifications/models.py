"""The table of notifications."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from server.features.accounts.models import User
from server.models import Base


class Notification(Base):
    """One thing that one person was told."""

    __tablename__ = "notification"
    __table_args__ = (
        # An event tells a person one thing, however often its reaction runs.
        UniqueConstraint("event_key", "user_id"),
        Index(None, "user_id", "created_at", "id"),
        Index("ix_notification_unread", "user_id", postgresql_where=text("read_at is null")),
        Index(None, "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    event_key: Mapped[str] = mapped_column(Text)
    """Names the event that it tells of."""
    type: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """The facts that the text was made from."""
    link: Mapped[str | None] = mapped_column(Text)
    """Page of the client that it leads to."""
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    """Business time of the event."""
    read_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

"""Work that waits: rows of the one job engine."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Identity, Index, Integer, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import Base


class JobRow(Base):
    """One piece of work, committed with what asked for it; the row goes in the transaction of its effect."""

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("kind", "key"),
        CheckConstraint("length(key) between 1 and 255", name="key_length"),
        CheckConstraint("tries >= 0", name="tries_not_negative"),
        CheckConstraint("(lease is null) = (leased_until is null)", name="lease_whole"),
        CheckConstraint("dead_at is null or (lease is null and error is not null)", name="dead_has_error"),
        Index(None, "run_at", "id", postgresql_where=text("dead_at is null")),
        Index(None, "dead_at", postgresql_where=text("dead_at is not null")),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    kind: Mapped[str]
    """Names the function that does it."""
    key: Mapped[str]
    """The same work asked for again while it waits is the same row."""
    payload: Mapped[dict[str, Any]]
    run_at: Mapped[datetime]
    """On the kind's own clock."""
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    lease: Mapped[UUID | None]
    """Of whoever does it now: only with it can the row be finished."""
    leased_until: Mapped[datetime | None]
    """By the database's clock."""
    error: Mapped[str | None]
    """Of the last try."""
    dead_at: Mapped[datetime | None]
    """Given up: somebody must look."""
    enqueued_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

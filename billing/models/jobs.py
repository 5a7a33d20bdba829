"""Work that waits: rows of the one job engine."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Identity, Index, Integer, Interval, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import Base


class JobRow(Base):
    """One piece of work, committed with what asked for it.

    The row goes in the transaction of its effect; that of periodic work stays, and its `run_at` moves on.
    """

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("kind", "key"),
        CheckConstraint("length(key) between 1 and 255", name="key_length"),
        CheckConstraint("asked >= 1", name="asked_positive"),
        CheckConstraint("tries >= 0", name="tries_not_negative"),
        CheckConstraint("(lease is null) = (leased_until is null)", name="lease_whole"),
        CheckConstraint("dead_at is null or (lease is null and error is not null)", name="dead_has_error"),
        CheckConstraint("every is null or (every > interval '0' and dead_at is null)", name="periodic_lives"),
        CheckConstraint("every is not null or last_run_at is null", name="only_periodic_has_runs"),
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
    asked: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    """How often it was asked for: who finishes it has to have seen the last time."""
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Begun since it was asked for, or since the last run of periodic work that ended well."""
    lease: Mapped[UUID | None]
    """Of whoever does it now: only with it can the row be finished."""
    leased_until: Mapped[datetime | None]
    """By the database's clock."""
    error: Mapped[str | None]
    """Of the last try."""
    dead_at: Mapped[datetime | None]
    """Given up: somebody must look. On the kind's own clock."""
    every: Mapped[timedelta | None] = mapped_column(Interval)
    """The period of periodic work."""
    last_run_at: Mapped[datetime | None]
    """Of periodic work, on its own clock."""
    last_duration_ms: Mapped[int | None] = mapped_column(Integer)
    last_count: Mapped[int | None]
    enqueued_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

"""Tables of what runs by itself: events that the relay could not finish, and the clock's offset."""

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Integer, Interval, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.models import Base


class RelayFailure(Base):
    """An event whose reactions failed: when it is tried again, or that it is parked."""

    __tablename__ = "relay_failure"

    outbox_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    tries: Mapped[int] = mapped_column(Integer)
    retry_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """None: parked, somebody must look."""
    error: Mapped[str] = mapped_column(Text)


class ClockOffset(Base):
    """How far business time is ahead of the wall clock; one row, there once somebody travelled."""

    __tablename__ = "clock_offset"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    ahead: Mapped[timedelta] = mapped_column(Interval)

"""What all tables of money share, and the outbox."""

from datetime import datetime
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

OwnerId = NewType("OwnerId", UUID)
HoldId = NewType("HoldId", UUID)

# Owner of the accounts that belong to nobody but us.
PLATFORM = OwnerId(UUID(int=0))

# Shortest reason an admin may give for moving money (PROTOCOL §2).
REASON_LEAST = 10
# B-08d: what a student writes of a dispute, and what whoever decides answers.
WORDS_LEAST, WORDS_MOST = 10, 2_000


def one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    """Bind a text column to the words of an enumeration."""
    listed = ", ".join(f"'{word.value}'" for word in words)
    return CheckConstraint(f"{column} in ({listed})", name=f"{column}_known")


def violated(error: DBAPIError) -> str | None:
    """Return the name of the constraint that refused a statement."""
    cause = error.orig.__cause__ if error.orig is not None else None
    return getattr(cause, "constraint_name", None)


class Base(DeclarativeBase):
    """Tables of money."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012 -- SQLAlchemy reads it from the class
        int: BigInteger,
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
    }


class Outbox(Base):
    """A committed event on its way out; see `outbox.py`."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime]
    """Business time of what happened."""
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    reacted_at: Mapped[datetime | None]
    node: Mapped[UUID | None]

"""Papers that people were given: receipts and statements."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import Base, one_of


class PaperKind(StrEnum):
    """What a paper is about."""

    ENTRY = "entry"
    """One movement of somebody's money."""
    HOLD = "hold"
    TOP_UP = "top_up"
    STATEMENT = "statement"
    """A period."""


class PaperCount(Base):
    """How many papers a year has; whoever issues one holds its lock until the commit."""

    __tablename__ = "paper_count"
    __table_args__ = (CheckConstraint("last >= 0", name="last_not_negative"),)

    year: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    last: Mapped[int] = mapped_column(Integer)


class Paper(Base):
    """One paper as it was given; asked for again with the same facts, it is given again. Append-only.

    Constraints: the numbers of a year have no gap, and the hash is that of the file.
    """

    __tablename__ = "paper"
    __table_args__ = (
        ForeignKeyConstraint(["year", "previous"], ["paper.year", "paper.number"]),
        UniqueConstraint("owner_id", "kind", "subject", "facts_sha256"),
        one_of("kind", PaperKind),
        CheckConstraint("number >= 1", name="number_positive"),
        CheckConstraint("length(facts_sha256) = 32", name="facts_length"),
        CheckConstraint("pdf_sha256 = sha256(pdf)", name="hash_of_pdf"),
    )

    year: Mapped[int] = mapped_column(
        Integer, ForeignKey(PaperCount.year), primary_key=True, autoincrement=False
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    previous: Mapped[int | None] = mapped_column(Integer, Computed("nullif(number - 1, 0)", persisted=True))
    owner_id: Mapped[UUID]
    kind: Mapped[str]
    subject: Mapped[str]
    """Which entry, hold, top-up or period."""
    facts_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    """Over what it says, without its number and date."""
    pdf: Mapped[bytes] = mapped_column(LargeBinary)
    pdf_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    issued_at: Mapped[datetime]

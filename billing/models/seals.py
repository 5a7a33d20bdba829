"""What proves that the ledger is as it was, and what was undone in it."""

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import Base
from billing.models.ledger import Journal


class Seal(Base):
    """A link of the chain of hashes over all journals. Append-only.

    Its journals are those of the transactions from `since_xid` until before `upto_xid`: all of them were over when
    it was made, so none can come later. Constraints: the spans follow each other without a gap.
    """

    __tablename__ = "ledger_seal"
    __table_args__ = (
        UniqueConstraint("number", "upto_xid"),
        ForeignKeyConstraint(["previous", "since_xid"], ["ledger_seal.number", "ledger_seal.upto_xid"]),
        CheckConstraint("number >= 1", name="number_positive"),
        CheckConstraint("number > 1 or since_xid = 0", name="first_from_nothing"),
        CheckConstraint("upto_xid > since_xid", name="span_not_empty"),
        CheckConstraint("journals > 0 and first_id <= last_id", name="journals_positive"),
        CheckConstraint("length(sha256) = 32", name="hash_length"),
    )

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    previous: Mapped[int | None] = mapped_column(Computed("nullif(number - 1, 0)", persisted=True))
    since_xid: Mapped[int]
    upto_xid: Mapped[int]
    journals: Mapped[int]
    """How many."""
    first_id: Mapped[int]
    """The smallest id among them."""
    last_id: Mapped[int]
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    """Over the seal before, the journals, and this seal (`ledger_file.py`)."""
    sealed_at: Mapped[datetime]


class Reversal(Base):
    """A journal that is the whole of another one backwards: at most one for each. Append-only."""

    __tablename__ = "ledger_reversal"
    __table_args__ = (
        UniqueConstraint("journal_id"),
        CheckConstraint("reverses_id <> journal_id", name="two_journals"),
    )

    reverses_id: Mapped[int] = mapped_column(ForeignKey(Journal.id), primary_key=True, autoincrement=False)
    journal_id: Mapped[int] = mapped_column(ForeignKey(Journal.id))

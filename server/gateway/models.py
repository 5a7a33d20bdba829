"""Channels that have no journal of their own, such as `user:<id>`: their head and their publications."""

from sqlalchemy import BigInteger, Index, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.models import Base


class ChannelHead(Base):
    """How far a channel has come; its row lock orders the writers."""

    __tablename__ = "channel_head"

    channel: Mapped[str] = mapped_column(Text, primary_key=True)
    epoch: Mapped[str] = mapped_column(Text)
    """Fixed for the channel's life."""
    off: Mapped[int] = mapped_column(BigInteger)


class StoredPublication(Base):
    """One event of such a channel."""

    __tablename__ = "publication"
    __table_args__ = (Index(None, "ts"),)

    channel: Mapped[str] = mapped_column(Text, primary_key=True)
    off: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    ev: Mapped[str] = mapped_column(Text)
    ts: Mapped[int] = mapped_column(BigInteger)
    """Milliseconds of the Unix epoch."""
    d: Mapped[bytes] = mapped_column(LargeBinary)
    """The JSON that is sent, byte for byte: a recovered event looks like a live one."""

"""Tables of the live rooms.

`room`, `room_seat` and `room_ban` are projections that the journal writes in the same transaction as the
events; nobody else may write them. `room_event` is the truth.
"""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from billing.models import NAMING_CONVENTION


class Base(DeclarativeBase):
    """Base of the tables that belong to rooms."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
        bytes: LargeBinary,
    }


class Room(Base):
    """What lists and joins ask of a room without waking its actor."""

    __tablename__ = "room"
    __table_args__ = (
        CheckConstraint("cap > 0 AND seated BETWEEN 0 AND cap", name="seats"),
        CheckConstraint("kind = 'talk' OR ends_at > starts_at", name="window"),
        CheckConstraint("state IN ('open', 'live', 'closing', 'closed')", name="state"),
        Index("ix_room_seated", "id", postgresql_where=text("seated > 0")),
        # What administrators look at all the time, among all the rooms that there ever were.
        Index("ix_room_open", "created_at", "id", postgresql_where=text("state <> 'closed'")),
        Index("ix_room_closed", "created_at", "id", postgresql_where=text("state = 'closed'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    title: Mapped[str]
    epoch: Mapped[str]
    state: Mapped[str]
    cap: Mapped[int]
    seated: Mapped[int]
    """Seats taken or offered: full when equal to the cap."""
    owner: Mapped[str]
    host: Mapped[str | None]
    reason: Mapped[str | None]
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class RoomEvent(Base):
    """The journal. `seq` numbers everything, `off` the public events of the room's channel."""

    __tablename__ = "room_event"
    __table_args__ = (
        Index(
            "ix_room_event_room_id_off",
            "room_id",
            "off",
            unique=True,
            postgresql_where=text("off IS NOT NULL"),
        ),
    )

    room_id: Mapped[UUID] = mapped_column(ForeignKey(Room.id), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    off: Mapped[int | None]
    fence: Mapped[int]
    type: Mapped[str]
    data: Mapped[object] = mapped_column(JSONB)
    at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RoomSnapshot(Base):
    """State after event `seq`, so that replay is short. Only a cache: it may be deleted."""

    __tablename__ = "room_snapshot"

    room_id: Mapped[UUID] = mapped_column(ForeignKey(Room.id), primary_key=True)
    seq: Mapped[int]
    off: Mapped[int]
    version: Mapped[int]
    """Shape of the state; a snapshot of another shape is ignored and everything replayed."""
    state: Mapped[bytes]


class RoomSeat(Base):
    """Backstop of the cap: whatever the actor believes, these constraints hold."""

    __tablename__ = "room_seat"
    __table_args__ = (
        UniqueConstraint("room_id", "identity"),
        CheckConstraint("seat_no BETWEEN 1 AND cap", name="cap"),
    )

    room_id: Mapped[UUID] = mapped_column(ForeignKey(Room.id), primary_key=True)
    seat_no: Mapped[int] = mapped_column(primary_key=True)
    identity: Mapped[str]
    cap: Mapped[int]
    """Copy of the room's cap, which never changes."""


class RoomBan(Base):
    """Who was banned from a room, for as long as it lives; the edge asks here before it lets somebody look on."""

    __tablename__ = "room_ban"

    room_id: Mapped[UUID] = mapped_column(ForeignKey(Room.id), primary_key=True)
    identity: Mapped[str] = mapped_column(primary_key=True)


class RoomTimer(Base):
    """What a room has to do later; on the business clock or on the wall clock."""

    __tablename__ = "room_timer"
    __table_args__ = (
        CheckConstraint("clock IN ('business', 'wall')", name="clock"),
        Index("ix_room_timer_clock_due_at", "clock", "due_at"),
    )

    room_id: Mapped[UUID] = mapped_column(ForeignKey(Room.id), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[datetime]
    clock: Mapped[str]


class Node(Base):
    """A running process; alive while `expires_at` is in the future by the database's clock."""

    __tablename__ = "room_node"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    address: Mapped[str]
    renewed_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class RoomOwner(Base):
    """Which node runs a room. Whoever writes must hold the newest fence."""

    __tablename__ = "room_owner"
    __table_args__ = (Index("ix_room_owner_node_id", "node_id"),)

    room_id: Mapped[UUID] = mapped_column(ForeignKey(Room.id), primary_key=True)
    node_id: Mapped[UUID | None] = mapped_column(ForeignKey(Node.id))
    fence: Mapped[int]
    released_at: Mapped[datetime | None]


class MediaEvent(Base):
    """Inbox of LiveKit webhooks; the provider's event id makes a repeat harmless."""

    __tablename__ = "media_event"
    __table_args__ = (
        Index(
            "ix_media_event_room_id_unread",
            "room_id",
            postgresql_where=text("read_at IS NULL"),
        ),
        Index("ix_media_event_recorded_at_event_id", "recorded_at", "event_id"),
    )

    event_id: Mapped[str] = mapped_column(primary_key=True)
    room_id: Mapped[UUID | None]
    """None, or a room that is not ours: stored, never read."""
    generation: Mapped[int | None]
    room_name: Mapped[str]
    room_sid: Mapped[str | None]
    type: Mapped[str]
    identity: Mapped[str | None]
    participant_sid: Mapped[str | None]
    counted: Mapped[bool]
    """False for agents, recorders and egress: they take no seat and make no time."""
    created_at: Mapped[datetime]
    """LiveKit's `createdAt`, whole seconds, business clock."""
    joined_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    body: Mapped[object] = mapped_column(JSONB)
    """As received, without the secrets LiveKit puts into it (turnPassword)."""
    received_at: Mapped[datetime]
    """Our receive time, business clock."""
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    read_at: Mapped[datetime | None]


class EvidenceRow(Base):
    """One fact about who was there. Only socket stays change, and only by growing."""

    __tablename__ = "evidence"
    __table_args__ = (
        Index("ix_evidence_room_id", "room_id"),
        Index(
            "ix_evidence_stay",
            "room_id",
            "identity",
            "session",
            unique=True,
            postgresql_where=text("kind = 'stay'"),
        ),
        UniqueConstraint("ref"),
        CheckConstraint("until IS NULL OR until >= at", name="interval"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    room_id: Mapped[UUID] = mapped_column(ForeignKey(Room.id))
    kind: Mapped[str]
    at: Mapped[datetime]
    identity: Mapped[str | None]
    session: Mapped[str]
    until: Mapped[datetime | None]
    generation: Mapped[int]
    source: Mapped[str]
    reason: Mapped[str | None]
    room_sid: Mapped[str | None]
    joined_at: Mapped[datetime | None]
    received_at: Mapped[datetime | None]
    ref: Mapped[str | None]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Attendance(Base):
    """The frozen result of one person in one lesson, written once when the lesson closes."""

    __tablename__ = "attendance"

    room_id: Mapped[UUID] = mapped_column(ForeignKey(Room.id), primary_key=True)
    identity: Mapped[str] = mapped_column(primary_key=True)
    attended_s: Mapped[int]
    required_s: Mapped[int]
    percent: Mapped[int]
    reached: Mapped[bool]
    intervals: Mapped[object] = mapped_column(JSONB)
    confidence: Mapped[str]


class DeadLetter(Base):
    """A message that failed three times; somebody must look."""

    __tablename__ = "room_dead_letter"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    room_id: Mapped[UUID] = mapped_column(index=True)
    message: Mapped[object] = mapped_column(JSONB)
    error: Mapped[str]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())

"""What rooms are asked over the edge and what they answer (PROTOCOL 3)."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Raw

from billing.money import Money
from rooms.messages import ChatMessage, Identity, SeatView, Snapshot

# The rules of a room's chat know the longest text; this keeps a whole frame from being called one.
Text = Annotated[str, Meta(min_length=1, max_length=10_000)]


class JoinRoom(msgspec.Struct, frozen=True):
    """Take a seat, or get the one already held; with `queue` wait for one."""

    room_id: UUID
    queue: bool = False


class LeaveRoom(msgspec.Struct, frozen=True):
    """Give up the seat, the offer or the place in the queue."""

    room_id: UUID


class KickFromRoom(msgspec.Struct, frozen=True):
    """Remove somebody; with `ban` for the life of the room."""

    room_id: UUID
    user_id: UUID
    ban: bool = False


class CloseRoom(msgspec.Struct, frozen=True):
    """Close a talk, or end a running lesson."""

    room_id: UUID


class Signal(msgspec.Struct, frozen=True):
    """One message of the browsers' own agreement on a connection; opaque to the server."""

    room_id: UUID
    to: UUID
    data: Raw


class ShowMediaState(msgspec.Struct, frozen=True):
    """How the caller's camera and connection are; shown to the others, never counted as time."""

    room_id: UUID
    state: Raw


class GetRoom(msgspec.Struct, frozen=True):
    """A room as its page shows it; a closed one too."""

    room_id: UUID


class GetAttendance(msgspec.Struct, frozen=True):
    """Who was in a lesson how long."""

    room_id: UUID


class PreviewEnd(msgspec.Struct, frozen=True):
    """What it would mean for the money to end a running lesson now."""

    room_id: UUID


class StudentIfEnded(msgspec.Struct, frozen=True):
    """What would become of one student's money."""

    user_id: UUID
    name: str
    price: Money
    released: bool
    """It is paid out to tutor and platform; otherwise it goes back whole."""


class EndPreview(msgspec.Struct, frozen=True):
    """What would become of everybody's money. Whoever stays away a moment longer may change it."""

    left_s: int
    """Of the planned time."""
    tutor_absent: bool
    """By the terms in force now. What was sold under others goes by those: `students` says it of each."""
    to_tutor: Money
    to_platform: Money
    to_students: Money
    students: tuple[StudentIfEnded, ...]


class SendChat(msgspec.Struct, frozen=True):
    """Say something in a room or conversation."""

    text: Text
    ch: str | None = None
    room_id: UUID | None = None


class EditChat(msgspec.Struct, frozen=True):
    """Change an own message."""

    message_id: UUID
    text: Text
    ch: str | None = None
    room_id: UUID | None = None


class DeleteChat(msgspec.Struct, frozen=True):
    """Delete a message."""

    message_id: UUID
    ch: str | None = None
    room_id: UUID | None = None


class ReadChat(msgspec.Struct, frozen=True):
    """Say how far the caller has read."""

    message_id: UUID
    ch: str | None = None
    room_id: UUID | None = None


class LiveKitAccess(msgspec.Struct, frozen=True, tag_field="provider", tag="livekit"):
    """Where LiveKit is, and what lets this person in, once and soon."""

    url: str
    token: str


class PeerAccess(msgspec.Struct, frozen=True, tag_field="provider", tag="peer"):
    """Browsers connect to each other, with `room.signal` between them."""

    ice_servers: tuple[str, ...] = ()


class Position(msgspec.Struct, frozen=True):
    """Where the snapshot stands in the room's channel: everything after it arrives as an event."""

    epoch: str
    off: int


class Seated(msgspec.Struct, frozen=True):
    """The caller has a seat."""

    room: Snapshot
    seat: SeatView
    media: LiveKitAccess | PeerAccess
    sub: Position


class QueuePlace(msgspec.Struct, frozen=True):
    """A place in the queue, counted from 1."""

    position: int


class Waiting(msgspec.Struct, frozen=True):
    """The room is full; the seat comes as `seat.offered` on the caller's own channel."""

    queue: QueuePlace
    sub: Position
    """Who waits follows the room too, from here."""


class Said(msgspec.Struct, frozen=True):
    """The message as everybody sees it."""

    message: ChatMessage


class MessageRef(msgspec.Struct, frozen=True):
    """Which message it was."""

    id: UUID


class Noted(msgspec.Struct, frozen=True):
    """It is so now, for this message."""

    message: MessageRef


class Ended(msgspec.Struct, frozen=True):
    """It is so now."""


class SignalShown(msgspec.Struct, frozen=True):
    """`room.signal` on the other's own channel."""

    room_id: UUID
    sender: UUID = msgspec.field(name="from")
    data: Raw


class MediaStateShown(msgspec.Struct, frozen=True):
    """`participant.media` on the room's channel."""

    user_id: Identity
    state: Raw

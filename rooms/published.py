"""What people see of a room: the snapshot, and the public form of each event. Pure.

The public form is derived from the journalled event, when it happens and again when it is recovered,
so both look the same.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from rooms import messages as m
from rooms.messages import Identity, Participant, RoomKind, RoomStatus, SeatStatus, Snapshot
from rooms.state import Seat, State

_encoder = msgspec.json.Encoder()


class RoomOpenedShown(msgspec.Struct, frozen=True):
    """`room.opened`."""

    id: UUID
    kind: RoomKind
    title: str
    cap: int


class RoomChanged(msgspec.Struct, frozen=True, omit_defaults=True):
    """`room.updated`: only what changed."""

    title: str | UnsetType = UNSET
    state: RoomStatus | UnsetType = UNSET
    host: Identity | UnsetType | None = UNSET
    generation: int | UnsetType = UNSET
    media_ready: bool | UnsetType = UNSET
    starts_at: datetime | UnsetType = UNSET
    ends_at: datetime | UnsetType = UNSET


class RoomEnding(msgspec.Struct, frozen=True):
    """`room.closing` and `room.closed`."""

    reason: str


class SessionShown(msgspec.Struct, frozen=True, omit_defaults=True):
    """`session.started` and `session.ended`."""

    at: datetime
    reason: str | None = None


class ParticipantChanged(msgspec.Struct, frozen=True):
    """`participant.updated`."""

    user_id: Identity
    seat_no: int
    seat_generation: int
    state: SeatStatus


class ParticipantLeft(msgspec.Struct, frozen=True):
    """`participant.left`."""

    user_id: Identity
    seat_no: int
    seat_generation: int
    reason: m.LeaveReason


class ParticipantKicked(msgspec.Struct, frozen=True):
    """`participant.kicked`; a `participant.left` follows when a seat was held."""

    user_id: Identity
    by: Identity
    banned: bool


class ParticipantEvicted(msgspec.Struct, frozen=True):
    """`participant.evicted`; a `participant.left` follows when a seat was held."""

    user_id: Identity


class MessageShown(msgspec.Struct, frozen=True):
    """`message.created` and `message.updated`."""

    id: UUID
    user_id: Identity
    text: str
    sent_at: datetime
    edited_at: datetime | None = None


class MessageGone(msgspec.Struct, frozen=True):
    """`message.deleted`."""

    id: UUID
    by: Identity


class MessageReadShown(msgspec.Struct, frozen=True):
    """`message.read`: everything up to this message."""

    id: UUID
    user_id: Identity


def snapshot(state: State, asking: Identity | None = None) -> Snapshot:
    """Return the room as its page shows it, with the place in the queue of who asks."""
    return Snapshot(
        id=state.spec.id,
        kind=state.spec.kind,
        title=state.spec.title,
        state=state.status,
        cap=state.spec.cap,
        generation=state.generation,
        participants=tuple(_participant(state, seat) for seat in state.seats.values()),
        host=state.chair,
        evidence=state.spec.evidence,
        media_ready=state.media_ready or not state.uses_livekit,
        epoch=state.epoch,
        off=state.off,
        starts_at=state.spec.starts_at,
        ends_at=state.spec.ends_at,
        reason=state.reason,
        ended_at=state.ended_at,
        queue_length=len(state.queue),
        own_wait=None if asking is None else _own_wait(state, asking),
    )


def _own_wait(state: State, identity: Identity) -> m.OwnWait | None:
    for position, waiting in enumerate(state.queue, 1):
        if waiting.identity == identity:
            return m.OwnWait(position, waiting.offered_until_wall)
    return None


def _participant(state: State, seat: Seat) -> Participant:
    role = seat.role
    if state.spec.kind is RoomKind.TALK:
        role = "host" if seat.identity == state.host else "member"
    return Participant(
        user_id=seat.identity,
        name=seat.name,
        role=role,
        seat_no=seat.no,
        seat_generation=seat.generation,
        state=seat.status,
        joined_at=seat.joined_at,
    )


def is_public(event: m.Event) -> bool:
    """Whether the room's channel shows the event, so that it takes an offset."""
    return type(event) in SHOWN


def public(event: m.Event, *, off: int, at: datetime, is_lesson: bool) -> m.PublicEvent:
    """Return the public form of an event for which `is_public` holds."""
    ev, shown = SHOWN[type(event)]
    if is_lesson and isinstance(event, m.RoomWentLive):
        # A lesson that begins has a word of its own; a talk only changes its state.
        ev, shown = "session.started", _session_started
    return m.PublicEvent(off, ev, int(at.timestamp() * 1000), _encoder.encode(shown(event)))


def encode_event(event: msgspec.Struct) -> bytes:
    """Return the JSON of something personal."""
    return _encoder.encode(event)


def _session_started(event: m.RoomWentLive) -> SessionShown:
    return SessionShown(event.at)


# Every event that the room's channel shows: its name on the wire and its payload. What is missing here is
# private. `Any` for the same reason as in `rooms.state.APPLY`.
SHOWN: dict[type, tuple[str, Callable[[Any], msgspec.Struct]]] = {
    m.RoomCreated: (
        "room.opened",
        lambda e: RoomOpenedShown(e.spec.id, e.spec.kind, e.spec.title, e.spec.cap),
    ),
    m.SeatTaken: (
        "participant.joined",
        lambda e: Participant(e.identity, e.name, e.role, e.no, e.generation, e.status, e.at),
    ),
    m.SeatChanged: (
        "participant.updated",
        lambda e: ParticipantChanged(e.identity, e.no, e.generation, e.status),
    ),
    m.SeatFreed: (
        "participant.left",
        lambda e: ParticipantLeft(e.identity, e.no, e.generation, e.reason),
    ),
    m.Kicked: ("participant.kicked", lambda e: ParticipantKicked(e.identity, e.by, e.banned)),
    m.Evicted: ("participant.evicted", lambda e: ParticipantEvicted(e.identity)),
    m.HostPassed: ("room.updated", lambda e: RoomChanged(host=e.identity)),
    m.Retitled: ("room.updated", lambda e: RoomChanged(title=e.title)),
    m.Rescheduled: (
        "room.updated",
        lambda e: RoomChanged(starts_at=e.starts_at, ends_at=e.ends_at),
    ),
    m.RoomWentLive: ("room.updated", lambda _: RoomChanged(state=RoomStatus.LIVE)),
    m.LessonOver: ("session.ended", lambda e: SessionShown(e.at, e.reason)),
    m.RoomClosing: ("room.closing", lambda e: RoomEnding(e.reason)),
    m.RoomWasClosed: ("room.closed", lambda e: RoomEnding(e.reason)),
    m.MediaReady: (
        "room.updated",
        lambda e: RoomChanged(generation=e.generation, media_ready=True),
    ),
    m.MediaLost: (
        "room.updated",
        lambda e: RoomChanged(generation=e.generation, media_ready=False),
    ),
    m.MessageCreated: (
        "message.created",
        lambda e: MessageShown(e.id, e.user, e.text, e.at),
    ),
    m.MessageUpdated: (
        "message.updated",
        lambda e: MessageShown(e.id, e.user, e.text, e.sent_at, e.at),
    ),
    m.MessageDeleted: ("message.deleted", lambda e: MessageGone(e.id, e.by)),
    m.MessageRead: ("message.read", lambda e: MessageReadShown(e.id, e.user)),
}

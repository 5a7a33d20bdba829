"""State of one room, and how each event changes it. Pure.

States are immutable: an event copies what it changes and shares the rest, so a chat message does
not touch the seats. Replaying the journal gives the same state as living through it.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec.structs import replace

from rooms import messages as m
from rooms.messages import ConnectionId, Identity, RoomKind, RoomStatus, SeatStatus

# Raise it whenever `State` changes its shape: snapshots of another version are replayed from the events.
VERSION = 2

# A message older than this many others can be neither edited nor deleted. Each chat turn copies the
# table, so a larger one costs every message; a smaller one makes corrections impossible in a busy room.
LINES_KEPT = 200
# A client repeats within seconds; 256 changing commands are minutes of the busiest room.
KEYS_KEPT = 256
# Media sessions that are over; a webhook that comes late must not bring them back to life.
DEPARTED_KEPT = 64

K = TypeVar("K")
V = TypeVar("V")


class Entering(msgspec.Struct, frozen=True):
    """A device on its way into the media room."""

    connection: ConnectionId | None
    """None: it joined over HTTP."""
    until_wall: datetime


class Seat(msgspec.Struct, frozen=True):
    """A lease on one of the room's places."""

    identity: Identity
    name: str
    role: m.Role
    no: int
    generation: int
    status: SeatStatus
    joined_at: datetime
    until_wall: datetime | None
    """End of the lease; None while connected."""
    connections: tuple[ConnectionId, ...] = ()
    entering: Entering | None = None


class Waiting(msgspec.Struct, frozen=True):
    """A place in the queue."""

    identity: Identity
    name: str
    role: m.Role
    connections: tuple[ConnectionId, ...]
    until_wall: datetime | None
    """End of the grace; None while a socket is there."""
    offered_until_wall: datetime | None = None
    """A seat is kept for this person until then."""


class Guest(msgspec.Struct, frozen=True):
    """Somebody who was admitted once."""

    name: str
    role: m.Role


class MediaSession(msgspec.Struct, frozen=True):
    """Somebody in LiveKit's room."""

    sid: str
    doubted_at: datetime | None = None


class KeyUse(msgspec.Struct, frozen=True):
    """What a client's key was used for, and the answer it got."""

    digest: str
    reply: m.ChatMessage | m.Done


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything a room knows. Dicts are never changed in place."""

    spec: m.RoomSpec
    epoch: str
    seq: int
    off: int
    created_at: datetime
    status: RoomStatus = RoomStatus.OPEN
    host: Identity | None = None
    seats: dict[Identity, Seat] = {}
    """In order of joining."""
    seat_count: int = 0
    """Seats ever given; the newest seat's generation."""
    queue: tuple[Waiting, ...] = ()
    banned: frozenset[Identity] = frozenset()
    admitted: dict[Identity, Guest] = {}
    started_at: datetime | None = None
    """First join of a talk, beginning of a lesson."""
    empty_close_at: datetime | None = None
    ended_at: datetime | None = None
    finish_at: datetime | None = None
    reason: str | None = None
    outcome: m.Outcome | None = None
    closed_by: str = m.SYSTEM
    """Who cancelled the lesson."""
    settled: bool = False
    generation: int = 1
    media_ready: bool = False
    media_deleted: bool = False
    media: dict[Identity, MediaSession] = {}
    departed: tuple[str, ...] = ()
    reached: frozenset[Identity] = frozenset()
    told: dict[Identity, int] = {}
    """How many seconds of attendance each person was last told."""
    lines: dict[UUID, m.ChatMessage] = {}
    keys: dict[str, KeyUse] = {}
    read: dict[Identity, UUID] = {}

    @property
    def is_lesson(self) -> bool:
        """Whether the room has a planned time and settles money."""
        return self.spec.kind is not RoomKind.TALK

    @property
    def takes_people(self) -> bool:
        """Whether anything may still change in it."""
        return self.status in (RoomStatus.OPEN, RoomStatus.LIVE)

    @property
    def uses_livekit(self) -> bool:
        """Whether a media server proves presence."""
        return self.spec.evidence == "livekit"

    @property
    def taken(self) -> int:
        """Seats that are held or offered."""
        return len(self.seats) + sum(w.offered_until_wall is not None for w in self.queue)

    @property
    def chair(self) -> Identity | None:
        """Who leads the room: a talk's host, a lesson's tutor."""
        return self.spec.owner if self.is_lesson else self.host

    @property
    def window(self) -> tuple[datetime, datetime]:
        """The planned time of a lesson."""
        assert self.spec.starts_at is not None, "a lesson has a beginning"
        assert self.spec.ends_at is not None, "a lesson has an end"
        return self.spec.starts_at, self.spec.ends_at


def created(event: m.RoomCreated) -> State:
    """State of a room whose only event is its creation."""
    spec = event.spec
    is_talk = spec.kind is RoomKind.TALK
    return State(
        spec=spec,
        epoch=event.epoch,
        seq=1,
        off=1,
        created_at=event.at,
        host=spec.owner if is_talk else None,
        # The tutor may enter by media alone; a talk's creator is seated by an event of its own.
        admitted={} if is_talk else {spec.owner: Guest(spec.owner_name, "tutor")},
    )


def apply(state: State, event: m.Event, *, is_public: bool) -> State:
    """State after an event; `is_public` says whether the room's channel shows it."""
    changed = APPLY[type(event)](state, event)
    return replace(changed, seq=state.seq + 1, off=state.off + is_public)


# --- Seats and queue ----------------------------------------------------------------------------


def _seat_taken(state: State, event: m.SeatTaken) -> State:
    seat = Seat(
        identity=event.identity,
        name=event.name,
        role=event.role,
        no=event.no,
        generation=event.generation,
        status=event.status,
        joined_at=event.at,
        until_wall=event.until_wall,
    )
    return replace(
        state,
        seats={**state.seats, event.identity: seat},
        seat_count=event.generation,
        admitted={**state.admitted, event.identity: Guest(event.name, event.role)},
    )


def _seat_changed(state: State, event: m.SeatChanged) -> State:
    seat = state.seats[event.identity]
    return _with_seat(state, replace(seat, status=event.status, until_wall=event.until_wall))


def _seat_freed(state: State, event: m.SeatFreed) -> State:
    return replace(state, seats=_without(state.seats, event.identity))


def _sockets_changed(state: State, event: m.SocketsChanged) -> State:
    seat = state.seats[event.identity]
    entering = seat.entering
    if entering is not None and entering.connection not in (None, *event.connections):
        entering = None  # nobody waits for a device that is gone
    return _with_seat(state, replace(seat, connections=event.connections, entering=entering))


def _media_allowed(state: State, event: m.MediaAllowed) -> State:
    seat = state.seats[event.identity]
    return _with_seat(state, replace(seat, entering=Entering(event.connection, event.until_wall)))


def _kicked(state: State, event: m.Kicked) -> State:
    return replace(
        state,
        admitted=_without(state.admitted, event.identity),
        banned=state.banned | {event.identity} if event.banned else state.banned,
    )


def _evicted(state: State, event: m.Evicted) -> State:
    return replace(state, admitted=_without(state.admitted, event.identity))


def _host_passed(state: State, event: m.HostPassed) -> State:
    return replace(state, host=event.identity)


def _wait_began(state: State, event: m.WaitBegan) -> State:
    connections = (event.connection,) if event.connection else ()
    waiting = Waiting(event.identity, event.name, event.role, connections, event.until_wall)
    return replace(state, queue=(*state.queue, waiting))


def _wait_changed(state: State, event: m.WaitChanged) -> State:
    return _with_waiting(state, event.identity, connections=event.connections, until_wall=event.until_wall)


def _wait_ended(state: State, event: m.WaitEnded) -> State:
    return replace(state, queue=tuple(w for w in state.queue if w.identity != event.identity))


def _seat_offered(state: State, event: m.SeatOffered) -> State:
    return _with_waiting(state, event.identity, offered_until_wall=event.until_wall)


def _adopted(state: State, event: m.Adopted) -> State:
    return replace(
        state,
        seats={
            identity: replace(seat, connections=(), entering=None) for identity, seat in state.seats.items()
        },
        queue=tuple(replace(w, connections=(), until_wall=event.until_wall) for w in state.queue),
    )


# --- Life of the room ---------------------------------------------------------------------------


def _retitled(state: State, event: m.Retitled) -> State:
    return replace(state, spec=replace(state.spec, title=event.title))


def _rescheduled(state: State, event: m.Rescheduled) -> State:
    spec = replace(state.spec, starts_at=event.starts_at, ends_at=event.ends_at)
    return replace(state, spec=spec)


def _room_went_live(state: State, event: m.RoomWentLive) -> State:
    return replace(state, status=RoomStatus.LIVE, started_at=event.at)


def _room_emptied(state: State, event: m.RoomEmptied) -> State:
    return replace(state, empty_close_at=event.close_at)


def _lesson_over(state: State, event: m.LessonOver) -> State:
    return replace(state, ended_at=event.at, finish_at=event.finish_at)


def _room_closing(state: State, event: m.RoomClosing) -> State:
    return replace(state, status=RoomStatus.CLOSING, reason=event.reason)


def _room_was_closed(state: State, event: m.RoomWasClosed) -> State:
    return replace(
        state,
        status=RoomStatus.CLOSED,
        reason=event.reason,
        outcome=event.outcome,
        closed_by=event.actor,
        ended_at=state.ended_at or event.at,
        empty_close_at=None,
        finish_at=None,
    )


def _settled(state: State, _event: m.Settled) -> State:
    return replace(state, settled=True)


def _attendance_shown(state: State, event: m.AttendanceShown) -> State:
    return replace(state, reached=state.reached.union(event.reached), told={**state.told, **event.told})


# --- Media --------------------------------------------------------------------------------------


def _media_ready(state: State, _event: m.MediaReady) -> State:
    return replace(state, media_ready=True)


def _media_lost(state: State, event: m.MediaLost) -> State:
    return replace(state, generation=event.generation, media_ready=False, media={})


def _media_deleted(state: State, _event: m.MediaDeleted) -> State:
    return replace(state, media_ready=False, media_deleted=True, media={})


def _media_entered(state: State, event: m.MediaEntered) -> State:
    seat = state.seats.get(event.identity)
    if seat is not None and seat.entering is not None:
        state = _with_seat(state, replace(seat, entering=None))
    return replace(state, media={**state.media, event.identity: MediaSession(event.sid)})


def _media_doubted(state: State, event: m.MediaDoubted) -> State:
    return replace(state, media={**state.media, event.identity: MediaSession(event.sid, event.at)})


def _media_exited(state: State, event: m.MediaExited) -> State:
    departed = (*state.departed, event.sid)[-DEPARTED_KEPT:]
    current = state.media.get(event.identity)
    if current is None or current.sid != event.sid:
        return replace(state, departed=departed)
    return replace(state, departed=departed, media=_without(state.media, event.identity))


# --- Chat ---------------------------------------------------------------------------------------


def _message_created(state: State, event: m.MessageCreated) -> State:
    line = m.ChatMessage(event.id, event.user, event.text, event.at)
    lines = _with_newest(state.lines, event.id, line, LINES_KEPT)
    return replace(state, lines=lines, keys=_used(state, event, line))


def _message_updated(state: State, event: m.MessageUpdated) -> State:
    line = m.ChatMessage(event.id, event.user, event.text, event.sent_at, event.at)
    return replace(state, lines={**state.lines, event.id: line}, keys=_used(state, event, line))


def _message_deleted(state: State, event: m.MessageDeleted) -> State:
    return replace(state, lines=_without(state.lines, event.id), keys=_used(state, event, m.Done()))


def _message_read(state: State, event: m.MessageRead) -> State:
    return replace(state, read={**state.read, event.user: event.id})


def key_of(user: Identity, key: str) -> str:
    """Name of a person's idempotency key in the state."""
    return f"{user} {key}"


def _used(
    state: State,
    event: m.MessageCreated | m.MessageUpdated | m.MessageDeleted,
    reply: m.ChatMessage | m.Done,
) -> dict[str, KeyUse]:
    if event.key is None or event.digest is None:
        return state.keys
    user = event.by if isinstance(event, m.MessageDeleted) else event.user
    use = KeyUse(event.digest, reply)
    return _with_newest(state.keys, key_of(user, event.key), use, KEYS_KEPT)


# --- Small copies -------------------------------------------------------------------------------


def _with_seat(state: State, seat: Seat) -> State:
    return replace(state, seats={**state.seats, seat.identity: seat})


def _with_waiting(state: State, identity: Identity, **changes: object) -> State:
    queue = tuple(replace(w, **changes) if w.identity == identity else w for w in state.queue)
    return replace(state, queue=queue)


def _without(mapping: Mapping[K, V], key: K) -> dict[K, V]:
    return {k: v for k, v in mapping.items() if k != key}


def _with_newest(mapping: dict[K, V], key: K, value: V, count: int) -> dict[K, V]:
    """Return a copy with one entry more, without the oldest of more than `count`.

    A copied dict keeps the hashes of its keys; one built anew would hash every key again, and a UUID does so in Python.
    """
    changed = mapping.copy()
    changed[key] = value
    while len(changed) > count:
        del changed[next(iter(changed))]
    return changed


# One function an event. `Any` because a dict cannot say that key and argument go together; the test
# of this module checks that every member of `Event` but the first has its row.
APPLY: dict[type, Callable[[State, Any], State]] = {
    m.SeatTaken: _seat_taken,
    m.SeatChanged: _seat_changed,
    m.SeatFreed: _seat_freed,
    m.SocketsChanged: _sockets_changed,
    m.MediaAllowed: _media_allowed,
    m.Kicked: _kicked,
    m.Evicted: _evicted,
    m.HostPassed: _host_passed,
    m.Retitled: _retitled,
    m.Rescheduled: _rescheduled,
    m.WaitBegan: _wait_began,
    m.WaitChanged: _wait_changed,
    m.WaitEnded: _wait_ended,
    m.SeatOffered: _seat_offered,
    m.RoomWentLive: _room_went_live,
    m.RoomEmptied: _room_emptied,
    m.LessonOver: _lesson_over,
    m.RoomClosing: _room_closing,
    m.RoomWasClosed: _room_was_closed,
    m.Settled: _settled,
    m.MediaReady: _media_ready,
    m.MediaLost: _media_lost,
    m.MediaDeleted: _media_deleted,
    m.MediaEntered: _media_entered,
    m.MediaExited: _media_exited,
    m.MediaDoubted: _media_doubted,
    m.AttendanceShown: _attendance_shown,
    m.Adopted: _adopted,
    m.MessageCreated: _message_created,
    m.MessageUpdated: _message_updated,
    m.MessageDeleted: _message_deleted,
    m.MessageRead: _message_read,
}

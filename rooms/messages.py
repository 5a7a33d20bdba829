"""What rooms are asked and told, what happens in them, and what they show.

Five families of frozen structs, each a tagged union:

- `Command`: asked by a person through the edge, answered by a `Reply` or a `rooms.errors.RoomError`;
- `Signal`: told by the system (sockets, timers, media server), never answered;
- `Event`: what happened, journalled, the only thing that changes a room's state;
- `Effect`: what has to be done outside a turn; derived from the state, so a crash loses none;
- `DomainEvent`: what the rest of the product hears through the outbox.

Times are aware UTC datetimes. Fields ending in `_wall` are on the wall clock, all other times on
the business clock (DESIGN §4, Clocks).
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal, NewType
from uuid import UUID

import msgspec

Identity = NewType("Identity", str)
"""A person as LiveKit knows them: the user's id as text."""

ConnectionId = NewType("ConnectionId", str)


class RoomKind(StrEnum):
    """What a room is for; course sessions and bookings are lessons."""

    TALK = "talk"
    COURSE_SESSION = "course_session"
    BOOKING = "booking"


class RoomStatus(StrEnum):
    """Life of a room: a lesson is live from its start on, a talk from its first join."""

    OPEN = "open"
    LIVE = "live"
    CLOSING = "closing"
    CLOSED = "closed"


class SeatStatus(StrEnum):
    """A seat is a lease; all three count against the cap."""

    JOINING = "joining"
    CONNECTED = "connected"
    GRACE = "grace"


Role = Literal["host", "member", "tutor", "student"]
EvidenceMode = Literal["livekit", "socket"]
Outcome = Literal["completed", "cancelled"]
# What a room does by itself, by its clock.
SYSTEM = "system:rooms"


class RoomSpec(msgspec.Struct, frozen=True):
    """Everything a room is made from; `journal.create` takes one."""

    id: UUID
    kind: RoomKind
    title: str
    cap: int
    owner: Identity
    """Host of a talk, tutor of a lesson."""
    owner_name: str
    evidence: EvidenceMode
    starts_at: datetime | None = None
    """Required for lessons; for a talk, the time it is announced for."""
    ends_at: datetime | None = None
    """Required for lessons."""


# --- Evidence: what attendance is computed from (stored, never changed except stays grow) ---------

EvidenceKind = Literal[
    "joined", "left", "aborted", "track", "seen", "absent", "stay", "outage", "started", "finished"
]


class Evidence(msgspec.Struct, frozen=True):
    """One fact about who was there; attendance is a pure function of the set of these."""

    kind: EvidenceKind
    """`joined`, `left`, `aborted`, `track`, `started`, `finished` come from LiveKit webhooks; `seen`
    and `absent` from a poll; `stay` (socket presence) and `outage` have `until`."""
    at: datetime
    identity: Identity | None = None
    """None: about the whole room (outage, started, finished)."""
    session: str = ""
    """LiveKit participant sid, or the seat generation of a socket stay; "" about the whole room."""
    until: datetime | None = None
    generation: int = 1
    source: Literal["webhook", "poll", "socket", "ours", "media"] = "webhook"
    """For an outage: `ours` or `media` says whose it was."""
    reason: str | None = None
    """LiveKit's disconnect reason, such as CONNECTION_TIMEOUT."""
    room_sid: str | None = None
    joined_at: datetime | None = None
    """When LiveKit's signal connected; audit, and the start of a session whose `joined` was lost."""
    received_at: datetime | None = None
    ref: str | None = None
    """Id of the webhook event; one event makes at most one evidence row."""


class Presence(msgspec.Struct, frozen=True):
    """Somebody in LiveKit's own list of a room, as one poll shows it."""

    identity: Identity
    sid: str
    joined_at: datetime
    active: bool
    counted: bool
    """False for agents and recorders, which take no seat."""


# --- Commands -----------------------------------------------------------------------------------


class Join(msgspec.Struct, frozen=True, tag="join"):
    """Take a seat, or get the one already held. The right to enter was checked by the edge."""

    user: Identity
    name: str
    role: Role
    connection: ConnectionId | None = None
    """None when the call came over HTTP: the seat stays `joining` until a socket or media shows."""
    queue: bool = False


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """Give up the seat, the offer or the place in the queue."""

    user: Identity
    connection: ConnectionId | None = None
    """Kept for the log; leaving on one device leaves on all (one person, one seat)."""


class Kick(msgspec.Struct, frozen=True, tag="kick"):
    """Remove somebody; with `ban` for the life of the room."""

    by: Identity
    user: Identity
    ban: bool = False
    admin: bool = False


class Evict(msgspec.Struct, frozen=True, tag="evict"):
    """Remove somebody whose right to be here has ended; asked by the system, and no ban.

    A place bought again is entered like any other. Repeating it is harmless.
    """

    user: Identity
    reason: str
    """Why, for the journal; the others in the room are not told."""


class Close(msgspec.Struct, frozen=True, tag="close"):
    """Close a talk; for its tutor and during a lesson the same as `EndLesson`."""

    by: Identity
    admin: bool = False


class UpdateRoom(msgspec.Struct, frozen=True, tag="update"):
    """Give the room another title."""

    by: Identity
    title: str
    admin: bool = False


class SendChat(msgspec.Struct, frozen=True, tag="chat_send"):
    """Say something in the room's chat."""

    user: Identity
    text: str
    key: str | None = None


class EditChat(msgspec.Struct, frozen=True, tag="chat_edit"):
    """Change an own message within 15 minutes."""

    user: Identity
    message_id: UUID
    text: str
    key: str | None = None


class DeleteChat(msgspec.Struct, frozen=True, tag="chat_delete"):
    """Delete an own message; the host and admins may delete anybody's."""

    user: Identity
    message_id: UUID
    key: str | None = None
    admin: bool = False


class ReadChat(msgspec.Struct, frozen=True, tag="chat_read"):
    """Say how far one has read."""

    user: Identity
    message_id: UUID


class EndLesson(msgspec.Struct, frozen=True, tag="end_lesson"):
    """End a running lesson early; its tutor or an admin."""

    by: Identity
    admin: bool = False


class CancelLesson(msgspec.Struct, frozen=True, tag="cancel_lesson"):
    """Cancel a lesson that has not begun; the edge checked who may. Repeating it is harmless."""

    reason: str = "cancelled"
    actor: str = SYSTEM
    """Who wants it, as the ledger names people: `user:<id>`, `admin:<id>`."""


class Reschedule(msgspec.Struct, frozen=True, tag="reschedule"):
    """Move a lesson that has not begun."""

    starts_at: datetime
    ends_at: datetime


class ReadAttendance(msgspec.Struct, frozen=True, tag="read_attendance"):
    """Who was there how long, up to now; answered from the frozen rows once the lesson is closed."""


Command = (
    Join
    | Leave
    | Kick
    | Evict
    | Close
    | UpdateRoom
    | SendChat
    | EditChat
    | DeleteChat
    | ReadChat
    | EndLesson
    | CancelLesson
    | Reschedule
    | ReadAttendance
)


# --- Replies ------------------------------------------------------------------------------------


class Participant(msgspec.Struct, frozen=True):
    """A seat as everybody in the room sees it."""

    user_id: Identity
    name: str
    role: Role
    seat_no: int
    seat_generation: int
    state: SeatStatus
    joined_at: datetime


class OwnWait(msgspec.Struct, frozen=True):
    """Somebody's place in the queue."""

    position: int
    """Counted from 1."""
    offered_until: datetime | None
    """A seat is kept until then, by the wall clock."""


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=False):
    """A room as its page shows it; participants in order of joining."""

    id: UUID
    kind: RoomKind
    title: str
    state: RoomStatus
    cap: int
    generation: int
    participants: tuple[Participant, ...]
    host: Identity | None
    """Host of a talk, tutor of a lesson; None once a talk has nobody in it."""
    evidence: EvidenceMode
    media_ready: bool
    """The media room of this generation exists (always true without a media server)."""
    epoch: str
    off: int
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    reason: str | None = None
    """Why it was closed."""
    ended_at: datetime | None = None
    """When it was over: of a lesson before `ends_at` where somebody ended it."""
    queue_length: int = 0
    own_wait: OwnWait | None = None
    """Of who asks (`room.get`)."""
    ahead_s: int = 0
    """By how much business time, by which doors open and lessons end, is ahead of the wall clock (`room.get`)."""


class SeatView(msgspec.Struct, frozen=True):
    """The caller's own seat."""

    no: int
    state: SeatStatus
    generation: int


class Joined(msgspec.Struct, frozen=True, tag="joined"):
    """The caller has a seat."""

    room: Snapshot
    seat: SeatView


class Queued(msgspec.Struct, frozen=True, tag="queued"):
    """The room is full; `position` counts from 1."""

    room: Snapshot
    position: int


class ChatMessage(msgspec.Struct, frozen=True, tag="message"):
    """One chat message as everybody sees it."""

    id: UUID
    user_id: Identity
    text: str
    sent_at: datetime
    edited_at: datetime | None = None


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It is so now, whether by this command or already before."""


class Interval(msgspec.Struct, frozen=True):
    """Half-open time in the lesson's window and where the knowledge comes from."""

    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")
    sources: tuple[str, ...] = ()


class AttendanceRow(msgspec.Struct, frozen=True):
    """One person's presence in a lesson."""

    user_id: Identity
    attended_s: int
    required_s: int
    percent: int
    reached: bool
    intervals: tuple[Interval, ...]
    confidence: str


class AttendanceView(msgspec.Struct, frozen=True, tag="attendance"):
    """Presence of everybody who was ever in the lesson."""

    scheduled_s: int
    frozen: bool
    """True once the lesson is closed and the numbers are final."""
    people: tuple[AttendanceRow, ...]


Reply = Joined | Queued | ChatMessage | Done | AttendanceView


# --- Signals ------------------------------------------------------------------------------------


class SocketGone(msgspec.Struct, frozen=True, tag="socket_gone"):
    """A socket that had joined the room closed."""

    user: Identity
    connection: ConnectionId
    seen_at: datetime | None = None
    """When its last frame was received (business clock); presence ends there. None: now."""


class SocketsSeen(msgspec.Struct, frozen=True, tag="sockets_seen"):
    """One gateway's beat: the sockets of this room bound to it (every 5 s, and at once after an adoption)."""

    node: str
    sockets: dict[Identity, tuple[ConnectionId, ...]]
    at: datetime
    """Business clock. Presence reaches to here for whom `seen` does not name."""
    seen: dict[Identity, datetime] = {}
    """When the last frame of a person was received (business clock); presence reaches to it and no further."""


class MediaChanged(msgspec.Struct, frozen=True, tag="media_changed"):
    """One stored webhook, read from the inbox."""

    evidence: Evidence
    counted: bool = True


class Delivery(msgspec.Struct, frozen=True):
    """A stored webhook as its room reads it."""

    event_id: str
    change: MediaChanged | None = None
    """None: it says nothing about who is there."""


class InboxChanged(msgspec.Struct, frozen=True, tag="inbox_changed"):
    """Webhook rows of this room are waiting to be read."""

    deliveries: tuple[Delivery, ...] = ()
    """What they say, in order of their happening; empty: unknown, so the rows have to be read."""


class TimerDue(msgspec.Struct, frozen=True, tag="timer_due"):
    """A timer of this room fell due. Only a wake-up: the state says what is due."""

    name: str


class Travelled(msgspec.Struct, frozen=True, tag="travelled"):
    """Business time was advanced: who is connected now was so all the while."""


class EffectResult(msgspec.Struct, frozen=True, tag="effect_result"):
    """An effect was carried out (those that failed are tried again and say nothing)."""

    effect: "Effect"


class Polled(msgspec.Struct, frozen=True, tag="polled"):
    """What LiveKit's own list said; `people` None when the room does not exist there."""

    generation: int
    at: datetime
    """When the poll was begun."""
    people: tuple[Presence, ...] | None


class PollFailed(msgspec.Struct, frozen=True, tag="poll_failed"):
    """LiveKit gave no answer that says anything."""

    generation: int
    at: datetime
    """When the poll was begun."""


class Adopt(msgspec.Struct, frozen=True, tag="adopt"):
    """This node took the room over; who was connected must show again."""

    outage_from: datetime
    """Last sign of life of the owner before."""


class Assessed(msgspec.Struct, frozen=True, tag="assessed"):
    """Attendance up to now, computed from the stored evidence inside the same turn."""

    people: tuple[AttendanceRow, ...]
    finish: bool = False
    """True when the time for late evidence is over: the lesson closes with these numbers."""


Signal = (
    SocketGone
    | SocketsSeen
    | InboxChanged
    | TimerDue
    | Travelled
    | EffectResult
    | Polled
    | PollFailed
    | MediaChanged
    | Adopt
    | Assessed
)
Message = Command | Signal


# --- Events (journalled) ------------------------------------------------------------------------

LeaveReason = Literal["left", "expired", "kicked", "evicted", "closed"]


class RoomCreated(msgspec.Struct, frozen=True, tag="room_created"):
    """The room exists."""

    spec: RoomSpec
    epoch: str
    at: datetime


class SeatTaken(msgspec.Struct, frozen=True, tag="seat_taken"):
    """Somebody has a seat."""

    identity: Identity
    name: str
    role: Role
    no: int
    generation: int
    status: SeatStatus
    at: datetime
    until_wall: datetime | None


class SeatChanged(msgspec.Struct, frozen=True, tag="seat_changed"):
    """A seat's lease changed; without an end while connected."""

    identity: Identity
    no: int
    generation: int
    status: SeatStatus
    until_wall: datetime | None


class SeatFreed(msgspec.Struct, frozen=True, tag="seat_freed"):
    """A seat is free again."""

    identity: Identity
    no: int
    generation: int
    reason: LeaveReason


class SocketsChanged(msgspec.Struct, frozen=True, tag="sockets_changed"):
    """The sockets over which somebody is in the room."""

    identity: Identity
    connections: tuple[ConnectionId, ...]


class MediaAllowed(msgspec.Struct, frozen=True, tag="media_allowed"):
    """A device may enter the media room; until it has, or until then, no other of the same person may."""

    identity: Identity
    connection: ConnectionId | None
    until_wall: datetime


class Kicked(msgspec.Struct, frozen=True, tag="kicked"):
    """Somebody was removed."""

    identity: Identity
    by: Identity
    banned: bool


class Evicted(msgspec.Struct, frozen=True, tag="evicted"):
    """Somebody has no right to be here any more."""

    identity: Identity
    reason: str


class HostPassed(msgspec.Struct, frozen=True, tag="host_passed"):
    """The talk has another host, or none while nobody is in it."""

    identity: Identity | None


class Retitled(msgspec.Struct, frozen=True, tag="retitled"):
    """The room has another title."""

    title: str


class Rescheduled(msgspec.Struct, frozen=True, tag="rescheduled"):
    """The lesson was moved."""

    starts_at: datetime
    ends_at: datetime


class WaitBegan(msgspec.Struct, frozen=True, tag="wait_began"):
    """Somebody stands in the queue."""

    identity: Identity
    name: str
    role: Role
    connection: ConnectionId | None
    until_wall: datetime | None


class WaitChanged(msgspec.Struct, frozen=True, tag="wait_changed"):
    """A waiting person's sockets changed; with an end while there are none."""

    identity: Identity
    connections: tuple[ConnectionId, ...]
    until_wall: datetime | None


class WaitEnded(msgspec.Struct, frozen=True, tag="wait_ended"):
    """Somebody stands in the queue no more."""

    identity: Identity
    reason: Literal["seated", "left", "gone", "lapsed", "kicked", "evicted", "closed"]


class SeatOffered(msgspec.Struct, frozen=True, tag="seat_offered"):
    """A free seat is kept for the first in the queue."""

    identity: Identity
    until_wall: datetime


class RoomWentLive(msgspec.Struct, frozen=True, tag="room_went_live"):
    """The talk's first join, or the lesson's beginning."""

    at: datetime


class RoomEmptied(msgspec.Struct, frozen=True, tag="room_emptied"):
    """The last seat of a talk is free; it closes at `close_at` unless somebody comes."""

    close_at: datetime | None
    """None: somebody came."""


class LessonOver(msgspec.Struct, frozen=True, tag="lesson_over"):
    """The lesson ended; late evidence counts until `finish_at`."""

    at: datetime
    reason: str
    finish_at: datetime


class RoomClosing(msgspec.Struct, frozen=True, tag="room_closing"):
    """The room takes nobody any more."""

    reason: str


class RoomWasClosed(msgspec.Struct, frozen=True, tag="room_closed"):
    """The end."""

    reason: str
    outcome: Outcome | None
    """None for talks."""
    at: datetime
    actor: str = SYSTEM
    """Who cancelled a lesson."""


class Settled(msgspec.Struct, frozen=True, tag="settled"):
    """The lesson's holds were settled."""


class MediaReady(msgspec.Struct, frozen=True, tag="media_ready"):
    """The media room of this generation exists."""

    generation: int


class MediaLost(msgspec.Struct, frozen=True, tag="media_lost"):
    """The media room is gone while this room lives: the next one has `generation`."""

    generation: int


class MediaDeleted(msgspec.Struct, frozen=True, tag="media_deleted"):
    """The media room of a closed room is gone."""


class MediaEntered(msgspec.Struct, frozen=True, tag="media_entered"):
    """LiveKit shows somebody in the media room."""

    identity: Identity
    sid: str


class MediaExited(msgspec.Struct, frozen=True, tag="media_exited"):
    """LiveKit shows somebody no more."""

    identity: Identity
    sid: str


class MediaDoubted(msgspec.Struct, frozen=True, tag="media_doubted"):
    """A poll did not show somebody; a second one that does not either ends their presence."""

    identity: Identity
    sid: str
    at: datetime


class AttendanceShown(msgspec.Struct, frozen=True, tag="attendance_shown"):
    """People were told how long they have been there."""

    reached: tuple[Identity, ...]
    """Those of them who now have been there long enough, and had not before."""
    told: dict[Identity, int]
    """What they were told, in seconds."""


class Adopted(msgspec.Struct, frozen=True, tag="adopted"):
    """Another node owns the room: no socket is known, all have to show again."""

    until_wall: datetime
    """Until then whoever waits in the queue has to show again; seats have events of their own."""


class MessageCreated(msgspec.Struct, frozen=True, tag="message_created"):
    """Somebody said something."""

    id: UUID
    user: Identity
    text: str
    at: datetime
    key: str | None = None
    digest: str | None = None
    """Digest of the command that `key` stands for."""


class MessageUpdated(msgspec.Struct, frozen=True, tag="message_updated"):
    """A message says something else now."""

    id: UUID
    user: Identity
    text: str
    sent_at: datetime
    at: datetime
    key: str | None = None
    digest: str | None = None


class MessageDeleted(msgspec.Struct, frozen=True, tag="message_deleted"):
    """A message is gone."""

    id: UUID
    by: Identity
    key: str | None = None
    digest: str | None = None


class MessageRead(msgspec.Struct, frozen=True, tag="message_read"):
    """Somebody has read up to here."""

    id: UUID
    user: Identity


Event = (
    RoomCreated
    | SeatTaken
    | SeatChanged
    | SeatFreed
    | SocketsChanged
    | MediaAllowed
    | Kicked
    | Evicted
    | HostPassed
    | Retitled
    | Rescheduled
    | WaitBegan
    | WaitChanged
    | WaitEnded
    | SeatOffered
    | RoomWentLive
    | RoomEmptied
    | LessonOver
    | RoomClosing
    | RoomWasClosed
    | Settled
    | MediaReady
    | MediaLost
    | MediaDeleted
    | MediaEntered
    | MediaExited
    | MediaDoubted
    | AttendanceShown
    | Adopted
    | MessageCreated
    | MessageUpdated
    | MessageDeleted
    | MessageRead
)


class PublicEvent(msgspec.Struct, frozen=True):
    """An event as it goes out on the channel `room:<id>`."""

    off: int
    ev: str
    ts_ms: int
    data: bytes
    """JSON."""


# --- Effects ------------------------------------------------------------------------------------


class EnsureMedia(msgspec.Struct, frozen=True, tag="ensure_media"):
    """Make sure that the media room of this generation exists."""

    generation: int


class RemoveParticipant(msgspec.Struct, frozen=True, tag="remove_participant"):
    """Remove somebody who has no seat from the media room."""

    generation: int
    identity: Identity
    sid: str


class PollMedia(msgspec.Struct, frozen=True, tag="poll_media"):
    """Ask LiveKit who is there; answered by `Polled` or `PollFailed`."""

    generation: int


class DeleteMedia(msgspec.Struct, frozen=True, tag="delete_media"):
    """Make sure that the media room of this generation does not exist."""

    generation: int


class Settle(msgspec.Struct, frozen=True, tag="settle"):
    """Move the money of a closed lesson now; the sweeper is the net."""


Effect = EnsureMedia | RemoveParticipant | PollMedia | DeleteMedia | Settle


# --- Domain events (outbox) ---------------------------------------------------------------------


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Public events `first_off` to `last_off` of a room's channel."""

    room_id: UUID
    first_off: int
    last_off: int


class RoomPublished(msgspec.Struct, frozen=True, tag="room.published"):
    """Public events of one room, or of several whose turns shared a commit, are committed."""

    spans: tuple[Span, ...]


class Personal(msgspec.Struct, frozen=True, tag="room.personal"):
    """Something for one person's own channel `user:<id>`."""

    user_id: Identity
    ev: str
    data: msgspec.Raw
    """JSON."""


class RoomOpened(msgspec.Struct, frozen=True, tag="room.opened"):
    """A room was created."""

    room_id: UUID
    kind: RoomKind
    owner: Identity


class RoomUpdated(msgspec.Struct, frozen=True, tag="room.updated"):
    """What lists show of a room changed: title, host, number of people, state."""

    room_id: UUID
    kind: RoomKind
    title: str
    state: RoomStatus
    host: Identity | None
    seated: int
    """Seats taken or offered; the room is full when this equals its cap."""


class RoomClosed(msgspec.Struct, frozen=True, tag="room.closed"):
    """A room is closed for good."""

    room_id: UUID
    kind: RoomKind
    reason: str


class LessonStarted(msgspec.Struct, frozen=True, tag="lesson.started"):
    """A lesson is in progress."""

    room_id: UUID
    kind: RoomKind
    at: datetime


class LessonEnded(msgspec.Struct, frozen=True, tag="lesson.ended"):
    """A lesson is over and its attendance frozen; its holds are due."""

    room_id: UUID
    kind: RoomKind
    outcome: Outcome
    tutor_absent: bool
    started_at: datetime | None
    ended_at: datetime
    reason: str


class LessonCancelled(msgspec.Struct, frozen=True, tag="lesson.cancelled"):
    """A lesson will not be held; its holds are due for refund."""

    room_id: UUID
    kind: RoomKind
    reason: str
    at: datetime
    actor: str = SYSTEM


class AttendanceReached(msgspec.Struct, frozen=True, tag="lesson.attendance_reached"):
    """Somebody has been there long enough while the lesson still runs."""

    room_id: UUID
    user_id: Identity
    attended_s: int
    required_s: int


DomainEvent = (
    RoomPublished
    | Personal
    | RoomOpened
    | RoomUpdated
    | RoomClosed
    | LessonStarted
    | LessonEnded
    | LessonCancelled
    | AttendanceReached
)

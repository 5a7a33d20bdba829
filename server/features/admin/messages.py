"""What the machinery is asked by administrators, and what it answers."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from billing.jobs import JobView, State
from rooms.messages import EvidenceMode, Identity, Role, RoomKind, RoomStatus, SeatStatus
from server.pages import PAGE, Cursor, Limit


class ListJobs(msgspec.Struct, frozen=True):
    """Ask for work that waits, runs or was given up, newest first."""

    state: State | None = None
    limit: Limit = PAGE
    cursor: UUID | None = None


class JobPage(msgspec.Struct, frozen=True):
    """A page of jobs."""

    items: tuple[JobView, ...]
    next_cursor: UUID | None


class RetryJob(msgspec.Struct, frozen=True):
    """Have work tried anew that was given up."""

    job_id: UUID
    reason: Annotated[str, Meta(min_length=10, max_length=500)]


# --- Rooms --------------------------------------------------------------------------------------


class ListRooms(msgspec.Struct, frozen=True):
    """Ask for rooms as they are at this moment, newest first; without a state, all that are not closed."""

    state: RoomStatus | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class SeatHeld(msgspec.Struct, frozen=True):
    """Who has a seat, and how it stands."""

    user_id: Identity
    name: str
    role: Role
    no: int
    state: SeatStatus
    joined_at: datetime


class TimerView(msgspec.Struct, frozen=True):
    """What a room has to do later."""

    name: str
    due_at: datetime
    clock: Literal["business", "wall"]


class EvidenceCount(msgspec.Struct, frozen=True):
    """How much is known about who was there."""

    count: int
    newest_at: datetime | None
    """How far it reaches."""


class RoomView(msgspec.Struct, frozen=True, kw_only=True):
    """A room as operators see it."""

    id: UUID
    kind: RoomKind
    title: str
    state: RoomStatus
    cap: int
    owner_id: UUID
    owner: str
    seats: tuple[SeatHeld, ...]
    """In order of joining."""
    waiting: tuple[str, ...]
    """Names of the queue, the first first."""
    generation: int
    proof: EvidenceMode
    """Where evidence comes from."""
    evidence: EvidenceCount
    timers: tuple[TimerView, ...]
    """What falls due, soonest first."""
    events: int
    """Length of the journal."""
    node: UUID | None
    """Which process runs it; None while nobody does."""
    created_at: datetime
    starts_at: datetime | None
    ends_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    reason: str | None
    settled: bool | None
    """Whether the money of a lesson moved; None for talks."""


class RoomPage(msgspec.Struct, frozen=True):
    """A page of rooms."""

    items: tuple[RoomView, ...]
    next_cursor: str | None
    now: datetime
    """Business time, from which the rooms' times count."""


class ReadJournal(msgspec.Struct, frozen=True):
    """Ask what happened in a room, step by step."""

    room_id: UUID
    cursor: Annotated[int, Meta(ge=0)] = 0
    """The step after which the page begins."""
    limit: Limit = 100


class JournalEntry(msgspec.Struct, frozen=True):
    """One step of a room's life."""

    seq: int
    off: int | None
    """Its number on the room's channel; None where the channel does not show it."""
    fence: int
    """Rises each time that another process takes the room over."""
    type: str
    actor: str | None
    """Who did it, or whom it is about."""
    at: datetime
    """Business time."""
    recorded_at: datetime
    facts: dict[str, Any]


class JournalPage(msgspec.Struct, frozen=True):
    """A room as it is now, and a page of what happened in it, the oldest first."""

    room: RoomView
    items: tuple[JournalEntry, ...]
    next_cursor: int | None
    now: datetime
    """Business time, from which the room's times count."""


# --- Webhooks -----------------------------------------------------------------------------------


class ListWebhooks(msgspec.Struct, frozen=True):
    """Ask for what a provider told us, newest first; with `waiting` only what nobody has taken in yet."""

    provider: Literal["livekit", "stripe"]
    waiting: bool = False
    limit: Limit = PAGE
    cursor: Cursor | None = None


class WebhookView(msgspec.Struct, frozen=True):
    """One delivery. Its body stays here: it may name people."""

    id: str
    type: str
    about: str | None
    """The media room, or the object at Stripe."""
    created_at: datetime
    """By the provider's clock."""
    received_at: datetime
    handled_at: datetime | None
    """None: it waits."""


class WebhookPage(msgspec.Struct, frozen=True):
    """A page of deliveries."""

    items: tuple[WebhookView, ...]
    next_cursor: str | None

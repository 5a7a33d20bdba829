"""What talks are asked and what they answer."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rooms.messages import RoomStatus
from server.pages import PAGE, Cursor, Limit

Title = Annotated[str, Meta(min_length=3, max_length=255)]
Description = Annotated[str, Meta(max_length=5000)]
Language = Annotated[str, Meta(min_length=2, max_length=50)]
Level = Literal["A1", "A2", "B1", "B2", "C1", "C2"]
Topic = Annotated[str, Meta(min_length=1, max_length=100)]
Region = Annotated[str, Meta(pattern=r"^[A-Za-z]{2}\Z")]
Seats = Annotated[int, Meta(ge=2, le=4)]
Moment = Annotated[datetime, Meta(tz=True)]


class CreateTalk(msgspec.Struct, frozen=True):
    """Open a free-talk room; the caller is its host and has a seat."""

    title: Title
    language: Language
    description: Description = ""
    level: Level | None = None
    topic: Topic | None = None
    max_participants: Seats = 4
    public: bool = True
    region: Region | None = None
    """Absent: the country of the caller's address."""
    starts_at: Moment | None = None
    """Announces the talk for later."""


class GetTalk(msgspec.Struct, frozen=True):
    """One talk, by its id, the id of its room, or the code of its link."""

    talk_id: Annotated[str, Meta(min_length=1, max_length=36)]


class ListTalks(msgspec.Struct, frozen=True):
    """Public talks that are open and not full, newest first; or those that are full."""

    nearby: bool = False
    """Only the caller's country: `region`, else the one of the address. Unknown finds nothing."""
    region: Region | None = None
    language: Language | None = None
    level: Level | None = None
    topic: Topic | None = None
    full: bool = False
    """Those instead where one would have to wait for a seat."""
    limit: Limit = PAGE
    cursor: Cursor | None = None


class ListParticipants(msgspec.Struct, frozen=True):
    """Ask who is and was in a talk; for its host and administrators."""

    talk_id: UUID


class ListHistory(msgspec.Struct, frozen=True):
    """The caller's own past and present talks, hosted or joined, newest first; an administrator sees all."""

    status: RoomStatus | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class UpdateTalk(msgspec.Struct, frozen=True):
    """Change an open talk; what is absent stays."""

    talk_id: UUID
    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    level: Level | UnsetType | None = UNSET
    topic: Topic | UnsetType | None = UNSET
    public: bool | UnsetType = UNSET


class CloseTalk(msgspec.Struct, frozen=True):
    """Close an open talk; its host or an admin."""

    talk_id: UUID


class Host(msgspec.Struct, frozen=True):
    """Who opened a talk."""

    user_id: UUID
    name: str


class SeatCount(msgspec.Struct, frozen=True):
    """How many seats there are, and how many are taken or kept for somebody."""

    total: int
    taken: int


class ListedTalk(msgspec.Struct, frozen=True, kw_only=True):
    """A talk in a list."""

    id: UUID
    room_id: UUID
    code: str
    share_link: str
    title: str
    description: str
    language: str
    level: str | None
    topic: str | None
    region: str | None
    city: str | None
    public: bool
    max_participants: int
    seats: SeatCount
    state: RoomStatus
    host: Host
    starts_at: datetime | None
    created_at: datetime
    closed_at: datetime | None


class TalkView(ListedTalk, frozen=True, kw_only=True):
    """A talk by itself."""

    qr_svg: str
    """Of the share link."""


class TalkPage(msgspec.Struct, frozen=True):
    """A page of talks."""

    items: tuple[ListedTalk, ...]
    next_cursor: str | None
    region: str | None = None
    """The country whose talks these are; None: of all, or with `nearby` that nobody knows where the caller is."""


class PastTalk(ListedTalk, frozen=True, kw_only=True):
    """A talk with the caller's own part in it."""

    hosted: bool
    joined_at: datetime | None
    """First; None: never came."""
    left_at: datetime | None
    """Last; None: still there, or never came."""
    minutes: int
    """Whole minutes inside, all stays together."""


class TalkParticipant(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is or was in a talk."""

    user_id: UUID
    name: str
    host: bool
    """Opened the talk."""
    joined_at: datetime
    """First."""
    left_at: datetime | None
    """Last; None: still there."""
    minutes: int
    """Whole minutes inside, all stays together."""


class ParticipantList(msgspec.Struct, frozen=True):
    """Everybody who ever came, in the order of their first coming."""

    items: tuple[TalkParticipant, ...]
    next_cursor: None = None


class HistoryPage(msgspec.Struct, frozen=True):
    """A page of own talks."""

    items: tuple[PastTalk, ...]
    next_cursor: str | None


class TalkGone(msgspec.Struct, frozen=True):
    """An open talk left the list: it is full, closed, or private now."""

    id: UUID


# --- Domain events (outbox) ---------------------------------------------------------------------


class TalkChanged(msgspec.Struct, frozen=True, tag="talk.changed"):
    """What a host announced of a talk changed."""

    room_id: UUID
    was_public: bool

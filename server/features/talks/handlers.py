"""The commands of talks."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import ColumnElement, Row, Select, func, or_, select, union
from sqlalchemy.ext.asyncio import AsyncSession

from billing import outbox
from rooms import journal
from rooms.messages import Close, Identity, RoomKind, RoomSpec, RoomStatus, UpdateRoom
from rooms.models import Room
from server import pages, qr
from server.config import Settings
from server.context import Command, Context
from server.errors import ConflictError, ForbiddenError, NotFoundError
from server.features.accounts.models import User, names_of
from server.features.talks import rules, stays
from server.features.talks.messages import (
    CloseTalk,
    CreateTalk,
    GetTalk,
    HistoryPage,
    Host,
    ListedTalk,
    ListHistory,
    ListParticipants,
    ListTalks,
    ParticipantList,
    PastTalk,
    SeatCount,
    TalkChanged,
    TalkPage,
    TalkParticipant,
    TalkView,
    UpdateTalk,
)
from server.features.talks.models import Talk, TalkStay

Found = Row[Talk, Room, str, str]
"""A talk, its room, and its host's first and last name."""


async def create_talk(ctx: Context, command: CreateTalk) -> TalkView:
    """Open a talk; its host holds a seat from now on, and its link can be given away.

    Raises:
        BadRequestError: The announced start does not lie in the future.
    """
    rules.check_start(command.starts_at, now=ctx.now)
    place = None if command.region else ctx.parts.locator.place(ctx.address)
    talk = Talk(
        id=uuid.uuid4(),
        room_id=uuid.uuid4(),
        code=rules.new_code(),
        host_id=ctx.user.user_id,
        description=command.description,
        language=command.language,
        level=command.level,
        topic=command.topic,
        region=command.region.upper() if command.region else place and place.country,
        city=place and place.city,
        is_public=command.public,
        created_at=ctx.now,
    )
    spec = RoomSpec(
        id=talk.room_id,
        kind=RoomKind.TALK,
        title=command.title,
        cap=command.max_participants,
        owner=Identity(str(ctx.user.user_id)),
        owner_name=ctx.user.name,
        evidence="livekit" if ctx.parts.settings.livekit.url else "socket",
        starts_at=command.starts_at,
    )
    await journal.create(ctx.session, spec, now=ctx.now, wall=ctx.parts.clock.wall())
    ctx.session.add(talk)
    await ctx.session.flush()
    return view(await find(ctx.session, Talk.id == talk.id), ctx.parts.settings)


async def get_talk(ctx: Context, command: GetTalk) -> TalkView:
    """Return a talk; a private one to whoever knows its id or code.

    Raises:
        NotFoundError: There is none.
    """
    return view(await talk_of(ctx.session, command.talk_id), ctx.parts.settings)


async def list_talks(ctx: Context, command: ListTalks) -> TalkPage:
    """Return public talks that are open and not full, or full where that is asked for, newest first."""
    region = command.region.upper() if command.region else None
    if command.nearby and region is None:
        region = ctx.parts.locator.country(ctx.address)
        if region is None:
            return TalkPage((), None)
    query = _talks().where(
        Talk.is_public,
        Talk.closed_at.is_(None),
        Room.state.in_((RoomStatus.OPEN, RoomStatus.LIVE)),
        Room.seated >= Room.cap if command.full else Room.seated < Room.cap,
    )
    if region is not None:
        query = query.where(Talk.region == region)
    if command.level is not None:
        query = query.where(Talk.level == command.level)
    for column, wanted in ((Talk.language, command.language), (Talk.topic, command.topic)):
        if wanted is not None:
            query = query.where(func.lower(column) == wanted.lower())
    shown, more = await pages.read_joined(ctx.session, query, Talk.created_at, Talk.id, command)
    return TalkPage(tuple(listed(row, ctx.parts.settings) for row in shown), more, region)


async def list_history(ctx: Context, command: ListHistory) -> HistoryPage:
    """Return the caller's own talks, hosted or joined, with the time spent in each; all for an administrator."""
    user_id = ctx.user.user_id
    await stays.tell_open(ctx.session, user_id)
    query = _talks()
    if not ctx.user.is_admin:
        own = union(
            select(Talk.id).where(Talk.host_id == user_id),
            select(TalkStay.talk_id).where(TalkStay.user_id == user_id, TalkStay.joined_at.is_not(None)),
        )
        query = query.where(Talk.id.in_(own))
    if command.status is not None:
        query = query.where(Room.state == command.status)
    shown, more = await pages.read_joined(ctx.session, query, Talk.created_at, Talk.id, command)
    spent = await _stays_of(ctx.session, user_id, [talk.id for talk, *_ in shown])
    return HistoryPage(tuple(_past(row, spent.get(row[0].id, []), ctx) for row in shown), more)


async def list_participants(ctx: Context, command: ListParticipants) -> ParticipantList:
    """Return everybody who ever came into a talk, with the time spent in it (F4-56).

    Raises:
        NotFoundError: There is no such talk.
        ForbiddenError: The caller neither opened it nor is its host now.
    """
    talk, room, *_ = await find(ctx.session, Talk.id == command.talk_id)
    is_host = talk.host_id == ctx.user.user_id or room.host == str(ctx.user.user_id)
    if not (is_host or ctx.user.is_admin):
        raise ForbiddenError("Only the host may see who was there.")
    await stays.tell(ctx.session, [talk.room_id])
    rows = await ctx.session.scalars(
        select(TalkStay)
        .where(TalkStay.talk_id == talk.id, TalkStay.joined_at.is_not(None))
        .order_by(TalkStay.joined_at, TalkStay.seat_generation)
        .execution_options(populate_existing=True)
    )
    by_person: dict[UUID, list[TalkStay]] = {}
    for row in rows:
        by_person.setdefault(row.user_id, []).append(row)
    names = await names_of(ctx.session, by_person)
    return ParticipantList(
        tuple(
            _participant(talk, names[user_id], own_stays, now=ctx.now)
            for user_id, own_stays in by_person.items()
        )
    )


async def update_talk(ctx: Context, command: UpdateTalk) -> TalkView:
    """Change an open talk; its present host or an admin.

    Raises:
        NotFoundError: There is none.
        ForbiddenError: The caller is not its host.
        ConflictError: It is closed.
    """
    async with ctx.parts.sessions.begin() as session:
        talk, room, *_ = await find(session, Talk.id == command.talk_id)
        was_public = talk.is_public
        if room.host != str(ctx.user.user_id) and not ctx.user.is_admin:
            raise ForbiddenError("Only the host may change the talk.")
        if room.state == RoomStatus.CLOSED:
            raise ConflictError("The talk is closed.", code="room_closed")
        for name in ("description", "language", "level", "topic"):
            if (value := getattr(command, name)) is not UNSET:
                setattr(talk, name, value)
        if command.public is not UNSET:
            talk.is_public = command.public
        if was_public or talk.is_public:
            outbox.record(session, TalkChanged(talk.room_id, was_public), at=ctx.now)
    if command.title is not UNSET:
        by = Identity(str(ctx.user.user_id))
        await ctx.parts.rooms.ask(room.id, UpdateRoom(by, command.title, ctx.user.is_admin))
    return await _read(ctx, talk.id)


async def close_talk(ctx: Context, command: CloseTalk) -> TalkView:
    """Close a talk for everybody in it; its host or an admin. Closing a closed one changes nothing.

    Raises:
        NotFoundError: There is none.
        NotAllowedError: The caller is not its host.
    """
    async with ctx.parts.sessions() as session:
        talk, room, *_ = await find(session, Talk.id == command.talk_id)
    if room.state != RoomStatus.CLOSED:
        await ctx.parts.rooms.ask(room.id, Close(Identity(str(ctx.user.user_id)), ctx.user.is_admin))
    return await _read(ctx, talk.id)


async def talk_of(session: AsyncSession, id_or_code: str) -> Found:
    """Return a talk by its id, the id of its room, or its code.

    Raises:
        NotFoundError: There is none.
    """
    if rules.is_code(id_or_code):
        return await find(session, Talk.code == id_or_code)
    try:
        known = UUID(id_or_code)
        return await find(session, or_(Talk.id == known, Talk.room_id == known))
    except ValueError:
        raise NotFoundError("There is no such talk.") from None


async def find(session: AsyncSession, *conditions: object) -> Found:
    """Return the one talk for which the conditions hold.

    Raises:
        NotFoundError: There is none.
    """
    found = (await session.execute(_talks().where(*conditions))).one_or_none()  # type: ignore[arg-type] # columns
    if found is None:
        raise NotFoundError("There is no such talk.")
    return found


async def find_all(session: AsyncSession, *conditions: ColumnElement[bool]) -> Sequence[Found]:
    """Return the talks for which the conditions hold, in no order."""
    return (await session.execute(_talks().where(*conditions))).all()


def is_listed(found: Found) -> bool:
    """Return whether the list without a filter has this talk: what `list_talks` asks of the database."""
    talk, room, *_ = found
    is_open = talk.closed_at is None and room.state in (RoomStatus.OPEN, RoomStatus.LIVE)
    return talk.is_public and is_open and room.seated < room.cap


def listed(found: Found, settings: Settings) -> ListedTalk:
    """Return a talk as a list shows it."""
    talk, room, first_name, last_name = found
    return ListedTalk(
        id=talk.id,
        room_id=talk.room_id,
        code=talk.code,
        share_link=share_link(talk, settings),
        title=room.title,
        description=talk.description,
        language=talk.language,
        level=talk.level,
        topic=talk.topic,
        region=talk.region,
        city=talk.city,
        public=talk.is_public,
        max_participants=room.cap,
        seats=SeatCount(room.cap, room.seated),
        state=RoomStatus(room.state),
        host=Host(talk.host_id, f"{first_name} {last_name}"),
        starts_at=room.starts_at,
        created_at=talk.created_at,
        closed_at=room.closed_at,
    )


def view(found: Found, settings: Settings) -> TalkView:
    """Return a talk by itself, with the picture of its link."""
    return TalkView(
        **msgspec.structs.asdict(listed(found, settings)), qr_svg=qr.svg(share_link(found[0], settings))
    )


def share_link(talk: Talk, settings: Settings) -> str:
    """Return the link that leads to a talk."""
    return f"{settings.public_url}/t/{talk.code}"


def _talks() -> Select[Talk, Room, str, str]:
    return (
        select(Talk, Room, User.first_name, User.last_name)
        .join(Room, Room.id == Talk.room_id)
        .join(User, User.id == Talk.host_id)
    )


async def _read(ctx: Context, talk_id: UUID) -> TalkView:
    async with ctx.parts.sessions() as session:
        return view(await find(session, Talk.id == talk_id), ctx.parts.settings)


async def _stays_of(
    session: AsyncSession, user_id: UUID, talk_ids: Iterable[UUID]
) -> dict[UUID, list[TalkStay]]:
    rows = await session.scalars(
        select(TalkStay)
        .where(TalkStay.user_id == user_id, TalkStay.talk_id.in_(talk_ids), TalkStay.joined_at.is_not(None))
        .order_by(TalkStay.seat_generation)
    )
    found: dict[UUID, list[TalkStay]] = {}
    for row in rows:
        found.setdefault(row.talk_id, []).append(row)
    return found


def _participant(talk: Talk, name: str, own_stays: Sequence[TalkStay], *, now: datetime) -> TalkParticipant:
    inside = _inside(own_stays, now=now)
    return TalkParticipant(
        user_id=own_stays[0].user_id,
        name=name,
        host=own_stays[0].user_id == talk.host_id,
        joined_at=inside[0][0],
        left_at=own_stays[-1].left_at,
        minutes=rules.minutes_inside(inside),
    )


def _inside(own_stays: Sequence[TalkStay], *, now: datetime) -> list[tuple[datetime, datetime]]:
    return [(stay.joined_at, stay.left_at or now) for stay in own_stays if stay.joined_at is not None]


def _past(row: Found, own_stays: Sequence[TalkStay], ctx: Context) -> PastTalk:
    inside = _inside(own_stays, now=ctx.now)
    left_at: datetime | None = own_stays[-1].left_at if own_stays else None
    return PastTalk(
        **msgspec.structs.asdict(listed(row, ctx.parts.settings)),
        hosted=row[0].host_id == ctx.user.user_id,
        joined_at=inside[0][0] if inside else None,
        left_at=left_at,
        minutes=rules.minutes_inside(inside),
    )


COMMANDS = (
    Command("talk.create", CreateTalk, create_talk, method="POST", path="/talks", status=201),
    Command("talk.list", ListTalks, list_talks, guard="public", method="GET", path="/talks"),
    Command("talk.history", ListHistory, list_history, method="GET", path="/talks/history"),
    Command("talk.get", GetTalk, get_talk, guard="public", method="GET", path="/talks/{talk_id}"),
    Command(
        "talk.participants",
        ListParticipants,
        list_participants,
        method="GET",
        path="/talks/{talk_id}/participants",
    ),
    Command("talk.update", UpdateTalk, update_talk, method="PATCH", path="/talks/{talk_id}", live=True),
    Command("talk.close", CloseTalk, close_talk, method="POST", path="/talks/{talk_id}/close", live=True),
)

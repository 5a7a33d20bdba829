"""The commands of live rooms: seats, signals, chat, attendance."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import func, select

from billing import settlement
from billing.money import Money
from rooms import finish, messages as m
from rooms.messages import Identity, RoomKind, RoomStatus, Snapshot
from rooms.models import RoomSeat
from server.context import Command, Context, Question
from server.errors import BadRequestError, ConflictError, FieldError, ForbiddenError, ServerError
from server.features.accounts.models import names_of
from server.features.lessons import access, media
from server.features.lessons.messages import (
    CloseRoom,
    DeleteChat,
    EditChat,
    Ended,
    EndPreview,
    GetAttendance,
    GetRoom,
    JoinRoom,
    KickFromRoom,
    LeaveRoom,
    MediaStateShown,
    MessageRef,
    Noted,
    Position,
    PreviewEnd,
    QueuePlace,
    ReadChat,
    Said,
    Seated,
    SendChat,
    ShowMediaState,
    Signal,
    SignalShown,
    StudentIfEnded,
    Waiting,
)
from server.gateway.protocol import Publication, encode

# PROTOCOL 3. An offer with its candidates has 3 to 6 KiB.
SIGNAL_BYTES_MAX = 8 * 1024
# As much as `room.send`.
STATE_BYTES_MAX = 1024


class UnknownChannelError(ServerError):
    """The channel is not one that this operation knows."""

    kind = "not_found"
    code = "unknown_channel"


async def join_room(ctx: Context, command: JoinRoom) -> Seated | Waiting:
    """Give the caller a seat and what they need to be seen, or a place in the queue.

    Raises:
        NotFoundError: There is no such room.
        ForbiddenError: It is a lesson of others.
        RoomError: What the room says: full, closed, banned, doors shut.
        OverloadedError: The media server is away.
    """
    role = await access.require_role(ctx.parts, command.room_id, ctx.user.user_id)
    connection = None
    if ctx.connection is not None:
        connection = m.ConnectionId(ctx.connection.id)
        ctx.connection.expect(command.room_id)
    joined = await ctx.parts.rooms.ask(
        command.room_id, m.Join(_me(ctx), ctx.user.name, role, connection, command.queue)
    )
    match joined:
        case m.Queued(room, position):
            # Bound as well: whoever waits and goes away loses their place.
            _bind(ctx, room, seated=False)
            return Waiting(QueuePlace(position), Position(room.epoch, room.off))
        case m.Joined(room, seat):
            await _require_right_still(ctx, command.room_id, role)
            room = await media.ready(ctx.parts.rooms, room)
            _bind(ctx, room, seated=True)
            allowed = media.access(room, ctx.parts.settings.livekit, ctx.user)
            return Seated(room, seat, allowed, Position(room.epoch, room.off))
        case _:
            raise AssertionError("a join is answered by a seat or a place in the queue")


async def _require_right_still(ctx: Context, room_id: UUID, role: m.Role) -> None:
    """Take the seat back from a student whose place ended while they were let in.

    Whose place ends is put out after that was committed (`courses.errands.evict`). That may have been before the seat
    was given, and is seen here, or after it, and finds the seat.
    """
    if role != "student":
        return
    found = await access.standing(ctx.parts, room_id, ctx.user.user_id)
    if found.role is not None:
        return
    await ctx.parts.rooms.ask(room_id, m.Evict(_me(ctx), "the place ended"))
    raise access.no_place()


async def leave_room(ctx: Context, command: LeaveRoom) -> Ended:
    """Give up the caller's seat, offer or place in the queue, on all their devices."""
    connection = None if ctx.connection is None else m.ConnectionId(ctx.connection.id)
    await ctx.parts.rooms.ask(command.room_id, m.Leave(_me(ctx), connection))
    if ctx.connection is not None:
        ctx.connection.unbind(command.room_id)
    return Ended()


async def kick_from_room(ctx: Context, command: KickFromRoom) -> Ended:
    """Remove somebody; the host, the tutor or an admin."""
    kick = m.Kick(_me(ctx), Identity(str(command.user_id)), command.ban, ctx.user.is_admin)
    await ctx.parts.rooms.ask(command.room_id, kick)
    return Ended()


async def close_room(ctx: Context, command: CloseRoom) -> Ended:
    """Close a talk or end a running lesson; its host, its tutor or an admin."""
    await ctx.parts.rooms.ask(command.room_id, m.Close(_me(ctx), ctx.user.is_admin))
    return Ended()


async def signal(ctx: Context, command: Signal) -> Ended:
    """Hand a message of the browsers' agreement to somebody else in the room; it is not stored.

    Raises:
        BadRequestError: It is too big, or for oneself.
        ForbiddenError: One of the two has no seat there.
    """
    _check_size("data", command.data, SIGNAL_BYTES_MAX)
    if command.to == ctx.user.user_id:
        raise BadRequestError("A signal goes to somebody else.", (FieldError("to", "must be somebody else"),))
    await _require_seats(ctx, command.room_id, ctx.user.user_id, command.to)
    shown = SignalShown(command.room_id, ctx.user.user_id, command.data)
    _show(ctx, f"user:{command.to}", "room.signal", shown)
    return Ended()


async def show_media_state(ctx: Context, command: ShowMediaState) -> Ended:
    """Show the others how the caller's media are; it is not stored.

    Raises:
        BadRequestError: It is too big.
        ForbiddenError: The caller has no seat there.
    """
    _check_size("state", command.state, STATE_BYTES_MAX)
    await _require_seats(ctx, command.room_id, ctx.user.user_id)
    _show(ctx, f"room:{command.room_id}", "participant.media", MediaStateShown(_me(ctx), command.state))
    return Ended()


async def get_room(ctx: Context, command: GetRoom) -> Snapshot:
    """Return a room as its page shows it.

    Raises:
        NotFoundError: There is no such room.
        ForbiddenError: It is a lesson of others.
    """
    if not await access.may_read(ctx.parts, command.room_id, ctx.user):
        raise access.no_place()
    shown = await ctx.parts.rooms.snapshot(command.room_id, _me(ctx))
    return msgspec.structs.replace(shown, ahead_s=round(ctx.parts.clock.offset.total_seconds()))


async def get_attendance(ctx: Context, command: GetAttendance) -> m.AttendanceView:
    """Return who was in a lesson how long: everybody for its tutor and admins, the own row for a student.

    Raises:
        NotFoundError: There is no such room.
        ForbiddenError: It is a lesson of others.
        BadRequestError: It is a talk, where nobody's time is counted.
    """
    found = await access.standing(ctx.parts, command.room_id, ctx.user.user_id)
    if found.kind is RoomKind.TALK:
        raise BadRequestError("Attendance is kept of lessons only.")
    if found.role is None and not ctx.user.is_admin:
        raise access.no_place()
    shown = await ctx.parts.rooms.ask(command.room_id, m.ReadAttendance())
    assert isinstance(shown, m.AttendanceView), "attendance is asked for"
    if found.role == "tutor" or ctx.user.is_admin:
        return shown
    own = tuple(row for row in shown.people if row.user_id == _me(ctx))
    return msgspec.structs.replace(shown, people=own)


async def preview_end(ctx: Context, command: PreviewEnd) -> EndPreview:
    """Return what ending a running course session now would mean for the money; for its tutor and admins.

    Of a booking it says nothing: a card pays only once the outcome is known.

    Raises:
        NotFoundError: There is no such room.
        ForbiddenError: It is a lesson of others.
        ConflictError: It does not run, or is no session of a course.
    """
    found = await access.standing(ctx.parts, command.room_id, ctx.user.user_id)
    if found.role != "tutor" and not ctx.user.is_admin:
        raise ForbiddenError("Only the tutor of a lesson may do this.")
    room = await ctx.parts.rooms.snapshot(command.room_id)
    if found.kind is not RoomKind.COURSE_SESSION or room.state is not RoomStatus.LIVE:
        raise ConflictError("Only a course session that runs can be foreseen.")
    shown = await ctx.parts.rooms.ask(command.room_id, m.ReadAttendance())
    assert isinstance(shown, m.AttendanceView), "attendance is asked for"
    known = finish.facts_if_ended(room, shown, at=ctx.now)
    async with ctx.parts.sessions() as session:
        foreseen = await settlement.foresee(session, known)
        names = await names_of(session, [one.student_id for one in foreseen])
    return EndPreview(
        left_s=known.planned_s - known.total_s,
        tutor_absent=known.tutor_absent,
        to_tutor=Money(sum(one.decision.to_tutor for one in foreseen)),
        to_platform=Money(sum(one.decision.to_platform for one in foreseen)),
        to_students=Money(sum(one.decision.to_student for one in foreseen)),
        students=tuple(
            StudentIfEnded(
                one.student_id, names[one.student_id], one.amount, released=one.decision.to_student == 0
            )
            for one in foreseen
        ),
    )


def send_chat(ctx: Context, command: SendChat) -> Question:
    """Say something in a room."""
    return Question(_room_of(command), m.SendChat(_me(ctx), command.text, ctx.key), Said)


def edit_chat(ctx: Context, command: EditChat) -> Question:
    """Change an own message."""
    edit = m.EditChat(_me(ctx), command.message_id, command.text, ctx.key)
    return Question(_room_of(command), edit, Said)


def delete_chat(ctx: Context, command: DeleteChat) -> Question:
    """Delete a message: one's own, or as host or admin anybody's."""
    delete = m.DeleteChat(_me(ctx), command.message_id, ctx.key, ctx.user.is_admin)
    return Question(_room_of(command), delete, lambda _: Noted(MessageRef(command.message_id)))


def read_chat(ctx: Context, command: ReadChat) -> Question:
    """Say how far the caller has read."""
    read = m.ReadChat(_me(ctx), command.message_id)
    return Question(_room_of(command), read, lambda _: Noted(MessageRef(command.message_id)))


def _me(ctx: Context) -> Identity:
    return Identity(str(ctx.user.user_id))


def _bind(ctx: Context, room: Snapshot, *, seated: bool) -> None:
    if ctx.connection is not None:
        ctx.connection.bind(room.id, off=room.off, seated=seated)


def _room_of(command: SendChat | EditChat | DeleteChat | ReadChat) -> UUID:
    """Return the room that a chat operation speaks of.

    Raises:
        BadRequestError: It names no channel.
        UnknownChannelError: The channel is no room.
    """
    if command.room_id is not None:
        return command.room_id
    if command.ch is None:
        raise BadRequestError("Name a channel.", (FieldError("ch", "This field is required."),))
    raise UnknownChannelError("There is no such conversation.")


async def _require_seats(ctx: Context, room_id: UUID, *people: UUID) -> None:
    wanted = {str(person) for person in people}
    query = select(func.count()).where(RoomSeat.room_id == room_id, RoomSeat.identity.in_(wanted))
    async with ctx.parts.sessions() as session:
        found = await session.scalar(query)
    if found != len(wanted):
        raise ForbiddenError(
            "Both of you need a seat in this room." if len(wanted) > 1 else "You have no seat here."
        )


def _check_size(field: str, value: msgspec.Raw, most: int) -> None:
    if len(bytes(value)) > most:
        raise BadRequestError("That is too big.", (FieldError(field, f"must be at most {most} bytes"),))


def _show(ctx: Context, channel: str, ev: str, data: msgspec.Struct) -> None:
    ctx.parts.publish(channel, [Publication(None, ev, time.time_ns() // 1_000_000, encode(data))])


def _asking(
    op: str,
    request: type[msgspec.Struct],
    question: Callable[[Context, Any], Question],
    reply: type[msgspec.Struct],
) -> Command:
    """Return the row of a command that only asks a room; the socket asks it without a task."""

    async def handler(ctx: Context, command: msgspec.Struct) -> msgspec.Struct:
        asked = question(ctx, command)
        return asked.show(await ctx.parts.rooms.ask(asked.room_id, asked.command))

    # What the contract says of it.
    handler.__doc__ = question.__doc__
    handler.__annotations__["return"] = reply
    return Command(op, request, handler, live=True, question=question)


COMMANDS = (
    Command("room.join", JoinRoom, join_room, method="POST", path="/rooms/{room_id}/join", live=True),
    Command("room.leave", LeaveRoom, leave_room, method="POST", path="/rooms/{room_id}/leave", live=True),
    Command(
        "room.kick", KickFromRoom, kick_from_room, method="POST", path="/rooms/{room_id}/kick", live=True
    ),
    Command("room.close", CloseRoom, close_room, method="POST", path="/rooms/{room_id}/close", live=True),
    Command("room.get", GetRoom, get_room, method="GET", path="/rooms/{room_id}", live=True),
    Command(
        "room.attendance",
        GetAttendance,
        get_attendance,
        method="GET",
        path="/rooms/{room_id}/attendance",
        live=True,
    ),
    Command(
        "room.end_preview",
        PreviewEnd,
        preview_end,
        method="GET",
        path="/rooms/{room_id}/end-preview",
        live=True,
    ),
    Command("room.signal", Signal, signal, live=True),
    Command("room.media_state", ShowMediaState, show_media_state, live=True),
    _asking("chat.send", SendChat, send_chat, Said),
    _asking("chat.edit", EditChat, edit_chat, Said),
    _asking("chat.delete", DeleteChat, delete_chat, Noted),
    _asking("chat.read", ReadChat, read_chat, Noted),
)

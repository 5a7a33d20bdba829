"""The commands of course sessions (B-14)."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from msgspec import UNSET
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from billing import holds, outbox
from billing.models import violated
from rooms import journal
from rooms.messages import Identity, RoomKind, RoomSpec
from server import errand
from server.context import Command, Context
from server.errors import BadRequestError, ConflictError, FieldError
from server.features.accounts.models import user_of
from server.features.courses import access, errands, life, models, rules, views
from server.features.courses.messages import (
    AddSession,
    CancelSession,
    CourseChanged,
    ListSessions,
    SessionChanged,
    SessionList,
    SessionView,
    UpdateSession,
)
from server.features.courses.models import Course, CourseSession, Place
from server.features.courses.rules import SessionStatus


async def add_session(ctx: Context, command: AddSession) -> SessionView:
    """Announce a session: its room is made, and the slices that were sold for its number are given to it.

    Raises:
        ConflictError: The number is taken, the tutor teaches at that time, or the course is over.
        ForbiddenError: It is somebody else's, or its tutor is not approved.
    """
    session = ctx.session
    course = await access.selling_course(ctx, command.course_id)
    access.check_changeable(course)
    starts_at, ends_at = rules.session_window(command.starts_at, command.duration_minutes, now=ctx.now)
    if command.number > course.total_sessions:
        raise BadRequestError(
            "The course has fewer sessions.",
            (FieldError("number", f"must be at most {course.total_sessions}"),),
        )
    row = CourseSession(
        id=uuid4(),
        course_id=course.id,
        tutor_id=course.tutor_id,
        number=command.number,
        title=command.title,
        starts_at=starts_at,
        ends_at=ends_at,
        status=SessionStatus.SCHEDULED,
        room_id=uuid4(),
    )
    await _make_room(ctx, course, row)
    session.add(row)
    await _flush(session)
    buyers = await session.scalars(
        select(Place.purchase_id).where(Place.course_id == course.id, Place.number == row.number, Place.live)
    )
    if source_ids := set(buyers):
        await holds.assign(session, row.room_id, source_ids=source_ids, slice_no=row.number)
    access.record_admin(ctx, "course.session.add", row.id, before={}, after=_shown(row))
    return views.session_view(course, row, await models.places_taken(session, course.id))


async def list_sessions(ctx: Context, command: ListSessions) -> SessionList:
    """Return a course's sessions by number."""
    course = await access.visible_course(ctx, command.course_id)
    taken = await models.places_taken(ctx.session, course.id)
    rows = await models.sessions_of(ctx.session, course.id)
    return SessionList(tuple(views.session_view(course, row, taken) for row in rows))


async def update_session(ctx: Context, command: UpdateSession) -> SessionView:
    """Rename or move a session that has not begun; who has a place in it is told.

    Raises:
        ConflictError: It has begun, the notice is too short, or the tutor teaches at that time.
    """
    session = ctx.session
    course = await access.own_course(ctx, command.course_id)
    row = await models.session_of(session, course.id, command.session_id)
    if row.status != SessionStatus.SCHEDULED:
        raise ConflictError(f"The session is {row.status}.", code="session_not_open")
    title = row.title if command.title is UNSET else command.title
    starts_at = row.starts_at if command.starts_at is UNSET else command.starts_at
    minutes = row.duration_minutes if command.duration_minutes is UNSET else command.duration_minutes
    is_sold = await models.is_sold(session, course.id, number=row.number)
    moved = (starts_at, minutes) != (row.starts_at, row.duration_minutes)
    is_renamed = title != row.title
    before = _shown(row)
    if moved:
        await access.check_not_begun(session, [row])
        await _move(ctx, session, row, starts_at, minutes, is_sold=is_sold)
    row.title = title
    if moved or is_renamed:
        outbox.record(session, SessionChanged(room_id=row.room_id), at=ctx.now)
    if is_sold and (moved or is_renamed):
        changed = CourseChanged(
            course_id=course.id,
            title=course.title,
            session_id=row.id,
            session_title=title,
            starts_at=starts_at if moved else None,
        )
        outbox.record(session, changed, at=ctx.now)
    access.record_admin(ctx, "course.session.update", row.id, before=before, after=_shown(row))
    await session.flush()
    view = views.session_view(course, row, await models.places_taken(session, course.id))
    ctx.afterwards = lambda: errand.at_once(
        errands.update_room(ctx.parts.sessions, ctx.parts.rooms, view.room_id)
    )
    return view


async def cancel_session(ctx: Context, command: CancelSession) -> SessionView:
    """Cancel a session that has not begun: who has a place in it gets the money back (F4-66). Its room follows.

    Raises:
        ConflictError: It has begun, or is over.
    """
    session = ctx.session
    course = await access.own_course(ctx, command.course_id)
    row = await models.session_of(session, course.id, command.session_id)
    rules.move(rules.SESSION_ARROWS, SessionStatus(row.status), SessionStatus.CANCELLED)
    await access.check_not_begun(session, [row])
    actor, reason = access.who_cancels(ctx, course, command.reason)
    before = {"status": row.status}
    await life.cancel_session(session, course, row, actor=actor, reason=reason, at=ctx.now)
    after = {"status": row.status}
    access.record_admin(ctx, "course.session.cancel", row.id, before=before, after=after, reason=reason)
    view = views.session_view(course, row, await models.places_taken(session, course.id))
    ctx.afterwards = lambda: errand.at_once(
        errand.close_rooms(ctx.parts.rooms, [view.room_id], actor=actor, reason=reason)
    )
    return view


async def _make_room(ctx: Context, course: Course, row: CourseSession) -> None:
    tutor = await user_of(ctx.session, course.tutor_id)
    spec = RoomSpec(
        id=row.room_id,
        kind=RoomKind.COURSE_SESSION,
        title=row.title,
        # A seat for every student who can buy one, and the tutor's.
        cap=course.max_students + 1,
        owner=Identity(str(tutor.id)),
        owner_name=tutor.name,
        evidence="socket" if ctx.parts.settings.livekit.url is None else "livekit",
        starts_at=row.starts_at,
        ends_at=row.ends_at,
    )
    await journal.create(ctx.session, spec, now=ctx.now, wall=ctx.parts.clock.wall())
    await ctx.session.flush()


async def _move(
    ctx: Context,
    session: AsyncSession,
    row: CourseSession,
    starts_at: datetime,
    minutes: int,
    *,
    is_sold: bool,
) -> None:
    """Give a session another time; the database's constraint sees the tutor's other lessons."""
    starts_at, ends_at = rules.session_window(starts_at, minutes, now=ctx.now)
    if is_sold:
        rules.check_notice(row.starts_at, starts_at, now=ctx.now)
    row.starts_at, row.ends_at = starts_at, ends_at
    await _flush(session)


async def _flush(session: AsyncSession) -> None:
    """Write a session's row, and say in words what the database refuses."""
    try:
        await session.flush()
    except IntegrityError as error:
        match violated(error):
            case "ex_tutor_time_tutor_id":
                raise ConflictError(
                    "The tutor teaches at that time already.", code="session_overlaps"
                ) from error
            case "uq_course_session_course_id_number":
                raise ConflictError(
                    "The course has a session with this number.", code="number_taken"
                ) from error
            case _:
                raise


def _shown(row: CourseSession) -> dict[str, Any]:
    """Return what the audit log keeps of a session."""
    return {"title": row.title, "starts_at": row.starts_at.isoformat(), "minutes": row.duration_minutes}


COMMANDS = (
    Command(
        "course.session.add",
        AddSession,
        add_session,
        method="POST",
        path="/courses/{course_id}/sessions",
        status=201,
    ),
    Command(
        "course.session.list",
        ListSessions,
        list_sessions,
        guard="public",
        method="GET",
        path="/courses/{course_id}/sessions",
    ),
    Command(
        "course.session.update",
        UpdateSession,
        update_session,
        method="PATCH",
        path="/courses/{course_id}/sessions/{session_id}",
    ),
    Command(
        "course.session.cancel",
        CancelSession,
        cancel_session,
        method="POST",
        path="/courses/{course_id}/sessions/{session_id}/cancel",
    ),
)

"""The commands of courses and their sessions (B-14); those of buying are in `purchases.py`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from msgspec import UNSET
from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from billing import holds, outbox, policy
from rooms import journal
from rooms.messages import CancelLesson, Identity, Reschedule, RoomKind, RoomSpec, UpdateRoom
from server import audit, pages
from server.context import Command, Context
from server.errors import (
    BadRequestError,
    ConflictError,
    FieldError,
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
)
from server.features.accounts.models import names_of, user_of
from server.features.courses import life, models, purchases, rules, views
from server.features.courses.messages import (
    AddSession,
    BuyerPage,
    CancelCourse,
    CancelSession,
    CourseChanged,
    CoursePage,
    CourseView,
    CreateCourse,
    GetCourse,
    GetRevenue,
    ListCourses,
    ListSessions,
    ListStudents,
    PublishCourse,
    Revenue,
    SessionList,
    SessionView,
    UnpublishCourse,
    UpdateCourse,
    UpdateSession,
)
from server.features.courses.models import Course, CourseSession, Place, Purchase
from server.features.courses.rules import CourseStatus, PriceType, Publication, SessionStatus

# Terms of sale, which stay as they are once something is sold, and the words around them, which may change.
TERMS = ("total_sessions", "price_type", "price_per_session", "price_full_course", "max_students")
WORDS = ("title", "description", "language", "level", "category", "duration_hours")


async def create_course(ctx: Context, command: CreateCourse) -> CourseView:
    """Make a draft of the caller's."""
    terms = {name: _stored(getattr(command, name)) for name in TERMS}
    await _check_prices(ctx, terms)
    course = Course(
        id=uuid4(),
        tutor_id=ctx.user.user_id,
        currency="USD",
        status=CourseStatus.UPCOMING,
        publication=Publication.DRAFT,
        created_at=ctx.now,
        updated_at=ctx.now,
        **terms,
        **{name: getattr(command, name) for name in WORDS},
    )
    ctx.session.add(course)
    await ctx.session.flush()
    return await _view(ctx, ctx.session, course)


async def update_course(ctx: Context, command: UpdateCourse) -> CourseView:
    """Change a course; buyers are told, and the terms of sale change only while nothing is sold.

    Raises:
        ConflictError: Something is sold, the course is over, or its rooms exist for the old number of people.
    """
    course = await _own_course(ctx, ctx.session, command.course_id)
    _check_changeable(course)
    changes = {
        name: _stored(value)
        for name in (*WORDS, *TERMS)
        if (value := getattr(command, name)) is not UNSET and _stored(value) != getattr(course, name)
    }
    if not changes:
        return await _view(ctx, ctx.session, course)
    is_sold = await models.is_sold(ctx.session, course.id)
    if is_sold and changes.keys() & set(TERMS):
        raise ConflictError("The terms of a course that is sold do not change.", code="course_sold")
    numbers = [row.number for row in await models.sessions_of(ctx.session, course.id)]
    if numbers and "max_students" in changes:
        raise ConflictError(
            "The rooms of the sessions are made for the old number of students.", code="sessions_exist"
        )
    if changes.get("total_sessions", course.total_sessions) < max(numbers, default=0):
        raise ConflictError("A session with a higher number exists.", code="sessions_exist")
    await _check_prices(ctx, {name: changes.get(name, getattr(course, name)) for name in TERMS})
    for name, value in changes.items():
        setattr(course, name, value)
    course.updated_at = ctx.now
    if is_sold:
        outbox.record(ctx.session, CourseChanged(course_id=course.id, title=course.title), at=ctx.now)
    await ctx.session.flush()
    return await _view(ctx, ctx.session, course)


async def list_courses(ctx: Context, command: ListCourses) -> CoursePage:
    """Return published courses that can still be bought, or the caller's own, newest first."""
    query = select(Course)
    if command.mine:
        query = query.where(Course.tutor_id == ctx.user.user_id)
    else:
        query = query.where(Course.publication == Publication.PUBLISHED)
        if command.status is None:
            query = query.where(Course.status.in_((CourseStatus.UPCOMING, CourseStatus.ONGOING)))
    for name in ("status", "category", "level", "language", "price_type"):
        if (wanted := getattr(command, name)) is not None:
            query = query.where(getattr(Course, name) == wanted)
    for word in (command.q or "").split():
        query = query.where(
            or_(
                Course.title.icontains(word, autoescape=True),
                Course.description.icontains(word, autoescape=True),
            )
        )
    query = pages.page(query, Course.created_at, Course.id, limit=command.limit, cursor=command.cursor)
    rows = (await ctx.session.scalars(query)).all()
    shown = rows[: command.limit]
    more = pages.cursor_after(shown[-1].created_at, shown[-1].id) if len(rows) > len(shown) else None
    public_url = ctx.parts.settings.public_url
    return CoursePage(await views.course_summaries(ctx.session, shown, public_url=public_url), more)


async def get_course(ctx: Context, command: GetCourse) -> CourseView:
    """Return a course with its sessions; a draft only to its tutor, its buyers and administrators."""
    course = await _visible_course(ctx, command.course_id)
    return await _view(ctx, ctx.session, course)


async def publish_course(ctx: Context, command: PublishCourse) -> CourseView:
    """Put a course with at least one session on sale.

    Raises:
        ConflictError: It has no session to come, or is over.
    """
    course = await _own_course(ctx, ctx.session, command.course_id)
    _check_changeable(course)
    sessions = await models.sessions_of(ctx.session, course.id)
    if not any(row.status in (SessionStatus.SCHEDULED, SessionStatus.IN_PROGRESS) for row in sessions):
        raise ConflictError("A course needs at least one session to be published.", code="no_sessions")
    course.publication = Publication.PUBLISHED
    course.updated_at = ctx.now
    await ctx.session.flush()
    return await _view(ctx, ctx.session, course)


async def unpublish_course(ctx: Context, command: UnpublishCourse) -> CourseView:
    """Take a course off the list and off sale."""
    course = await _own_course(ctx, ctx.session, command.course_id)
    course.publication = Publication.DRAFT
    course.updated_at = ctx.now
    await ctx.session.flush()
    return await _view(ctx, ctx.session, course)


async def cancel_course(ctx: Context, command: CancelCourse) -> CourseView:
    """Cancel an upcoming course: sessions, purchases and money, all at once (F4-63).

    Raises:
        ConflictError: It is not upcoming, or its first session is beginning at this moment.
    """
    async with ctx.parts.sessions.begin() as session:
        # The lock keeps buyers out, and the reactions to what the rooms say, until all of it is written.
        course = await _own_course(ctx, session, command.course_id)
        rules.check_cancellable(CourseStatus(course.status))
        actor, reason = _who_cancels(ctx, course, command.reason)
        sessions = await models.sessions_of(session, course.id)
        open_ones = [row for row in sessions if row.status == SessionStatus.SCHEDULED]
        # In order of time: the one that may have begun is asked first, and its refusal leaves all as it was.
        for row in sorted(open_ones, key=lambda row: row.starts_at):
            await ctx.parts.rooms.ask(row.room_id, CancelLesson(reason))
        await life.cancel_course(session, course, actor=actor, reason=reason, at=ctx.now)
        _record_admin(ctx, session, "course.cancel", course, course.id, reason)
        await session.flush()
        return await _view(ctx, session, course)


async def list_students(ctx: Context, command: ListStudents) -> BuyerPage:
    """Return who bought a course or a session of it, newest first; for its tutor (F4-53, F4-54)."""
    await _own_course(ctx, ctx.session, command.course_id, lock=False)
    query = select(Purchase).where(Purchase.course_id == command.course_id)
    if command.status is not None:
        query = query.where(Purchase.status == command.status)
    query = pages.page(query, Purchase.created_at, Purchase.id, limit=command.limit, cursor=command.cursor)
    rows = (await ctx.session.scalars(query)).all()
    shown = rows[: command.limit]
    names = await names_of(ctx.session, {row.student_id for row in shown})
    more = pages.cursor_after(shown[-1].created_at, shown[-1].id) if len(rows) > len(shown) else None
    return BuyerPage(tuple(views.buyer_view(row, names[row.student_id]) for row in shown), more)


async def get_revenue(ctx: Context, command: GetRevenue) -> Revenue:
    """Return where a course's money is; for its tutor (B-16)."""
    course = await _own_course(ctx, ctx.session, command.course_id, lock=False)
    return await views.revenue_of(ctx.session, course)


async def add_session(ctx: Context, command: AddSession) -> SessionView:
    """Announce a session: its room is made, and the slices that were sold for its number are given to it.

    Raises:
        ConflictError: The number is taken, the tutor teaches at that time, or the course is over.
    """
    session = ctx.session
    course = await _own_course(ctx, session, command.course_id)
    _check_changeable(course)
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
    return views.session_view(course, row, await models.places_taken(session, course.id))


async def list_sessions(ctx: Context, command: ListSessions) -> SessionList:
    """Return a course's sessions by number."""
    course = await _visible_course(ctx, command.course_id)
    taken = await models.places_taken(ctx.session, course.id)
    rows = await models.sessions_of(ctx.session, course.id)
    return SessionList(tuple(views.session_view(course, row, taken) for row in rows))


async def update_session(ctx: Context, command: UpdateSession) -> SessionView:
    """Rename or move a session that has not begun; who has a place in it is told.

    Raises:
        ConflictError: It has begun, the notice is too short, or the tutor teaches at that time.
    """
    async with ctx.parts.sessions.begin() as session:
        course = await _own_course(ctx, session, command.course_id)
        row = await models.session_of(session, course.id, command.session_id)
        if row.status != SessionStatus.SCHEDULED:
            raise ConflictError(f"The session is {row.status}.", code="session_not_open")
        title = row.title if command.title is UNSET else command.title
        starts_at = row.starts_at if command.starts_at is UNSET else command.starts_at
        minutes = row.duration_minutes if command.duration_minutes is UNSET else command.duration_minutes
        is_sold = await models.is_sold(session, course.id, number=row.number)
        moved = (starts_at, minutes) != (row.starts_at, row.duration_minutes)
        is_renamed = title != row.title
        if moved:
            await _move(ctx, session, row, starts_at, minutes, is_sold=is_sold)
        if is_renamed:
            row.title = title
            tutor = Identity(str(course.tutor_id))
            await ctx.parts.rooms.ask(row.room_id, UpdateRoom(tutor, title))
        if is_sold and (moved or is_renamed):
            changed = CourseChanged(
                course_id=course.id,
                title=course.title,
                session_id=row.id,
                session_title=title,
                starts_at=starts_at if moved else None,
            )
            outbox.record(session, changed, at=ctx.now)
        await session.flush()
        return views.session_view(course, row, await models.places_taken(session, course.id))


async def cancel_session(ctx: Context, command: CancelSession) -> SessionView:
    """Cancel a session that has not begun: who has a place in it gets the money back (F4-66).

    Raises:
        ConflictError: It has begun, or is over.
    """
    async with ctx.parts.sessions.begin() as session:
        # The lock keeps buyers out, and the reaction to what the room says, until all of it is written.
        course = await _own_course(ctx, session, command.course_id)
        row = await models.session_of(session, course.id, command.session_id)
        rules.move(rules.SESSION_ARROWS, SessionStatus(row.status), SessionStatus.CANCELLED)
        actor, reason = _who_cancels(ctx, course, command.reason)
        await ctx.parts.rooms.ask(row.room_id, CancelLesson(reason))
        await life.cancel_session(session, course, row, actor=actor, reason=reason, at=ctx.now)
        _record_admin(ctx, session, "course.session.cancel", course, row.id, reason)
        return views.session_view(course, row, await models.places_taken(session, course.id))


async def _view(ctx: Context, session: AsyncSession, course: Course) -> CourseView:
    return await views.course_view(session, course, public_url=ctx.parts.settings.public_url, now=ctx.now)


async def _own_course(ctx: Context, session: AsyncSession, course_id: UUID, *, lock: bool = True) -> Course:
    """Return a course that the caller may change: their own, or any for an administrator."""
    course = await models.course_of(session, course_id, lock=lock)
    if not (ctx.user.is_admin or course.tutor_id == ctx.user.user_id):
        raise ForbiddenError("Only the tutor of the course may do this.")
    return course


async def _visible_course(ctx: Context, course_id: UUID) -> Course:
    course = await models.course_of(ctx.session, course_id)
    if course.publication == Publication.PUBLISHED:
        return course
    try:
        user = ctx.user
    except UnauthenticatedError:
        raise NotFoundError("There is no such course.") from None
    bought = select(Purchase.id).where(Purchase.course_id == course.id, Purchase.student_id == user.user_id)
    if user.is_admin or course.tutor_id == user.user_id or await ctx.session.scalar(bought.limit(1)):
        return course
    raise NotFoundError("There is no such course.")


def _check_changeable(course: Course) -> None:
    if course.status not in (CourseStatus.UPCOMING, CourseStatus.ONGOING):
        raise ConflictError(f"The course is {course.status}.", code="course_over")


async def _check_prices(ctx: Context, terms: Mapping[str, Any]) -> None:
    least = (await policy.current(ctx.session, ctx.now)).min_price
    rules.check_prices(
        PriceType(terms["price_type"]),
        per_session=terms["price_per_session"],
        full_course=terms["price_full_course"],
        least=least,
    )


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
    """Give a session another time, in the database first: its constraint sees the tutor's other lessons.

    The room is asked inside the transaction. Should the commit after it fail, the same request again puts it
    right, since neither refuses what is so already.
    """
    starts_at, ends_at = rules.session_window(starts_at, minutes, now=ctx.now)
    if is_sold:
        rules.check_notice(row.starts_at, starts_at, now=ctx.now)
    row.starts_at, row.ends_at = starts_at, ends_at
    await _flush(session)
    await ctx.parts.rooms.ask(row.room_id, Reschedule(starts_at, ends_at))


async def _flush(session: AsyncSession) -> None:
    """Write a session's row, and say in words what the database refuses."""
    try:
        await session.flush()
    except IntegrityError as error:
        match models.violated(error):
            case "ex_course_session_tutor_id":
                raise ConflictError(
                    "The tutor teaches at that time already.", code="session_overlaps"
                ) from error
            case "uq_course_session_course_id":
                raise ConflictError(
                    "The course has a session with this number.", code="number_taken"
                ) from error
            case _:
                raise


def _who_cancels(ctx: Context, course: Course, reason: str | None) -> tuple[str, str]:
    """Return the actor for the ledger and the reason that the students read."""
    if ctx.user.user_id == course.tutor_id:
        return f"user:{ctx.user.user_id}", reason or "cancelled by the tutor"
    if reason is None:
        raise BadRequestError(
            "An administrator says why.", (FieldError("reason", "is needed in at least 10 characters"),)
        )
    return f"admin:{ctx.user.user_id}", reason


def _record_admin(
    ctx: Context, session: AsyncSession, action: str, course: Course, target_id: UUID, reason: str
) -> None:
    if ctx.user.user_id == course.tutor_id:
        return
    audit.record(
        session,
        action,
        actor_id=ctx.user.user_id,
        target_id=target_id,
        before={},
        after={"status": "cancelled"},
        reason=reason,
        at=ctx.now,
    )


def _stored(value: Any) -> Any:
    """Return what a column holds for a request's value: of a price, its minor units."""
    return getattr(value, "amount", value)


COMMANDS = (
    Command(
        "course.create",
        CreateCourse,
        create_course,
        guard="approved_tutor",
        method="POST",
        path="/courses",
        status=201,
    ),
    Command("course.list", ListCourses, list_courses, guard="public", method="GET", path="/courses"),
    Command("course.get", GetCourse, get_course, guard="public", method="GET", path="/courses/{course_id}"),
    Command("course.update", UpdateCourse, update_course, method="PATCH", path="/courses/{course_id}"),
    Command(
        "course.publish", PublishCourse, publish_course, method="POST", path="/courses/{course_id}/publish"
    ),
    Command(
        "course.unpublish",
        UnpublishCourse,
        unpublish_course,
        method="POST",
        path="/courses/{course_id}/unpublish",
    ),
    Command(
        "course.cancel",
        CancelCourse,
        cancel_course,
        method="POST",
        path="/courses/{course_id}/cancel",
        live=True,
    ),
    Command(
        "course.students", ListStudents, list_students, method="GET", path="/courses/{course_id}/students"
    ),
    Command("course.revenue", GetRevenue, get_revenue, method="GET", path="/courses/{course_id}/revenue"),
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
        live=True,
    ),
    Command(
        "course.session.cancel",
        CancelSession,
        cancel_session,
        method="POST",
        path="/courses/{course_id}/sessions/{session_id}/cancel",
        live=True,
    ),
    *purchases.COMMANDS,
)

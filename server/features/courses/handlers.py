"""The commands of courses (B-14); those of their sessions are in `sessions.py`, of buying in `purchases.py`."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from msgspec import UNSET
from sqlalchemy import or_, select

from billing import outbox, policy
from server import errand, pages
from server.context import Command, Context
from server.errors import (
    ConflictError,
)
from server.features.accounts.models import ReferralCode, names_of
from server.features.accounts.rules import new_course_code
from server.features.courses import access, life, models, purchases, rules, sessions, views
from server.features.courses.messages import (
    BuyerPage,
    CancelCourse,
    CourseChanged,
    CoursePage,
    CourseView,
    CreateCourse,
    GetCourse,
    GetRevenue,
    ListCourses,
    ListStudents,
    PublishCourse,
    Revenue,
    UnpublishCourse,
    UpdateCourse,
)
from server.features.courses.models import Course, Purchase
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
    code = ReferralCode(code=new_course_code(), owner_id=course.tutor_id, course_id=course.id)
    ctx.session.add(code)
    await ctx.session.flush()
    return await _view(ctx, course)


async def update_course(ctx: Context, command: UpdateCourse) -> CourseView:
    """Change a course; buyers are told, and the terms of sale change only while nothing is sold.

    Raises:
        ConflictError: Something is sold, the course is over, or its rooms exist for the old number of people.
    """
    course = await access.own_course(ctx, command.course_id)
    access.check_changeable(course)
    changes = {
        name: _stored(value)
        for name in (*WORDS, *TERMS)
        if (value := getattr(command, name)) is not UNSET and _stored(value) != getattr(course, name)
    }
    if not changes:
        return await _view(ctx, course)
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
    before = {name: getattr(course, name) for name in changes}
    access.record_admin(ctx, "course.update", course.id, before=before, after=changes)
    for name, value in changes.items():
        setattr(course, name, value)
    course.updated_at = ctx.now
    if is_sold:
        outbox.record(ctx.session, CourseChanged(course_id=course.id, title=course.title), at=ctx.now)
    await ctx.session.flush()
    return await _view(ctx, course)


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
    shown, more = await pages.read(ctx.session, query, Course.created_at, Course.id, command)
    public_url = ctx.parts.settings.public_url
    return CoursePage(await views.course_summaries(ctx.session, shown, public_url=public_url), more)


async def get_course(ctx: Context, command: GetCourse) -> CourseView:
    """Return a course with its sessions; a draft only to its tutor, its buyers and administrators."""
    course = await access.visible_course(ctx, command.course_id)
    return await _view(ctx, course)


async def publish_course(ctx: Context, command: PublishCourse) -> CourseView:
    """Put a course with at least one session on sale.

    Raises:
        ConflictError: It has no session to come, or is over.
        ForbiddenError: It is somebody else's, or its tutor is not approved.
    """
    course = await access.selling_course(ctx, command.course_id)
    access.check_changeable(course)
    dated = await models.sessions_of(ctx.session, course.id)
    if not any(row.status in (SessionStatus.SCHEDULED, SessionStatus.IN_PROGRESS) for row in dated):
        raise ConflictError("A course needs at least one session to be published.", code="no_sessions")
    return await _set_publication(ctx, course, Publication.PUBLISHED)


async def unpublish_course(ctx: Context, command: UnpublishCourse) -> CourseView:
    """Take a course off the list and off sale."""
    course = await access.own_course(ctx, command.course_id)
    return await _set_publication(ctx, course, Publication.DRAFT)


async def cancel_course(ctx: Context, command: CancelCourse) -> CourseView:
    """Cancel an upcoming course: sessions, purchases and money, all at once (F4-63). Its rooms follow.

    Raises:
        ConflictError: It is not upcoming, or its first session is on already.
    """
    session = ctx.session
    course = await access.own_course(ctx, command.course_id)
    rules.check_cancellable(CourseStatus(course.status))
    actor, reason = access.who_cancels(ctx, course, command.reason)
    dated = await models.sessions_of(session, course.id)
    await access.check_not_begun(session, [row for row in dated if row.status == SessionStatus.SCHEDULED])
    before = {"status": course.status}
    cancelled = await life.cancel_course(session, course, actor=actor, reason=reason, at=ctx.now)
    after = {"status": course.status}
    access.record_admin(ctx, "course.cancel", course.id, before=before, after=after, reason=reason)
    await session.flush()
    view = await _view(ctx, course)
    ctx.afterwards = lambda: errand.at_once(
        errand.close_rooms(ctx.parts.rooms, cancelled.room_ids, actor=actor, reason=reason)
    )
    return view


async def list_students(ctx: Context, command: ListStudents) -> BuyerPage:
    """Return who bought a course or a session of it, newest first; for its tutor (F4-53, F4-54)."""
    await access.own_course(ctx, command.course_id, lock=False)
    query = select(Purchase).where(Purchase.course_id == command.course_id)
    if command.status is not None:
        query = query.where(Purchase.status == command.status)
    shown, more = await pages.read(ctx.session, query, Purchase.created_at, Purchase.id, command)
    names = await names_of(ctx.session, {row.student_id for row in shown})
    return BuyerPage(tuple(views.buyer_view(row, names[row.student_id]) for row in shown), more)


async def get_revenue(ctx: Context, command: GetRevenue) -> Revenue:
    """Return where a course's money is; for its tutor (B-16)."""
    course = await access.own_course(ctx, command.course_id, lock=False)
    return await views.revenue_of(ctx.session, course)


async def _set_publication(ctx: Context, course: Course, publication: Publication) -> CourseView:
    access.record_admin(
        ctx,
        "course.publish" if publication is Publication.PUBLISHED else "course.unpublish",
        course.id,
        before={"publication": course.publication},
        after={"publication": publication},
    )
    course.publication = publication
    course.updated_at = ctx.now
    await ctx.session.flush()
    return await _view(ctx, course)


async def _view(ctx: Context, course: Course) -> CourseView:
    return await views.course_view(ctx.session, course, public_url=ctx.parts.settings.public_url, now=ctx.now)


async def _check_prices(ctx: Context, terms: Mapping[str, Any]) -> None:
    least = (await policy.current(ctx.session, ctx.now)).min_price
    rules.check_prices(
        PriceType(terms["price_type"]),
        per_session=terms["price_per_session"],
        full_course=terms["price_full_course"],
        least=least,
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
    ),
    Command(
        "course.students", ListStudents, list_students, method="GET", path="/courses/{course_id}/students"
    ),
    Command("course.revenue", GetRevenue, get_revenue, method="GET", path="/courses/{course_id}/revenue"),
    *sessions.COMMANDS,
    *purchases.COMMANDS,
)

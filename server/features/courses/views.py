"""Rows as people see them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, cast
from uuid import UUID

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    SQLColumnExpression,
    Subquery,
    case,
    cast as cast_to,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from billing.models import Hold, HoldStatus, Settlement
from billing.money import BPS_WHOLE, Money
from server import qr
from server.features.accounts.models import User, names_of
from server.features.courses import models, rules
from server.features.courses.messages import (
    Buyer,
    CourseSummary,
    CourseView,
    Level,
    PurchaseHold,
    PurchaseView,
    Revenue,
    RevenueSums,
    SessionRevenue,
    SessionView,
    SourceRevenue,
    Split,
    Tutor,
)
from server.features.courses.models import Course, CourseSession, Place, Purchase
from server.features.courses.rules import (
    Attribution,
    CourseStatus,
    PriceType,
    Publication,
    PurchaseKind,
    PurchaseStatus,
    SessionStatus,
)


async def course_view(session: AsyncSession, course: Course, *, public_url: str, now: datetime) -> CourseView:
    """Return a course as its page shows it."""
    (summary,) = await course_summaries(session, [course], public_url=public_url)
    sessions = await models.sessions_of(session, course.id)
    taken = await models.places_taken(session, course.id)
    gone = {
        row.number for row in sessions if not rules.is_open(SessionStatus(row.status), row.starts_at, now=now)
    }
    ahead = [number for number in range(1, course.total_sessions + 1) if number not in gone]
    fullest = max((taken.get(number, 0) for number in ahead), default=course.max_students)
    return CourseView(
        **msgspec.structs.asdict(summary),
        seats_left=course.max_students - fullest,
        sessions=tuple(session_view(course, row, taken) for row in sessions),
        qr_svg=qr.svg(summary.share_link),
    )


async def course_summaries(
    session: AsyncSession, courses: Sequence[Course], *, public_url: str
) -> tuple[CourseSummary, ...]:
    """Return courses as a list shows them."""
    ids = [course.id for course in courses]
    tutors = {
        row.id: row
        for row in await session.scalars(
            select(User).where(User.id.in_({course.tutor_id for course in courses}))
        )
    }
    students = await models.students_in(session, ids)
    scheduled = await _scheduled(session, ids)
    codes = await models.codes_of(session, ids)
    return tuple(
        CourseSummary(
            id=course.id,
            title=course.title,
            description=course.description,
            language=course.language,
            level=cast("Level", course.level),
            category=course.category,
            duration_hours=course.duration_hours,
            total_sessions=course.total_sessions,
            scheduled_sessions=scheduled.get(course.id, 0),
            price_type=PriceType(course.price_type),
            price_per_session=_money(course.price_per_session, course.currency),
            price_full_course=_money(course.price_full_course, course.currency),
            max_students=course.max_students,
            current_students=students.get(course.id, 0),
            status=CourseStatus(course.status),
            publication=Publication(course.publication),
            tutor=Tutor(course.tutor_id, tutors[course.tutor_id].name),
            share_link=share_link(public_url, course.id, codes.get(course.id)),
            created_at=course.created_at,
        )
        for course in courses
    )


def session_view(course: Course, row: CourseSession, taken: dict[int, int]) -> SessionView:
    """Return a session; `taken` says how many places of each number are gone."""
    return SessionView(
        id=row.id,
        course_id=row.course_id,
        number=row.number,
        title=row.title,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        duration_minutes=row.duration_minutes,
        status=SessionStatus(row.status),
        room_id=row.room_id,
        seats_left=course.max_students - taken.get(row.number, 0),
        started_at=row.started_at,
        ended_at=row.ended_at,
        reason=row.reason,
    )


def buyer_view(purchase: Purchase, name: str) -> Buyer:
    """Return a purchase as the course's tutor sees it."""
    return Buyer(
        student_id=purchase.student_id,
        name=name,
        purchase_id=purchase.id,
        kind=PurchaseKind(purchase.kind),
        session_id=purchase.session_id,
        status=PurchaseStatus(purchase.status),
        price=Money(purchase.amount, purchase.currency),
        attribution=cast("Attribution", purchase.attribution),
        created_at=purchase.created_at,
    )


async def purchase_views(session: AsyncSession, purchases: Sequence[Purchase]) -> list[PurchaseView]:
    """Return purchases with where the money of each of their sessions is."""
    holds = await _holds(session, [purchase.id for purchase in purchases])
    course_ids = {purchase.course_id for purchase in purchases}
    titles = {
        row.id: row.title
        for row in await session.execute(select(Course.id, Course.title).where(Course.id.in_(course_ids)))
    }
    names = await names_of(session, {purchase.tutor_id for purchase in purchases})
    return [
        PurchaseView(
            id=purchase.id,
            kind=PurchaseKind(purchase.kind),
            status=PurchaseStatus(purchase.status),
            payment=_payment(holds[purchase.id]),
            course_id=purchase.course_id,
            course_title=titles[purchase.course_id],
            session_id=purchase.session_id,
            student_id=purchase.student_id,
            tutor=Tutor(purchase.tutor_id, names[purchase.tutor_id]),
            price=Money(purchase.amount, purchase.currency),
            refunded=Money(sum(hold.refunded.amount for hold in holds[purchase.id]), purchase.currency),
            split=Split(
                purchase.tutor_bps,
                BPS_WHOLE - purchase.tutor_bps,
                cast("Attribution", purchase.attribution),
                purchase.policy_version,
            ),
            holds=tuple(holds[purchase.id]),
            created_at=purchase.created_at,
            ended_at=purchase.ended_at,
            reason=purchase.reason,
        )
        for purchase in purchases
    ]


async def revenue_of(session: AsyncSession, course: Course) -> Revenue:
    """Return where a course's money is, summed over its holds and what settled them (F4-40 to F4-42)."""
    last = _last_settlements()
    is_held = Hold.status == HoldStatus.HELD
    rows = await session.execute(
        select(
            Place.number,
            Purchase.attribution,
            _sum(Hold.amount).label("sold"),
            _sum(last.c.to_tutor).label("earned"),
            _sum(last.c.to_platform).label("platform"),
            _sum(case((is_held, Hold.amount))).label("held"),
            _sum(case((is_held, Hold.amount * Hold.tutor_bps // BPS_WHOLE))).label("expected"),
            _sum(last.c.to_student).label("refunded"),
        )
        .join(Purchase, Purchase.id == Hold.source_id)
        .join(Place, Place.hold_id == Hold.id)
        .outerjoin(last, last.c.hold_id == Hold.id)
        .where(Purchase.course_id == course.id)
        .group_by(Place.number, Purchase.attribution)
    )
    by_number: dict[int, Counter[str]] = defaultdict(Counter)
    by_source: dict[str, Counter[str]] = defaultdict(Counter)
    for number, attribution, *amounts in rows:
        sums = dict(zip(RevenueSums.__struct_fields__, amounts, strict=True))
        by_number[number].update(sums)
        by_source[attribution].update(sums)
    dated = {row.number: row for row in await models.sessions_of(session, course.id)}
    return Revenue(
        **_moneys(sum(by_source.values(), Counter()), course.currency),
        sessions=tuple(
            SessionRevenue(
                number=number,
                session_id=dated[number].id if number in dated else None,
                title=dated[number].title if number in dated else None,
                **_moneys(by_number[number], course.currency),
            )
            for number in sorted(by_number)
        ),
        sources=tuple(
            SourceRevenue(
                attribution=cast("Attribution", source), **_moneys(by_source[source], course.currency)
            )
            for source in sorted(by_source)
        ),
    )


def share_link(public_url: str, course_id: UUID, referral_code: str | None) -> str:
    """Return the course's address; whoever registers through it is the tutor's student (F4-92)."""
    referral = "" if referral_code is None else f"?ref={referral_code}"
    return f"{public_url}/courses/{course_id}{referral}"


async def _scheduled(session: AsyncSession, course_ids: list[UUID]) -> dict[UUID, int]:
    rows = await session.execute(
        select(CourseSession.course_id, func.count().label("sessions"))
        .where(CourseSession.course_id.in_(course_ids), CourseSession.status != SessionStatus.CANCELLED)
        .group_by(CourseSession.course_id)
    )
    return {row.course_id: row.sessions for row in rows}


async def _holds(session: AsyncSession, purchase_ids: list[UUID]) -> dict[UUID, list[PurchaseHold]]:
    last = _last_settlements()
    rows = await session.execute(
        select(
            Hold,
            Place.number,
            CourseSession.id.label("session_id"),
            func.coalesce(last.c.to_student, 0).label("refunded"),
        )
        .join(Place, Place.hold_id == Hold.id)
        .outerjoin(CourseSession, CourseSession.room_id == Hold.lesson_id)
        .outerjoin(last, last.c.hold_id == Hold.id)
        .where(Hold.source_id.in_(purchase_ids))
        .order_by(Place.number)
    )
    found: dict[UUID, list[PurchaseHold]] = defaultdict(list)
    for hold, number, session_id, refunded in rows:
        found[hold.source_id].append(
            PurchaseHold(
                id=hold.id,
                number=number,
                session_id=session_id,
                lesson_id=hold.lesson_id,
                amount=Money(hold.amount, hold.currency),
                status=HoldStatus(hold.status),
                refunded=Money(refunded, hold.currency),
            )
        )
    return found


def _payment(holds: list[PurchaseHold]) -> Literal["held", "partly_settled", "settled"]:
    held = sum(hold.status is HoldStatus.HELD for hold in holds)
    if held == len(holds):
        return "held"
    return "partly_settled" if held else "settled"


def _last_settlements() -> Subquery:
    """Return the newest settlement of each hold: an adjustment has the whole new division."""
    return (
        select(Settlement.hold_id, Settlement.to_tutor, Settlement.to_platform, Settlement.to_student)
        .ext(distinct_on(Settlement.hold_id))
        .order_by(Settlement.hold_id, Settlement.number.desc())
        .subquery()
    )


def _sum(amount: SQLColumnExpression[int] | ColumnElement[int | None]) -> ColumnElement[int]:
    return cast_to(func.coalesce(func.sum(amount), 0), BigInteger)


def _moneys(sums: Counter[str], currency: str) -> dict[str, Money]:
    return {name: Money(sums[name], currency) for name in RevenueSums.__struct_fields__}


def _money(amount: int | None, currency: str) -> Money | None:
    return None if amount is None else Money(amount, currency)

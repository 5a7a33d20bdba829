"""What is allowed with courses, sessions and purchases, and what it costs. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, TypeVar
from uuid import UUID

from server.errors import BadRequestError, ConflictError, FieldError

# A lesson shorter than a quarter of an hour or longer than a working day is a slip of the keyboard (B-14).
SESSION_MINUTES_LEAST = 15
SESSION_MINUTES_MOST = 480

# A session further away than this is a slip of the keyboard too; calendars end nowhere, dates of computers do.
AHEAD_MOST = timedelta(days=3 * 366)

# A sold session may move only while its buyers have a day to hear of it (B-14).
NOTICE = timedelta(hours=24)


class CourseStatus(StrEnum):
    """Life of a course (F4-61 to F4-63)."""

    UPCOMING = "upcoming"
    ONGOING = "ongoing"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Publication(StrEnum):
    """Whether strangers see a course; apart from its life (C-20)."""

    DRAFT = "draft"
    PUBLISHED = "published"


class SessionStatus(StrEnum):
    """Life of a course session (F4-64 to F4-66)."""

    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class PurchaseKind(StrEnum):
    """What was bought; both ways live side by side in one course (F4-38, F4-39)."""

    FULL_COURSE = "full_course"
    SESSION = "session"


class PurchaseStatus(StrEnum):
    """Life of a purchase: a full course completes with its course, a single session by attendance (C-08)."""

    ACTIVE = "active"
    ATTENDED = "attended"
    MISSED = "missed"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class PriceType(StrEnum):
    """The leading way of buying; its price is mandatory (C-05)."""

    PER_SESSION = "per_session"
    FULL_COURSE = "full_course"


COURSE_ARROWS: Mapping[CourseStatus, frozenset[CourseStatus]] = {
    CourseStatus.UPCOMING: frozenset({CourseStatus.ONGOING, CourseStatus.CANCELLED}),
    CourseStatus.ONGOING: frozenset({CourseStatus.COMPLETED}),
    CourseStatus.COMPLETED: frozenset(),
    CourseStatus.CANCELLED: frozenset(),
}
SESSION_ARROWS: Mapping[SessionStatus, frozenset[SessionStatus]] = {
    SessionStatus.SCHEDULED: frozenset({SessionStatus.IN_PROGRESS, SessionStatus.CANCELLED}),
    SessionStatus.IN_PROGRESS: frozenset({SessionStatus.COMPLETED}),
    SessionStatus.COMPLETED: frozenset(),
    SessionStatus.CANCELLED: frozenset(),
}
PURCHASE_ARROWS: Mapping[PurchaseStatus, frozenset[PurchaseStatus]] = {
    PurchaseStatus.ACTIVE: frozenset(set(PurchaseStatus) - {PurchaseStatus.ACTIVE}),
    PurchaseStatus.ATTENDED: frozenset(),
    PurchaseStatus.MISSED: frozenset(),
    PurchaseStatus.COMPLETED: frozenset(),
    PurchaseStatus.CANCELLED: frozenset(),
}

Status = TypeVar("Status", CourseStatus, SessionStatus, PurchaseStatus)
Attribution = Literal["platform", "referral"]


def move(arrows: Mapping[Status, frozenset[Status]], old: Status, new: Status) -> Status:
    """Return the new status.

    Raises:
        ConflictError: The seed draws no arrow from the old status to the new one.
    """
    if new not in arrows[old]:
        raise ConflictError(
            f"What is {old} cannot become {new}.", code="status_forbids", status=old, wanted=new
        )
    return new


def check_cancellable(status: CourseStatus) -> None:
    """Refuse to cancel a course as a whole once a session of it has begun (B-14).

    Raises:
        ConflictError: The course is not upcoming.
    """
    if status is CourseStatus.ONGOING:
        raise ConflictError(
            "An ongoing course is not cancelled as a whole: cancel its remaining sessions one by one.",
            code="course_ongoing",
        )
    move(COURSE_ARROWS, status, CourseStatus.CANCELLED)


def check_prices(
    price_type: PriceType, *, per_session: int | None, full_course: int | None, least: int
) -> None:
    """Check both prices: the leading one is given, and none is below the least one.

    Raises:
        BadRequestError: One of them is missing or too low.
    """
    prices = {"price_per_session": per_session, "price_full_course": full_course}
    leading = "price_full_course" if price_type is PriceType.FULL_COURSE else "price_per_session"
    wrong = [
        FieldError(name, f"must be at least {least} minor units")
        for name, price in prices.items()
        if price is not None and price < least
    ]
    if prices[leading] is None:
        wrong.append(FieldError(leading, f"a course sold {price_type} needs this price"))
    if wrong:
        raise BadRequestError("The prices are not valid.", tuple(wrong))


def session_window(starts_at: datetime, duration_minutes: int, *, now: datetime) -> tuple[datetime, datetime]:
    """Return a session's planned time.

    Raises:
        BadRequestError: It is too short, too long, or does not lie in the next three years.
    """
    if not SESSION_MINUTES_LEAST <= duration_minutes <= SESSION_MINUTES_MOST:
        raise BadRequestError(
            "The duration is not valid.",
            (
                FieldError(
                    "duration_minutes", f"must be from {SESSION_MINUTES_LEAST} to {SESSION_MINUTES_MOST}"
                ),
            ),
        )
    if not now < starts_at <= now + AHEAD_MOST:
        raise BadRequestError(
            "A session starts in the future, within three years.",
            (FieldError("starts_at", "must be in the future, within three years"),),
        )
    return starts_at, starts_at + timedelta(minutes=duration_minutes)


def check_notice(old_start: datetime, new_start: datetime, *, now: datetime) -> None:
    """Refuse to move a sold session at short notice.

    Raises:
        ConflictError: The old or the new start is less than a day away.
    """
    if min(old_start, new_start) < now + NOTICE:
        raise ConflictError(
            "A sold session moves only with 24 hours' notice, before its old and its new start.",
            code="notice_too_short",
        )


def is_open(status: SessionStatus, starts_at: datetime, *, now: datetime) -> bool:
    """Return whether a place in the session may still be bought and given back.

    That is until its planned start, also when its tutor came early and it is on already (B-15).
    """
    return status in (SessionStatus.SCHEDULED, SessionStatus.IN_PROGRESS) and now < starts_at


def full_price(price: int, *, remaining: int, total: int, least: int) -> int:
    """Return what the full course costs with `remaining` of its `total` sessions ahead (G-1)."""
    assert 1 <= remaining <= total, "there is something left to sell"
    return max(price * remaining // total, least)


def attribution(referred_by: UUID | None, tutor_id: UUID) -> Attribution:
    """Say to whom the sale is owed: to the tutor who brought the student, or to the platform (C-01)."""
    return "referral" if referred_by == tutor_id else "platform"


def is_complete(sessions: list[SessionStatus]) -> bool:
    """Return whether a course has nothing left to hold: every dated session is over, and not all were cancelled."""
    over = {SessionStatus.COMPLETED, SessionStatus.CANCELLED}
    return SessionStatus.COMPLETED in sessions and set(sessions) <= over

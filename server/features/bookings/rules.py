"""Rules of bookings: arrows, times, prices, who may still cancel. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from billing.models import Package, PaymentReason
from billing.policy import Policy
from server.errors import BadRequestError, ConflictError, FieldError

# B-07. A lesson of a package has the package's length.
Minutes = Literal[25, 30, 45, 50, 60, 90, 120]
# B-08, ED-49: a request that nobody answers does not bind the student's money for longer.
ANSWER_WITHIN = timedelta(hours=24)
# Nobody plans lessons for later than in a year, and prices of then are not those of now.
AHEAD_MOST = timedelta(days=366)
# So many requests may wait for a card that their student has not given.
UNPAID_MOST = 2
# G-7: so many in this time, and administrators have a look.
STRIKES_MANY = 3
STRIKES_WITHIN = timedelta(days=90)


class BookingStatus(StrEnum):
    """Life of a booking (ED-43 to ED-49)."""

    REQUESTED = "requested"
    SCHEDULED = "scheduled"
    ACTIVE = "active"
    ENDED = "ended"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Outcome(StrEnum):
    """What became of a booking that is over."""

    COMPLETED = "completed"
    NOT_HELD = "not_held"
    NO_SHOW_STUDENT = "no_show_student"
    NO_SHOW_TUTOR = "no_show_tutor"


class Party(StrEnum):
    """Who cancelled."""

    STUDENT = "student"
    TUTOR = "tutor"
    ADMIN = "admin"
    SYSTEM = "system"


# An administrator alone takes the last one (ED-48).
ARROWS: Mapping[BookingStatus, frozenset[BookingStatus]] = {
    BookingStatus.REQUESTED: frozenset(
        {BookingStatus.SCHEDULED, BookingStatus.CANCELLED, BookingStatus.EXPIRED}
    ),
    BookingStatus.SCHEDULED: frozenset({BookingStatus.ACTIVE, BookingStatus.CANCELLED}),
    BookingStatus.ACTIVE: frozenset({BookingStatus.ENDED, BookingStatus.CANCELLED}),
    BookingStatus.ENDED: frozenset(),
    BookingStatus.CANCELLED: frozenset(),
    BookingStatus.EXPIRED: frozenset(),
}
# They take the time of both parties.
LIVE = (BookingStatus.REQUESTED, BookingStatus.SCHEDULED, BookingStatus.ACTIVE)

# As billing says how a lesson ended.
_OUTCOMES: Mapping[PaymentReason, Outcome] = {
    PaymentReason.COMPLETED: Outcome.COMPLETED,
    PaymentReason.NO_SHOW_STUDENT: Outcome.NO_SHOW_STUDENT,
    PaymentReason.NO_SHOW_TUTOR: Outcome.NO_SHOW_TUTOR,
    PaymentReason.NOT_HELD: Outcome.NOT_HELD,
    PaymentReason.CANCELLED: Outcome.NOT_HELD,
}


def move(old: BookingStatus, new: BookingStatus) -> BookingStatus:
    """Return the new status.

    Raises:
        ConflictError: The seed draws no arrow from the old status to the new one.
    """
    if new not in ARROWS[old]:
        raise ConflictError(
            f"A booking that is {old} cannot become {new}.", code="status_forbids", status=old, wanted=new
        )
    return new


def window(starts_at: datetime, minutes: int, *, now: datetime) -> tuple[datetime, datetime]:
    """Return a lesson's planned time.

    Raises:
        BadRequestError: It does not begin within the next year.
    """
    if not now < starts_at <= now + AHEAD_MOST:
        raise BadRequestError(
            "A lesson starts in the future, within a year.",
            (FieldError("starts_at", "must be in the future, within a year"),),
        )
    return starts_at, starts_at + timedelta(minutes=minutes)


def price(hourly_rate: int, minutes: int) -> int:
    """Return what a lesson costs in minor units, rounded to the nearest, halves up."""
    return (2 * hourly_rate * minutes + 60) // 120


def answer_by(requested_at: datetime, starts_at: datetime) -> datetime:
    """Return when a request ends that nobody has answered: after a day, or as its lesson would begin."""
    return min(requested_at + ANSWER_WITHIN, starts_at)


def free_until(starts_at: datetime, terms: Policy) -> datetime:
    """Return until when the student cancels without a charge, with the kindness of the terms (B-08a)."""
    return (
        starts_at
        - timedelta(hours=terms.free_cancel_hours)
        + timedelta(minutes=terms.free_cancel_kindness_minutes)
    )


def ends_before(package: Package, starts_at: datetime, *, now: datetime) -> bool:
    """Return whether a package that is not over yet ends before a lesson of it would begin.

    Such a lesson would put off its end, and whose the rest is then, for whoever asks for one far ahead and cancels it.
    """
    if package.expires_at is None or now >= package.expires_at:
        return False
    end = package.expires_at
    if package.is_rolling and package.validity_days is not None:
        end = max(end, now + timedelta(days=package.validity_days))
    return starts_at >= end


def outcome(reason: PaymentReason) -> Outcome:
    """Return what became of a lesson that billing judges so."""
    return _OUTCOMES[reason]

"""What is known about a lesson that is over, and what follows from it for one hold. Pure."""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from billing.models import Cause, OwnerId, SourceKind
from billing.money import split


class Interval(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """A half-open span of presence, and what it is known from (`{"from", "to", "sources"}` on the wire)."""

    since: datetime
    until: datetime
    sources: tuple[str, ...] = ()


class Presence(msgspec.Struct, frozen=True):
    """How long one student was there."""

    attended_s: int
    """Whole seconds of the intervals' sum, cut."""
    intervals: tuple[Interval, ...] = ()
    """Clipped to the lesson's window, sorted, without overlap."""
    confidence: str = "none"


class LessonFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What decides a lesson's holds. Seconds are whole (DESIGN §4 Attendance)."""

    lesson_id: UUID
    tutor_id: OwnerId
    planned_s: int
    total_s: int
    """What a student is measured against: planned, or less when the tutor ended early."""
    tutor_attended_s: int
    tutor_absent: bool
    """By the terms in force at its end; a hold asks `is_absent` by its own."""
    cancelled: bool = False
    actor: str | None = None
    """Who cancelled the lesson, as a journal names its actor."""
    reason: str | None = None
    """Why it was cancelled."""
    ended_at: datetime
    evidence: dict[str, Any] = {}
    """The rest of what is known, for people: anything that JSON can say."""
    students: dict[OwnerId, Presence] = {}

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the facts in canonical JSON."""
        plain = msgspec.to_builtins(self, str_keys=True)
        return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).digest()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Where the money of one hold goes, and why."""

    cause: Cause
    to_tutor: int
    to_platform: int
    to_student: int
    attended_s: int | None = None
    """With the next two: what was measured, unless people decided without it."""
    total_s: int | None = None
    threshold_percent: int | None = None
    tutor_attended_s: int | None = None
    """Only where it decides: of a booking, or a lesson of a package."""


def is_by_outcome(kind: SourceKind, cause: Cause | None = None) -> bool:
    """Say whether a hold is judged by who came, or else by attendance; `cause` is that of its first settlement.

    A lesson of a package was judged by attendance once: what is settled keeps the rule that its cause names.
    """
    match kind:
        case SourceKind.BOOKING:
            return True
        case SourceKind.PACKAGE_SLICE:
            return cause not in (Cause.ATTENDANCE, Cause.TUTOR_ABSENT)
        case SourceKind.COURSE_SESSION | SourceKind.COURSE_SLICE:
            return False


def decide(
    *,
    amount: int,
    tutor_bps: int,
    attended_s: int,
    total_s: int,
    threshold_percent: int,
    tutor_absent: bool,
    cancelled: bool,
) -> Decision:
    """Apply the rule: a lesson that was not given is refunded; else the student's own attendance decides."""
    if cancelled or tutor_absent:
        cause, released = (Cause.CANCELLED if cancelled else Cause.TUTOR_ABSENT), False
    else:
        cause, released = Cause.ATTENDANCE, attended_s * 100 >= threshold_percent * total_s
    to_tutor, to_platform = split(amount, tutor_bps) if released else (0, 0)
    return Decision(
        cause=cause,
        to_tutor=to_tutor,
        to_platform=to_platform,
        to_student=amount - to_tutor - to_platform,
        attended_s=attended_s,
        total_s=total_s,
        threshold_percent=threshold_percent,
    )


def decide_booking(
    *,
    amount: int,
    tutor_bps: int,
    attended_s: int,
    total_s: int,
    threshold_percent: int,
    tutor_attended_s: int,
    cancelled: bool,
) -> Decision:
    """Apply the rule of bookings (B-08): the tutor is paid for having come, whether or not the student did.

    A lesson of a package is a booking that is paid already (B-09), so its slice goes the same way. Came is who was there
    for a whole second of the lesson's time. How much of it they took counts only in courses, so the threshold is kept for
    people to see and decides nothing.
    """
    released = tutor_attended_s > 0 and not cancelled
    to_tutor, to_platform = split(amount, tutor_bps) if released else (0, 0)
    return Decision(
        cause=Cause.CANCELLED if cancelled else Cause.OUTCOME,
        to_tutor=to_tutor,
        to_platform=to_platform,
        to_student=amount - to_tutor - to_platform,
        attended_s=attended_s,
        total_s=total_s,
        threshold_percent=threshold_percent,
        tutor_attended_s=tutor_attended_s,
    )


def paid(amount: int, tutor_bps: int, cause: Cause) -> Decision:
    """Pay all out by the split without a lesson: it was cancelled too late (B-08a), or never taken."""
    to_tutor, to_platform = split(amount, tutor_bps)
    return Decision(cause=cause, to_tutor=to_tutor, to_platform=to_platform, to_student=0)


def is_absent(tutor_attended_s: int, *, planned_s: int, total_s: int, threshold_percent: int) -> bool:
    """Say whether the tutor gave too little of the planned time; of a lesson that never began nobody gave anything."""
    return total_s == 0 or tutor_attended_s * 100 < threshold_percent * planned_s


def seconds(intervals: Iterable[Interval]) -> int:
    """Return the whole seconds of the sum of intervals that do not overlap."""
    return sum((span.until - span.since for span in intervals), timedelta()) // timedelta(seconds=1)


def percent(attended_s: int, total_s: int) -> int:
    """Return the attendance as people see it: whole, cut, at most 100."""
    return min(100, attended_s * 100 // total_s) if total_s else 0


def required_s(total_s: int, threshold_percent: int) -> int:
    """Return the least number of whole seconds that reaches the threshold."""
    return -(-threshold_percent * total_s // 100)

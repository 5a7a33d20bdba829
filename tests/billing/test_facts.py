from datetime import timedelta
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, strategies as st

from billing.facts import (
    Decision,
    Interval,
    decide,
    decide_booking,
    is_by_outcome,
    paid,
    percent,
    required_s,
    seconds,
)
from billing.models import Cause, SourceKind
from tests.billing.world import NOW, facts


def judged(
    attended_s: int, total_s: int = 5_400, *, tutor_absent: bool = False, cancelled: bool = False
) -> Decision:
    return decide(
        amount=10_000,
        tutor_bps=3_000,
        attended_s=attended_s,
        total_s=total_s,
        threshold_percent=20,
        tutor_absent=tutor_absent,
        cancelled=cancelled,
    )


@pytest.mark.parametrize(
    ("attended_s", "to_student"), [(0, 10_000), (1_079, 10_000), (1_080, 0), (4_800, 0), (10_800, 0)]
)
def test_twenty_percent_inclusive_releases(attended_s: int, to_student: int) -> None:
    assert judged(attended_s).to_student == to_student


def test_a_lesson_that_was_not_given_is_refunded_whoever_attended() -> None:
    assert judged(5_400, tutor_absent=True).cause is Cause.TUTOR_ABSENT
    assert judged(5_400, tutor_absent=True).to_student == 10_000
    assert judged(5_400, cancelled=True).cause is Cause.CANCELLED
    assert judged(5_400, total_s=0, cancelled=True).to_student == 10_000


def test_a_decision_keeps_what_was_measured() -> None:
    measured = {"attended_s": 1_080, "total_s": 5_400, "threshold_percent": 20}
    booking = decide_booking(amount=10_000, tutor_bps=3_000, tutor_attended_s=1, cancelled=False, **measured)

    paid = {"to_tutor": 3_000, "to_platform": 7_000, "to_student": 0}
    assert judged(1_080) == Decision(cause=Cause.ATTENDANCE, **paid, **measured)
    assert booking == Decision(cause=Cause.OUTCOME, tutor_attended_s=1, **paid, **measured)


def test_who_came_decides_lessons_of_one_student_but_for_what_attendance_settled() -> None:
    """Attendance decided lessons of packages once, and a booking never."""
    ways = [(kind, cause) for kind in SourceKind for cause in (None, *Cause) if is_by_outcome(kind, cause)]

    by_attendance = (Cause.ATTENDANCE, Cause.TUTOR_ABSENT)
    assert ways == [
        *((SourceKind.BOOKING, cause) for cause in (None, *Cause)),
        *((SourceKind.PACKAGE_SLICE, cause) for cause in (None, *Cause) if cause not in by_attendance),
    ]


def test_what_is_paid_without_a_lesson_is_divided_whole() -> None:
    assert paid(3_333, 3_000, Cause.EXPIRED) == Decision(
        cause=Cause.EXPIRED, to_tutor=999, to_platform=2_334, to_student=0
    )


@given(
    st.integers(0, 10**15),
    st.integers(0, 10_000),
    st.integers(0, 30_000),
    st.integers(1, 28_800),
    st.integers(0, 100),
    st.booleans(),
    st.booleans(),
)
def test_every_decision_adds_up_and_required_seconds_are_the_border(
    amount: int, bps: int, attended_s: int, total_s: int, threshold: int, absent: bool, cancelled: bool
) -> None:
    decision = decide(
        amount=amount,
        tutor_bps=bps,
        attended_s=attended_s,
        total_s=total_s,
        threshold_percent=threshold,
        tutor_absent=absent,
        cancelled=cancelled,
    )

    assert decision.to_tutor + decision.to_platform + decision.to_student == amount
    if not absent and not cancelled and amount:
        assert (decision.to_student == 0) == (attended_s >= required_s(total_s, threshold))


@pytest.mark.parametrize(
    ("attended_s", "total_s", "shown"),
    [(4_800, 5_400, 88), (900, 5_400, 16), (10_800, 5_400, 100), (1, 0, 0)],
)
def test_percent_is_cut_and_at_most_a_hundred(attended_s: int, total_s: int, shown: int) -> None:
    assert percent(attended_s, total_s) == shown


def test_a_part_of_a_second_is_required_whole() -> None:
    assert [required_s(total_s, 20) for total_s in (100, 101, 105, 106)] == [20, 21, 21, 22]


def test_seconds_are_cut_once_at_the_end() -> None:
    half = timedelta(milliseconds=600)
    spans = [Interval(NOW, NOW + half), Interval(NOW + 2 * half, NOW + 3 * half)]

    assert seconds(spans) == 1


def test_intervals_are_from_and_to_on_the_wire() -> None:
    encoded = msgspec.json.encode(Interval(NOW, NOW + timedelta(seconds=1), ("poll",)))

    assert encoded == b'{"from":"2026-03-01T12:00:00Z","to":"2026-03-01T12:00:01Z","sources":["poll"]}'


def test_the_same_facts_have_the_same_digest() -> None:
    lesson_id, tutor_id = uuid4(), facts(uuid4()).tutor_id

    assert facts(lesson_id, tutor_id=tutor_id).digest == facts(lesson_id, tutor_id=tutor_id).digest
    assert facts(lesson_id, tutor_id=tutor_id).digest != facts(lesson_id, tutor_id=tutor_id, total_s=1).digest

"""The pure rules of courses, sessions and purchases."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, strategies as st

from billing import money
from server.errors import BadRequestError, ConflictError
from server.features.courses import rules
from server.features.courses.rules import (
    CourseStatus,
    PriceType,
    PurchaseStatus,
    SessionStatus,
)

NOW = datetime(2030, 1, 7, 12, tzinfo=UTC)

# The arrows of the seed (F4-61 to F4-66, F4-69, F4-70), and the two ends of a single session (C-08).
DRAWN = {
    (CourseStatus.UPCOMING, CourseStatus.ONGOING),
    (CourseStatus.ONGOING, CourseStatus.COMPLETED),
    (CourseStatus.UPCOMING, CourseStatus.CANCELLED),
    (SessionStatus.SCHEDULED, SessionStatus.IN_PROGRESS),
    (SessionStatus.IN_PROGRESS, SessionStatus.COMPLETED),
    (SessionStatus.SCHEDULED, SessionStatus.CANCELLED),
    (PurchaseStatus.ACTIVE, PurchaseStatus.COMPLETED),
    (PurchaseStatus.ACTIVE, PurchaseStatus.CANCELLED),
    (PurchaseStatus.ACTIVE, PurchaseStatus.ATTENDED),
    (PurchaseStatus.ACTIVE, PurchaseStatus.MISSED),
}
LIVES: list[tuple[type[Any], Mapping[Any, Any]]] = [
    (CourseStatus, rules.COURSE_ARROWS),
    (SessionStatus, rules.SESSION_ARROWS),
    (PurchaseStatus, rules.PURCHASE_ARROWS),
]
ALL = [(arrows, old, new) for words, arrows in LIVES for old in words for new in words]


@pytest.mark.parametrize(("arrows", "old", "new"), ALL, ids=lambda value: str(value)[:12])
def test_exactly_the_drawn_arrows_can_be_walked(arrows: Any, old: Any, new: Any) -> None:
    if (old, new) in DRAWN:
        assert rules.move(arrows, old, new) is new
    else:
        with pytest.raises(ConflictError):
            rules.move(arrows, old, new)


def test_an_ongoing_course_is_refused_with_the_reason() -> None:
    with pytest.raises(ConflictError, match="one by one") as refused:
        rules.check_cancellable(CourseStatus.ONGOING)

    assert refused.value.code == "course_ongoing"


@pytest.mark.parametrize("status", [CourseStatus.COMPLETED, CourseStatus.CANCELLED])
def test_a_course_that_is_over_is_not_cancelled(status: CourseStatus) -> None:
    with pytest.raises(ConflictError):
        rules.check_cancellable(status)


@pytest.mark.parametrize(
    ("kind", "per_session", "full_course"),
    [
        (PriceType.PER_SESSION, 100, None),
        (PriceType.PER_SESSION, 100, 100),
        (PriceType.FULL_COURSE, None, 100),
        (PriceType.FULL_COURSE, 100, 100),
    ],
)
def test_the_leading_price_is_enough(
    kind: PriceType, per_session: int | None, full_course: int | None
) -> None:
    rules.check_prices(kind, per_session=per_session, full_course=full_course, least=100)


@pytest.mark.parametrize(
    ("kind", "per_session", "full_course", "wrong"),
    [
        (PriceType.PER_SESSION, None, 100, {"price_per_session"}),
        (PriceType.FULL_COURSE, 100, None, {"price_full_course"}),
        (PriceType.PER_SESSION, 99, None, {"price_per_session"}),
        (PriceType.PER_SESSION, 100, 99, {"price_full_course"}),
        (PriceType.FULL_COURSE, 99, None, {"price_per_session", "price_full_course"}),
    ],
)
def test_a_missing_or_low_price_is_named(
    kind: PriceType, per_session: int | None, full_course: int | None, wrong: set[str]
) -> None:
    with pytest.raises(BadRequestError) as refused:
        rules.check_prices(kind, per_session=per_session, full_course=full_course, least=100)

    assert {error.field for error in refused.value.errors} == wrong


@pytest.mark.parametrize("minutes", [15, 90, 480])
def test_a_session_ends_its_duration_after_its_start(minutes: int) -> None:
    starts_at = NOW + timedelta(seconds=1)

    window = rules.session_window(starts_at, minutes, now=NOW)

    assert window == (starts_at, starts_at + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("starts_at", "minutes"),
    [(NOW, 60), (NOW - timedelta(days=1), 60), (NOW + timedelta(1), 14), (NOW + timedelta(1), 481)],
)
def test_a_session_in_the_past_or_of_odd_length_is_refused(starts_at: datetime, minutes: int) -> None:
    with pytest.raises(BadRequestError):
        rules.session_window(starts_at, minutes, now=NOW)


@pytest.mark.parametrize(
    ("old", "new", "is_allowed"),
    [(24, 24, True), (48, 30, True), (23, 48, False), (48, 23, False)],
)
def test_a_sold_session_moves_with_a_days_notice(old: int, new: int, is_allowed: bool) -> None:
    moved = NOW + timedelta(hours=old), NOW + timedelta(hours=new)
    if is_allowed:
        rules.check_notice(*moved, now=NOW)
    else:
        with pytest.raises(ConflictError):
            rules.check_notice(*moved, now=NOW)


@pytest.mark.parametrize("status", SessionStatus)
@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_a_session_is_open_until_its_start(status: SessionStatus, seconds: int) -> None:
    is_open = rules.is_open(status, NOW + timedelta(seconds=seconds), now=NOW)

    over = status in (SessionStatus.COMPLETED, SessionStatus.CANCELLED)
    assert is_open == (not over and seconds > 0)


def test_the_sale_is_owed_to_the_tutor_who_brought_the_student() -> None:
    tutor_id = uuid4()

    assert rules.attribution(tutor_id, tutor_id) == "referral"
    assert rules.attribution(uuid4(), tutor_id) == "platform"
    assert rules.attribution(None, tutor_id) == "platform"


def test_a_late_entry_costs_its_part_cut_to_cents_and_at_least_a_dollar() -> None:
    assert rules.full_price(1000, remaining=3, total=3, least=100) == 1000
    assert rules.full_price(1000, remaining=2, total=3, least=100) == 666
    assert rules.full_price(100, remaining=1, total=3, least=100) == 100


@given(
    price=st.integers(100, 10_000_000),
    total=st.integers(1, 100),
    ahead=st.integers(1, 100),
    settled=st.lists(st.booleans(), min_size=100, max_size=100),
    bps=st.integers(0, 10_000),
)
def test_the_slices_of_a_course_lose_no_cent(
    price: int, total: int, ahead: int, settled: list[bool], bps: int
) -> None:
    remaining = min(ahead, total)
    paid = rules.full_price(price, remaining=remaining, total=total, least=100)

    slices = money.slices(paid, remaining)

    assert 100 <= paid <= price
    assert sum(slices) == paid
    assert min(slices) >= 1
    assert slices == sorted(slices)
    assert max(slices) - min(slices) <= 1
    released = [money.split(part, bps) for part, attended in zip(slices, settled, strict=False) if attended]
    refunded = [part for part, attended in zip(slices, settled, strict=False) if not attended]
    assert sum(sum(parts) for parts in released) + sum(refunded) == paid


@pytest.mark.parametrize(
    ("sessions", "is_complete"),
    [
        ([], False),
        ([SessionStatus.COMPLETED], True),
        ([SessionStatus.CANCELLED], False),
        ([SessionStatus.COMPLETED, SessionStatus.CANCELLED], True),
        ([SessionStatus.COMPLETED, SessionStatus.SCHEDULED], False),
        ([SessionStatus.COMPLETED, SessionStatus.IN_PROGRESS], False),
    ],
)
def test_a_course_is_complete_when_every_session_is_over(
    sessions: list[SessionStatus], is_complete: bool
) -> None:
    assert rules.is_complete(sessions) is is_complete

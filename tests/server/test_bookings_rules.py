"""The pure rules of bookings, and what the database refuses whoever asks."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given, strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from billing.models import PaymentReason, violated
from billing.payment_states import outcome as billed
from billing.policy import Policy
from server.errors import BadRequestError, ConflictError
from server.features.bookings import rules
from server.features.bookings.rules import BookingStatus, Outcome
from tests.billing.test_policy_enact import terms
from tests.server.desk import DAY, HOUR, MINUTE, NOON, Desk
from tests.server.stage import Stage

OWN_DATABASE = True

DRAWN = {
    (BookingStatus.REQUESTED, BookingStatus.SCHEDULED),
    (BookingStatus.REQUESTED, BookingStatus.CANCELLED),
    (BookingStatus.REQUESTED, BookingStatus.EXPIRED),
    (BookingStatus.SCHEDULED, BookingStatus.ACTIVE),
    (BookingStatus.SCHEDULED, BookingStatus.CANCELLED),
    (BookingStatus.ACTIVE, BookingStatus.ENDED),
    (BookingStatus.ACTIVE, BookingStatus.CANCELLED),
}
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
ALL = [(old, new) for old in BookingStatus for new in BookingStatus]
MOMENTS = st.timedeltas(timedelta(), timedelta(days=36_500)).map(lambda since: LONG_AGO + since)
MINUTES = st.sampled_from(get_args(rules.Minutes))
RATES = st.integers(500, 50_000)


@pytest.mark.parametrize(("old", "new"), ALL, ids=str)
def test_exactly_the_drawn_arrows_can_be_walked(old: BookingStatus, new: BookingStatus) -> None:
    if (old, new) in DRAWN:
        assert rules.move(old, new) is new
    else:
        with pytest.raises(ConflictError) as refused:
            rules.move(old, new)
        assert (refused.value.code, refused.value.facts) == ("status_forbids", {"status": old, "wanted": new})


@pytest.mark.parametrize(
    ("rate", "minutes", "price"),
    [
        (6_000, 60, 6_000),
        (500, 25, 208),
        (501, 30, 251),
        (503, 30, 252),
        (505, 50, 421),
        (50_000, 120, 100_000),
        (999, 25, 416),
    ],
)
def test_prices_are_rounded_to_the_nearest_cent_and_halves_up(rate: int, minutes: int, price: int) -> None:
    assert rules.price(rate, minutes) == price


@given(RATES, MINUTES)
def test_a_price_is_within_half_a_cent_of_the_rate_and_never_nothing(rate: int, minutes: int) -> None:
    exact = Fraction(rate * minutes, 60)

    assert -Fraction(1, 2) < rules.price(rate, minutes) - exact <= Fraction(1, 2)
    assert rules.price(rate, minutes) > 0


@given(MOMENTS, st.timedeltas(timedelta(days=-2), timedelta(days=800)), st.integers(1, 600))
def test_a_window_is_in_the_next_year_and_as_long_as_wanted(
    now: datetime, ahead: timedelta, minutes: int
) -> None:
    starts_at = now + ahead

    if timedelta() < ahead <= rules.AHEAD_MOST:
        assert rules.window(starts_at, minutes, now=now) == (starts_at, starts_at + minutes * MINUTE)
    else:
        with pytest.raises(BadRequestError) as refused:
            rules.window(starts_at, minutes, now=now)
        assert refused.value.errors[0].field == "starts_at"


@given(MOMENTS, st.timedeltas(timedelta(microseconds=1), timedelta(days=366)))
def test_a_request_can_be_answered_for_some_time_and_never_after_its_start(
    asked_at: datetime, ahead: timedelta
) -> None:
    until = rules.answer_by(asked_at, asked_at + ahead)

    assert asked_at < until <= asked_at + ahead
    assert until == asked_at + min(ahead, DAY)


@given(MOMENTS, st.integers(0, 240), st.integers(0, 60))
def test_the_kindness_of_the_terms_is_added_to_their_hours(
    starts_at: datetime, hours: int, kind: int
) -> None:
    # The hours are real ones, whatever the clocks of the two do in between.
    asked: Policy = terms(free_cancel_hours=hours, free_cancel_kindness_minutes=kind)

    assert starts_at - rules.free_until(starts_at, asked) == hours * HOUR - kind * MINUTE


@pytest.mark.parametrize("student_came", [True, False])
@pytest.mark.parametrize("tutor_came", [True, False])
@pytest.mark.parametrize("cancelled", [True, False])
def test_a_booking_ends_as_its_money_does(*, student_came: bool, tutor_came: bool, cancelled: bool) -> None:
    _, reason = billed(student_came=student_came, tutor_came=tutor_came, cancelled=cancelled)

    came = {
        (True, True): Outcome.COMPLETED,
        (False, True): Outcome.NO_SHOW_STUDENT,
        (True, False): Outcome.NO_SHOW_TUTOR,
        (False, False): Outcome.NOT_HELD,
    }
    expected = Outcome.NOT_HELD if cancelled else came[student_came, tutor_came]
    assert rules.outcome(PaymentReason(reason)) is expected


# What the database refuses ----------------------------------------------------------------------------------------------

# What the statements find: a request, an agreed lesson and one of a package, all of one student and one tutor.
ASKED, AGREED, PACKED = "status = 'requested'", "status = 'scheduled' and price > 0", "price = 0"
OVER = "outcome = 'not_held', ended_at = now()"
REFUSED = (
    ("ck_booking_status_known", f"update booking set status = 'lost' where {ASKED}"),
    (
        "ck_booking_outcome_known",
        f"update booking set status = 'ended', outcome = 'fun', ended_at = now() where {AGREED}",
    ),
    (
        "ck_booking_cancelled_by_known",
        f"update booking set status = 'cancelled', cancelled_by = 'me', {OVER}",
    ),
    ("ck_booking_over_has_outcome", f"update booking set status = 'expired' where {ASKED}"),
    ("ck_booking_over_has_outcome", "update booking set outcome = 'not_held', ended_at = now()"),
    (
        "ck_booking_held_if_ended",
        "update booking set status = 'cancelled', cancelled_by = 'tutor', outcome = 'completed', ended_at = now()",
    ),
    ("ck_booking_agreed_if_held", f"update booking set status = 'scheduled' where {ASKED}"),
    ("ck_booking_agreed_if_held", f"update booking set accepted_at = null where {AGREED}"),
    ("ck_booking_agreed_if_held", f"update booking set accepted_at = now() where {ASKED}"),
    ("ck_booking_cancelled_by_somebody", f"update booking set status = 'cancelled', {OVER}"),
    (
        "ck_booking_cancelled_by_somebody",
        "update booking set cancelled_by = 'tutor' where status = 'requested'",
    ),
    ("ck_booking_paid_one_way", "update booking set hourly_rate = null where price > 0"),
    ("ck_booking_paid_one_way", "update booking set hourly_rate = 6000 where price = 0"),
    ("ck_booking_price_fits_way", "update booking set price = 0 where price > 0"),
    ("ck_booking_price_fits_way", "update booking set price = -1 where price = 0"),
    ("ck_booking_two_people", "update booking set student_id = tutor_id"),
    ("ck_booking_duration_range", "update booking set ends_at = starts_at + interval '59 seconds'"),
    (
        "ck_booking_duration_range",
        "update booking set ends_at = starts_at + interval '601 minutes' where price = 0",
    ),
    ("ck_booking_answer_before_start", "update booking set answer_by = starts_at + interval '1 second'"),
    ("ck_booking_answer_before_start", "update booking set answer_by = requested_at"),
    ("ck_booking_topic_length", "update booking set topic = repeat('x', 256)"),
    ("ck_booking_notes_length", "update booking set notes = repeat('x', 2001)"),
    ("ck_booking_version_positive", "update booking set version = 0"),
    ("fk_booking_student_id", "update booking set student_id = gen_random_uuid()"),
    ("fk_booking_tutor_id", "update booking set tutor_id = gen_random_uuid()"),
    ("fk_booking_package_id", "update booking set package_id = gen_random_uuid() where price = 0"),
    (
        "ex_booking_student_id",
        "update booking set starts_at = starts_at - interval '1 day' - interval '1 hour', ends_at = ends_at - interval '1 day', answer_by = requested_at + interval '1 second' where price = 0",
    ),
    ("pk_booking", "insert into booking select * from booking limit 1"),
    ("ck_tutor_strike_cause_known", "update tutor_strike set cause = 'rude'"),
    ("fk_tutor_strike_booking_id", "update tutor_strike set booking_id = gen_random_uuid()"),
    ("fk_tutor_strike_tutor_id", "update tutor_strike set tutor_id = gen_random_uuid()"),
    ("pk_tutor_strike", "insert into tutor_strike select * from tutor_strike"),
    ("fk_tutor_time_tutor_id", "update tutor_time set tutor_id = gen_random_uuid()"),
    (
        "pk_tutor_time",
        "insert into tutor_time select source_id, tutor_id, '2030-06-01', '2030-06-02' from tutor_time limit 1",
    ),
    (
        "ex_tutor_time_tutor_id",
        "insert into tutor_time select gen_random_uuid(), tutor_id, starts_at, ends_at from tutor_time limit 1",
    ),
)
# Triggers refuse these without the name of a constraint.
FROZEN = (
    "id = gen_random_uuid()",
    "student_id = (select student_id from booking limit 1 offset 1)",
    "tutor_id = (select id from users where role = 'admin')",
    "package_id = null",
    "hourly_rate = hourly_rate + 1",
    "price = price + 1",
    "currency = 'EUR'",
    "policy_version = policy_version + 1",
    "starts_at = starts_at + interval '1 minute'",
    "ends_at = ends_at + interval '1 minute'",
    "requested_at = requested_at - interval '1 minute'",
)
ARROWS = (
    f"status = 'active' where {ASKED}",
    f"status = 'ended', {OVER} where {AGREED}",
    f"status = 'requested', accepted_at = null where {AGREED}",
    f"status = 'expired', accepted_at = null, {OVER} where {AGREED}",
)


async def test_the_database_refuses_what_must_not_be(stage: Stage) -> None:
    desk = await Desk.open(stage)
    package = await desk.package()
    await desk.cancel(await desk.agreed(NOON + HOUR), desk.tutor)
    await desk.ask(NOON + 3 * DAY)
    await desk.agreed(NOON + 4 * DAY)
    await desk.agreed(NOON + 5 * DAY, package_id=package["id"])

    async def refusal(statement: str, *, guards: bool) -> str | None:
        """Return the name of the constraint that refuses a statement, which nobody keeps."""
        async with stage.parts.sessions() as session:
            if not guards:
                for table in ("booking", "tutor_strike"):
                    await session.execute(text(f"alter table {table} disable trigger user"))
            with pytest.raises(IntegrityError) as refused:
                await session.execute(text(statement))
            return violated(refused.value)

    live = "status in ('requested', 'scheduled')"
    for name, statement in REFUSED:
        found = await refusal(statement, guards=False)
        assert found == name, statement
    for change in FROZEN:
        assert await refusal(f"update booking set {change} where {live}", guards=True) is None, change
    for change in ARROWS:
        assert await refusal(f"update booking set {change}", guards=True) is None, change
    async with stage.parts.sessions() as session:
        known = await session.scalars(
            text(
                "select conname from pg_constraint where contype in ('c', 'f', 'x', 'p')"
                " and conrelid in ('booking'::regclass, 'tutor_strike'::regclass, 'tutor_time'::regclass)"
            )
        )
        assert {name for name, _ in REFUSED} == set(known)

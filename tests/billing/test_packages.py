"""Packages: counts that always fit, money that is always somewhere, and ends that come once."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from billing import holds, packages, settlement, wallet
from billing.errors import (
    AlreadyHeldError,
    InsufficientFundsError,
    LessonOverError,
    OptionNotFoundError,
    PackageExhaustedError,
    PackageNotFoundError,
    PackageOverError,
    PackageRefundError,
)
from billing.explanation import explain
from billing.hold_views import view
from billing.models import Cause
from billing.packages import EXPIRY_GRACE
from tests.billing.seller import Seller
from tests.billing.world import NOW, PLANNED_S, Sessions, balance, facts, fund, refusals, usd, violations

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)


@pytest.fixture
def database_url(module_database: str) -> str:
    return module_database


@pytest.fixture
def seller(sessions: Sessions) -> Seller:
    return Seller(sessions)


async def test_a_purchase_is_a_hold_for_each_lesson_and_loses_no_cent(seller: Seller) -> None:
    await fund(seller.sessions, seller.student, 5)

    package_id = await seller.sell(lessons=3, price=1_000)

    held = await seller.slices(package_id)
    assert [hold.amount for hold in held] == [333, 333, 334]
    assert {(hold.lesson_id, hold.status, hold.tutor_bps, hold.attribution) for hold in held} == {
        (None, "held", 8_000, "tier")
    }
    assert await seller.counts(package_id) == ("active", 3, 0, 3)
    assert await balance(seller.sessions, seller.student) == 5
    assert await seller.told(package_id) == ["package.bought"]
    assert await violations(seller.sessions) == []


async def test_who_has_too_little_buys_nothing(seller: Seller) -> None:
    option_id = await seller.offer(price=1_000)
    await fund(seller.sessions, seller.student, 999)

    with pytest.raises(InsufficientFundsError) as error:
        await seller.buy(option_id)

    assert error.value.shortfall == usd(1)
    async with seller.sessions() as session:
        bought = text("select count(*) from package where student_id = :student")
        assert await session.scalar(bought, {"student": seller.student}) == 0


async def test_what_is_hidden_or_unknown_is_not_sold(seller: Seller) -> None:
    option_id = await seller.offer()
    async with seller.sessions.begin() as session:
        await session.execute(
            text("update package_option set hidden_at = now() where id = :id"), {"id": option_id}
        )

    for wanted in (option_id, uuid4()):
        with pytest.raises(OptionNotFoundError):
            await seller.buy(wanted)


async def test_the_last_lesson_exhausts_and_one_given_back_makes_it_active_again(seller: Seller) -> None:
    package_id, lesson = await seller.sell(lessons=2), uuid4()
    first = await seller.use(package_id)
    await seller.use(package_id, lesson)
    exhausted = await seller.counts(package_id)
    with pytest.raises(PackageExhaustedError):
        await seller.use(package_id)

    given_back = await seller.give_back(package_id, lesson)

    assert exhausted == ("exhausted", 2, 2, 0)
    assert given_back
    assert await seller.counts(package_id) == ("active", 2, 1, 1)
    assert [hold.lesson_id is None for hold in await seller.slices(package_id)] == [False, True]
    assert (await seller.slices(package_id))[0].id == first
    assert await violations(seller.sessions) == []


async def test_what_was_not_taken_cannot_be_given_back(seller: Seller) -> None:
    package_id, lesson = await seller.sell(), uuid4()
    await seller.use(package_id, lesson)
    once = await seller.give_back(package_id, lesson)

    twice = await seller.give_back(package_id, lesson)
    never = await seller.give_back(package_id, uuid4())

    assert (once, twice, never) == (True, False, False)
    assert await seller.counts(package_id) == ("active", 5, 0, 5)


async def test_one_lesson_is_paid_for_once(seller: Seller) -> None:
    package_id, lesson = await seller.sell(), uuid4()
    await seller.use(package_id, lesson)

    with pytest.raises(AlreadyHeldError):
        await seller.use(package_id, lesson)

    assert await seller.counts(package_id) == ("active", 5, 1, 4)


async def test_a_lesson_that_was_given_pays_one_slice_by_the_tier(seller: Seller) -> None:
    package_id, lesson = await seller.sell(lessons=2, price=20_000), uuid4()
    await seller.use(package_id, lesson)

    await seller.teach(lesson)

    async with seller.sessions() as session:
        has = await wallet.balances(session, seller.tutor)
    assert (has.earnings_pending, has.earnings_available) == (usd(8_000), usd(0))
    assert await seller.counts(package_id) == ("active", 2, 1, 1)
    assert await violations(seller.sessions) == []


async def test_a_lesson_that_is_over_does_not_go_back(seller: Seller) -> None:
    package_id, lesson = await seller.sell(), uuid4()
    hold_id = await seller.use(package_id, lesson)
    async with seller.sessions.begin() as session:
        await settlement.due(session, facts(lesson, {seller.student: PLANNED_S}), now=NOW)

    with pytest.raises(LessonOverError):
        await seller.give_back(package_id, lesson)

    async with seller.sessions.begin() as session:
        await settlement.settle(session, lesson, now=NOW)
    assert not await seller.give_back(package_id, lesson)
    async with seller.sessions() as session:
        assert (await view(session, hold_id)).lesson_id == lesson


@pytest.mark.parametrize("why", [{"tutor_attended_s": 0}, {"cancelled": True}], ids=["absent", "cancelled"])
async def test_a_lesson_that_was_not_given_goes_back_to_its_package(
    seller: Seller, why: dict[str, Any]
) -> None:
    """The student has their lesson again, not its money (B-08); the package that was exhausted ends as it would have."""
    package_id, lesson = await seller.sell(lessons=2, price=1_000, validity_days=30), uuid4()
    first = await seller.use(package_id, lesson)
    await seller.use(package_id)
    await seller.passes(23 * DAY - TICK)

    await seller.teach(lesson, **why)
    await seller.teach(lesson, **why)

    assert await seller.counts(package_id) == ("active", 2, 1, 1)
    assert await balance(seller.sessions, seller.student) == 0
    assert (await seller.told(package_id)).count("package.lesson_returned") == 1
    again = uuid4()
    assert await seller.use(package_id, again) == first
    await seller.teach(again)
    assert [hold.status for hold in await seller.slices(package_id)] == ["released", "held"]
    assert await violations(seller.sessions) == []


async def test_late_evidence_that_a_lesson_which_went_back_was_given_is_for_people(seller: Seller) -> None:
    """Its hold pays for another lesson by then, and may be in review for both."""
    package_id, lesson, again = await seller.sell(lessons=1), uuid4(), uuid4()
    hold_id = await seller.use(package_id, lesson)
    await seller.teach(lesson, tutor_attended_s=0)

    given = await seller.hears_late(lesson, attended_s=PLANNED_S)
    await seller.use(package_id, again)
    await seller.teach(again)
    seller.now = NOW + 8 * DAY
    other = await seller.hears_late(again, attended_s=PLANNED_S, tutor_attended_s=0)
    both = await seller.in_review()
    sound = await violations(seller.sessions)
    not_given = await seller.hears_late(lesson, attended_s=1, tutor_attended_s=0)

    assert given == other == settlement.Reconsidered(to_review=(hold_id,))
    assert both == {(hold_id, lesson, 0), (hold_id, again, 10_001)}
    assert not_given == settlement.Reconsidered()
    assert await seller.in_review() == {(hold_id, again, 10_001)}
    assert sound == await violations(seller.sessions) == []


async def test_a_lesson_that_went_back_ends_with_its_package(seller: Seller) -> None:
    """While everything was taken nobody waited for the end; now somebody does."""
    package_id, lesson = await seller.sell(lessons=1, price=1_000, validity_days=30), uuid4()
    await seller.use(package_id, lesson)
    await seller.passes(20 * DAY)
    await seller.teach(lesson, tutor_attended_s=0)

    await seller.passes(11 * DAY)

    assert await seller.counts(package_id) == ("expired", 1, 0, 1)
    assert await violations(seller.sessions) == []


async def test_a_lesson_that_was_not_given_is_refunded_where_its_tutor_would_soon_be_paid_for_it(
    seller: Seller,
) -> None:
    """The terms release what is left at the end: who did not come gets nothing by that (C-07)."""
    package_id, lesson = await seller.sell(lessons=1, price=1_000, validity_days=30), uuid4()
    await seller.use(package_id, lesson)
    await seller.passes(23 * DAY)

    await seller.teach(lesson, tutor_attended_s=0)
    await seller.passes(30 * DAY)

    async with seller.sessions() as session:
        has = await wallet.balances(session, seller.tutor)
    assert (has.earnings_pending, has.earnings_available) == (usd(0), usd(0))
    assert await balance(seller.sessions, seller.student) == 1_000
    assert "package.lesson_returned" not in await seller.told(package_id)
    assert await violations(seller.sessions) == []


async def test_of_a_lesson_that_was_not_given_the_money_goes_back_where_the_package_is_over(
    seller: Seller,
) -> None:
    ended, refunded = (
        await seller.sell(lessons=2, price=1_000, validity_days=30),
        await seller.sell(lessons=2, price=1_000),
    )
    lessons = uuid4(), uuid4()
    for package_id, lesson in zip((ended, refunded), lessons, strict=True):
        await seller.use(package_id, lesson)
    await seller.refund(refunded)
    before = await balance(seller.sessions, seller.student)
    seller.now = NOW + 30 * DAY

    for lesson in lessons:
        await seller.teach(lesson, tutor_attended_s=0)

    assert await balance(seller.sessions, seller.student) - before == 1_000
    assert await violations(seller.sessions) == []


async def test_a_lesson_that_was_not_given_does_not_go_back_before_it_is_settled(seller: Seller) -> None:
    package_id, lesson = await seller.sell(), uuid4()
    await seller.use(package_id, lesson)
    async with seller.sessions.begin() as session:
        await settlement.due(session, facts(lesson, {}, tutor_attended_s=0), now=NOW)

    with pytest.raises(LessonOverError):
        await seller.give_back(package_id, lesson)


async def test_story_11_one_of_five_used_and_the_rest_given_back(seller: Seller) -> None:
    package_id, lesson = await seller.sell(lessons=5, price=10_001), uuid4()
    await seller.use(package_id, lesson)

    refunded = await seller.refund(package_id)

    assert (refunded.status, refunded.used, refunded.remaining) == ("refunded", 1, 4)
    assert await balance(seller.sessions, seller.student) == 8_001
    assert [hold.status for hold in await seller.slices(package_id)] == ["held"] + ["refunded"] * 4
    await seller.teach(lesson)
    assert [hold.status for hold in await seller.slices(package_id)] == ["released"] + ["refunded"] * 4
    for ask in (seller.use, seller.refund):
        with pytest.raises(PackageOverError):
            await ask(package_id)
    assert not await seller.give_back(package_id, lesson)
    assert await violations(seller.sessions) == []


async def test_a_student_may_give_back_for_two_weeks_and_an_administrator_always(seller: Seller) -> None:
    first, second = await seller.sell(), await seller.sell()
    seller.now = NOW + 14 * DAY - TICK
    assert (await seller.refund(first)).status == "refunded"
    seller.now = NOW + 14 * DAY

    with pytest.raises(PackageRefundError) as late:
        await seller.refund(second)
    codes = await refusals(
        seller.sessions,
        lambda session: packages.refund_rest(
            session, second, actor="admin:1", reason="short", now=seller.now
        ),
    )

    assert codes == ["reason_too_short"]
    assert late.value.until == seller.now
    assert (await seller.refund(second, actor="admin:1", reason="The tutor moved away.")).status == "refunded"


async def test_a_package_ends_although_nothing_of_it_is_held_any_more(seller: Seller) -> None:
    bought, paid_out = await seller.sell(), await seller.sell(validity_days=1)
    for package_id in (bought, paid_out):
        async with seller.sessions.begin() as session:
            await holds.refund(
                session,
                [hold.id for hold in await seller.slices(package_id)],
                cause=Cause.ADMIN,
                actor="admin:1",
                reason="past the package",
                key=str(package_id),
                now=seller.now,
            )
    seen = await violations(seller.sessions)

    await seller.refund(bought)
    await seller.passes(DAY + EXPIRY_GRACE)

    assert seen == ["package_counts"]
    assert [(await seller.package(one)).status for one in (bought, paid_out)] == ["refunded", "expired"]
    assert await balance(seller.sessions, seller.student) == 2 * 10_001
    assert await violations(seller.sessions) == []


async def test_nothing_is_given_back_of_what_is_used_up(seller: Seller) -> None:
    package_id = await seller.sell(lessons=1, price=100)
    await seller.use(package_id)

    with pytest.raises(PackageExhaustedError):
        await seller.refund(package_id)


async def test_an_unknown_package_is_not_found(seller: Seller) -> None:
    for ask in (seller.use(uuid4()), seller.give_back(uuid4(), uuid4()), seller.refund(uuid4())):
        with pytest.raises(PackageNotFoundError):
            await ask


async def test_of_many_who_take_the_last_lesson_one_gets_it(seller: Seller) -> None:
    package_id = await seller.sell(lessons=3)
    await seller.use(package_id)
    await seller.use(package_id)

    async def take() -> bool:
        try:
            await seller.use(package_id)
        except PackageExhaustedError:
            return False
        return True

    took = await asyncio.gather(*(take() for _ in range(6)))

    assert sum(took) == 1
    assert await seller.counts(package_id) == ("exhausted", 3, 3, 0)
    assert await violations(seller.sessions) == []


async def test_taking_and_giving_back_the_rest_at_once_lose_nothing(seller: Seller) -> None:
    package_id = await seller.sell(lessons=4, price=400)

    async def attempt(work: Awaitable[object]) -> None:
        with contextlib.suppress(PackageOverError, PackageExhaustedError):
            await work

    await asyncio.gather(
        attempt(seller.use(package_id)),
        attempt(seller.refund(package_id)),
        attempt(seller.use(package_id)),
        attempt(seller.refund(package_id)),
    )

    found = await seller.package(package_id)
    assert found.status == "refunded"
    assert await balance(seller.sessions, seller.student) == 100 * found.remaining
    assert await violations(seller.sessions) == []


async def test_a_lesson_that_is_frozen_while_it_goes_back_is_where_one_of_both_left_it(
    seller: Seller,
) -> None:
    package_id = await seller.sell(lessons=8)
    for _ in range(4):
        lesson = uuid4()
        await seller.use(package_id, lesson)

        async def freeze(lesson: UUID = lesson) -> None:
            async with seller.sessions.begin() as session:
                await settlement.due(session, facts(lesson, {seller.student: PLANNED_S}), now=NOW)
                await settlement.settle(session, lesson, now=NOW)

        back, _ = await asyncio.gather(seller.give_back(package_id, lesson), freeze(), return_exceptions=True)

        assert back in (True, False) or isinstance(back, LessonOverError)
    assert await violations(seller.sessions) == []


async def test_counts_fit_whatever_is_taken_and_given_back(seller: Seller, full: bool) -> None:
    chance = random.Random(7)
    lessons = chance.randint(1, 7)
    package_id = await seller.sell(lessons=lessons, price=chance.randint(lessons, 9_999))
    taken: list[UUID] = []

    for _ in range(400 if full else 15):
        if taken and chance.random() < 0.45:
            assert await seller.give_back(package_id, taken.pop(chance.randrange(len(taken))))
        elif len(taken) == lessons:
            with pytest.raises(PackageExhaustedError):
                await seller.use(package_id)
        else:
            taken.append(uuid4())
            await seller.use(package_id, taken[-1])
        status = "exhausted" if len(taken) == lessons else "active"
        assert await seller.counts(package_id) == (status, lessons, len(taken), lessons - len(taken))

    assert await violations(seller.sessions) == []


# --- Ends -----------------------------------------------------------------------------------------------------------


async def test_a_package_is_good_until_its_end_and_a_checkout_that_was_open_is_honoured(
    seller: Seller,
) -> None:
    package_id = await seller.sell(validity_days=30)
    ends = NOW + 30 * DAY
    seller.now = ends - TICK
    await seller.use(package_id)
    seller.now = ends + EXPIRY_GRACE - TICK
    await seller.use(package_id, opened_at=ends - TICK)

    with pytest.raises(PackageOverError):
        await seller.use(package_id, opened_at=ends)
    seller.now = ends + EXPIRY_GRACE
    with pytest.raises(PackageOverError):
        await seller.use(package_id, opened_at=ends - TICK)

    assert await seller.counts(package_id) == ("active", 5, 2, 3)


async def test_a_credit_does_not_go_back_to_a_package_that_has_ended(seller: Seller) -> None:
    package_id, lesson = await seller.sell(validity_days=30), uuid4()
    await seller.use(package_id, lesson)
    seller.now = NOW + 30 * DAY

    assert not await seller.give_back(package_id, lesson)

    await seller.passes(DAY)
    assert not await seller.give_back(package_id, lesson)
    assert (await seller.slices(package_id))[0].status == "held"


async def test_the_student_is_reminded_once_a_week_before_the_end(seller: Seller) -> None:
    package_id = await seller.sell(validity_days=30)

    await seller.passes(23 * DAY - TICK)
    before = (await seller.told(package_id)).count("package.ending")
    await seller.passes(TICK)
    at = (await seller.told(package_id)).count("package.ending")
    await seller.passes(7 * DAY)

    assert (before, at) == (0, 1)
    assert (await seller.told(package_id)).count("package.ending") == 1
    assert (await seller.package(package_id)).status == "active"


async def test_a_package_shorter_than_its_warning_ends_without_one(seller: Seller) -> None:
    package_id = await seller.sell(validity_days=7)

    await seller.passes(8 * DAY)

    assert await seller.told(package_id) == ["package.bought", "package.expired"]


async def test_a_rolling_package_gets_its_whole_validity_with_each_lesson(seller: Seller) -> None:
    rolling = await seller.sell(validity_days=10, is_rolling=True)
    fixed = await seller.sell(validity_days=10)
    await seller.passes(4 * DAY)

    await seller.use(rolling)
    await seller.use(fixed)

    assert (await seller.package(rolling)).expires_at == NOW + 14 * DAY
    assert (await seller.package(fixed)).expires_at == NOW + 10 * DAY
    await seller.passes(3 * DAY)
    # Each was reminded of its first end on the third day, the rolling one of its second on the seventh.
    reminded = [(await seller.told(one)).count("package.ending") for one in (rolling, fixed)]
    assert reminded == [2, 1]
    await seller.passes(7 * DAY + EXPIRY_GRACE)
    assert [(await seller.package(one)).status for one in (rolling, fixed)] == ["expired", "expired"]


async def test_what_nobody_took_is_paid_out_by_the_split_and_waits_like_a_lesson(seller: Seller) -> None:
    package_id, lesson = await seller.sell(lessons=3, price=1_000, validity_days=30), uuid4()
    await seller.use(package_id, lesson)

    await seller.passes(30 * DAY + EXPIRY_GRACE)

    assert await seller.counts(package_id) == ("expired", 3, 1, 2)
    async with seller.sessions() as session:
        has = await wallet.balances(session, seller.tutor)
        held, expired, _ = [await view(session, hold.id) for hold in await seller.slices(package_id)]
    # 333 and 334 at 80 %.
    assert (has.earnings_pending.amount, has.earnings_available.amount) == (266 + 267, 0)
    assert (held.status, expired.status, expired.cause) == ("held", "released", "expired")
    assert "was not taken before its package expired" in explain(expired)
    assert "không được dùng" in explain(expired, "vi")
    assert await balance(seller.sessions, seller.student) == 0
    assert await violations(seller.sessions) == []
    # The one that was taken goes its own way.
    await seller.teach(lesson, tutor_attended_s=0)
    assert await balance(seller.sessions, seller.student) == 333
    assert await violations(seller.sessions) == []


async def test_an_end_that_comes_twice_comes_once(seller: Seller) -> None:
    package_id = await seller.sell(validity_days=1)
    seller.now = NOW + 2 * DAY

    async def expire() -> None:
        async with seller.sessions.begin() as session:
            await packages.due(session, package_id, now=seller.now)

    await asyncio.gather(*(expire() for _ in range(3)))

    assert (await seller.told(package_id)).count("package.expired") == 1
    assert await violations(seller.sessions) == []


# --- What the database guarantees -----------------------------------------------------------------------------------


GUARDED = (
    ("PACKAGE_GUARD", "update package set used = used - 1 where id = :id"),
    ("PACKAGE_GUARD", "update package set used = 0, status = 'active' where id = :id"),
    ("never changes what it was made with", "update package set price = price + 1 where id = :id"),
    ("never changes what it was made with", "update package set purchased = 9 where id = :id"),
    ("never changes what it was made with", "update package set tutor_bps = 0 where id = :id"),
    (
        "may not go from exhausted to refunded",
        "update package set status = 'refunded', ended_at = now() where id = :id",
    ),
    ("APPEND_ONLY", "delete from package where id = :id"),
    ("APPEND_ONLY", "truncate package cascade"),
    ("LESSON_OVER", "update hold set lesson_id = null where source_id = :id and slice_no = 2"),
    ("HOLD_GUARD", "update hold set lesson_id = gen_random_uuid() where source_id = :id and slice_no = 1"),
    ("HOLD_GUARD", "update hold set lesson_id = null, amount = 1 where source_id = :id and slice_no = 1"),
)


async def test_nobody_writes_past_the_guards_of_packages(seller: Seller) -> None:
    package_id, over = await seller.sell(lessons=2), uuid4()
    await seller.use(package_id)
    await seller.use(package_id, over)
    async with seller.sessions.begin() as session:
        await settlement.due(session, facts(over, {}), now=NOW)

    for refusal, statement in GUARDED:
        with pytest.raises(DBAPIError, match=refusal):
            async with seller.sessions.begin() as session:
                await session.execute(text(statement), {"id": package_id} if ":id" in statement else {})


async def test_what_has_ended_changes_no_more_and_takes_nothing_back(seller: Seller) -> None:
    package_id = await seller.sell(lessons=2)
    await seller.use(package_id)
    await seller.refund(package_id)

    for refusal, statement in (
        ("never changes", "update package set warned_at = now(), expires_at = now() where id = :id"),
        ("PACKAGE_GUARD", "update hold set lesson_id = null where source_id = :id and slice_no = 1"),
    ):
        with pytest.raises(DBAPIError, match=refusal):
            async with seller.sessions.begin() as session:
                await session.execute(text(statement), {"id": package_id} if ":id" in statement else {})

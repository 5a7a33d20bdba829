"""Money that takes another way than usual: story 12 of the acceptance list, disputes, and what people do wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.journeys import school
from tests.journeys.people import Body, Person, Town, eventually, story, usd
from tests.journeys.product import Product
from tests.journeys.school import PRICE, Lesson
from tests.journeys.test_top_ups import pay, start

pytestmark = pytest.mark.journey

REASON = "Agreed on the phone."


async def taught(town: Town, admin: Person, student: Person) -> tuple[Lesson, str]:
    """Have a student buy and attend a lesson; return it, and the hold that paid for it."""
    lesson = await school.offer(town, admin)
    bought = await school.sell(lesson, admin, student)
    await school.attend(town, lesson, {student: 80})
    await school.over(town, lesson)
    assert school.money(await school.settled(student, bought)) == ("released", 3_000, 7_000, 0)
    return lesson, bought["holds"][0]["id"]


async def quote(student: Person, lesson: Lesson) -> Body:
    wanted = {"course_id": lesson.course_id, "session_id": lesson.session_id}
    found: Body = await student.call("POST", "/api/v1/purchases/quote", wanted)
    return found


@asynccontextmanager
async def other_terms(owner: Person, **changes: int) -> AsyncIterator[None]:
    """Have the owner change the terms, and change them back."""

    async def change(terms: Body, to: dict[str, int]) -> Body:
        wanted = {"base_version": terms["version"], "changes": to, "reason": REASON}
        made: Body = await owner.call("POST", "/api/v1/admin/policy", wanted)
        return dict(made["terms"])

    before = (await owner.call("GET", "/api/v1/policy"))["terms"]
    changed = await change(before, changes)
    try:
        yield
    finally:
        await change(changed, {name: before[name] for name in changes})


async def test_disputed_lesson_gives_half_back_and_then_the_rest(product: Product) -> None:
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Pham")
        lesson, hold_id = await taught(town, admin, student)
        tutor, claim = (
            lesson.tutor,
            {"hold_id": hold_id, "reason": "session_quality", "text": "They slept a lot."},
        )

        opened = await student.call("POST", "/api/v1/disputes", claim)

        for person in (student, tutor):
            assert (await person.notified("dispute_opened"))["data"]["dispute_id"] == opened["id"]
        assert await tutor.wallet() == (0, 0, 0)
        decision = {"decision": "refunded", "money": usd(5_000), "notes": REASON}
        await admin.call("POST", f"/api/v1/admin/disputes/{opened['id']}/resolve", decision)
        await student.notified("dispute_refunded")
        assert (await tutor.notified("share_given_back"))["data"]["from_tutor"] == usd(1_500)
        half = await school.proven(student, hold_id)
        assert [school.parts(one) for one in half["adjustments"]] == [(1_500, 3_500, 5_000)]
        assert (await student.wallet(), await tutor.wallet()) == ((5_000, 0, 0), (0, 0, 1_500))

        again = await student.send("POST", "/api/v1/disputes", claim)
        refund = f"/api/v1/admin/holds/{hold_id}/refund"
        too_much = await admin.send("POST", refund, {"money": usd(5_001), "reason": REASON})
        await admin.call("POST", refund, {"reason": REASON})

        assert (again.body["code"], too_much.body["code"]) == ("already_disputed", "refund_too_large")
        whole = await school.proven(tutor, hold_id)
        assert [one["cause"] for one in whole["adjustments"]] == ["dispute", "refund"]
        assert school.parts(whole["adjustments"][-1]) == (0, 0, PRICE)
        assert (await student.wallet(), await tutor.wallet()) == ((PRICE, 0, 0), (0, 0, 0))


async def test_new_terms_bind_what_is_bought_from_then_on(product: Product) -> None:
    """Story 12: split and attendance are changed; who bought before is judged and paid out by the old ones."""
    async with story(product) as town:
        admin, [owner], (early, late, hasty) = (
            await town.admin(),
            await town.mint(role="owner"),
            await town.mint(3),
        )
        lesson = await school.offer(town, admin)
        before = await school.sell(lesson, admin, early)
        await school.credit(admin, late)
        stale = (await quote(late, lesson))["quote_token"]

        async with other_terms(owner, course_platform_bps=4_000, attendance_percent=50):
            refused = await late.send("POST", "/api/v1/purchases", {"quote_token": stale})
            assert (refused.status, refused.body["code"]) == (409, "quote_changed")
            after = await school.buy(late, lesson.course_id, lesson.session_id)
            missed = await school.sell(lesson, admin, hasty)
            # A third of the lesson is enough by the old terms only.
            await school.attend(town, lesson, {early: 30, hasty: 30, late: 80})
            await school.over(town, lesson)

        old, new, back = [
            await school.settled(student, bought)
            for student, bought in ((early, before), (late, after), (hasty, missed))
        ]
        assert school.money(old) == ("released", 3_000, 7_000, 0)
        assert school.money(new) == ("released", 4_000, 6_000, 0)
        assert school.money(back) == ("refunded", 0, 0, PRICE)
        assert [one["policy"]["attendance_percent"] for one in (old, new, back)] == [20, 50, 50]
        assert old["attendance"]["percent"] == back["attendance"]["percent"] == 33
        assert await lesson.tutor.wallet() == (0, 0, 7_000)
        assert (await town.send("GET", "/api/v1/policy")).body["terms"]["course_platform_bps"] == 3_000


async def test_who_has_too_little_is_told_how_much_and_pays_in_the_rest(product: Product) -> None:
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Minh")
        lesson = await school.offer(town, admin)
        await school.credit(admin, student, PRICE - 2_500)
        offered = await quote(student, lesson)
        confirm = {"quote_token": offered["quote_token"]}

        refused = await student.send("POST", "/api/v1/purchases", confirm)

        assert offered["shortfall"] == usd(2_500)
        assert (refused.status, refused.body["code"]) == (409, "insufficient_funds")
        assert refused.body["facts"]["shortfall"] == usd(2_500)
        assert await student.wallet() == (PRICE - 2_500, 0, 0)
        assert (await student.call("GET", "/api/v1/purchases"))["items"] == []
        await pay(town, (await start(student, 2_500))["url"])

        async def is_paid() -> bool:
            return await student.wallet() == (PRICE, 0, 0)

        await eventually(is_paid, "the rest is paid in")
        bought = await student.call("POST", "/api/v1/purchases", confirm)
        assert (bought["status"], await student.wallet()) == ("active", (0, PRICE, 0))


async def test_one_key_buys_once_whatever_door_it_comes_through(product: Product) -> None:
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Vy")
        lesson = await school.offer(town, admin)
        await student.connect()
        await school.credit(admin, student, 3 * PRICE)
        confirm, other = [{"quote_token": (await quote(student, lesson))["quote_token"]} for _ in range(2)]
        key = {"Idempotency-Key": "the one click"}

        answers = await asyncio.gather(
            *(student.send("POST", "/api/v1/purchases", confirm, **key) for _ in range(4))
        )
        by_socket = await student.ask("purchase.confirm", confirm, key="the one click")

        assert [answer.status for answer in answers] == [201] * 4
        assert [answer.body for answer in answers] == [by_socket] * 4
        assert await student.wallet() == (2 * PRICE, PRICE, 0)
        assert len((await student.call("GET", "/api/v1/holds"))["items"]) == 1
        mismatch = await student.send("POST", "/api/v1/purchases", other, **key)
        used = await student.send("POST", "/api/v1/purchases", confirm)
        twice = await student.send("POST", "/api/v1/purchases", other)
        refusals = [(one.status, one.body["code"]) for one in (mismatch, used, twice)]
        assert refusals == [(422, "idempotency_mismatch"), (409, "quote_used"), (409, "already_bought")]
        assert await student.wallet() == (2 * PRICE, PRICE, 0)


async def test_session_that_the_tutor_cancels_while_somebody_buys_costs_nobody_anything(
    product: Product,
) -> None:
    async with story(product) as town:
        admin, (buyer, hesitant) = await town.admin(), await town.mint(2)
        lesson = await school.offer(town, admin)
        for person in (buyer, hesitant, lesson.tutor):
            await person.connect()
        bought = await school.sell(lesson, admin, buyer)
        await school.credit(admin, hesitant)
        confirm = {"quote_token": (await quote(hesitant, lesson))["quote_token"]}

        await lesson.tutor.call(
            "POST", f"/api/v1/courses/{lesson.course_id}/sessions/{lesson.session_id}/cancel"
        )
        late = await hesitant.send("POST", "/api/v1/purchases", confirm)

        assert (late.status, late.body["code"]) == (409, "session_not_open")
        assert (await buyer.notified("session_cancelled"))["data"]["session_id"] == lesson.session_id
        assert (await buyer.notified("refund_processed"))["data"]["amount"] == usd(PRICE)
        hold = await school.settled(buyer, bought)
        assert (school.money(hold), hold["cause"]) == (("refunded", 0, 0, PRICE), "cancelled")
        assert [await person.wallet() for person in (buyer, hesitant)] == [(PRICE, 0, 0)] * 2
        assert (await buyer.call("GET", f"/api/v1/purchases/{bought['id']}"))["status"] == "cancelled"
        # No place is left to the one, no room to the other.
        for person, code in ((buyer, 103), (lesson.tutor, 121)):
            refusal = await person.refused("room.join", {"room_id": lesson.room_id})
            assert refusal["code"] == code


async def test_withdrawal_that_is_asked_twice_is_paid_once(product: Product) -> None:
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Nga")
        lesson, _ = await taught(town, admin, student)
        tutor, path, wanted = lesson.tutor, "/api/v1/withdrawals", {"amount": usd(2_000)}
        bank = {
            "bank_name": "Bank of Letters",
            "account_number": "DE89 3704 0044 0532 0130 00",
            "account_holder": "T",
        }
        homeless = await tutor.send("POST", path, wanted)
        await tutor.call("POST", "/api/v1/payout-account/bank", bank)
        await admin.connect()

        key = {"Idempotency-Key": "my money"}
        first, second = await asyncio.gather(*(tutor.send("POST", path, wanted, **key) for _ in range(2)))
        other = await tutor.send("POST", path, wanted)

        assert homeless.body["code"] == "no_payout_account"
        assert (first.status, first.body) == (201, second.body)
        assert (other.status, other.body["code"], other.body["facts"]["shortfall"]) == (
            409,
            "insufficient_funds",
            usd(1_000),
        )
        assert await tutor.wallet() == (0, 0, 1_000)
        asked = f"/api/v1/admin/withdrawals/{first.body['id']}"
        await admin.notified("withdrawal_requested")
        told = (await admin.call("GET", "/api/v1/notifications?limit=100"))["items"]
        assert [one["data"].get("withdrawal_id") for one in told].count(first.body["id"]) == 1
        await admin.call("POST", f"{asked}/approve")
        await tutor.notified("withdrawal_approved")
        await admin.call("POST", f"{asked}/complete", {"reference": "TT-1"})
        assert (await tutor.notified("withdrawal_completed"))["data"]["reference"] == "TT-1"
        again = await admin.send("POST", f"{asked}/complete", {"reference": "TT-2"})
        [listed] = (await tutor.call("GET", path))["items"]
        assert (again.status, listed["status"], listed["amount"]) == (409, "completed", usd(2_000))
        assert await tutor.wallet() == (0, 0, 1_000)

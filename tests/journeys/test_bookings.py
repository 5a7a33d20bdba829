"""One-to-one lessons from the request to the last cent: stories 8 to 11 of the acceptance list, and what people do wrong."""

from datetime import timedelta

import pytest

from tests.journeys import lessons, school
from tests.journeys.lessons import OURS, PRICE, TUTORS
from tests.journeys.people import eventually, instant, parsed, story, usd
from tests.journeys.product import Product

pytestmark = pytest.mark.journey

REASON = "Agreed on the phone."


async def test_a_lesson_is_asked_for_agreed_held_and_paid(product: Product) -> None:
    """Story 8, up to the earnings; how these are paid out is told in tests/journeys/test_top_ups.py and billing's tests."""
    async with story(product) as town:
        admin = await town.admin()
        tutor, student = await lessons.tutor_of(town, admin), await lessons.student_of(town, admin)
        starts_at = await lessons.tomorrow(town)
        quote = await student.call("POST", "/api/v1/bookings/quote", {"tutor_id": tutor.id, "minutes": 60})
        assert (quote["price"], quote["shortfall"], quote["packages"]) == (usd(PRICE), usd(0), [])

        asked = await lessons.ask(student, tutor, starts_at, topic="The past tense")

        assert (asked["payment"]["state"], await student.wallet()) == ("PENDING", (0, PRICE, 0))
        assert (await tutor.notified("booking_requested"))["link"] == f"/bookings/{asked['id']}"
        agreed = await lessons.accept(tutor, asked)
        await student.saw("booking.updated", booking_id=asked["id"], status="scheduled")
        await student.notified("booking_accepted")
        assert agreed["payment"]["state"] == "AUTHORIZED"
        ended = await lessons.held(town, agreed, tutor, student)
        assert (ended["outcome"], ended["payment"]["state"], ended["has_strike"]) == (
            "completed",
            "CAPTURED",
            False,
        )
        hold = await school.proven(student, ended["hold_id"])
        assert (school.money(hold), hold["cause"]) == (("released", TUTORS, OURS, 0), "outcome")
        # The risk window of bookings is a week.
        assert (await tutor.wallet())[2] == 0
        await town.advance(days=8)
        assert (await tutor.wallet())[2] == TUTORS
        listed = await tutor.call("GET", "/api/v1/bookings?status=ended")
        assert [one["id"] for one in listed["items"]] == [asked["id"]]


async def test_a_tutor_who_does_not_come_is_not_paid_and_gets_a_strike(product: Product) -> None:
    """Story 9, its first half."""
    async with story(product) as town:
        admin = await town.admin()
        tutor, student = await lessons.tutor_of(town, admin), await lessons.student_of(town, admin)
        agreed = await lessons.accept(tutor, await lessons.ask(student, tutor, await lessons.tomorrow(town)))

        ended = await lessons.held(town, agreed, student)

        strikes = [(await lessons.get(person, agreed))["has_strike"] for person in (student, tutor)]
        assert (ended["outcome"], ended["payment"], strikes) == (
            "no_show_tutor",
            {"method": "wallet", "state": "REFUNDED", "captured": usd(PRICE), "refunded": usd(PRICE)},
            [False, True],
        )
        assert school.money(await school.proven(student, ended["hold_id"])) == ("refunded", 0, 0, PRICE)
        assert (await student.wallet(), await tutor.wallet()) == ((PRICE, 0, 0), (0, 0, 0))
        for person in (student, tutor):
            await person.notified("booking_no_show_tutor")
        claim = {"hold_id": ended["hold_id"], "reason": "tutor_no_show", "text": "They did not come."}
        nothing = await student.send("POST", "/api/v1/disputes", claim)
        assert (nothing.status, nothing.body["code"]) == (409, "nothing_to_dispute")
        lift = f"/api/v1/admin/bookings/{agreed['id']}/lift-strike"
        lifted = await admin.call("POST", lift, {"reason": REASON})
        assert lifted["has_strike"] is False


async def test_a_student_who_does_not_come_pays_disputes_and_gets_half_back_and_then_the_rest(
    product: Product,
) -> None:
    """Story 9, its second half."""
    async with story(product) as town:
        admin = await town.admin()
        tutor, student = await lessons.tutor_of(town, admin), await lessons.student_of(town, admin)
        agreed = await lessons.accept(tutor, await lessons.ask(student, tutor, await lessons.tomorrow(town)))

        ended = await lessons.held(town, agreed, tutor)

        assert (ended["outcome"], ended["payment"]["state"]) == ("no_show_student", "CAPTURED")
        hold_id = ended["hold_id"]
        assert school.money(await school.proven(tutor, hold_id)) == ("released", TUTORS, OURS, 0)
        claim = {"hold_id": hold_id, "reason": "technical_issues", "text": "My line was cut off."}
        opened = await student.call("POST", "/api/v1/disputes", claim)
        resolve = f"/api/v1/admin/disputes/{opened['id']}/resolve"
        half = {"decision": "refunded", "money": usd(PRICE // 2), "notes": REASON}
        await admin.call("POST", resolve, half)

        halved = await lessons.get(student, agreed)
        assert (halved["payment"]["state"], halved["payment"]["refunded"]) == (
            "PARTIALLY_REFUNDED",
            usd(PRICE // 2),
        )
        await admin.call("POST", f"/api/v1/admin/holds/{hold_id}/refund", {"reason": REASON})

        whole = await lessons.get(student, agreed)
        assert (whole["payment"]["state"], whole["payment"]["refunded"]) == ("REFUNDED", usd(PRICE))
        assert (whole["status"], whole["outcome"]) == ("ended", "no_show_student")
        proof = await school.proven(student, hold_id)
        assert [one["cause"] for one in proof["adjustments"]] == ["dispute", "refund"]
        assert school.parts(proof["adjustments"][-1]) == (0, 0, PRICE)
        assert (await student.wallet(), await tutor.wallet()) == ((PRICE, 0, 0), (0, 0, 0))


async def test_a_request_that_nobody_answers_expires_and_its_money_is_free(product: Product) -> None:
    """Story 10."""
    async with story(product) as town:
        admin = await town.admin()
        tutor, student = await lessons.tutor_of(town, admin), await lessons.student_of(town, admin)
        asked = await lessons.ask(student, tutor, await lessons.tomorrow(town))
        answer_by = parsed(asked["answer_by"])
        assert answer_by - parsed(asked["requested_at"]) == timedelta(hours=24)

        await town.go_to(answer_by - timedelta(seconds=1))
        assert (await lessons.get(student, asked))["status"] == "requested"
        assert await student.wallet() == (0, PRICE, 0)
        await town.go_to(answer_by)

        expired = await lessons.get(tutor, asked)
        assert (expired["status"], expired["outcome"], expired["payment"]["state"]) == (
            "expired",
            "not_held",
            "VOIDED",
        )
        assert await student.wallet() == (PRICE, 0, 0)
        for person in (student, tutor):
            await person.notified("booking_expired")
        assert school.money(await school.proven(student, asked["hold_id"])) == ("refunded", 0, 0, PRICE)
        late = await tutor.refused("booking.accept", {"booking_id": asked["id"]})
        assert (late["name"], late["d"]["code"]) == ("conflict", "status_forbids")
        # The time is free again too, and a lesson tomorrow is answered before it begins, or not at all.
        near = await lessons.ask(student, tutor, await lessons.tomorrow(town, days=0.5))
        assert near["answer_by"] == near["starts_at"]
        await student.call("POST", f"/api/v1/bookings/{near['id']}/cancel")
        await tutor.notified("booking_withdrawn")


async def test_a_package_of_which_one_lesson_was_given_gives_the_rest_back(product: Product) -> None:
    """Story 11."""
    async with story(product) as town:
        admin = await town.admin()
        tutor = await lessons.tutor_of(town, admin)
        student = await lessons.student_of(town, admin, amount=10_001)
        offer = {"title": "Five lessons", "minutes": 50, "sessions": 5, "price": {"amount": 10_001}}
        option = (await tutor.call("POST", "/api/v1/package-options", offer))["id"]
        terms = (await student.call("POST", "/api/v1/packages/quote", {"option_id": option}))["terms"]
        bought = await student.call("POST", "/api/v1/packages", {"option_id": option, "terms": terms})
        assert (await student.wallet(), bought["remaining"]) == ((0, 10_001, 0), 5)
        await tutor.notified("new_package_purchase")
        quote = await student.call("POST", "/api/v1/bookings/quote", {"tutor_id": tutor.id})
        assert [(one["id"], one["remaining"]) for one in quote["packages"]] == [(bought["id"], 5)]

        asked = await lessons.ask(student, tutor, await lessons.tomorrow(town), package_id=bought["id"])

        assert (asked["minutes"], asked["price"], asked["payment"]) == (50, usd(0), None)
        package = f"/api/v1/packages/{bought['id']}"
        assert (await student.call("GET", package))["remaining"] == 4
        agreed = await lessons.accept(tutor, asked)
        ended = await lessons.held(town, agreed, tutor, student)
        assert ended["outcome"] == "completed"
        given = await school.proven(student, ended["hold_id"])
        assert school.money(given) == ("released", 1_600, 400, 0)

        given_back = await student.call("POST", f"{package}/refund")

        assert [given_back[name] for name in ("status", "purchased", "used", "remaining")] == [
            "refunded",
            5,
            1,
            4,
        ]
        rest = [one for one in given_back["slices"] if one["hold_id"] != ended["hold_id"]]
        proofs = [await school.proven(student, one["hold_id"]) for one in rest]
        assert [school.money(one) for one in proofs] == [("refunded", 0, 0, 2_000)] * 3 + [
            ("refunded", 0, 0, 2_001)
        ]
        assert await student.wallet() == (8_001, 0, 0)
        for person in (student, tutor):
            assert (await person.notified("package_refunded"))["data"]["amount"] == usd(8_001)
        over = await student.send("POST", f"{package}/refund")
        assert over.body["code"] == "package_over"
        wanted = {
            "tutor_id": tutor.id,
            "starts_at": instant(await lessons.tomorrow(town)),
            "package_id": bought["id"],
        }
        refused = await student.send("POST", "/api/v1/bookings", wanted)
        assert refused.body["code"] == "package_over"


async def test_who_cancels_and_when_decides_whose_the_money_is(product: Product) -> None:
    async with story(product) as town:
        admin = await town.admin()
        tutor = await lessons.tutor_of(town, admin)
        student = await lessons.student_of(town, admin, amount=2 * PRICE)
        free = await lessons.accept(tutor, await lessons.ask(student, tutor, await lessons.tomorrow(town)))
        cancel = "/api/v1/bookings/{}/cancel"
        # A day before it, and five minutes of kindness.
        await town.go_to(parsed(free["free_cancel_until"]) - timedelta(seconds=20))
        back = await student.call("POST", cancel.format(free["id"]), {"reason": "I am ill."})
        assert (back["status"], back["cancelled_by"], back["payment"]["state"]) == (
            "cancelled",
            "student",
            "VOIDED",
        )
        assert await student.wallet() == (2 * PRICE, 0, 0)
        assert (await tutor.notified("booking_cancelled"))["data"]["reason"] == "I am ill."

        late = await lessons.accept(tutor, await lessons.ask(student, tutor, await lessons.tomorrow(town)))
        await town.go_to(parsed(late["free_cancel_until"]) + timedelta(seconds=1))
        kept = await student.call("POST", cancel.format(late["id"]))
        assert kept["payment"]["state"] == "CAPTURED"
        proof = await school.proven(tutor, kept["hold_id"])
        assert (proof["cause"], school.money(proof)) == ("forfeited", ("released", TUTORS, OURS, 0))
        await tutor.notified("booking_cancelled_late")

        missed = await lessons.accept(
            tutor, await lessons.ask(student, tutor, await lessons.tomorrow(town, days=0.5))
        )
        left = await tutor.call("POST", cancel.format(missed["id"]))
        assert (left["payment"]["state"], left["has_strike"]) == ("VOIDED", True)
        assert await student.wallet() == (PRICE, 0, 0)

        async def is_closed() -> bool:
            room = await student.call("GET", f"/api/v1/rooms/{missed['id']}")
            return bool(room["state"] == "closed")

        await eventually(is_closed, "the room of a cancelled lesson is closed")
        begun = await lessons.accept(
            tutor, await lessons.ask(student, tutor, await lessons.tomorrow(town, days=0.5))
        )
        await town.go_to(parsed(begun["starts_at"]))
        await tutor.join(begun["id"])
        for person in (student, tutor):
            refused = await person.send("POST", cancel.format(begun["id"]))
            assert (refused.status, refused.body["code"]) == (409, "already_started")
        unsaid = await admin.send("POST", cancel.format(begun["id"]), {"reason": "short"})
        assert (unsaid.status, unsaid.body["errors"][0]["field"]) == (400, "reason")
        ended = await admin.call("POST", cancel.format(begun["id"]), {"reason": REASON})
        assert (ended["status"], ended["payment"]["state"]) == ("cancelled", "VOIDED")
        assert await student.wallet() == (PRICE, 0, 0)

"""Lessons and the money in them, told by presence on the socket: stories 1 to 5 of the acceptance list, and their kin.

What was settled is proven by its receipt, offline, each time (`school.settled`).
"""

import asyncio
from datetime import timedelta

import pytest

from tests.journeys import school
from tests.journeys.people import parsed, story, usd
from tests.journeys.product import Product
from tests.journeys.school import PRICE, Lesson

pytestmark = pytest.mark.journey


async def test_platform_student_attends_80_of_90_and_the_tutor_gets_30_percent(product: Product) -> None:
    """Story 1."""
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Pham")
        lesson = await school.offer(town, admin)
        bought = await school.sell(lesson, admin, student)
        assert await student.wallet() == (0, PRICE, 0)

        await school.attend(town, lesson, {student: 80})
        await school.over(town, lesson)

        hold = await school.settled(student, bought)
        assert school.money(hold) == ("released", 3_000, 7_000, 0)
        assert hold["cause"] == "attendance"
        assert 4_800 <= hold["attendance"]["attended_s"] < 4_810
        assert hold["attendance"]["percent"] == 88
        assert hold["attendance"]["scheduled_s"] == 5_400
        assert await student.wallet() == (0, 0, 0)
        assert await lesson.tutor.wallet() == (0, 0, 3_000)
        assert await lesson.status() == "completed"
        purchase = await student.call("GET", f"/api/v1/purchases/{bought['id']}")
        assert purchase["status"] == "attended"


async def test_referred_student_attends_and_the_tutor_gets_70_percent(product: Product) -> None:
    """Story 2."""
    async with story(product) as town:
        admin = await town.admin()
        lesson = await school.offer(town, admin)
        code = await school.referral_code(lesson.tutor)
        student = await town.register("Rosa", referral_code=code)
        bought = await school.sell(lesson, admin, student)

        await school.attend(town, lesson, {student: 80})
        await school.over(town, lesson)

        hold = await school.settled(student, bought)
        assert school.money(hold) == ("released", 7_000, 3_000, 0)
        assert hold["attribution"] == "referral"
        assert await lesson.tutor.wallet() == (0, 0, 7_000)


async def test_who_attends_15_of_90_gets_everything_back(product: Product) -> None:
    """Story 3."""
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Minh")
        lesson = await school.offer(town, admin)
        bought = await school.sell(lesson, admin, student)

        await school.attend(town, lesson, {student: 15})
        await school.over(town, lesson)

        hold = await school.settled(student, bought)
        assert school.money(hold) == ("refunded", 0, 0, PRICE)
        assert hold["cause"] == "attendance"
        assert hold["attendance"]["percent"] == 16
        assert await student.wallet() == (PRICE, 0, 0)
        assert await lesson.tutor.wallet() == (0, 0, 0)
        purchase = await student.call("GET", f"/api/v1/purchases/{bought['id']}")
        assert purchase["status"] == "missed"


async def test_full_course_of_three_is_settled_session_by_session(product: Product) -> None:
    """Story 4: $10.00 are 333, 333 and 334; one attended, one missed, one cancelled."""
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Lan")
        tutor = await school.tutor_of(town, admin)
        made = await school.course(
            tutor,
            total_sessions=3,
            price_type="full_course",
            price_per_session=None,
            price_full_course=usd(1_000),
        )
        first_at = (await town.now() + timedelta(days=1)).replace(second=0, microsecond=0)
        lessons = [
            Lesson(tutor, made, await school.session(tutor, made, first_at + timedelta(days=n - 1), number=n))
            for n in (1, 2, 3)
        ]
        await school.publish(tutor, made)
        await school.credit(admin, student, 1_000)
        bought = await school.buy(student, made["id"])
        assert [one["amount"]["amount"] for one in bought["holds"]] == [333, 333, 334]

        await school.attend(town, lessons[0], {student: 90})
        await school.over(town, lessons[0])
        await town.go_to(lessons[1].minute(-5))
        await tutor.join(lessons[1].room_id)
        await school.over(town, lessons[1])
        await tutor.call("POST", f"/api/v1/courses/{made['id']}/sessions/{lessons[2].session_id}/cancel")

        holds = [await school.settled(student, bought, n) for n in range(3)]
        assert [school.money(one) for one in holds] == [
            ("released", 99, 234, 0),
            ("refunded", 0, 0, 333),
            ("refunded", 0, 0, 334),
        ]
        assert [one["cause"] for one in holds] == ["attendance", "attendance", "cancelled"]
        assert await student.wallet() == (667, 0, 0)
        assert await tutor.wallet() == (0, 0, 99)
        shown = await student.call("GET", f"/api/v1/courses/{made['id']}")
        assert shown["status"] == "completed"
        assert [one["status"] for one in shown["sessions"]] == ["completed", "completed", "cancelled"]
        revenue = await tutor.call("GET", f"/api/v1/courses/{made['id']}/revenue")
        assert [revenue[name]["amount"] for name in ("sold", "earned", "platform", "held", "refunded")] == [
            1_000, 99, 234, 0, 667,
        ]  # fmt: skip
        purchase = await student.call("GET", f"/api/v1/purchases/{bought['id']}")
        assert (purchase["status"], purchase["refunded"]["amount"]) == ("completed", 667)


async def test_cancelled_course_gives_all_money_back_and_tells_everybody(product: Product) -> None:
    """Story 5: three who bought the course and two who bought one session."""
    async with story(product) as town:
        admin = await town.admin()
        tutor = await school.tutor_of(town, admin)
        made = await school.course(tutor, total_sessions=2, price_full_course=usd(15_000))
        starts_at = await town.now() + timedelta(days=2)
        lessons = [
            Lesson(tutor, made, await school.session(tutor, made, starts_at + timedelta(days=n), number=n))
            for n in (1, 2)
        ]
        await school.publish(tutor, made)
        students = await town.mint(5)
        for student in students:
            await student.connect()
            await school.credit(admin, student, 15_000)
        for student in students[:3]:
            await school.buy(student, made["id"])
        for student, lesson in zip(students[3:], lessons, strict=True):
            await school.buy(student, made["id"], lesson.session_id)
        assert [await student.wallet() for student in students] == [(0, 15_000, 0)] * 3 + [
            (5_000, PRICE, 0)
        ] * 2

        cancelled = await tutor.call("POST", f"/api/v1/courses/{made['id']}/cancel")

        assert cancelled["status"] == "cancelled"
        for student in students:
            assert await student.wallet() == (15_000, 0, 0)
            told = await student.notified("course_cancelled")
            assert told["data"]["course_id"] == made["id"]
            await student.saw("hold.refunded", cause="cancelled")
            purchases = await student.call("GET", "/api/v1/purchases?status=cancelled")
            assert len(purchases["items"]) == 1
        listed = await town.send("GET", "/api/v1/courses?limit=100")
        assert made["id"] not in [one["id"] for one in listed.body["items"]]
        for lesson in lessons:
            room = await tutor.call("GET", f"/api/v1/rooms/{lesson.room_id}")
            assert room["state"] == "closed"
        late = await (await town.register("Late")).send(
            "POST", "/api/v1/purchases/quote", {"course_id": made["id"]}
        )
        assert late.status == 409


async def test_absent_tutor_means_everybody_is_refunded(product: Product) -> None:
    async with story(product) as town:
        admin, students = await town.admin(), await town.mint(2)
        lesson = await school.offer(town, admin)
        bought = [await school.sell(lesson, admin, student) for student in students]

        await school.attend(town, lesson, dict.fromkeys(students, 85.0), tutor_until=5)
        await school.over(town, lesson)

        for student, purchase in zip(students, bought, strict=True):
            hold = await school.settled(student, purchase)
            assert school.money(hold) == ("refunded", 0, 0, PRICE)
            assert hold["cause"] == "tutor_absent"
            assert hold["attendance"]["percent"] == 94
            assert await student.wallet() == (PRICE, 0, 0)


async def test_session_that_nobody_opens_is_cancelled_by_the_clock(product: Product) -> None:
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Waiting")
        lesson = await school.offer(town, admin)
        bought = await school.sell(lesson, admin, student)
        await student.connect()

        await town.go_to(lesson.ends_at + timedelta(minutes=4))
        assert await lesson.status() == "scheduled"
        await town.go_to(lesson.ends_at + timedelta(minutes=6))

        assert await lesson.status() == "cancelled"
        assert school.money(await school.settled(student, bought)) == ("refunded", 0, 0, PRICE)
        assert await student.wallet() == (PRICE, 0, 0)
        await student.notified("session_cancelled")


async def test_doors_open_ten_minutes_before_and_close_five_after(product: Product) -> None:
    async with story(product) as town:
        admin, (student, stranger) = await town.admin(), await town.mint(2)
        lesson = await school.offer(town, admin)
        await school.sell(lesson, admin, student)
        await town.go_to(lesson.minute(-11))
        for person in (lesson.tutor, student, stranger):
            await person.connect()

        for early in (student, lesson.tutor):
            refusal = await early.refused("room.join", {"room_id": lesson.room_id})
            assert (refusal["code"], refusal["name"]) == (108, "not_available")
            assert parsed(refusal["d"]["opens_at"]) == lesson.minute(-10)
        refusal = await stranger.refused("room.join", {"room_id": lesson.room_id})
        assert refusal["code"] == 103
        await town.go_to(lesson.minute(-10))
        assert (await lesson.tutor.join(lesson.room_id))["seat"]["no"] == 1
        await town.go_to(lesson.ends_at + timedelta(minutes=4))
        assert (await student.join(lesson.room_id))["seat"]["no"] == 2

        await town.go_to(lesson.ends_at + timedelta(minutes=5, seconds=1))
        refusal = await student.refused("room.join", {"room_id": lesson.room_id})
        assert refusal["code"] in (108, 121)
        await student.saw("session.ended")
        await school.over(town, lesson)
        refusal = await student.refused("room.join", {"room_id": lesson.room_id})
        assert refusal["code"] == 121


async def test_early_end_by_the_tutor_counts_what_was_held(product: Product) -> None:
    """20 of 30 minutes are enough, although they are 22 % of what was planned; 5 of 30 are not."""
    async with story(product) as town:
        admin, (diligent, hasty) = await town.admin(), await town.mint(2)
        lesson = await school.offer(town, admin)
        bought = [await school.sell(lesson, admin, student) for student in (diligent, hasty)]
        await town.go_to(lesson.minute(-5))
        for person in (lesson.tutor, diligent, hasty):
            await person.connect()
            await person.join(lesson.room_id)
        await town.go_to(lesson.minute(5))
        await hasty.leave(lesson.room_id)
        await town.go_to(lesson.minute(20))
        await diligent.leave(lesson.room_id)
        refusal = await hasty.refused("room.close", {"room_id": lesson.room_id})
        assert refusal["code"] == 103
        await town.go_to(lesson.minute(30))

        await lesson.tutor.ask("room.close", {"room_id": lesson.room_id})

        await lesson.tutor.saw("session.ended")
        await town.advance(minutes=3)
        holds = [await school.settled(s, b) for s, b in zip((diligent, hasty), bought, strict=True)]
        assert [school.money(one) for one in holds] == [
            ("released", 3_000, 7_000, 0),
            ("refunded", 0, 0, PRICE),
        ]
        assert [one["attendance"]["percent"] for one in holds] == [66, 16]


async def test_live_attendance_says_when_a_fifth_is_reached(product: Product) -> None:
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Nga")
        lesson = await school.offer(town, admin)
        await school.sell(lesson, admin, student)
        await town.go_to(lesson.minute(-5))
        for person in (lesson.tutor, student):
            await person.connect()
            await person.join(lesson.room_id)

        await town.go_to(lesson.minute(17))
        early = (await lesson.tutor.saw("attendance.updated", user_id=student.id))["d"]
        assert early.keys() == {"room_id", "user_id", "attended_s", "required_s", "reached"}
        assert early["required_s"] == 1_080
        assert not early["reached"]
        await town.go_to(lesson.minute(19))

        for person in (student, lesson.tutor):
            event = await person.saw("attendance.updated", user_id=student.id, reached=True)
            assert event["ch"] == f"user:{person.id}"
            assert event["d"]["attended_s"] >= 1_080
        assert [one["user_id"] for one in student.device.seen("attendance.updated")] == [student.id] * len(
            student.device.seen("attendance.updated")
        )
        rows = (await lesson.tutor.call("GET", f"/api/v1/rooms/{lesson.room_id}/attendance"))["people"]
        assert {row["user_id"] for row in rows} == {lesson.tutor.id, student.id}
        rows = (await student.call("GET", f"/api/v1/rooms/{lesson.room_id}/attendance"))["people"]
        assert [row["user_id"] for row in rows] == [student.id]
        for person in (student, lesson.tutor):
            await person.leave(lesson.room_id)
        await school.over(town, lesson)


async def test_both_sides_hear_of_their_money(product: Product) -> None:
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Vy")
        lesson = await school.offer(town, admin)
        tutor = lesson.tutor
        for person in (student, tutor):
            await person.connect()

        bought = await school.sell(lesson, admin, student)

        hold_id = bought["holds"][0]["id"]
        for person in (student, tutor):
            placed = await person.saw("hold.placed", hold_id=hold_id)
            assert placed["ch"] == f"user:{person.id}"
            assert placed["d"]["amount"] == usd(PRICE)
        await student.saw("wallet.updated", balance=usd(PRICE), held=usd(0))
        await student.saw("wallet.updated", balance=usd(0), held=usd(PRICE))
        assert (await student.notified("purchase_confirmed"))["data"]["course_id"] == lesson.course_id
        assert "Vy Tester" in (await tutor.notified("new_session_purchase"))["text"]

        await town.go_to(lesson.minute(-5))
        for person in (tutor, student):
            await person.join(lesson.room_id)
        await student.notified("session_started")
        await school.over(town, lesson)

        for person in (student, tutor):
            released = await person.saw("hold.released", hold_id=hold_id)
            assert released["d"]["tutor_share"] == usd(3_000)
            assert released["d"]["platform_share"] == usd(7_000)
        await student.saw("wallet.updated", balance=usd(0), held=usd(0))
        earned = {"pending": usd(0), "available": usd(3_000)}
        await tutor.saw("wallet.updated", earnings=earned)
        await tutor.notified("payment_received")
        entries = await student.call("GET", "/api/v1/wallet/entries")
        assert [one["kind"] for one in entries["items"]][-1] == "admin_adjustment"
        assert all(one["reason"] and one["reference"]["id"] for one in entries["items"])


async def test_refund_and_its_notice_reach_the_student(product: Product) -> None:
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Quyen")
        lesson = await school.offer(town, admin)
        await student.connect()
        bought = await school.sell(lesson, admin, student)

        await student.call("POST", f"/api/v1/purchases/{bought['id']}/cancel")

        refunded = await student.saw("hold.refunded", hold_id=bought["holds"][0]["id"])
        assert refunded["d"]["amount"] == usd(PRICE)
        await student.notified("refund_processed")
        assert await student.wallet() == (PRICE, 0, 0)
        await town.go_to(lesson.minute(-5))
        refusal = await student.refused("room.join", {"room_id": lesson.room_id})
        assert refusal["code"] == 103


async def test_last_place_in_a_session_is_sold_once(product: Product) -> None:
    async with story(product) as town:
        admin, students = await town.admin(), await town.mint(6)
        tutor = await school.tutor_of(town, admin)
        made = await school.course(tutor, max_students=1)
        announced = await school.session(tutor, made, await town.now() + timedelta(days=1))
        await school.publish(tutor, made)
        wanted = {"course_id": made["id"], "session_id": announced["id"]}
        quotes = []
        for student in students:
            await school.credit(admin, student)
            quotes.append(await student.call("POST", "/api/v1/purchases/quote", wanted))

        answers = await asyncio.gather(
            *(
                student.send("POST", "/api/v1/purchases", {"quote_token": quote["quote_token"]})
                for student, quote in zip(students, quotes, strict=True)
            )
        )

        assert sorted(answer.status for answer in answers) == [201] + [409] * 5
        assert (
            sorted([await student.wallet() for student in students]) == [(0, PRICE, 0)] + [(PRICE, 0, 0)] * 5
        )

"""Everybody at the same moment about one lesson: real parallelism in PostgreSQL, one outcome, and the money with it."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from billing.models import PaymentRefund
from server.context import Principal, Role
from server.features.bookings import rules
from tests.billing.between import Do, Scene, every_way
from tests.server.desk import DAY, FUNDS, HOUR, MINUTE, NOON, PRICE, SECOND, WHY, Body, Desk, moment
from tests.server.stage import COURSE, Stage


@pytest.fixture
async def desk(stage: Stage) -> Desk:
    return await Desk.open(stage)


async def together(*deeds: Awaitable[Any]) -> list[str]:
    """Do all at once; return of each `done`, or the code with which it was refused. What has no code is a bug."""
    answers = await asyncio.gather(*deeds, return_exceptions=True)
    return ["done" if not isinstance(one, BaseException) else code_of(one) for one in answers]


def code_of(error: BaseException) -> str:
    code = getattr(error, "code", None)
    if not isinstance(code, str):
        raise error
    return code


def answering(deed: Callable[[], Awaitable[Any]]) -> Do:
    """The same, which answers `done` or with the code of its refusal."""

    async def do() -> str:
        return (await together(deed()))[0]

    return do


# What may be done at once with a request whose time to be answered ends in this second.
DEEDS: dict[str, Callable[[Desk, Body], Awaitable[Any]]] = {
    "accept": lambda desk, one: desk.stage.do(
        "booking.accept", desk.tutor, now=desk.now - SECOND, booking_id=one["id"]
    ),
    "decline": lambda desk, one: desk.do("booking.decline", desk.tutor, booking_id=one["id"]),
    "withdraw": lambda desk, one: desk.cancel(one),
    "admin_cancels": lambda desk, one: desk.cancel(one, desk.admin),
    "refund": lambda desk, one: desk.do("hold.refund", desk.admin, hold_id=one["hold_id"], reason=WHY),
    "expire": lambda desk, _: desk.jobs(),
}
# Where each of them leads to alone; an administrator's refund cancels what it pays for.
ENDS: dict[str, tuple[str, str | None]] = {
    "accept": ("scheduled", None),
    "decline": ("cancelled", "tutor"),
    "withdraw": ("cancelled", "student"),
    "admin_cancels": ("cancelled", "admin"),
    "refund": ("cancelled", "system"),
    "expire": ("expired", None),
}
REFUSALS = {"status_forbids", "payment_state", "refund_too_large"}


async def test_any_two_deeds_at_once_have_one_outcome(desk: Desk) -> None:
    pairs = [("accept", "accept"), ("refund", "refund"), *itertools.combinations(DEEDS, 2)]
    await desk.pay_in(desk.student, len(pairs) * PRICE)
    asked: list[Body] = []
    for number in range(len(pairs)):
        desk.at(NOON + number * MINUTE)
        asked.append(await desk.ask(NOON + 3 * DAY + number * HOUR))

    done: list[list[str]] = []
    for pair, one in zip(pairs, asked, strict=True):
        desk.at(moment(one["answer_by"]))
        done.append(await together(*(DEEDS[deed](desk, one) for deed in pair)))
        await desk.stage.relay.flush()
    await desk.checked()

    agreed = 0
    for pair, answers, one in zip(pairs, done, asked, strict=True):
        # At least one of them was done, and the other after it or not at all.
        assert "done" in answers, pair
        assert {*answers} <= {"done", *REFUSALS}, (pair, answers)
        after = await desk.get(one)
        end = (after["status"], after["cancelled_by"])
        assert end in {ENDS[deed] for deed in pair}, (pair, answers)
        is_agreed = end == ENDS["accept"]
        agreed += is_agreed
        assert after["payment"]["state"] == ("AUTHORIZED" if is_agreed else "VOIDED"), pair
    assert await desk.balance() == FUNDS + (len(pairs) - agreed) * PRICE


async def test_a_lesson_of_a_package_goes_one_way_by_any_two_deeds(desk: Desk, *, full: bool) -> None:
    pairs = list(itertools.combinations(DEEDS, 2)) if full else [("accept", "refund"), ("refund", "expire")]
    price = {"amount": len(pairs) * PRICE, "currency": "USD"}
    package = await desk.package(sessions=len(pairs), price=price)

    back, spent = 0, 0
    for number, pair in enumerate(pairs):
        one = await desk.ask(desk.now + 30 * DAY, package_id=package["id"])
        desk.at(moment(one["answer_by"]))
        answers = await together(*(DEEDS[deed](desk, one) for deed in pair))
        await desk.run()

        assert "done" in answers, pair
        assert {*answers} <= {"done", "lesson_not_taken", *REFUSALS}, (pair, answers)
        after = await desk.get(one)
        assert (after["status"], after["cancelled_by"]) in {ENDS[deed] for deed in pair}, (pair, answers)
        is_refunded = "refund" in pair and answers[pair.index("refund")] == "done"
        back += not is_refunded and after["status"] != "scheduled"
        spent += is_refunded
        now = await desk.do("package.get", desk.student, package_id=package["id"])
        assert now["remaining"] == len(pairs) - number - 1 + back, (pair, answers)
    assert await desk.balance() == FUNDS - PRICE * (len(pairs) - spent)
    await desk.checked()


async def test_one_hour_of_a_tutor_goes_to_one_of_many_students(desk: Desk) -> None:
    students = await desk.new_students(8)

    answers = await together(
        *(desk.ask(NOON + DAY + number * MINUTE, student=one) for number, one in enumerate(students))
    )

    assert Counter(answers) == {"done": 1, "slot_no_longer_available": 7}
    assert sorted([await desk.balance(one) for one in students]) == [FUNDS - PRICE] + [FUNDS] * 7
    await desk.checked()


async def test_one_hour_of_a_student_goes_to_one_of_many_tutors(desk: Desk) -> None:
    tutors = [await desk.new_tutor() for _ in range(6)]

    answers = await together(
        *(desk.ask(NOON + DAY + number * MINUTE, tutor=one) for number, one in enumerate(tutors))
    )

    assert Counter(answers) == {"done": 1, "student_is_busy": 5}
    assert await desk.balance() == FUNDS - PRICE
    await desk.checked()


async def test_a_double_click_asks_once(desk: Desk) -> None:
    wanted = desk.wanted()

    answers = await together(
        *(desk.stage.do("booking.request", desk.student, key="one click", **wanted) for _ in range(5))
    )

    assert answers == ["done"] * 5
    assert len((await desk.do("booking.list", desk.student))["items"]) == 1
    assert await desk.balance() == FUNDS - PRICE


async def test_the_last_lesson_of_a_package_is_taken_once(desk: Desk) -> None:
    package = await desk.package(sessions=1)

    answers = await together(
        *(desk.ask(NOON + DAY + number * HOUR, package_id=package["id"]) for number in range(5))
    )

    assert Counter(answers) == {"done": 1, "package_exhausted": 4}
    await desk.checked()


async def test_a_package_is_refunded_or_its_last_lesson_taken(desk: Desk) -> None:
    for number in range(3):
        package = await desk.package(sessions=1)
        by_package = {"package_id": package["id"]}

        answers = await together(
            desk.ask(NOON + DAY + number * HOUR, **by_package),
            desk.do("package.refund", desk.student, **by_package),
        )

        assert answers in (["done", "package_exhausted"], ["package_over", "done"])
    await desk.checked()


async def test_a_course_and_its_tutors_students_want_the_same_hour(desk: Desk) -> None:
    students = await desk.new_students(3)
    for number in range(3):
        course = await desk.do("course.create", desk.tutor, **COURSE)
        starts_at = NOON + (number + 1) * DAY
        session: Body = {
            "course_id": course["id"],
            "number": 1,
            "title": "Greetings",
            "starts_at": starts_at + 30 * MINUTE,
            "duration_minutes": 60,
        }

        *answers, announced = await together(
            *(desk.ask(starts_at, student=one) for one in students),
            desk.do("course.session.add", desk.tutor, **session),
        )

        taken = Counter(answers)["done"] + (announced == "done")
        assert taken == 1
        assert {*answers} <= {"done", "slot_no_longer_available"}
        assert announced in ("done", "session_overlaps")
    await desk.checked()


async def test_a_cancellation_meets_the_beginning_of_its_lesson(desk: Desk) -> None:
    for _ in range(3):
        agreed = await desk.agreed()
        starts_at, ends_at = moment(agreed["starts_at"]), moment(agreed["ends_at"])
        await desk.go_to(starts_at)
        left = await desk.balance()

        cancelled, *_ = await together(
            desk.stage.do("booking.cancel", desk.tutor, now=starts_at - SECOND, booking_id=agreed["id"]),
            desk.join(agreed, desk.tutor),
            desk.join(agreed, desk.student),
        )
        await desk.run()
        await desk.go_to(ends_at + 10 * MINUTE)

        ended = await desk.get(agreed)
        if cancelled == "done":
            assert (ended["status"], ended["payment"]["state"]) == ("cancelled", "VOIDED")
            assert ended["has_strike"]
            assert await desk.balance() == left + PRICE
        else:
            assert cancelled == "already_started"
            assert (ended["status"], ended["payment"]["state"]) == ("ended", "CAPTURED")
            assert await desk.balance() == left
    await desk.checked()


async def test_who_gives_no_card_takes_no_more_time_by_asking_for_all_at_once(desk: Desk) -> None:
    answers = await together(
        *(desk.ask(NOON + (1 + number) * DAY, pay_with="card") for number in range(rules.UNPAID_MOST + 4))
    )

    assert Counter(answers) == {"done": rules.UNPAID_MOST, "card_missing": 4}
    await desk.checked()


async def test_administrators_hear_of_strikes_that_come_at_once(desk: Desk, engine: AsyncEngine) -> None:
    """Of different students: what they share is their tutor, who has all but two of many."""
    students = await desk.new_students(2)
    tutors: list[Principal] = []

    async def scene() -> Scene:
        tutors.append(await desk.new_tutor())
        wanted = {"tutor": tutors[-1]}
        for number in range(rules.STRIKES_MANY - 2):
            await desk.cancel(await desk.agreed(NOON + (4 + number) * HOUR, **wanted), tutors[-1])
        first, second = [
            await desk.agreed(NOON + number * HOUR, student=one, **wanted)
            for number, one in enumerate(students, 1)
        ]

        async def verify(*answers: object) -> None:
            assert answers == ("done", "done")
            await desk.run()
            assert (await desk.told(desk.admin)).count("tutor_strikes") == len(tutors)

        tutor = tutors[-1]
        return Scene(
            (answering(lambda: desk.cancel(first, tutor)), answering(lambda: desk.cancel(second, tutor))),
            verify,
        )

    # Each stops before its commit.
    await every_way(engine, scene, most=1)
    await desk.checked()


# A card ---------------------------------------------------------------------------------------------------------------


CARDS = ("saved", "to be given", "to be given for a far lesson")
ENDINGS = ("withdraw", "decline", "admin_cancels", "expire")
# The long form lives each of them some dozens of times.
FEW = (("expire", "to be given"),)


@pytest.mark.timeout(1_800)
async def test_a_card_is_brought_to_a_request_that_ends_meanwhile(
    desk: Desk, engine: AsyncEngine, *, full: bool
) -> None:
    """Whoever comes between whose steps, also while its job carries the card on: nothing stays on the card."""
    for deed, card in itertools.product(ENDINGS, CARDS) if full else FEW:
        await brought(desk, engine, deed, card, most=None if full else 2)
    assert {one["status"] for one in desk.at_stripe("payment_intent")} == {"canceled"}
    assert await desk.balance() == FUNDS
    await desk.checked()


async def brought(desk: Desk, engine: AsyncEngine, deed: str, card: str, *, most: int | None) -> None:
    async def scene() -> Scene:
        desk.at(desk.now + DAY)
        paying: Body = {"card": await desk.save_card()} if card == "saved" else {}
        starts_in = 20 * DAY if "far" in card else 26 * HOUR
        asked = await desk.ask(desk.now + starts_in, pay_with="card", **paying)
        pay = {"now": desk.now, "booking_id": asked["id"]}
        desk.at(moment(asked["answer_by"]))

        async def ends() -> None:
            if deed != "expire":
                await DEEDS[deed](desk, asked)
            await desk.jobs()

        async def verify(paid: object, ended: object) -> None:
            assert (paid, ended) == ("done", "done")
            await desk.run()
            after = await desk.get(asked)
            assert (after["status"], after["cancelled_by"]) == ENDS[deed]
            assert after["payment"]["state"] == "VOIDED"
            again = await desk.do("booking.pay", desk.student, booking_id=asked["id"])
            assert (again["state"], again["client_secret"]) == ("VOIDED", None)

        return Scene(
            (
                answering(lambda: desk.stage.do("booking.pay", desk.student, **pay)),
                answering(ends),
            ),
            verify,
        )

    assert await every_way(engine, scene, most=most) >= 4


@pytest.mark.timeout(1_800)
async def test_late_card_money_is_shared_before_an_administrator_decides_or_not_at_all(
    desk: Desk, engine: AsyncEngine, *, full: bool
) -> None:
    [owner] = await desk.stage.people(1, Role.OWNER)
    await desk.do("policy.set", owner, base_version=1, changes={"late_cancel_percent": 25}, reason=WHY)
    card = await desk.save_card()
    # A part, or all.
    for given_back in (1_000, None) if full else (1_000,):
        await shared_late(desk, engine, card, given_back, most=None if full else 1)
    await desk.checked()


async def shared_late(
    desk: Desk, engine: AsyncEngine, card: str, given_back: int | None, *, most: int | None
) -> None:
    share = PRICE // 4

    async def scene() -> Scene:
        asked = await desk.ask(NOON + HOUR, pay_with="card", card=card)
        await desk.do("booking.pay", desk.student, booking_id=asked["id"])
        await desk.accept(asked)
        await desk.cancel(asked)
        await desk.stage.relay.flush()
        await desk.jobs()
        hold_id = (await desk.get(asked))["hold_id"]
        part: Body = {} if given_back is None else {"money": {"amount": given_back, "currency": "USD"}}

        async def verify(shared: object, given: object) -> None:
            await desk.run()
            query = select(PaymentRefund).where(PaymentRefund.payment_id == asked["id"])
            async with desk.stage.parts.sessions() as session:
                back = [
                    (one.key, one.amount) for one in await session.scalars(query.order_by("settlement_no"))
                ]
            by_terms = [("late_cancel", share)] if ("late_cancel", share) in back else []
            rest = PRICE - share * len(by_terms)
            by_admin = rest if given_back is None else given_back
            if given == "done":
                # What an administrator decided is the last word.
                assert back == [*by_terms, (None, by_admin)]
            else:
                assert (given, back) == ("refund_too_large", by_terms)
                assert by_admin > rest

        return Scene(
            (
                answering(desk.stage.relay.flush),
                answering(lambda: desk.do("hold.refund", desk.admin, hold_id=hold_id, reason=WHY, **part)),
            ),
            verify,
        )

    assert await every_way(engine, scene, most=most) >= 2

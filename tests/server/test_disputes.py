"""Disputes, late refunds and goodwill as people and administrators see them."""

from datetime import timedelta
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest

from billing import card_disputes, payments, settlement
from billing.errors import (
    AlreadyDisputedError,
    DisputeNotFoundError,
    DisputeStateError,
    DisputeTooLateError,
    HoldNotFoundError,
    RefundTooLargeError,
)
from billing.models import DisputeReason, HoldId, OwnerId, PaymentMethod, SourceKind
from billing.payment_moves import Booking
from server import checks
from server.context import Principal, Role
from server.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from server.features.disputes.messages import Reason
from tests.billing.payments import open_shop
from tests.billing.world import PLANNED_S, buy, facts, new_hold, usd
from tests.server.stage import Stage

TEXT = "The tutor left after ten minutes."
NOTES = "The recording shows the whole lesson."
USD = {"currency": "USD"}


class Court:
    """A student and a tutor who do not agree, and an administrator."""

    def __init__(self, stage: Stage, student: Principal, tutor: Principal, admin: Principal) -> None:
        self.stage = stage
        self.student = student
        self.tutor = tutor
        self.admin = admin

    async def sell(self, price: int = 10_000) -> HoldId:
        """Have the student pay for a lesson of the tutor, and attend it."""
        parts, now, lesson = self.stage.parts, self.stage.parts.clock.now(), uuid4()
        student, tutor = OwnerId(self.student.user_id), OwnerId(self.tutor.user_id)
        money = {"amount": price, **USD}
        await self.stage.do(
            "wallet.adjust", self.admin, user_id=student, money=money, reason="money for the test"
        )
        hold = new_hold(
            price, lesson_id=lesson, tutor_id=tutor, tutor_bps=7_000, source_kind=SourceKind.BOOKING
        )
        [hold_id] = await buy(parts.sessions, student, hold)
        async with parts.sessions.begin() as session:
            known = facts(lesson, {student: PLANNED_S}, tutor_id=tutor, ended_at=now)
            await settlement.due(session, known, now=now)
            await settlement.settle(session, lesson, now=now)
        await self.stage.relay.flush()
        return hold_id

    async def book(self, price: int) -> HoldId:
        """Have the student book a lesson of the tutor, who agreed to it."""
        now = self.stage.parts.clock.now()
        money = {"amount": price, **USD}
        await self.stage.do(
            "wallet.adjust",
            self.admin,
            user_id=self.student.user_id,
            money=money,
            reason="money for the test",
        )
        booking = Booking(
            id=uuid4(),
            lesson_id=uuid4(),
            student_id=OwnerId(self.student.user_id),
            tutor_id=OwnerId(self.tutor.user_id),
            money=usd(price),
            tutor_bps=7_000,
            attribution="platform",
            policy_version=1,
            starts_at=now + timedelta(days=1),
        )
        async with self.stage.parts.sessions.begin() as session:
            row = await payments.open_payment(session, booking, method=PaymentMethod.WALLET, now=now)
            await payments.authorize(session, row.id, actor=f"user:{booking.tutor_id}", now=now)
            assert row.hold_id is not None
            return HoldId(row.hold_id)

    async def open(self, hold_id: UUID, person: Principal | None = None) -> dict[str, Any]:
        found: dict[str, Any] = await self.stage.do(
            "dispute.open", person or self.student, hold_id=hold_id, reason="session_quality", text=TEXT
        )
        return found

    async def resolve(self, dispute: dict[str, Any], decision: str, **fields: Any) -> dict[str, Any]:
        found: dict[str, Any] = await self.stage.do(
            "dispute.resolve",
            self.admin,
            dispute_id=dispute["id"],
            decision=decision,
            **{"notes": NOTES} | fields,
        )
        return found

    async def refund(self, hold_id: UUID, amount: int | None = None) -> dict[str, Any]:
        money: dict[str, Any] = {} if amount is None else {"money": {"amount": amount, **USD}}
        found: dict[str, Any] = await self.stage.do(
            "hold.refund", self.admin, hold_id=hold_id, reason="given back after a call", **money
        )
        return found

    async def told(self, person: Principal) -> list[str]:
        """What somebody was told since the last time."""
        await self.stage.relay.flush()
        items = (await self.stage.do("notification.list", person, unread=True))["items"]
        await self.stage.do("notification.read_all", person)
        return sorted(item["type"] for item in items)

    async def wallet(self) -> int:
        return int((await self.stage.do("wallet.get", self.student))["balance"]["amount"])

    async def violations(self) -> set[str]:
        """What is wrong, of everything that is checked."""
        await self.stage.relay.flush()
        async with self.stage.parts.sessions() as session:
            return {one.name for one in await checks.run(session)}


@pytest.fixture
async def court(stage: Stage) -> Court:
    [student] = await stage.people(1)
    [tutor] = await stage.people(1, Role.TUTOR)
    [admin] = await stage.people(1, Role.ADMIN)
    return Court(stage, student, tutor, admin)


async def test_a_dispute_goes_from_the_students_words_to_money_back_and_everybody_hears_of_it(
    court: Court,
) -> None:
    hold_id = await court.sell()
    for person in (court.student, court.tutor, court.admin):
        await court.told(person)

    opened = await court.open(hold_id)
    told_of_opening = [await court.told(person) for person in (court.student, court.tutor, court.admin)]
    standing = (await court.stage.do("earnings.get", court.tutor))["standing"]
    decided = await court.resolve(opened, "refunded", money={"amount": 5_000, **USD})

    assert (opened["status"], opened["text"], opened["opened_by"]) == ("open", TEXT, "student")
    assert told_of_opening == [["dispute_opened"]] * 3
    assert (standing["disputed"]["amount"], standing["pending"]["amount"]) == (7_000, 0)
    assert (decided["status"], decided["refunded"]["amount"], decided["rest"]["amount"]) == (
        "resolved_refunded",
        5_000,
        5_000,
    )
    assert await court.told(court.student) == ["dispute_refunded", "refund_processed"]
    assert await court.told(court.tutor) == ["dispute_refunded", "share_given_back"]
    assert await court.wallet() == 5_000
    shown = court.stage.seen(f"user:{court.tutor.user_id}", "dispute.updated")
    assert [one.data["status"] for one in shown] == ["open", "resolved_refunded"]
    hold = await court.stage.do("hold.get", court.student, hold_id=hold_id)
    assert "The decision of a dispute changed this on" in hold["explanation"]
    notices = (await court.stage.do("notification.list", court.student))["items"]
    assert {one["link"] for one in notices if one["type"].startswith("dispute_")} == {f"/holds/{hold_id}"}
    assert await court.violations() == set()


async def test_upheld_everything_stays(court: Court) -> None:
    opened = await court.open(await court.sell())

    decided = await court.resolve(opened, "upheld")
    await court.told(court.admin)

    assert (decided["status"], decided["notes"], decided["refunded"]) == ("resolved_upheld", NOTES, None)
    assert "dispute_upheld" in await court.told(court.student)
    assert await court.wallet() == 0
    assert await court.violations() == set()


async def test_the_people_who_are_no_party_know_nothing(court: Court) -> None:
    hold_id = await court.sell()
    opened = await court.open(hold_id)
    [stranger] = await court.stage.people(1)
    [other_tutor] = await court.stage.people(1, Role.TUTOR)

    for person in (stranger, other_tutor):
        with pytest.raises(NotFoundError):
            await court.stage.do("dispute.get", person, dispute_id=opened["id"])
        with pytest.raises(HoldNotFoundError):
            await court.open(hold_id, person)
        assert (await court.stage.do("dispute.list", person))["items"] == []
    with pytest.raises(HoldNotFoundError):
        await court.open(hold_id, court.tutor)
    with pytest.raises(DisputeNotFoundError):
        await court.stage.do("dispute.get", court.admin, dispute_id=uuid4())
    for person in (court.student, court.tutor, court.admin):
        assert (await court.stage.do("dispute.get", person, dispute_id=opened["id"]))["id"] == opened["id"]


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("dispute.resolve", {"dispute_id": uuid4(), "decision": "upheld", "notes": NOTES}),
        ("hold.refund", {"hold_id": uuid4(), "reason": "because I want it"}),
        (
            "wallet.goodwill",
            {"user_id": uuid4(), "money": {"amount": 1}, "why": "outage", "reason": "because I want it"},
        ),
    ],
)
async def test_only_administrators_decide(court: Court, op: str, fields: dict[str, Any]) -> None:
    for person in (court.student, court.tutor):
        with pytest.raises(ForbiddenError):
            await court.stage.do(op, person, **fields)


async def test_what_cannot_be_disputed_or_decided_says_so(court: Court) -> None:
    hold_id, late = await court.sell(), await court.sell()
    opened = await court.open(hold_id)
    with pytest.raises(AlreadyDisputedError):
        await court.open(hold_id)
    with pytest.raises(BadRequestError):
        await court.resolve(opened, "upheld", money={"amount": 1, **USD})
    with pytest.raises(RefundTooLargeError):
        await court.resolve(opened, "refunded", money={"amount": 10_001, **USD})
    await court.resolve(opened, "refunded")
    with pytest.raises(DisputeStateError):
        await court.resolve(opened, "upheld")
    clock = court.stage.parts.clock
    clock.pin(clock.now() + timedelta(days=30, seconds=1))
    with pytest.raises(DisputeTooLateError):
        await court.open(late)


async def test_disputes_are_listed_by_status_in_pages(court: Court) -> None:
    made = [await court.open(await court.sell()) for _ in range(3)]
    await court.resolve(made[0], "upheld")

    first = await court.stage.do("dispute.list", court.student, limit=2)
    second = await court.stage.do("dispute.list", court.student, limit=2, cursor=first["next_cursor"])
    waiting = await court.stage.do("dispute.list", court.admin, status="open")

    about_one = await court.stage.do("dispute.list", court.tutor, hold_id=made[1]["hold_id"])

    ids = [one["id"] for one in made]
    assert [one["id"] for one in about_one["items"]] == [ids[1]]
    assert [one["id"] for one in (*first["items"], *second["items"])] == ids[::-1]
    assert second["next_cursor"] is None
    assert {one["id"] for one in waiting["items"]} == set(ids[1:])


async def test_late_evidence_waits_for_an_administrator_who_closes_it_with_a_word(court: Court) -> None:
    parts, now = court.stage.parts, court.stage.parts.clock.now()
    student, tutor = OwnerId(court.student.user_id), OwnerId(court.tutor.user_id)
    money = {"amount": 20_000, **USD}
    await court.stage.do(
        "wallet.adjust", court.admin, user_id=student, money=money, reason="money for the test"
    )
    sold = []
    for _ in range(2):
        lesson = uuid4()
        sold += await buy(parts.sessions, student, new_hold(lesson_id=lesson, tutor_id=tutor))
        async with parts.sessions.begin() as session:
            for attended_s in (900, PLANNED_S):
                known = facts(lesson, {student: attended_s}, tutor_id=tutor, ended_at=now)
                if attended_s == 900:
                    await settlement.due(session, known, now=now)
                    await settlement.settle(session, lesson, now=now)
                else:
                    await settlement.reconsider(session, known, now=now)

    first = await court.stage.do("review.list", court.admin, limit=1)
    second = await court.stage.do("review.list", court.admin, cursor=first["next_cursor"])
    for person in (court.student, court.tutor):
        with pytest.raises(ForbiddenError):
            await court.stage.do("review.list", person)
        with pytest.raises(ForbiddenError):
            await court.stage.do("review.close", person, key="p", review_id=uuid4(), notes=NOTES)
    ask: dict[str, Any] = {"review_id": first["items"][0]["id"], "notes": NOTES}
    closed = [await court.stage.do("review.close", court.admin, key="k", **ask) for _ in range(2)]

    shown = [*first["items"], *second["items"]]
    assert {one["hold_id"] for one in shown} == {str(one) for one in sold}
    assert [(one["settled"], one["by_evidence"]) for one in shown] == [
        ({"amount": 10_000, **USD}, {"amount": 0, **USD})
    ] * 2
    assert closed[0] == closed[1]
    assert closed[0]["notes"] == NOTES
    assert (await court.stage.do("review.list", court.admin))["items"] == second["items"]
    assert (await court.stage.do("review.list", court.admin, state="closed"))["items"] == [closed[0]]


async def test_a_dispute_and_its_decision_are_asked_once_by_their_keys(court: Court) -> None:
    hold_id = await court.sell()
    other = await court.sell()
    ask: dict[str, Any] = {"hold_id": hold_id, "reason": "other", "text": TEXT}
    opened = [await court.stage.do("dispute.open", court.student, key="k", **ask) for _ in range(2)]

    decide: dict[str, Any] = {"dispute_id": opened[0]["id"], "decision": "refunded", "notes": NOTES}
    # A key that a client made up is none of those by which a decision happens once.
    ours = f"dispute:{opened[0]['id']}"
    await court.stage.do("hold.refund", court.admin, key=ours, hold_id=other, reason="after a call")
    decided = [await court.stage.do("dispute.resolve", court.admin, key="k", **decide) for _ in range(2)]

    assert opened[0] == opened[1]
    assert decided[0] == decided[1]
    assert await court.wallet() == 20_000


async def test_an_administrator_gives_back_what_is_held_whole_and_what_was_paid_in_parts(
    court: Court,
) -> None:
    held, released = await court.book(2_000), await court.sell()
    with pytest.raises(ConflictError):
        await court.refund(held, 500)

    first = await court.refund(held)
    second = await court.refund(released, 4_000)
    with pytest.raises(RefundTooLargeError):
        await court.refund(released, 6_001)
    third = await court.refund(released)

    assert [one["refunded"]["amount"] for one in (first, second, third)] == [2_000, 4_000, 6_000]
    assert [one["rest"]["amount"] for one in (first, second, third)] == [0, 6_000, 0]
    assert (second["from_tutor"]["amount"], second["owed"]["amount"]) == (2_800, 0)
    assert await court.wallet() == 12_000
    assert (await court.told(court.student)).count("refund_processed") == 3
    told = await court.told(court.tutor)
    assert (told.count("hold_given_back"), told.count("share_given_back")) == (1, 2)
    assert await court.violations() == set()


async def test_goodwill_is_given_by_administrators_up_to_their_limit_and_by_the_owner_above(
    court: Court,
) -> None:
    [boss] = await court.stage.people(1, Role.OWNER)

    async def give(who: Principal, amount: int) -> dict[str, Any]:
        found: dict[str, Any] = await court.stage.do(
            "wallet.goodwill",
            who,
            user_id=court.student.user_id,
            money={"amount": amount, **USD},
            why="outage",
            reason="the server was away",
        )
        return found

    given = await give(court.admin, 5_000)
    with pytest.raises(ForbiddenError):
        await give(court.admin, 5_001)
    with pytest.raises(NotFoundError):
        await court.stage.do(
            "wallet.goodwill",
            boss,
            user_id=uuid4(),
            money={"amount": 1},
            why="outage",
            reason="nobody at all",
        )
    more = await give(boss, 5_001)

    assert (given["balance"]["amount"], more["balance"]["amount"]) == (5_000, 10_001)
    assert await court.told(court.student) == ["goodwill_given", "goodwill_given"]
    [entry, _] = (await court.stage.do("wallet.entries", court.student))["items"]
    assert (entry["kind"], entry["reason"]) == ("goodwill", "the server was away")
    assert await court.violations() == set()


async def test_a_bank_that_takes_a_payment_back_is_told_to_the_payer_and_the_administrators(
    court: Court,
) -> None:
    async with open_shop(court.stage.parts.sessions) as shop:
        shop.now = court.stage.parts.clock.now()
        step = await shop.start(OwnerId(court.student.user_id), 3_000)
        await shop.fake.pay(step.top_up.checkout_id or "")
        await shop.tell_all()
        for person in (court.student, court.admin):
            await court.told(person)

        payment = (await shop.top_up(step.top_up.id)).payment_id
        dispute = (await shop.fake.act(f"/payments/{payment}/dispute")).body["id"]
        await shop.tell_all()
        opened = [await court.told(person) for person in (court.student, court.admin)]
        await shop.fake.act(f"/disputes/{dispute}/decide", won=False)
        await card_disputes.look(shop.sessions, shop.api, now=shop.now)
        lost = [await court.told(person) for person in (court.student, court.admin)]

    assert opened == [["card_dispute_open"]] * 2
    assert lost == [["card_dispute_lost"]] * 2
    assert await court.wallet() == 0
    assert await court.violations() == set()


def test_a_student_may_give_every_reason_but_ours() -> None:
    assert set(get_args(Reason)) == {reason.value for reason in DisputeReason} - {DisputeReason.CONTRADICTION}

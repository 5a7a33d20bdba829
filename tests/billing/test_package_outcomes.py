"""A lesson of a package is a booking that is paid already: who came decides.

What was settled when attendance decided stays as it is, and late evidence of it is judged by the rule of then.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from billing import checks, settlement
from billing.explanation import explain
from billing.models import Cause, HoldId
from billing.packages import EXPIRY_GRACE
from billing.policy import Changes
from billing.settlement import Reconsidered
from tests.billing.earner import Earner
from tests.billing.seller import Seller, enact
from tests.billing.world import (
    NOW,
    PLANNED_S,
    Sessions,
    balance,
    end,
    facts,
    usd,
    violations,
)

DAY = timedelta(days=1)
# Of a lesson for 10,000 by the first tier.
PRICE, TUTORS, OURS = 10_000, 8_000, 2_000


@pytest.fixture
def seller(sessions: Sessions) -> Seller:
    return Seller(sessions)


async def taken(seller: Seller, **package: Any) -> tuple[UUID, UUID, HoldId]:
    """Sell two lessons and take one; return the package, the lesson, and the hold that pays for it."""
    package_id, lesson = await seller.sell(lessons=2, price=2 * PRICE, **package), uuid4()
    return package_id, lesson, await seller.use(package_id, lesson)


async def parts(seller: Seller, hold_id: HoldId) -> tuple[Cause | None, int, int, int]:
    view = await seller.view(hold_id)
    return view.cause, view.tutor_share.amount, view.platform_share.amount, view.refunded.amount


# Who came -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("student_s", [0, 1, PLANNED_S], ids=["absent", "a second", "whole"])
@pytest.mark.parametrize("tutor_s", [1, PLANNED_S // 10, PLANNED_S], ids=["a second", "a tenth", "whole"])
async def test_a_tutor_who_came_is_paid_whether_or_not_the_student_did(
    seller: Seller, student_s: int, tutor_s: int
) -> None:
    package_id, lesson, hold_id = await taken(seller)

    await seller.teach(lesson, attended_s=student_s, tutor_attended_s=tutor_s)

    assert await parts(seller, hold_id) == (Cause.OUTCOME, TUTORS, OURS, 0)
    assert (await seller.pending(), await balance(seller.sessions, seller.student)) == (TUTORS, 0)
    assert await seller.counts(package_id) == ("active", 2, 1, 1)
    assert await violations(seller.sessions) == []


@pytest.mark.parametrize(
    "why",
    [
        {"attended_s": PLANNED_S, "tutor_attended_s": 0},
        {"attended_s": 0, "tutor_attended_s": 0},
        {"attended_s": 0, "tutor_attended_s": 0, "total_s": 0},
        {"attended_s": 0, "cancelled": True},
    ],
    ids=["only the student", "nobody", "never began", "cancelled"],
)
async def test_a_lesson_to_which_no_tutor_came_goes_back_and_where_that_helps_nobody_its_money(
    seller: Seller, why: dict[str, Any]
) -> None:
    open_, back, _ = await taken(seller)
    ended, lost, hold_id = await taken(seller, validity_days=30)
    await seller.passes(31 * DAY)
    paid_for_the_untaken = await seller.pending()

    for lesson in (back, lost):
        await seller.teach(lesson, **why)

    assert await seller.counts(open_) == ("active", 2, 0, 2)
    assert await seller.counts(ended) == ("expired", 2, 1, 1)
    cause = Cause.CANCELLED if "cancelled" in why else Cause.OUTCOME
    assert await parts(seller, hold_id) == (cause, 0, 0, PRICE)
    assert await balance(seller.sessions, seller.student) == PRICE
    assert await seller.pending() == paid_for_the_untaken == TUTORS
    assert await violations(seller.sessions) == []


async def test_a_tutor_who_never_came_is_absent_although_the_terms_ask_for_nothing(seller: Seller) -> None:
    await enact(seller.sessions, Changes(attendance_percent=0))
    package_id, lesson, _ = await taken(seller)
    # Of no seconds none are required.
    known = facts(lesson, {}, tutor_id=seller.tutor, tutor_attended_s=0)

    await end(seller.sessions, msgspec.structs.replace(known, tutor_absent=False))

    assert await seller.counts(package_id) == ("active", 2, 0, 2)
    assert await violations(seller.sessions) == []


async def test_what_would_be_paid_is_foreseen_and_what_would_go_back_is_not(seller: Seller) -> None:
    _, lesson, _ = await taken(seller)

    async def foreseen(tutor_s: int) -> list[tuple[int, int]]:
        known = facts(lesson, {}, tutor_id=seller.tutor, tutor_attended_s=tutor_s)
        async with seller.sessions() as session:
            found = await settlement.foresee(session, known)
        return [(one.decision.to_tutor, one.decision.to_student) for one in found]

    assert [await foreseen(1), await foreseen(0)] == [[(TUTORS, 0)], []]


# Evidence that comes late -------------------------------------------------------------------------------------------


async def test_late_evidence_says_who_came_after_all_in_either_direction(seller: Seller) -> None:
    _, lesson, hold_id = await taken(seller)
    await seller.teach(lesson, attended_s=0)

    student_came = await seller.hears_late(lesson, attended_s=900)
    nobody_came = await seller.hears_late(lesson, attended_s=900, tutor_attended_s=0)
    back = await balance(seller.sessions, seller.student)
    tutor_came = await seller.hears_late(lesson, attended_s=0, tutor_attended_s=1)

    assert student_came == Reconsidered()
    assert nobody_came == tutor_came == Reconsidered(adjusted=(hold_id,))
    assert (back, await balance(seller.sessions, seller.student), await seller.pending()) == (
        PRICE,
        0,
        TUTORS,
    )
    view = await seller.view(hold_id)
    assert [(one.tutor_share, one.refunded) for one in view.adjustments] == [
        (usd(0), usd(PRICE)),
        (usd(TUTORS), usd(0)),
    ]
    assert explain(view).endswith(
        "By all that is known now, the student attended 0:00 of 1:30:00, and the tutor 0:01. The tutor is paid for"
        " having come."
    )
    assert explain(view, "vi").endswith("Gia sư được trả vì đã có mặt.")
    assert await violations(seller.sessions) == []


async def test_late_evidence_outside_the_risk_window_is_for_people(seller: Seller) -> None:
    _, lesson, hold_id = await taken(seller)
    await seller.teach(lesson)
    seller.now += 7 * DAY

    late = await seller.hears_late(lesson, attended_s=PLANNED_S, tutor_attended_s=0)

    assert late == Reconsidered(to_review=(hold_id,))
    assert await seller.in_review() == {(hold_id, lesson, PRICE)}
    assert await violations(seller.sessions) == []


async def test_money_that_went_back_from_an_ended_package_follows_late_evidence(seller: Seller) -> None:
    _, lesson, hold_id = await taken(seller, validity_days=30)
    await seller.passes(31 * DAY)
    await seller.teach(lesson, tutor_attended_s=0)

    late = await seller.hears_late(lesson, attended_s=0, tutor_attended_s=1)

    assert late == Reconsidered(adjusted=(hold_id,))
    assert await balance(seller.sessions, seller.student) == 0
    assert await violations(seller.sessions) == []


async def test_a_lesson_that_went_back_was_given_if_its_tutor_was_there_for_a_second(seller: Seller) -> None:
    _, lesson, hold_id = await taken(seller)
    await seller.teach(lesson, tutor_attended_s=0)

    late = await seller.hears_late(lesson, attended_s=0, tutor_attended_s=1)

    assert late == Reconsidered(to_review=(hold_id,))
    assert await seller.in_review() == {(hold_id, lesson, 0)}
    assert await violations(seller.sessions) == []


# When attendance decided ----------------------------------------------------------------------------------------------


async def test_what_attendance_settled_is_judged_by_attendance_again(seller: Seller) -> None:
    package_id, lesson, hold_id = await taken(seller)
    await seller.taught_once(lesson, attended_s=1_079)
    once = await parts(seller, hold_id)

    too_little = await seller.hears_late(lesson, attended_s=1_078)
    enough = await seller.hears_late(lesson, attended_s=1_080)
    paid = await seller.pending()
    tutor_absent = await seller.hears_late(lesson, attended_s=1_080, tutor_attended_s=1_079)

    assert once == (Cause.ATTENDANCE, 0, 0, PRICE)
    assert too_little == Reconsidered()
    assert enough == tutor_absent == Reconsidered(adjusted=(hold_id,))
    assert (paid, await seller.pending(), await balance(seller.sessions, seller.student)) == (
        TUTORS,
        0,
        PRICE,
    )
    assert "where at least 18:00 (20 %) were needed" in explain(await seller.view(hold_id))
    assert await seller.counts(package_id) == ("active", 2, 1, 1)
    assert await violations(seller.sessions) == []


async def test_what_went_back_for_too_little_of_its_tutor_is_judged_by_that_again(seller: Seller) -> None:
    _, lesson, hold_id = await taken(seller)
    await seller.taught_once(lesson, tutor_attended_s=540)
    sound = await violations(seller.sessions)

    too_little = await seller.hears_late(lesson, attended_s=PLANNED_S, tutor_attended_s=541)
    enough = await seller.hears_late(lesson, attended_s=PLANNED_S, tutor_attended_s=1_080)

    assert too_little == Reconsidered()
    assert enough == Reconsidered(to_review=(hold_id,))
    assert sound == await violations(seller.sessions) == []


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        ("settled_by_facts", "update hold_settlement set tutor_attended_s = null where hold_id = :paid"),
        ("settled_by_facts", "update hold_settlement set tutor_attended_s = 2 where hold_id = :paid"),
        ("settled_by_facts", "update hold_settlement set cause = 'attendance' where hold_id = :paid"),
        ("settled_by_facts", "update lesson_facts set tutor_attended_s = 0 where lesson_id = :lesson"),
        ("late_evidence_is_heard", "update lesson_facts set tutor_attended_s = 0 where lesson_id = :lesson"),
        ("return_is_heard", "update lesson_facts set tutor_attended_s = 1 where lesson_id = :back"),
        ("return_is_heard", "update package_return set is_by_outcome = true where lesson_id = :once"),
    ],
)
async def test_a_fault_of_a_lesson_that_who_came_decided_is_found(
    seller: Seller, check: str, fault: str
) -> None:
    (_, lesson, paid), (_, back, _), (_, once, _) = [await taken(seller) for _ in range(3)]
    await seller.teach(lesson, attended_s=0)
    await seller.hears_late(lesson, attended_s=1)
    await seller.teach(back, tutor_attended_s=0)
    await seller.taught_once(once, tutor_attended_s=1)
    sound = await violations(seller.sessions)

    async with seller.sessions.begin() as session:
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(
            text("alter table hold_settlement drop constraint ck_hold_settlement_outcome_rule")
        )
        await session.execute(
            text("alter table hold_settlement drop constraint ck_hold_settlement_attendance_rule")
        )
        named = {"paid": paid, "lesson": lesson, "back": back, "once": once}
        await session.execute(text(fault), {name: one for name, one in named.items() if f":{name}" in fault})
        found = [violation.name for violation in await checks.run(session)]
        await session.rollback()

    assert sound == []
    assert check in found


# What is paid at once -------------------------------------------------------------------------------------------------


async def owes(seller: Seller, amount: int) -> None:
    """Have terms without a risk window, and a tutor who owes something."""
    await enact(seller.sessions, Changes(booking_risk_days=0))
    earner = Earner(seller.sessions)
    earner.tutor = seller.tutor
    await earner.owe(amount)


async def debt(seller: Seller) -> int:
    query = text("select balance from ledger_account where kind = 'tutor_debt' and owner_id = :id")
    async with seller.sessions() as session:
        return -int(await session.scalar(query, {"id": seller.tutor}) or 0)


async def test_debts_are_repaid_from_what_expires_without_a_risk_window(seller: Seller) -> None:
    await owes(seller, 2 * TUTORS + 1)
    await seller.sell(lessons=2, price=2 * PRICE, validity_days=1)

    await seller.passes(DAY + EXPIRY_GRACE)

    assert await debt(seller) == 1
    assert await violations(seller.sessions) == []


# What the database guarantees -----------------------------------------------------------------------------------------


async def test_a_lesson_that_was_given_does_not_go_back_by_whoever_writes(seller: Seller) -> None:
    _, lesson, hold_id = await taken(seller)
    async with seller.sessions.begin() as session:
        known = facts(lesson, {}, tutor_id=seller.tutor)
        await settlement.due(session, known, now=NOW)
        await session.execute(text("delete from settle_due where lesson_id = :lesson"), {"lesson": lesson})

    with pytest.raises(DBAPIError, match="LESSON_OVER"):
        async with seller.sessions.begin() as session:
            await session.execute(text("update hold set lesson_id = null where id = :id"), {"id": hold_id})

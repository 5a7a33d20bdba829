"""A lesson of a package is a booking that is paid already: who came decides, and late cancelling costs it.

What was settled when attendance decided stays as it is, and late evidence of it is judged by the rule of then.
"""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from billing import checks, packages, settlement
from billing.errors import HoldNotHeldError, LessonNotTakenError, LessonOverError, PackageNotFoundError
from billing.explanation import explain
from billing.models import Cause, HoldId, HoldStatus
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
    blocked,
    end,
    events,
    facts,
    refusals,
    revenue,
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


# Cancelled too late ---------------------------------------------------------------------------------------------------


async def test_a_lesson_that_is_cancelled_too_late_is_paid_whole_and_stays_taken(seller: Seller) -> None:
    package_id, lesson, hold_id = await taken(seller)
    told = len(await events(seller.sessions))

    forfeited = await seller.forfeit(package_id, lesson, reason="I am ill.")

    assert forfeited == hold_id
    assert await parts(seller, hold_id) == (Cause.FORFEITED, TUTORS, OURS, 0)
    assert await seller.counts(package_id) == ("active", 2, 1, 1)
    assert (await seller.pending(), await revenue(seller.sessions)) == (TUTORS, OURS)
    view = await seller.view(hold_id)
    assert (view.lesson_id, view.settled_by, view.reason) == (lesson, "student", "I am ill.")
    assert explain(view).startswith(
        "The student cancelled the lesson too late or did not come. So its 100.00 USD"
    )
    assert "gone back to its package" in explain(view)
    assert "trả lại vào gói" in explain(view, "vi")
    assert (await events(seller.sessions))[told:] == ["hold.released", "wallet.changed", "wallet.changed"]
    assert await violations(seller.sessions) == []


async def test_cancelling_too_late_again_is_harmless_whatever_came_after(seller: Seller) -> None:
    package_id, lesson, hold_id = await taken(seller)
    await seller.forfeit(package_id, lesson)
    await seller.teach(lesson, cancelled=True)
    told = await events(seller.sessions)

    again = await seller.forfeit(package_id, lesson, actor="admin:1", reason="after a call with them")

    assert again == hold_id
    assert await events(seller.sessions) == told
    assert await parts(seller, hold_id) == (Cause.FORFEITED, TUTORS, OURS, 0)
    assert await violations(seller.sessions) == []


async def test_what_is_forfeited_neither_goes_back_nor_is_judged_by_evidence(seller: Seller) -> None:
    package_id, lesson, hold_id = await taken(seller)
    await seller.forfeit(package_id, lesson)

    given_back = await seller.give_back(package_id, lesson)
    await seller.teach(lesson, tutor_attended_s=0)
    late = await seller.hears_late(lesson, attended_s=1, tutor_attended_s=0)

    assert not given_back
    assert late == Reconsidered()
    assert await parts(seller, hold_id) == (Cause.FORFEITED, TUTORS, OURS, 0)
    assert await seller.counts(package_id) == ("active", 2, 1, 1)
    assert await violations(seller.sessions) == []


@pytest.mark.parametrize("end_of_it", ["expired", "refunded", "exhausted"])
async def test_a_lesson_is_forfeited_whatever_has_become_of_its_package(
    seller: Seller, end_of_it: str
) -> None:
    package_id, lesson, hold_id = await taken(seller, validity_days=1)
    match end_of_it:
        case "expired":
            await seller.passes(DAY + EXPIRY_GRACE)
        case "refunded":
            await seller.refund(package_id)
        case _:
            await seller.use(package_id)

    await seller.forfeit(package_id, lesson)

    assert (await seller.package(package_id)).status == end_of_it
    assert await parts(seller, hold_id) == (Cause.FORFEITED, TUTORS, OURS, 0)
    assert await violations(seller.sessions) == []


async def test_what_cannot_be_forfeited_is_refused_in_words_and_nothing_moves(seller: Seller) -> None:
    package_id, lesson, given_back_alone = await taken(seller)
    over, elsewhere = uuid4(), uuid4()
    other = await seller.sell(lessons=1)
    await seller.use(other, elsewhere)
    await seller.use(package_id, over)
    async with seller.sessions.begin() as session:
        await settlement.due(session, facts(over, {}, tutor_id=seller.tutor), now=seller.now)
        await packages.refund_taken(
            session, package_id, given_back_alone, actor="admin:1", reason="after a call", now=seller.now
        )

    async def refused(error: type[Exception], package: UUID, of: UUID) -> None:
        with pytest.raises(error):
            await seller.forfeit(package, of)

    await refused(PackageNotFoundError, uuid4(), lesson)
    await refused(LessonNotTakenError, package_id, uuid4())
    await refused(LessonNotTakenError, package_id, elsewhere)
    await refused(HoldNotHeldError, package_id, lesson)
    await refused(LessonOverError, package_id, over)
    codes = await refusals(
        seller.sessions,
        seller.forfeits(package_id, over),
        seller.forfeits(package_id, lesson),
        seller.forfeits(other, elsewhere, actor="admin:1", reason="  short   "),
    )
    assert codes == ["lesson_over", "hold_not_held", "reason_too_short"]
    assert await seller.pending() == 0


async def test_of_a_lesson_that_was_taken_anew_the_slice_that_is_held_is_forfeited(seller: Seller) -> None:
    package_id, lesson, first = await taken(seller)
    async with seller.sessions.begin() as session:
        await packages.refund_taken(
            session, package_id, first, actor="admin:1", reason="after a call", now=seller.now
        )
    second = await seller.use(package_id, lesson)

    assert await seller.forfeit(package_id, lesson) == second

    assert [one.status for one in await seller.slices(package_id)] == [
        HoldStatus.REFUNDED,
        HoldStatus.RELEASED,
    ]
    assert await violations(seller.sessions) == []


async def test_of_many_who_end_a_lesson_at_once_one_does(seller: Seller, full: bool) -> None:
    """Cancelled too late twice, given back, and held, all at the same moment."""
    for _ in range(50 if full else 5):
        package_id, lesson, hold_id = await taken(seller)

        async def held(lesson: UUID = lesson) -> None:
            await end(seller.sessions, facts(lesson, {}, tutor_id=seller.tutor), now=seller.now)

        found = await asyncio.gather(
            seller.forfeit(package_id, lesson),
            seller.give_back(package_id, lesson),
            held(),
            seller.forfeit(package_id, lesson),
            return_exceptions=True,
        )

        refused = (HoldNotHeldError, LessonNotTakenError, LessonOverError)
        assert all(isinstance(one, (bool, UUID, *refused)) or one is None for one in found)
        gone_back = found[1] is True
        assert await parts(seller, hold_id) in (
            [(None, 0, 0, 0)]
            if gone_back
            else [(Cause.FORFEITED, TUTORS, OURS, 0), (Cause.OUTCOME, TUTORS, OURS, 0)]
        )
        assert await seller.counts(package_id) == ("active", 2, 1 - gone_back, 1 + gone_back)
    assert await violations(seller.sessions) == []


async def test_whoever_forfeits_waits_for_who_has_the_package(seller: Seller) -> None:
    """The order of locks is lesson, package, hold: whoever has a package is let finish before its hold is asked for."""
    package_id, lesson, hold_id = await taken(seller)

    async def forfeit() -> None:
        with pytest.raises(HoldNotHeldError):
            await seller.forfeit(package_id, lesson)

    async with asyncio.TaskGroup() as tasks, seller.sessions.begin() as other:
        await packages.locked(other, package_id)
        tasks.create_task(forfeit())
        await blocked(seller.sessions)
        await packages.refund_taken(
            other, package_id, hold_id, actor="admin:1", reason="after a call", now=seller.now
        )

    assert await parts(seller, hold_id) == (Cause.ADMIN, 0, 0, PRICE)


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


async def test_debts_are_repaid_from_what_is_forfeited_without_a_risk_window(seller: Seller) -> None:
    await owes(seller, TUTORS + 1)
    package_id, lesson, _ = await taken(seller)

    await seller.forfeit(package_id, lesson)

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

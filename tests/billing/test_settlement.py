import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import select, text

from billing import hold_views, holds, reviews, settlement, wallet
from billing.errors import (
    HoldNotHeldError,
    LessonNotSettledError,
    ReasonTooShortError,
    ReviewClosedError,
    ReviewNotFoundError,
)
from billing.facts import LessonFacts
from billing.models import Cause, HoldId, HoldStatus, Journal, JournalKind, Outbox, OwnerId, SourceKind
from tests.billing.world import (
    NOW,
    PLANNED_S,
    Sessions,
    balance,
    buy,
    earnings,
    end,
    events,
    facts,
    fund,
    new_hold,
    newest_journal,
    owner,
    revenue,
    usd,
    violations,
)

LATER = NOW + timedelta(days=1)

# Slices have a risk window; these belong to no package, so what was not given goes back to the wallet.
NO_PACKAGE = ["slice_has_package"]


async def sold(
    sessions: Sessions,
    lesson: UUID,
    *,
    amount: int = 10_000,
    tutor_id: OwnerId | None = None,
    tutor_bps: int = 3_000,
    source_kind: SourceKind = SourceKind.COURSE_SESSION,
) -> tuple[OwnerId, HoldId]:
    """A student with nothing left, and the hold for the lesson."""
    student = owner()
    await fund(sessions, student, amount)
    hold = new_hold(amount, lesson_id=lesson, tutor_id=tutor_id, tutor_bps=tutor_bps, source_kind=source_kind)
    [hold_id] = await buy(sessions, student, hold)
    return student, hold_id


async def seen(sessions: Sessions, hold_id: UUID) -> hold_views.HoldView:
    async with sessions() as session:
        return await hold_views.view(session, hold_id)


async def reconsider(sessions: Sessions, known: LessonFacts, *, days: int = 1) -> settlement.Reconsidered:
    async with sessions.begin() as session:
        return await settlement.reconsider(session, known, now=NOW + timedelta(days=days))


async def settled_rows(sessions: Sessions) -> int:
    async with sessions() as session:
        return int(await session.scalar(text("select count(*) from hold_settlement where number = 0")) or 0)


async def test_attendance_decides_each_hold_by_its_own_split(sessions: Sessions) -> None:
    lesson, tutor = uuid4(), owner()
    organic, first = await sold(sessions, lesson, tutor_id=tutor, tutor_bps=3_000)
    referred, second = await sold(sessions, lesson, tutor_id=tutor, tutor_bps=7_000)
    missed, third = await sold(sessions, lesson, tutor_id=tutor)

    settled = await end(sessions, facts(lesson, {organic: 4_800, referred: 4_800, missed: 900}))

    assert settled is not None
    assert set(settled.released) == {first, second}
    assert settled.refunded == (third,)
    assert await earnings(sessions, tutor) == 3_000 + 7_000
    assert await revenue(sessions) == 7_000 + 3_000
    assert await balance(sessions, missed) == 10_000
    assert await balance(sessions, organic) == 0
    assert await violations(sessions) == []


async def test_a_student_who_never_came_is_refunded(sessions: Sessions) -> None:
    lesson = uuid4()
    student, hold_id = await sold(sessions, lesson)

    await end(sessions, facts(lesson, {}))

    assert await balance(sessions, student) == 10_000
    assert (await seen(sessions, hold_id)).cause is Cause.ATTENDANCE


@pytest.mark.parametrize(
    ("attended_s", "status"), [(1_079, HoldStatus.REFUNDED), (1_080, HoldStatus.RELEASED)]
)
async def test_the_border_is_inclusive(sessions: Sessions, attended_s: int, status: HoldStatus) -> None:
    lesson = uuid4()
    student, hold_id = await sold(sessions, lesson)

    await end(sessions, facts(lesson, {student: attended_s}))

    assert (await seen(sessions, hold_id)).status is status
    assert await violations(sessions) == []


async def test_who_attended_a_lesson_that_the_tutor_cut_short_has_attended(sessions: Sessions) -> None:
    lesson = uuid4()
    student, hold_id = await sold(sessions, lesson)

    await end(sessions, facts(lesson, {student: 600}, total_s=3_000, tutor_attended_s=3_000))

    assert (await seen(sessions, hold_id)).status is HoldStatus.RELEASED


async def test_an_absent_tutor_refunds_everyone(sessions: Sessions) -> None:
    lesson = uuid4()
    present, hold_id = await sold(sessions, lesson)
    absent, _ = await sold(sessions, lesson)

    await end(sessions, facts(lesson, {present: PLANNED_S}, tutor_attended_s=1_079))

    assert [await balance(sessions, student) for student in (present, absent)] == [10_000, 10_000]
    assert (await seen(sessions, hold_id)).cause is Cause.TUTOR_ABSENT
    assert await violations(sessions) == []


async def test_a_cancelled_lesson_refunds_everyone(sessions: Sessions) -> None:
    lesson = uuid4()
    student, hold_id = await sold(sessions, lesson)

    await end(sessions, facts(lesson, {student: PLANNED_S}, cancelled=True, tutor_attended_s=0, total_s=0))

    assert await balance(sessions, student) == 10_000
    hold = await seen(sessions, hold_id)
    assert (hold.cause, hold.reason, hold.settled_by) == (Cause.CANCELLED, None, "system")
    assert await violations(sessions) == []


async def test_a_cancelled_lesson_names_who_cancelled_it_and_why(sessions: Sessions) -> None:
    lesson, tutor = uuid4(), owner()
    _, hold_id = await sold(sessions, lesson, tutor_id=tutor)
    known = msgspec.structs.replace(
        facts(lesson, tutor_id=tutor, cancelled=True, tutor_attended_s=0, total_s=0),
        actor=f"user:{tutor}",
        reason="the tutor is ill",
    )

    await end(sessions, known)

    hold = await seen(sessions, hold_id)
    assert (hold.cause, hold.reason, hold.settled_by) == (Cause.CANCELLED, "the tutor is ill", "tutor")
    async with sessions() as session:
        events = await session.scalars(select(Outbox.data).where(Outbox.type == "hold.refunded"))
        assert [event["reason"] for event in events] == ["the tutor is ill"]
        journal = await session.execute(
            select(Journal.actor, Journal.reason).where(Journal.kind == JournalKind.SETTLEMENT)
        )
        assert journal.all() == [(f"user:{tutor}", "the tutor is ill")]
    assert await violations(sessions) == []


async def test_a_cent_goes_to_the_platform_when_it_cannot_be_divided(sessions: Sessions) -> None:
    lesson, tutor = uuid4(), owner()
    student, _ = await sold(sessions, lesson, amount=1, tutor_id=tutor)

    await end(sessions, facts(lesson, {student: PLANNED_S}))

    assert (await earnings(sessions, tutor), await revenue(sessions)) == (0, 1)
    assert await violations(sessions) == []


async def test_a_lesson_without_holds_is_settled_without_a_journal(sessions: Sessions) -> None:
    settled = await end(sessions, facts(uuid4(), {owner(): PLANNED_S}))

    assert settled is not None
    assert (settled.released, settled.refunded) == ((), ())
    assert await events(sessions) == []


async def test_the_events_of_a_settlement_tell_everybody(sessions: Sessions) -> None:
    lesson = uuid4()
    came, _ = await sold(sessions, lesson)
    await sold(sessions, lesson)
    before = len(await events(sessions))

    await end(sessions, facts(lesson, {came: PLANNED_S}))

    told = (await events(sessions))[before:]
    assert sorted(told) == ["hold.refunded", "hold.released"] + ["wallet.changed"] * 3


async def test_second_settlement_moves_no_money(sessions: Sessions) -> None:
    lesson = uuid4()
    student, _ = await sold(sessions, lesson)
    known = facts(lesson, {student: PLANNED_S})
    await end(sessions, known)
    before = await events(sessions)

    assert await end(sessions, known) is None
    assert await settlement.sweep(sessions, LATER) == 0

    assert await events(sessions) == before


async def test_facts_are_frozen_by_the_first_who_tells_them(sessions: Sessions) -> None:
    lesson = uuid4()
    student, hold_id = await sold(sessions, lesson)

    async with sessions.begin() as session:
        first = await settlement.due(session, facts(lesson, {student: PLANNED_S}), now=NOW)
    async with sessions.begin() as session:
        second = await settlement.due(session, facts(lesson, {}), now=NOW)
    await settlement.sweep(sessions, NOW)

    assert (first, second) == (True, False)
    assert (await seen(sessions, hold_id)).status is HoldStatus.RELEASED


async def test_the_sweeper_settles_what_nobody_settled(sessions: Sessions) -> None:
    lessons = [uuid4() for _ in range(5)]
    for lesson in lessons:
        student, _ = await sold(sessions, lesson)
        async with sessions.begin() as session:
            await settlement.due(session, facts(lesson, {student: PLANNED_S}), now=NOW)

    assert await settlement.sweep(sessions, NOW - timedelta(seconds=1)) == 0
    assert await settlement.sweep(sessions, NOW) == 5

    assert await violations(sessions) == []


async def test_a_lesson_that_cannot_be_settled_keeps_no_other_waiting(sessions: Sessions) -> None:
    broken, whole = uuid4(), uuid4()
    for lesson in (broken, whole):
        student, _ = await sold(sessions, lesson)
        async with sessions.begin() as session:
            await settlement.due(session, facts(lesson, {student: PLANNED_S}), now=NOW)
    async with sessions.begin() as session:
        # The key of the broken lesson's settlement is taken by something else.
        await session.execute(text("select set_config('ledger.posting', 'on', true)"))
        await session.execute(
            text("insert into ledger_request values ('settle', :key, sha256('x'), 0)"), {"key": str(broken)}
        )

    assert await settlement.sweep(sessions, NOW) == 1

    async with sessions() as session:
        assert (await session.scalars(text("select lesson_id from settle_due"))).all() == [broken]


async def test_eight_settlements_a_sweep_and_refunds_at_once_settle_each_hold_once(
    sessions: Sessions,
) -> None:
    lesson = uuid4()
    pairs = [await sold(sessions, lesson) for _ in range(6)]
    async with sessions.begin() as session:
        await settlement.due(session, facts(lesson, {student: PLANNED_S for student, _ in pairs}), now=NOW)

    async def settle() -> int:
        async with sessions.begin() as session:
            settled = await settlement.settle(session, lesson, now=NOW)
        return 0 if settled is None else len(settled.released)

    async def refund(hold_id: HoldId) -> int:
        try:
            async with sessions.begin() as session:
                return len(
                    await holds.refund(
                        session,
                        [hold_id],
                        cause=Cause.CANCELLED,
                        actor="user:1",
                        reason="race",
                        key=str(hold_id),
                        now=NOW,
                    )
                )
        except HoldNotHeldError:
            return 0

    tasks = [settle() for _ in range(8)] + [refund(hold_id) for _, hold_id in pairs[:3]]
    swept, *moved = await asyncio.gather(settlement.sweep(sessions, NOW), *tasks)

    assert swept + sum(1 for released in moved[:8] if released) == 1
    assert await settled_rows(sessions) == 6
    assert await violations(sessions) == []


async def test_lessons_of_the_same_people_settle_at_once_without_deadlock(sessions: Sessions) -> None:
    tutor, students = owner(), [owner() for _ in range(5)]
    lessons = [uuid4() for _ in range(10)]
    for student in students:
        await fund(sessions, student, 10_000)
        for lesson in lessons:
            await buy(sessions, student, new_hold(1_000, lesson_id=lesson, tutor_id=tutor))

    await asyncio.gather(
        *(
            end(sessions, facts(lesson, dict.fromkeys(students, PLANNED_S if number % 2 else 0)))
            for number, lesson in enumerate(lessons)
        )
    )

    assert await earnings(sessions, tutor) == 5 * 5 * 300
    assert await violations(sessions) == []


async def test_late_evidence_outside_the_risk_window_is_for_people(sessions: Sessions) -> None:
    lesson = uuid4()
    student, hold_id = await sold(sessions, lesson)
    await end(sessions, facts(lesson, {student: 900}))
    late = facts(lesson, {student: 4_800})

    first = await reconsider(sessions, late)
    again = await reconsider(sessions, late)

    assert first == settlement.Reconsidered(to_review=(hold_id,))
    assert again == settlement.Reconsidered()
    assert (await seen(sessions, hold_id)).adjustments == ()
    assert await balance(sessions, student) == 10_000
    async with sessions() as session:
        assert (await session.execute(text("select hold_id, to_student from hold_review"))).all() == [
            (hold_id, 0)
        ]


async def test_evidence_that_agrees_again_closes_the_review(sessions: Sessions) -> None:
    lesson = uuid4()
    student, _ = await sold(sessions, lesson)
    await end(sessions, facts(lesson, {student: 900}))
    await reconsider(sessions, facts(lesson, {student: 4_800}))

    await reconsider(sessions, facts(lesson, {student: 901}))

    async with sessions() as session:
        assert await session.scalar(text("select count(*) from hold_review")) == 0


async def test_a_closed_review_stays_closed_until_the_evidence_says_something_else(
    sessions: Sessions,
) -> None:
    lesson, admin = uuid4(), uuid4()
    student, hold_id = await sold(sessions, lesson)
    await end(sessions, facts(lesson, {student: 900}))
    await reconsider(sessions, facts(lesson, {student: 4_800}))
    async with sessions.begin() as session:
        [review] = await reviews.find(session, is_open=True, limit=9, before=None)
        closed = await reviews.close(session, review.id, admin_id=admin, notes="Looked at, stays.", now=NOW)

    await reconsider(sessions, facts(lesson, {student: 4_801}))

    assert (review.hold_id, review.settled, review.by_evidence) == (hold_id, usd(10_000), usd(0))
    assert (closed.notes, closed.closed_at) == ("Looked at, stays.", NOW)
    async with sessions.begin() as session:
        assert await reviews.find(session, is_open=True, limit=9, before=None) == []
        [still] = await reviews.find(session, is_open=False, limit=9, before=None)
        assert (still.id, still.closed_at) == (review.id, NOW)
        with pytest.raises(ReviewClosedError) as twice:
            await reviews.close(session, review.id, admin_id=admin, notes="Looked at again.", now=NOW)
        with pytest.raises(ReviewNotFoundError) as unknown:
            await reviews.close(session, uuid4(), admin_id=admin, notes="Looked at again.", now=NOW)
        with pytest.raises(ReasonTooShortError):
            await reviews.close(session, review.id, admin_id=admin, notes="         .", now=NOW)
        # As if the settlement had been another: now the same evidence is news.
        await session.execute(text("update hold_review set to_student = 10000"))
    assert (twice.value.code, unknown.value.code) == ("review_closed", "review_not_found")
    await reconsider(sessions, facts(lesson, {student: 4_802}))
    async with sessions() as session:
        [again] = await reviews.find(session, is_open=True, limit=9, before=None)
    assert (again.id, again.notes) == (review.id, None)
    assert await violations(sessions) == []


async def test_late_evidence_within_the_risk_window_adjusts_by_itself(sessions: Sessions) -> None:
    lesson, tutor = uuid4(), owner()
    student, hold_id = await sold(sessions, lesson, tutor_id=tutor, source_kind=SourceKind.PACKAGE_SLICE)
    await end(sessions, facts(lesson, {student: 900}, tutor_attended_s=0))

    forth = await reconsider(sessions, facts(lesson, {student: 900}, tutor_attended_s=1))
    paid = await balance(sessions, student)
    back = await reconsider(sessions, facts(lesson, {student: 901}, tutor_attended_s=0))
    returned = await balance(sessions, student)
    again = await reconsider(sessions, facts(lesson, {student: 901}, tutor_attended_s=1))

    assert forth.adjusted == back.adjusted == again.adjusted == (hold_id,)
    newest = await newest_journal(sessions)
    assert (newest.kind, newest.actor, newest.reason) == ("adjustment", settlement.ACTOR, "late evidence")
    assert (newest.ref_type, newest.ref_id) == ("hold", hold_id)
    assert (paid, returned, await balance(sessions, student)) == (0, 10_000, 0)
    view = await seen(sessions, hold_id)
    assert view.status is HoldStatus.REFUNDED
    assert [(a.tutor_share, a.platform_share, a.refunded) for a in view.adjustments] == [
        (usd(3_000), usd(7_000), usd(0)),
        (usd(0), usd(0), usd(10_000)),
        (usd(3_000), usd(7_000), usd(0)),
    ]
    assert (await events(sessions)).count("hold.adjusted") == 3
    assert await violations(sessions) == NO_PACKAGE


async def test_earnings_of_a_package_are_pending_during_the_risk_window(sessions: Sessions) -> None:
    lesson, tutor = uuid4(), owner()
    student, _ = await sold(sessions, lesson, tutor_id=tutor, source_kind=SourceKind.PACKAGE_SLICE)

    await end(sessions, facts(lesson, {student: PLANNED_S}))

    async with sessions() as session:
        found = await wallet.balances(session, tutor)
    assert (found.earnings_pending, found.earnings_available) == (usd(3_000), usd(0))


async def test_money_that_was_spent_meanwhile_is_for_people(sessions: Sessions) -> None:
    lesson = uuid4()
    student, hold_id = await sold(sessions, lesson, source_kind=SourceKind.PACKAGE_SLICE)
    await end(sessions, facts(lesson, {student: 900}, tutor_attended_s=0))
    await buy(sessions, student, new_hold(1, lesson_id=uuid4()))

    answer = await reconsider(sessions, facts(lesson, {student: 4_800}))

    assert answer == settlement.Reconsidered(to_review=(hold_id,))
    assert await balance(sessions, student) == 9_999
    assert await violations(sessions) == NO_PACKAGE


async def test_the_risk_window_ends(sessions: Sessions) -> None:
    lesson = uuid4()
    student, hold_id = await sold(sessions, lesson, source_kind=SourceKind.PACKAGE_SLICE)
    await end(sessions, facts(lesson, {student: 900}, tutor_attended_s=0))

    answer = await reconsider(sessions, facts(lesson, {student: 4_800}), days=7)

    assert answer.to_review == (hold_id,)


async def test_what_people_decided_is_not_judged_again(sessions: Sessions) -> None:
    lesson = uuid4()
    student, hold_id = await sold(sessions, lesson, source_kind=SourceKind.PACKAGE_SLICE)
    async with sessions.begin() as session:
        await holds.refund(
            session, [hold_id], cause=Cause.CANCELLED, actor="user:1", reason="ill", key="k", now=NOW
        )
    await end(sessions, facts(lesson, {}))

    assert await reconsider(sessions, facts(lesson, {student: 4_800})) == settlement.Reconsidered()


async def test_only_what_is_settled_can_be_reconsidered(sessions: Sessions) -> None:
    lesson = uuid4()
    known = facts(lesson)

    with pytest.raises(LessonNotSettledError):
        await reconsider(sessions, known)
    async with sessions.begin() as session:
        await settlement.due(session, known, now=NOW)
    with pytest.raises(LessonNotSettledError):
        await reconsider(sessions, known)


async def test_an_old_hold_is_judged_and_split_by_its_own_policy(sessions: Sessions) -> None:
    lesson, tutor = uuid4(), owner()
    student, old = await sold(sessions, lesson, tutor_id=tutor)
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into policy select 2, '2026-02-01', 5000, 8000, 50, 100, 0, 7, 'admin:1', 'New terms now.'"
            )
        )
    newer = owner()
    await fund(sessions, newer, 10_000)
    [new] = await buy(
        sessions, newer, new_hold(lesson_id=lesson, tutor_id=tutor, tutor_bps=5_000, policy_version=2)
    )

    await end(sessions, facts(lesson, {student: 2_699, newer: 2_699}, tutor_attended_s=PLANNED_S))

    assert (await seen(sessions, old)).status is HoldStatus.RELEASED
    assert (await seen(sessions, new)).status is HoldStatus.REFUNDED
    assert await earnings(sessions, tutor) == 3_000
    assert await violations(sessions) == []

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from billing import hold_views, holds
from billing.errors import HoldNotFoundError
from billing.explanation import explain
from billing.hold_views import Filter
from billing.models import Cause, HoldId, HoldStatus, SourceKind
from billing.settlement import reconsider
from tests.billing.world import NOW, Sessions, buy, end, facts, fund, new_hold, owner, usd


async def seen(sessions: Sessions, hold_id: UUID) -> hold_views.HoldView:
    async with sessions() as session:
        return await hold_views.view(session, hold_id)


async def found(
    sessions: Sessions, wanted: Filter, *, limit: int = 10, before: UUID | None = None
) -> list[UUID]:
    async with sessions() as session:
        return [view.id for view in await hold_views.find(session, wanted, limit=limit, before=before)]


async def settled(
    sessions: Sessions,
    attended_s: int,
    *,
    tutor_attended_s: int = 5_400,
    kind: SourceKind = SourceKind.COURSE_SESSION,
) -> hold_views.HoldView:
    student, lesson = owner(), uuid4()
    await fund(sessions, student, 10_000)
    [hold_id] = await buy(sessions, student, new_hold(lesson_id=lesson, source_kind=kind))
    await end(sessions, facts(lesson, {student: attended_s}, tutor_attended_s=tutor_attended_s))
    return await seen(sessions, hold_id)


async def test_a_released_hold_explains_itself(sessions: Sessions) -> None:
    view = await settled(sessions, 4_800)

    assert view.status is HoldStatus.RELEASED
    assert (view.tutor_share, view.platform_share, view.refunded) == (usd(3_000), usd(7_000), usd(0))
    assert view.policy.version == 1
    assert view.settled_at == NOW
    attendance = view.attendance
    assert attendance is not None
    assert (attendance.scheduled_s, attendance.attended_s, attendance.percent) == (5_400, 4_800, 88)
    assert (attendance.required_s, attendance.confidence) == (1_080, "full")
    [span] = attendance.intervals
    assert (span.until - span.since, span.sources) == (timedelta(seconds=4_800), ("socket",))
    assert explain(view) == (
        "The student attended 1:20:00 of 1:30:00 (88 %); at least 18:00 (20 %) were needed. So 100.00 USD were released:"
        " 30.00 USD to the tutor, 70.00 USD to the platform. With less than 18:00 everything would have gone back to"
        " the student. So it would have been, too, had the tutor attended less than 18:00; the tutor attended 1:30:00"
        " of 1:30:00. The terms of version 1 are what counts."
    )
    assert "1:20:00 trên 1:30:00 (88 %)" in explain(view, "vi")


async def test_a_missed_lesson_says_how_much_was_missing(sessions: Sessions) -> None:
    view = await settled(sessions, 900)

    assert view.refunded == usd(10_000)
    assert "(16 %)" in explain(view)
    assert "With 3:00 more" in explain(view)
    assert "thêm 3:00" in explain(view, "vi")


async def test_an_absent_tutor_is_named_as_the_reason(sessions: Sessions) -> None:
    view = await settled(sessions, 5_400, tutor_attended_s=0)

    assert explain(view).startswith("The tutor attended 0:00 of 1:30:00; at least 18:00 were needed.")
    assert explain(view, "vi").startswith("Gia sư đã có mặt 0:00 trên 1:30:00")


async def test_a_held_hold_says_what_will_decide(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 10_000)
    [hold_id] = await buy(sessions, student, new_hold(lesson_id=uuid4()))

    view = await seen(sessions, hold_id)

    assert (view.tutor_share, view.platform_share, view.refunded, view.attendance) == (
        usd(0),
        usd(0),
        usd(0),
        None,
    )
    assert explain(view).startswith("100.00 USD are held until the lesson is over.")
    assert explain(view, "vi").startswith("100.00 USD được giữ")


async def test_what_people_decided_is_told_with_their_reason(sessions: Sessions) -> None:
    student, tutor = owner(), owner()
    await fund(sessions, student, 40_000)
    [first] = await buy(sessions, student, new_hold(tutor_id=tutor))
    [second] = await buy(sessions, student, new_hold())
    [withdrawn] = await buy(sessions, student, new_hold())
    [undelivered] = await buy(sessions, student, new_hold())
    async with sessions.begin() as session:
        await holds.refund(
            session, [first], cause=Cause.CANCELLED, actor=f"user:{tutor}", reason="ill", key="1", now=NOW
        )
        for number, (hold_id, actor) in enumerate(
            ((withdrawn, f"user:{student}"), (undelivered, "system:courses"))
        ):
            await holds.refund(
                session, [hold_id], cause=Cause.CANCELLED, actor=actor, reason="so", key=f"c{number}", now=NOW
            )
        await holds.refund(
            session,
            [second],
            cause=Cause.ADMIN,
            actor="admin:1",
            reason="Tutor was {rude}.",
            key="2",
            now=NOW,
        )

    cancelled, decided = await seen(sessions, first), await seen(sessions, second)

    assert cancelled.settled_by == "tutor"
    assert explain(cancelled).startswith("The tutor cancelled the lesson, so 100.00 USD went back")
    assert explain(cancelled).endswith("Reason: ill")
    assert explain(cancelled, "vi").startswith("Gia sư đã hủy buổi học")
    assert explain(await seen(sessions, withdrawn)).startswith("The student withdrew")
    assert explain(await seen(sessions, undelivered)).startswith("The lesson was not held")
    assert explain(decided).endswith("Reason: Tutor was {rude}.")
    assert explain(decided, "vi").endswith("Lý do: Tutor was {rude}.")


async def test_an_adjustment_is_told_after_the_settlement(sessions: Sessions) -> None:
    view = await settled(sessions, 900, tutor_attended_s=0, kind=SourceKind.PACKAGE_SLICE)
    assert view.lesson_id is not None
    async with sessions.begin() as session:
        await reconsider(session, facts(view.lesson_id, {view.student_id: 4_800}), now=NOW)

    adjusted = await seen(sessions, view.id)

    assert explain(adjusted).endswith(
        "Evidence that came later changed this on 2026-03-01: now 30.00 USD to the tutor, 70.00 USD to the platform,"
        " 0.00 USD back to the student. By all that is known now, the student attended 1:20:00 of 1:30:00, and the"
        " tutor 1:30:00. The tutor is paid for having come."
    )
    assert adjusted.adjustments[0].cause is Cause.ADJUSTMENT
    assert "30.00 USD cho gia sư" in explain(adjusted, "vi")
    seen_late = adjusted.adjustments[0].attendance
    assert seen_late is not None
    assert seen_late.attended_s == 4_800
    assert adjusted.attendance == view.attendance


async def test_an_unknown_hold_is_not_found(sessions: Sessions) -> None:
    with pytest.raises(HoldNotFoundError):
        await seen(sessions, uuid4())


async def test_lists_are_filtered_and_newest_first(sessions: Sessions) -> None:
    tutor, lesson = owner(), uuid4()
    students = [owner(), owner()]
    placed: list[HoldId] = []
    for student in students:
        await fund(sessions, student, 30_000)
        placed += await buy(sessions, student, new_hold(lesson_id=lesson, tutor_id=tutor))
        placed += await buy(sessions, student, new_hold(lesson_id=uuid4(), tutor_id=tutor))
    await end(sessions, facts(lesson, {students[0]: 5_400}))

    # The four were placed at the same business time, so the id decides.
    newest_first = sorted(placed, reverse=True)
    assert await found(sessions, Filter()) == newest_first
    assert await found(sessions, Filter(tutor_id=tutor)) == newest_first
    assert set(await found(sessions, Filter(student_id=students[0]))) == set(placed[:2])
    assert set(await found(sessions, Filter(party_id=students[1]))) == set(placed[2:])
    assert set(await found(sessions, Filter(party_id=tutor))) == set(placed)
    assert await found(sessions, Filter(student_id=tutor)) == []
    assert set(await found(sessions, Filter(lesson_ids=(lesson,)))) == {placed[0], placed[2]}
    assert await found(sessions, Filter(lesson_ids=(lesson,), status=HoldStatus.RELEASED)) == [placed[0]]
    assert await found(sessions, Filter(student_id=students[1], status=HoldStatus.REFUNDED)) == [placed[2]]
    assert await found(sessions, Filter(source_ids=())) == []


async def test_pages_of_holds_follow_each_other_without_gap(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 50_000)
    for _ in range(5):
        await buy(sessions, student, new_hold(lesson_id=uuid4()))
    everything = await found(sessions, Filter(student_id=student))

    first = await found(sessions, Filter(student_id=student), limit=2)
    second = await found(sessions, Filter(student_id=student), limit=2, before=first[-1])
    third = await found(sessions, Filter(student_id=student), limit=2, before=second[-1])

    assert first + second + third == everything
    assert await found(sessions, Filter(student_id=student), before=uuid4()) == []

import asyncio
from functools import partial
from uuid import UUID, uuid4

import pytest

from billing import hold_views, holds, wallet
from billing.errors import (
    AlreadyHeldError,
    HoldNotFoundError,
    HoldNotHeldError,
    IdempotencyMismatchError,
    InsufficientFundsError,
    InvalidAmountError,
    LessonOverError,
)
from billing.models import Cause, HoldId, HoldStatus, SourceKind
from billing.money import slices
from tests.billing.world import (
    NOW,
    Sessions,
    at_once,
    balance,
    buy,
    end,
    events,
    facts,
    fund,
    new_hold,
    owner,
    refusals,
    usd,
    violations,
)


async def status(sessions: Sessions, hold_id: UUID) -> HoldStatus:
    async with sessions() as session:
        return (await hold_views.view(session, hold_id)).status


async def refund(
    sessions: Sessions,
    *hold_ids: UUID,
    key: str = "refund",
    cause: Cause = Cause.CANCELLED,
    actor: str = "user:someone",
    reason: str = "changed my mind",
    only_held: bool = False,
) -> list[HoldId]:
    async with sessions.begin() as session:
        return await holds.refund(
            session,
            hold_ids,
            cause=cause,
            actor=actor,
            reason=reason,
            key=key,
            now=NOW,
            only_held=only_held,
        )


async def test_placing_moves_money_from_balance_to_held(sessions: Sessions) -> None:
    student, lesson = owner(), uuid4()
    await fund(sessions, student, 12_000)

    [hold_id] = await buy(sessions, student, new_hold(10_000, lesson_id=lesson))

    async with sessions() as session:
        found = await wallet.balances(session, student)
    assert (found.balance, found.held) == (usd(2_000), usd(10_000))
    assert await status(sessions, hold_id) is HoldStatus.HELD
    assert (await events(sessions))[-2:] == ["hold.placed", "wallet.changed"]
    assert await violations(sessions) == []


async def test_a_full_course_is_one_journal_with_a_hold_for_each_session(sessions: Sessions) -> None:
    student, purchase, lesson = owner(), uuid4(), uuid4()
    await fund(sessions, student, 1_000)
    cut = [
        new_hold(
            amount,
            lesson_id=lesson if number == 1 else None,
            source_id=purchase,
            slice_no=number,
            source_kind=SourceKind.COURSE_SLICE,
        )
        for number, amount in enumerate(slices(1_000, 3), start=1)
    ]

    await buy(sessions, student, *cut)

    async with sessions() as session:
        [paid, _funded] = await wallet.entries(session, student, limit=5)
        found = await hold_views.find(session, hold_views.Filter(source_ids=(purchase,)), limit=5)
    assert paid.amount == usd(-1_000)
    assert sorted((view.slice_no, view.amount.amount, view.lesson_id) for view in found) == [
        (1, 333, lesson),
        (2, 333, None),
        (3, 334, None),
    ]
    assert await violations(sessions) == []


async def test_what_is_missing_is_said_to_the_cent(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 9_999)

    with pytest.raises(InsufficientFundsError) as refused:
        await buy(sessions, student, new_hold(10_000, lesson_id=uuid4()), new_hold(5_000, lesson_id=uuid4()))

    assert refused.value.shortfall == usd(5_001)
    assert await balance(sessions, student) == 9_999


async def test_a_repeated_purchase_gives_the_first_holds(sessions: Sessions) -> None:
    student, tutor, lesson = owner(), owner(), uuid4()
    await fund(sessions, student, 20_000)

    first = await buy(sessions, student, new_hold(lesson_id=lesson, tutor_id=tutor), key="k")
    second = await buy(sessions, student, new_hold(lesson_id=lesson, tutor_id=tutor), key="k")

    assert first == second
    assert await balance(sessions, student) == 10_000


async def test_a_repeated_purchase_is_answered_after_the_lesson_too(sessions: Sessions) -> None:
    student, tutor, lesson = owner(), owner(), uuid4()
    await fund(sessions, student, 20_000)
    first = await buy(sessions, student, new_hold(lesson_id=lesson, tutor_id=tutor), key="k")
    await end(sessions, facts(lesson, {student: 5_400}))

    assert await buy(sessions, student, new_hold(lesson_id=lesson, tutor_id=tutor), key="k") == first


async def test_the_key_of_another_purchase_is_refused(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 20_000)
    await buy(sessions, student, new_hold(lesson_id=uuid4()), key="k")

    with pytest.raises(IdempotencyMismatchError):
        await buy(sessions, student, new_hold(lesson_id=uuid4()), key="k")


async def test_two_students_may_use_the_same_key(sessions: Sessions) -> None:
    lesson = uuid4()
    for student in (owner(), owner()):
        await fund(sessions, student, 10_000)
        await buy(sessions, student, new_hold(lesson_id=lesson), key="k")

    assert await violations(sessions) == []


async def test_a_place_is_paid_once_while_it_is_held(sessions: Sessions) -> None:
    student, lesson = owner(), uuid4()
    await fund(sessions, student, 30_000)
    [hold_id] = await buy(sessions, student, new_hold(lesson_id=lesson))

    with pytest.raises(AlreadyHeldError):
        await buy(sessions, student, new_hold(lesson_id=lesson))
    await refund(sessions, hold_id)
    await buy(sessions, student, new_hold(lesson_id=lesson))

    assert await balance(sessions, student) == 20_000


async def test_nothing_can_be_held_for_a_lesson_that_is_over(sessions: Sessions) -> None:
    student, lesson = owner(), uuid4()
    await fund(sessions, student, 10_000)
    await end(sessions, facts(lesson))

    with pytest.raises(LessonOverError):
        await buy(sessions, student, new_hold(lesson_id=lesson))

    assert await balance(sessions, student) == 10_000


@pytest.mark.parametrize("amount", [0, -1, 10**16])
async def test_an_amount_that_cannot_be_held_is_refused(sessions: Sessions, amount: int) -> None:
    with pytest.raises(InvalidAmountError):
        await buy(sessions, owner(), new_hold(amount, lesson_id=uuid4()))


async def test_a_slice_gets_its_lesson_and_keeps_its_money_where_it_is(sessions: Sessions) -> None:
    student, lesson, purchase = owner(), uuid4(), uuid4()
    await fund(sessions, student, 10_000)
    [hold_id] = await buy(sessions, student, new_hold(source_id=purchase, slice_no=2))

    async with sessions.begin() as session:
        wrong_slice = await holds.assign(session, lesson, source_ids=[purchase], slice_no=1)
        assigned = await holds.assign(session, lesson, source_ids=[purchase], slice_no=2)
        again = await holds.assign(session, uuid4(), source_ids=[purchase], slice_no=2)
    settled = await end(sessions, facts(lesson, {student: 5_400}))

    assert (wrong_slice, assigned, again) == ([], [hold_id], [])
    assert settled is not None
    assert settled.released == (hold_id,)
    assert await violations(sessions) == []


async def test_a_slice_gets_no_lesson_that_is_over_or_paid_for(sessions: Sessions) -> None:
    student, over, paid, purchase = owner(), uuid4(), uuid4(), uuid4()
    await fund(sessions, student, 20_000)
    await end(sessions, facts(over))
    await buy(sessions, student, new_hold(lesson_id=paid))
    await buy(sessions, student, new_hold(source_id=purchase))

    async def assign(lesson: UUID) -> None:
        async with sessions.begin() as session:
            await holds.assign(session, lesson, source_ids=[purchase], slice_no=1)

    with pytest.raises(LessonOverError):
        await assign(over)
    with pytest.raises(AlreadyHeldError):
        await assign(paid)


async def test_a_refund_gives_everything_back_in_one_journal(sessions: Sessions) -> None:
    student, purchase = owner(), uuid4()
    await fund(sessions, student, 1_000)
    cut = [
        new_hold(amount, source_id=purchase, slice_no=number)
        for number, amount in enumerate(slices(1_000, 3), start=1)
    ]
    hold_ids = await buy(sessions, student, *cut)

    refunded = await refund(sessions, *hold_ids)

    assert refunded == sorted(hold_ids)
    async with sessions() as session:
        newest = (await wallet.entries(session, student, limit=1))[0]
    assert (newest.amount, newest.reason) == (usd(1_000), "changed my mind")
    assert (newest.ref_type, newest.ref_id) == ("purchase", purchase)
    assert (await events(sessions))[-4:] == ["hold.refunded"] * 3 + ["wallet.changed"]
    assert await violations(sessions) == []


async def test_a_repeated_refund_moves_no_money(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 10_000)
    [hold_id] = await buy(sessions, student, new_hold())

    assert await refund(sessions, hold_id) == [hold_id]
    assert await refund(sessions, hold_id) == [hold_id]

    assert await balance(sessions, student) == 10_000
    assert (await events(sessions)).count("hold.refunded") == 1


async def test_a_refunded_hold_is_not_refunded_again(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 10_000)
    [hold_id] = await buy(sessions, student, new_hold())
    await refund(sessions, hold_id)

    with pytest.raises(HoldNotHeldError) as refused:
        await refund(sessions, hold_id, key="another")

    assert (refused.value.hold_id, refused.value.status) == (hold_id, "refunded")


async def test_a_released_hold_is_never_refunded(sessions: Sessions) -> None:
    student, lesson = owner(), uuid4()
    await fund(sessions, student, 20_000)
    [released] = await buy(sessions, student, new_hold(lesson_id=lesson))
    [held] = await buy(sessions, student, new_hold())
    await end(sessions, facts(lesson, {student: 5_400}))

    with pytest.raises(HoldNotHeldError):
        await refund(sessions, released, held)
    assert await refund(sessions, released, held, only_held=True) == [held]
    assert await refund(sessions, released, key="nothing", only_held=True) == []

    assert await balance(sessions, student) == 10_000


async def test_an_unknown_hold_is_not_found(sessions: Sessions) -> None:
    with pytest.raises(HoldNotFoundError):
        await refund(sessions, uuid4())


async def test_the_key_of_another_refund_is_refused(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 20_000)
    [one] = await buy(sessions, student, new_hold())
    [other] = await buy(sessions, student, new_hold())
    await refund(sessions, one)

    with pytest.raises(IdempotencyMismatchError):
        await refund(sessions, other)


async def test_an_admin_refunds_with_a_reason(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 10_000)
    [hold_id] = await buy(sessions, student, new_hold())

    codes = await refusals(
        sessions,
        *(
            partial(
                holds.refund, hold_ids=[hold_id], cause=cause, actor=actor, reason="no", key="no", now=NOW
            )
            for cause, actor in ((Cause.ADMIN, "system:x"), (Cause.CANCELLED, "admin:1"))
        ),
    )
    await refund(sessions, hold_id, cause=Cause.ADMIN, actor="admin:1", reason="Very rude.")

    async with sessions() as session:
        view = await hold_views.view(session, hold_id)
        [newest] = await wallet.entries(session, student, limit=1)
    assert codes == ["reason_too_short"] * 2
    assert (newest.ref_type, newest.ref_id) == ("hold", hold_id)
    assert (view.cause, view.reason, view.refunded) == (Cause.ADMIN, "Very rude.", usd(10_000))


async def test_sixty_four_purchases_for_five_prices_give_five_holds(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 54_321)

    async def attempt() -> bool:
        try:
            await buy(sessions, student, new_hold(10_000, lesson_id=uuid4()))
        except InsufficientFundsError:
            return False
        return True

    bought = await at_once(attempt() for _ in range(64))

    assert (bought.count(True), bought.count(False)) == (5, 59)
    assert await balance(sessions, student) == 4_321
    assert await violations(sessions) == []


async def test_a_double_click_by_sixteen_connections_buys_once(sessions: Sessions) -> None:
    student, tutor, lesson = owner(), owner(), uuid4()
    await fund(sessions, student, 50_000)

    answers = await asyncio.gather(
        *(buy(sessions, student, new_hold(lesson_id=lesson, tutor_id=tutor), key="click") for _ in range(16))
    )

    assert len({tuple(answer) for answer in answers}) == 1
    assert await balance(sessions, student) == 40_000


async def test_a_purchase_and_the_end_of_the_lesson_never_leave_a_hold_behind(sessions: Sessions) -> None:
    lesson = uuid4()
    students = [owner() for _ in range(12)]
    for student in students:
        await fund(sessions, student, 10_000)

    async def attempt(index: int) -> bool:
        try:
            await buy(sessions, students[index], new_hold(lesson_id=lesson))
        except LessonOverError:
            return False
        return True

    *bought, _settled = await asyncio.gather(
        *(attempt(index) for index in range(12)), end(sessions, facts(lesson, dict.fromkeys(students, 5_400)))
    )

    assert await violations(sessions) == []
    left = [await balance(sessions, student) for student in students]
    assert left == [0 if paid else 10_000 for paid in bought]

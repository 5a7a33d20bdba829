"""What is given back of a released hold comes from wherever it is, once, and never more than there was."""

import asyncio
import random
from datetime import timedelta
from typing import Literal, get_args
from uuid import UUID, uuid4

import pytest
from hypothesis import given, strategies as st
from sqlalchemy import text

from billing import divisions, hold_views, maturity, settlement, withdrawals
from billing.errors import (
    BillingError,
    IdempotencyMismatchError,
    InsufficientFundsError,
    RefundTooLargeError,
)
from billing.explanation import explain
from billing.ledger import AccountKey
from billing.models import AccountKind, Cause, HoldId, SourceKind
from billing.money import Money
from billing.policy import Changes
from billing.refunds import GivenBack
from tests.billing.earner import EXPENSE, NOTE, RISK, Earner
from tests.billing.seller import Seller, enact
from tests.billing.world import (
    PLANNED_S,
    Sessions,
    balance,
    buy,
    end,
    events,
    facts,
    fund,
    new_hold,
    owner,
    refusals,
    revenue,
    violations,
)

BOOKING, COURSE = SourceKind.BOOKING, SourceKind.COURSE_SESSION
WHERE = (
    AccountKind.WALLET,
    AccountKind.EARNINGS_PENDING,
    AccountKind.EARNINGS,
    AccountKind.TUTOR_DEBT,
    AccountKind.PLATFORM_REVENUE,
)


@pytest.fixture
def earner(sessions: Sessions) -> Earner:
    return Earner(sessions)


async def sell(
    earner: Earner,
    amount: int = 10_000,
    *,
    kind: SourceKind = BOOKING,
    bps: int = 7_000,
    attended: bool = True,
) -> HoldId:
    """Have a student pay for a lesson that is over."""
    student, lesson = owner(), uuid4()
    await fund(earner.sessions, student, amount)
    hold = new_hold(amount, lesson_id=lesson, tutor_id=earner.tutor, tutor_bps=bps, source_kind=kind)
    [hold_id] = await buy(earner.sessions, student, hold)
    # Nobody was there: money goes back whatever was sold.
    came_s = PLANNED_S if attended else 0
    known = facts(lesson, {student: came_s}, tutor_id=earner.tutor, tutor_attended_s=came_s)
    await end(earner.sessions, known, now=earner.now)
    return hold_id


async def refused(deed: object) -> type[BillingError] | None:
    try:
        await deed  # type: ignore[misc]  # whatever a test waits for
    except BillingError as error:
        return type(error)
    return None


async def pay_out(earner: Earner, amount: int) -> None:
    await earner.move(AccountKey(AccountKind.EARNINGS, earner.tutor, "USD"), EXPENSE, amount)


async def test_a_share_at_risk_is_given_back_from_the_pending_earnings(earner: Earner) -> None:
    hold_id, _ = await sell(earner), await sell(earner)

    given = await earner.give_back(hold_id)

    assert await earner.has(*WHERE) == [10_000, 7_000, 0, 0, 3_000]
    assert (given.amount, given.from_tutor, given.owed, given.rest) == (
        Money(10_000),
        Money(7_000),
        Money(0),
        Money(0),
    )
    assert (await events(earner.sessions))[-3:] == ["hold.given_back", "wallet.changed", "wallet.changed"]
    assert await violations(earner.sessions) == []


async def test_what_was_given_back_does_not_mature(earner: Earner) -> None:
    hold_id = await sell(earner)
    await earner.give_back(hold_id, 5_000)
    earner.passes(RISK)

    await earner.run(maturity.JOB)

    assert await earner.has(*WHERE) == [5_000, 0, 3_500, 0, 1_500]
    assert await violations(earner.sessions) == []


async def test_a_share_that_matured_is_given_back_from_the_earnings(earner: Earner) -> None:
    hold_id = await sell(earner, kind=COURSE)

    given = await earner.give_back(hold_id)

    assert given.owed == Money(0)
    assert await earner.has(*WHERE) == [10_000, 0, 0, 0, 0]
    assert await violations(earner.sessions) == []


async def test_what_had_left_us_is_owed_and_repaid_from_the_next_earnings(earner: Earner) -> None:
    hold_id = await sell(earner, kind=COURSE)
    await pay_out(earner, 5_000)

    given = await earner.give_back(hold_id)
    owing = await earner.has(*WHERE)
    await sell(earner, 4_000, kind=COURSE)
    after_one = await earner.has(*WHERE)
    await sell(earner, 10_000, kind=COURSE)

    assert (given.from_tutor, given.owed) == (Money(7_000), Money(5_000))
    assert owing == [10_000, 0, 0, -5_000, 0]
    assert after_one == [10_000, 0, 0, -2_200, 1_200]
    assert await earner.has(*WHERE) == [10_000, 0, 4_800, 0, 4_200]
    assert await violations(earner.sessions) == []


async def test_half_goes_back_and_then_the_rest(earner: Earner) -> None:
    """F.4 story 9."""
    hold_id = await sell(earner)

    first = await earner.give_back(hold_id, 5_000)
    between = await earner.has(*WHERE)
    second = await earner.give_back(hold_id)

    assert (first.rest, second.rest) == (Money(5_000), Money(0))
    assert (first.number, second.number) == (1, 2)
    assert between == [5_000, 3_500, 0, 0, 1_500]
    assert await earner.has(*WHERE) == [10_000, 0, 0, 0, 0]
    assert await violations(earner.sessions) == []


async def test_more_than_is_left_is_refused(earner: Earner) -> None:
    hold_id, missed = await sell(earner), await sell(earner, attended=False)
    await earner.give_back(hold_id, 6_000)

    too_much = await refused(earner.give_back(hold_id, 4_001))
    await earner.give_back(hold_id, 4_000)
    nothing_left = [
        await refused(earner.give_back(one, amount)) for one in (hold_id, missed) for amount in (1, None)
    ]

    assert too_much is RefundTooLargeError
    assert nothing_left == [RefundTooLargeError] * 4
    assert await violations(earner.sessions) == []


async def test_the_same_key_gives_back_once(earner: Earner) -> None:
    hold_id = await sell(earner, kind=COURSE)
    await pay_out(earner, 7_000)

    answers = [await earner.give_back(hold_id, 5_000, key="k") for _ in range(2)]
    other = await refused(earner.give_back(hold_id, 4_000, key="k"))

    assert answers[0] == answers[1]
    assert answers[0].owed == Money(3_500)
    assert other is IdempotencyMismatchError
    assert await earner.has(*WHERE) == [5_000, 0, 0, -3_500, 1_500]


async def test_what_cannot_be_given_back_is_named(earner: Earner) -> None:
    student, lesson = owner(), uuid4()
    await fund(earner.sessions, student, 100)
    [held] = await buy(earner.sessions, student, new_hold(100, lesson_id=lesson, tutor_id=earner.tutor))
    hold_id = await sell(earner)

    codes = await refusals(
        earner.sessions,
        earner.gives_back(held),
        earner.gives_back(uuid4()),
        earner.gives_back(hold_id, reason="too short"),
        earner.gives_back(hold_id, reason="  too short  "),
        *(earner.gives_back(hold_id, amount) for amount in (0, -1)),
        earner.gives_back(hold_id, 10_001),
    )

    assert codes == [
        "hold_not_settled",
        "hold_not_found",
        "reason_too_short",
        "reason_too_short",
        "invalid_amount",
        "invalid_amount",
        "refund_too_large",
    ]


async def test_late_evidence_does_not_judge_again_what_people_decided(earner: Earner) -> None:
    hold_id = await sell(earner)
    await earner.give_back(hold_id, 1_000)
    lesson, student = await earner.lesson_of(hold_id)

    late = facts(lesson, {student: 0}, tutor_id=earner.tutor)
    async with earner.sessions.begin() as session:
        found = await settlement.reconsider(session, late, now=earner.now)

    assert found == settlement.Reconsidered()
    assert await balance(earner.sessions, student) == 1_000
    assert await violations(earner.sessions) == []


async def test_a_refund_answers_what_waited_for_review(earner: Earner) -> None:
    hold_id = await sell(earner, kind=COURSE)
    lesson, student = await earner.lesson_of(hold_id)
    async with earner.sessions.begin() as session:
        late = facts(lesson, {student: 0}, tutor_id=earner.tutor)
        found = await settlement.reconsider(session, late, now=earner.now)

    await earner.give_back(hold_id)

    async with earner.sessions() as session:
        waiting = await session.scalar(text("select count(*) from hold_review"))
    assert (found.to_review, waiting) == ((hold_id,), 0)
    assert await violations(earner.sessions) == []


async def test_a_hold_tells_of_its_refunds(earner: Earner) -> None:
    hold_id = await sell(earner)
    await earner.give_back(hold_id, 5_000)

    async with earner.sessions() as session:
        view = await hold_views.view(session, hold_id)

    [adjustment] = view.adjustments
    assert (adjustment.cause, adjustment.reason) == (Cause.REFUND, NOTE)
    assert (adjustment.tutor_share, adjustment.refunded) == (Money(3_500), Money(5_000))
    assert "A refund changed this on 2026-03-01: now 35.00 USD to the tutor" in explain(view)
    assert "Một khoản hoàn tiền đã thay đổi kết quả" in explain(view, "vi")


# Every way into earnings ---------------------------------------------------------------------------------------------


Way = Literal["settled", "expired", "matured", "rejected", "thawed"]


@pytest.mark.parametrize("way", get_args(Way))
async def test_whatever_brings_earnings_repays_debts_first(earner: Earner, way: Way) -> None:
    matures = await sell(earner, kind=BOOKING)
    thaws = await sell(earner, kind=COURSE)
    await earner.set_bank()
    dispute = uuid4()
    async with earner.sessions.begin() as session:
        await maturity.freeze(session, thaws, by=dispute, only_pending=False, now=earner.now)
    await sell(earner, kind=COURSE)
    asked = await earner.ask(7_000)
    await earner.owe(9_000)
    before = (await earner.has(*WHERE))[2:4]

    match way:
        case "settled":
            await sell(earner, kind=COURSE)
        case "expired":
            # Nobody took the lesson of a package, and its share is at no risk.
            await enact(earner.sessions, Changes(booking_risk_days=0))
            seller = Seller(earner.sessions)
            seller.tutor = earner.tutor
            await seller.sell(lessons=1, price=8_750, validity_days=1)
            await seller.passes(timedelta(days=2))
        case "matured":
            earner.passes(RISK)
            async with earner.sessions.begin() as session:
                assert await maturity.mature(session, matures, now=earner.now)
        case "rejected":
            await earner.reject(asked)
        case "thawed":
            async with earner.sessions.begin() as session:
                await maturity.thaw(session, thaws, by=dispute, now=earner.now)

    assert before == [0, -9_000]
    assert (await earner.has(*WHERE))[2:4] == [0, -2_000]


# Properties ----------------------------------------------------------------------------------------------------------


@given(
    amount=st.integers(1, 10**7),
    bps=st.integers(0, 10_000),
    parts=st.lists(st.integers(1, 10**7), max_size=5),
)
def test_parts_and_the_rest_give_the_whole_back(amount: int, bps: int, parts: list[int]) -> None:
    """Both shares only ever shrink, whatever is given back in which parts, and in the end nobody has anything."""
    back, latest = 0, divisions.divide(amount, bps, to_student=0)
    for part in [*parts, amount]:
        back = min(back + part, amount)
        division = divisions.divide(amount, bps, to_student=back)
        assert 0 <= division.to_tutor <= latest.to_tutor
        assert 0 <= division.to_platform <= latest.to_platform
        assert division.to_tutor + division.to_platform + division.to_student == amount
        latest = division

    assert latest == divisions.Division(0, 0, amount)


async def test_random_lives_of_a_share_keep_every_cent(earner: Earner, full: bool) -> None:
    """Sold, matured, paid out, frozen, given back in parts: whatever the order, the books are whole all along."""
    dice = random.Random(7)
    await earner.set_bank()
    holds = [
        await sell(earner, dice.randrange(1, 3_000), kind=dice.choice((BOOKING, COURSE))) for _ in range(4)
    ]
    freezes: list[tuple[HoldId, UUID]] = []

    async def freeze() -> None:
        hold_id, dispute = dice.choice(holds), uuid4()
        async with earner.sessions.begin() as session:
            await maturity.freeze(session, hold_id, by=dispute, only_pending=False, now=earner.now)
        freezes.append((hold_id, dispute))

    async def thaw() -> None:
        if freezes:
            hold_id, dispute = freezes.pop(dice.randrange(len(freezes)))
            async with earner.sessions.begin() as session:
                await maturity.thaw(session, hold_id, by=dispute, now=earner.now)

    async def give_back() -> None:
        await earner.give_back(dice.choice(holds), dice.choice((None, *[dice.randrange(1, 1_000)] * 3)))

    async def teach() -> None:
        holds.append(await sell(earner, dice.randrange(1, 3_000), kind=dice.choice((BOOKING, COURSE))))

    async def mature() -> None:
        earner.passes(timedelta(days=3))
        await earner.run(maturity.JOB)

    async def spend() -> None:
        async with earner.sessions.begin() as session:
            money = Money(dice.randrange(1, 2_000))
            await withdrawals.spend(session, earner.tutor, money, key=str(uuid4()), now=earner.now)

    for _ in range(100 if full else 5):
        for _ in range(5):
            await refused(dice.choice((freeze, thaw, give_back, give_back, teach, mature, spend))())
        found = set(await violations(earner.sessions)) - {"freeze_has_dispute"}
        assert found == set()


# Races ---------------------------------------------------------------------------------------------------------------


async def test_a_refund_and_the_end_of_the_window_never_both_get_the_share(earner: Earner) -> None:
    rounds = 4
    holds = [await sell(earner, 1_000) for _ in range(rounds)]
    earner.passes(RISK)

    async def mature(hold_id: UUID) -> None:
        async with earner.sessions.begin() as session:
            await maturity.mature(session, hold_id, now=earner.now)

    for hold_id in holds:
        await asyncio.gather(earner.give_back(hold_id), mature(hold_id))

    assert await earner.has(*WHERE) == [rounds * 1_000, 0, 0, 0, 0]
    assert await violations(earner.sessions) == []


async def test_a_refund_and_a_withdrawal_of_the_same_money_leave_a_debt_or_nothing(earner: Earner) -> None:
    await earner.set_bank()
    rounds = 4
    won = 0
    for _ in range(rounds):
        hold_id = await sell(earner, 10_000, kind=COURSE, bps=10_000)
        _, too_late = await asyncio.gather(earner.give_back(hold_id), refused(earner.ask(10_000)))
        won += too_late is None
        assert too_late in (None, InsufficientFundsError)
        # What was withdrawn is owed: the next round begins without.
        async with earner.sessions() as session:
            waiting = (
                await session.scalars(text("select id from withdrawal where status = 'pending'"))
            ).all()
        for withdrawal_id in waiting:
            assert (await earner.has(AccountKind.TUTOR_DEBT)) == [-10_000]
            await earner.reject(withdrawal_id)
        assert await earner.has(*WHERE[1:]) == [0, 0, 0, 0]

    assert 0 <= won <= rounds
    assert await violations(earner.sessions) == []


async def test_two_refunds_at_once_never_give_back_more_than_there_was(earner: Earner) -> None:
    hold_id = await sell(earner, 1_000)

    async def ask() -> GivenBack | None:
        try:
            return await earner.give_back(hold_id, 300)
        except RefundTooLargeError:
            return None

    given = await asyncio.gather(*(ask() for _ in range(6)))

    assert sum(one is not None for one in given) == 3
    assert await revenue(earner.sessions) == 30
    assert await violations(earner.sessions) == []


async def test_a_refund_with_one_key_at_once_happens_once(earner: Earner) -> None:
    hold_id = await sell(earner, 1_000)

    given = await asyncio.gather(*(earner.give_back(hold_id, 300, key="k") for _ in range(5)))

    assert len(set(given)) == 1
    assert await earner.has(AccountKind.WALLET) == [300]

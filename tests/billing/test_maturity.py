"""Earnings at risk: they mature once, at their time, unless a dispute has them; debts come first."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from billing import maturity, settlement
from billing.ledger import AccountKey
from billing.models import AccountKind, HoldId, SourceKind
from tests.billing.earner import RISK, Earner, at_frozen
from tests.billing.world import PLANNED_S, Sessions, facts, violations

BOOKING = SourceKind.BOOKING
WHERE = (AccountKind.EARNINGS_PENDING, AccountKind.EARNINGS, AccountKind.TUTOR_DEBT)
SECOND = timedelta(seconds=1)


@pytest.fixture
def earner(sessions: Sessions) -> Earner:
    return Earner(sessions)


async def freeze(earner: Earner, hold_id: HoldId, amount: int) -> AccountKind:
    """Open a dispute, as far as maturity is concerned: mark and move in one transaction."""
    dispute = uuid4()
    async with earner.sessions.begin() as session:
        kind = await maturity.freeze(session, hold_id, by=dispute)
        await earner.post(session, AccountKey(kind, earner.tutor, "USD"), at_frozen(dispute), amount)
    return kind


async def test_a_share_matures_when_its_risk_window_is_over(earner: Earner) -> None:
    await earner.teach(10_000, kind=BOOKING)
    before = await earner.has(*WHERE)
    earner.passes(RISK - SECOND)
    await earner.run(maturity.JOB)
    too_early = await earner.has(*WHERE)
    earner.passes(SECOND)
    await earner.run(maturity.JOB)

    assert before == too_early == [10_000, 0, 0]
    assert await earner.has(*WHERE) == [0, 10_000, 0]
    assert await violations(earner.sessions) == []


async def test_what_has_no_risk_window_is_earned_at_once(earner: Earner) -> None:
    await earner.teach(10_000)

    assert await earner.has(*WHERE) == [0, 10_000, 0]


async def test_a_share_matures_once(earner: Earner) -> None:
    hold_id = await earner.teach(10_000, kind=BOOKING)
    earner.passes(RISK)

    async def mature() -> bool:
        async with earner.sessions.begin() as session:
            return await maturity.mature(session, hold_id, now=earner.now)

    done = await asyncio.gather(*(mature() for _ in range(5)))

    assert sum(done) == 1
    assert await earner.has(*WHERE) == [0, 10_000, 0]


async def test_a_refunded_hold_matures_to_nothing(earner: Earner) -> None:
    await earner.teach(10_000, kind=SourceKind.PACKAGE_SLICE, attended_s=0)
    earner.passes(RISK)

    await earner.run(maturity.JOB)

    assert await earner.has(*WHERE) == [0, 0, 0]
    assert await violations(earner.sessions) == []


async def test_debts_are_repaid_from_what_matures(earner: Earner) -> None:
    await earner.owe(4_000)
    await earner.teach(3_000, kind=BOOKING)
    await earner.teach(3_000, kind=BOOKING)
    earner.passes(RISK)

    await earner.run(maturity.JOB)

    assert await earner.has(*WHERE) == [0, 2_000, 0]
    assert await violations(earner.sessions) == []


async def test_a_debt_larger_than_the_share_takes_all_of_it(earner: Earner) -> None:
    await earner.owe(4_000)
    await earner.teach(3_000, kind=BOOKING)
    earner.passes(RISK)

    await earner.run(maturity.JOB)

    assert await earner.has(*WHERE) == [0, 0, -1_000]


async def test_debts_are_repaid_from_earnings_that_were_never_at_risk(earner: Earner) -> None:
    await earner.owe(4_000)
    await earner.teach(3_000)

    counts = [await maturity.sweep(earner.sessions, earner.now) for _ in range(2)]

    assert counts == [1, 0]
    assert await earner.has(*WHERE) == [0, 0, -1_000]


async def test_debts_are_repaid_at_the_same_moment_as_often_as_there_is_something(earner: Earner) -> None:
    await earner.owe(4_000)
    for _ in range(2):
        await earner.teach(1_000)
        await maturity.sweep(earner.sessions, earner.now)

    assert await earner.has(*WHERE) == [0, 0, -2_000]


async def test_a_frozen_share_does_not_mature_until_it_is_freed(earner: Earner) -> None:
    hold_id = await earner.teach(10_000, kind=BOOKING)
    other = await earner.teach(500, kind=BOOKING)
    kind = await freeze(earner, hold_id, 10_000)
    earner.passes(RISK)
    await earner.run(maturity.JOB)
    frozen = await earner.has(*WHERE, AccountKind.FROZEN)
    sound = await violations(earner.sessions)

    async with earner.sessions.begin() as session:
        await earner.unfreeze(session, 10_000)
        await maturity.thaw(session, hold_id, now=earner.now)
    await earner.run(maturity.JOB)

    assert (kind, other == hold_id) == (AccountKind.EARNINGS_PENDING, False)
    assert frozen == [0, 500, 0, 10_000]
    assert await earner.has(*WHERE, AccountKind.FROZEN) == [0, 10_500, 0, 0]
    assert [*sound, *await violations(earner.sessions)] == []


async def test_a_dispute_and_the_end_of_the_window_never_both_get_the_money(earner: Earner) -> None:
    """Whoever is first decides where the dispute takes the money from; it is there either way."""
    rounds = 12
    holds = [await earner.teach(1_000, kind=BOOKING) for _ in range(rounds)]
    earner.passes(RISK)

    async def mature(hold_id: HoldId) -> None:
        async with earner.sessions.begin() as session:
            await maturity.mature(session, hold_id, now=earner.now)

    kinds: list[AccountKind] = []
    for hold_id in holds:
        kind, _ = await asyncio.gather(freeze(earner, hold_id, 1_000), mature(hold_id))
        kinds.append(kind)

    assert set(kinds) <= {AccountKind.EARNINGS, AccountKind.EARNINGS_PENDING}
    assert await earner.has(*WHERE, AccountKind.FROZEN) == [0, 0, 0, rounds * 1_000]
    assert await violations(earner.sessions) == []


async def test_late_evidence_adjusts_what_is_at_risk_and_nothing_that_matured(earner: Earner) -> None:
    adjusted = []
    for matured in (False, True):
        hold_id = await earner.teach(1_000, kind=SourceKind.PACKAGE_SLICE)
        lesson, student = await earner.lesson_of(hold_id)
        late = facts(lesson, {student: 0}, tutor_id=earner.tutor, tutor_attended_s=PLANNED_S)
        # By its own clock the adjuster is in time; the window's end was faster.
        in_time = earner.now + RISK - SECOND
        if matured:
            async with earner.sessions.begin() as session:
                await maturity.mature(session, hold_id, now=earner.now + RISK)
        async with earner.sessions.begin() as session:
            done = await settlement.reconsider(session, late, now=in_time)
        adjusted.append(done.adjusted == (hold_id,))

    assert adjusted == [True, False]
    assert await earner.has(*WHERE) == [0, 1_000, 0]
    assert await violations(earner.sessions) == []

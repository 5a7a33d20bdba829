"""Earnings at risk: they mature once, at their time, unless a dispute has them; debts come first."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from billing import maturity, settlement
from billing.ledger import AccountKey
from billing.models import AccountKind, HoldId, SourceKind
from tests.billing.earner import EXPENSE, RISK, Earner
from tests.billing.world import PLANNED_S, Sessions, facts, newest_journal, violations

BOOKING = SourceKind.BOOKING
# Slices are judged by attendance; these belong to no package.
NO_PACKAGE = ["slice_has_package"]
WHERE = (AccountKind.EARNINGS_PENDING, AccountKind.EARNINGS, AccountKind.TUTOR_DEBT)
SECOND = timedelta(seconds=1)


@pytest.fixture
def earner(sessions: Sessions) -> Earner:
    return Earner(sessions)


async def freeze(earner: Earner, hold_id: HoldId) -> UUID:
    """Open a dispute, as far as maturity is concerned."""
    dispute = uuid4()
    async with earner.sessions.begin() as session:
        await maturity.freeze(session, hold_id, by=dispute, only_pending=False, now=earner.now)
    return dispute


async def thaw(earner: Earner, hold_id: HoldId, dispute: UUID) -> None:
    async with earner.sessions.begin() as session:
        await maturity.thaw(session, hold_id, by=dispute, now=earner.now)


async def unsound(earner: Earner) -> list[str]:
    """Violations but that these freezes are nobody's."""
    return [name for name in await violations(earner.sessions) if name != "freeze_has_dispute"]


async def test_a_share_matures_when_its_risk_window_is_over(earner: Earner) -> None:
    hold_id = await earner.teach(10_000, kind=BOOKING)
    before = await earner.has(*WHERE)
    earner.passes(RISK - SECOND)
    await earner.run(maturity.JOB)
    too_early = await earner.has(*WHERE)
    earner.passes(SECOND)
    await earner.run(maturity.JOB)

    assert before == too_early == [10_000, 0, 0]
    assert await earner.has(*WHERE) == [0, 10_000, 0]
    newest = await newest_journal(earner.sessions)
    assert (newest.kind, newest.actor, newest.reason) == ("maturity", maturity.ACTOR, None)
    assert (newest.ref_type, newest.ref_id, newest.at) == ("hold", hold_id, earner.now)
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
    await earner.teach(10_000, kind=SourceKind.PACKAGE_SLICE, tutor_attended_s=0)
    earner.passes(RISK)

    await earner.run(maturity.JOB)

    assert await earner.has(*WHERE) == [0, 0, 0]
    assert await violations(earner.sessions) == NO_PACKAGE


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

    assert await earner.has(*WHERE) == [0, 0, -1_000]
    assert await violations(earner.sessions) == []


async def test_a_debt_that_stands_beside_earnings_is_found_and_repaid(earner: Earner) -> None:
    await earner.teach(3_000)
    await earner.owe_beside(4_000)
    found = await violations(earner.sessions)

    counts = [await maturity.sweep(earner.sessions, earner.now) for _ in range(2)]

    assert "debt_is_repaid" in found
    assert counts == [1, 0]
    assert await earner.has(*WHERE) == [0, 0, -1_000]


async def test_debts_are_repaid_at_the_same_moment_as_often_as_there_is_something(earner: Earner) -> None:
    await earner.owe(4_000)
    for _ in range(2):
        await earner.teach(1_000)

    assert await earner.has(*WHERE) == [0, 0, -2_000]


async def test_a_frozen_share_does_not_mature_until_it_is_freed(earner: Earner) -> None:
    hold_id = await earner.teach(10_000, kind=BOOKING)
    await earner.teach(500, kind=BOOKING)
    dispute = await freeze(earner, hold_id)
    earner.passes(RISK)
    await earner.run(maturity.JOB)
    frozen = await earner.has(*WHERE, AccountKind.FROZEN)
    sound = await unsound(earner)

    await thaw(earner, hold_id, dispute)
    await earner.run(maturity.JOB)

    assert frozen == [0, 500, 0, 10_000]
    assert await earner.has(*WHERE, AccountKind.FROZEN) == [0, 10_500, 0, 0]
    assert [*sound, *await violations(earner.sessions)] == []


async def test_what_two_freeze_is_free_when_both_let_go(earner: Earner) -> None:
    hold_id = await earner.teach(10_000, kind=BOOKING)
    first, second = await freeze(earner, hold_id), await freeze(earner, hold_id)
    earner.passes(RISK)
    seen = []
    for dispute in (first, first, second):
        await thaw(earner, hold_id, dispute)
        await earner.run(maturity.JOB)
        seen.append(await earner.has(*WHERE, AccountKind.FROZEN))

    assert seen == [[0, 0, 0, 10_000], [0, 0, 0, 10_000], [0, 10_000, 0, 0]]
    assert await violations(earner.sessions) == []


async def test_what_matured_is_frozen_as_far_as_it_is_there_and_debts_come_first_when_it_is_free(
    earner: Earner,
) -> None:
    hold_id, other = await earner.teach(10_000), await earner.teach(1_000)
    await earner.move(AccountKey(AccountKind.EARNINGS, earner.tutor, "USD"), EXPENSE, 4_000)
    dispute = await freeze(earner, hold_id)
    frozen = await earner.has(*WHERE, AccountKind.FROZEN)
    await earner.give_back(other)
    owing = await earner.has(*WHERE, AccountKind.FROZEN)

    await thaw(earner, hold_id, dispute)

    assert frozen == [0, 0, 0, 7_000]
    assert owing == [0, 0, -1_000, 7_000]
    assert await earner.has(*WHERE, AccountKind.FROZEN) == [0, 6_000, 0, 0]
    assert await violations(earner.sessions) == []


async def test_a_dispute_and_the_end_of_the_window_never_both_get_the_money(earner: Earner) -> None:
    """Whoever is first decides where the dispute takes the money from; it is there either way."""
    rounds = 12
    holds = [await earner.teach(1_000, kind=BOOKING) for _ in range(rounds)]
    earner.passes(RISK)

    async def mature(hold_id: HoldId) -> None:
        async with earner.sessions.begin() as session:
            await maturity.mature(session, hold_id, now=earner.now)

    for hold_id in holds:
        await asyncio.gather(freeze(earner, hold_id), mature(hold_id))

    assert await earner.has(*WHERE, AccountKind.FROZEN) == [0, 0, 0, rounds * 1_000]
    assert await unsound(earner) == []


async def test_late_evidence_adjusts_what_is_at_risk_and_nothing_that_matured(earner: Earner) -> None:
    adjusted = []
    for matured in (False, True):
        hold_id = await earner.teach(1_000, kind=SourceKind.PACKAGE_SLICE)
        lesson, student = await earner.lesson_of(hold_id)
        late = facts(lesson, {student: PLANNED_S}, tutor_id=earner.tutor, tutor_attended_s=0)
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
    assert await violations(earner.sessions) == NO_PACKAGE

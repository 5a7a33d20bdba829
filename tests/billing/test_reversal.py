"""A whole journal is undone at most once, and only where nothing else would have to know."""

import asyncio
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from billing import reversal, wallet, withdrawals
from billing.errors import (
    AlreadyReversedError,
    IdempotencyMismatchError,
    InsufficientFundsError,
    NotReversibleError,
)
from billing.models import Journal, JournalKind, OwnerId, Reversal
from tests.billing.earner import Earner
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
    owner,
    refusals,
    usd,
    violations,
)

REASON = "Wrong man."


async def undo(
    sessions: Sessions, journal_id: int, *, key: str = "1", reason: str = REASON
) -> reversal.Reversed:
    async with sessions.begin() as session:
        return await reversal.reverse(session, journal_id, actor="admin:1", reason=reason, key=key, now=NOW)


async def newest(sessions: Sessions, kind: JournalKind) -> int:
    async with sessions() as session:
        found = await session.scalar(
            select(Journal.id).where(Journal.kind == kind).order_by(Journal.id.desc()).limit(1)
        )
    assert found is not None
    return found


async def given(sessions: Sessions, amount: int = 5_000) -> tuple[OwnerId, int]:
    """Somebody who was given money, and the journal of it."""
    student = owner()
    await fund(sessions, student, amount)
    return student, await newest(sessions, JournalKind.ADMIN_ADJUSTMENT)


async def test_everything_goes_back_and_is_told(sessions: Sessions) -> None:
    student, journal_id = await given(sessions)

    done = await undo(sessions, journal_id)

    assert await balance(sessions, student) == 0
    assert (done.reverses_id, done.kind, done.ref_id) == (journal_id, JournalKind.ADMIN_ADJUSTMENT, student)
    async with sessions() as session:
        [entry, _] = await wallet.entries(session, student, limit=5)
    assert (entry.kind, entry.amount, entry.reason) == (JournalKind.REVERSAL, usd(-5_000), REASON)
    assert (entry.journal_id, entry.ref_id) == (done.journal_id, student)
    assert (await events(sessions)).count("wallet.changed") == 2
    assert await violations(sessions) == []


async def test_earnings_that_became_credit_become_earnings_again(sessions: Sessions) -> None:
    earner = Earner(sessions)
    await earner.teach(3_000)
    async with sessions.begin() as session:
        await withdrawals.spend(session, earner.tutor, usd(1_000), key="1", now=NOW)
    before = await earnings(sessions, earner.tutor)

    await undo(sessions, await newest(sessions, JournalKind.EARNINGS_SPENT))

    assert await earnings(sessions, earner.tutor) == before + 1_000
    assert await violations(sessions) == []


async def test_the_same_key_gives_the_same_reversal_and_another_finds_it_done(sessions: Sessions) -> None:
    student, journal_id = await given(sessions)

    first, again = await undo(sessions, journal_id), await undo(sessions, journal_id)
    with pytest.raises(AlreadyReversedError):
        await undo(sessions, journal_id, key="2")
    with pytest.raises(IdempotencyMismatchError):
        await undo(sessions, journal_id, reason="For another reason.")

    assert first == again
    assert await balance(sessions, student) == 0


async def test_of_many_at_once_one_undoes(sessions: Sessions) -> None:
    student, journal_id = await given(sessions)
    await fund(sessions, student, 50_000)

    tries = await asyncio.gather(
        *(undo(sessions, journal_id, key=str(number)) for number in range(6)), return_exceptions=True
    )

    assert sorted(type(one).__name__ for one in tries) == [*["AlreadyReversedError"] * 5, "Reversed"]
    assert await balance(sessions, student) == 50_000


async def test_what_was_spent_meanwhile_is_not_taken_from_nothing(sessions: Sessions) -> None:
    student, journal_id = await given(sessions)
    await buy(sessions, student, new_hold(amount=4_000, lesson_id=uuid4()))

    with pytest.raises(InsufficientFundsError) as refused:
        await undo(sessions, journal_id)

    assert refused.value.shortfall == usd(4_000)
    assert await balance(sessions, student) == 1_000


@pytest.mark.parametrize("kind", [JournalKind.PURCHASE, JournalKind.SETTLEMENT, JournalKind.REVERSAL])
async def test_what_is_part_of_something_else_has_its_own_way_back(
    sessions: Sessions, kind: JournalKind
) -> None:
    student, lesson = owner(), uuid4()
    await fund(sessions, student, 10_000)
    await buy(sessions, student, new_hold(lesson_id=lesson))
    await end(sessions, facts(lesson, {student: PLANNED_S}))
    _, gift = await given(sessions)
    await undo(sessions, gift)

    with pytest.raises(NotReversibleError) as refused:
        await undo(sessions, await newest(sessions, kind), key="2")

    assert refused.value.journal_kind == kind


def test_what_holds_withdrawals_and_stripe_know_of_is_never_undone_here() -> None:
    assert {
        JournalKind.ADMIN_ADJUSTMENT,
        JournalKind.GOODWILL,
        JournalKind.EARNINGS_SPENT,
    } == reversal.REVERSIBLE


async def test_nothing_is_undone_without_a_reason_or_a_journal(sessions: Sessions) -> None:
    _, journal_id = await given(sessions)

    codes = await refusals(
        sessions,
        *(
            partial(reversal.reverse, journal_id=wanted, actor="admin:1", reason=reason, key="1", now=NOW)
            for wanted, reason in ((journal_id, "oops"), (7, REASON))
        ),
    )

    assert codes == ["reason_too_short", "journal_not_found"]


async def test_the_database_takes_no_reversal_that_is_not_the_mirror(sessions: Sessions) -> None:
    _, first = await given(sessions)
    _, second = await given(sessions, 6_000)
    done = await undo(sessions, first)
    _, third = await given(sessions, 5_000)

    for wrong in (
        Reversal(reverses_id=second, journal_id=third),  # which is no reversal
        Reversal(reverses_id=done.journal_id, journal_id=first),
    ):
        async with sessions() as session:
            session.add(wrong)
            with pytest.raises(DBAPIError, match="REVERSAL_MIRRORS"):
                await session.flush()
    async with sessions() as session:
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(text("delete from ledger_reversal"))
        await session.execute(text("set local session_replication_role = origin"))
        session.add(Reversal(reverses_id=second, journal_id=done.journal_id))
        with pytest.raises(DBAPIError, match="REVERSAL_MIRRORS"):
            await session.flush()

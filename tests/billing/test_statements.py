"""A statement is what happened: its sums are the balance, and any way of cutting a period adds up."""

import asyncio
import hashlib
import itertools
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import select, text

from billing import papers, statements, wallet
from billing.errors import EntryNotFoundError, StatementTooLongError
from billing.models import AccountKind, JournalKind, OwnerId, Paper, PaperKind
from billing.papers import Issue, Wish
from billing.statements import Statement
from tests.billing.world import NOW, Sessions, balance, buy, fund, new_hold, owner, usd

EVER = NOW - timedelta(days=3_000), NOW + timedelta(days=3_000)


async def of(
    sessions: Sessions,
    owner_id: OwnerId,
    since: datetime = EVER[0],
    until: datetime = EVER[1],
    *kinds: JournalKind,
) -> Statement:
    async with sessions() as session:
        return await statements.statement(
            session, owner_id, AccountKind.WALLET, since=since, until=until, kinds=kinds
        )


async def move(sessions: Sessions, owner_id: OwnerId, amount: int, at: datetime) -> None:
    async with sessions.begin() as session:
        await wallet.adjust(
            session,
            owner_id,
            usd(amount),
            actor="admin:test",
            reason="Money for it.",
            key=str(uuid4()),
            now=at,
        )


async def test_each_movement_stands_between_its_balances(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 5_000)
    await buy(sessions, student, new_hold(amount=2_000))

    found = await of(sessions, student)

    assert (found.opening, found.closing) == (usd(0), usd(3_000))
    assert [(line.kind, line.before, line.amount, line.after) for line in found.lines] == [
        (JournalKind.ADMIN_ADJUSTMENT, usd(0), usd(5_000), usd(5_000)),
        (JournalKind.PURCHASE, usd(5_000), usd(-2_000), usd(3_000)),
    ]
    async with sessions() as session:
        listed = [*reversed(await wallet.entries(session, student, limit=5))]
    assert [line.entry_id for line in found.lines] == [entry.cursor for entry in listed]
    assert [(line.reason, line.ref_type, line.ref_id, line.at) for line in found.lines] == [
        (entry.reason, entry.ref_type, entry.ref_id, entry.at) for entry in listed
    ]
    assert [line.reason for line in found.lines] == ["Money for the test.", None]


async def test_a_filter_hides_movements_and_keeps_the_balances(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 5_000)
    await buy(sessions, student, new_hold(amount=2_000))

    found = await of(sessions, student, *EVER, JournalKind.PURCHASE)

    assert [(line.kind, line.before) for line in found.lines] == [(JournalKind.PURCHASE, usd(5_000))]
    assert (found.opening, found.closing) == (usd(0), usd(3_000))


async def test_whoever_never_had_anything_has_an_empty_statement(sessions: Sessions) -> None:
    found = await of(sessions, owner())

    assert (found.opening, found.closing, found.lines) == (usd(0), usd(0), ())


async def test_sums_are_the_balance_and_any_cut_adds_up(sessions: Sessions) -> None:
    student = owner()
    loop = asyncio.get_running_loop()
    moments = st.integers(0, 40).map(lambda hours: NOW + timedelta(hours=hours))

    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(st.tuples(st.integers(1, 9_000), moments), max_size=4),
        st.lists(moments, min_size=1, max_size=4),
    )
    def check(moves: list[tuple[int, datetime]], cuts: list[datetime]) -> None:
        async def run() -> None:
            for amount, at in moves:
                await move(sessions, student, amount, at)
            whole = await of(sessions, student)
            bounds = [EVER[0], *sorted(cuts), EVER[1]]
            parts = [await of(sessions, student, since, until) for since, until in itertools.pairwise(bounds)]

            assert whole.closing.amount == await balance(sessions, student)
            assert sum(line.amount.amount for line in whole.lines) == whole.closing.amount
            assert [line for part in parts for line in part.lines] == [*whole.lines]
            for part in parts:
                assert (
                    part.opening.amount + sum(line.amount.amount for line in part.lines)
                    == part.closing.amount
                )
                for line in part.lines:
                    assert line.before.amount + line.amount.amount == line.after.amount
            assert [part.closing for part in parts[:-1]] == [part.opening for part in parts[1:]]

        asyncio.run_coroutine_threadsafe(run(), loop).result(30)

    await asyncio.to_thread(check)


async def test_more_than_anybody_reads_is_refused(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = owner()
    for _ in range(3):
        await fund(sessions, student, 100)
    monkeypatch.setattr(statements, "LINES_MOST", 2)

    with pytest.raises(StatementTooLongError):
        await of(sessions, student)


async def test_an_entry_is_its_owners_alone(sessions: Sessions) -> None:
    student = owner()
    await fund(sessions, student, 5_000)
    [line] = (await of(sessions, student)).lines

    async with sessions() as session:
        account, found = await statements.entry(session, student, line.journal_id, line.account_id)
        expense = await session.scalar(text("select id from ledger_account where kind = 'platform_expense'"))
        for who, account_id, journal_id in (
            (owner(), line.account_id, line.journal_id),
            (student, line.account_id, 7),
            (student, expense or 0, line.journal_id),
        ):
            with pytest.raises(EntryNotFoundError):
                await statements.entry(session, who, journal_id, account_id)

    assert (account, found) == (AccountKind.WALLET, line)


# --- Papers ---------------------------------------------------------------------------------------------------


async def write(number: Issue) -> bytes:
    return f"paper {number}".encode()


async def issue(
    sessions: Sessions, owner_id: OwnerId, subject: str, *, now: datetime = NOW, facts: object = 1
) -> str:
    async with sessions.begin() as session:
        wish = Wish(owner_id=owner_id, kind=PaperKind.ENTRY, subject=subject, facts=facts)
        found, content = await papers.issue(session, wish, write, now=now)
    assert content == f"paper {found}".encode()
    return str(found)


async def test_numbers_rise_by_one_within_a_year(sessions: Sessions) -> None:
    student = owner()

    given_ = [await issue(sessions, student, name) for name in "abc"]
    next_year = await issue(sessions, student, "d", now=NOW + timedelta(days=365))

    assert given_ == ["2026-000001", "2026-000002", "2026-000003"]
    assert next_year == "2027-000001"


async def test_the_same_paper_is_given_again_and_what_says_something_else_is_another(
    sessions: Sessions,
) -> None:
    student = owner()

    first = await issue(sessions, student, "a")
    again = await issue(sessions, student, "a", now=NOW + timedelta(days=400))
    corrected = await issue(sessions, student, "a", facts=2)
    anothers = await issue(sessions, owner(), "a")

    assert (first, again, corrected, anothers) == ("2026-000001", "2026-000001", "2026-000002", "2026-000003")


async def test_a_number_that_was_not_committed_is_given_to_the_next(sessions: Sessions) -> None:
    student = owner()
    async with sessions() as session:
        wish = Wish(owner_id=student, kind=PaperKind.ENTRY, subject="lost", facts=1)
        await papers.issue(session, wish, write, now=NOW)

    assert await issue(sessions, student, "a") == "2026-000001"


async def test_many_at_once_leave_no_gap(sessions: Sessions) -> None:
    student = owner()

    given_ = await asyncio.gather(*(issue(sessions, student, str(number % 6)) for number in range(12)))

    assert sorted(set(given_)) == [f"2026-{number:06}" for number in range(1, 7)]


async def test_the_hash_of_the_file_is_kept(sessions: Sessions) -> None:
    await issue(sessions, owner(), "a")

    async with sessions() as session:
        paper = (await session.scalars(select(Paper))).one()
    assert paper.pdf_sha256 == hashlib.sha256(b"paper 2026-000001").digest()

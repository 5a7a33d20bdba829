"""What a check of everything costs where there is much: with `--full`, a million transfers."""

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import ledger_file, seals
from billing.checks import Proof
from server import checks
from tests.billing import many
from tests.conftest import FIGURES

LESSONS, LESSONS_FULL = 100, 92_000


@pytest.mark.timeout(900)
async def test_a_check_of_a_full_ledger_finds_nothing_wrong(
    database_url: str,
    sessions: async_sessionmaker[AsyncSession],
    full: bool,
    record_property: Callable[[str, object], None],
) -> None:
    transfers = await many.fill(database_url, LESSONS_FULL if full else LESSONS)
    sealed = await seals.seal(sessions)

    proofs: list[Proof] = []
    for deep in (False, False, True):
        async with sessions() as session:
            proofs.append(await checks.prove(session, every_room=True, deep=deep))

    for proof, name in zip(proofs, ("first", "second", "deep"), strict=True):
        slowest = ", ".join(f"{part} {ms}" for part, ms in [*proof.parts_ms.items()][:6])
        record_property(
            FIGURES, f"{transfers:,} transfers, {name}: {proof.took_ms} ms (longest, ms: {slowest})"
        )
    assert [proof.violations for proof in proofs] == [[], [], []]
    assert {proof.transfers for proof in proofs} == {transfers}
    assert sealed > 0


async def test_a_fault_in_a_full_ledger_is_named(
    database_url: str, sessions: async_sessionmaker[AsyncSession]
) -> None:
    await many.fill(database_url, 30)
    async with sessions.begin() as session:
        await session.execute(text("set local session_replication_role = replica"))
        hold_id = await session.scalar(
            text(
                "update hold_settlement set attended_s = attended_s + 1"
                " where hold_id = (select hold_id from hold_settlement limit 1) returning hold_id"
            )
        )

    async with sessions() as session:
        proof = await checks.prove(session)

    assert not proof.ok
    assert any(str(hold_id) in repr(one.rows) for one in proof.violations if one.name == "settled_by_facts")


async def test_the_file_of_a_full_ledger_is_proven(
    database_url: str, sessions: async_sessionmaker[AsyncSession]
) -> None:
    transfers = await many.fill(database_url, 30)
    await seals.seal(sessions)

    async with sessions() as session:
        proven = ledger_file.verify([line async for line in seals.export(session)])

    assert (proven.transfers, proven.sums) == (transfers, {"USD": 0})

"""The chain covers every journal, whenever it was committed; and no byte of the ledger can differ unnoticed."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import holds, ledger_file, seals
from billing.checks import Violation
from billing.errors import SealingStoppedError
from billing.ledger_file import LedgerFileError
from billing.models import OwnerId, Seal
from tests.billing.test_checks import lived
from tests.billing.world import NOW, Sessions, fund, new_hold, owner


async def chain(sessions: Sessions) -> list[Seal]:
    async with sessions() as session:
        return list(await session.scalars(select(Seal).order_by(Seal.number)))


async def journals(sessions: Sessions) -> int:
    async with sessions() as session:
        return int(await session.scalar(text("select count(*) from ledger_journal")) or 0)


async def file_of(sessions: Sessions) -> list[bytes]:
    async with sessions() as session:
        await session.execute(text("set transaction isolation level repeatable read"))
        return [line async for line in seals.export(session)]


async def broken(sessions: Sessions, *, deep: bool = True) -> list[Violation]:
    async with sessions() as session:
        return await seals.recheck(session, deep=deep)


async def hold(session: AsyncSession, student_id: OwnerId) -> None:
    """Write a journal that shares no account with anybody else's."""
    wanted = [new_hold(amount=100, lesson_id=uuid4())]
    await holds.place(session, holds=wanted, student_id=student_id, key=str(uuid4()), now=NOW)


async def sealed_world(sessions: Sessions) -> None:
    """A ledger of many kinds of journals under several seals, and some journals that are newer."""
    await lived(sessions)
    await seals.seal(sessions, most=5)
    await fund(sessions, owner(), 700)


# --- Sealing --------------------------------------------------------------------------------------------------


async def test_every_journal_is_sealed_once_and_the_chain_fits(sessions: Sessions) -> None:
    await lived(sessions)

    counted = await seals.seal(sessions, most=5)
    again = await seals.seal(sessions)

    made = await chain(sessions)
    assert (counted, again) == (await journals(sessions), 0)
    assert sum(one.journals for one in made) == counted
    assert len(made) > 2
    assert await broken(sessions) == []


async def test_an_empty_ledger_has_no_seal(sessions: Sessions) -> None:
    assert await seals.seal(sessions) == 0
    assert await chain(sessions) == []


async def test_a_journal_that_is_committed_after_a_younger_one_is_not_missed(sessions: Sessions) -> None:
    ann, ben = owner(), owner()
    for student in (ann, ben):
        await fund(sessions, student, 100)
    await seals.seal(sessions)
    late = sessions()
    await hold(late, ann)
    async with sessions.begin() as session:
        await hold(session, ben)

    between = await seals.seal(sessions)
    await late.commit()
    await late.close()
    after = await seals.seal(sessions)

    # The younger one waits for the older transaction: it might still have come before it.
    assert (between, after) == (0, 2)
    assert await broken(sessions) == []


async def test_sealing_while_journals_are_committed_out_of_order_misses_none(
    sessions: Sessions, full: bool
) -> None:
    rounds, lanes = (200 if full else 12), 6
    random = Random(7)
    people = [owner() for _ in range(lanes)]
    for person in people:
        await fund(sessions, person, 1_000_000)
    stop = asyncio.Event()

    async def write(lane: int) -> None:
        for _ in range(rounds):
            async with sessions() as session:
                await hold(session, people[lane])
                for _ in range(random.randrange(4)):
                    await session.execute(text("select 1"))
                await (session.rollback() if random.random() < 0.2 else session.commit())

    async def seal_on() -> int:
        sealed = 0
        while not stop.is_set():
            sealed += await seals.seal(sessions, most=random.randrange(1, 9))
        return sealed

    async with asyncio.TaskGroup() as tasks:
        sealers = [tasks.create_task(seal_on()) for _ in range(2)]
        async with asyncio.TaskGroup() as writers:
            for lane in range(lanes):
                writers.create_task(write(lane))
        stop.set()
    sealed = sum(sealer.result() for sealer in sealers) + await seals.seal(sessions)

    assert sealed == await journals(sessions)
    assert sum(one.journals for one in await chain(sessions)) == sealed
    assert await broken(sessions) == []
    assert ledger_file.verify(await file_of(sessions)).unsealed == 0


async def test_what_waits_for_a_seal_has_an_age(sessions: Sessions) -> None:
    await fund(sessions, owner(), 100)
    async with sessions() as session:
        before = await seals.unsealed_s(session)

    await seals.seal(sessions)

    async with sessions() as session:
        assert before > 0
        assert await seals.unsealed_s(session) == 0


async def test_a_database_made_from_a_dump_says_so_instead_of_sealing_on(sessions: Sessions) -> None:
    await fund(sessions, owner(), 100)
    await seals.seal(sessions)
    async with sessions.begin() as session:
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(text("update ledger_seal set upto_xid = upto_xid + 1000000"))
    await fund(sessions, owner(), 100)

    with pytest.raises(SealingStoppedError):
        await seals.seal(sessions)


# --- Looking again --------------------------------------------------------------------------------------------

FAULTS = {
    "another reason": "update ledger_journal set reason = 'Another one.' where id = {journal}",
    "another amount": "update ledger_transfer set amount = amount + 1 where journal_id = {journal}",
    "a journal less": "delete from ledger_journal where id = {journal}",
    "a transfer less": "delete from ledger_transfer where journal_id = {journal} and leg = 1",
    "a journal more": "insert into ledger_journal select id + 1, kind, actor, reason, ref_type, ref_id, at, recorded_at,"
    " xid from ledger_journal where id = {journal}",
    "another hash": "update ledger_seal set sha256 = sha256('x') where number = 2",
    "another time": "update ledger_seal set sealed_at = sealed_at + interval '1 second' where number = 2",
}


async def test_a_fault_in_what_is_sealed_is_found_and_its_seal_named(sessions: Sessions) -> None:
    await sealed_world(sessions)
    second = (await chain(sessions))[1]
    named: dict[str, set[int]] = {}

    for fault, statement in FAULTS.items():
        async with sessions() as session:
            await session.execute(text("set local session_replication_role = replica"))
            await session.execute(text(statement.format(journal=second.first_id)))
            found = await seals.recheck(session, deep=True)
        named[fault] = {row["number"] for one in found for row in one.rows}

    # Whoever changes a hash changes what the next one follows.
    assert named == {fault: {2, 3} if fault == "another hash" else {2} for fault in FAULTS}


async def test_by_the_hour_only_the_newest_are_looked_at(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sealed_world(sessions)
    monkeypatch.setattr(seals, "RECENT", 6)
    async with sessions.begin() as session:
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(text("update ledger_seal set sha256 = sha256('x') where number = 1"))

    assert [one.name for one in await broken(sessions, deep=False)] == []
    assert [one.name for one in await broken(sessions, deep=True)] == ["seal_matches"]


# --- The file -------------------------------------------------------------------------------------------------


async def test_a_whole_ledger_is_proven_offline(sessions: Sessions) -> None:
    await sealed_world(sessions)
    made = await chain(sessions)

    lines = await file_of(sessions)
    proven = ledger_file.verify(lines, pin=made[1].sha256.hex())

    assert (proven.journals, proven.seals, proven.unsealed) == (await journals(sessions), len(made), 1)
    assert (proven.head, proven.pinned) == (made[-1].sha256.hex(), 2)
    assert proven.sums == {"USD": 0}
    assert proven.transfers > proven.journals


async def test_an_empty_ledger_is_proven_too(sessions: Sessions) -> None:
    proven = ledger_file.verify(await file_of(sessions))

    assert (proven.journals, proven.seals, proven.head) == (0, 0, "")


def refused(lines: Sequence[bytes], **pin: str) -> bool:
    try:
        ledger_file.verify(lines, **pin)
    except LedgerFileError:
        return True
    return False


async def test_no_byte_of_a_file_can_differ(sessions: Sessions, full: bool) -> None:
    await sealed_world(sessions)
    whole = b"".join(await file_of(sessions))
    assert ledger_file.verify(whole.splitlines(keepends=True)).journals

    @settings(max_examples=5_000 if full else 60, deadline=None, database=None)
    @given(place=st.integers(0, len(whole) - 1), flip=st.integers(1, 255))
    def no_flip_passes(place: int, flip: int) -> None:
        changed = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
        assert refused(_lines(changed))

    await asyncio.to_thread(no_flip_passes)


def _lines(content: bytes) -> list[bytes]:
    """Lines as a file gives them: they end with a line feed and with nothing else."""
    parts = content.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


async def test_lines_are_all_there_once_and_in_their_order(sessions: Sessions) -> None:
    await sealed_world(sessions)
    lines = await file_of(sessions)
    count = len(lines)

    without = [place for place in range(count) if not refused(lines[:place] + lines[place + 1 :])]
    doubled = [place for place in range(count) if not refused(lines[: place + 1] + lines[place:])]
    swapped = [
        place
        for place in range(count - 1)
        if not refused([*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]])
    ]

    assert (without, doubled, swapped) == ([], [], [])


async def test_a_file_that_was_made_anew_is_not_the_one_whose_seal_is_known(sessions: Sessions) -> None:
    await sealed_world(sessions)
    known = (await chain(sessions))[0].sha256.hex()
    async with sessions.begin() as session:
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(text("delete from ledger_seal"))
        await session.execute(text("update ledger_journal set reason = 'Rewritten history.'"))
    await seals.seal(sessions)

    lines = await file_of(sessions)

    assert not refused(lines)
    assert refused(lines, pin=known)


def forged(lines: Sequence[bytes], change: Any) -> list[bytes]:
    """Change what lines say, and hash everything anew."""
    digest = ledger_file.Digest()
    said = [ledger_file._decoder.decode(line) for line in lines]
    out: list[bytes] = []
    link = ledger_file.Chain()
    for one in map(change, said):
        line = one
        match one:
            case ledger_file.Journal():
                link.add(one, ledger_file.encode(one))
            case ledger_file.Seal():
                hashed = link.close(one)
                line = msgspec.structs.replace(one, sha256=hashed.hex())
                link = ledger_file.Chain(hashed)
            case ledger_file.End():
                line = msgspec.structs.replace(one, sha256=digest.hex())
            case _:
                pass
        out.append(digest.add(ledger_file.encode(line)))
    return out


async def test_a_forger_who_hashes_anew_must_still_make_the_balances_fit(sessions: Sessions) -> None:
    await sealed_world(sessions)
    lines = await file_of(sessions)

    def richer(line: Any) -> Any:
        if isinstance(line, ledger_file.Account) and line.kind == "wallet":
            return msgspec.structs.replace(line, balance=line.balance + 1)
        return line

    assert not refused(forged(lines, lambda line: line))
    with pytest.raises(LedgerFileError, match="is not what its transfers say"):
        ledger_file.verify(forged(lines, richer))

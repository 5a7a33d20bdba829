"""The chain covers every journal, whenever it was committed; and no byte of the ledger can differ unnoticed."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import holds, ledger_file, seals
from billing.checks import Violation
from billing.errors import SealingStoppedError
from billing.ledger_file import Account, End, Head, Journal, LedgerFileError, Line, Proven, Transfer, verify
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

    with pytest.raises(SealingStoppedError) as stopped:
        await seals.seal(sessions)

    assert 0 < stopped.value.now < stopped.value.sealed


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
    return hashed([change(ledger_file._decoder.decode(line)) for line in lines])


def hashed(said: Sequence[Line]) -> list[bytes]:
    """The lines with the hashes that fit them."""
    digest = ledger_file.Digest()
    out: list[bytes] = []
    link = ledger_file.Chain()
    for one in said:
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


def moved(number: int, xid: int, amount: int) -> Journal:
    return Journal(
        id=number,
        xid=xid,
        kind="topup",
        actor="user:1",
        reason=None,
        ref_type="owner",
        ref_id=UUID(int=1),
        at=NOW,
        recorded_at=NOW,
        transfers=(Transfer(1, 1, 2, "USD", amount, None), Transfer(2, 2, 1, "USD", 1, None)),
    )


def sealed(number: int, since: int, upto: int, *ids: int) -> ledger_file.Seal:
    return ledger_file.Seal(
        number=number,
        since_xid=since,
        upto_xid=upto,
        journals=len(ids),
        first_id=min(ids),
        last_id=max(ids),
        sealed_at=NOW,
        sha256="",
    )


def holds_now(number: int, amount: int) -> Account:
    return Account(
        id=number, kind="wallet", owner_id=UUID(int=number), currency="USD", shard=0, balance=amount
    )


# Two seals, a journal that is newer than both, and the balances.
SMALL: list[Line] = [
    Head(),
    moved(10, 5, 101),
    moved(9, 6, 51),
    sealed(1, 0, 7, 9, 10),
    moved(11, 7, 2),
    sealed(2, 7, 8, 11),
    moved(12, 8, 2),
    holds_now(1, -152),
    holds_now(2, 152),
    End(journals=4, seals=2, accounts=2, sha256=""),
]


def put(place: int, *lines: Line, instead: int = 1) -> list[Line]:
    """The small ledger with these lines in a place, instead of so many."""
    return [*SMALL[:place], *lines, *SMALL[place + instead :]]


def but(place: int, **fields: object) -> list[Line]:
    return put(place, msgspec.structs.replace(SMALL[place], **fields))


def legs(*transfers: Transfer) -> list[Line]:
    return but(6, transfers=transfers)


# What hashes that fit cannot hide: the line, counted from one, and what is wrong with it.
FORGERIES: dict[str, tuple[list[Line], int, str]] = {
    "no head": (SMALL[1:], 1, "the file begins with its head, once"),
    "two heads": (put(1, Head(), instead=0), 2, "the file begins with its head, once"),
    "a journal twice": (put(2, SMALL[1], instead=0), 3, "a journal is not in its place"),
    "by id before xid": (put(1, SMALL[2], SMALL[1], instead=2), 3, "a journal is not in its place"),
    "older than its seal": (but(4, xid=6), 5, "a journal is not in its place"),
    "after an account": (put(8, moved(13, 9, 2), instead=0), 9, "a journal comes after the accounts"),
    "no first leg": (legs(Transfer(2, 1, 2, "USD", 1, None)), 7, "the legs of a journal are not all there"),
    "another currency": (legs(Transfer(1, 1, 2, "EUR", 1, None)), 7, "account 1 has two currencies"),
    "a seal of nothing": (put(6, sealed(3, 8, 9, 11), instead=0), 7, "a seal covers no journals"),
    "a seal at the end": (put(8, sealed(3, 8, 9, 12), instead=0), 9, "a seal covers no journals"),
    "a number left out": (but(5, number=3), 6, "a seal does not follow the one before"),
    "a first seal too late": (but(3, since_xid=1), 4, "a seal does not follow the one before"),
    "a gap between seals": (but(5, since_xid=8), 6, "a seal does not follow the one before"),
    "a seal too low": (but(3, upto_xid=6), 4, "a seal does not follow the one before"),
    "more than it covers": (but(3, journals=3), 4, "a seal covers other journals"),
    "another first": (but(3, first_id=10), 4, "a seal covers other journals"),
    "another last": (but(3, last_id=9), 4, "a seal covers other journals"),
    "an account twice": (put(9, SMALL[8], instead=0), 10, "an account is not in its place"),
    "accounts swapped": (put(7, SMALL[8], SMALL[7], instead=2), 9, "an account is not in its place"),
    "a cent more": (but(8, balance=153), 9, "the balance of account 2 is not what its transfers say"),
    "balance elsewhere": (
        but(7, currency="EUR"),
        8,
        "the balance of account 1 is not what its transfers say",
    ),
    "out of nothing": (put(9, holds_now(3, 1), instead=0), 10, "the balance of account 3 is not what"),
    "no account": (put(7, instead=2), 8, "account 1 is missing"),
    "more journals": (but(9, journals=5), 10, "something was left out or put in"),
    "fewer seals": (but(9, seals=1), 10, "something was left out or put in"),
    "more accounts": (but(9, accounts=3), 10, "something was left out or put in"),
    "two ends": ([*SMALL, SMALL[9]], 11, "the end was before it"),
    "no end": (SMALL[:9], 10, "the end is missing"),
    "nothing": ([], 1, "the end is missing"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forger_who_hashes_anew_is_told_what_is_wrong(name: str) -> None:
    lines, number, why = FORGERIES[name]

    with pytest.raises(LedgerFileError, match=f"^This ledger proves nothing: line {number}: {why}"):
        verify(hashed(lines))


SPOILT: dict[str, tuple[int, Callable[[bytes], bytes], str]] = {
    "not JSON": (2, lambda line: line[1:], "it cannot be read"),
    "not UTF-8": (2, lambda line: line.replace(b"user", b"\xff"), "it cannot be read"),
    "another field": (2, lambda line: line.replace(b'"actor"', b'"actress"'), "it cannot be read"),
    "a space": (2, lambda line: b" " + line, "it is not written as it must be"),
    "no line end": (10, lambda line: line[:-1], "it is not written as it must be"),
    "another time": (
        4,
        lambda line: line.replace(b"2026-03-01", b"2026-03-02"),
        "the hash of seal 1 does not fit",
    ),
    "another actor": (
        7,
        lambda line: line.replace(b"user:1", b"user:2"),
        "the hash of the file does not fit",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_line_that_was_spoilt_is_named(name: str) -> None:
    number, change, why = SPOILT[name]
    lines = hashed(SMALL)
    lines[number - 1] = change(lines[number - 1])
    named = len(lines) if "of the file" in why else number

    with pytest.raises(LedgerFileError, match=f"line {named}: {why}"):
        verify(lines)


def test_a_ledger_without_movements_is_proven() -> None:
    nothing: list[Line] = [Head(), holds_now(1, 0), End(journals=0, seals=0, accounts=1, sha256="")]

    assert verify(hashed(nothing)) == Proven(
        journals=0, transfers=0, seals=0, accounts=1, unsealed=0, sums={"USD": 0}, head="", pinned=None
    )


def test_a_small_ledger_is_proven_and_its_seal_known() -> None:
    lines = hashed(SMALL)
    first, second = (ledger_file._decoder.decode(lines[place]) for place in (3, 5))
    assert isinstance(first, ledger_file.Seal)
    assert isinstance(second, ledger_file.Seal)
    proven = Proven(
        journals=4,
        transfers=8,
        seals=2,
        accounts=2,
        unsealed=1,
        sums={"USD": 0},
        head=second.sha256,
        pinned=None,
    )

    assert verify(lines) == proven
    assert verify(lines, pin=first.sha256) == msgspec.structs.replace(proven, pinned=1)
    with pytest.raises(LedgerFileError, match="line 10: no seal has the hash that is known"):
        verify(lines, pin="0" * 64)


def test_a_seal_is_the_hash_that_is_documented() -> None:
    """Of the seal before, the lines of its journals, and its own line without a hash."""
    lines = hashed(SMALL)
    before = bytes(32)

    for first, last in ((1, 3), (4, 5)):
        seal = ledger_file._decoder.decode(lines[last])
        assert isinstance(seal, ledger_file.Seal)
        own = lines[last].replace(seal.sha256.encode(), b"")
        before = hashlib.sha256(b"".join([before, *lines[first:last], own])).digest()
        assert seal.sha256 == before.hex()


def test_a_chain_knows_the_ids_of_its_journals() -> None:
    link, number = ledger_file.Chain(), 10**17

    for one in (moved(number + 1, 5, 2), moved(number, 6, 2), moved(number + 2, 7, 2)):
        link.add(one, ledger_file.encode(one))

    assert (link.count, link.ids) == (3, (number, number + 2))

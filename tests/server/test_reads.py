"""Look-ups of many in one statement: each asker gets its own row, and suffers from nobody else."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server import reads as reads_module
from server.reads import Lookup, NotReadError, Reads

# It changes tables, not only what is in them.
OWN_DATABASE = True

Sessions = async_sessionmaker[AsyncSession]

# Every look-up says in which process of the database it was answered, and with how many others.
SQUARE = Lookup("""
    select a.no, a.n * a.n as square, pg_backend_pid() as backend, count(*) over () as askers
    from unnest($1::bigint[]) with ordinality as a (n, no)
    where a.n > 0
    order by a.n desc
""")
HALF = Lookup("select a.no, 100 / a.n from unnest($1::bigint[]) with ordinality as a (n, no)")
KEPT = Lookup(
    "select a.no, k.word from unnest($1::bigint[]) with ordinality as a (n, no) join kept k on k.n = a.n"
)


@pytest.fixture
async def reads(sessions: Sessions) -> AsyncIterator[Reads]:
    reads = Reads(sessions)
    async with reads.running():
        yield reads


async def square(reads: Reads, number: int) -> int | None:
    row = await reads.find(SQUARE, number)
    return None if row is None else row["square"]


async def test_each_asker_gets_its_own_row_whatever_the_order_of_the_answer(reads: Reads) -> None:
    found = await asyncio.gather(*(square(reads, number) for number in (3, 1, -2, 2, 3)))

    assert found == [9, 1, None, 4, 9]


async def test_who_asks_at_the_same_moment_shares_a_statement(reads: Reads) -> None:
    rows = await asyncio.gather(*(reads.find(SQUARE, number) for number in range(1, 51)))

    assert {row["askers"] for row in rows if row is not None} == {50}


async def test_larger_crowds_are_answered_in_several_goes(
    reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads_module, "GROUP_MAX", 20)

    rows = await reads.find_all(SQUARE, [(number,) for number in range(1, 51)])

    assert [row["square"] for row in rows if row is not None] == [n * n for n in range(1, 51)]
    assert {row["askers"] for row in rows if row is not None} == {20, 10}


async def test_one_that_fails_harms_no_other(reads: Reads) -> None:
    first, bad, last = await asyncio.gather(
        *(reads.find(HALF, number) for number in (2, 0, 4)), return_exceptions=True
    )

    assert isinstance(bad, asyncpg.DivisionByZeroError)
    assert isinstance(first, asyncpg.Record)
    assert isinstance(last, asyncpg.Record)
    assert (first[1], last[1]) == (50, 25)


async def test_one_that_gives_up_takes_nobody_along(reads: Reads) -> None:
    async with asyncio.TaskGroup() as tasks:
        impatient = tasks.create_task(square(reads, 3))
        patient = tasks.create_task(square(reads, 3))
        await asyncio.sleep(0)
        impatient.cancel()

    assert impatient.cancelled()
    assert patient.result() == 9


async def test_a_look_up_sees_what_was_committed_before_it_was_asked_for(
    reads: Reads, sessions: Sessions
) -> None:
    async with sessions.begin() as session:
        await session.execute(text("create table kept (n bigint, word text)"))
    before = asyncio.gather(*(reads.find(KEPT, 1) for _ in range(3)))
    await asyncio.sleep(0)
    async with sessions.begin() as session:
        await session.execute(text("insert into kept values (1, 'yes')"))

    row = await reads.find(KEPT, 1)

    await before
    assert row is not None
    assert row["word"] == "yes"


async def test_lost_connections_are_replaced_unnoticed(reads: Reads, sessions: Sessions) -> None:
    rows = [await reads.find(SQUARE, number) for number in range(1, 5)]
    backends = {row["backend"] for row in rows if row is not None}
    async with sessions.begin() as session:
        for backend in backends:
            await session.execute(text("select pg_terminate_backend(:pid)"), {"pid": backend})

    assert [await square(reads, number) for number in (1, 2, 3)] == [1, 4, 9]


async def test_without_a_database_askers_hear_so_and_later_ones_are_answered(
    reads: Reads, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sessions.kw["bind"]
    connect = type(engine).connect

    def refuse(self: object) -> None:
        raise ConnectionRefusedError("the database is away")

    monkeypatch.setattr(type(engine), "connect", refuse)
    with pytest.raises(NotReadError):
        await square(reads, 2)

    monkeypatch.setattr(type(engine), "connect", connect)
    assert await square(reads, 2) == 4


async def test_whoever_waits_at_the_end_is_not_kept_waiting(sessions: Sessions) -> None:
    reads = Reads(sessions)
    slow = Lookup("select 1, pg_sleep(5) from unnest($1::bigint[])")
    async with asyncio.TaskGroup() as tasks, reads.running():
        waiting = [tasks.create_task(_outcome(reads, slow)) for _ in range(3)]
        await asyncio.sleep(0)

    assert {type(task.result()) for task in waiting} == {NotReadError}


async def _outcome(reads: Reads, lookup: Lookup) -> object:
    try:
        return await reads.find(lookup, 1)
    except NotReadError as error:
        return error

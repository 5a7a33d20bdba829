"""Seal the ledger every minute, look whether the seals still fit, and write the whole of it into a file.

**Why no journal is missed.** Ids are given before the commit, so a smaller id may be committed after a larger one, and
a chain by ids alone would have holes. Each journal therefore carries the number of its transaction. PostgreSQL says
below which number every transaction is over (`pg_snapshot_xmin`): whatever they wrote is visible from then on, and
nothing can be added to it, since later transactions get larger numbers. A seal covers exactly the journals of the
transactions from the last seal's bound up to that number, in the order of number and id; the spans follow each other
without a gap (a foreign key), so each committed journal is in one seal, whenever it was committed.

A transaction that stays open holds the bound back, never tears a hole: the journals after it wait unsealed.
"""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import ledger_file
from billing.checks import ROWS_MOST, Violation
from billing.errors import SealingStoppedError
from billing.ledger_file import NOTHING, Chain, End, Head, Journal, Transfer, encode
from billing.models import Account, Seal

# A seal covers about so many journals at most, so that looking at one again stays a matter of a fraction of a second.
JOURNALS_MOST = 10_000
# What is looked at again every hour: at most so many of the newest journals, some 0.3 s of work. All of them: `deep`.
RECENT = 10_000
# Rows that are read and hashed in one go: the server seals on the loop that serves its people, some ms at a time.
CHUNK = 200

# Advisory locks of two numbers share nothing with those of lessons, which have one.
_LOCK = text("select pg_advisory_xact_lock(1602, 1)")
# The first seal of an old database sorts all that there is.
_PATIENCE = text("set local statement_timeout = '300s'")
_HORIZON = text("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_JOURNALS = text(
    """
    select j.id, j.xid, j.kind, j.actor, j.reason, j.ref_type, j.ref_id, j.at, j.recorded_at, (
      select cast(json_agg(json_build_array(leg, debit_account, credit_account, currency, amount, hold_id)) as text)
      from (select * from ledger_transfer where journal_id = j.id order by leg) legs
    ) as transfers
    from ledger_journal j
    where j.xid >= :since and j.xid < :upto
    order by j.xid, j.id
    """
)
_XID_MOST = 2**63 - 1
# Not `Transfer`: an amount that is wrong is for the hash to tell.
_cells = msgspec.json.Decoder(list[tuple[int, int, int, str, int, UUID | None]])
_UNSEALED_S = text(
    """
    select coalesce(extract(epoch from clock_timestamp() - min(recorded_at)), 0)::float8 from ledger_journal
    where xid >= coalesce((select upto_xid from ledger_seal order by number desc limit 1), 0)
    """
)


async def seal(sessions: async_sessionmaker[AsyncSession], *, most: int = JOURNALS_MOST) -> int:
    """Seal every journal whose transaction can get no further ones; return how many there were.

    Raises:
        SealingStoppedError: The database counts its transactions anew.
    """
    sealed = 0
    while True:
        async with sessions.begin() as session:
            count = await _seal_next(session, most)
        sealed += count
        if count < most:
            return sealed


async def recheck(session: AsyncSession, *, deep: bool) -> list[Violation]:
    """Compute the newest seals anew, or all of them; return those that do not fit.

    The transaction must be one that sees a single moment (repeatable read).
    """
    rows: list[dict[str, Any]] = []
    for wanted in await _wanted(session, deep=deep):
        before = NOTHING
        if wanted.number > 1:
            before = await session.scalar(select(Seal.sha256).where(Seal.number == wanted.number - 1)) or b""
        chain = Chain(before)
        async for journal in _journals(session, wanted.since_xid, wanted.upto_xid):
            chain.add(journal, encode(journal))
        found = chain.close(_line(wanted))
        if (chain.count, found) != (wanted.journals, wanted.sha256):
            rows.append(
                {
                    "number": wanted.number,
                    "journals": wanted.journals,
                    "found": chain.count,
                    "since_xid": wanted.since_xid,
                    "upto_xid": wanted.upto_xid,
                }
            )
    detail = "The journals that a seal covers are not what they were."
    return [Violation("seal_matches", detail, tuple(rows[:ROWS_MOST]))] if rows else []


async def unsealed_s(session: AsyncSession) -> float:
    """Return how long the oldest journal waits that no seal covers; 0 when all are sealed."""
    return float(await session.scalar(_UNSEALED_S) or 0)


async def export(session: AsyncSession) -> AsyncIterator[bytes]:
    """Yield the whole ledger as the lines of `ledger_file.py`, with the seals that there are.

    The transaction must be one that sees a single moment (repeatable read).
    """
    await session.execute(_PATIENCE)
    whole = ledger_file.Digest()
    seals = list(await session.scalars(select(Seal).order_by(Seal.number)))
    yield whole.add(encode(Head()))
    journals = accounts = place = 0
    async for journal in _journals(session, 0, _XID_MOST):
        while place < len(seals) and journal.xid >= seals[place].upto_xid:
            yield whole.add(encode(_line(seals[place])))
            place += 1
        yield whole.add(encode(journal))
        journals += 1
    for rest in seals[place:]:
        yield whole.add(encode(_line(rest)))
    stream = await session.stream(
        select(
            Account.id, Account.kind, Account.owner_id, Account.currency, Account.shard, Account.balance
        ).order_by(Account.id),
        execution_options={"yield_per": CHUNK},
    )
    async for row in stream:
        yield whole.add(encode(ledger_file.Account(**row._asdict())))
        accounts += 1
    yield encode(End(journals=journals, seals=len(seals), accounts=accounts, sha256=whole.hex()))


async def _seal_next(session: AsyncSession, most: int) -> int:
    """Make one seal, if there is anything to seal; return how many journals it covers."""
    await session.execute(_PATIENCE)
    await session.execute(_LOCK)
    last = await session.scalar(select(Seal).order_by(Seal.number.desc()).limit(1))
    # The bound first, the journals by later snapshots: those see at least as much.
    upto = await session.scalar(_HORIZON)
    assert isinstance(upto, int)
    since = last.upto_xid if last else 0
    if upto < since:
        raise SealingStoppedError(since, upto)
    chain = Chain(last.sha256 if last else NOTHING)
    newest = -1
    async for journal in _journals(session, since, upto):
        if chain.count >= most and journal.xid != newest:
            upto = journal.xid
            break
        chain.add(journal, encode(journal))
        newest = journal.xid
    if not chain.count:
        return 0
    first_id, last_id = chain.ids
    made = Seal(
        number=last.number + 1 if last else 1,
        since_xid=since,
        upto_xid=upto,
        journals=chain.count,
        first_id=first_id,
        last_id=last_id,
        sha256=b"",
        sealed_at=await session.scalar(select(func.clock_timestamp())),
    )
    made.sha256 = chain.close(_line(made))
    session.add(made)
    return made.journals


async def _wanted(session: AsyncSession, *, deep: bool) -> list[Seal]:
    """Return the seals to look at, in their order: all, or the newest with about `RECENT` journals, one at least."""
    if deep:
        return list(await session.scalars(select(Seal).order_by(Seal.number)))
    found: list[Seal] = []
    covered = 0
    stream = await session.stream_scalars(
        select(Seal).order_by(Seal.number.desc()).limit(RECENT), execution_options={"yield_per": CHUNK}
    )
    async for one in stream:
        if found and covered + one.journals > RECENT:
            break
        found.append(one)
        covered += one.journals
    await stream.close()
    return found[::-1]


async def _journals(session: AsyncSession, since: int, upto: int) -> AsyncIterator[Journal]:
    """Yield the journals of these transactions, by transaction and id."""
    stream = await session.stream(
        _JOURNALS, {"since": since, "upto": upto}, execution_options={"yield_per": CHUNK}
    )
    try:
        # A row at a time would be a switch of tasks for each.
        async for rows in stream.partitions():
            for row in rows:
                yield _journal(row)
    finally:
        await stream.close()


def _journal(row: Row[*tuple[Any, ...]]) -> Journal:
    return Journal(
        id=row.id,
        xid=row.xid,
        kind=row.kind,
        actor=row.actor,
        reason=row.reason,
        ref_type=row.ref_type,
        ref_id=row.ref_id,
        at=row.at,
        recorded_at=row.recorded_at,
        transfers=tuple(Transfer(*cells) for cells in _cells.decode(row.transfers or "[]")),
    )


def _line(made: Seal) -> ledger_file.Seal:
    return ledger_file.Seal(
        number=made.number,
        since_xid=made.since_xid,
        upto_xid=made.upto_xid,
        journals=made.journals,
        first_id=made.first_id,
        last_id=made.last_id,
        sealed_at=made.sealed_at,
        sha256=made.sha256.hex(),
    )

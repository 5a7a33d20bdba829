"""Work that follows a commit: a row in the transaction that asks for it, gone in the transaction of its effect.

It stands in the lowest package so that every package may use it. `server/runner.py` runs what is due: it claims rows for
a while, by the database's clock. Each claim has a lease of its own, and whoever lost it can write nothing: what
`finish` is committed with happens exactly once, whatever dies, hangs or comes back.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import ColumnElement, Row, Select, Text, and_, case, cast, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from billing.crashpoints import crashpoint
from billing.errors import JobNotFoundError, LeaseLostError
from billing.models import JobRow

# Set in `session.info`, so that the edge knows to wake the runner after its commit.
ENQUEUED = "job_enqueued"

# Key of the one row of periodic work.
PERIODIC = "periodic"

# What is kept of an error: enough to find it in the log.
ERROR_MOST = 2_000


class Claim(msgspec.Struct, frozen=True):
    """Work that somebody has taken: whoever finishes it shows the lease."""

    id: int
    kind: str
    key: str
    payload: msgspec.Raw
    """JSON of what was enqueued."""
    run_at: datetime
    asked: int
    tries: int
    """With this one."""
    lease: UUID


State = Literal["waiting", "running", "dead"]


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """One row as an administrator sees it; the payload stays here, it may name people."""

    id: UUID
    """The row's number; people see only ids."""
    kind: str
    key: str
    state: State
    run_at: datetime
    tries: int
    error: str | None
    dead_at: datetime | None
    every_s: int | None
    last_run_at: datetime | None
    last_duration_ms: int | None
    last_count: int | None


class Revived(msgspec.Struct, frozen=True):
    """Work that is tried anew."""

    kind: str
    key: str
    error: str | None
    """What it was given up for."""


async def enqueue(
    session: AsyncSession, kind: str, payload: msgspec.Struct, *, key: str, run_at: datetime
) -> None:
    """Ask for work in the session's transaction.

    What waits under this key already is not done twice; the newest payload counts, and the earlier time. What is being
    done at this moment may have looked before this transaction is committed, so it is done once more afterwards. What
    was given up is tried anew.

    Args:
        session: Commits the work together with what asks for it.
        kind: A row of the table in `server/jobs.py`.
        payload: What the work needs to know; readable as JSON.
        key: Of the work within its kind.
        run_at: Not before, on the kind's own clock.
    """
    query = insert(JobRow).values(kind=kind, key=key, payload=msgspec.to_builtins(payload), run_at=run_at)
    asked = query.excluded
    is_waiting = and_(JobRow.dead_at.is_(None), _is_free())
    await session.execute(
        query.on_conflict_do_update(
            index_elements=[JobRow.kind, JobRow.key],
            set_={
                "payload": asked.payload,
                "asked": JobRow.asked + 1,
                "run_at": case((is_waiting, func.least(JobRow.run_at, asked.run_at)), else_=asked.run_at),
                "tries": case((JobRow.dead_at.is_not(None), 0), else_=JobRow.tries),
                "dead_at": None,
            },
        )
    )
    session.info[ENQUEUED] = True


async def finish(session: AsyncSession, claim: Claim) -> None:
    """Take the work off the list, in the transaction of its effect: both are committed, or neither.

    Work that was asked for again meanwhile is done once more: this effect may not have seen what it was asked for.

    Raises:
        LeaseLostError: It took too long and somebody else has taken it; nothing of this transaction may stay.
    """
    held = (JobRow.id == claim.id, JobRow.lease == claim.lease)
    gone = await session.scalar(delete(JobRow).where(*held, JobRow.asked == claim.asked).returning(JobRow.id))
    if gone is None:
        await _release(session, claim, tries=0, error=None)
        session.info[ENQUEUED] = True
    crashpoint("job.finished")


async def call_off(session: AsyncSession, kind: str, *, key: str) -> None:
    """Take work off the list that nobody wants any more; who does it at this moment has lost it."""
    await session.execute(delete(JobRow).where(JobRow.kind == kind, JobRow.key == key))


async def require(session: AsyncSession, claim: Claim) -> None:
    """Make sure that nobody takes the work away, or calls it off, before this transaction is over.

    Raises:
        LeaseLostError: Somebody has.
    """
    held = select(JobRow.id).where(JobRow.id == claim.id, JobRow.lease == claim.lease)
    if await session.scalar(held.with_for_update(key_share=True)) is None:
        raise LeaseLostError(claim.kind, claim.key)


async def plan(session: AsyncSession, periods: Mapping[str, tuple[timedelta, datetime]]) -> None:
    """Have a row for each kind of periodic work, by its period and when it is to run for the first time."""
    rows = [
        {"kind": kind, "key": PERIODIC, "payload": {}, "every": every, "run_at": first}
        for kind, (every, first) in sorted(periods.items())
    ]
    if not rows:
        return
    query = insert(JobRow)
    await session.execute(
        query.values(rows).on_conflict_do_update(
            index_elements=[JobRow.kind, JobRow.key],
            set_={"every": query.excluded.every, "run_at": func.least(JobRow.run_at, query.excluded.run_at)},
            where=JobRow.every != query.excluded.every,
        )
    )


async def claim(
    session: AsyncSession,
    due: Sequence[tuple[Collection[str], datetime]],
    *,
    limit: int,
    lease: timedelta,
    only: int | None = None,
) -> list[Claim]:
    """Take work that is due and that nobody else does, the longest due first.

    Args:
        session: Nothing is taken before its commit.
        due: Kinds, each group with the time that it goes by.
        limit: At most so much.
        lease: For how long; then somebody else may take it.
        only: The id of the only row to be taken.
    """
    waiting = (
        select(JobRow.id)
        .where(JobRow.dead_at.is_(None), _is_free(), _is_due(due))
        .order_by(JobRow.run_at, JobRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    if only is not None:
        waiting = waiting.where(JobRow.id == only)
    # As a table expression it is evaluated once; as a plain subquery the planner may ask it again and take more.
    found = waiting.cte("waiting")
    query = (
        update(JobRow)
        .where(JobRow.id.in_(select(found.c.id)))
        .values(lease=uuid4(), leased_until=func.clock_timestamp() + lease, tries=JobRow.tries + 1)
        .returning(
            JobRow.id,
            JobRow.kind,
            JobRow.key,
            cast(JobRow.payload, Text),
            JobRow.run_at,
            JobRow.asked,
            JobRow.tries,
            JobRow.lease,
        )
    )
    claims = [_claim(row) for row in await session.execute(query)]
    crashpoint("job.claimed")
    return sorted(claims, key=lambda one: (one.run_at, one.id))


async def renew(session: AsyncSession, leases: Collection[UUID], *, lease: timedelta) -> None:
    """Keep what is still being done for a while longer; what was lost stays lost.

    A row that somebody has locked is left for the next time: nobody takes it meanwhile, and whoever waits for one row
    while they keep others is in the way of those whom it waits for.
    """
    free = select(JobRow.id).where(JobRow.lease.in_(leases)).with_for_update(skip_locked=True, key_share=True)
    await session.execute(
        update(JobRow)
        .where(JobRow.id.in_(select(free.cte("free").c.id)))
        .values(leased_until=func.clock_timestamp() + lease)
    )


async def hand_back(session: AsyncSession, leases: Collection[UUID]) -> None:
    """Let others do at once what was begun here and will not be ended; it was no try."""
    await session.execute(
        update(JobRow)
        .where(JobRow.lease.in_(leases))
        .values(lease=None, leased_until=None, tries=func.greatest(JobRow.tries - 1, 0))
    )


async def repeat(
    session: AsyncSession, claim: Claim, *, run_at: datetime, now: datetime, duration_ms: int, count: int
) -> None:
    """Note that periodic work went well, and when it is to run next.

    Raises:
        LeaseLostError: Somebody else has taken it.
    """
    await _release(
        session,
        claim,
        tries=0,
        error=None,
        run_at=run_at,
        last_run_at=now,
        last_duration_ms=duration_ms,
        last_count=count,
    )


async def put_off(session: AsyncSession, claim: Claim, *, error: str, run_at: datetime) -> None:
    """Note that a try failed, and when the next one is.

    Raises:
        LeaseLostError: Somebody else has taken it.
    """
    await _release(session, claim, error=error[:ERROR_MOST], run_at=run_at)


async def give_up(session: AsyncSession, claim: Claim, *, error: str, now: datetime) -> None:
    """Note that the last try failed: somebody must look.

    Raises:
        LeaseLostError: Somebody else has taken it.
    """
    await _release(session, claim, error=error[:ERROR_MOST], dead_at=now)


async def next_due(
    session: AsyncSession, kinds: Collection[str], until: datetime, *, but: Collection[int]
) -> tuple[datetime, int] | None:
    """Return when the next work of these kinds falls due, up to `until`, and its id; rows in `but` do not count."""
    query: Select[datetime, int] = (
        select(JobRow.run_at, JobRow.id)
        .where(
            JobRow.kind.in_(kinds), JobRow.dead_at.is_(None), JobRow.run_at <= until, JobRow.id.not_in(but)
        )
        .order_by(JobRow.run_at, JobRow.id)
        .limit(1)
    )
    found = (await session.execute(query)).one_or_none()
    return None if found is None else (found[0], found[1])


async def find(
    session: AsyncSession, *, state: State | None, limit: int, before: UUID | None
) -> list[JobView]:
    """Return rows, the newest first.

    Args:
        session: Only read.
        state: Only these.
        limit: At most so many.
        before: Only rows that are older than this one.
    """
    is_running = and_(JobRow.lease.is_not(None), JobRow.leased_until >= func.clock_timestamp())
    state_of: ColumnElement[str] = case(
        (JobRow.dead_at.is_not(None), "dead"), (is_running, "running"), else_="waiting"
    )
    query = select(JobRow, state_of.label("state")).order_by(JobRow.id.desc()).limit(limit)
    if state is not None:
        query = query.where(state_of == state)
    if before is not None:
        query = query.where(JobRow.id < _number(before))
    return [
        JobView(
            id=UUID(int=row.id),
            kind=row.kind,
            key=row.key,
            state=msgspec.convert(found, State),
            run_at=row.run_at,
            tries=row.tries,
            error=row.error,
            dead_at=row.dead_at,
            every_s=None if row.every is None else round(row.every.total_seconds()),
            last_run_at=row.last_run_at,
            last_duration_ms=row.last_duration_ms,
            last_count=row.last_count,
        )
        for row, found in await session.execute(query)
    ]


async def revive(session: AsyncSession, job_id: UUID) -> Revived:
    """Have work tried anew that was given up.

    Raises:
        JobNotFoundError: There is no such work, or it was not given up.
    """
    row = (
        await session.execute(
            update(JobRow)
            .where(JobRow.id == _number(job_id), JobRow.dead_at.is_not(None))
            .values(dead_at=None, tries=0)
            .returning(JobRow.kind, JobRow.key, JobRow.error)
        )
    ).one_or_none()
    if row is None:
        raise JobNotFoundError(job_id)
    session.info[ENQUEUED] = True
    return Revived(*row)


def _number(job_id: UUID) -> int:
    # Numbers have 64 bits; any other id is nobody's.
    return min(job_id.int, 2**63 - 1)


def _is_free() -> ColumnElement[bool]:
    return or_(JobRow.lease.is_(None), JobRow.leased_until < func.clock_timestamp())


def _is_due(due: Sequence[tuple[Collection[str], datetime]]) -> ColumnElement[bool]:
    return or_(*(and_(JobRow.kind.in_(kinds), JobRow.run_at <= now) for kinds, now in due))


async def _release(session: AsyncSession, claim: Claim, **values: object) -> None:
    kept = await session.scalar(
        update(JobRow)
        .where(JobRow.id == claim.id, JobRow.lease == claim.lease)
        .values(lease=None, leased_until=None, **values)
        .returning(JobRow.id)
    )
    if kept is None:
        raise LeaseLostError(claim.kind, claim.key)


def _claim(row: Row[int, str, str, str, datetime, int, int, UUID | None]) -> Claim:
    job_id, kind, key, payload, run_at, asked, tries, lease = row
    assert lease is not None, "it was just written"
    return Claim(job_id, kind, key, msgspec.Raw(payload.encode()), run_at, asked, tries, lease)

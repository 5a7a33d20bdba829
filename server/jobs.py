"""TABLE: periodic work. Each job runs on one node at a time, can be repeated at any moment, and catches up after a stop.

When a job runs next is a row, so a restart neither forgets nor repeats a period: one that is overdue runs once, and
finds everything that has become due meanwhile.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import settlement
from server import idempotency, outage
from server.clock import Clock
from server.features.accounts import lockout, tokens
from server.features.notifications import notices
from server.gateway import history
from server.gateway.limits import Limits
from server.http.health import Integrity
from server.upkeep import JobRun

log = structlog.get_logger()


class Means(msgspec.Struct, frozen=True):
    """What jobs work with."""

    sessions: async_sessionmaker[AsyncSession]
    integrity: Integrity


Work = Callable[[Means, datetime], Awaitable[int]]
"""`async def work(means, now) -> count of what it did`."""

# Periods below are minutes; a look every second starts a job at most so late and costs one indexed query.
LOOK_S = 1.0
# A runner that has not finished by then is taken for dead. The longest job (purging in batches) takes seconds.
LEASE = timedelta(minutes=5)
# After the process is up again, a failed job is tried this much later, or at its next period if that is sooner.
AGAIN = timedelta(seconds=30)
# Rows that one statement of a purge deletes: far below the statement limit of 5 s.
PURGE_ROWS = 5_000

# PROTOCOL 2 and 3: keys and publications are worth something for a day; B-23: notifications for 90.
KEPT = timedelta(hours=24)
NOTIFICATIONS_KEPT = timedelta(days=90)


class Job(msgspec.Struct, frozen=True):
    """One row of the table."""

    name: str
    every: timedelta
    work: Work
    clock: Literal["business", "wall"]
    """Which time it runs by and is given as now (DESIGN §4, Clocks)."""


async def settle_due(means: Means, now: datetime) -> int:
    """Settle what is due and was not settled at once: the net below the rooms."""
    return await settlement.sweep(means.sessions, now)


async def check_integrity(means: Means, _: datetime) -> int:
    """Check every invariant anew, for the log and `/health/integrity`; return how many do not hold."""
    return len((await means.integrity.refresh()).violations)


async def purge_publications(means: Means, now: datetime) -> int:
    """Delete events that no client can recover any more."""
    before = now - timedelta(seconds=Limits().recover_age_s)
    removed = 0
    while True:
        async with means.sessions.begin() as session:
            count = await history.forget(session, before_ms=int(before.timestamp() * 1000), limit=PURGE_ROWS)
        removed += count
        if count < PURGE_ROWS:
            return removed


async def purge_keys(means: Means, now: datetime) -> int:
    """Delete the answers of old idempotency keys."""
    async with means.sessions.begin() as session:
        await idempotency.forget(session, before=now - KEPT)
    return 0


async def purge_logins(means: Means, now: datetime) -> int:
    """Delete sessions that are over, with their tokens, and forgotten wrong passwords."""
    async with means.sessions.begin() as session:
        await tokens.forget_sessions(session, before=now - KEPT)
        await lockout.forget(session, before=now - KEPT)
    return 0


async def purge_notifications(means: Means, now: datetime) -> int:
    """Delete notifications of long ago."""
    async with means.sessions.begin() as session:
        return await notices.forget(session, before=now - NOTIFICATIONS_KEPT)


TABLE: tuple[Job, ...] = (
    Job("settle_due", timedelta(minutes=5), settle_due, "business"),
    Job("check_integrity", timedelta(hours=1), check_integrity, "business"),
    Job("purge_notifications", timedelta(days=1), purge_notifications, "business"),
    Job("purge_publications", timedelta(hours=1), purge_publications, "wall"),
    Job("purge_keys", timedelta(hours=1), purge_keys, "wall"),
    Job("purge_logins", timedelta(hours=1), purge_logins, "wall"),
)


class Jobs:
    """Runs the jobs of a table, shared with every other node."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        *,
        node: UUID,
        clock: Clock,
        integrity: Integrity,
        table: tuple[Job, ...] = TABLE,
    ) -> None:
        self._sessions = sessions
        self._means = Means(sessions, integrity)
        self._clock = clock
        self._node = node
        self._table = {job.name: job for job in table}
        # One job at a time in this process: who travels in time waits for the one that runs.
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        """Run what falls due, for ever."""
        is_ready = False
        while True:
            try:
                if not is_ready:
                    await self.prepare()
                    is_ready = True
                await self.run_due()
            except Exception as error:
                if outage.is_away(error):
                    log.warning("jobs_interrupted", node=str(self._node), error=type(error).__name__)
                else:
                    log.exception("jobs_failed", node=str(self._node))
            await asyncio.sleep(LOOK_S)

    async def prepare(self) -> None:
        """Give jobs that never ran their first period."""
        rows = [
            {"name": job.name, "next_due": self._time_of(job) + job.every} for job in self._table.values()
        ]
        async with self._sessions.begin() as session:
            await session.execute(insert(JobRun).values(rows).on_conflict_do_nothing())

    async def run_due(self, *, only: Literal["business"] | None = None) -> int:
        """Run everything that is due now, once, and return what it did in all."""
        count = 0
        for job in self._table.values():
            if only is None or job.clock == only:
                count += await self.run_job(job.name)
        return count

    async def next_due(
        self, until: datetime, *, but: frozenset[str] = frozenset()
    ) -> tuple[datetime, str] | None:
        """Return when the next job of the business clock falls due, up to `until`, and which."""
        names = [job.name for job in self._table.values() if job.clock == "business" and job.name not in but]
        query = (
            select(JobRun.next_due, JobRun.name)
            .where(JobRun.name.in_(names), JobRun.next_due <= until)
            .order_by(JobRun.next_due, JobRun.name)
            .limit(1)
        )
        async with self._sessions() as session:
            found = (await session.execute(query)).one_or_none()
        return None if found is None else (found[0], found[1])

    async def run_job(self, name: str) -> int:
        """Run one job if it is due and no other node runs it; return what it did."""
        async with self._busy:
            job = self._table[name]
            now = self._time_of(job)
            return await self._work(job, now) if await self._claim(job, now) else 0

    async def _work(self, job: Job, now: datetime) -> int:
        started = time.monotonic()
        try:
            count = await job.work(self._means, now)
        except Exception as error:
            log.exception("job_failed", job=job.name)
            await self._note(
                job, now, next_due=now + min(AGAIN, job.every), started=started, error=repr(error)
            )
            return 0
        await self._note(job, now, next_due=now + job.every, started=started, count=count)
        return count

    def _time_of(self, job: Job) -> datetime:
        return self._clock.now() if job.clock == "business" else self._clock.wall()

    async def _claim(self, job: Job, now: datetime) -> bool:
        free = or_(JobRun.leased_until.is_(None), JobRun.leased_until < func.clock_timestamp())
        query = (
            update(JobRun)
            .where(JobRun.name == job.name, JobRun.next_due <= now, free)
            .values(node=self._node, leased_until=func.clock_timestamp() + LEASE)
            .returning(JobRun.name)
        )
        async with self._sessions.begin() as session:
            return await session.scalar(query) is not None

    async def _note(
        self,
        job: Job,
        now: datetime,
        *,
        next_due: datetime,
        started: float,
        count: int | None = None,
        error: str | None = None,
    ) -> None:
        """Write down how a run went and give the job free, unless its lease was lost meanwhile."""
        query = (
            update(JobRun)
            .where(JobRun.name == job.name, JobRun.node == self._node)
            .values(
                next_due=next_due,
                node=None,
                leased_until=None,
                last_run_at=now,
                last_duration_ms=round((time.monotonic() - started) * 1000),
                last_count=count,
                last_error=error,
            )
        )
        async with self._sessions.begin() as session:
            await session.execute(query)

"""The one engine of everything that runs by itself: claims what is due, on whichever node has room, and does it.

A claim lasts 30 s by the database's clock and is renewed while the work goes on, so work of a node that died is
another's after half a minute. Whoever lost a claim can finish nothing (`billing/jobs.py`).
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import jobs
from billing.errors import LeaseLostError
from billing.jobs import Claim
from server import outage
from server.clock import Clock
from server.gateway.metrics import Metrics
from server.job import Job, Means, Once, Periodic, Time

log = structlog.get_logger()

# Work at the same moment in one process. Most of it waits for the outside, without a connection; at worst it takes 8 of
# the 20 connections that it shares with the rooms and the relay (`app.STEADY_POOL_SIZE`).
SLOTS = 8
# The wake-up after a commit is the normal case. The poll finds what falls due by the clock, what other nodes asked for,
# and what a lost wake-up left; it costs one indexed query.
POLL_S = 1.0
# A node that has not renewed for so long is taken for dead. Shorter, and a process that is stopped for a while has its
# work begun by two; longer, and money waits for a restart.
LEASE = timedelta(seconds=30)
# Of a lease: two renewals may fail before it is lost.
RENEWALS = 3
# A node that ends does not wait longer to say what it leaves; without a word it is found when the lease is over.
HAND_BACK_MOST_S = 2.0
# Nothing here takes a minute; whatever takes ten hangs.
WORK_MOST_S = 600.0
# Pauses after a failed try, each drawn anew from nothing up to this: whatever failed together must not come back
# together. Five pauses outlast seven hours of somebody else's outage; then people must look.
PAUSES = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
)
TRIES = len(PAUSES) + 1
# Periodic work that failed is tried this much later, or at its next period if that is sooner.
AGAIN = timedelta(seconds=30)


class Runner:
    """Runs the jobs of a table, shared with every other node.

    Args:
        means: What the work is given, and where the rows are.
        table: What it knows how to do; rows of other kinds are left to other nodes.
        clock: Business time and wall time.
        metrics: Counts what became of the work.
        lease: How long a claim lasts that is not renewed.
        draw: Draws a number between 0 and 1.
    """

    def __init__(
        self,
        means: Means,
        table: Iterable[Job],
        *,
        clock: Clock,
        metrics: Metrics,
        lease: timedelta = LEASE,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._means = means
        self._sessions: async_sessionmaker[AsyncSession] = means.sessions
        self._table = {job.kind: job for job in table}
        self._clock = clock
        self._metrics = metrics
        self._lease = lease
        self._draw = draw
        self._awake = asyncio.Event()
        self._running: dict[asyncio.Task[int], Claim] = {}
        self._interrupted: list[UUID] = []
        # Held while work is claimed and begun; who travels in time holds it until the journey is over.
        self._gate = asyncio.Lock()

    def wake(self) -> None:
        """Say that work was committed. Safe to call from a session's listener."""
        self._awake.set()

    async def run(self) -> None:
        """Run what falls due, until this is cancelled; what is interrupted then is another node's at once."""
        is_ready = False
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_claims())
                while True:
                    try:
                        if not is_ready:
                            await self.prepare()
                            is_ready = True
                        await self._begin_due(tasks)
                    except Exception as error:  # noqa: BLE001 - told, and the next look finds the same rows
                        _tell("jobs_interrupted", error)
                    await self._rest()
        finally:
            await self._hand_back()

    async def prepare(self) -> None:
        """Give periodic work that never ran its first period."""
        periods = {
            job.kind: (job.every, self._time_of(job) + job.every)
            for job in self._table.values()
            if isinstance(job, Periodic)
        }
        async with self._sessions.begin() as session:
            await jobs.plan(session, periods)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Let nothing run by itself meanwhile, in this process; what runs ends first."""
        async with self._gate:
            if self._running:
                await asyncio.wait(self._running)
            yield

    async def run_due(self, *, only: Literal["business"] | None = None) -> int:
        """Run everything that is due now, one after another, and return what it did in all."""
        count = 0
        while claims := await self._claim(1, only=only):
            count += await self._do(claims[0])
        return count

    async def next_due(
        self, until: datetime, *, but: frozenset[int] = frozenset()
    ) -> tuple[datetime, int] | None:
        """Return when the next work of the business clock falls due, up to `until`, and the id of its row."""
        kinds = [job.kind for job in self._table.values() if job.clock == "business"]
        async with self._sessions() as session:
            return await jobs.next_due(session, kinds, until, but=but)

    async def run_one(self, job_id: int) -> int:
        """Run one row if it is due and nobody else does it; return what it did."""
        claims = await self._claim(1, row=job_id)
        return await self._do(claims[0]) if claims else 0

    async def _begin_due(self, tasks: asyncio.TaskGroup) -> None:
        """Begin as much of what is due as there is room for."""
        async with self._gate:
            self._awake.clear()
            for claim in await self._claim(SLOTS - len(self._running)):
                task = tasks.create_task(self._do(claim))
                self._running[task] = claim
                task.add_done_callback(self._running.pop)

    async def _rest(self) -> None:
        """Wait for room, where there is none; else for a wake-up or the poll."""
        if len(self._running) == SLOTS:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            return
        try:
            async with asyncio.timeout(POLL_S):
                await self._awake.wait()
        except TimeoutError:
            return

    async def _keep_claims(self) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / RENEWALS)
            leases = {claim.lease for claim in self._running.values()}
            if not leases:
                continue
            try:
                async with self._sessions.begin() as session:
                    await jobs.renew(session, leases, lease=self._lease)
            except Exception as error:  # noqa: BLE001 - two may fail; then somebody else goes on
                _tell("job_claims_not_renewed", error)

    async def _hand_back(self) -> None:
        if not self._interrupted:
            return
        try:
            async with asyncio.timeout(HAND_BACK_MOST_S), self._sessions.begin() as session:
                await jobs.hand_back(session, self._interrupted)
        except Exception as error:  # noqa: BLE001 - the leases run out by themselves
            _tell("jobs_not_handed_back", error)

    async def _claim(self, limit: int, *, only: Time | None = None, row: int | None = None) -> list[Claim]:
        clocks: tuple[Time, ...] = ("business", "wall") if only is None else (only,)
        due = [
            (
                [job.kind for job in self._table.values() if job.clock == clock],
                self._clock.now() if clock == "business" else self._clock.wall(),
            )
            for clock in clocks
        ]
        async with self._sessions.begin() as session:
            return await jobs.claim(session, due, limit=limit, lease=self._lease, only=row)

    async def _do(self, claim: Claim) -> int:
        """Do what was claimed, write down how it went, and return what it did; nothing that happens here escapes."""
        job = self._table[claim.kind]
        try:
            count = await self._try(job, claim)
        except asyncio.CancelledError:
            self._interrupted.append(claim.lease)
            raise
        except LeaseLostError:
            log.warning("job_taken_over", kind=claim.kind, key=claim.key, tries=claim.tries)
            self._count(claim, "lost")
        except Exception as error:  # noqa: BLE001 - the claim runs out, and then the next try is made
            _tell("job_not_noted", error, kind=claim.kind, key=claim.key)
        else:
            return count
        return 0

    async def _try(self, job: Job, claim: Claim) -> int:
        # It may be what kills the process.
        if isinstance(job, Once) and claim.tries > TRIES:
            await self._give_up(job, claim, f"none of its {TRIES} tries came to an end")
            return 1
        now, started = self._time_of(job), time.monotonic()
        try:
            async with asyncio.timeout(WORK_MOST_S):
                count = await self._work(job, claim, now)
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 - written down, and told
            # What was asked for is tried again and given up loudly; what repeats may fail for ever.
            tell = log.error if isinstance(job, Periodic) else log.warning
            tell("job_failed", kind=claim.kind, key=claim.key, tries=claim.tries, exc_info=error)
            await self._put_off(job, claim, error)
            # A try of single work is something that happened: its next one has a time of its own.
            return int(isinstance(job, Once))
        if isinstance(job, Periodic):
            duration_ms = round((time.monotonic() - started) * 1000)
            async with self._sessions.begin() as session:
                await jobs.repeat(
                    session, claim, run_at=now + job.every, now=now, duration_ms=duration_ms, count=count
                )
        self._count(claim, "done")
        return count

    async def _work(self, job: Job, claim: Claim, now: datetime) -> int:
        match job:
            case Periodic():
                return await job.work(self._means, now)
            case Once():
                await job.work(self._means, claim, now)
                return 1

    async def _put_off(self, job: Job, claim: Claim, error: Exception) -> None:
        if isinstance(job, Periodic):
            pause = min(AGAIN, job.every)
        elif claim.tries < TRIES:
            pause = PAUSES[claim.tries - 1] * self._draw()
        else:
            await self._give_up(job, claim, repr(error))
            return
        async with self._sessions.begin() as session:
            await jobs.put_off(session, claim, error=repr(error), run_at=self._time_of(job) + pause)
        self._count(claim, "failed")

    async def _give_up(self, job: Job, claim: Claim, error: str) -> None:
        async with self._sessions.begin() as session:
            await jobs.give_up(session, claim, error=error, now=self._time_of(job))
        log.error("job_given_up", kind=claim.kind, key=claim.key, tries=claim.tries, reason=error)
        self._count(claim, "given_up")

    def _count(self, claim: Claim, result: str) -> None:
        self._metrics.jobs.labels(kind=claim.kind, result=result).inc()

    def _time_of(self, job: Job) -> datetime:
        return self._clock.now() if job.clock == "business" else self._clock.wall()


def _tell(event: str, error: Exception, **facts: object) -> None:
    if outage.is_away(error) or outage.may_succeed_again(error):
        log.warning(event, error=type(error).__name__, **facts)
    else:
        log.error(event, exc_info=error, **facts)

"""Jobs: due once a period, on one node at a time, caught up after a stop."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import checks
from server import jobs
from server.clock import Clock
from server.gateway import history
from server.gateway.history import Draft
from server.gateway.models import StoredPublication
from server.http.health import Integrity
from server.jobs import Job, Jobs, Means
from server.upkeep import JobRun

Sessions = async_sessionmaker[AsyncSession]
START = datetime(2030, 1, 7, 12, tzinfo=UTC)
PERIOD = timedelta(minutes=5)


class Diary:
    """A job's work that writes down when it ran."""

    def __init__(self) -> None:
        self.runs: list[datetime] = []
        self.fails = False

    async def work(self, means: Means, now: datetime) -> int:
        self.runs.append(now)
        if self.fails:
            raise ValueError("no luck")
        return 7


@pytest.fixture
def diary() -> Diary:
    return Diary()


def runner(sessions: Sessions, clock: Clock, diary: Diary) -> Jobs:
    job = Job("diary", PERIOD, diary.work, "business")
    return Jobs(sessions, node=uuid4(), clock=clock, integrity=cast(Any, None), table=(job,))


async def run_of(sessions: Sessions, name: str) -> JobRun:
    async with sessions() as session:
        return (await session.scalars(select(JobRun).where(JobRun.name == name))).one()


async def test_job_runs_once_a_period_and_writes_down_how_it_went(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    node = runner(sessions, clock, diary)
    await node.prepare()

    await node.run_due()
    clock.pin(START + PERIOD)
    await node.run_due()
    await node.run_due()

    run = await run_of(sessions, "diary")
    assert diary.runs == [START + PERIOD]
    assert (run.next_due, run.last_run_at, run.last_count) == (START + 2 * PERIOD, START + PERIOD, 7)
    assert run.last_duration_ms is not None
    assert (run.last_error, run.leased_until) == (None, None)


async def test_after_a_stop_an_overdue_job_runs_once(sessions: Sessions, clock: Clock, diary: Diary) -> None:
    clock.pin(START)
    await runner(sessions, clock, diary).prepare()

    clock.pin(START + 100 * PERIOD)
    later = runner(sessions, clock, diary)
    await later.prepare()
    await later.run_due()
    await later.run_due()

    assert diary.runs == [START + 100 * PERIOD]
    assert (await run_of(sessions, "diary")).next_due == START + 101 * PERIOD


async def test_two_nodes_run_a_job_once(sessions: Sessions, clock: Clock, diary: Diary) -> None:
    clock.pin(START)
    nodes = [runner(sessions, clock, diary) for _ in range(2)]
    for node in nodes:
        await node.prepare()
    clock.pin(START + PERIOD)

    await asyncio.gather(*(node.run_due() for node in nodes))

    assert diary.runs == [START + PERIOD]


async def test_job_of_a_dead_node_is_taken_over_when_its_lease_is_over(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    node = runner(sessions, clock, diary)
    await node.prepare()
    clock.pin(START + PERIOD)
    await lease(sessions, datetime.now(UTC) + timedelta(minutes=1))
    await node.run_due()
    while_leased = list(diary.runs)

    await lease(sessions, datetime.now(UTC) - timedelta(seconds=1))
    await node.run_due()

    assert while_leased == []
    assert diary.runs == [START + PERIOD]


async def test_failed_job_is_tried_again_soon(sessions: Sessions, clock: Clock, diary: Diary) -> None:
    clock.pin(START)
    node = runner(sessions, clock, diary)
    await node.prepare()
    clock.pin(START + PERIOD)
    diary.fails = True
    await node.run_due()
    failed = await run_of(sessions, "diary")
    diary.fails = False

    clock.pin(START + PERIOD + jobs.AGAIN)
    await node.run_due()

    assert failed.last_error == "ValueError('no luck')"
    assert diary.runs == [START + PERIOD, START + PERIOD + jobs.AGAIN]
    assert (await run_of(sessions, "diary")).last_error is None


async def test_every_job_of_the_product_runs_on_an_empty_database(sessions: Sessions, clock: Clock) -> None:
    node = Jobs(
        sessions,
        node=uuid4(),
        clock=clock,
        integrity=Integrity(checks.run, sessions=sessions, clock=clock),
    )
    await node.prepare()
    async with sessions.begin() as session:
        await session.execute(update(JobRun).values(next_due=START - timedelta(days=3650)))

    await node.run_due()

    async with sessions() as session:
        runs = (await session.scalars(select(JobRun))).all()
    assert {run.name for run in runs} == {job.name for job in jobs.TABLE}
    assert {(run.name, run.last_error) for run in runs if run.last_error} == set()
    assert all(run.last_run_at is not None for run in runs)


async def test_publications_that_nobody_can_recover_are_purged(sessions: Sessions, clock: Clock) -> None:
    now = clock.wall()
    async with sessions.begin() as session:
        for hours in (25, 23):
            ts = int((now - timedelta(hours=hours)).timestamp() * 1000)
            await history.append(session, [Draft("user:ann", "said", ts, b"{}")])

    removed = await jobs.purge_publications(Means(sessions, cast(Any, None)), now)

    async with sessions() as session:
        kept = (await session.scalars(select(StoredPublication.off))).all()
    assert removed == 1
    assert list(kept) == [2]


async def lease(sessions: Sessions, until: datetime) -> None:
    async with sessions.begin() as session:
        await session.execute(update(JobRun).values(node=uuid4(), leased_until=until))

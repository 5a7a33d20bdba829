"""The table of jobs: what the product's own work does, and that all of it runs."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from prometheus_client import CollectorRegistry
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing.models import JobRow
from server import checks, jobs
from server.clock import Clock
from server.gateway import history
from server.gateway.history import Draft
from server.gateway.metrics import Metrics
from server.gateway.models import StoredPublication
from server.http.health import Integrity
from server.job import Means, Periodic
from server.runner import Runner

Sessions = async_sessionmaker[AsyncSession]
LONG_AGO = datetime(2020, 1, 7, 12, tzinfo=UTC)


def test_a_kind_is_one_row_of_the_table() -> None:
    kinds = [job.kind for job in jobs.TABLE]

    assert len(set(kinds)) == len(kinds)


async def test_every_periodic_job_of_the_product_runs_on_an_empty_database(
    sessions: Sessions, clock: Clock
) -> None:
    metrics = Metrics(CollectorRegistry())
    integrity = Integrity(checks.prove, sessions=sessions, clock=clock, metrics=metrics)
    node = Runner(Means(sessions, integrity), jobs.TABLE, clock=clock, metrics=metrics)
    await node.prepare()
    async with sessions.begin() as session:
        await session.execute(update(JobRow).values(run_at=LONG_AGO))

    await node.run_due()

    async with sessions() as session:
        runs = (await session.scalars(select(JobRow))).all()
    assert {run.kind for run in runs} == {job.kind for job in jobs.TABLE if isinstance(job, Periodic)}
    assert {(run.kind, run.error) for run in runs if run.error} == set()
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

"""The engine of the jobs: each effect once, whatever dies, hangs, fails or comes twice."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from billing import jobs, outbox
from billing.errors import LeaseLostError
from billing.jobs import Claim
from billing.models import JobRow, Outbox
from server import db, runner
from server.clock import Clock
from server.gateway.metrics import Metrics
from server.job import Job, Means, Once, Periodic
from server.runner import Runner

Sessions = async_sessionmaker[AsyncSession]
START = datetime(2030, 1, 7, 12, tzinfo=UTC)
PERIOD = timedelta(minutes=5)


class Errand(msgspec.Struct, frozen=True):
    name: str


class Done(msgspec.Struct, frozen=True, tag="test.done"):
    """The effect of a job, to be counted."""

    name: str


class Diary:
    """Work that writes down when it ran; the single one has an effect that is committed with its end."""

    def __init__(self) -> None:
        self.runs: list[datetime] = []
        self.names: list[str] = []
        self.error: Exception | None = None
        self.meanwhile: Callable[[Claim], Awaitable[None]] | None = None

    async def repeat(self, means: Means, now: datetime) -> int:
        self.runs.append(now)
        if self.error is not None:
            raise self.error
        return 7

    async def do(self, means: Means, claim: Claim, now: datetime) -> None:
        self.runs.append(now)
        self.names.append(msgspec.json.decode(claim.payload, type=Errand).name)
        async with means.sessions.begin() as session:
            outbox.record(session, Done(claim.key), at=now)
            if self.meanwhile is not None:
                await self.meanwhile(claim)
            if self.error is not None:
                raise self.error
            await jobs.finish(session, claim)


@pytest.fixture
def diary() -> Diary:
    return Diary()


def node(sessions: Sessions, clock: Clock, *table: Job) -> Runner:
    return Runner(
        Means(sessions, cast(Any, None)),
        table,
        clock=clock,
        metrics=Metrics(CollectorRegistry()),
        draw=lambda: 1.0,
    )


def periodic(sessions: Sessions, clock: Clock, diary: Diary) -> Runner:
    return node(sessions, clock, Periodic("diary", PERIOD, diary.repeat, "business"))


def single(sessions: Sessions, clock: Clock, diary: Diary) -> Runner:
    return node(sessions, clock, Once("errand", diary.do, "business"))


async def ask(
    sessions: Sessions, key: str = "one", *, run_at: datetime = START, name: str = "x", kind: str = "errand"
) -> None:
    async with sessions.begin() as session:
        await jobs.enqueue(session, kind, Errand(name), key=key, run_at=run_at)


async def row_of(sessions: Sessions) -> JobRow:
    async with sessions() as session:
        return (await session.scalars(select(JobRow))).one()


async def rows(sessions: Sessions) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(JobRow)) or 0


async def effects(sessions: Sessions) -> list[str]:
    async with sessions() as session:
        return [row.data["name"] for row in await session.scalars(select(Outbox).order_by(Outbox.id))]


async def end_leases(sessions: Sessions) -> None:
    """Let half a minute pass, for whoever holds a lease."""
    async with sessions.begin() as session:
        await session.execute(
            update(JobRow)
            .where(JobRow.lease.is_not(None))
            .values(leased_until=func.now() - timedelta(seconds=1))
        )


async def take(sessions: Sessions, kind: str = "errand") -> Claim:
    """Claim the row as a node does that then dies, or hangs."""
    async with sessions.begin() as session:
        [claim] = await jobs.claim(session, [([kind], START + 1000 * PERIOD)], limit=1, lease=runner.LEASE)
    return claim


# Periodic work


async def test_periodic_work_runs_once_a_period_and_writes_down_how_it_went(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    ours = periodic(sessions, clock, diary)
    await ours.prepare()

    await ours.run_due()
    clock.pin(START + PERIOD)
    await ours.run_due()
    await ours.run_due()

    run = await row_of(sessions)
    assert diary.runs == [START + PERIOD]
    assert (run.run_at, run.last_run_at, run.last_count) == (START + 2 * PERIOD, START + PERIOD, 7)
    assert run.last_duration_ms is not None
    assert (run.error, run.tries, run.leased_until) == (None, 0, None)


async def test_after_a_stop_overdue_periodic_work_runs_once(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    await periodic(sessions, clock, diary).prepare()

    clock.pin(START + 100 * PERIOD)
    later = periodic(sessions, clock, diary)
    await later.prepare()
    await later.run_due()
    await later.run_due()

    assert diary.runs == [START + 100 * PERIOD]
    assert (await row_of(sessions)).run_at == START + 101 * PERIOD


async def test_a_shorter_period_counts_from_the_next_start(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    await node(sessions, clock, Periodic("diary", 100 * PERIOD, diary.repeat, "business")).prepare()

    await periodic(sessions, clock, diary).prepare()

    run = await row_of(sessions)
    assert (run.every, run.run_at) == (PERIOD, START + PERIOD)


async def test_two_nodes_run_periodic_work_once(sessions: Sessions, clock: Clock, diary: Diary) -> None:
    clock.pin(START)
    nodes = [periodic(sessions, clock, diary) for _ in range(2)]
    for one in nodes:
        await one.prepare()
    clock.pin(START + PERIOD)

    await asyncio.gather(*(one.run_due() for one in nodes))

    assert diary.runs == [START + PERIOD]


async def test_work_of_a_dead_node_is_taken_over_when_its_lease_is_over(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    ours = periodic(sessions, clock, diary)
    await ours.prepare()
    clock.pin(START + PERIOD)
    await take(sessions, "diary")
    await ours.run_due()
    while_leased = list(diary.runs)

    await end_leases(sessions)
    await ours.run_due()

    assert while_leased == []
    assert diary.runs == [START + PERIOD]


async def test_failed_periodic_work_is_tried_again_soon_and_never_given_up(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    ours = periodic(sessions, clock, diary)
    await ours.prepare()
    clock.pin(START + PERIOD)
    diary.error = ValueError("no luck")
    for number in range(runner.TRIES + 2):
        clock.pin(START + PERIOD + number * runner.AGAIN)
        await ours.run_due()
    failed = await row_of(sessions)
    diary.error = None

    clock.pin(START + 2 * PERIOD)
    await ours.run_due()

    assert failed.error == "ValueError('no luck')"
    assert len(diary.runs) == runner.TRIES + 3
    assert ((await row_of(sessions)).error, (await row_of(sessions)).tries) == (None, 0)


# Work that was asked for


async def test_work_is_asked_for_with_what_it_follows_from(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    with contextlib.suppress(ValueError):
        async with sessions.begin() as session:
            await jobs.enqueue(session, "errand", Errand("never"), key="never", run_at=START)
            raise ValueError

    await ask(sessions, name="ann")
    await single(sessions, clock, diary).run_due()

    assert (diary.names, await effects(sessions), await rows(sessions)) == (["ann"], ["one"], 0)


async def test_work_waits_for_its_time(sessions: Sessions, clock: Clock, diary: Diary) -> None:
    ours = single(sessions, clock, diary)
    await ask(sessions, run_at=START + PERIOD)

    clock.pin(START + PERIOD - timedelta(seconds=1))
    await ours.run_due()
    before = list(diary.runs)
    clock.pin(START + PERIOD)
    await ours.run_due()

    assert (before, diary.runs) == ([], [START + PERIOD])


async def test_each_kind_goes_by_its_own_clock(sessions: Sessions, clock: Clock, diary: Diary) -> None:
    wall = clock.wall()
    clock.pin(wall + timedelta(days=365))
    ours = node(sessions, clock, Once("errand", diary.do, "business"), Once("real", diary.do, "wall"))
    await ask(sessions, "business", run_at=wall + timedelta(days=1))
    await ask(sessions, "real", run_at=wall + timedelta(days=1), kind="real")

    await ours.run_due()

    assert await effects(sessions) == ["business"]


async def test_the_longest_due_comes_first(sessions: Sessions, clock: Clock, diary: Diary) -> None:
    clock.pin(START)
    for key, minutes in (("late", 1), ("first", 3), ("second", 2)):
        await ask(sessions, key, run_at=START - timedelta(minutes=minutes))

    await single(sessions, clock, diary).run_due()

    assert await effects(sessions) == ["first", "second", "late"]


async def test_the_same_work_asked_for_twice_is_done_once_as_it_was_asked_for_last(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    await ask(sessions, run_at=START + PERIOD, name="first")
    await ask(sessions, run_at=START, name="second")

    await single(sessions, clock, diary).run_due()

    assert (diary.names, await rows(sessions)) == (["second"], 0)


async def test_work_that_is_asked_for_while_it_is_done_is_done_once_more(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    ours = single(sessions, clock, diary)
    await ask(sessions)

    async def ask_again(claim: Claim) -> None:
        diary.meanwhile = None
        await ask(sessions, name="again")

    diary.meanwhile = ask_again
    await ours.run_due()

    assert diary.names == ["x", "again"]
    assert await rows(sessions) == 0


async def test_a_crash_before_the_commit_of_the_effect_leaves_nothing_and_the_work_is_done_again(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    await ask(sessions)
    claim = await take(sessions)
    session = sessions()
    outbox.record(session, Done("of the dead"), at=START)
    await jobs.finish(session, claim)
    await session.close()

    await end_leases(sessions)
    await single(sessions, clock, diary).run_due()

    assert (await effects(sessions), await rows(sessions)) == (["one"], 0)


async def test_a_crash_after_the_commit_of_the_effect_repeats_nothing(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    await ask(sessions)
    claim = await take(sessions)
    async with sessions.begin() as session:
        outbox.record(session, Done("of the dead"), at=START)
        await jobs.finish(session, claim)

    await single(sessions, clock, diary).run_due()

    assert (await effects(sessions), diary.runs) == (["of the dead"], [])


async def test_who_lost_the_lease_changes_nothing(sessions: Sessions, clock: Clock, diary: Diary) -> None:
    clock.pin(START)
    ours = single(sessions, clock, diary)
    await ask(sessions)

    async def be_overtaken(claim: Claim) -> None:
        diary.meanwhile = None
        await end_leases(sessions)
        await single(sessions, clock, diary).run_due()

    diary.meanwhile = be_overtaken
    await ours.run_due()

    assert len(diary.runs) == 2
    assert (await effects(sessions), await rows(sessions)) == (["one"], 0)


async def test_who_lost_the_lease_cannot_put_off_repeat_or_give_up(sessions: Sessions) -> None:
    await ask(sessions)
    lost = await take(sessions)
    await end_leases(sessions)
    taken = await take(sessions)

    writes: list[Callable[[AsyncSession], Awaitable[None]]] = [
        lambda session: jobs.finish(session, lost),
        lambda session: jobs.put_off(session, lost, error="x", run_at=START),
        lambda session: jobs.give_up(session, lost, error="x", now=START),
        lambda session: jobs.repeat(session, lost, run_at=START, now=START, duration_ms=1, count=1),
    ]
    for write in writes:
        async with sessions() as session:
            with pytest.raises(LeaseLostError):
                await write(session)

    assert (await row_of(sessions)).lease == taken.lease


async def test_a_renewed_lease_is_kept_and_a_lost_one_is_not(sessions: Sessions) -> None:
    await ask(sessions)
    claim = await take(sessions)
    await end_leases(sessions)
    async with sessions.begin() as session:
        await jobs.renew(session, [claim.lease, uuid4()], lease=runner.LEASE)
    async with sessions.begin() as session:
        while_kept = await jobs.claim(session, [(["errand"], START)], limit=1, lease=runner.LEASE)
    await end_leases(sessions)
    taken = await take(sessions)
    async with sessions.begin() as session:
        await jobs.renew(session, [claim.lease], lease=timedelta(hours=1))

    until = (await row_of(sessions)).leased_until
    assert while_kept == []
    assert until is not None
    assert until < datetime.now(UTC) + timedelta(minutes=1)
    assert (await row_of(sessions)).lease == taken.lease


async def test_many_nodes_do_each_work_once(sessions: Sessions, clock: Clock, diary: Diary) -> None:
    clock.pin(START)
    keys = [f"{number:03}" for number in range(60)]
    for key in keys:
        await ask(sessions, key)

    await asyncio.gather(*(single(sessions, clock, diary).run_due() for _ in range(6)))

    assert sorted(await effects(sessions)) == keys
    assert await rows(sessions) == 0


async def test_failed_work_is_tried_again_later_and_later_and_then_given_up(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    ours = single(sessions, clock, diary)
    diary.error = ValueError("no luck")
    await ask(sessions)
    tried = [START]
    for pause in runner.PAUSES:
        tried.append(tried[-1] + pause)
    for moment in tried:
        for early in (timedelta(seconds=1), timedelta()):
            clock.pin(moment - early)
            await ours.run_due()

    clock.pin(START + timedelta(days=365))
    await ours.run_due()

    row = await row_of(sessions)
    assert diary.runs == tried
    assert (row.dead_at, row.error, row.lease) == (tried[-1], "ValueError('no luck')", None)
    assert await effects(sessions) == []


async def test_pauses_are_drawn_between_nothing_and_the_whole(sessions: Sessions, clock: Clock) -> None:
    diary = Diary()
    diary.error = ValueError("no luck")
    clock.pin(START)
    ours = Runner(
        Means(sessions, cast(Any, None)),
        (Once("errand", diary.do, "business"),),
        clock=clock,
        metrics=Metrics(CollectorRegistry()),
        draw=lambda: 0.25,
    )
    await ask(sessions)

    await ours.run_due()

    assert (await row_of(sessions)).run_at == START + runner.PAUSES[0] / 4


async def test_work_that_kills_its_process_is_given_up(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    await ask(sessions)
    for _ in range(runner.TRIES):
        await take(sessions)
        await end_leases(sessions)

    await single(sessions, clock, diary).run_due()

    row = await row_of(sessions)
    assert diary.runs == []
    assert row.dead_at == START
    assert row.error == "none of its 6 tries came to an end"


async def test_work_that_was_given_up_is_tried_anew_when_somebody_says_so_or_asks_again(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    for key in ("told", "asked"):
        await ask(sessions, key)
    async with sessions.begin() as session:
        for claim in await jobs.claim(session, [(["errand"], START)], limit=2, lease=runner.LEASE):
            await jobs.give_up(session, claim, error="no luck", now=START)

    async with sessions.begin() as session:
        told = await session.scalar(select(JobRow.id).where(JobRow.key == "told"))
        await jobs.revive(session, UUID(int=told or 0))
    await ask(sessions, "asked")
    await single(sessions, clock, diary).run_due()

    assert sorted(await effects(sessions)) == ["asked", "told"]


async def test_rows_of_a_kind_that_a_node_does_not_know_are_left_alone(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    await ask(sessions, kind="of tomorrow")

    await single(sessions, clock, diary).run_due()

    assert (await row_of(sessions)).tries == 0


# The loop


async def test_work_runs_as_soon_as_it_is_committed_and_several_at_once(
    engine: AsyncEngine, clock: Clock
) -> None:
    here: list[str] = []
    together = asyncio.Event()

    async def meet(means: Means, claim: Claim, now: datetime) -> None:
        here.append(claim.key)
        if len(here) == 3:
            together.set()
        await together.wait()
        async with means.sessions.begin() as session:
            await jobs.finish(session, claim)

    def wake() -> None:
        ours.wake()

    sessions = db.create_sessions(engine, enqueued=wake)
    ours = node(sessions, clock, Once("errand", meet, "wall"))
    async with running(ours):
        for key in ("a", "b", "c"):
            await ask(sessions, key, run_at=clock.wall())
        await together.wait()
        async with ours.paused():
            left = await rows(sessions)

    assert (sorted(here), left) == (["a", "b", "c"], 0)


async def test_no_more_than_its_slots_run_at_once_in_a_process(sessions: Sessions, clock: Clock) -> None:
    most = running_now = 0

    async def count(means: Means, claim: Claim, now: datetime) -> None:
        nonlocal most, running_now
        running_now += 1
        most = max(most, running_now)
        async with means.sessions.begin() as session:
            await session.execute(text("select pg_sleep(0.01)"))
            await jobs.finish(session, claim)
        running_now -= 1

    for number in range(3 * runner.SLOTS):
        await ask(sessions, str(number), run_at=clock.wall())
    async with running(node(sessions, clock, Once("errand", count, "wall"))):
        while await rows(sessions):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)

    assert most == runner.SLOTS


async def test_work_that_goes_on_keeps_its_claim(sessions: Sessions, clock: Clock) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def last(means: Means, claim: Claim, now: datetime) -> None:
        began.set()
        await may_end.wait()
        async with means.sessions.begin() as session:
            await jobs.finish(session, claim)

    await ask(sessions, run_at=clock.wall())
    ours = Runner(
        Means(sessions, cast(Any, None)),
        (Once("errand", last, "wall"),),
        clock=clock,
        metrics=Metrics(CollectorRegistry()),
        lease=timedelta(seconds=5),
    )
    async with running(ours):
        await began.wait()
        first = (await row_of(sessions)).leased_until
        while (await row_of(sessions)).leased_until == first:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.05)
        renewed = await row_of(sessions)
        may_end.set()
        async with ours.paused():
            left = await rows(sessions)

    assert (renewed.tries, left) == (1, 0)


async def test_who_keeps_leases_waits_for_none_that_somebody_has_locked(sessions: Sessions) -> None:
    """It would hold the others meanwhile, which those that it waits for may wait for: a ring."""
    claims = []
    for key in ("one", "two", "three"):
        await ask(sessions, key)
        claims.append(await take(sessions))
    await end_leases(sessions)

    async with sessions.begin() as first:
        await jobs.enqueue(first, "errand", Errand("x"), key="two", run_at=START)
        async with sessions.begin() as session:
            await jobs.renew(session, [claim.lease for claim in claims], lease=runner.LEASE)
    async with sessions.begin() as session:
        lost = await jobs.claim(session, [(["errand"], START)], limit=3, lease=runner.LEASE)

    assert [claim.key for claim in lost] == ["two"]


async def test_what_a_node_leaves_at_its_end_is_anothers_at_once_and_was_no_try(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    began = asyncio.Event()

    async def hang(means: Means, claim: Claim, now: datetime) -> None:
        began.set()
        await asyncio.Event().wait()

    await ask(sessions)
    async with running(node(sessions, clock, Once("errand", hang, "business"))):
        await began.wait()
    left = await row_of(sessions)
    done = await single(sessions, clock, diary).run_due()

    assert (left.lease, left.leased_until, left.tries) == (None, None, 0)
    assert (done, await rows(sessions)) == (1, 0)


async def test_nothing_runs_by_itself_while_it_is_paused(
    sessions: Sessions, clock: Clock, diary: Diary
) -> None:
    clock.pin(START)
    ours = single(sessions, clock, diary)
    async with running(ours), ours.paused():
        await ask(sessions)
        ours.wake()
        # Whatever the loop would have begun is begun by then.
        await ours.next_due(START)
        await rows(sessions)

        assert diary.runs == []


@contextlib.asynccontextmanager
async def running(ours: Runner) -> Any:
    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(ours.run())
        yield
        loop.cancel()

"""Time travel: everything that falls due on the way runs in order, each with its own due time as now."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import msgspec
import pytest
from litestar import Litestar
from prometheus_client import CollectorRegistry

from billing import jobs
from billing.jobs import Claim
from server.clock import Clock
from server.errors import BadRequestError
from server.gateway.metrics import Metrics
from server.job import Job, Means, Once, Periodic
from server.runner import PAUSES, Runner
from server.travel import MoveClock, Traveller, load, routes
from tests.server.stage import Connection, Stage

HOUR = timedelta(hours=1)


class Errand(msgspec.Struct, frozen=True):
    """Nothing to know."""


class Journey:
    """A stage whose time can be moved, with one hourly job that writes down when it ran."""

    def __init__(self, stage: Stage, table: Sequence[Job] = ()) -> None:
        self.runs: list[datetime] = []
        self.finds = 0
        self.jobs = Runner(
            Means(stage.parts.sessions, cast(Any, None)),
            table or (Periodic("diary", HOUR, self._work, "business"),),
            clock=stage.parts.clock,
            metrics=Metrics(CollectorRegistry()),
            draw=lambda: 1.0,
        )
        self.traveller = Traveller(stage.parts, stage.relay, self.jobs)

    async def _work(self, means: Means, now: datetime) -> int:
        self.runs.append(now)
        return self.finds


async def advance(stage: Stage, by: timedelta, journey: Journey | None = None) -> datetime:
    journey = journey or Journey(stage)
    return await journey.traveller.advance(MoveClock(advance_s=by.total_seconds()))


def is_about(moment: datetime, other: datetime) -> bool:
    return abs(moment - other) < timedelta(seconds=5)


async def test_clock_goes_on_from_where_it_was_moved_to(stage: Stage) -> None:
    clock = stage.parts.clock
    before = clock.now()

    now = await advance(stage, 24 * HOUR)

    assert is_about(now, before + 24 * HOUR)
    assert clock.now() > now
    assert is_about(clock.wall(), before)


async def test_offset_survives_a_restart(stage: Stage) -> None:
    await advance(stage, 24 * HOUR)
    await advance(stage, HOUR)

    restarted = Clock()
    await load(stage.parts.sessions, restarted)

    assert is_about(restarted.now(), stage.parts.clock.now())


async def test_clock_that_never_travelled_is_the_wall_clock(stage: Stage) -> None:
    clock = Clock(timedelta(days=1))

    await load(stage.parts.sessions, clock)

    assert clock.offset == timedelta()


async def test_clock_is_set_to_a_moment_and_never_back(stage: Stage) -> None:
    traveller = Journey(stage).traveller
    moment = datetime(2031, 5, 1, 8, tzinfo=UTC)

    now = await traveller.advance(MoveClock(set=moment))

    assert is_about(now, moment)
    with pytest.raises(BadRequestError):
        await traveller.advance(MoveClock(set=moment - HOUR))
    with pytest.raises(BadRequestError):
        await traveller.advance(MoveClock())
    with pytest.raises(BadRequestError):
        await traveller.advance(MoveClock(advance_s=1, set=moment + HOUR))


async def test_lesson_is_held_and_settled_by_one_advance(stage: Stage) -> None:
    lesson = await stage.sell_lesson()
    student = lesson.students[0]
    await advance(stage, lesson.starts_at - stage.parts.clock.now())
    for person in (lesson.tutor, student):
        await stage.do("room.join", person, room_id=lesson.room_id, connection=Connection())
    await advance(stage, timedelta(minutes=80))
    await stage.do("room.leave", student, room_id=lesson.room_id)

    await advance(stage, timedelta(minutes=20))

    hold = await stage.do("hold.get", student, hold_id=lesson.holds[student.user_id])
    events = [one.ev for one in stage.seen(f"room:{lesson.room_id}")]
    ends = lesson.starts_at + timedelta(minutes=90)
    assert hold["status"] == "released"
    assert hold["attendance"]["percent"] == 88
    assert events[-1] == "room.closed"
    room = await stage.do("room.get", lesson.tutor, room_id=lesson.room_id)
    assert room["state"] == "closed"
    assert msgspec.convert(room["ends_at"], datetime) == ends


async def test_lesson_that_nobody_opened_is_given_back_at_its_own_time(stage: Stage) -> None:
    lesson = await stage.sell_lesson()
    student = lesson.students[0]

    await advance(stage, timedelta(days=30))

    told = (await stage.do("notification.list", student))["items"]
    ends = lesson.starts_at + timedelta(minutes=90)
    refund = next(one for one in told if one["type"] == "refund_processed")
    refunded_at = msgspec.convert(refund["created_at"], datetime)
    assert ends <= refunded_at < ends + timedelta(minutes=10)
    assert (await stage.do("wallet.get", student))["balance"]["amount"] == 50_000


async def test_job_runs_at_its_due_time_and_over_quiet_time_only_at_the_end(stage: Stage) -> None:
    journey = Journey(stage)
    await journey.jobs.prepare()
    start = stage.parts.clock.now()

    now = await advance(stage, 1000 * HOUR + timedelta(minutes=1), journey)

    first, last = journey.runs
    assert is_about(first, start + HOUR)
    assert is_about(last, now)


async def test_job_that_finds_something_runs_again_at_each_due_time(stage: Stage) -> None:
    journey = Journey(stage)
    journey.finds = 1
    await journey.jobs.prepare()
    start = stage.parts.clock.now()

    await advance(stage, 4 * HOUR + timedelta(minutes=1), journey)

    assert [round((run - start) / HOUR) for run in journey.runs] == [1, 2, 3, 4]


async def test_job_that_was_passed_over_runs_as_soon_as_something_happened(stage: Stage) -> None:
    lesson = await stage.sell_lesson()
    journey = Journey(stage)
    await journey.jobs.prepare()
    start = stage.parts.clock.now()

    await advance(stage, 6 * HOUR, journey)

    first, passed_over, last = journey.runs
    ends_at = lesson.starts_at + timedelta(minutes=90)
    assert is_about(first, start + HOUR)
    assert ends_at <= passed_over < ends_at + timedelta(minutes=10)
    assert is_about(last, start + 6 * HOUR)


async def test_single_work_runs_in_order_each_at_its_own_time_with_what_it_asks_for(stage: Stage) -> None:
    runs: list[tuple[str, datetime]] = []

    async def work(means: Means, claim: Claim, now: datetime) -> None:
        runs.append((claim.key, now))
        async with means.sessions.begin() as session:
            if claim.key == "first":
                await jobs.enqueue(session, "errand", Errand(), key="follows", run_at=now + HOUR)
            await jobs.finish(session, claim)

    journey = Journey(stage, (Once("errand", work, "business"),))
    start = stage.parts.clock.now()
    async with stage.parts.sessions.begin() as session:
        for key, hours in (("last", 3), ("first", 1), ("after the journey", 6)):
            await jobs.enqueue(session, "errand", Errand(), key=key, run_at=start + hours * HOUR)

    await advance(stage, 5 * HOUR, journey)

    assert runs == [("first", start + HOUR), ("follows", start + 2 * HOUR), ("last", start + 3 * HOUR)]


async def test_single_work_that_fails_is_tried_again_on_the_way(stage: Stage) -> None:
    runs: list[datetime] = []

    async def work(means: Means, claim: Claim, now: datetime) -> None:
        runs.append(now)
        raise ValueError("no luck")

    journey = Journey(stage, (Once("errand", work, "business"),))
    start = stage.parts.clock.now()
    async with stage.parts.sessions.begin() as session:
        await jobs.enqueue(session, "errand", Errand(), key="x", run_at=start)

    await advance(stage, HOUR, journey)

    pauses = [timedelta(), *PAUSES[:3]]
    assert [is_about(run, start + sum(pauses[: n + 1], timedelta())) for n, run in enumerate(runs)] == [
        True
    ] * 4


async def test_clock_is_moved_over_http(stage: Stage) -> None:
    journey = Journey(stage)
    app = Litestar(
        route_handlers=[*routes(stage.parts, stage.relay, journey.jobs)],
        openapi_config=None,
        logging_config=None,
    )
    before = stage.parts.clock.now()

    transport = httpx.ASGITransport(app=cast(Any, app))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post("/api/v1/dev/clock", json={"advance_s": 3600})

    assert answer.status_code == 200
    assert answer.json()["now"].endswith("Z")
    assert is_about(datetime.fromisoformat(answer.json()["now"]), before + HOUR)

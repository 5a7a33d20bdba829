"""A machine's wrong clock is found, and moves no deadline."""

import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms.messages import SocketsSeen
from rooms.registry import Registry
from server.bridge import Doors, Seats
from server.clock import Clock
from server.context import Parts, Role
from server.errors import TokenExpiredError
from server.features.accounts import registration
from server.features.accounts.tokens import Authenticator, access_token
from server.gateway.metrics import Metrics
from server.reads import Reads
from server.skew import Skew
from tests.rooms.kit import create, registry, talk

Sessions = async_sessionmaker[AsyncSession]
WRONG = [timedelta(minutes=5), timedelta(minutes=-5)]
SECRET = "a secret of this test, which is long enough"


def clock_that_is_off(by: timedelta) -> Clock:
    return Clock(own=lambda: datetime.now(UTC) + by)


async def off_by(by: timedelta, sessions: Sessions) -> Clock:
    """The clock of a node that has found out."""
    clock = clock_that_is_off(by)
    await Skew(sessions, clock, metrics=Metrics(CollectorRegistry())).measure()
    return clock


@pytest.mark.parametrize("by", WRONG)
async def test_wrong_clock_is_an_alarm_and_corrected(sessions: Sessions, by: timedelta) -> None:
    clock = clock_that_is_off(by)
    shown = CollectorRegistry()
    skew = Skew(sessions, clock, metrics=Metrics(shown))
    with structlog.testing.capture_logs() as logs:
        await skew.measure()
        await skew.measure()

    assert abs(clock.skew - by) < timedelta(seconds=1)
    assert abs(clock.wall() - datetime.now(UTC)) < timedelta(seconds=1)
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [("error", "clock_skewed")]
    assert shown.get_sample_value("fourtalk_clock_skew_seconds") == pytest.approx(300, abs=1)
    with pytest.raises(RuntimeError):
        await skew.probe()


async def test_clocks_that_differ_by_less_than_a_second_are_equal(sessions: Sessions) -> None:
    clock = clock_that_is_off(timedelta(seconds=0.4))
    skew = Skew(sessions, clock, metrics=Metrics(CollectorRegistry()))

    await skew.measure()
    await skew.probe()

    assert clock.skew == timedelta()


@pytest.mark.parametrize(
    ("known_s", "off_s", "took_s", "found_s"), [(0, 300, 3, 300), (0, 0, 3, 0), (300, 300, 3, 300)]
)
async def test_a_slow_answer_counts_as_far_as_it_is_beyond_doubt(
    sessions: Sessions, known_s: float, off_s: float, took_s: float, found_s: float
) -> None:
    readings = iter((timedelta(seconds=off_s), timedelta(seconds=off_s + took_s)))
    clock = Clock(own=lambda: datetime.now(UTC) + next(readings))
    clock.skew = timedelta(seconds=known_s)

    await Skew(sessions, clock, metrics=Metrics(CollectorRegistry())).measure()

    assert abs(clock.skew.total_seconds() - found_s) <= took_s / 2 + 0.1
    assert bool(clock.skew) == bool(found_s)


async def test_clock_that_was_set_right_is_believed_again(sessions: Sessions) -> None:
    by = [timedelta(minutes=5)]
    clock = Clock(own=lambda: datetime.now(UTC) + by[0])
    skew = Skew(sessions, clock, metrics=Metrics(CollectorRegistry()))
    await skew.measure()
    by[0] = timedelta()

    await skew.measure()
    await skew.probe()

    assert clock.skew == timedelta()


@pytest.mark.parametrize("by", WRONG)
async def test_tokens_hold_as_long_as_on_every_other_node(
    sessions: Sessions, redis_url: str, by: timedelta
) -> None:
    clock = await off_by(by, sessions)
    async with sessions.begin() as session:
        user = await registration.create_user(
            session,
            email=f"{uuid.uuid4()}@example.com",
            password="Passw0rd!x",
            role=Role.STUDENT,
            approved=False,
            now=clock.wall(),
        )
    reads = Reads(sessions)
    async with Redis.from_url(redis_url, socket_timeout=None) as redis, reads.running():
        authenticator = Authenticator(secret=SECRET, reads=reads, redis=redis, wall=clock.wall)
        doors = Doors(authenticator, cast(Parts, SimpleNamespace(clock=clock)))

        def token(issued_ago: timedelta) -> str:
            wall = datetime.now(UTC) - issued_ago
            return access_token(SECRET, user.id, role=user.role, version=user.version, wall=wall)

        login = await doors.authenticate(token(timedelta(minutes=28)))
        with pytest.raises(TokenExpiredError):
            await doors.authenticate(token(timedelta(minutes=31)))

    assert login.expires_at is not None
    # The gateway asks this machine's clock for how long that is.
    left = login.expires_at - clock.own().timestamp()
    assert left == pytest.approx(120, abs=5)


@pytest.mark.parametrize("by", WRONG)
async def test_a_seat_is_given_up_when_every_other_node_would(sessions: Sessions, by: timedelta) -> None:
    clock = await off_by(by, sessions)

    room_id = await create(sessions, talk(), cast(Any, clock))
    async with registry(sessions, cast(Any, clock)) as rooms, sessions() as session:
        await rooms.snapshot(room_id)
        left = await session.scalar(
            text(
                "select extract(epoch from min(due_at) - clock_timestamp()) from room_timer where clock = 'wall'"
            )
        )

    assert float(left or 0) == pytest.approx(120, abs=10)


@pytest.mark.parametrize("by", WRONG)
async def test_presence_ends_when_the_last_frame_came(sessions: Sessions, by: timedelta) -> None:
    clock = await off_by(by, sessions)
    told: list[SocketsSeen] = []
    user, room_id = str(uuid.uuid4()), uuid.uuid4()
    rooms = SimpleNamespace(node_id=uuid.uuid4(), tell=lambda _, signal: told.append(signal))
    seats = Seats(cast(Registry, rooms), clock)

    seats.seen(room_id, {user: ["one"]}, {user: clock.own() - timedelta(seconds=7)})

    (frame,) = told[0].seen.values()
    assert abs(datetime.now(UTC) - timedelta(seconds=7) - frame) < timedelta(seconds=1)

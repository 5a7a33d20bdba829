"""A server's HTTP edge over a real database and Valkey, without the rest of the product."""

from collections.abc import AsyncIterator
from pathlib import Path

import argon2
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms.registry import Registry
from server import config
from server.clock import Clock
from server.config import Settings
from server.features.accounts import passwords
from tests.server.school import START, School
from tests.server.stage import Stage, open_stage
from tests.server.world import World, open_world


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str) -> Settings:
    """Settings of a server with limits off; a test that is about limits replaces them."""
    environ = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "RATE_LIMITS": "off"}
    return config.from_env(environ, data_dir=tmp_path)


CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def expensive_hashes() -> None:
    """For a test of what a hash costs."""


@pytest.fixture(autouse=True)
def cheap_hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash costs a tenth of a second by design: hundreds of tests only want people who can log in."""
    if "expensive_hashes" not in request.fixturenames:
        monkeypatch.setattr(passwords, "_HASHER", CHEAP)
        monkeypatch.setattr(passwords, "_NOBODY", CHEAP.hash("a password that nobody has"))


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url, socket_timeout=None)
    yield client
    await client.aclose()


@pytest.fixture
async def world(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], redis: Redis, clock: Clock
) -> AsyncIterator[World]:
    """The edge with the product's command table."""
    async with open_world(settings, sessions, redis, clock) as world:
        yield world


@pytest.fixture
async def whole(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], redis: Redis, clock: Clock
) -> AsyncIterator[World]:
    """The edge over a registry of real rooms."""
    async with (
        Registry(sessions, now=clock.now, wall=clock.wall, publish=lambda *_: None) as rooms,
        open_world(settings, sessions, redis, clock, rooms=rooms) as world,
    ):
        yield world


@pytest.fixture
async def school(world: World) -> School:
    """A tutor, an administrator and students to come; lessons are played without rooms."""
    return await School.open(world)


@pytest.fixture
async def live_school(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], redis: Redis, clock: Clock
) -> AsyncIterator[School]:
    """The same over a registry of real rooms."""
    clock.pin(START)
    async with (
        Registry(sessions, now=clock.now, wall=clock.wall, publish=lambda *_: None) as rooms,
        open_world(settings, sessions, redis, clock, rooms=rooms) as world,
    ):
        yield await School.open(world)


@pytest.fixture
async def stage(
    settings: Settings,
    sessions: async_sessionmaker[AsyncSession],
    redis: Redis,
    clock: Clock,
    tmp_path: Path,
) -> AsyncIterator[Stage]:
    """Live rooms, commands and a relay, without sockets and HTTP."""
    async with open_stage(settings, sessions, redis, clock, tmp_path) as stage:
        yield stage

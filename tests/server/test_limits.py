"""Requests a minute and address, with Valkey and without."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server.clock import Clock
from server.config import Settings
from server.http.limits import GENERAL, Limiter, Rule, rules_of
from tests.server.world import World, open_world


@pytest.fixture
async def limited(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], redis: Redis, clock: Clock
) -> AsyncIterator[World]:
    """An edge with its limits on."""
    settings = msgspec.structs.replace(settings, rate_limits=True)
    async with open_world(settings, sessions, redis, clock) as world:
        yield world


async def test_the_sixty_first_call_of_a_minute_is_refused(limited: World) -> None:
    responses = [await limited.client.get("/api/v1/me") for _ in range(62)]

    assert [response.status_code for response in responses] == [401] * 60 + [429] * 2
    last = responses[-1]
    assert last.headers["content-type"] == "application/problem+json"
    assert last.json()["code"] == "too_many_requests"
    assert last.json()["trace_id"] == last.headers["X-Trace-Id"]
    assert 0 < int(last.headers["Retry-After"]) <= 60
    assert responses[0].headers["X-RateLimit-Limit"] == "60"
    assert responses[0].headers["X-RateLimit-Remaining"] == "59"
    assert last.headers["X-RateLimit-Remaining"] == "0"


async def test_parallel_calls_do_not_pass_the_limit(limited: World) -> None:
    responses = await asyncio.gather(*(limited.client.get("/api/v1/nothing") for _ in range(100)))

    assert sum(response.status_code == 404 for response in responses) == 60


@pytest.mark.parametrize(("path", "calls"), [("register", 5), ("login", 10), ("refresh", 30)])
async def test_tighter_groups(limited: World, path: str, calls: int) -> None:
    responses = [await limited.client.post(f"/api/v1/auth/{path}", json={}) for _ in range(calls + 1)]

    assert [response.status_code == 429 for response in responses] == [False] * calls + [True]
    assert (await limited.client.get("/api/v1/me")).status_code == 401


async def test_another_address_is_not_touched(limited: World) -> None:
    for _ in range(61):
        await limited.client.get("/api/v1/me")
    async with open_world(
        limited.parts.settings, limited.parts.sessions, limited.parts.redis, limited.parts.clock
    ) as other:
        assert (await other.client.get("/api/v1/me")).status_code == 401


async def test_health_and_webhooks_are_not_limited() -> None:
    assert rules_of("/health/ready") == ()
    assert rules_of("/webhooks/livekit") == ()
    assert rules_of("/api/v1/dev/clock") == ()
    assert rules_of("/api/v1/me") == (GENERAL,)


async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(limited: World) -> None:
    responses = [
        await limited.client.get("/api/v1/me", headers={"X-Forwarded-For": f"203.0.113.{n}"})
        for n in range(61)
    ]

    assert responses[-1].status_code == 429


async def test_without_valkey_the_process_counts_for_itself(limited: World) -> None:
    away = Redis.from_url("unix:///nowhere.sock", socket_timeout=None)
    limiter = Limiter(away)
    rule = Rule("r", 3)

    verdicts = [await limiter.take((rule,), "192.0.2.1") for _ in range(4)]
    other = await limiter.take((rule,), "192.0.2.2")

    assert [verdict.allowed for verdict in verdicts if verdict] == [True, True, True, False]
    assert other is not None
    assert other.allowed
    await away.aclose()


async def test_when_valkey_goes_away_nobody_begins_anew(redis: Redis) -> None:
    limiter, rule = Limiter(redis), Rule("gone", 3)
    for _ in range(2):
        await limiter.take((rule,), "192.0.2.9")

    await redis.delete("fourtalk:rate:gone:192.0.2.9")
    verdicts = [await limiter.take((rule,), "192.0.2.9") for _ in range(2)]

    assert [verdict.allowed for verdict in verdicts if verdict] == [True, False]


async def test_the_window_slides(redis: Redis) -> None:
    limiter, rule = Limiter(redis), Rule("slide", 3, window_s=1)
    first = [await limiter.take((rule,), "198.51.100.77") for _ in range(4)]

    # Its clock is Valkey's, which no test can move.
    await asyncio.sleep(1.05)
    again = [await limiter.take((rule,), "198.51.100.77") for _ in range(4)]

    for verdicts in (first, again):
        assert [verdict.allowed for verdict in verdicts if verdict] == [True, True, True, False]


async def test_a_household_with_ipv6_is_one_address(redis: Redis) -> None:
    limiter, rule = Limiter(redis), Rule("household", 2)

    verdicts = [await limiter.take((rule,), f"2001:db8:1:2::{n}") for n in range(3)]

    assert [verdict.allowed for verdict in verdicts if verdict] == [True, True, False]


async def test_the_switch_turns_limits_off(world: World) -> None:
    responses = [await world.client.get("/api/v1/me") for _ in range(70)]

    assert {response.status_code for response in responses} == {401}
    assert "X-RateLimit-Limit" not in responses[0].headers

"""Liveness, readiness with each dependency, invariants, and Prometheus."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import msgspec
import pytest
from litestar import Litestar
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing.checks import Proof, Violation
from server import checks
from server.clock import Clock
from server.config import Settings
from server.gateway.metrics import Metrics
from server.http import health, problem
from server.http.edge import Edge
from server.http.limits import Limiter


class Found:
    """A check of the invariants that finds what a test puts there."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.runs = 0

    async def __call__(self, session: AsyncSession) -> Proof:
        self.runs += 1
        return Proof(
            ok=not self.violations,
            ledger_sum={"USD": 0},
            violations=self.violations,
            transfers=7,
            unsealed_s=1.5,
            took_ms=250,
            parts_ms={},
        )


class Ward(msgspec.Struct, frozen=True):
    """The pages of health, and what they look at."""

    client: httpx.AsyncClient
    found: Found
    integrity: health.Integrity
    draining: asyncio.Event
    registry: CollectorRegistry


@pytest.fixture
async def ward(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], redis: Redis, clock: Clock
) -> AsyncIterator[Ward]:
    found = Found()
    registry = CollectorRegistry()
    integrity = health.Integrity(found, sessions=sessions, clock=clock, metrics=Metrics(registry))
    draining = asyncio.Event()
    litestar = Litestar(
        health.routes(
            health.Health(settings, health.probes(sessions, redis, {}), is_draining=draining.is_set),
            integrity,
        ),
        exception_handlers={Exception: problem.answer},
        openapi_config=None,
        logging_config=None,
    )
    app = Edge(litestar, settings=settings, limiter=Limiter(redis))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(cast(Any, app)), base_url="http://test"
    ) as client:
        yield Ward(client, found, integrity, draining, registry)


async def test_live(ward: Ward) -> None:
    assert (await ward.client.get("/health/live")).json() == {"status": "ok"}


async def test_ready_names_each_dependency_and_warns_of_limits_that_are_off(ward: Ward) -> None:
    response = await ward.client.get("/health/ready")

    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "checks": {"database": "ok", "migrations": "ok", "redis": "ok"},
        "warnings": ["RATE_LIMITS is off: for load tests only"],
    }


async def test_not_ready_behind_the_codes_migrations(
    ward: Ward, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions.begin() as session:
        await session.execute(text("update alembic_version set version_num = '0001'"))

    response = await ward.client.get("/health/ready")

    assert response.status_code == 503
    assert response.json()["checks"] == {"database": "ok", "migrations": "unavailable", "redis": "ok"}


async def test_ready_in_a_database_that_later_code_has_migrated(
    ward: Ward, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions.begin() as session:
        await session.execute(text("update alembic_version set version_num = '9999'"))

    response = await ward.client.get("/health/ready")

    assert response.status_code == 200


async def test_degraded_but_ready_without_what_costs_latency_only(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], clock: Clock
) -> None:
    async def is_away() -> None:
        raise OSError

    gone = Redis.from_url("unix:///nowhere/at-all.sock", socket_timeout=None)
    probes = health.probes(sessions, gone, {"media": is_away, "clock": is_away})
    integrity = health.Integrity(
        checks.prove, sessions=sessions, clock=clock, metrics=Metrics(CollectorRegistry())
    )
    state = health.Health(settings, probes, is_draining=lambda: False)
    app = Litestar(health.routes(state, integrity), openapi_config=None)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(cast(Any, app)), base_url="http://test"
    ) as client:
        response = await client.get("/health/ready")

    assert response.status_code == 200
    assert response.json()["status"] == "degraded"
    assert response.json()["checks"] == {
        "database": "ok",
        "migrations": "ok",
        "redis": "unavailable",
        "media": "unavailable",
        "clock": "unavailable",
    }


async def test_not_ready_while_it_drains(ward: Ward) -> None:
    ward.draining.set()

    assert (await ward.client.get("/health/ready")).status_code == 503
    assert (await ward.client.get("/health/live")).status_code == 200


async def test_integrity_is_checked_once_an_hour_and_when_asked(ward: Ward) -> None:
    first = await ward.client.get("/health/integrity")
    await ward.client.get("/health/integrity")
    ward.found.violations = [Violation("ledger_sum", "the words", ({"currency": "USD"},))]
    cached = await ward.client.get("/health/integrity")
    await ward.integrity.refresh()
    last = await ward.client.get("/health/integrity")

    assert first.json() | {"checked_at": ""} == {
        "status": "ok",
        "checked_at": "",
        "violations": [],
        "transfers": 7,
        "took_ms": 250,
        "unsealed_s": 1.5,
    }
    assert cached.status_code == 200
    assert last.status_code == 503
    assert last.json()["violations"] == [{"name": "ledger_sum", "rows": 1}]
    assert ward.found.runs == 2


async def test_what_the_last_check_found_is_shown_to_prometheus(ward: Ward, clock: Clock) -> None:
    ward.found.violations = [Violation("ledger_sum", "the words", ({"currency": "USD"},))]

    def value(metric: str, **labels: str) -> float | None:
        return ward.registry.get_sample_value(metric, labels)

    await ward.integrity.refresh()
    broken = value("fourtalk_integrity_violations", name="ledger_sum")
    ward.found.violations = []
    await ward.integrity.refresh()

    assert (broken, value("fourtalk_integrity_violations", name="ledger_sum")) == (1, 0)
    assert value("fourtalk_integrity_check_seconds") == 0.25
    assert value("fourtalk_ledger_transfers") == 7
    assert value("fourtalk_ledger_unsealed_seconds") == 1.5
    checked_at = value("fourtalk_integrity_checked_at_seconds")
    assert checked_at is not None
    assert abs(checked_at - clock.wall().timestamp()) < 60


async def test_metrics(ward: Ward) -> None:
    response = await ward.client.get("/metrics")

    assert "fourtalk_http_seconds" in response.text
    assert response.headers["content-type"].startswith("text/plain")

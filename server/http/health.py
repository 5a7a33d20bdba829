"""Is the process alive, can it work, is the money right, and the numbers of Prometheus (PROTOCOL 2)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import msgspec
import structlog
from alembic.script import ScriptDirectory
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing.checks import Proof
from server import migrate, outage
from server.clock import Clock
from server.config import Settings
from server.gateway import metrics
from server.gateway.metrics import Metrics

log = structlog.get_logger()

Probe = Callable[[], Awaitable[None]]
"""Asks one dependency; raises when it does not answer."""

# A load balancer asks every few seconds and waits for about five; a part that needs longer than this is away.
_PROBE_TIMEOUT_S = 2.0
# Losing one of these costs latency or new media, never data, and a wrong clock is corrected: a load balancer that took
# every process out because of it would turn a small outage into a whole one.
SPARE = frozenset({"redis", "media", "clock"})
UNAVAILABLE = "unavailable"
UNLIMITED = "RATE_LIMITS is off: for load tests only"
# DESIGN §5: the invariants are checked hourly.
_INTEGRITY_TTL_S = 3600.0


class Readiness(msgspec.Struct, frozen=True):
    """Whether this process can work, and what each part says."""

    status: str
    checks: dict[str, str]
    warnings: list[str]


class Violation(msgspec.Struct, frozen=True):
    """One broken invariant; the rows stay in `fourtalk check`, this page is public."""

    name: str
    rows: int


class IntegrityReport(msgspec.Struct, frozen=True):
    """What the last check of the invariants found."""

    status: str
    checked_at: datetime
    violations: list[Violation]
    transfers: int
    took_ms: int
    unsealed_s: float
    """How long the oldest journal of the ledger waits that no seal covers."""


class Integrity:
    """The last result of the invariants' check, made anew when it is older than an hour."""

    def __init__(
        self,
        check: Callable[[AsyncSession], Awaitable[Proof]],
        *,
        sessions: async_sessionmaker[AsyncSession],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._check = check
        self._sessions = sessions
        self._clock = clock
        self._metrics = metrics
        self._named: set[str] = set()
        self._lock = asyncio.Lock()
        self._report: IntegrityReport | None = None
        self._until = 0.0

    async def report(self) -> IntegrityReport:
        """Return the last result; who asks meanwhile waits for the one check that runs."""
        async with self._lock:
            if self._report is None or self._until < time.monotonic():
                self._report = await self._run()
                self._until = time.monotonic() + _INTEGRITY_TTL_S
            return self._report

    async def refresh(self) -> IntegrityReport:
        """Check now: the hourly job's."""
        self._until = 0.0
        return await self.report()

    async def _run(self) -> IntegrityReport:
        with outage.refused():
            async with self._sessions() as session:
                proof = await self._check(session)
        violations = [Violation(one.name, len(one.rows)) for one in proof.violations]
        for violation in violations:
            log.error("invariant_broken", name=violation.name, rows=violation.rows)
        report = IntegrityReport(
            "ok" if proof.ok else "violated",
            self._clock.wall(),
            violations,
            proof.transfers,
            proof.took_ms,
            proof.unsealed_s,
        )
        self._count(report)
        return report

    def _count(self, report: IntegrityReport) -> None:
        """Show the report to Prometheus; what was broken before and holds again is shown as 0."""
        rows = dict.fromkeys(self._named, 0) | {one.name: one.rows for one in report.violations}
        self._named = set(rows)
        for name, count in rows.items():
            self._metrics.violations.labels(name).set(count)
        self._metrics.checked_at.set(report.checked_at.timestamp())
        self._metrics.check_seconds.set(report.took_ms / 1000)
        self._metrics.transfers.set(report.transfers)
        self._metrics.unsealed_seconds.set(report.unsealed_s)


class Health:
    """What one process says of itself and of what it depends on."""

    def __init__(
        self, settings: Settings, probes: Mapping[str, Probe], *, is_draining: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._probes = probes
        self._is_draining = is_draining

    async def look(self) -> Readiness:
        """Ask every dependency, and return whether this process can work."""
        answers = await asyncio.gather(*(_ask(name, probe) for name, probe in self._probes.items()))
        parts = dict(zip(self._probes, answers, strict=True))
        if self._is_draining():
            parts["process"] = "draining"
        away = {name for name, answer in parts.items() if answer != "ok"}
        status = "ok" if not away else "degraded" if away <= SPARE else UNAVAILABLE
        warnings = [] if self._settings.rate_limits else [UNLIMITED]
        return Readiness(status, parts, warnings)


def probes(
    sessions: async_sessionmaker[AsyncSession], redis: Redis, others: Mapping[str, Probe]
) -> dict[str, Probe]:
    """Return a probe for each dependency: the database, its migrations, Valkey, and what the caller adds."""
    scripts = ScriptDirectory.from_config(migrate.alembic_config("postgresql://"))
    behind = {script.revision for script in scripts.walk_revisions()} - {scripts.get_current_head()}

    async def ask_database() -> None:
        async with sessions() as session:
            await session.execute(text("select 1"))

    async def ask_migrations() -> None:
        async with sessions() as session:
            at = await session.scalar(text("select version_num from alembic_version"))
        # A revision that this code does not know is a later one's: migrations are safe beside running code, and in a
        # deploy the database goes first.
        if at is None or at in behind:
            raise RuntimeError(f"the database is at {at}, the code is ahead of it")

    async def ask_redis() -> None:
        await redis.ping()

    return {"database": ask_database, "migrations": ask_migrations, "redis": ask_redis, **others}


def routes(health: Health, integrity: Integrity) -> list[HTTPRouteHandler]:
    """Return the routes of health and metrics; they are neither limited nor guarded."""

    @get("/health/live", include_in_schema=False)
    async def get_live() -> Response[bytes]:
        """Answer that the process runs its loop."""
        return _json({"status": "ok"})

    @get("/health/ready", include_in_schema=False)
    async def get_ready() -> Response[bytes]:
        """Answer whether this process can work, with each dependency."""
        found = await health.look()
        return _json(found, status=503 if found.status == UNAVAILABLE else 200)

    @get("/health/integrity", include_in_schema=False)
    async def get_integrity() -> Response[bytes]:
        """Answer whether every invariant held when it was last looked at."""
        report = await integrity.report()
        return _json(report, status=503 if report.violations else 200)

    @get("/metrics", include_in_schema=False)
    async def get_metrics() -> Response[bytes]:
        """Answer the numbers of all workers of this command for Prometheus."""
        return Response(generate_latest(metrics.registry()), headers={"content-type": CONTENT_TYPE_LATEST})

    return [get_live, get_ready, get_integrity, get_metrics]


async def _ask(name: str, probe: Probe) -> str:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            await probe()
    except Exception as error:  # noqa: BLE001 - whatever a part says instead of yes means no
        log.warning("dependency_away", dependency=name, error=type(error).__name__)
        return UNAVAILABLE
    return "ok"


def _json(value: object, *, status: int = 200) -> Response[bytes]:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")

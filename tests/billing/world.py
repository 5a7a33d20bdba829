"""People, money and lessons for the tests of billing."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import checks, holds, settlement, wallet
from billing.errors import BillingError, ReasonTooShortError
from billing.facts import Interval, LessonFacts, Presence
from billing.holds import NewHold
from billing.messages import Event
from billing.models import REASON_LEAST, Base, HoldId, Journal, OwnerId, PackageExpiry, SourceKind
from billing.money import Money
from billing.policy import Policy, Tier
from server import db

Sessions = async_sessionmaker[AsyncSession]
T = TypeVar("T")
Deed = Callable[[AsyncSession], Awaitable[object]]

# Everything that billing knows: what a refusal must leave as it was.
TELLING = sorted(Base.metadata.tables)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLANNED_S = 5_400

# Version 1, as the migrations write it.
FIRST_TERMS = Policy(
    version=1,
    course_platform_bps=3_000,
    course_referral_bps=7_000,
    attendance_percent=20,
    booking_tiers=(Tier(0, 2_000), Tier(100_000, 1_500), Tier(500_000, 1_000)),
    tiers_count_everything=False,
    min_price=100,
    course_risk_days=0,
    booking_risk_days=7,
    free_cancel_hours=24,
    free_cancel_kindness_minutes=5,
    late_cancel_percent=0,
    dispute_days=30,
    goodwill_admin_most=5_000,
    goodwill_most=50_000,
    package_expiry=PackageExpiry.RELEASE,
    package_warning_days=7,
    package_refund_days=14,
    top_up_least=500,
    top_up_most=1_000_000,
    withdrawal_least=1_000,
    withdrawal_two_people_above=100_000,
    payout_freeze_hours=72,
)


def owner() -> OwnerId:
    return OwnerId(uuid4())


def usd(amount: int) -> Money:
    return Money(amount, "USD")


async def at_once(deeds: Iterable[Awaitable[T]]) -> list[T | BaseException]:
    """Do all at once, as many as the pool has connections, and return what came of each.

    On a busy machine the others would wait for a connection longer than a command may, which is no race.
    """
    connections = asyncio.Semaphore(db.POOL_SIZE + db.POOL_OVERFLOW)

    async def done(deed: Awaitable[T]) -> T:
        async with connections:
            return await deed

    return await asyncio.gather(*map(done, deeds), return_exceptions=True)


def new_hold(
    amount: int = 10_000,
    *,
    lesson_id: UUID | None = None,
    tutor_id: OwnerId | None = None,
    tutor_bps: int = 3_000,
    source_kind: SourceKind = SourceKind.COURSE_SESSION,
    source_id: UUID | None = None,
    slice_no: int = 1,
    policy_version: int = 1,
) -> NewHold:
    return NewHold(
        id=HoldId(uuid4()),
        lesson_id=lesson_id,
        slice_no=slice_no,
        tutor_id=tutor_id or owner(),
        money=usd(amount),
        tutor_bps=tutor_bps,
        attribution="platform",
        policy_version=policy_version,
        source_kind=source_kind,
        source_id=source_id or uuid4(),
    )


def facts(
    lesson_id: UUID,
    attended: dict[OwnerId, int] | None = None,
    *,
    tutor_id: OwnerId | None = None,
    tutor_attended_s: int = PLANNED_S,
    total_s: int = PLANNED_S,
    cancelled: bool = False,
    ended_at: datetime = NOW,
) -> LessonFacts:
    """Facts of a lesson of 90 minutes whose students were there for so many seconds, from the start."""
    start = ended_at - timedelta(seconds=PLANNED_S)
    return LessonFacts(
        lesson_id=lesson_id,
        tutor_id=tutor_id or owner(),
        planned_s=PLANNED_S,
        total_s=total_s,
        tutor_attended_s=tutor_attended_s,
        tutor_absent=tutor_attended_s * 100 < 20 * PLANNED_S,
        cancelled=cancelled,
        ended_at=ended_at,
        students={
            student_id: Presence(
                seconds, (Interval(start, start + timedelta(seconds=seconds), ("socket",)),), "full"
            )
            for student_id, seconds in (attended or {}).items()
        },
    )


async def fund(sessions: Sessions, owner_id: OwnerId, amount: int) -> None:
    async with sessions.begin() as session:
        await wallet.adjust(
            session,
            owner_id,
            usd(amount),
            actor="admin:test",
            reason="Money for the test.",
            key=str(uuid4()),
            now=NOW,
        )


async def buy(
    sessions: Sessions, student_id: OwnerId, *wanted: NewHold, key: str | None = None
) -> list[HoldId]:
    async with sessions.begin() as session:
        return await holds.place(
            session, holds=wanted, student_id=student_id, key=key or str(uuid4()), now=NOW
        )


async def end(sessions: Sessions, known: LessonFacts, *, now: datetime = NOW) -> settlement.Settled | None:
    """Freeze the facts of a lesson and settle it, as the end of a room does."""
    async with sessions.begin() as session:
        await settlement.due(session, known, now=now)
        return await settlement.settle(session, known.lesson_id, now=now)


async def balance(sessions: Sessions, owner_id: OwnerId) -> int:
    async with sessions() as session:
        return (await wallet.balances(session, owner_id)).balance.amount


async def earnings(sessions: Sessions, owner_id: OwnerId) -> int:
    async with sessions() as session:
        return (await wallet.balances(session, owner_id)).earnings_available.amount


async def revenue(sessions: Sessions) -> int:
    async with sessions() as session:
        total = await session.scalar(
            text(
                "select coalesce(sum(balance), 0)::bigint from ledger_account where kind = 'platform_revenue'"
            )
        )
    return int(total or 0)


async def events(sessions: Sessions) -> list[str]:
    """Types of all recorded events, in order; each can be read."""
    async with sessions() as session:
        rows = (await session.execute(text("select type, data from outbox order by id"))).all()
    for row in rows:
        msgspec.convert(row.data, Event)
    return [row.type for row in rows]


async def newest_journal(sessions: Sessions) -> Journal:
    async with sessions() as session:
        return (await session.scalars(select(Journal).order_by(Journal.id.desc()).limit(1))).one()


async def blocked(sessions: Sessions, *, by: int = 1) -> None:
    """Wait until so many transactions of this database wait for others."""
    waits = text(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    )
    async with asyncio.timeout(5), sessions() as session:
        while await session.scalar(waits) < by:
            await session.rollback()


async def violations(sessions: Sessions) -> list[str]:
    async with sessions() as session:
        return [violation.name for violation in await checks.run(session)]


async def refusals(sessions: Sessions, *deeds: Deed) -> list[str]:
    """The codes by which these are refused; each has written nothing then, before its transaction is undone."""
    codes = []
    for deed in deeds:
        async with sessions() as session:
            before = await _everything(session)
            with pytest.raises(BillingError) as refused:
                await deed(session)
            await session.flush()
            assert await _everything(session) == before
        if isinstance(refused.value, ReasonTooShortError):
            assert refused.value.least == REASON_LEAST
        codes.append(refused.value.code)
    return codes


async def _everything(session: AsyncSession) -> dict[str, str | None]:
    # By name: PostgreSQL may give the parts of a union in any order.
    rows = "select '{0}', string_agg(r::text, chr(10) order by r::text) from {0} r"
    found = await session.execute(text(" union all ".join(rows.format(table) for table in TELLING)))
    return {row[0]: row[1] for row in found}

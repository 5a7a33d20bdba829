"""A tutor who sells packages, and a student who has one, each at the word of the test."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import facts as rules, hold_views, holds, jobs, packages, policy, releases, settlement, wallet
from billing.hold_views import HoldView
from billing.ledger import Order
from billing.models import (
    Due,
    Hold,
    HoldId,
    JournalKind,
    OwnerId,
    Package,
    PackageOption,
    PackageReturn,
    Review,
)
from billing.policy import Changes
from billing.releases import Release
from tests.billing.world import NOW, PLANNED_S, Sessions, end, facts, fund, owner


class Seller:
    """One tutor, one option, one student with money."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.tutor, self.student = owner(), owner()
        self.now = NOW

    async def offer(
        self,
        *,
        lessons: int = 5,
        price: int = 10_001,
        validity_days: int | None = None,
        is_rolling: bool = False,
    ) -> UUID:
        option = PackageOption(
            id=uuid4(),
            tutor_id=self.tutor,
            title="Five lessons",
            description="",
            minutes=90,
            sessions=lessons,
            price=price,
            currency="USD",
            validity_days=validity_days,
            is_rolling=is_rolling,
            is_popular=False,
            position=0,
            created_at=self.now,
            updated_at=self.now,
        )
        async with self.sessions.begin() as session:
            session.add(option)
        return option.id

    async def sell(
        self,
        *,
        lessons: int = 5,
        price: int = 10_001,
        validity_days: int | None = None,
        is_rolling: bool = False,
    ) -> UUID:
        option_id = await self.offer(
            lessons=lessons, price=price, validity_days=validity_days, is_rolling=is_rolling
        )
        await fund(self.sessions, self.student, price)
        return await self.buy(option_id)

    async def buy(self, option_id: UUID) -> UUID:
        async with self.sessions.begin() as session:
            wanted = await packages.offer(session, option_id, now=self.now)
            bought = await packages.buy(
                session, wanted, package_id=uuid4(), student_id=self.student, now=self.now
            )
            return bought.id

    async def use(
        self, package_id: UUID, lesson_id: UUID | None = None, *, opened_at: datetime | None = None
    ) -> HoldId:
        async with self.sessions.begin() as session:
            return await packages.use(
                session, package_id, lesson_id or uuid4(), opened_at=opened_at or self.now, now=self.now
            )

    async def give_back(self, package_id: UUID, lesson_id: UUID) -> bool:
        async with self.sessions.begin() as session:
            return await packages.give_back(session, package_id, lesson_id, now=self.now)

    async def refund(
        self, package_id: UUID, *, actor: str | None = None, reason: str = "changed my mind"
    ) -> Package:
        async with self.sessions.begin() as session:
            return await packages.refund_rest(
                session, package_id, actor=actor or f"user:{self.student}", reason=reason, now=self.now
            )

    async def teach(self, lesson_id: UUID, *, attended_s: int = PLANNED_S, **more: Any) -> None:
        """Hold a lesson to its end."""
        known = facts(lesson_id, {self.student: attended_s}, tutor_id=self.tutor, ended_at=self.now, **more)
        await end(self.sessions, known, now=self.now)

    async def taught_once(
        self, lesson_id: UUID, *, attended_s: int = PLANNED_S, tutor_attended_s: int = PLANNED_S
    ) -> None:
        """Have held a lesson when attendance decided the slices of packages, too; one that was not given went back."""
        known = facts(
            lesson_id, {self.student: attended_s}, tutor_id=self.tutor, tutor_attended_s=tutor_attended_s
        )
        async with self.sessions.begin() as session:
            await settlement.due(session, known, now=self.now)
            await session.execute(delete(Due).where(Due.lesson_id == lesson_id))
            query = select(Hold).where(Hold.lesson_id == lesson_id).with_for_update(key_share=True)
            hold = (await session.scalars(query)).one()
            if known.tutor_absent:
                await holds.put_back(session, hold.source_id, lesson_id)
                session.add(PackageReturn(lesson_id=lesson_id, hold_id=hold.id, returned_at=self.now))
            else:
                await self._settle_by_attendance(session, hold, attended_s)

    async def _settle_by_attendance(self, session: AsyncSession, hold: Hold, attended_s: int) -> None:
        terms = (await policy.versions(session, [hold.policy_version]))[hold.policy_version]
        decision = rules.decide(
            amount=hold.amount,
            tutor_bps=hold.tutor_bps,
            attended_s=attended_s,
            total_s=PLANNED_S,
            threshold_percent=terms.attendance_percent,
            tutor_absent=False,
            cancelled=False,
        )
        order = Order(
            kind=JournalKind.SETTLEMENT,
            scope="settle",
            key=str(hold.lesson_id),
            request=hold.lesson_id,
            actor=settlement.ACTOR,
            reason=decision.cause,
            ref_type="lesson",
            ref_id=hold.lesson_id or hold.id,
            at=self.now,
        )
        until = releases.risk_until(terms, hold, self.now)
        await releases.settle(
            session, [Release(hold, decision, until)], order, reason=None, facts_version=settlement.FROZEN
        )

    async def forfeit(
        self, package_id: UUID, lesson_id: UUID, *, actor: str | None = None, reason: str = "cannot come"
    ) -> HoldId:
        async with self.sessions.begin() as session:
            return await self.forfeits(package_id, lesson_id, actor=actor, reason=reason)(session)

    def forfeits(
        self, package_id: UUID, lesson_id: UUID, *, actor: str | None = None, reason: str = "cannot come"
    ) -> Callable[[AsyncSession], Awaitable[HoldId]]:
        return lambda session: packages.forfeit(
            session, package_id, lesson_id, actor=actor or f"user:{self.student}", reason=reason, now=self.now
        )

    async def pending(self) -> int:
        """What of the tutor's earnings waits for the end of its risk window."""
        async with self.sessions() as session:
            return (await wallet.balances(session, self.tutor)).earnings_pending.amount

    async def view(self, hold_id: UUID) -> HoldView:
        async with self.sessions() as session:
            return await hold_views.view(session, hold_id)

    async def hears_late(self, lesson_id: UUID, *, attended_s: int, **more: Any) -> settlement.Reconsidered:
        """Evidence of a lesson comes after its settlement."""
        known = facts(lesson_id, {self.student: attended_s}, tutor_id=self.tutor, **more)
        async with self.sessions.begin() as session:
            return await settlement.reconsider(session, known, now=self.now)

    async def in_review(self) -> set[tuple[UUID, UUID, int]]:
        """Which hold for which lesson, and what its student would keep."""
        query = select(Review.hold_id, Review.lesson_id, Review.to_student)
        async with self.sessions() as session:
            return {(row.hold_id, row.lesson_id, row.to_student) for row in await session.execute(query)}

    async def passes(self, by: timedelta) -> None:
        """Let time pass, and do what falls due meanwhile, each at its own moment."""
        until = self.now + by
        while True:
            async with self.sessions() as session:
                found = await jobs.next_due(session, (packages.JOB,), until, but=())
            if found is None:
                break
            self.now = max(self.now, found[0])
            async with self.sessions.begin() as session:
                claims = await jobs.claim(
                    session, [((packages.JOB,), self.now)], limit=1, lease=timedelta(seconds=30)
                )
            for claim in claims:
                await packages.run(self.sessions, claim, now=self.now)
        self.now = until

    async def told(self, package_id: UUID) -> list[str]:
        """Types of the events of one package, in order."""
        query = text("select type from outbox where data->>'package_id' = :id order by id")
        async with self.sessions() as session:
            return list((await session.scalars(query, {"id": str(package_id)})).all())

    async def package(self, package_id: UUID) -> Package:
        async with self.sessions() as session:
            return await session.get_one(Package, package_id)

    async def counts(self, package_id: UUID) -> tuple[str, int, int, int]:
        found = await self.package(package_id)
        return found.status, found.purchased, found.used, found.remaining

    async def slices(self, package_id: UUID) -> list[Hold]:
        async with self.sessions() as session:
            rows = await session.scalars(
                select(Hold).where(Hold.source_id == package_id).order_by(Hold.slice_no)
            )
            return list(rows)


async def enact(sessions: Sessions, changes: Changes, *, at: datetime = NOW) -> policy.Policy:
    """Have other terms from a moment on."""
    async with sessions.begin() as session:
        base = (await policy.newest(session)).version
        enacted = await policy.enact(
            session,
            changes,
            base_version=base,
            effective_from=at,
            actor=f"admin:{OwnerId(uuid4())}",
            reason="Other terms for the test.",
            now=at,
        )
        return enacted.policy

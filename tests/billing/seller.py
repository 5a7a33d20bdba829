"""A tutor who sells packages, and a student who has one, each at the word of the test."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select, text

from billing import jobs, packages, policy, settlement
from billing.models import Hold, HoldId, OwnerId, Package, PackageOption, Review
from billing.policy import Changes
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

"""One life with money: its plan, its hands, and how it hears from Stripe."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid5

import msgspec
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import holds, jobs, ledger, maturity, settlement, stripe_events, stripe_webhooks, top_ups
from billing.crashpoints import Point
from billing.facts import Interval, LessonFacts, Presence
from billing.holds import NewHold
from billing.ledger import AccountKey, Leg, Order
from billing.models import (
    PLATFORM,
    AccountKind,
    HoldId,
    JobRow,
    JournalKind,
    OwnerId,
    SourceKind,
    TopUp,
    TopUpWay,
)
from billing.money import Money
from tests.chaos.money.stripe import SECRET, START, Hand

Sessions = async_sessionmaker[AsyncSession]

PRICE, BPS = 3_333, 3_000
PLANNED_S = 5_400
TOP_UP = 2_000
RETURN_URL = "http://fourtalk.test/wallet"
RISK = timedelta(days=8)
_NAMES = UUID("3b5d4a5c-4a8e-4d5e-9a6d-0c3f3d1f7a11")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One life, and where its process dies."""

    database_url: str
    stripe: str
    kind: str
    number: int
    pupils: int
    lessons: int
    """Of a whole course."""
    point: Point | None = None
    nth: int = 1
    counts: str | None = None
    """A file that gets how often each point was reached, in the order of the first time. Nobody dies then."""


class Life:
    """The hands of one life."""

    def __init__(self, sessions: Sessions, hand: Hand, plan: Plan) -> None:
        self.sessions = sessions
        self.hand = hand
        self.plan = plan
        self.tutor = name(plan, "tutor")

    def key(self, what: str) -> str:
        return f"{self.plan.kind}:{self.plan.number}:{what}"

    async def fund(self, amount: int, *owners: OwnerId) -> None:
        expense = AccountKey(AccountKind.PLATFORM_EXPENSE, PLATFORM, "USD")
        order = Order(
            kind=JournalKind.ADMIN_ADJUSTMENT,
            scope="chaos",
            key=self.key(f"fund:{owners[0]}"),
            request=amount,
            actor="admin:chaos",
            reason="Money to be spent.",
            ref_type="test",
            ref_id=owners[0],
            at=START,
        )
        legs = [
            Leg(expense, AccountKey(AccountKind.WALLET, owner_id, "USD"), Money(amount))
            for owner_id in owners
        ]
        async with self.sessions.begin() as session:
            await ledger.post(session, order, legs)

    async def buy(
        self, student: OwnerId, wanted: Sequence[NewHold], *, now: datetime = START
    ) -> list[HoldId]:
        async with self.sessions.begin() as session:
            return await holds.place(
                session, holds=wanted, student_id=student, key=self.key(f"buy:{student}"), now=now
            )

    async def end(self, facts: LessonFacts, *, now: datetime = START) -> None:
        async with self.sessions.begin() as session:
            await settlement.due(session, facts, now=now)

    async def settle(self, lesson_id: UUID, *, now: datetime = START) -> None:
        async with self.sessions.begin() as session:
            await settlement.settle(session, lesson_id, now=now)

    async def mature(self, hold_ids: Sequence[UUID], *, now: datetime = START) -> None:
        """Wait until the risk windows are over."""
        later = now + RISK
        await self.do_jobs(
            maturity.JOB,
            [str(hold_id) for hold_id in hold_ids],
            later,
            lambda claim: maturity.run(self.sessions, claim, now=later),
        )

    async def top_up(
        self, owner: OwnerId, what: str, *, way: TopUpWay = TopUpWay.HOSTED, method_id: str | None = None
    ) -> TopUp:
        """Begin to pay; by a saved card that is all."""
        now = await self.hand.passes()
        wish = top_ups.Wish(
            owner_id=owner, money=Money(TOP_UP), way=way, method_id=method_id, key=self.key(what)
        )
        async with self.sessions.begin() as session:
            row = await top_ups.create(session, wish, now=now)
        step = await top_ups.advance(self.sessions, self.hand.api, row.id, return_url=RETURN_URL, now=now)
        return step.top_up

    async def hear(self, *about: str) -> None:
        """Take the webhooks about something, twice, and do what they ask for."""
        wall = datetime.now(START.tzinfo)
        events = [
            stripe_webhooks.read(one.body.encode(), one.signature, secrets=[SECRET], wall=wall)
            for one in await self.hand.events(*about)
        ]
        now = await self.hand.passes()
        async with self.sessions.begin() as session:
            for event in [*events, *events]:
                await stripe_events.receive(session, event, now=now)
        await self.do_jobs(
            stripe_events.JOB,
            [event.id for event in events],
            now,
            lambda claim: stripe_events.handle(self.sessions, self.hand.api, claim, now=now),
        )

    async def do_jobs(
        self, kind: str, keys: Sequence[str], now: datetime, work: Callable[[jobs.Claim], Awaitable[None]]
    ) -> None:
        """Do what waits of this life, as the runner would; what a dead process had claimed comes back after its lease."""
        mine = (JobRow.kind == kind, JobRow.key.in_(keys))
        async with self.sessions.begin() as session:
            await session.execute(
                text(
                    "update job set leased_until = now() - interval '1 s' where lease is not null"
                    " and kind = :kind and key = any(:keys)"
                ),
                {"kind": kind, "keys": list(keys)},
            )
            waiting = (await session.scalars(select(JobRow.id).where(*mine, JobRow.run_at <= now))).all()
        for row in waiting:
            async with self.sessions.begin() as session:
                claims = await jobs.claim(
                    session, [((kind,), now)], limit=1, lease=timedelta(seconds=30), only=row
                )
            for claim in claims:
                await work(claim)


def name(plan: Plan, what: str) -> OwnerId:
    return OwnerId(uuid5(_NAMES, f"{plan.kind}:{plan.number}:{what}"))


def new_hold(life: Life, student: OwnerId, lesson: UUID, kind: SourceKind, number: int) -> NewHold:
    return NewHold(
        id=HoldId(uuid5(student, str(number))),
        lesson_id=lesson,
        slice_no=number,
        tutor_id=life.tutor,
        money=Money(PRICE),
        tutor_bps=BPS,
        attribution="platform",
        policy_version=1,
        source_kind=kind,
        source_id=uuid5(student, "source"),
    )


def facts(lesson: UUID, tutor: OwnerId, students: Mapping[OwnerId, int]) -> LessonFacts:
    began = START - timedelta(seconds=PLANNED_S)
    return LessonFacts(
        lesson_id=lesson,
        tutor_id=tutor,
        planned_s=PLANNED_S,
        total_s=PLANNED_S,
        tutor_attended_s=PLANNED_S,
        tutor_absent=False,
        ended_at=START,
        students={
            student: Presence(
                seconds, (Interval(began, began + timedelta(seconds=seconds), ("socket",)),), "full"
            )
            for student, seconds in students.items()
        },
    )

"""What somebody does with money, from beginning to end, by keys that follow from a number: done again, it is done once.

Each life runs in a process that may be killed anywhere in it; another process then lives it again from the start. What
everybody must have in the end is a constant, wherever it died and however often.
"""

import asyncio
import functools
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid5

import msgspec
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from billing import (
    crashpoints,
    holds,
    jobs,
    maturity,
    payout_accounts,
    payouts,
    reconciliation,
    settlement,
    stripe_events,
    stripe_webhooks,
    top_ups,
    wallet,
    withdrawals,
)
from billing.crashpoints import Point
from billing.facts import Interval, LessonFacts, Presence
from billing.holds import NewHold
from billing.models import (
    AttemptStatus,
    Cause,
    HoldId,
    JobRow,
    OwnerId,
    PayoutAttempt,
    SourceKind,
    TopUp,
    TopUpWay,
    WithdrawalStatus,
)
from billing.money import Money, split
from server import db
from tests.chaos.money.stripe import SECRET, START, Hand

Sessions = async_sessionmaker[AsyncSession]

# How a process of a life ends. Killed at its point it has no code of its own, but minus the signal.
DONE, FAILED, INTERRUPTED = 0, 1, 3

PRICE, BPS = 3_333, 3_000
PLANNED_S = 5_400
TOP_UP = 2_000
EARNED, SENT, RETURNED, SPENT = 10_000, 5_000, 3_000, 1_000
RETURN_URL = "http://fourtalk.test/wallet"
RISK = timedelta(days=8)
_NAMES = UUID("3b5d4a5c-4a8e-4d5e-9a6d-0c3f3d1f7a11")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One life, and where its process dies."""

    database_url: str
    stripe: str
    kind: str
    number: int
    seats: int
    """Who buys, where somebody does."""
    point: Point | None = None
    nth: int = 1
    counts: str | None = None
    """A file that gets how often each point was reached, in the order of the first time. Nobody dies then."""


def live(plan: Plan) -> None:
    """Live one life in this process, and die where the plan says so."""
    reached: Counter[Point] = Counter()

    def at(point: Point) -> None:
        reached[point] += 1
        if point == plan.point and reached[point] == plan.nth:
            os.kill(os.getpid(), signal.SIGKILL)

    crashpoints.arm(at)
    try:
        asyncio.run(_live(plan))
    except (SQLAlchemyError, OSError) as error:
        # The database is away; whoever started this life starts it again.
        print(type(error).__name__, error, file=sys.stderr)
        sys.exit(INTERRUPTED)
    if plan.counts is not None:
        Path(plan.counts).write_bytes(msgspec.json.encode(dict(reached)))


async def _live(plan: Plan) -> None:
    engine = _engine(plan.database_url)
    hand = Hand(plan.stripe)
    try:
        life = Life(db.create_sessions(engine), hand, plan)
        await LIVES[plan.kind](life)
    finally:
        await hand.close()
        await engine.dispose()


@functools.cache
def _engine(url: str) -> AsyncEngine:
    """Return an engine without connections; what it has learnt to say to the database, its children know too."""
    return db.create_engine(url, pool_size=2)


class Life:
    """The hands of one life."""

    def __init__(self, sessions: Sessions, hand: Hand, plan: Plan) -> None:
        self.sessions = sessions
        self.hand = hand
        self.plan = plan
        self.tutor = name(plan, "tutor")

    def key(self, what: str) -> str:
        return f"{self.plan.kind}:{self.plan.number}:{what}"

    async def fund(self, owner_id: OwnerId, amount: int) -> None:
        async with self.sessions.begin() as session:
            await wallet.adjust(
                session,
                owner_id,
                Money(amount),
                actor="admin:chaos",
                reason="Money to be spent.",
                key=self.key(f"fund:{owner_id}"),
                now=START,
            )

    async def buy(self, student: OwnerId, wanted: Sequence[NewHold]) -> list[HoldId]:
        async with self.sessions.begin() as session:
            return await holds.place(
                session, holds=wanted, student_id=student, key=self.key(f"buy:{student}"), now=START
            )

    async def end(self, facts: LessonFacts) -> None:
        async with self.sessions.begin() as session:
            await settlement.due(session, facts, now=START)

    async def settle(self, lesson_id: UUID) -> None:
        async with self.sessions.begin() as session:
            await settlement.settle(session, lesson_id, now=START)

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
        async with self.sessions() as session:
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


# Somebody buys ------------------------------------------------------------------------------------------------------


async def shopping(life: Life) -> None:
    """Three lessons: one settles at once, two wait for their risk windows; a hold is given back, evidence comes late."""
    plan, sessions = life.plan, life.sessions
    course, booking, unheld = name(plan, "course"), name(plan, "booking"), name(plan, "unheld")
    students = [name(plan, f"student:{seat}") for seat in range(plan.seats)]
    placed: list[HoldId] = []
    for student in students:
        wanted = [
            _hold(life, student, course, SourceKind.COURSE_SESSION, 1),
            _hold(life, student, booking, SourceKind.BOOKING, 2),
        ]
        if student == students[1]:
            wanted.append(_hold(life, student, unheld, SourceKind.BOOKING, 3))
        await life.fund(student, len(wanted) * PRICE)
        # A double click.
        both = await asyncio.gather(life.buy(student, wanted), life.buy(student, wanted))
        assert both[0] == both[1]
        placed += both[0]
    async with sessions.begin() as session:
        await holds.refund(
            session,
            [placed[1]],
            cause=Cause.CANCELLED,
            actor=f"user:{students[0]}",
            reason="cannot come",
            key=life.key("refund"),
            now=START,
        )
    await life.end(_facts(course, life.tutor, dict.fromkeys(students, PLANNED_S)))
    # The end of the room and the sweeper at the same moment.
    await asyncio.gather(life.settle(course), settlement.sweep(sessions, START))
    await life.end(_facts(booking, life.tutor, dict.fromkeys(students, PLANNED_S)))
    await settlement.sweep(sessions, START)
    # Somebody else's sweep may be at it.
    await life.settle(booking)
    # The tutor was not in the third lesson after all.
    seen = {students[1]: PLANNED_S}
    await life.end(_facts(unheld, life.tutor, seen))
    await life.settle(unheld)
    late = msgspec.structs.replace(_facts(unheld, life.tutor, seen), tutor_attended_s=0, tutor_absent=True)
    async with sessions.begin() as session:
        await settlement.reconsider(session, late, now=START)
    later = START + RISK
    await life.do_jobs(
        maturity.JOB,
        [str(hold_id) for hold_id in placed],
        later,
        lambda claim: maturity.run(sessions, claim, now=later),
    )


def _hold(life: Life, student: OwnerId, lesson: UUID, kind: SourceKind, number: int) -> NewHold:
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


def _facts(lesson: UUID, tutor: OwnerId, students: Mapping[OwnerId, int]) -> LessonFacts:
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


# Somebody pays ------------------------------------------------------------------------------------------------------


async def paying(life: Life) -> None:
    """Four top-ups: one told by webhooks, one by a saved card, one that nobody pays, one whose webhooks are lost."""
    sessions, api, owner = life.sessions, life.hand.api, name(life.plan, "payer")
    told = await _start(life, owner, "told")
    await life.hand.act(f"/checkout/{told.checkout_id}/pay", card="4242", save=True)
    await _hear(life, str(told.id))

    [card] = await top_ups.methods(sessions, api, owner)
    await _start(life, owner, "saved", way=TopUpWay.SAVED, method_id=card.id)

    left = await _start(life, owner, "left")
    later = left.expires_at + top_ups.GRACE
    await life.do_jobs(
        top_ups.DUE_JOB, [str(left.id)], later, lambda claim: top_ups.end(sessions, api, claim, now=later)
    )

    lost = await _start(life, owner, "lost")
    await life.hand.act(f"/checkout/{lost.checkout_id}/pay", card="4242")
    now = await life.hand.passes()
    await reconciliation.run(sessions, api, now=now + reconciliation.TIMING)


async def _start(
    life: Life, owner: OwnerId, what: str, *, way: TopUpWay = TopUpWay.HOSTED, method_id: str | None = None
) -> TopUp:
    now = await life.hand.passes()
    wish = top_ups.Wish(owner_id=owner, money=Money(TOP_UP), way=way, method_id=method_id, key=life.key(what))
    async with life.sessions.begin() as session:
        row = await top_ups.create(session, wish, now=now)
    step = await top_ups.advance(life.sessions, life.hand.api, row.id, return_url=RETURN_URL, now=now)
    return step.top_up


async def _hear(life: Life, *about: str) -> None:
    """Take the webhooks about something, twice, and do what they ask for."""
    wall = datetime.now(START.tzinfo)
    events = [
        stripe_webhooks.read(one.body.encode(), one.signature, secrets=[SECRET], wall=wall)
        for one in await life.hand.events(*about)
    ]
    now = await life.hand.passes()
    for event in [*events, *events]:
        async with life.sessions.begin() as session:
            await stripe_events.receive(session, event, now=now)
    await life.do_jobs(
        stripe_events.JOB,
        [event.id for event in events],
        now,
        lambda claim: stripe_events.handle(life.sessions, life.hand.api, claim, now=now),
    )


# Somebody earns -----------------------------------------------------------------------------------------------------


async def earning(life: Life) -> None:
    """A tutor earns, spends some, has some paid out by Stripe, and some comes back from the bank."""
    plan, sessions = life.plan, life.sessions
    student, lesson = name(plan, "student"), name(plan, "lesson")
    await life.fund(student, EARNED)
    taught = msgspec.structs.replace(
        _hold(life, student, lesson, SourceKind.COURSE_SESSION, 1), money=Money(EARNED), tutor_bps=10_000
    )
    await life.buy(student, [taught])
    await life.end(_facts(lesson, life.tutor, {student: PLANNED_S}))
    await life.settle(lesson)
    async with sessions.begin() as session:
        await withdrawals.spend(session, life.tutor, Money(SPENT), key=life.key("spend"), now=START)
    now = await life.hand.passes()
    await payout_accounts.onboard(
        sessions,
        life.hand.api,
        life.tutor,
        country="US",
        email="ann@example.com",
        return_url=RETURN_URL,
        now=now,
    )
    async with sessions() as session:
        account = (await payout_accounts.current(session, life.tutor)).stripe_account
    await life.hand.act(f"/accounts/{account}/onboard")

    sent = await _withdraw(life, SENT, "sent")
    if (await _attempt(life, sent)).status == AttemptStatus.SUBMITTED:
        await life.hand.passes(timedelta(days=2))
        await _pay_out(life, sent)

    returned = await _withdraw(life, RETURNED, "returned")
    attempt = await _attempt(life, returned)
    if attempt.failure is None:
        await life.hand.act(f"/payouts/{attempt.payout}/fail")
        await _hear(life, str(attempt.payout))
        await _pay_out(life, returned)
    async with sessions.begin() as session:
        row = await payouts.locked(session, returned)
        if row.status == WithdrawalStatus.PROCESSING:
            await withdrawals.reject(
                session, returned, admin_id=name(plan, "admin"), answer="The bank did not take it.", now=now
            )


async def _withdraw(life: Life, amount: int, what: str) -> UUID:
    now = await life.hand.passes()
    async with life.sessions.begin() as session:
        row = await withdrawals.request(
            session, life.tutor, Money(amount), note=None, key=life.key(what), now=now
        )
    async with life.sessions.begin() as session:
        if row.status == WithdrawalStatus.PENDING:
            await withdrawals.approve(session, row.id, admin_id=name(life.plan, "admin"), now=now)
    await _pay_out(life, row.id)
    return row.id


async def _pay_out(life: Life, withdrawal_id: UUID) -> None:
    """Carry its attempt on, as far as it goes now."""
    attempt = await _attempt(life, withdrawal_id)
    # The job looks every some hours; a webhook that says so has it look at once.
    now = await life.hand.passes() + payouts.LOOK_EVERY
    await life.do_jobs(
        payouts.JOB,
        [str(attempt.id)],
        now,
        lambda claim: payouts.run(life.sessions, life.hand.api, claim, now=now),
    )


async def _attempt(life: Life, withdrawal_id: UUID) -> PayoutAttempt:
    async with life.sessions() as session:
        query = select(PayoutAttempt).where(PayoutAttempt.withdrawal_id == withdrawal_id)
        return (await session.scalars(query)).one()


LIVES: Mapping[str, Callable[[Life], Awaitable[None]]] = {
    "shopping": shopping,
    "paying": paying,
    "earning": earning,
}


def outcome(plan: Plan) -> dict[tuple[str, UUID], int]:
    """Return what everybody must have in the end, by kind of account and owner."""
    match plan.kind:
        case "shopping":
            tutor, _ = split(PRICE, BPS)
            # The first gave one hold back, the second paid for a lesson to which the tutor did not come.
            given_back = {0, 1}
            wallets: dict[tuple[str, UUID], int] = {
                ("wallet", name(plan, f"student:{seat}")): PRICE if seat in given_back else 0
                for seat in range(plan.seats)
            }
            return wallets | {
                ("earnings", name(plan, "tutor")): tutor * (2 * plan.seats - 1),
                ("earnings_pending", name(plan, "tutor")): 0,
            }
        case "paying":
            return {("wallet", name(plan, "payer")): 3 * TOP_UP}
        case _:
            tutor_id = name(plan, "tutor")
            return {
                ("wallet", name(plan, "student")): 0,
                ("wallet", tutor_id): SPENT,
                ("earnings", tutor_id): EARNED - SPENT - SENT,
                ("withdrawal", tutor_id): 0,
            }

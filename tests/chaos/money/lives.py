"""What somebody does with money, from beginning to end, by keys that follow from a number: done again, it is done once.

Each life runs in a process that may be killed anywhere in it; another process then lives it again from the start. What
everybody must have in the end is a constant, wherever it died and however often.
"""

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from billing import (
    crashpoints,
    holds,
    packages,
    payout_accounts,
    payouts,
    reconciliation,
    settlement,
    top_ups,
    withdrawals,
)
from billing.crashpoints import Point
from billing.errors import AlreadyHeldError, LessonOverError, PackageOverError
from billing.models import (
    AttemptStatus,
    Cause,
    Hold,
    HoldId,
    OwnerId,
    Package,
    PackageOption,
    PayoutAttempt,
    SourceKind,
    TopUpWay,
    WithdrawalStatus,
)
from billing.money import Money, split
from server import db
from tests.chaos.money import cards
from tests.chaos.money.life import (
    BPS,
    PLANNED_S,
    PRICE,
    RETURN_URL,
    TOP_UP,
    Life,
    Plan,
    facts,
    name,
    new_hold,
)
from tests.chaos.money.stripe import START, Hand

# How a process of a life ends. Killed at its point it has no code of its own, but minus the signal.
DONE, FAILED, INTERRUPTED = 0, 1, 3

# Who shops.
SEATS = 3
EARNED, SENT, RETURNED, SPENT = 10_000, 5_000, 3_000, 1_000
# Of who has earned nothing yet, by the first terms.
PACKAGE_LESSONS, PACKAGE_BPS = 4, 8_000


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


# Somebody buys ------------------------------------------------------------------------------------------------------


async def shopping(life: Life) -> None:
    """Three lessons: one settles at once, two wait for their risk windows; a hold is given back, evidence comes late."""
    plan, sessions = life.plan, life.sessions
    course, booking, unheld = name(plan, "course"), name(plan, "booking"), name(plan, "unheld")
    students = [name(plan, f"student:{seat}") for seat in range(SEATS)]
    placed: list[HoldId] = []
    for student in students:
        wanted = [
            new_hold(life, student, course, SourceKind.COURSE_SESSION, 1),
            new_hold(life, student, booking, SourceKind.BOOKING, 2),
        ]
        if student == students[1]:
            wanted.append(new_hold(life, student, unheld, SourceKind.BOOKING, 3))
        await life.fund(len(wanted) * PRICE, student)
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
    await life.end(facts(course, life.tutor, dict.fromkeys(students, PLANNED_S)))
    # The end of the room and the sweeper at the same moment.
    await asyncio.gather(life.settle(course), settlement.sweep(sessions, START))
    await life.end(facts(booking, life.tutor, dict.fromkeys(students, PLANNED_S)))
    await settlement.sweep(sessions, START)
    # Somebody else's sweep may be at it.
    await life.settle(booking)
    # The tutor was not in the third lesson after all.
    seen = {students[1]: PLANNED_S}
    await life.end(facts(unheld, life.tutor, seen))
    await life.settle(unheld)
    late = msgspec.structs.replace(facts(unheld, life.tutor, seen), tutor_attended_s=0, tutor_absent=True)
    async with sessions.begin() as session:
        await settlement.reconsider(session, late, now=START)
    await life.mature(placed)


# Many buy -----------------------------------------------------------------------------------------------------------


async def course(life: Life) -> None:
    """A class buys a whole course, each all of its lessons at once, and each lesson settles everybody's holds at once."""
    pupils, lessons = _class(life.plan)
    await life.fund(len(lessons) * PRICE, *pupils)
    for pupil in pupils:
        wanted = [
            new_hold(life, pupil, lesson, SourceKind.COURSE_SESSION, number)
            for number, lesson in enumerate(lessons, start=1)
        ]
        await life.buy(pupil, wanted)
    for number, lesson in enumerate(lessons):
        there = dict.fromkeys(pupils, PLANNED_S) | {_missing(pupils, number): 0}
        await life.end(facts(lesson, life.tutor, there))
    await asyncio.gather(
        settlement.sweep(life.sessions, START), *(life.settle(lesson) for lesson in lessons[::2])
    )
    # Somebody else's sweep may be at it.
    for lesson in lessons:
        await life.settle(lesson)


def _class(plan: Plan) -> tuple[list[OwnerId], list[UUID]]:
    pupils = [name(plan, f"pupil:{number}") for number in range(plan.pupils)]
    return pupils, [name(plan, f"lesson:{number}") for number in range(plan.lessons)]


def _missing(pupils: Sequence[OwnerId], lesson: int) -> OwnerId:
    """Return who stays away from a lesson, and pays nothing for it."""
    return pupils[lesson % len(pupils)]


# Somebody buys a package --------------------------------------------------------------------------------------------


async def package(life: Life) -> None:
    """Of four lessons the tutor misses the first, which goes back and is given later; another is cancelled too late."""
    plan, sessions, now = life.plan, life.sessions, START
    student, bought = name(plan, "student"), name(plan, "package")
    missed, given, late = name(plan, "missed"), name(plan, "given"), name(plan, "late")
    await life.fund(PACKAGE_LESSONS * PRICE, student)
    await _buy_package(life, student, bought)
    await _use(life, bought, missed)
    nobody = msgspec.structs.replace(
        facts(missed, life.tutor, {student: PLANNED_S}), tutor_attended_s=0, tutor_absent=True
    )
    await life.end(nobody)
    await life.settle(missed)
    await _use(life, bought, given)
    await life.end(facts(given, life.tutor, {student: PLANNED_S}))
    await life.settle(given)
    async with sessions.begin() as session:
        # As a booking does that is cancelled already, whose lesson was taken in its own transaction.
        if await session.scalar(select(Hold.id).where(Hold.lesson_id == late)) is None:
            await packages.use(session, bought, late, opened_at=now, now=now)
    async with sessions.begin() as session:
        await packages.forfeit(session, bought, late, actor=f"user:{student}", reason="cannot come", now=now)
    with contextlib.suppress(PackageOverError):
        async with sessions.begin() as session:
            await packages.refund_rest(
                session, bought, actor=f"user:{student}", reason="cannot come", now=now
            )
    async with sessions() as session:
        paid = (await session.scalars(select(Hold.id).where(Hold.lesson_id.in_((given, late))))).all()
    await life.mature(paid)


async def _buy_package(life: Life, student: OwnerId, package_id: UUID) -> None:
    option = PackageOption(
        id=name(life.plan, "option"),
        tutor_id=life.tutor,
        title="Four lessons",
        description="",
        minutes=90,
        sessions=PACKAGE_LESSONS,
        price=PACKAGE_LESSONS * PRICE,
        currency="USD",
        is_rolling=False,
        is_popular=False,
        position=0,
        created_at=START,
        updated_at=START,
    )
    async with life.sessions.begin() as session:
        # As a command does whose key was used before.
        if await session.get(Package, package_id) is None:
            await session.merge(option)
            await session.flush()
            wanted = await packages.offer(session, option.id, now=START)
            await packages.buy(session, wanted, package_id=package_id, student_id=student, now=START)


async def _use(life: Life, package_id: UUID, lesson_id: UUID) -> None:
    """Take a lesson, unless it is taken or over."""
    with contextlib.suppress(AlreadyHeldError, LessonOverError, PackageOverError):
        async with life.sessions.begin() as session:
            await packages.use(session, package_id, lesson_id, opened_at=START, now=START)


# Somebody pays ------------------------------------------------------------------------------------------------------


async def paying(life: Life) -> None:
    """Four top-ups: one told by webhooks, one by a saved card, one that nobody pays, one whose webhooks are lost."""
    sessions, api, owner = life.sessions, life.hand.api, name(life.plan, "payer")
    told = await life.top_up(owner, "told")
    await life.hand.act(f"/checkout/{told.checkout_id}/pay", card="4242", save=True)
    await life.hear(str(told.id))

    [card] = await top_ups.methods(sessions, api, owner)
    await life.top_up(owner, "saved", way=TopUpWay.SAVED, method_id=card.id)

    left = await life.top_up(owner, "left")
    later = left.expires_at + top_ups.GRACE
    await life.do_jobs(
        top_ups.DUE_JOB, [str(left.id)], later, lambda claim: top_ups.end(sessions, api, claim, now=later)
    )

    lost = await life.top_up(owner, "lost")
    await life.hand.act(f"/checkout/{lost.checkout_id}/pay", card="4242")
    now = await life.hand.passes()
    await reconciliation.run(sessions, api, now=now + reconciliation.TIMING)


# Somebody earns -----------------------------------------------------------------------------------------------------


async def earning(life: Life) -> None:
    """A tutor earns, spends some, has some paid out by Stripe, and some comes back from the bank."""
    plan, sessions = life.plan, life.sessions
    student, lesson = name(plan, "student"), name(plan, "lesson")
    await life.fund(EARNED, student)
    taught = msgspec.structs.replace(
        new_hold(life, student, lesson, SourceKind.COURSE_SESSION, 1), money=Money(EARNED), tutor_bps=10_000
    )
    await life.buy(student, [taught])
    await life.end(facts(lesson, life.tutor, {student: PLANNED_S}))
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
        await life.hear(str(attempt.payout))
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
    "course": course,
    "package": package,
    "paying": paying,
    "earning": earning,
    **cards.LIVES,
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
                for seat in range(SEATS)
            }
            return wallets | {
                ("earnings", name(plan, "tutor")): tutor * (2 * SEATS - 1),
                ("earnings_pending", name(plan, "tutor")): 0,
            }
        case "course":
            pupils, lessons = _class(plan)
            missed = Counter(_missing(pupils, number) for number in range(len(lessons)))
            tutor, _ = split(PRICE, BPS)
            back: dict[tuple[str, UUID], int] = {("wallet", one): PRICE * missed[one] for one in pupils}
            return back | {("earnings", name(plan, "tutor")): tutor * (len(pupils) - 1) * len(lessons)}
        case "package":
            tutor, _ = split(PRICE, PACKAGE_BPS)
            return {
                ("wallet", name(plan, "student")): (PACKAGE_LESSONS - 2) * PRICE,
                ("earnings", name(plan, "tutor")): 2 * tutor,
                ("earnings_pending", name(plan, "tutor")): 0,
            }
        case "paying":
            return {("wallet", name(plan, "payer")): 3 * TOP_UP}
        case "earning":
            tutor_id = name(plan, "tutor")
            return {
                ("wallet", name(plan, "student")): 0,
                ("wallet", tutor_id): SPENT,
                ("earnings", tutor_id): EARNED - SPENT - SENT,
                ("withdrawal", tutor_id): 0,
            }
        case _:
            return cards.outcome(plan)

"""Many hands on the same money at the same moment, on real connections: who comes second finds what the first left.

Over HTTP stand: two buyers of the last seat, the double click, a purchase while the tutor cancels, a cancellation while
the money moves (`tests/server/test_purchases_races.py`). Of one thing alone stand with that thing: two withdrawals of one
balance, two administrators (`test_withdrawals.py`), a dispute and the end of a risk window (`test_maturity.py`), every
order of five webhooks (`test_top_ups.py`, `tests/rooms/test_attendance.py`), two workers with one payout
(`test_payouts.py`), settlements of the same people (`test_settlement.py`).

Every test ends with PostgreSQL's own count of deadlocks, which is zero: locks are taken in one order everywhere.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from billing import holds, settlement, stripe_events, top_ups
from billing.errors import AlreadyHeldError, BillingError, HoldNotHeldError, InsufficientFundsError
from billing.models import Cause, HoldId, OwnerId, TopUpStatus
from billing.money import split
from tests.billing.payments import Shop, open_shop
from tests.billing.world import (
    NOW,
    PLANNED_S,
    Sessions,
    balance,
    buy,
    earnings,
    end,
    facts,
    fund,
    new_hold,
    owner,
    violations,
)

CROWD = 64


@pytest.fixture(autouse=True)
async def no_deadlocks(engine: AsyncEngine) -> AsyncIterator[None]:
    """After each test: nobody waited in a ring. A connection tells what it counted when it ends."""
    yield
    await engine.dispose()
    async with engine.connect() as connection:
        counted = await connection.scalar(
            text("select deadlocks from pg_stat_database where datname = current_database()")
        )
    assert counted == 0


@pytest.fixture
async def shop(sessions: Sessions) -> AsyncIterator[Shop]:
    async with open_shop(sessions) as opened:
        yield opened


async def answers(deeds: Sequence[Awaitable[object]]) -> list[object]:
    """Do all at once; a refusal is an answer, anything else is a fault."""
    found = await asyncio.gather(*deeds, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, BillingError):
            raise one
    return list(found)


@pytest.mark.timeout(900)
async def test_of_sixty_four_purchases_as_many_are_made_as_the_wallet_pays(
    sessions: Sessions, record_property: Callable[[str, object], None], *, full: bool
) -> None:
    dice = random.Random(64)
    rounds = 1_000 if full else 15
    made = 0
    for _ in range(rounds):
        student, price, paid = owner(), dice.randint(1, 5_000), dice.randint(1, CROWD)
        rest = dice.randrange(price)
        await fund(sessions, student, price * paid + rest)

        found = await answers(
            [buy(sessions, student, new_hold(price, lesson_id=uuid4())) for _ in range(CROWD)]
        )

        refused = [one for one in found if isinstance(one, InsufficientFundsError)]
        assert len(found) - len(refused) == paid
        assert {error.shortfall.amount for error in refused} <= {price - rest}
        assert await balance(sessions, student) == rest
        made += len(found)
    assert await violations(sessions) == []
    record_property(
        "figures", f"{made:,} purchases in {rounds:,} crowds of {CROWD}: none too many, no deadlock"
    )


async def test_one_seat_in_one_lesson_is_paid_once_however_many_windows_are_open(sessions: Sessions) -> None:
    """Each window has a key of its own, so it is the one open hold that decides."""
    student, lesson = owner(), uuid4()
    await fund(sessions, student, 100_000)

    found = await answers([buy(sessions, student, new_hold(10_000, lesson_id=lesson)) for _ in range(16)])

    assert sum(isinstance(one, AlreadyHeldError) for one in found) == 15
    assert await balance(sessions, student) == 90_000
    assert await violations(sessions) == []


@pytest.mark.parametrize("attempt", range(4))
async def test_a_payment_told_by_everybody_at_once_is_one_credit(shop: Shop, attempt: int) -> None:
    """The same webhook twice, another one, the payer's return, the deadline and the reconciliation."""
    ann = owner()
    step = await shop.start(ann, 2_000)
    await shop.fake.pay(step.top_up.checkout_id or "")
    await shop.receive(*shop.fake.events, *shop.fake.events)
    told = await shop.claim(stripe_events.JOB)
    shop.passes(timedelta(hours=1, minutes=5))
    due = await shop.claim(top_ups.DUE_JOB)
    ways: list[Callable[[], Awaitable[object]]] = [
        *(lambda claim=claim: shop.do(claim) for claim in [*told, *due]),
        lambda: shop.refresh(step.top_up.id),
        lambda: shop.refresh(step.top_up.id),
        shop.reconcile,
    ]
    random.Random(attempt).shuffle(ways)

    await answers([way() for way in ways])

    assert await shop.status(step.top_up.id) == TopUpStatus.SUCCEEDED
    assert await balance(shop.sessions, ann) == 2_000
    assert await violations(shop.sessions) == []
    assert (await shop.reconcile()).findings == ()


@pytest.mark.parametrize("attempt", range(4))
async def test_credit_is_spent_as_soon_as_it_is_there_and_never_before(shop: Shop, attempt: int) -> None:
    ann = owner()
    step = await shop.start(ann, 2_000)
    await shop.fake.pay(step.top_up.checkout_id or "")

    async def spend() -> object:
        return await buy(shop.sessions, ann, new_hold(500, lesson_id=uuid4()))

    found = await answers(
        [*(spend() for _ in range(2 * attempt)), shop.refresh(step.top_up.id), *(spend() for _ in range(6))]
    )

    bought = sum(isinstance(one, list) for one in found)
    assert bought <= 4
    assert await balance(shop.sessions, ann) == 2_000 - 500 * bought
    assert await violations(shop.sessions) == []


@pytest.mark.parametrize("attempt", range(3))
async def test_a_hold_is_released_or_given_back_by_whoever_comes_first(
    sessions: Sessions, attempt: int
) -> None:
    """The end of the room, the sweeper, an administrator and the student, each with a reason to move the same hold."""
    student, tutor, lesson = owner(), owner(), uuid4()
    await fund(sessions, student, 10_000)
    [hold_id] = await buy(sessions, student, new_hold(10_000, lesson_id=lesson, tutor_id=tutor))
    async with sessions.begin() as session:
        await settlement.due(session, facts(lesson, {student: PLANNED_S}), now=NOW)

    async def give_back(cause: Cause, actor: str) -> list[HoldId]:
        async with sessions.begin() as session:
            return await holds.refund(
                session,
                [hold_id],
                cause=cause,
                actor=actor,
                reason="The tutor was ill.",
                key=str(uuid4()),
                now=NOW,
            )

    async def settle() -> object:
        async with sessions.begin() as session:
            return await settlement.settle(session, lesson, now=NOW)

    deeds: list[Callable[[], Awaitable[object]]] = [
        lambda: give_back(Cause.ADMIN, "admin:1"),
        lambda: give_back(Cause.CANCELLED, f"user:{student}"),
        settle,
        lambda: settlement.sweep(sessions, NOW),
    ]
    random.Random(attempt).shuffle(deeds)

    found = await answers([deed() for deed in deeds])

    was_given_back = any(isinstance(one, list) for one in found)
    assert sum(isinstance(one, HoldNotHeldError) for one in found) == (1 if was_given_back else 2)
    assert await balance(sessions, student) == (10_000 if was_given_back else 0)
    assert await earnings(sessions, tutor) == (0 if was_given_back else split(10_000, 3_000)[0])
    assert await violations(sessions) == []


async def test_a_town_where_everybody_deals_with_everybody_waits_in_no_ring(
    sessions: Sessions, record_property: Callable[[str, object], None], *, full: bool
) -> None:
    """The same people buy, cancel and are taught in lessons that they share; each account is wanted by many."""
    dice = random.Random(8)
    students, tutors = [owner() for _ in range(6)], [owner() for _ in range(2)]
    for student in students:
        await fund(sessions, student, 100_000)
    rounds = 40 if full else 6
    done = 0
    for _ in range(rounds):
        lessons = [uuid4() for _ in range(4)]
        placed: list[HoldId] = []

        async def shop_for(student: OwnerId, lessons: list[UUID], placed: list[HoldId]) -> None:
            wanted = dice.sample(lessons, 3)
            source = uuid4()
            cut = [
                new_hold(
                    dice.randint(1, 90),
                    lesson_id=lesson,
                    tutor_id=dice.choice(tutors),
                    source_id=source,
                    slice_no=number,
                )
                for number, lesson in enumerate(wanted, start=1)
            ]
            placed += await buy(sessions, student, *cut)

        async def give_back(placed: list[HoldId]) -> None:
            chosen = dice.sample(placed, min(2, len(placed)))
            if chosen:
                async with sessions.begin() as session:
                    await holds.refund(
                        session,
                        chosen,
                        cause=Cause.CANCELLED,
                        actor="user:somebody",
                        reason="cannot come",
                        key=str(uuid4()),
                        now=NOW,
                        only_held=True,
                    )

        async def teach(lesson: UUID) -> None:
            there = {student: dice.choice((0, PLANNED_S)) for student in students}
            await end(sessions, facts(lesson, there))

        deeds = [
            *(shop_for(student, lessons, placed) for student in students),
            *(give_back(placed) for _ in range(3)),
            *(teach(lesson) for lesson in lessons),
            settlement.sweep(sessions, NOW),
        ]
        dice.shuffle(deeds)
        await answers(deeds)
        done += len(deeds)
    assert await violations(sessions) == []
    record_property("figures", f"{done:,} deeds, some of them at once: no deadlock")

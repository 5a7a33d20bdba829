"""Many hands on the same money at the same moment, on real connections: who comes second finds what the first left.

Over HTTP stand: two buyers of the last seat, the double click, a purchase while the tutor cancels, a cancellation while
the money moves (`tests/server/test_purchases_races.py`). Of one thing alone stand with that thing: two withdrawals of one
balance, two administrators (`test_withdrawals.py`), a dispute and the end of a risk window (`test_maturity.py`), every
order of five webhooks (`test_top_ups.py`, `tests/rooms/test_attendance.py`), two workers with one payout
(`test_payouts.py`), settlements of the same people (`test_settlement.py`).
Two who decide about the same, in every order of their statements, stand in `test_interleavings.py`.

Every test ends with PostgreSQL's own count of deadlocks, which is zero: locks are taken in one order everywhere.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from billing import (
    card_payments,
    card_refunds,
    holds,
    jobs,
    ledger,
    packages,
    payouts,
    reviews,
    settlement,
    stripe_entries,
    stripe_events,
    top_ups,
    wallet,
)
from billing.errors import (
    AlreadyHeldError,
    BillingError,
    HoldNotHeldError,
    InsufficientFundsError,
    LeaseLostError,
    PackageOverError,
)
from billing.ledger import AccountKey
from billing.models import AccountKind, Cause, HoldId, OwnerId, TopUpStatus
from billing.money import split
from billing.packages import EXPIRY_GRACE
from billing.stripe_objects import Refund
from server.integrations.stripe_fake.disputes import FEE as DISPUTE_FEE
from tests.billing.booker import PRICE, TUTOR_BPS, Booker
from tests.billing.earner import Earner
from tests.billing.payments import Shop, open_shop
from tests.billing.seller import Seller
from tests.billing.world import (
    NOW,
    PLANNED_S,
    Sessions,
    at_once,
    balance,
    blocked,
    buy,
    earnings,
    end,
    facts,
    fund,
    new_hold,
    owner,
    usd,
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
    found = await at_once(deeds)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, BillingError):
            raise one
    return list(found)


@pytest.mark.timeout(3_600)
async def test_of_sixty_four_purchases_as_many_are_made_as_the_wallet_pays(
    sessions: Sessions, record_property: Callable[[str, object], None], *, full: bool
) -> None:
    dice = random.Random(64)
    rounds = 1_000 if full else 8
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


async def test_of_two_administrators_one_closes_a_review(sessions: Sessions) -> None:
    for _ in range(4):
        student, lesson = owner(), uuid4()
        await fund(sessions, student, 10_000)
        await buy(sessions, student, new_hold(lesson_id=lesson))
        await end(sessions, facts(lesson, {student: 0}))
        async with sessions.begin() as session:
            await settlement.reconsider(session, facts(lesson, {student: PLANNED_S}), now=NOW)
        async with sessions() as session:
            [review] = await reviews.find(session, is_open=True, limit=9, before=None)
        admins = [uuid4(), uuid4()]

        async def close(admin: UUID, review_id: UUID = review.id) -> UUID:
            async with sessions.begin() as session:
                await reviews.close(session, review_id, admin_id=admin, notes=f"Seen by {admin}.", now=NOW)
            return admin

        found = await answers([close(admin) for admin in admins])

        [closed_by] = [one for one in found if isinstance(one, UUID)]
        [refused] = [one.code for one in found if isinstance(one, BillingError)]
        assert refused == "review_closed"
        async with sessions() as session:
            closed = await reviews.find(session, is_open=False, limit=9, before=None)
            assert await reviews.find(session, is_open=True, limit=9, before=None) == []
        assert {one.id: one.notes for one in closed}[review.id] == f"Seen by {closed_by}."
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


# Cards of bookings ------------------------------------------------------------------------------------------------


@pytest.fixture
def booker(sessions: Sessions) -> Booker:
    return Booker(sessions)


async def authorized(booker: Booker) -> UUID:
    """A payment of somebody new, whose lesson is over."""
    booker.student, booker.tutor = owner(), owner()
    return await taught(booker)


async def taught(booker: Booker) -> UUID:
    """A payment whose lesson is over."""
    payment_id = await booker.by_card()
    await booker.accept(payment_id)
    await booker.ends(payment_id)
    return payment_id


async def complain(booker: Booker, *, is_lost: bool) -> None:
    """Have the bank ask for the newest payment, and perhaps get it."""
    made = await booker.fake.act(f"/payments/{booker.at_stripe()[-1]['id']}/dispute")
    if is_lost:
        await booker.fake.act(f"/disputes/{made.body['id']}/decide", won=False)


async def told(booker: Booker) -> list[Awaitable[object]]:
    """Bring what Stripe tells, and return the work of all of it."""
    await booker.receive()
    return [booker.do(claim) for claim in await booker.claim(stripe_events.JOB)]


async def run_down(booker: Booker) -> None:
    """Do all that is due, at once; what fails comes again."""
    for _ in range(9):
        await booker.dies()
        claims = await booker.claim()
        if not claims:
            return
        await answers([booker.do(claim) for claim in claims])
    raise AssertionError("it does not come to its end")


async def has(booker: Booker) -> tuple[int, int]:
    """What the newest student and tutor have."""
    async with booker.sessions() as session:
        student = await wallet.balances(session, booker.student)
        tutor = await wallet.balances(session, booker.tutor)
    return student.balance.amount, tutor.earnings_pending.amount


async def expense(sessions: Sessions) -> int:
    async with sessions() as session:
        spent = await session.scalar(
            text("select -sum(balance)::bigint from ledger_account where kind = 'platform_expense'")
        )
    return int(spent or 0)


@pytest.mark.timeout(900)
async def test_a_dispute_of_a_capture_that_runs_finds_it_or_comes_again(booker: Booker, full: bool) -> None:
    """Stripe has captured; its answer, its event and the bank's dispute come at one moment."""
    for attempt in range(150 if full else 2):
        payment_id = await authorized(booker)
        is_lost = attempt % 2 == 1
        [claim] = await booker.claim(card_payments.JOB)
        booker.breaks("/capture", "hang")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answers([booker.do(claim)]))
            await booker.fake.hanging.wait()
            await complain(booker, is_lost=is_lost)
            work = await told(booker)
            random.Random(attempt).shuffle(work)
            booker.fake.release()
            await answers(work)
        await run_down(booker)

        assert (await booker.way(payment_id))[-1] == ("REFUNDED" if is_lost else "CAPTURED")
        assert await has(booker) == (0, 0)
        if not is_lost:
            # It was frozen; now it is free.
            await booker.fake.act(f"/disputes/{booker.at_stripe('dispute')[-1]['id']}/decide", won=True)
            await booker.hear()
            assert await has(booker) == (0, split(PRICE, TUTOR_BPS)[0])
    await booker.checked()


@pytest.mark.timeout(900)
async def test_a_refund_by_hand_and_a_lost_dispute_take_the_price_once(booker: Booker, full: bool) -> None:
    """To the wallet, or on to the card, which Stripe refuses: the bank gave the student their money already."""
    rounds = 150 if full else 4
    for attempt in range(rounds):
        payment_id = await authorized(booker)
        await booker.run()
        await complain(booker, is_lost=True)
        deeds = [booker.refund(payment_id, to_card=attempt % 2 == 0), *await told(booker)]
        random.Random(attempt).shuffle(deeds)

        await answers(deeds)
        await run_down(booker)

        assert await booker.way(payment_id) == ["PENDING", "AUTHORIZED", "CAPTURED", "REFUNDED"]
        assert await has(booker) == (0, 0)
    assert await expense(booker.sessions) == rounds * (PRICE * 29 // 1000 + 30 + DISPUTE_FEE)
    await booker.checked()


@pytest.mark.timeout(900)
async def test_a_refund_fails_while_late_evidence_opens_a_review_of_its_hold(
    booker: Booker, full: bool
) -> None:
    """The tutor did not come, so the price went back to the card, whose bank does not take it; the tutor did come."""
    for attempt in range(100 if full else 2):
        booker.student, booker.tutor = owner(), owner()
        payment_id = await booker.by_card()
        await booker.accept(payment_id)
        await booker.ends(payment_id, tutor_s=0)
        await booker.run()
        await booker.hear()
        await booker.fake.act(f"/refunds/{booker.at_stripe('refund')[-1]['id']}/fail")
        deeds = [
            booker.hears_late(payment_id, student_s=PLANNED_S, tutor_s=PLANNED_S),
            *await told(booker),
        ]
        random.Random(attempt).shuffle(deeds)

        await answers(deeds)
        await run_down(booker)

        assert await has(booker) == (PRICE, 0)
        assert (await booker.refunds())[-1].status == "failed"
        async with booker.sessions() as session:
            found = await reviews.find(session, is_open=True, limit=attempt + 1, before=None)
        assert {one.hold_id: one.by_evidence for one in found}[await booker.hold(payment_id)] == usd(0)
    await booker.checked()


async def test_a_refund_that_fails_waits_where_others_wait_and_holds_nothing_they_want(
    booker: Booker,
) -> None:
    """A credit has the wallet and wants our account at Stripe: who had taken that one before would wait in a ring."""
    await fund(booker.sessions, booker.student, 1)
    payment_id = await taught(booker)
    await booker.run()
    await booker.refund(payment_id, to_card=True)
    [asked] = await booker.refunds()
    wallet_key = AccountKey(AccountKind.WALLET, booker.student, "USD")
    stripe = stripe_entries.at_stripe("USD")
    found = Refund(
        id="re_1",
        status="failed",
        amount=asked.amount,
        currency="usd",
        created=int(NOW.timestamp()),
        charge=None,
        payment_intent=None,
        balance_transaction="txn_out",
        failure_balance_transaction="txn_back",
        metadata={},
    )

    async def fail() -> None:
        async with booker.sessions.begin() as session:
            await card_refunds.apply(session, asked.id, found, now=booker.now)

    async with booker.sessions() as credit, asyncio.TaskGroup() as tasks:
        first = (await ledger.locked(credit, [wallet_key]))[wallet_key]
        tasks.create_task(fail())
        await blocked(booker.sessions)
        second = (await ledger.locked(credit, [stripe]))[stripe]
        await credit.rollback()

    assert first.id < second.id, "whoever wants both takes them in this order"
    assert [(one.status, one.failure) for one in await booker.refunds()] == [("failed", "failed")]
    assert (await has(booker))[0] == PRICE + 1
    assert await violations(booker.sessions) == []


# Work, withdrawals, packages --------------------------------------------------------------------------------------


class Nothing(msgspec.Struct):
    """What this work needs to know."""


@pytest.mark.timeout(900)
async def test_work_that_is_handed_back_while_it_ends_is_done_once(sessions: Sessions, full: bool) -> None:
    """A process that ends gives its leases back; some of its commits are on their way, and others take over."""
    ann, kind = owner(), "credit"
    rounds, crowd = (100, 12) if full else (2, 8)

    async def claim() -> list[jobs.Claim]:
        async with sessions.begin() as session:
            return await jobs.claim(session, [((kind,), NOW)], limit=crowd, lease=timedelta(minutes=1))

    async def do(one: jobs.Claim) -> None:
        async with sessions.begin() as session:
            # Under a key of this try: it is the lease alone that keeps it from happening twice.
            await wallet.adjust(
                session,
                ann,
                usd(100),
                actor="admin:1",
                reason="Work that is done.",
                key=str(one.lease) + one.key,
                now=NOW,
            )
            await jobs.finish(session, one)

    async def hand_back(claims: Sequence[jobs.Claim]) -> None:
        async with sessions.begin() as session:
            await jobs.hand_back(session, [one.lease for one in claims])

    async def take_over() -> None:
        for one in await claim():
            await do(one)

    for attempt in range(rounds):
        async with sessions.begin() as session:
            for number in range(crowd):
                await jobs.enqueue(session, kind, Nothing(), key=f"{attempt}:{number}", run_at=NOW)
        mine = await claim()
        deeds = [*map(do, mine), hand_back(mine), take_over(), take_over()]
        random.Random(attempt).shuffle(deeds)

        found = await answers(deeds)
        await take_over()

        assert {type(one) for one in found} <= {type(None), LeaseLostError}
        assert await balance(sessions, ann) == 100 * crowd * (attempt + 1)
    assert await violations(sessions) == []


@pytest.mark.timeout(900)
async def test_a_withdrawal_is_sent_or_rejected_by_whoever_comes_first(
    sessions: Sessions, full: bool
) -> None:
    """One administrator approves it, and its job sends it at once; another one rejects it."""
    earner = Earner(sessions)
    rounds = 100 if full else 4
    await earner.teach(rounds * 1_000)
    await earner.put_at_stripe(rounds * 1_000)
    await earner.set_stripe()
    rejected = 0
    for attempt in range(rounds):
        asked = await earner.ask(1_000)

        async def approve(asked: UUID = asked) -> None:
            await earner.approve(asked)
            await earner.run(payouts.JOB)

        deeds: list[Awaitable[object]] = [approve(), earner.reject(asked), approve()]
        random.Random(attempt).shuffle(deeds)

        await answers(deeds)
        await earner.end_leases()
        await earner.run(payouts.JOB)

        status = (await earner.withdrawal(asked)).status
        assert status in ("rejected", "processing")
        rejected += status == "rejected"
    sent = [one["amount"] for one in earner.fake.objects.values() if one["object"] == "transfer"]
    assert sum(sent) == 1_000 * (rounds - rejected)
    assert await earnings(sessions, earner.tutor) == 1_000 * rejected
    assert await violations(sessions) == []


@pytest.mark.timeout(900)
async def test_the_last_moment_of_a_package_is_a_lesson_or_its_end(sessions: Sessions, full: bool) -> None:
    """A checkout that was open at the end is confirmed, while jobs settle what nobody took."""
    instant = timedelta(microseconds=1)
    for attempt in range(100 if full else 4):
        seller = Seller(sessions)
        package_id = await seller.sell(lessons=2, price=1_000, validity_days=30)
        ends = NOW + timedelta(days=30)
        seller.now = ends + EXPIRY_GRACE - instant

        async def expire(package_id: UUID = package_id, ends: datetime = ends) -> None:
            async with sessions.begin() as session:
                await packages.due(session, package_id, now=ends + EXPIRY_GRACE)

        deeds: list[Awaitable[object]] = [
            seller.use(package_id, opened_at=ends - instant),
            expire(),
            expire(),
        ]
        random.Random(attempt).shuffle(deeds)

        found = await answers(deeds)

        is_taken = not any(isinstance(one, PackageOverError) for one in found)
        assert [hold.status for hold in await seller.slices(package_id)] == [
            "held" if is_taken else "released",
            "released",
        ]
        assert await seller.counts(package_id) == ("expired", 2, int(is_taken), 2 - is_taken)
        assert (await seller.told(package_id)).count("package.expired") == 1
    assert await violations(sessions) == []

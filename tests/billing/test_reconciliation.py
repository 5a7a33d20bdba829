"""Stripe's books against ours: every difference is found, nothing else is, and what may be repaired is."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import stripe_entries
from billing.ledger import AccountKey, Leg, Order, accounts, post
from billing.models import AccountKind, FindingOutcome, JournalKind, StripeFinding, TopUp
from billing.money import Money
from billing.stripe_objects import BalanceTransaction
from billing.top_ups import TAG
from tests.billing.payments import NOW, Shop, open_shop
from tests.billing.world import Sessions, balance, owner, violations


@pytest.fixture
async def shop(sessions: Sessions) -> AsyncIterator[Shop]:
    async with open_shop(sessions) as shop:
        yield shop


async def pay(shop: Shop, who: Any = None, amount: int = 2_000) -> TopUp:
    """Somebody pays; nobody tells us."""
    step = await shop.start(who or owner(), amount)
    await shop.fake.pay(step.top_up.checkout_id or "")
    return step.top_up


async def credit(shop: Shop, amount: int = 2_000) -> TopUp:
    paid = await pay(shop, amount=amount)
    return (await shop.refresh(paid.id)).top_up


def movement_of(shop: Shop, top_up: TopUp) -> BalanceTransaction:
    """What Stripe's books say of a top-up."""
    [charge] = [
        one
        for one in shop.fake.objects.values()
        if one["object"] == "charge" and one["metadata"].get(TAG) == str(top_up.id)
    ]
    return msgspec.convert(shop.fake.objects[charge["balance_transaction"]], BalanceTransaction)


def order(key: str) -> Order:
    return Order(
        kind=JournalKind.TOP_UP,
        scope="test",
        key=key,
        request=key,
        actor="system:test",
        reason=None,
        ref_type="test",
        ref_id=uuid4(),
        at=NOW,
    )


def wallet(who: Any) -> AccountKey:
    return AccountKey(AccountKind.WALLET, who, "USD")


async def end_by_hand(session: AsyncSession, top_up: TopUp) -> None:
    """Keep the repair from crediting a top-up whose journal the test writes itself."""
    await session.execute(
        text("update top_up set status = 'failed', ended_at = now() where id = :id"), {"id": top_up.id}
    )


# Faults: each plants one and returns what must be said of it, None where it is repaired. ---------------------------


async def lost_webhook(shop: Shop) -> FindingOutcome | None:
    await pay(shop)
    return None


async def bank_fee(shop: Shop) -> FindingOutcome | None:
    await shop.fake.act("/fee", amount=200)
    return None


async def foreign_payment(shop: Shop) -> FindingOutcome | None:
    """Somebody took a payment past us, in Stripe's dashboard."""
    paid = await pay(shop)
    for one in shop.fake.objects.values():
        if one["object"] in ("payment_intent", "charge", "checkout.session") and one["metadata"].get(
            TAG
        ) == str(paid.id):
            one["metadata"] = {}
    return FindingOutcome.MISSING_HERE


async def credited_twice(shop: Shop) -> FindingOutcome | None:
    done = await credit(shop)
    async with shop.sessions.begin() as session:
        stripe = stripe_entries.at_stripe("USD")
        ids = await accounts(session, (stripe, wallet(done.owner_id)))
        await post(
            session, order(uuid4().hex), [Leg(ids[stripe], ids[wallet(done.owner_id)], Money(done.amount))]
        )
    return FindingOutcome.MISSING_THERE


async def credited_for_nothing(shop: Shop) -> FindingOutcome | None:
    movement = movement_of(shop, await credit(shop))
    invented = msgspec.structs.replace(movement, id=f"txn_{uuid4().hex}")
    async with shop.sessions.begin() as session:
        await stripe_entries.post(session, order(invented.id), invented, other=wallet(owner()))
    return FindingOutcome.MISSING_THERE


async def credited_otherwise(shop: Shop, **change: Any) -> None:
    """A journal that says something else than the movement it stands for."""
    paid = await pay(shop)
    movement = movement_of(shop, paid)
    said = msgspec.structs.replace(movement, **change)
    async with shop.sessions.begin() as session:
        other = AccountKey(AccountKind.WALLET, paid.owner_id, said.currency.upper())
        await stripe_entries.post(session, order(movement.id), said, other=other)
        await end_by_hand(session, paid)


async def wrong_amount(shop: Shop) -> FindingOutcome | None:
    await credited_otherwise(shop, amount=2_001, net=2_001 - 88)
    return FindingOutcome.AMOUNT_DIFFERS


async def wrong_fee(shop: Shop) -> FindingOutcome | None:
    await credited_otherwise(shop, fee=0, net=2_000)
    return FindingOutcome.AMOUNT_DIFFERS


async def wrong_currency(shop: Shop) -> FindingOutcome | None:
    await credited_otherwise(shop, currency="eur")
    return FindingOutcome.AMOUNT_DIFFERS


async def wrong_owner(shop: Shop) -> FindingOutcome | None:
    paid = await pay(shop)
    movement = movement_of(shop, paid)
    async with shop.sessions.begin() as session:
        await stripe_entries.post(session, order(movement.id), movement, other=wallet(owner()))
        await end_by_hand(session, paid)
    return FindingOutcome.OWNER_DIFFERS


async def changed_entry(shop: Shop) -> FindingOutcome | None:
    """Somebody changed what was written down."""
    done = await credit(shop)
    async with shop.sessions.begin() as session:
        await session.execute(text("alter table stripe_entry disable trigger append_only"))
        await session.execute(
            text("update stripe_entry set amount = amount - 1 where journal_id = :journal"),
            {"journal": done.journal_id},
        )
        await session.execute(text("alter table stripe_entry enable trigger append_only"))
    return FindingOutcome.AMOUNT_DIFFERS


FAULTS: tuple[Callable[[Shop], Awaitable[FindingOutcome | None]], ...] = (
    lost_webhook,
    bank_fee,
    foreign_payment,
    credited_twice,
    credited_for_nothing,
    wrong_amount,
    wrong_fee,
    wrong_currency,
    wrong_owner,
    changed_entry,
)


async def test_clean_books_have_nothing_to_say(shop: Shop) -> None:
    for _ in range(5):
        await credit(shop)
    shop.passes(timedelta(hours=1))

    report = await shop.reconcile()

    assert (report.matched, report.timing, report.repaired, report.findings) == (5, 0, 0, ())


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_found_as_what_it_is(shop: Shop, fault: Any) -> None:
    await credit(shop)
    expected = await fault(shop)
    shop.passes(timedelta(hours=1))

    report = await shop.reconcile()

    assert [one.outcome for one in report.findings] == ([] if expected is None else [expected])
    assert report.repaired == (1 if expected is None else 0)
    async with shop.sessions() as session:
        kept = (await session.scalars(select(StripeFinding))).all()
    assert [row.outcome for row in kept] == [one.outcome for one in report.findings]


@pytest.mark.timeout(900)
async def test_every_seeded_fault_is_found_and_what_may_be_repaired_is(
    shop: Shop, record_property: Callable[[str, object], None], *, full: bool
) -> None:
    dice = random.Random(11)
    count = 1_000 if full else 60
    for _ in range(count // 2):
        await credit(shop)
    planted: Counter[FindingOutcome | None] = Counter()
    for number in range(count):
        planted[await dice.choice(FAULTS)(shop) if number >= len(FAULTS) else await FAULTS[number](shop)] += 1
    shop.passes(timedelta(hours=1))

    report = await shop.reconcile()
    again = await shop.reconcile()

    repairable = planted.pop(None)
    assert report.repaired == repairable
    assert Counter(one.outcome for one in report.findings) == planted
    assert repairable + planted.total() == count
    assert (again.repaired, again.findings) == (0, report.findings)
    assert set(await violations(shop.sessions)) <= {"stripe_is_told", "stripe_agrees"}
    record_property(
        "figures", f"{count:,} faults: {len(report.findings):,} told, {report.repaired:,} repaired, none else"
    )


async def test_what_is_repaired_is_in_the_wallet_and_closed(shop: Shop) -> None:
    ann = owner()
    await pay(shop, ann)
    await foreign_payment(shop)
    shop.passes(timedelta(hours=1))
    await shop.reconcile()
    assert await balance(shop.sessions, ann) == 2_000

    # Somebody refunds the foreign payment and books both by hand.
    async with shop.sessions.begin() as session:
        [finding] = (await session.scalars(select(StripeFinding))).all()
        movement = msgspec.convert(shop.fake.objects[finding.subject], BalanceTransaction)
        other = AccountKey(AccountKind.SUSPENSE, owner(), "USD")
        await stripe_entries.post(session, order(movement.id), movement, other=other)
    report = await shop.reconcile()

    assert report.findings == ()
    async with shop.sessions() as session:
        assert [row.solved_at for row in await session.scalars(select(StripeFinding))] == [shop.now]

    solved_at = shop.now
    shop.passes(timedelta(minutes=1))
    await shop.reconcile()

    async with shop.sessions() as session:
        assert [row.solved_at for row in await session.scalars(select(StripeFinding))] == [solved_at]


async def test_what_is_on_its_way_is_judged_next_time(shop: Shop) -> None:
    paid = await pay(shop)
    early = await shop.reconcile()
    await shop.refresh(paid.id)
    shop.passes(timedelta(minutes=11))

    late = await shop.reconcile()

    assert (early.timing, early.repaired, early.findings) == (1, 0, ())
    assert (late.matched, late.timing, late.findings) == (1, 0, ())


async def test_our_own_payout_to_our_bank_is_booked(shop: Shop) -> None:
    await credit(shop, 10_000)
    shop.passes(timedelta(days=2))
    await shop.fake.act("/fee", amount=100)
    answer = await shop.api.balance()
    available = answer.total("USD")
    await shop.fake.act("/payout", amount=available)
    shop.passes(timedelta(hours=1))

    report = await shop.reconcile()

    assert (report.repaired, report.findings) == (2, ())
    balances = await shop.balances()
    assert balances["bank"] == -available
    assert "stripe" not in balances


async def test_a_balance_that_nothing_explains_is_found(shop: Shop) -> None:
    await credit(shop)
    # Three days ago, before the window, something was written down that never was.
    async with shop.sessions.begin() as session:
        await session.execute(text("select set_config('ledger.posting', 'on', true)"))
        await session.execute(
            text("update ledger_account set balance = balance - 5 where kind in ('stripe')"),
        )
    shop.passes(timedelta(hours=1))

    [finding] = (await shop.reconcile()).findings

    assert (finding.subject, finding.outcome) == ("balance:USD", FindingOutcome.BALANCE_DIFFERS)
    assert finding.detail == {"there": 1_912, "here": 1_917, "known": 0}

"""Money into a wallet: once, whatever is lost, doubled, late or in the wrong order, and wherever somebody dies."""

import itertools
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from billing import top_ups, wallet
from billing.errors import (
    CardDeclinedError,
    IdempotencyMismatchError,
    InvalidKeyError,
    LeaseLostError,
    MethodNotFoundError,
    PaymentMismatchError,
    StripeAwayError,
    TopUpNotFoundError,
    TopUpRangeError,
    UnsettledPaymentError,
)
from billing.models import Outbox, StripeEntry, StripeEvent, TopUp, TopUpStatus, TopUpWay
from billing.stripe_objects import Checkout, Payment
from server.integrations.stripe_fake.fake import Fault
from server.integrations.stripe_fake.machine import Call
from tests.billing.payments import NOW, Shop, open_shop
from tests.billing.world import Sessions, at_once, balance, events, owner, violations

FEE = 2_000 * 29 // 1000 + 30


@pytest.fixture
async def shop(sessions: Sessions) -> AsyncIterator[Shop]:
    async with open_shop(sessions) as shop:
        yield shop


async def checked(shop: Shop, who: Any, *, paid: int) -> None:
    """What must hold in the end: the wallet, the books, Stripe's balance, and nothing left over."""
    assert await balance(shop.sessions, who) == paid
    assert await violations(shop.sessions) == []
    stripe = (await shop.api.balance()).total("USD")
    assert -(await shop.balances()).get("stripe", 0) == stripe
    assert (await shop.reconcile()).findings == ()


# The plain course ---------------------------------------------------------------------------------------------------


async def test_a_payment_becomes_credit_and_its_fee_our_expense(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    assert step.top_up.status == TopUpStatus.PENDING
    assert step.url is not None
    await shop.fake.pay(step.top_up.checkout_id or "")

    await shop.tell_all()

    assert await shop.status(step.top_up.id) == TopUpStatus.SUCCEEDED
    assert await shop.balances() == {"wallet": 2_000, "stripe": FEE - 2_000, "platform_expense": -FEE}
    assert await events(shop.sessions) == ["top_up.succeeded", "wallet.changed"]
    await checked(shop, ann, paid=2_000)


async def test_the_payers_return_is_enough(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann, way=TopUpWay.ELEMENTS)
    waiting = await shop.refresh(step.top_up.id)
    assert step.client_secret is not None
    assert (waiting.url, waiting.client_secret) == (step.url, step.client_secret)
    await shop.fake.pay(step.top_up.checkout_id or "")

    after = await shop.refresh(step.top_up.id)

    assert after.top_up.status == TopUpStatus.SUCCEEDED
    await shop.tell_all()
    await checked(shop, ann, paid=2_000)


async def test_a_saved_card_pays_at_once(shop: Shop) -> None:
    ann = owner()
    card = await shop.save_card(ann)

    step = await shop.start(ann, way=TopUpWay.SAVED, method_id=card)

    assert step.top_up.status == TopUpStatus.SUCCEEDED
    await shop.tell_all()
    await checked(shop, ann, paid=2_000)


async def test_a_saved_card_may_be_asked_for_its_owner(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann, way=TopUpWay.SAVED, method_id=await shop.save_card(ann, "3220"))
    [payment] = [one for one in shop.fake.objects.values() if one["object"] == "payment_intent"]
    assert step.top_up.status == TopUpStatus.PENDING
    assert step.client_secret == payment["client_secret"]
    assert step.url is not None

    await shop.fake.act(f"/payments/{step.top_up.payment_id}/authenticate")
    await shop.tell_all()

    assert await shop.status(step.top_up.id) == TopUpStatus.SUCCEEDED
    await checked(shop, ann, paid=2_000)


async def test_a_bank_that_does_not_believe_the_payer_fails_the_top_up(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann, way=TopUpWay.SAVED, method_id=await shop.save_card(ann, "3220"))
    await shop.fake.act(f"/payments/{step.top_up.payment_id}/authenticate", ok=False)
    await shop.tell_all()

    after = await shop.refresh(step.top_up.id)

    assert after.top_up.status == TopUpStatus.FAILED
    assert after.top_up.reason == "payment_intent_authentication_failure"
    assert (await shop.api.retrieve_payment(step.top_up.payment_id or "")).status == "canceled"
    await shop.tell_all()
    await checked(shop, ann, paid=0)


async def test_a_declined_card_fails_the_top_up_for_good(shop: Shop) -> None:
    ann = owner()
    card = await shop.save_card(ann, "9995")
    wanted = await shop.wish(ann, way=TopUpWay.SAVED, method_id=card)
    with pytest.raises(CardDeclinedError):
        await shop.advance(wanted.id)

    await shop.tell_all()

    failed = await shop.top_up(wanted.id)
    assert (failed.status, failed.reason) == (TopUpStatus.FAILED, "insufficient_funds")
    assert (await shop.api.retrieve_payment(failed.payment_id or "")).status == "canceled"
    assert await events(shop.sessions) == ["top_up.failed"]
    await checked(shop, ann, paid=0)


async def test_a_declined_card_says_why_where_stripes_payment_does_not(shop: Shop) -> None:
    ann = owner()
    wanted = await shop.wish(ann, way=TopUpWay.SAVED, method_id=await shop.save_card(ann, "9995"))

    def forgets(call: Call) -> Fault:
        if call.path.endswith("/cancel"):
            shop.fake.objects[call.path.split("/")[-2]]["last_payment_error"] = None
        return "none"

    shop.fake.fault = forgets
    with pytest.raises(CardDeclinedError):
        await shop.advance(wanted.id)

    failed = await shop.top_up(wanted.id)
    assert (failed.status, failed.reason) == (TopUpStatus.FAILED, "insufficient_funds")


async def test_a_question_of_the_bank_that_nobody_answers_ends(shop: Shop) -> None:
    """At Stripe too: who answers later pays nothing any more."""
    ann = owner()
    step = await shop.start(ann, way=TopUpWay.SAVED, method_id=await shop.save_card(ann, "3220"))
    shop.passes(timedelta(hours=2))

    await shop.run_jobs(top_ups.DUE_JOB)

    assert await shop.status(step.top_up.id) == TopUpStatus.FAILED
    assert (await shop.api.retrieve_payment(step.top_up.payment_id or "")).status == "canceled"
    await shop.tell_all()
    assert await shop.waiting() == []
    await checked(shop, ann, paid=0)


async def test_a_page_that_nobody_pays_on_ends(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    shop.passes(timedelta(hours=2))

    await shop.tell_all()
    await shop.run_jobs(top_ups.DUE_JOB)

    assert await shop.status(step.top_up.id) == TopUpStatus.EXPIRED
    assert await shop.waiting() == []
    await checked(shop, ann, paid=0)


async def test_a_bank_debit_is_waited_for(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    await shop.fake.pay(step.top_up.checkout_id or "", "0000")
    shop.passes(timedelta(hours=2))
    await shop.run_jobs(top_ups.DUE_JOB)
    assert await shop.status(step.top_up.id) == TopUpStatus.PENDING
    assert await shop.waiting() == [top_ups.DUE_JOB]

    [payment] = [one for one in shop.fake.objects.values() if one["object"] == "payment_intent"]
    await shop.fake.act(f"/payments/{payment['id']}/settle")
    shop.passes(timedelta(hours=7))
    await shop.run_jobs(top_ups.DUE_JOB)

    assert await shop.status(step.top_up.id) == TopUpStatus.SUCCEEDED
    assert await shop.waiting() == []


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [1, 499, 1_000_001])
async def test_too_little_and_too_much_is_refused_by_the_policy(shop: Shop, amount: int) -> None:
    with pytest.raises(TopUpRangeError) as refused:
        await shop.wish(owner(), amount)

    assert (refused.value.least.amount, refused.value.most.amount) == (500, 1_000_000)


async def test_the_policys_numbers_are_the_ones_that_count(shop: Shop) -> None:
    async with shop.sessions.begin() as session:
        await session.execute(
            text(
                "insert into policy (version, effective_from, course_platform_bps, course_referral_bps,"
                " attendance_percent, min_price, course_risk_days, booking_risk_days, top_up_least, top_up_most,"
                " actor, reason) values (2, :at, 3000, 7000, 20, 100, 0, 7, 100, 200, 'admin:1', 'Small sums only.')"
            ),
            {"at": NOW},
        )

    assert (await shop.wish(owner(), 100)).amount == 100
    with pytest.raises(TopUpRangeError):
        await shop.wish(owner(), 201)


async def test_a_key_is_one_top_up(shop: Shop) -> None:
    ann = owner()
    first = await shop.start(ann, key="k")

    again = await shop.start(ann, key="k")

    assert again.top_up.id == first.top_up.id
    assert again.url == first.url
    with pytest.raises(IdempotencyMismatchError):
        await shop.wish(ann, 2_001, key="k")
    assert (await shop.wish(owner(), key="k")).id != first.top_up.id


async def test_nobody_pays_with_the_card_of_another(shop: Shop) -> None:
    card = await shop.save_card(owner())
    thief = owner()
    await shop.save_card(thief)

    with pytest.raises(MethodNotFoundError):
        await shop.start(thief, way=TopUpWay.SAVED, method_id=card)
    with pytest.raises(MethodNotFoundError):
        await top_ups.remove_method(shop.sessions, shop.api, thief, card, now=NOW)


async def test_saved_cards_are_listed_and_forgotten(shop: Shop) -> None:
    ann, nobody = owner(), owner()
    cards = [await shop.save_card(ann) for _ in range(2)]

    await top_ups.remove_method(shop.sessions, shop.api, ann, cards[0], now=NOW)

    assert [one.id for one in await top_ups.methods(shop.sessions, shop.api, ann)] == [cards[1]]
    assert await top_ups.methods(shop.sessions, shop.api, nobody) == ()
    with pytest.raises(MethodNotFoundError):
        await top_ups.remove_method(shop.sessions, shop.api, ann, cards[0], now=NOW)


async def test_a_top_up_is_its_owners_alone(shop: Shop) -> None:
    ann = owner()
    made = [await shop.wish(ann) for _ in range(3)]
    async with shop.sessions() as session:
        with pytest.raises(TopUpNotFoundError):
            await top_ups.get(session, owner(), made[0].id)
        first = await top_ups.find(session, ann, limit=2)
        rest = await top_ups.find(session, ann, limit=2, before=first[-1].id)
        none = await top_ups.find(session, owner(), limit=2)

    assert {row.id for row in (*first, *rest)} == {row.id for row in made}
    assert list(none) == []


async def test_a_payment_that_differs_moves_nothing(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    await shop.fake.pay(step.top_up.checkout_id or "")
    [payment] = [one for one in shop.fake.objects.values() if one["object"] == "payment_intent"]
    of_another = {"top_up": str(step.top_up.id), "owner": str(owner())}
    for name, value, what in (
        ("amount_received", 1_999, "amount"),
        ("currency", "eur", "amount"),
        ("metadata", of_another, "owner"),
    ):
        before, payment[name] = payment[name], value
        with pytest.raises(PaymentMismatchError) as refused:
            await shop.refresh(step.top_up.id)
        assert (refused.value.payment_id, refused.value.what) == (payment["id"], what)
        payment[name] = before

    assert await balance(shop.sessions, ann) == 0


async def test_a_key_finds_its_own_top_up_among_others(shop: Shop) -> None:
    ann, longest = owner(), "k" * 255
    first = await shop.wish(ann, key=longest)
    await shop.wish(ann, key="other")

    again = await shop.wish(ann, key=longest)

    assert again.id == first.id
    for key in (longest + "k", "k\0"):
        with pytest.raises(InvalidKeyError):
            await shop.wish(ann, key=key)


async def test_what_belongs_to_another_top_up_is_named(shop: Shop) -> None:
    step = await shop.start(owner())
    await shop.fake.pay(step.top_up.checkout_id or "")
    checkout = await shop.api.retrieve_checkout(step.top_up.checkout_id or "")
    payment = await shop.api.retrieve_payment(checkout.payment_intent or "")
    other, another = replace(checkout, id="cs_other"), replace(payment, id="pi_other")

    async def apply(checkout: Checkout | None, payment: Payment | None) -> None:
        async with shop.sessions.begin() as session:
            await top_ups.apply(session, step.top_up.id, checkout=checkout, payment=payment, now=shop.now)

    async def refused(checkout: Checkout | None, payment: Payment | None) -> tuple[str, str]:
        with pytest.raises(PaymentMismatchError) as error:
            await apply(checkout, payment)
        return error.value.payment_id, error.value.what

    of_checkout = await refused(other, None)
    await apply(None, replace(payment, status="processing"))
    of_payment = await refused(None, another)
    await shop.refresh(step.top_up.id)
    afterwards = await refused(None, another)

    assert of_checkout == ("cs_other", "top-up, which has another session")
    assert of_payment == ("pi_other", "top-up, which has another payment")
    assert afterwards == ("pi_other", "top-up, which is over")


async def test_a_payment_without_its_movement_waits(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    await shop.fake.pay(step.top_up.checkout_id or "")
    [charge] = [one for one in shop.fake.objects.values() if one["object"] == "charge"]
    movement, charge["balance_transaction"] = charge["balance_transaction"], None
    with pytest.raises(UnsettledPaymentError):
        await shop.refresh(step.top_up.id)
    charge["balance_transaction"] = movement

    await shop.refresh(step.top_up.id)

    async with shop.sessions() as session:
        entry = (await session.scalars(select(StripeEntry))).one()
    assert (entry.id, entry.source, entry.category) == (movement, charge["id"], "charge")
    assert (entry.amount, entry.fee, entry.currency) == (2_000, FEE, "USD")
    await checked(shop, ann, paid=2_000)


# Where somebody dies (billing.md 3: C14 to C18) ----------------------------------------------------------------------


async def test_c14_who_dies_before_the_call_leaves_an_intent_that_ends(shop: Shop) -> None:
    ann = owner()
    wanted = await shop.wish(ann)
    shop.passes(timedelta(hours=2))

    await shop.run_jobs(top_ups.DUE_JOB)

    assert await shop.status(wanted.id) == TopUpStatus.EXPIRED
    assert "checkout.session" not in {one["object"] for one in shop.fake.objects.values()}
    await checked(shop, ann, paid=0)


async def test_c15_who_dies_before_storing_finds_the_same_session(shop: Shop) -> None:
    ann = owner()
    wanted = await shop.wish(ann)
    lose_once(shop, "lose_response", "/v1/checkout/sessions")
    with pytest.raises(StripeAwayError):
        await shop.advance(wanted.id)

    step = await shop.advance(wanted.id)

    assert [one["id"] for one in sessions_at_stripe(shop)] == [step.top_up.checkout_id]


async def test_c15_who_comes_back_after_a_day_looks_first(shop: Shop) -> None:
    ann = owner()
    wanted = await shop.wish(ann)
    lose_once(shop, "lose_response", "/v1/checkout/sessions")
    with pytest.raises(StripeAwayError):
        await shop.advance(wanted.id)
    [session] = sessions_at_stripe(shop)
    await shop.fake.pay(session["id"])
    shop.passes(timedelta(hours=25))

    step = await shop.advance(wanted.id)

    assert len(sessions_at_stripe(shop)) == 1
    assert step.top_up.status == TopUpStatus.SUCCEEDED
    await checked(shop, ann, paid=2_000)


async def test_c15_a_session_that_was_never_stored_is_found_by_its_deadline(shop: Shop) -> None:
    ann = owner()
    wanted = await shop.wish(ann)
    lose_once(shop, "lose_response", "/v1/checkout/sessions")
    with pytest.raises(StripeAwayError):
        await shop.advance(wanted.id)
    shop.passes(timedelta(hours=2))

    await shop.run_jobs(top_ups.DUE_JOB)

    ended = await shop.top_up(wanted.id)
    assert (ended.status, ended.checkout_id) == (TopUpStatus.EXPIRED, sessions_at_stripe(shop)[0]["id"])


async def test_c15_a_saved_card_is_charged_once_though_the_answer_was_lost(shop: Shop) -> None:
    ann = owner()
    wanted = await shop.wish(ann, way=TopUpWay.SAVED, method_id=await shop.save_card(ann))
    lose_once(shop, "lose_response", "/v1/payment_intents")
    with pytest.raises(StripeAwayError):
        await shop.advance(wanted.id)
    shop.passes(timedelta(hours=25))

    await shop.run_jobs(top_ups.DUE_JOB)

    assert await shop.status(wanted.id) == TopUpStatus.SUCCEEDED
    await checked(shop, ann, paid=2_000)


async def test_a_500_for_the_customer_does_not_keep_the_payer_either(shop: Shop) -> None:
    ann = owner()
    wanted = await shop.wish(ann)
    lose_once(shop, "break", "/v1/customers")
    with pytest.raises(StripeAwayError):
        await shop.advance(wanted.id)

    step = await shop.advance(wanted.id)

    assert step.top_up.status == TopUpStatus.PENDING


@pytest.mark.parametrize("way", [TopUpWay.HOSTED, TopUpWay.SAVED])
async def test_a_500_that_stripe_keeps_does_not_keep_the_payer(shop: Shop, way: TopUpWay) -> None:
    ann = owner()
    method = await shop.save_card(ann) if way is TopUpWay.SAVED else None
    wanted = await shop.wish(ann, way=way, method_id=method)
    path = "/v1/payment_intents" if way is TopUpWay.SAVED else "/v1/checkout/sessions"
    lose_once(shop, "break", path)
    with pytest.raises(StripeAwayError):
        await shop.advance(wanted.id)

    step = await shop.advance(wanted.id)

    # What the broken call made is found, and nothing is made again.
    assert step.top_up.status in (TopUpStatus.PENDING, TopUpStatus.SUCCEEDED)
    assert len([call for call in shop.fake.calls if call.path == path and call.method == "POST"]) == 1


async def test_c16_a_payment_that_nobody_told_us_of_is_found(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    await shop.fake.pay(step.top_up.checkout_id or "")
    shop.passes(timedelta(minutes=15))

    report = await shop.reconcile()

    assert (report.repaired, report.findings) == (1, ())
    await checked(shop, ann, paid=2_000)


async def test_c17_an_event_that_was_stored_is_handled_after_the_crash(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    await shop.fake.pay(step.top_up.checkout_id or "")
    for event in shop.fake.events:
        await shop.receive(event)
    # Whoever took the jobs dies with them; their claims run out.
    await shop.claim("stripe_event")
    async with shop.sessions.begin() as session:
        await session.execute(
            text("update job set leased_until = now() - interval '1 second' where lease is not null")
        )

    await shop.run_jobs()

    await checked(shop, ann, paid=2_000)
    async with shop.sessions() as session:
        assert await session.scalar(select(func.count()).where(StripeEvent.handled_at.is_(None))) == 0


async def test_c18_an_event_that_was_handled_and_not_answered_changes_nothing(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    await shop.fake.pay(step.top_up.checkout_id or "")
    await shop.tell_all()
    before = await shop.balances()

    shop.told = 0
    await shop.tell_all()

    assert await shop.balances() == before
    assert await shop.waiting() == [top_ups.DUE_JOB]


async def test_an_event_that_could_not_be_handled_is_tried_again_when_it_comes_again(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    await shop.fake.pay(step.top_up.checkout_id or "")
    [event] = [one for one in shop.fake.events if one["type"] == "checkout.session.completed"]
    await shop.receive(event)
    async with shop.sessions.begin() as session:
        await session.execute(
            text("update job set dead_at = now(), error = 'gave up', tries = 6 where kind = 'stripe_event'")
        )

    await shop.receive(event)
    await shop.run_jobs()

    await checked(shop, ann, paid=2_000)


async def test_what_stripe_does_not_have_is_written_down_and_not_asked_for_again(shop: Shop) -> None:
    ann = owner()
    await shop.start(ann)
    told = {
        "object": "event",
        "created": int(NOW.timestamp()),
        "livemode": False,
        "type": "charge.dispute.created",
        "data": {"object": {"id": "dp_none"}},
    }
    await shop.receive(*({**told, "id": f"evt_of_nothing_{number}"} for number in range(2)))

    await shop.run_jobs()

    assert await shop.waiting() == [top_ups.DUE_JOB]
    async with shop.sessions() as session:
        unhandled = await session.scalar(text("select count(*) from stripe_event where handled_at is null"))
        found = await session.execute(text("select subject, detail from stripe_finding"))
    assert unhandled == 0
    detail = {"type": "charge.dispute.created", "object": "dp_none", "account": None}
    assert dict(found.all()) == {f"event:evt_of_nothing_{number}": detail for number in range(2)}
    assert await violations(shop.sessions) == []


async def test_who_lost_the_claim_credits_nothing(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    await shop.fake.pay(step.top_up.checkout_id or "")
    [event] = [one for one in shop.fake.events if one["type"] == "checkout.session.completed"]
    await shop.receive(event)
    [claim] = await shop.claim("stripe_event")
    async with shop.sessions.begin() as session:
        await session.execute(text("update job set lease = gen_random_uuid() where lease is not null"))

    with pytest.raises(LeaseLostError):
        await shop.do(claim)

    assert await balance(shop.sessions, ann) == 0


# Orders -------------------------------------------------------------------------------------------------------------

STORY = (
    "payment_intent.created",
    "payment_intent.payment_failed",
    "charge.succeeded",
    "payment_intent.succeeded",
    "checkout.session.completed",
)


@pytest.mark.timeout(300)
async def test_every_order_of_five_webhooks_ends_in_the_same_state(shop: Shop, full: bool) -> None:
    """All 120 orders, with up to three copies at random places; five times as many draws in the long form."""
    dice = random.Random(5)
    ann = owner()
    orders = list(itertools.permutations(range(len(STORY))))
    assert len(orders) == 120
    for number, order in enumerate(orders * (5 if full else 1)):
        before = len(shop.fake.events)
        step = await shop.start(ann)
        # A first card is declined, the second pays.
        await shop.fake.pay(step.top_up.checkout_id or "", "0002")
        await shop.fake.pay(step.top_up.checkout_id or "")
        found = {one["type"]: one for one in shop.fake.events[before:] if one["type"] in STORY}
        told = [found[STORY[place]] for place in order]
        for _ in range(dice.randrange(4)):
            told.insert(dice.randrange(len(told) + 1), dice.choice(told))
        # They come one by one or some together, and are handled before or after the next.
        while told:
            come = dice.randrange(1, len(told) + 1)
            await shop.receive(*told[:come])
            await shop.run_jobs()
            told = told[come:]

        assert await shop.status(step.top_up.id) == TopUpStatus.SUCCEEDED, (number, order)
        assert await balance(shop.sessions, ann) == 2_000 * (number + 1), (number, order)
    assert await violations(shop.sessions) == []
    assert -(await shop.balances())["stripe"] == (await shop.api.balance()).total("USD")


async def test_the_end_of_a_page_is_the_same_in_every_order(shop: Shop) -> None:
    names = (
        "payment_intent.created",
        "payment_intent.payment_failed",
        "payment_intent.canceled",
        "checkout.session.expired",
    )
    ann = owner()
    for order in itertools.permutations(names):
        step = await shop.start(ann)
        before = len(shop.fake.events)
        await shop.fake.pay(step.top_up.checkout_id or "", "0002")
        shop.passes(timedelta(hours=1))
        await shop.fake.tick()
        found = {one["type"]: one for one in shop.fake.events[before:] if one["type"] in names}
        for name in order:
            await shop.receive(found[name])
            await shop.run_jobs()

        assert await shop.status(step.top_up.id) == TopUpStatus.EXPIRED, order


async def test_sixty_four_at_once_credit_once(shop: Shop) -> None:
    ann = owner()
    step = await shop.start(ann)
    await shop.fake.pay(step.top_up.checkout_id or "")

    steps = await at_once(shop.refresh(step.top_up.id) for _ in range(64))

    assert {isinstance(one, top_ups.Step) and one.top_up.status for one in steps} == {TopUpStatus.SUCCEEDED}
    async with shop.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(StripeEntry)) == 1
        assert await session.scalar(select(func.count()).where(Outbox.type == "top_up.succeeded")) == 1
    await checked(shop, ann, paid=2_000)


async def test_sixty_four_starts_under_one_key_are_one_payment(shop: Shop) -> None:
    ann = owner()
    card = await shop.save_card(ann)

    done = await at_once(shop.start(ann, way=TopUpWay.SAVED, method_id=card, key="once") for _ in range(64))

    # Stripe answers 409 to some of them, the same request is still being made; a busy database refuses others.
    assert {type(one) for one in done} <= {top_ups.Step, StripeAwayError, DBAPIError}
    last = await shop.start(ann, way=TopUpWay.SAVED, method_id=card, key="once")
    assert last.top_up.status == TopUpStatus.SUCCEEDED
    charges = [one for one in shop.fake.objects.values() if one["object"] == "charge"]
    assert len(charges) == 1
    await shop.tell_all()
    await checked(shop, ann, paid=2_000)


async def test_ann_pays_twice_and_has_both(shop: Shop) -> None:
    ann = owner()
    for amount in (1_000, 3_000):
        step = await shop.start(ann, amount)
        await shop.fake.pay(step.top_up.checkout_id or "")

    await shop.tell_all()

    async with shop.sessions() as session:
        entries = await wallet.entries(session, ann, limit=10)
    assert [entry.amount.amount for entry in entries] == [3_000, 1_000]
    await checked(shop, ann, paid=4_000)


# What the database keeps --------------------------------------------------------------------------------------------

GUARDED = [
    "update top_up set status = 'pending' where status = 'succeeded'",
    "update top_up set status = 'expired' where status = 'succeeded'",
    "update top_up set amount = amount + 1",
    "update top_up set owner_id = gen_random_uuid() where status = 'pending'",
    "update top_up set status = 'created', checkout_id = checkout_id where status = 'pending'",
    "update top_up set checkout_id = 'cs_other' where status = 'pending'",
    "delete from top_up",
    "truncate top_up",
    "update stripe_entry set amount = amount + 1",
    "delete from stripe_entry",
    "truncate stripe_entry",
    """insert into top_up (id, owner_id, key, amount, currency, way, status, payment_id, created_at, expires_at)
       values (gen_random_uuid(), gen_random_uuid(), 'k', 1, 'USD', 'hosted', 'pending', 'pi_9', now(), now())""",
]


async def test_what_a_top_up_is_does_not_change_and_its_end_is_its_end(shop: Shop) -> None:
    done, waiting = [await shop.start(owner()) for _ in range(2)]
    await shop.fake.pay(done.top_up.checkout_id or "")
    await shop.refresh(done.top_up.id)
    assert await shop.status(waiting.top_up.id) == TopUpStatus.PENDING

    for statement in GUARDED:
        async with shop.sessions() as session:
            with pytest.raises(DBAPIError, match="TOP_UP_GUARD|APPEND_ONLY"):  # noqa: RUF043
                await session.execute(text(statement))


async def test_two_top_ups_cannot_have_one_payment(shop: Shop) -> None:
    done, other = [await shop.start(owner()) for _ in range(2)]
    await shop.fake.pay(done.top_up.checkout_id or "")
    await shop.refresh(done.top_up.id)
    async with shop.sessions.begin() as session:
        credited = await session.get_one(TopUp, done.top_up.id)
        with pytest.raises(DBAPIError, match="uq_top_up_payment_id"):
            await session.execute(
                text("update top_up set payment_id = :payment where id = :id"),
                {"payment": credited.payment_id, "id": other.top_up.id},
            )


def lose_once(shop: Shop, fault: Any, path: str) -> None:
    """Have one change at this path go wrong."""
    left = [fault]

    def choose(call: Call) -> Any:
        return left.pop() if left and (call.method, call.path) == ("POST", path) else "none"

    shop.fake.fault = choose


def sessions_at_stripe(shop: Shop) -> list[Any]:
    return [one for one in shop.fake.objects.values() if one["object"] == "checkout.session"]

"""The Stripe of our own behaves as Stripe is documented to: its answers, its clock, its money, its webhooks."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
import stripe
import stripe.checkout
import stripe.v2.core
from sqlalchemy import text

from billing.errors import StripeAwayError, StripeRefusedError
from billing.money import Money
from billing.stripe_api import StripeApi
from server.integrations.stripe_fake.fake import Fate, Fault, StripeFake
from server.integrations.stripe_fake.forms import read_form
from server.integrations.stripe_fake.machine import Call
from server.integrations.stripe_fake.tape import Tape
from tests.billing.payments import KEY, NOW, RETURN_URL, SECRET, Sessions, api_of, collect

# It changes tables, not only what is in them.
OWN_DATABASE = True


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def passes(self, by: timedelta) -> None:
        self.now += by


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake(clock: Clock) -> StripeFake:
    return StripeFake(key=KEY, secret=SECRET, now=lambda: clock.now)


@pytest.fixture
def api(fake: StripeFake) -> StripeApi:
    return api_of(fake)


async def paid(
    fake: StripeFake, api: StripeApi, amount: int = 10_000, *, card: str = "0077", capture: bool = True
) -> Any:
    """A payment; 0077 is available at once."""
    customer = (await api.create_customer(uuid4(), key=uuid4().hex)).id
    return await api.create_payment(
        Money(amount),
        customer=customer,
        method=await fake.save_card(customer, card),
        tags={},
        return_url=RETURN_URL,
        capture=capture,
        key=uuid4().hex,
    )


async def tutor(fake: StripeFake, api: StripeApi) -> str:
    made = await api.create_account(uuid4(), country="US", email="t@example.org", key=uuid4().hex)
    await fake.act(f"/accounts/{made.id}/onboard")
    return made.id


def kinds(fake: StripeFake) -> list[str]:
    return [event["type"] for event in fake.events]


# Keys ---------------------------------------------------------------------------------------------------------------


async def test_a_key_gives_the_first_answer_again(fake: StripeFake, api: StripeApi) -> None:
    payment = await paid(fake, api)
    first = await api.create_refund(payment.id, 1_000, tags={}, key="k")

    again = await api.create_refund(payment.id, 1_000, tags={}, key="k")

    assert again == first
    assert kinds(fake).count("refund.created") == 1


async def test_a_500_is_given_again_though_its_effect_is_there(fake: StripeFake, api: StripeApi) -> None:
    payment = await paid(fake, api)
    faults: list[Fault] = ["break", "none", "none"]
    fake.fault = lambda _: faults.pop(0)
    for _ in range(2):
        with pytest.raises(StripeAwayError):
            await api.create_refund(payment.id, 1_000, tags={}, key="k")

    [refund] = [one for one in fake.objects.values() if one["object"] == "refund"]

    assert refund["amount"] == 1_000


async def test_a_key_with_other_parameters_is_refused(fake: StripeFake, api: StripeApi) -> None:
    payment = await paid(fake, api)
    await api.create_refund(payment.id, 1_000, tags={}, key="k")

    with pytest.raises(StripeRefusedError, match="idempotency_mismatch"):
        await api.create_refund(payment.id, 1_001, tags={}, key="k")


async def test_a_key_in_flight_is_409(fake: StripeFake, api: StripeApi) -> None:
    payment = await paid(fake, api)
    faults: list[Fault] = ["hang", "none"]
    fake.fault = lambda _: faults.pop(0)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(api.create_refund(payment.id, 1_000, tags={}, key="k"))
        await fake.hanging.wait()
        with pytest.raises(StripeAwayError, match="does not answer") as busy:
            await api.create_refund(payment.id, 1_000, tags={}, key="k")
        fake.release()

    assert busy.value.why == "the same request is still being answered"
    assert first.result().amount == 1_000


async def test_a_key_is_forgotten_after_a_day(fake: StripeFake, api: StripeApi, clock: Clock) -> None:
    payment = await paid(fake, api)
    first = await api.create_refund(payment.id, 1_000, tags={}, key="k")
    clock.passes(timedelta(hours=24))

    again = await api.create_refund(payment.id, 1_000, tags={}, key="k")

    assert again.id != first.id


async def test_what_was_not_begun_keeps_no_answer(fake: StripeFake, api: StripeApi) -> None:
    payment = await paid(fake, api)
    with pytest.raises(StripeRefusedError):
        await api.create_refund(payment.id, 0, tags={}, key="k")

    assert (await api.create_refund(payment.id, 1, tags={}, key="k")).amount == 1


async def test_a_key_belongs_to_one_account(fake: StripeFake, api: StripeApi) -> None:
    await paid(fake, api)
    one, two = [await tutor(fake, api) for _ in range(2)]
    for account in (one, two):
        await api.create_transfer(Money(1_000), account, group=account, tags={}, key=account)

    first, second = [await api.create_payout(account, Money(500), tags={}, key="k") for account in (one, two)]

    assert first.id != second.id


# Payments -----------------------------------------------------------------------------------------------------------


async def test_an_authorisation_is_captured_in_part_and_the_rest_let_go(
    fake: StripeFake, api: StripeApi
) -> None:
    payment = await paid(fake, api, 10_000, card="4242", capture=False)
    before = (await api.balance()).total("USD")

    captured = await api.capture_payment(payment.id, 4_000, key="k")

    assert (payment.status, payment.amount_capturable, before) == ("requires_capture", 10_000, 0)
    assert (captured.status, captured.amount_received, captured.amount_capturable) == ("succeeded", 4_000, 0)
    assert (await api.balance()).total("USD") == 4_000 - (116 + 30)


async def test_an_authorisation_is_lost_after_seven_days(
    fake: StripeFake, api: StripeApi, clock: Clock
) -> None:
    payment = await paid(fake, api, card="4242", capture=False)
    assert payment.latest_charge.payment_method_details.card.capture_before == int(
        (NOW + timedelta(days=7)).timestamp()
    )
    clock.passes(timedelta(days=7))

    assert (await api.retrieve_payment(payment.id)).status == "canceled"
    assert kinds(fake)[-1] == "payment_intent.canceled"
    with pytest.raises(StripeRefusedError):
        await api.capture_payment(payment.id, 1, key="k")


async def test_a_bank_may_ask_who_pays(fake: StripeFake, api: StripeApi) -> None:
    payment = await paid(fake, api, card="3220")
    assert (payment.status, payment.redirect_url is not None) == ("requires_action", True)

    await fake.act(f"/payments/{payment.id}/authenticate", ok=False)
    refused = await api.retrieve_payment(payment.id)

    assert refused.status == "requires_payment_method"
    assert refused.last_payment_error is not None
    assert refused.last_payment_error.code == "payment_intent_authentication_failure"


async def test_money_is_pending_for_two_days(fake: StripeFake, api: StripeApi, clock: Clock) -> None:
    await paid(fake, api, 10_000, card="4242")
    account = await tutor(fake, api)
    net = 10_000 - 320
    assert [funds.amount for funds in (await api.balance()).pending] == [net]
    with pytest.raises(StripeRefusedError, match="balance_insufficient"):
        await api.create_transfer(Money(net), account, group="g", tags={}, key="early")
    clock.passes(timedelta(days=2))

    await api.create_transfer(Money(net), account, group="g", tags={}, key="late")

    assert (await api.balance()).total("USD") == 0
    assert (await api.balance(account=account)).total("USD") == net


# Checkout -----------------------------------------------------------------------------------------------------------


async def checkout(api: StripeApi, clock: Clock, *, hosted: bool = True) -> Any:
    customer = await api.create_customer(uuid4(), key=uuid4().hex)
    return await api.create_checkout(
        Money(2_000),
        name="Credit",
        customer=customer.id,
        tags={"top_up": "1"},
        expires_at=clock.now + timedelta(hours=1),
        return_url=RETURN_URL,
        hosted=hosted,
        key=uuid4().hex,
    )


@pytest.mark.parametrize("hosted", [True, False])
async def test_a_session_is_paid_once(fake: StripeFake, api: StripeApi, clock: Clock, hosted: bool) -> None:
    session = await checkout(api, clock, hosted=hosted)
    assert (session.url is not None, session.client_secret is not None) == (hosted, not hosted)

    first, second = [await fake.pay(session.id, save=True) for _ in range(2)]

    done = await api.retrieve_checkout(session.id)
    payment = await api.retrieve_payment(done.payment_intent or "")
    assert (first.status, second.status) == (200, 400)
    assert (done.status, done.payment_status, payment.status) == ("complete", "paid", "succeeded")
    assert payment.metadata == {"top_up": "1"}
    assert len(await api.list_methods(session.customer)) == 1


async def test_a_declined_card_leaves_the_page_open_for_another(
    fake: StripeFake, api: StripeApi, clock: Clock
) -> None:
    session = await checkout(api, clock)

    declined, paid_ = await fake.pay(session.id, "0002"), await fake.pay(session.id)

    assert (declined.status, paid_.status) == (402, 200)
    assert len([one for one in fake.objects.values() if one["object"] == "payment_intent"]) == 1


async def test_a_session_ends_by_itself(fake: StripeFake, api: StripeApi, clock: Clock) -> None:
    session = await checkout(api, clock)
    clock.passes(timedelta(hours=1))

    assert (await api.retrieve_checkout(session.id)).status == "expired"
    assert (await fake.pay(session.id)).status == 400
    assert kinds(fake)[-1] == "checkout.session.expired"


async def test_a_bank_debit_arrives_days_after_the_session(
    fake: StripeFake, api: StripeApi, clock: Clock
) -> None:
    session = await checkout(api, clock)
    await fake.pay(session.id, "0000")
    processing = await api.retrieve_checkout(session.id)
    await fake.act(f"/payments/{processing.payment_intent}/settle")

    done = await api.retrieve_checkout(session.id)

    assert (processing.status, processing.payment_status, done.payment_status) == (
        "complete",
        "unpaid",
        "paid",
    )
    assert kinds(fake)[-1] == "checkout.session.async_payment_succeeded"


# Money on its way back, and out ---------------------------------------------------------------------------------------


async def test_no_more_is_refunded_than_was_paid(fake: StripeFake, api: StripeApi) -> None:
    payment = await paid(fake, api, 1_000)
    await api.create_refund(payment.id, 600, tags={}, key="a")
    with pytest.raises(StripeRefusedError, match="amount_too_large"):
        await api.create_refund(payment.id, 401, tags={}, key="b")
    await api.create_refund(payment.id, 400, tags={}, key="c")

    with pytest.raises(StripeRefusedError, match="charge_already_refunded"):
        await api.create_refund(payment.id, 1, tags={}, key="d")


async def test_a_refund_that_fails_brings_the_money_back(
    fake: StripeFake, api: StripeApi, clock: Clock
) -> None:
    payment = await paid(fake, api, 1_000, card="5126")
    refund = await api.create_refund(payment.id, 1_000, tags={}, key="k")
    before = (await api.balance()).total("USD")
    clock.passes(timedelta(days=1))
    failed = await api.retrieve_refund(refund.id)

    assert (refund.status, failed.status) == ("succeeded", "failed")
    assert failed.failure_balance_transaction is not None
    assert (await api.balance()).total("USD") == before + 1_000


async def test_a_payout_arrives_and_may_come_back(fake: StripeFake, api: StripeApi, clock: Clock) -> None:
    await paid(fake, api)
    account = await tutor(fake, api)
    await api.create_transfer(Money(1_000), account, group="g", tags={}, key="t")
    payout = await api.create_payout(account, Money(1_000), tags={}, key="p")
    clock.passes(timedelta(days=1))
    arrived = await api.retrieve_payout(payout.id, account=account)
    await fake.act(f"/payouts/{payout.id}/fail")
    failed = await api.retrieve_payout(payout.id, account=account)

    assert (payout.status, arrived.status, failed.status) == ("pending", "paid", "failed")
    assert failed.failure_code == "account_closed"
    assert (await api.balance(account=account)).total("USD") == 1_000
    assert [event["account"] for event in fake.events if event["type"].startswith("payout.")] == [account] * 3


async def test_a_transfer_comes_back_only_as_far_as_the_tutor_has_it(
    fake: StripeFake, api: StripeApi
) -> None:
    await paid(fake, api)
    account = await tutor(fake, api)
    transfer = await api.create_transfer(Money(1_000), account, group="g", tags={}, key="t")
    await api.create_payout(account, Money(700), tags={}, key="p")
    with pytest.raises(StripeRefusedError, match="balance_insufficient"):
        await api.reverse_transfer(transfer.id, 301, tags={}, key="a")

    await api.reverse_transfer(transfer.id, 300, tags={}, key="b")

    assert [one.amount for one in await api.list_reversals(transfer.id)] == [300]
    found = await api.find_transfer("g")
    assert found is not None
    assert (found.id, found.amount_reversed) == (transfer.id, 300)


@pytest.mark.parametrize(("won", "left"), [(True, -1_500), (False, -11_500)])
async def test_a_dispute_takes_the_money_and_may_bring_it_back(
    fake: StripeFake, api: StripeApi, won: bool, left: int
) -> None:
    payment = await paid(fake, api)
    before = (await api.balance()).total("USD")
    dispute = (await fake.act(f"/payments/{payment.id}/dispute", inquiry=True)).body["id"]
    assert (await api.balance()).total("USD") == before
    with pytest.raises(StripeRefusedError, match="amount_too_large"):
        await api.create_refund(payment.id, 10_001, tags={}, key="k")

    await fake.act(f"/disputes/{dispute}/escalate")
    await fake.act(f"/disputes/{dispute}/decide", won=won)

    found = await api.retrieve_dispute(dispute)
    assert found.status == ("won" if won else "lost")
    assert (await api.balance()).total("USD") == before + left
    assert sum(one.net for one in found.balance_transactions) == left
    told = [kind.removeprefix("charge.dispute.") for kind in kinds(fake) if "dispute" in kind]
    assert told == [
        *("created", "updated", "funds_withdrawn"),
        *(["funds_reinstated"] if won else []),
        "closed",
    ]


async def test_the_balance_is_the_sum_of_its_movements(
    fake: StripeFake, api: StripeApi, clock: Clock
) -> None:
    payment = await paid(fake, api)
    account = await tutor(fake, api)
    await api.create_refund(payment.id, 100, tags={}, key="r")
    await api.create_transfer(Money(50), account, group="g", tags={}, key="t")
    await fake.act("/fee", amount=7)
    for _ in range(120):
        await paid(fake, api, 1_000, card="4242")

    since, until = NOW - timedelta(days=1), NOW + timedelta(days=1)
    movements = await collect(api.list_balance_transactions(since, until))

    assert len({one.id for one in movements}) == 124
    assert sum(one.net for one in movements) == (await api.balance()).total("USD")


# Shapes -------------------------------------------------------------------------------------------------------------

SHAPES: dict[str, Any] = {
    "balance_transaction": stripe.BalanceTransaction,
    "charge": stripe.Charge,
    "checkout.session": stripe.checkout.Session,
    "customer": stripe.Customer,
    "dispute": stripe.Dispute,
    "payment_intent": stripe.PaymentIntent,
    "payment_method": stripe.PaymentMethod,
    "payout": stripe.Payout,
    "refund": stripe.Refund,
    "setup_intent": stripe.SetupIntent,
    "transfer": stripe.Transfer,
    "transfer_reversal": stripe.TransferReversal,
    "v2.core.account": stripe.v2.core.Account,
}


async def test_every_object_has_what_stripes_own_types_promise(
    fake: StripeFake, api: StripeApi, clock: Clock
) -> None:
    await checkout(api, clock)
    payment = await paid(fake, api)
    account = await tutor(fake, api)
    transfer = await api.create_transfer(Money(50), account, group="g", tags={}, key="t")
    await api.create_payout(account, Money(10), tags={}, key="p")
    await api.reverse_transfer(transfer.id, 5, tags={}, key="v")
    await api.create_refund(payment.id, 100, tags={}, key="r")
    await api.create_setup(payment.customer, tags={}, key="s")
    await fake.act(f"/payments/{payment.id}/dispute")

    objects = list(fake.objects.values())

    assert {one["object"] for one in objects} == SHAPES.keys()
    for one in objects:
        assert promised(SHAPES[one["object"]]) <= one.keys(), one["object"]
    for event in fake.events:
        assert promised(
            stripe.Event if event["object"] == "event" else stripe.v2.core.Event
        ) <= event.keys() | {"data", "pending_webhooks", "context", "reason", "changes"}


def promised(kind: Any) -> set[str]:
    """The fields that a class of the SDK does not call optional."""
    return {
        name
        for name, said in kind.__annotations__.items()
        if "Optional[" not in str(said) and "ClassVar" not in str(said) and not name.startswith("OBJECT")
    }


def test_forms_are_read_as_stripe_writes_them() -> None:
    assert read_form("a[b][0][c]=1&a[b][1][c]=2&d[]=x&d[]=y&e=&f[g]=%C3%A9") == {
        "a": {"b": [{"c": "1"}, {"c": "2"}]},
        "d": ["x", "y"],
        "e": "",
        "f": {"g": "é"},
    }


# Webhooks -----------------------------------------------------------------------------------------------------------


class Ear:
    """Where webhooks go: it answers what the test says."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.heard: list[tuple[str, bool]] = []

    async def __call__(self, body: bytes, headers: Any) -> int:
        signature = headers["Stripe-Signature"]
        try:
            stripe.WebhookSignature.verify_header(body.decode(), signature, SECRET, tolerance=300)
            is_ours = True
        except stripe.SignatureVerificationError:
            is_ours = False
        self.heard.append((msgspec.json.decode(body)["type"], is_ours))
        return self.answers.pop(0) if self.answers else 200


async def test_a_webhook_is_signed_and_sent_again_until_it_is_taken(clock: Clock) -> None:
    ear = Ear(500, 503)
    async with StripeFake(
        key=KEY, secret=SECRET, now=lambda: clock.now, send=ear, retry_after_s=(0.0, 0.0, 0.0)
    ) as fake:
        await api_of(fake).create_customer(uuid4(), key="k")
        await fake.settled()

    assert ear.heard == [("customer.created", True)] * 3


@pytest.mark.parametrize(
    ("fate", "heard"),
    [
        (Fate(copies=0), []),
        (Fate(copies=2), [("customer.created", True)] * 2),
        (Fate(is_signed=False), [("customer.created", False)]),
    ],
)
async def test_the_network_loses_doubles_and_forges(
    clock: Clock, fate: Fate, heard: list[tuple[str, bool]]
) -> None:
    ear = Ear()
    async with StripeFake(key=KEY, secret=SECRET, now=lambda: clock.now, send=ear, retry_after_s=()) as fake:
        fake.fate = lambda _: fate
        await api_of(fake).create_customer(uuid4(), key="k")
        await fake.settled()

    assert ear.heard == heard


class FullDisk:
    """A tape on which nothing can be written any more."""

    async def read(self) -> list[Call]:
        return []

    async def append(self, call: Call) -> list[Call]:
        if call.path.endswith("/delivered"):
            raise OSError
        return []


async def test_trouble_of_the_database_ends_no_server(clock: Clock) -> None:
    ear = Ear()
    async with StripeFake(
        key=KEY, secret=SECRET, now=lambda: clock.now, send=ear, tape=FullDisk(), retry_after_s=(0.0,)
    ) as fake:
        await api_of(fake).create_customer(uuid4(), key="k")
        await fake.settled()

    # That it was taken could not be written down, so it came again.
    assert ear.heard == [("customer.created", True)] * 2


async def test_a_late_webhook_is_overtaken(clock: Clock) -> None:
    ear = Ear()
    async with StripeFake(key=KEY, secret=SECRET, now=lambda: clock.now, send=ear, retry_after_s=()) as fake:
        fake.fate = lambda event: Fate(delay_s=0.05 if event["type"] == "payment_intent.created" else 0.0)
        await paid(fake, api_of(fake))
        await fake.settled()

    assert ear.heard[-1] == ("payment_intent.created", True)


# What is kept -------------------------------------------------------------------------------------------------------


async def test_whoever_reads_the_tape_has_the_same_account(sessions: Sessions, clock: Clock) -> None:
    one, two = [
        StripeFake(key=KEY, secret=SECRET, now=lambda: clock.now, tape=Tape(sessions)) for _ in range(2)
    ]
    payment = await paid(one, api_of(one))
    clock.passes(timedelta(days=3))
    await api_of(two).create_refund(payment.id, 100, tags={}, key="r")
    await api_of(one).balance()

    after = StripeFake(key=KEY, secret=SECRET, now=lambda: clock.now, tape=Tape(sessions))
    balance = await api_of(after).balance()

    assert one.objects == two.objects == after.objects
    assert one.events == two.events == after.events
    assert balance.total("USD") == 10_000 - 320 - 100


async def test_two_processes_answer_one_key_once(sessions: Sessions, clock: Clock) -> None:
    fakes = [StripeFake(key=KEY, secret=SECRET, now=lambda: clock.now, tape=Tape(sessions)) for _ in range(4)]
    payment = await paid(fakes[0], api_of(fakes[0]))

    refunds = await asyncio.gather(
        *(api_of(fake).create_refund(payment.id, 100, tags={}, key="r") for fake in fakes)
    )

    assert len({refund.id for refund in refunds}) == 1


async def test_a_call_that_could_not_be_kept_has_not_happened(sessions: Sessions, clock: Clock) -> None:
    one, two = [
        StripeFake(key=KEY, secret=SECRET, now=lambda: clock.now, tape=Tape(sessions)) for _ in range(2)
    ]
    payment = await paid(one, api_of(one))
    async with sessions.begin() as session:
        # Reading goes on, writing does not.
        await session.execute(
            text("alter table test_payment_call add constraint full_disk check (id < 0) not valid")
        )
    with pytest.raises(StripeAwayError):
        await api_of(two).create_refund(payment.id, 100, tags={}, key="r")
    async with sessions.begin() as session:
        await session.execute(text("alter table test_payment_call drop constraint full_disk"))

    await api_of(two).create_refund(payment.id, 100, tags={}, key="r")

    await api_of(one).balance()
    assert one.objects == two.objects
    assert kinds(two).count("refund.created") == 1


async def test_the_api_is_closed_to_whoever_has_no_key(fake: StripeFake) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(fake), base_url="http://stripe.test"
    ) as client:
        answer = await client.post("/v1/customers", headers={"Authorization": "Bearer sk_test_other"})

    assert answer.status_code == 401
    assert fake.objects == {}

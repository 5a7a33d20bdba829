"""Our one door to Stripe: every change has a key, nothing is too fast, nothing waits for who is away, errors are ours."""

import ast
import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from billing.errors import CardDeclinedError, StripeAwayError, StripeRefusedError
from billing.money import Money
from billing.stripe_api import Access, StripeApi
from billing.stripe_gate import FAILURES_MOST, REST_S, WAIT_MOST_S, Gate
from server.integrations.stripe_fake.fake import Fault, StripeFake
from server.integrations.stripe_fake.machine import Call
from tests.billing.payments import KEY, NOW, RETURN_URL, SECRET, api_of, collect

AHEAD = NOW + timedelta(hours=1)


@pytest.fixture
def now() -> list[Any]:
    return [NOW]


@pytest.fixture
def fake(now: list[Any]) -> StripeFake:
    return StripeFake(key=KEY, secret=SECRET, now=lambda: now[0])


@pytest.fixture
def api(fake: StripeFake) -> StripeApi:
    return api_of(fake)


class Walk:
    """One call of each method, by name: what it needs is made before."""

    def __init__(self, fake: StripeFake, api: StripeApi, now: list[Any]) -> None:
        self.fake = fake
        self.api = api
        self.now = now
        self.number = 0

    def key(self) -> str:
        self.number += 1
        return f"test:{self.number}"

    async def customer(self) -> str:
        return (await self.api.create_customer(uuid4(), key=self.key())).id

    async def checkout(self, **more: Any) -> Any:
        asked: dict[str, Any] = {
            "name": "Credit",
            "customer": await self.customer(),
            "tags": {"top_up": "1"},
            "expires_at": self.now[0] + timedelta(hours=1),
            "return_url": RETURN_URL,
            "hosted": True,
            "key": self.key(),
        }
        return await self.api.create_checkout(Money(2_000), **asked | more)

    async def payment(self, *, amount: int = 2_000, card: str = "4242", capture: bool = True) -> Any:
        customer = await self.customer()
        return await self.api.create_payment(
            Money(amount),
            customer=customer,
            method=await self.fake.save_card(customer, card),
            tags={},
            return_url=RETURN_URL,
            capture=capture,
            key=self.key(),
        )

    async def account(self, *, onboarded: bool = True) -> str:
        made = await self.api.create_account(uuid4(), country="US", email="tutor@example.org", key=self.key())
        if onboarded:
            await self.fake.act(f"/accounts/{made.id}/onboard")
        return made.id

    async def transfer(self) -> Any:
        await self.payment(amount=50_000, card="0077")
        account = await self.account()
        return await self.api.create_transfer(Money(1_000), account, group="wd:1", tags={}, key=self.key())

    async def payout(self) -> tuple[str, Any]:
        transfer = await self.transfer()
        payout = await self.api.create_payout(transfer.destination, Money(700), tags={}, key=self.key())
        return transfer.destination, payout

    async def refund(self) -> Any:
        return await self.api.create_refund((await self.payment()).id, 500, tags={}, key=self.key())

    async def dispute(self) -> str:
        payment = await self.payment()
        return str((await self.fake.act(f"/payments/{payment.id}/dispute")).body["id"])

    async def method(self) -> str:
        return await self.fake.save_card(await self.customer())

    def calls(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        api, between = self.api, (NOW - timedelta(days=1), NOW + timedelta(days=1))

        async def onboarding_link() -> str:
            account = await self.account()
            return await api.onboarding_link(
                account, refresh_url=RETURN_URL, return_url=RETURN_URL, key=self.key()
            )

        async def retrieve_payout() -> Any:
            account, payout = await self.payout()
            return await api.retrieve_payout(payout.id, account=account)

        async def find_checkout() -> Any:
            made = await self.checkout(tags={"top_up": str(WANTED)})
            return await api.find_checkout(made.customer, tag="top_up", value=WANTED, since=NOW)

        return {
            "create_customer": self.customer,
            "list_methods": lambda: _of(self.customer(), api.list_methods),
            "retrieve_method": lambda: _of(self.method(), api.retrieve_method),
            "detach_method": lambda: _of(self.method(), lambda id_: api.detach_method(id_, key=self.key())),
            "create_checkout": self.checkout,
            "retrieve_checkout": lambda: _id_of(self.checkout(), api.retrieve_checkout),
            "expire_checkout": lambda: _id_of(
                self.checkout(hosted=False), lambda id_: api.expire_checkout(id_, key=self.key())
            ),
            "find_checkout": find_checkout,
            "create_payment": self.payment,
            "retrieve_payment": lambda: _id_of(self.payment(), api.retrieve_payment),
            "capture_payment": lambda: _id_of(
                self.payment(capture=False), lambda id_: api.capture_payment(id_, 1_500, key=self.key())
            ),
            "cancel_payment": lambda: _id_of(
                self.payment(capture=False), lambda id_: api.cancel_payment(id_, key=self.key())
            ),
            "list_payments": lambda: collect(api.list_payments(*between)),
            "create_setup": lambda: _of(
                self.customer(), lambda id_: api.create_setup(id_, tags={}, key=self.key())
            ),
            "retrieve_setup": lambda: _id_of(
                _of(self.customer(), lambda id_: api.create_setup(id_, tags={}, key=self.key())),
                api.retrieve_setup,
            ),
            "create_refund": self.refund,
            "retrieve_refund": lambda: _id_of(self.refund(), api.retrieve_refund),
            "list_refunds": lambda: collect(api.list_refunds(*between)),
            "retrieve_dispute": lambda: _of(self.dispute(), api.retrieve_dispute),
            "create_account": self.account,
            "retrieve_account": lambda: _of(self.account(), api.retrieve_account),
            "onboarding_link": onboarding_link,
            "create_transfer": self.transfer,
            "find_transfer": lambda: _of(self.transfer(), lambda _: api.find_transfer("wd:1")),
            "reverse_transfer": lambda: _id_of(
                self.transfer(), lambda id_: api.reverse_transfer(id_, 400, tags={}, key=self.key())
            ),
            "list_reversals": lambda: _id_of(self.transfer(), api.list_reversals),
            "create_payout": self.payout,
            "retrieve_payout": retrieve_payout,
            "list_payouts": lambda: collect(api.list_payouts(*between)),
            "balance": api.balance,
            "list_balance_transactions": lambda: collect(api.list_balance_transactions(*between)),
        }


WANTED = uuid4()


async def _of(made: Awaitable[Any], call: Callable[[Any], Awaitable[Any]]) -> Any:
    return await call(await made)


async def _id_of(made: Awaitable[Any], call: Callable[[str], Awaitable[Any]]) -> Any:
    return await call((await made).id)


def public() -> list[str]:
    return [name for name, _ in inspect.getmembers(StripeApi, inspect.isfunction) if name[0] != "_"]


async def test_every_method_is_answered_and_every_change_has_our_key(
    fake: StripeFake, api: StripeApi, now: list[Any]
) -> None:
    calls = Walk(fake, api, now).calls()

    answers = {name: await call() for name, call in calls.items()}

    assert sorted(calls) == public()
    assert all(answer is not None for answer in answers.values())
    posts = [call for call in fake.calls if call.method == "POST"]
    assert all(call.key is not None and call.key.startswith("test:") for call in posts)


def test_nothing_is_changed_past_the_one_function_that_wants_a_key() -> None:
    changing = ("create_async", "capture_async", "cancel_async", "expire_async", "detach_async")
    body = ast.parse(inspect.getsource(StripeApi))

    for function in ast.walk(body):
        if isinstance(function, ast.AsyncFunctionDef):
            names = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
            if names & set(changing):
                assert names & {"_change", "_post"}, function.name
                assert "key" in {argument.arg for argument in function.args.kwonlyargs}, function.name


async def test_a_declined_card_is_told_with_stripes_code(
    fake: StripeFake, api: StripeApi, now: list[Any]
) -> None:
    with pytest.raises(CardDeclinedError) as declined:
        await Walk(fake, api, now).payment(card="9995")

    error = declined.value
    assert (error.stripe_code, error.decline_code) == ("card_declined", "insufficient_funds")
    assert error.payment_id is not None
    assert not error.retryable
    assert (await api.retrieve_payment(error.payment_id)).status == "requires_payment_method"


REFUSALS: dict[str, Callable[[Walk], Awaitable[Any]]] = {
    "resource_missing": lambda walk: walk.api.retrieve_payment("pi_none"),
    "amount_too_large": lambda walk: _id_of(
        walk.payment(capture=False), lambda id_: walk.api.capture_payment(id_, 2_001, key="k")
    ),
    "payment_intent_unexpected_state": lambda walk: _id_of(
        walk.payment(), lambda id_: walk.api.cancel_payment(id_, key="k")
    ),
    "balance_insufficient": lambda walk: _of(
        walk.account(), lambda id_: walk.api.create_transfer(Money(1), id_, group="g", tags={}, key="k")
    ),
    "insufficient_capabilities_for_transfer": lambda walk: _of(
        walk.account(onboarded=False),
        lambda id_: walk.api.create_transfer(Money(1), id_, group="g", tags={}, key="k"),
    ),
}


@pytest.mark.parametrize("code", REFUSALS)
async def test_what_stripe_will_not_do_is_refused_with_its_code(
    fake: StripeFake, api: StripeApi, now: list[Any], code: str
) -> None:
    with pytest.raises(StripeRefusedError) as refused:
        await REFUSALS[code](Walk(fake, api, now))

    assert refused.value.stripe_code == code
    assert not refused.value.retryable


@pytest.mark.parametrize(
    ("fault", "answered"),
    [("lose_request", False), ("lose_response", False), ("busy", False), ("break", True)],
)
async def test_what_may_succeed_later_says_so(
    fake: StripeFake, api: StripeApi, fault: Any, answered: bool
) -> None:
    fake.fault = lambda _: fault

    with pytest.raises(StripeAwayError) as away:
        await api.create_customer(uuid4(), key="k")

    assert away.value.retryable
    assert away.value.answered is answered


async def test_a_wrong_key_is_refused(fake: StripeFake) -> None:
    api = StripeApi(Access("sk_test_wrong", "http://stripe.test"), _http(fake))

    with pytest.raises(StripeRefusedError):
        await api.balance()


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(fake: StripeFake) -> None:
    api = api_of(fake, retries=2)
    faults: list[Fault] = ["lose_response", "none"]
    fake.fault = lambda _: faults.pop(0)

    made = await api.create_customer(uuid4(), key="once")

    assert [call.key for call in fake.calls] == ["once", "once"]
    assert [one["id"] for one in fake.objects.values() if one["object"] == "customer"] == [made.id]


async def test_an_object_of_the_other_mode_is_refused(fake: StripeFake) -> None:
    api = StripeApi(Access(KEY, "http://stripe.test"), _http(fake))
    api.is_live = True

    with pytest.raises(StripeRefusedError, match="livemode_mismatch"):
        await api.create_customer(uuid4(), key="k")


@pytest.mark.parametrize(
    ("key", "live"), [("sk_live_1", True), ("rk_live_1", True), ("sk_test_1", False), ("rk_test_1", False)]
)
def test_the_key_says_whether_real_money_moves(key: str, live: bool) -> None:
    assert Access(key).is_live is live


class Ticks:
    """A clock of the test."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


async def test_an_endpoint_is_asked_twenty_times_a_second_and_others_beside_it() -> None:
    ticks = Ticks()
    gate = Gate(per_second=20.0, monotonic=ticks)
    for _ in range(20):
        await gate.enter("refunds")

    full = gate._free_at["refunds"] - ticks.at
    await gate.enter("transfers")

    assert full == pytest.approx(0.0)
    assert gate._free_at["transfers"] < ticks.at


async def test_who_would_wait_too_long_is_told_at_once() -> None:
    ticks = Ticks()
    gate = Gate(per_second=20.0, monotonic=ticks)
    gate._free_at["refunds"] = ticks.at + WAIT_MOST_S

    with pytest.raises(StripeAwayError):
        await gate.enter("refunds")


async def test_who_is_away_is_left_alone_and_then_asked_once() -> None:
    ticks = Ticks()
    gate = Gate(monotonic=ticks)
    for _ in range(FAILURES_MOST):
        gate.failed()

    with pytest.raises(StripeAwayError):
        await gate.enter("refunds")
    ticks.at += REST_S
    await gate.enter("refunds")
    with pytest.raises(StripeAwayError):
        await gate.enter("refunds")
    gate.answered()
    await gate.enter("refunds")


async def test_five_failures_in_a_row_keep_us_from_asking(fake: StripeFake) -> None:
    api = api_of(fake, gate=Gate())
    arrived: list[Call] = []

    def lose(call: Call) -> Any:
        arrived.append(call)
        return "lose_request"

    fake.fault = lose
    for number in range(FAILURES_MOST + 3):
        with pytest.raises(StripeAwayError):
            await api.create_customer(uuid4(), key=f"k{number}")

    assert len(arrived) == FAILURES_MOST


async def test_an_old_500_that_is_given_again_is_no_failure_of_today(fake: StripeFake) -> None:
    api = api_of(fake, gate=Gate())
    faults: list[Fault] = ["break"]
    fake.fault = lambda _: faults.pop() if faults else "none"

    for _ in range(FAILURES_MOST + 3):
        with pytest.raises(StripeAwayError, match="does not answer"):
            await api.create_customer(WANTED, key="k")

    assert (await api.balance()).total("USD") == 0


def _http(fake: StripeFake) -> Any:
    return httpx.AsyncClient(transport=httpx.ASGITransport(fake))

"""The second witness beside our own Stripe: Stripe's mock checks every request against its published description.

It keeps nothing and knows no states. But a parameter that Stripe does not know, or a value of the wrong type, is refused,
and what it answers has the shapes of the description, which our structs must be able to read. Accounts v2 are not in it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from billing.errors import StripeRefusedError
from billing.money import Money
from billing.stripe_api import Access, StripeApi
from billing.stripe_gate import Gate
from tests.billing.payments import NOW, RETURN_URL, collect
from tests.billing.test_stripe_api import public

# Accounts v2: the mock knows the first API alone.
ELSEWHERE = {"create_account", "retrieve_account", "onboarding_link"}
SPAN = (NOW, NOW + timedelta(days=1))
KEY = "top_up:1:step"
TAGS = {"top_up": "1", "owner": "2"}


@pytest.fixture
async def api(stripe_mock: str) -> AsyncIterator[StripeApi]:
    async with httpx.AsyncClient() as http:
        yield StripeApi(Access("sk_test_123", stripe_mock), http, retries=0, gate=Gate(per_second=1e6))


def calls(api: StripeApi) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every request that our client makes, with everything it can send."""

    async def checkout() -> Any:
        for hosted in (True, False):
            await api.create_checkout(
                Money(2_000),
                name="Credit",
                customer="cus_1",
                tags=TAGS,
                expires_at=NOW,
                return_url=RETURN_URL,
                hosted=hosted,
                key=KEY,
            )
        return True

    async def payment() -> Any:
        for capture, off_session in ((True, False), (False, False), (False, True)):
            await api.create_payment(
                Money(2_000),
                customer="cus_1",
                method="pm_1",
                tags=TAGS,
                return_url=RETURN_URL,
                capture=capture,
                off_session=off_session,
                key=KEY,
            )
        # Confirmed in Stripe's form.
        await api.create_payment(
            Money(2_000), customer="cus_1", method=None, tags=TAGS, capture=False, key=KEY
        )
        return True

    async def setup() -> Any:
        for method in (None, "pm_1"):
            await api.create_setup("cus_1", method=method, tags=TAGS, key=KEY)
        return True

    async def found() -> Any:
        await api.find_checkout("cus_1", tag="top_up", value=uuid4(), since=NOW)
        return True

    return {
        "create_customer": lambda: api.create_customer(uuid4(), key=KEY),
        "list_methods": lambda: api.list_methods("cus_1"),
        "retrieve_method": lambda: api.retrieve_method("pm_1"),
        "detach_method": lambda: api.detach_method("pm_1", key=KEY),
        "create_checkout": checkout,
        "retrieve_checkout": lambda: api.retrieve_checkout("cs_1"),
        "expire_checkout": lambda: api.expire_checkout("cs_1", key=KEY),
        "find_checkout": found,
        "create_payment": payment,
        "retrieve_payment": lambda: api.retrieve_payment("pi_1"),
        "capture_payment": lambda: api.capture_payment("pi_1", 1_000, key=KEY),
        "cancel_payment": lambda: api.cancel_payment("pi_1", key=KEY),
        "list_payments": lambda: collect(api.list_payments(*SPAN)),
        "create_setup": setup,
        "retrieve_setup": lambda: api.retrieve_setup("seti_1"),
        "create_refund": lambda: api.create_refund("pi_1", 500, tags=TAGS, key=KEY),
        "retrieve_refund": lambda: api.retrieve_refund("re_1"),
        "list_refunds": lambda: collect(api.list_refunds(*SPAN, payment="pi_1")),
        "retrieve_dispute": lambda: api.retrieve_dispute("dp_1"),
        "create_transfer": lambda: api.create_transfer(
            Money(1_000), "acct_1", group="wd:1", tags=TAGS, key=KEY
        ),
        "find_transfer": lambda: api.find_transfer("wd:1"),
        "reverse_transfer": lambda: api.reverse_transfer("tr_1", 100, tags=TAGS, key=KEY),
        "list_reversals": lambda: api.list_reversals("tr_1"),
        "create_payout": lambda: api.create_payout("acct_1", Money(100), tags=TAGS, key=KEY),
        "retrieve_payout": lambda: api.retrieve_payout("po_1", account="acct_1"),
        "list_payouts": lambda: collect(api.list_payouts(*SPAN, account="acct_1")),
        "balance": lambda: api.balance(account="acct_1"),
        "list_balance_transactions": lambda: collect(api.list_balance_transactions(*SPAN)),
    }


def test_every_method_is_here_but_those_of_the_second_api() -> None:
    api = StripeApi(Access("sk_test_123"), httpx.AsyncClient())

    assert calls(api).keys() | ELSEWHERE == set(public())


async def test_stripe_takes_every_request_that_we_make_and_we_read_its_answer(api: StripeApi) -> None:
    for name, call in calls(api).items():
        assert await call() is not None, name


async def test_the_witness_refuses_what_stripe_does_not_know(stripe_mock: str) -> None:
    async with httpx.AsyncClient(base_url=stripe_mock) as http:
        answer = await http.post(
            "/v1/refunds",
            data={"payment_intent": "pi_1", "colour": "blue"},
            headers={"Authorization": "Bearer sk_test_123"},
        )

    assert answer.status_code == 400
    assert "additional properties are not allowed" in answer.text


async def test_a_wrong_key_is_refused(stripe_mock: str) -> None:
    async with httpx.AsyncClient() as http:
        api = StripeApi(Access("nonsense_key", stripe_mock), http, retries=0)
        with pytest.raises(StripeRefusedError):
            await api.balance()

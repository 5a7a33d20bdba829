"""The only importer of `stripe`: one method for each thing we ask, with Stripe's errors translated into ours.

Whatever changes something at Stripe takes a key, derived from the intent and the step (`top_up:<id>:checkout`), so
that a call that is repeated, here or after a crash, happens once. Stripe remembers a key for 24 hours at least; who
comes later must look whether it happened (`find_*`, `list_*`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import UUID

import httpx
import msgspec
import stripe

from billing.errors import CardDeclinedError, StripeAwayError, StripeError, StripeRefusedError
from billing.money import Money
from billing.stripe_gate import Gate
from billing.stripe_objects import (
    Account,
    Balance,
    BalanceTransaction,
    Checkout,
    Customer,
    Dispute,
    Method,
    Payment,
    Payout,
    Refund,
    Reversal,
    Setup,
    Transfer,
)

# The one our structs were written against; the webhook endpoint at Stripe is set to the same.
VERSION = "2026-10-28.endive"
# The SDK's own is 80 s, for which no person waits. Stripe's slowest calls (confirming a card) take some seconds.
TIMEOUT_S = 20.0
# With the same key, on lost connections, 409 and 5xx; the SDK's own number, said here so that it stays.
RETRIES = 2
# The most that Stripe gives at once.
PAGE = 100

API = "https://api.stripe.com"

T = TypeVar("T")
Call = Callable[..., Awaitable[Any]]
Tags = Mapping[str, str]


class Access(msgspec.Struct, frozen=True):
    """How we speak to Stripe."""

    key: str
    url: str = API

    @property
    def is_live(self) -> bool:
        """Return whether real money moves."""
        return "_live_" in self.key


class _Http(stripe.HTTPXClient):
    """The SDK's client over ours, which says where requests really go."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        super().__init__(timeout=TIMEOUT_S)
        self._client_async = client

    def _get_request_args_kwargs(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any
    ) -> Any:
        """Hand a body over as httpx wants it now; the SDK's own way warns (16.1.0 with httpx 0.28.1)."""
        args, kwargs = super()._get_request_args_kwargs(method, url, headers, post_data)
        kwargs["content"] = kwargs.pop("data") or None
        return args, kwargs


class StripeApi:
    """Stripe, as this product uses it."""

    def __init__(
        self, access: Access, http: httpx.AsyncClient, *, retries: int = RETRIES, gate: Gate | None = None
    ) -> None:
        self.is_live = access.is_live
        self._gate = gate or Gate()
        client = stripe.StripeClient(
            access.key,
            stripe_version=VERSION,
            base_addresses={"api": access.url},
            http_client=_Http(http),
            max_network_retries=retries,
        )
        self._v1 = client.v1
        self._v2 = client.v2

    # Customers and their saved cards ---------------------------------------------------------------------------

    async def create_customer(self, owner_id: UUID, *, key: str) -> Customer:
        """Make the place for somebody's saved cards; no name or address goes along."""
        params = {"metadata": {"owner": str(owner_id)}}
        return await self._change(Customer, "customers", self._v1.customers.create_async, params, key=key)

    async def list_methods(self, customer: str) -> list[Method]:
        """Return somebody's saved cards, the newest first."""
        call = self._v1.customers.payment_methods.list_async
        page = await self._read("payment_methods", call, customer, {"type": "card", "limit": PAGE})
        return [_convert(one, Method) for one in page.data]

    async def retrieve_method(self, method: str) -> Method:
        """Return one saved card, whoever's."""
        return await self._get(Method, "payment_methods", self._v1.payment_methods.retrieve_async, method)

    async def detach_method(self, method: str, *, key: str) -> Method:
        """Forget a saved card."""
        call = self._v1.payment_methods.detach_async
        return await self._change(Method, "payment_methods", call, method, {}, key=key)

    # Checkout --------------------------------------------------------------------------------------------------

    async def create_checkout(
        self,
        money: Money,
        *,
        name: str,
        customer: str,
        tags: Tags,
        expires_at: datetime,
        return_url: str,
        hosted: bool,
        key: str,
    ) -> Checkout:
        """Open a page, or a form for our own page, on which this amount can be paid once.

        Args:
            money: What is to be paid.
            name: What for, as the payer reads it.
            customer: Whose saved cards are offered.
            tags: Our ids; the payment carries them too.
            expires_at: From then on nothing can be paid; 30 minutes to 24 hours from now.
            return_url: Where the browser goes afterwards.
            hosted: Stripe's page; else elements for ours.
            key: Of this step of the intent.
        """
        ends: dict[str, Any] = (
            {"ui_mode": "hosted_page", "success_url": return_url, "cancel_url": return_url}
            if hosted
            else {"ui_mode": "elements", "return_url": return_url}
        )
        params = {
            "mode": "payment",
            "customer": customer,
            "payment_method_types": ["card"],
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": money.currency.lower(),
                        "unit_amount": money.amount,
                        "product_data": {"name": name},
                    },
                }
            ],
            # `automatic`, not `automatic_async`: a payment that succeeded has its balance transaction at once, so
            # that money and fee are booked in one journal.
            "payment_intent_data": {"capture_method": "automatic", "metadata": dict(tags)},
            "saved_payment_method_options": {"payment_method_save": "enabled"},
            "metadata": dict(tags),
            "expires_at": int(expires_at.timestamp()),
            **ends,
        }
        call = self._v1.checkout.sessions.create_async
        return await self._change(Checkout, "checkout", call, params, key=key)

    async def retrieve_checkout(self, checkout: str) -> Checkout:
        """Return a session as it is now."""
        return await self._get(Checkout, "checkout", self._v1.checkout.sessions.retrieve_async, checkout)

    async def expire_checkout(self, checkout: str, *, key: str) -> Checkout:
        """Close an open session, so that nobody can pay on it any more."""
        call = self._v1.checkout.sessions.expire_async
        return await self._change(Checkout, "checkout", call, checkout, {}, key=key)

    async def find_checkout(
        self, customer: str, *, tag: str, value: UUID, since: datetime
    ) -> Checkout | None:
        """Return the session that we made for this, if it was made."""
        params = {"customer": customer, "created": {"gte": int(since.timestamp())}}
        call = self._v1.checkout.sessions.list_async
        async for one in self._pages(Checkout, "checkout", call, params):
            if one.metadata.get(tag) == str(value):
                return one
        return None

    # Payments --------------------------------------------------------------------------------------------------

    async def create_payment(
        self,
        money: Money,
        *,
        customer: str,
        method: str | None,
        tags: Tags,
        return_url: str | None = None,
        capture: bool,
        off_session: bool = False,
        key: str,
    ) -> Payment:
        """Charge a saved card now, or let the payer confirm with one in Stripe's form.

        Args:
            money: What is to be paid.
            customer: Whose card it is.
            method: Which of theirs; without one the payment waits for the form.
            tags: Our ids.
            return_url: Where the browser goes if the bank wants to see the payer; without one the form asks in place.
            capture: Take the money; else only authorise it, and keep the card for a time when the payer is not there.
            off_session: The payer is not there to answer their bank.
            key: Of this step of the intent.

        Raises:
            CardDeclinedError: The bank said no; the payment exists and waits for another card.
        """
        params = {
            "amount": money.amount,
            "currency": money.currency.lower(),
            "customer": customer,
            "payment_method_types": ["card"],
            "capture_method": "automatic" if capture else "manual",
            "metadata": dict(tags),
            "expand": EXPANDED_PAYMENT,
            **({} if method is None else {"payment_method": method, "confirm": True}),
            **({} if return_url is None or off_session else {"return_url": return_url}),
            **({"off_session": True} if off_session else {}),
            **({} if capture or off_session else {"setup_future_usage": "off_session"}),
        }
        return await self._change(
            Payment, "payment_intents", self._v1.payment_intents.create_async, params, key=key
        )

    async def retrieve_payment(self, payment: str) -> Payment:
        """Return a payment as it is now, with its charge and balance transaction."""
        call = self._v1.payment_intents.retrieve_async
        return await self._get(Payment, "payment_intents", call, payment, {"expand": EXPANDED_PAYMENT})

    async def capture_payment(self, payment: str, amount: int, *, key: str) -> Payment:
        """Take what was authorised, or a part; the rest is let go."""
        params = {"amount_to_capture": amount, "expand": EXPANDED_PAYMENT}
        call = self._v1.payment_intents.capture_async
        return await self._change(Payment, "payment_intents", call, payment, params, key=key)

    async def cancel_payment(self, payment: str, *, key: str) -> Payment:
        """Let an authorisation go, or end a payment that did not succeed."""
        call = self._v1.payment_intents.cancel_async
        params = {"expand": EXPANDED_PAYMENT}
        return await self._change(Payment, "payment_intents", call, payment, params, key=key)

    def list_payments(self, since: datetime, until: datetime) -> AsyncIterator[Payment]:
        """Yield the payments made in this time, newest first."""
        params = {"created": _between(since, until), "expand": [f"data.{name}" for name in EXPANDED_PAYMENT]}
        return self._pages(Payment, "payment_intents", self._v1.payment_intents.list_async, params)

    async def create_setup(self, customer: str, *, method: str | None = None, tags: Tags, key: str) -> Setup:
        """Begin to make a card ready to be charged when its owner is not there: a saved one, or one they give now.

        Raises:
            CardDeclinedError: The bank said no.
        """
        params = {
            "customer": customer,
            "payment_method_types": ["card"],
            "usage": "off_session",
            "metadata": dict(tags),
            **({} if method is None else {"payment_method": method, "confirm": True}),
        }
        return await self._change(
            Setup, "setup_intents", self._v1.setup_intents.create_async, params, key=key
        )

    async def retrieve_setup(self, setup: str) -> Setup:
        """Return how far the saving of a card is."""
        return await self._get(Setup, "setup_intents", self._v1.setup_intents.retrieve_async, setup)

    # Refunds and disputes --------------------------------------------------------------------------------------

    async def create_refund(self, payment: str, amount: int, *, tags: Tags, key: str) -> Refund:
        """Send money back to the card it came from."""
        params = {"payment_intent": payment, "amount": amount, "metadata": dict(tags)}
        return await self._change(Refund, "refunds", self._v1.refunds.create_async, params, key=key)

    async def retrieve_refund(self, refund: str) -> Refund:
        """Return a refund as it is now."""
        return await self._get(Refund, "refunds", self._v1.refunds.retrieve_async, refund)

    def list_refunds(
        self, since: datetime, until: datetime, *, payment: str | None = None
    ) -> AsyncIterator[Refund]:
        """Yield the refunds made in this time, newest first, of one payment or all."""
        params = {
            "created": _between(since, until),
            **({} if payment is None else {"payment_intent": payment}),
        }
        return self._pages(Refund, "refunds", self._v1.refunds.list_async, params)

    async def retrieve_dispute(self, dispute: str) -> Dispute:
        """Return a dispute as it is now, with the movements it made."""
        return await self._get(Dispute, "disputes", self._v1.disputes.retrieve_async, dispute)

    # Tutors ----------------------------------------------------------------------------------------------------

    async def create_account(self, owner_id: UUID, *, country: str, email: str, key: str) -> Account:
        """Open an account for a tutor who will get money (Accounts v2, express dashboard, we carry fees and losses)."""
        params = {
            "contact_email": email,
            "dashboard": "express",
            "identity": {"country": country},
            "configuration": {
                "recipient": {"capabilities": {"stripe_balance": {"stripe_transfers": {"requested": True}}}}
            },
            "defaults": {
                "responsibilities": {"fees_collector": "application", "losses_collector": "application"}
            },
            "metadata": {"owner": str(owner_id)},
            "include": ACCOUNT_PARTS,
        }
        return await self._change(Account, "accounts", self._v2.core.accounts.create_async, params, key=key)

    async def retrieve_account(self, account: str) -> Account:
        """Return a tutor's account: what it may do, and what Stripe still wants to know."""
        call = self._v2.core.accounts.retrieve_async
        return await self._get(Account, "accounts", call, account, {"include": ACCOUNT_PARTS})

    async def onboarding_link(self, account: str, *, refresh_url: str, return_url: str, key: str) -> str:
        """Return a one-use address at which a tutor tells Stripe who they are."""
        onboarding = {
            "configurations": ["recipient"],
            "refresh_url": refresh_url,
            "return_url": return_url,
        }
        params = {
            "account": account,
            "use_case": {"type": "account_onboarding", "account_onboarding": onboarding},
        }
        call = self._v2.core.account_links.create_async
        return str((await self._post("account_links", call, params, key=key)).url)

    async def create_transfer(
        self, money: Money, account: str, *, group: str, tags: Tags, key: str
    ) -> Transfer:
        """Move money from our balance to a tutor's; `group` finds it again after the key is forgotten."""
        params = {
            "amount": money.amount,
            "currency": money.currency.lower(),
            "destination": account,
            "transfer_group": group,
            "metadata": dict(tags),
        }
        return await self._change(Transfer, "transfers", self._v1.transfers.create_async, params, key=key)

    async def find_transfer(self, group: str) -> Transfer | None:
        """Return the transfer of this group, if it was made."""
        async for one in self._pages(
            Transfer, "transfers", self._v1.transfers.list_async, {"transfer_group": group}
        ):
            return one
        return None

    async def reverse_transfer(self, transfer: str, amount: int, *, tags: Tags, key: str) -> Reversal:
        """Take a transfer back, or a part; refused where the tutor's balance has less."""
        params = {"amount": amount, "metadata": dict(tags)}
        call = self._v1.transfers.reversals.create_async
        return await self._change(Reversal, "reversals", call, transfer, params, key=key)

    async def list_reversals(self, transfer: str) -> list[Reversal]:
        """Return what came back of a transfer."""
        call = self._v1.transfers.reversals.list_async
        page = await self._read("reversals", call, transfer, {"limit": PAGE})
        return [_convert(one, Reversal) for one in page.data]

    async def create_payout(self, account: str, money: Money, *, tags: Tags, key: str) -> Payout:
        """Send money from a tutor's balance to their bank."""
        params = {"amount": money.amount, "currency": money.currency.lower(), "metadata": dict(tags)}
        call = self._v1.payouts.create_async
        return await self._change(Payout, "payouts", call, params, key=key, account=account)

    async def retrieve_payout(self, payout: str, *, account: str | None = None) -> Payout:
        """Return a payout as it is now: of a tutor's account, or our own to our bank."""
        call = self._v1.payouts.retrieve_async
        return await self._get(Payout, "payouts", call, payout, account=account)

    def list_payouts(
        self, since: datetime, until: datetime, *, account: str | None = None
    ) -> AsyncIterator[Payout]:
        """Yield the payouts made in this time, newest first: of a tutor's account, or our own."""
        params = {"created": _between(since, until)}
        return self._pages(Payout, "payouts", self._v1.payouts.list_async, params, account=account)

    # Balance ---------------------------------------------------------------------------------------------------

    async def balance(self, *, account: str | None = None) -> Balance:
        """Return what is at Stripe: ours, or a tutor's."""
        return await self._get(Balance, "balance", self._v1.balance.retrieve_async, {}, account=account)

    def list_balance_transactions(
        self, since: datetime, until: datetime
    ) -> AsyncIterator[BalanceTransaction]:
        """Yield the movements of our balance in this time, newest first."""
        # By `created`: the filter by `available_on` times out on large accounts.
        params = {"created": _between(since, until)}
        call = self._v1.balance_transactions.list_async
        return self._pages(BalanceTransaction, "balance_transactions", call, params)

    # How calls are made ----------------------------------------------------------------------------------------

    async def _change(
        self, kind: type[T], endpoint: str, call: Call, *args: Any, key: str, account: str | None = None
    ) -> T:
        return _convert(self._own(await self._post(endpoint, call, *args, key=key, account=account)), kind)

    async def _get(
        self, kind: type[T], endpoint: str, call: Call, *args: Any, account: str | None = None
    ) -> T:
        return _convert(self._own(await self._read(endpoint, call, *args, account=account)), kind)

    async def _post(self, endpoint: str, call: Call, *args: Any, key: str, account: str | None = None) -> Any:
        assert key, "whatever changes something at Stripe has a key"
        return await self._ask(endpoint, call, *args, options={"idempotency_key": key} | _on(account))

    async def _read(self, endpoint: str, call: Call, *args: Any, account: str | None = None) -> Any:
        return await self._ask(f"{endpoint}:read", call, *args, options=_on(account))

    async def _pages(
        self, kind: type[T], endpoint: str, call: Call, params: dict[str, Any], *, account: str | None = None
    ) -> AsyncIterator[T]:
        after: dict[str, Any] = {}
        while True:
            page = await self._read(endpoint, call, {"limit": PAGE} | params | after, account=account)
            for one in page.data:
                yield _convert(self._own(one), kind)
            if not page.has_more:
                return
            after = {"starting_after": page.data[-1].id}

    async def _ask(self, endpoint: str, call: Call, *args: Any, options: Mapping[str, Any]) -> Any:
        await self._gate.enter(endpoint)
        try:
            answer = await call(*args, options=options)
        except stripe.StripeError as error:
            translated = _translated(error)
            if _is_failure(error):
                self._gate.failed()
            else:
                self._gate.answered()
            raise translated from error
        self._gate.answered()
        return answer

    def _own(self, found: Any) -> Any:
        """Refuse what is of the other mode: a test payment must never make real credit.

        Raises:
            StripeRefusedError: Test where it should be live, or the other way round.
        """
        mode = getattr(found, "livemode", self.is_live)
        if mode is not self.is_live:
            raise StripeRefusedError("livemode_mismatch")
        return found


EXPANDED_PAYMENT = ["latest_charge.balance_transaction"]
ACCOUNT_PARTS = ["configuration.recipient", "requirements"]


def _on(account: str | None) -> dict[str, str]:
    return {} if account is None else {"stripe_account": account}


def _between(since: datetime, until: datetime) -> dict[str, int]:
    return {"gte": int(since.timestamp()), "lt": int(until.timestamp())}


def _convert(found: Any, kind: type[T]) -> T:
    return msgspec.convert(found.to_dict(), kind)


def _is_failure(error: stripe.StripeError) -> bool:
    """Return whether Stripe is not there: an old 500 that it gives again says nothing of today."""
    is_broken = (error.http_status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR
    is_old = (error.headers or {}).get("idempotent-replayed") == "true"
    return isinstance(error, stripe.APIConnectionError) or (is_broken and not is_old)


def _translated(error: stripe.StripeError) -> StripeError:
    match error:
        case stripe.CardError():
            facts = error.error
            payment = getattr(facts, "payment_intent", None)
            return CardDeclinedError(
                error.code or "card_declined",
                getattr(facts, "decline_code", None),
                None if payment is None else payment["id"],
            )
        case stripe.APIConnectionError():
            return StripeAwayError("no connection")
        case stripe.RateLimitError():
            return StripeAwayError("too many requests")
        case _ if error.http_status is not None and error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return StripeAwayError(f"status {error.http_status}", answered=True)
        case _ if error.http_status == HTTPStatus.CONFLICT:
            # Nothing is kept under the key yet: the SDK has no class of its own for this.
            return StripeAwayError("the same request is still being answered")
        case stripe.IdempotencyError():
            return StripeRefusedError("idempotency_mismatch")
        case _:
            return StripeRefusedError(error.code or type(error).__name__)

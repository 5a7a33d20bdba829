"""Stripe's objects, as far as we read them: the fields have Stripe's names and stand for what its API reference says.

Times are seconds since 1970, amounts minor units, currencies lower case. Words that Stripe may add to are plain texts.
"""

from datetime import UTC, datetime
from uuid import UUID

import msgspec

from billing.money import Money

Metadata = dict[str, str]


class _Object(msgspec.Struct, frozen=True, kw_only=True):
    """What every object has."""

    id: str


class BalanceTransaction(_Object, frozen=True, kw_only=True):
    """One movement of our balance at Stripe: `net` = `amount` - `fee`."""

    amount: int
    """Negative where money left."""
    fee: int
    net: int
    currency: str
    created: int
    available_on: int
    status: str
    """`pending` until `available_on`, then `available`."""
    type: str
    reporting_category: str
    source: str | None
    """Id of what moved the money: ch_, re_, tr_, trr_, po_, dp_."""

    @property
    def at(self) -> datetime:
        """Return when it happened."""
        return datetime.fromtimestamp(self.created, UTC)


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a card."""

    brand: str
    last4: str
    exp_month: int
    exp_year: int


class Method(_Object, frozen=True, kw_only=True):
    """A saved way to pay."""

    type: str
    customer: str | None
    card: Card | None = None


class CardDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What a charge says of its card."""

    capture_before: int | None = None
    """When an authorisation that was not captured is lost."""


class PaymentMethodDetails(msgspec.Struct, frozen=True, kw_only=True):
    """How a charge was paid."""

    type: str
    card: CardDetails | None = None


class Charge(_Object, frozen=True, kw_only=True):
    """One try to take a payment."""

    balance_transaction: BalanceTransaction | None
    """Empty while only authorised, and for a moment after an asynchronous capture."""
    payment_method_details: PaymentMethodDetails | None = None


class PaymentError(msgspec.Struct, frozen=True, kw_only=True):
    """Why the last try failed."""

    code: str | None = None
    decline_code: str | None = None


class NextAction(msgspec.Struct, frozen=True, kw_only=True):
    """What the payer must do, e.g. 3-D Secure."""

    type: str
    redirect_to_url: dict[str, str | None] | None = None


class Payment(_Object, frozen=True, kw_only=True):
    """A PaymentIntent. Requires_capture is authorised, succeeded is captured, canceled is voided."""

    status: str
    amount: int
    amount_received: int
    amount_capturable: int
    currency: str
    created: int
    customer: str | None
    client_secret: str | None
    payment_method: str | None
    """The card, pm_."""
    latest_charge: Charge | None
    last_payment_error: PaymentError | None
    next_action: NextAction | None
    metadata: Metadata

    @property
    def received(self) -> Money:
        """Return what was taken."""
        return Money(self.amount_received, self.currency.upper())

    @property
    def redirect_url(self) -> str | None:
        """Return where the payer must go to confirm."""
        if self.next_action is None or self.next_action.redirect_to_url is None:
            return None
        return self.next_action.redirect_to_url.get("url")

    def tagged(self, name: str) -> UUID | None:
        """Return the id that we put under this name, if it is one."""
        return tagged(self.metadata, name)


class Checkout(_Object, frozen=True, kw_only=True):
    """A Checkout Session: a page, or a form in our page, on which somebody pays."""

    status: str | None
    """`open`, `complete` or `expired`."""
    payment_status: str
    url: str | None
    client_secret: str | None
    payment_intent: str | None
    customer: str | None
    created: int
    expires_at: int
    metadata: Metadata


class Setup(_Object, frozen=True, kw_only=True):
    """A SetupIntent: a card is saved to be charged later."""

    status: str
    client_secret: str | None
    customer: str | None
    payment_method: str | None
    metadata: Metadata


class Customer(_Object, frozen=True, kw_only=True):
    """Whose saved cards these are; Stripe knows no more of them than our number."""

    metadata: Metadata


class Refund(_Object, frozen=True, kw_only=True):
    """Money on its way back to a card."""

    status: str | None
    """`pending`, `requires_action`, `succeeded`, `failed` or `canceled`."""
    amount: int
    currency: str
    created: int
    charge: str | None
    payment_intent: str | None
    balance_transaction: str | None
    failure_balance_transaction: str | None = None
    failure_reason: str | None = None
    metadata: Metadata


class Reversal(_Object, frozen=True, kw_only=True):
    """Part of a transfer that came back."""

    amount: int
    currency: str
    created: int
    transfer: str
    balance_transaction: str | None
    metadata: Metadata


class Transfer(_Object, frozen=True, kw_only=True):
    """Money from our balance to a tutor's."""

    amount: int
    amount_reversed: int
    reversed: bool
    currency: str
    created: int
    destination: str | None
    transfer_group: str | None
    balance_transaction: str | None
    metadata: Metadata


class Payout(_Object, frozen=True, kw_only=True):
    """Money from a balance to a bank account."""

    status: str
    """`pending`, `in_transit`, `paid`, `failed` or `canceled`; `paid` may still become `failed`."""
    amount: int
    currency: str
    created: int
    arrival_date: int
    failure_code: str | None
    balance_transaction: str | None
    metadata: Metadata


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """Something that Stripe wants to know of a tutor."""

    description: str


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that Stripe wants to know of a tutor."""

    entries: list[Requirement] | None = None


class CapabilityState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an account may do one thing."""

    status: str
    """`active`, `pending`, `restricted` or `unsupported`."""


class BalanceCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a tutor may do with a balance at Stripe."""

    payouts: CapabilityState | None = None
    stripe_transfers: CapabilityState | None = None


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a recipient may do."""

    stripe_balance: BalanceCapabilities | None = None


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an account that gets money."""

    capabilities: Capabilities | None = None


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an account."""

    recipient: Recipient | None = None


class Account(_Object, frozen=True, kw_only=True):
    """A tutor's account (Accounts v2)."""

    configuration: Configuration | None = None
    requirements: Requirements | None = None
    metadata: Metadata | None = None

    @property
    def may_receive(self) -> bool:
        """Return whether money can be transferred to it."""
        return self._balance is not None and _is_active(self._balance.stripe_transfers)

    @property
    def may_pay_out(self) -> bool:
        """Return whether its money can go to the tutor's bank."""
        return self._balance is not None and _is_active(self._balance.payouts)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Return what Stripe still wants to know, each once, in its own names."""
        entries = (self.requirements and self.requirements.entries) or ()
        return tuple(dict.fromkeys(entry.description for entry in entries))

    @property
    def is_complete(self) -> bool:
        """Return whether Stripe wants to know nothing more."""
        return not self.wanted

    @property
    def _balance(self) -> BalanceCapabilities | None:
        recipient = self.configuration and self.configuration.recipient
        return recipient.capabilities.stripe_balance if recipient and recipient.capabilities else None


class Dispute(_Object, frozen=True, kw_only=True):
    """A bank takes a payment back. Statuses that begin with `warning_` are inquiries and move nothing."""

    status: str
    amount: int
    currency: str
    created: int
    reason: str
    charge: str
    payment_intent: str | None
    balance_transactions: list[BalanceTransaction]
    """The withdrawal, and the reinstatement after it was won."""
    metadata: Metadata


class Funds(msgspec.Struct, frozen=True, kw_only=True):
    """Money of one currency."""

    amount: int
    currency: str


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What is at Stripe; pending becomes available within days."""

    available: list[Funds]
    pending: list[Funds]

    def total(self, currency: str) -> int:
        """Return everything of one currency."""
        return sum(
            funds.amount for funds in (*self.available, *self.pending) if funds.currency == currency.lower()
        )


def tagged(metadata: Metadata | None, name: str) -> UUID | None:
    """Return the id that we put under this name, if it is one."""
    try:
        return UUID((metadata or {}).get(name, ""))
    except ValueError:
        return None


def _is_active(state: CapabilityState | None) -> bool:
    return state is not None and state.status == "active"

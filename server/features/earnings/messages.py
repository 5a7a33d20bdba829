"""What earnings and withdrawals are asked and what they answer."""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from billing import earnings
from billing.earnings import By, Period, Share, Standing
from billing.lifetime import Progress
from billing.models import NOTE_MOST, REASON_LEAST, PayoutMethod, WithdrawalStatus
from billing.money import Money
from server.pages import PAGE, Cursor, Limit

Reason = Annotated[str, Meta(min_length=REASON_LEAST, max_length=500)]


class Amount(msgspec.Struct, frozen=True):
    """How much of the earnings; the terms say how little a withdrawal may be."""

    amount: Annotated[int, Meta(gt=0)]
    currency: Literal["USD"] = "USD"


class GetEarnings(msgspec.Struct, frozen=True):
    """Ask what the caller earned, by their own calendar."""

    by: By = "month"
    since: date | None = None
    """Without it: eleven months before this one, or thirty days ago."""
    until: date | None = None
    """The last day; without it: today."""


class EarningsView(msgspec.Struct, frozen=True, kw_only=True):
    """What a tutor earned, and where it is now."""

    standing: Standing
    since: date
    until: date
    timezone: str
    periods: tuple[Period, ...]
    shares: tuple[Share, ...]
    tier: Progress
    """Of the next booking or package, and how far the next tier is."""
    withdrawal_least: Money


class SpendEarnings(msgspec.Struct, frozen=True):
    """Make earnings the caller's own credit. They never become earnings again."""

    amount: Amount


class Spent(msgspec.Struct, frozen=True):
    """Earnings that became credit."""

    id: str
    amount: Money
    standing: Standing


class GetPayoutAccount(msgspec.Struct, frozen=True):
    """Ask where the caller's money goes."""


class SetBankAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Have the caller's money go to a bank account."""

    bank_name: Annotated[str, Meta(min_length=1, max_length=200)]
    account_number: Annotated[str, Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z -]{4,38}[0-9A-Za-z]\Z")]
    """Or an IBAN."""
    account_holder: Annotated[str, Meta(min_length=1, max_length=200)]
    branch: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    swift: Annotated[str, Meta(pattern=r"^[0-9A-Z]{8}([0-9A-Z]{3})?\Z")] | None = None


class OnboardPayouts(msgspec.Struct, frozen=True):
    """Have the caller's money go to them by Stripe, and ask where they tell Stripe who they are."""

    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z")]
    """ISO 3166-1 alpha-2, of the bank account."""


class GetStripeAccount(msgspec.Struct, frozen=True):
    """Ask how far the caller's account at Stripe is."""


class StripeAccountView(msgspec.Struct, frozen=True, kw_only=True):
    """What an account at Stripe may do, as Stripe says at this moment."""

    may_receive: bool
    """Withdrawals can be sent to it."""
    may_pay_out: bool
    """Its money can go on to the tutor's bank."""
    wanted: tuple[str, ...]
    """What Stripe still wants to know, in its own names, such as `external_account`."""
    test: bool
    """Test payments: no money moves."""


class Onboarding(msgspec.Struct, frozen=True):
    """Where to go; the address works once, for some minutes."""

    url: str
    test: bool
    """Test payments: no money moves."""


class PayoutAccountView(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tutor's money goes; of a bank account no more than the last four characters."""

    method: PayoutMethod
    last4: str | None
    created_at: datetime
    usable_from: datetime
    """Withdrawals can be asked for from then on."""


class RequestWithdrawal(msgspec.Struct, frozen=True):
    """Ask for earnings."""

    amount: Amount
    note: Annotated[str, Meta(min_length=1, max_length=NOTE_MOST)] | None = None


class ListWithdrawals(msgspec.Struct, frozen=True):
    """Ask for the caller's withdrawals, newest first."""

    status: WithdrawalStatus | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class ListAllWithdrawals(msgspec.Struct, frozen=True):
    """Ask for everybody's withdrawals, newest first."""

    status: WithdrawalStatus | None = None
    tutor_id: UUID | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class WithdrawalView(earnings.WithdrawalView, frozen=True, kw_only=True):
    """A withdrawal, and whether it is one."""

    test: bool
    """It goes by test payments: no money moves."""


class WithdrawalPage(msgspec.Struct, frozen=True):
    """A page of withdrawals."""

    items: tuple[WithdrawalView, ...]
    next_cursor: str | None


class ExportWithdrawals(msgspec.Struct, frozen=True):
    """Ask for the caller's withdrawals as a table."""

    status: WithdrawalStatus | None = None


class RevealBankAccount(msgspec.Struct, frozen=True):
    """Ask for the bank data of a withdrawal in clear, to make the bank transfer; who asks is written down."""

    withdrawal_id: UUID
    reason: Reason


class BankAccountView(msgspec.Struct, frozen=True, kw_only=True):
    """Bank data in clear."""

    bank_name: str
    account_number: str
    account_holder: str
    branch: str | None
    swift: str | None


class ApproveWithdrawal(msgspec.Struct, frozen=True):
    """Say yes to a withdrawal."""

    withdrawal_id: UUID


class RejectWithdrawal(msgspec.Struct, frozen=True):
    """Say no to a withdrawal; the money goes back to the tutor's earnings."""

    withdrawal_id: UUID
    answer: Reason
    """For the tutor."""


class HoldWithdrawal(msgspec.Struct, frozen=True):
    """Stop a withdrawal for a while."""

    withdrawal_id: UUID
    reason: Reason


class LetWithdrawalGo(msgspec.Struct, frozen=True):
    """Let a withdrawal that was held go on."""

    withdrawal_id: UUID


class CompleteWithdrawal(msgspec.Struct, frozen=True):
    """Write down that the bank transfer was made."""

    withdrawal_id: UUID
    reference: Annotated[str, Meta(min_length=1, max_length=200)]
    """Of the bank transfer."""


class RetryWithdrawal(msgspec.Struct, frozen=True):
    """Try to pay out by Stripe again what failed."""

    withdrawal_id: UUID

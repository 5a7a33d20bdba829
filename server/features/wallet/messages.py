"""What wallets and holds are asked and what they answer."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from billing.hold_views import HoldView
from billing.models import AccountKind, HoldStatus, JournalKind
from billing.money import Money
from server.pages import PAGE, Limit

# Ten million dollars: an administrator who types more has slipped.
ADJUSTMENT_MOST = 1_000_000_000


class GetWallet(msgspec.Struct, frozen=True):
    """Ask what the caller has."""


class Earnings(msgspec.Struct, frozen=True):
    """What was paid out to a tutor."""

    pending: Money
    """Still in the risk window."""
    available: Money


class WalletView(msgspec.Struct, frozen=True):
    """What somebody has."""

    balance: Money
    """Can be spent; what is held is not in it."""
    held: Money
    earnings: Earnings


class ListEntries(msgspec.Struct, frozen=True):
    """Ask what moved the caller's money, newest first."""

    limit: Limit = PAGE
    cursor: Annotated[str, Meta(pattern=r"^[0-9]{1,19}-[0-9]{1,19}\Z")] | None = None


class Reference(msgspec.Struct, frozen=True):
    """What a movement belongs to."""

    type: str
    id: UUID


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """What one movement did to one account of the caller."""

    id: str
    account: AccountKind
    kind: JournalKind
    amount: Money
    """Negative where money left the account."""
    reason: str
    reference: Reference
    at: datetime


class EntryPage(msgspec.Struct, frozen=True):
    """A page of entries."""

    items: tuple[EntryView, ...]
    next_cursor: str | None


class GetStatement(msgspec.Struct, frozen=True, kw_only=True):
    """Ask what happened to one account of the caller in a period of their own calendar."""

    account: Literal["wallet", "earnings", "earnings_pending"] = "wallet"
    since: date | None = None
    """Without it: the first day of the month of `until`."""
    until: date | None = None
    """The last day; without it: today."""
    kind: JournalKind | None = None
    """Only such movements; the balances around them stay the true ones."""


class GetStatementTable(GetStatement, frozen=True, kw_only=True):
    """Ask for a statement as a table for a spreadsheet."""


class GetStatementPaper(GetStatement, frozen=True, kw_only=True):
    """Ask for a statement as a numbered paper."""


class StatementLine(msgspec.Struct, frozen=True, kw_only=True):
    """One movement of a statement."""

    id: str
    """The same as in the list of entries."""
    kind: JournalKind
    title: str
    """The kind in the caller's language."""
    amount: Money
    """Negative where money left the account."""
    balance_before: Money
    balance_after: Money
    reason: str
    reference: Reference
    at: datetime


class StatementView(msgspec.Struct, frozen=True, kw_only=True):
    """A statement; the oldest movement first."""

    account: AccountKind
    since: date
    until: date
    timezone: str
    opening: Money
    closing: Money
    items: tuple[StatementLine, ...]


class GetEntryPaper(msgspec.Struct, frozen=True):
    """Ask for the paper of one movement."""

    entry_id: Annotated[str, Meta(pattern=r"^[0-9]{1,19}-[0-9]{1,19}\Z")]


class GetHoldPaper(msgspec.Struct, frozen=True):
    """Ask for the paper of a hold that was settled."""

    hold_id: UUID


class GetTopUpPaper(msgspec.Struct, frozen=True):
    """Ask for the paper of a top-up that succeeded."""

    top_up_id: UUID


class ReverseJournal(msgspec.Struct, frozen=True):
    """Undo a whole journal of the ledger."""

    journal_id: Annotated[str, Meta(pattern=r"^[0-9]{1,19}\Z")]
    """The first part of an entry's id."""
    reason: Annotated[str, Meta(min_length=10, max_length=500)]


class ReversedView(msgspec.Struct, frozen=True, kw_only=True):
    """A journal that was undone, and the one that undoes it."""

    id: str
    reverses: str
    kind: JournalKind
    """Of what was undone."""
    reference: Reference
    reason: str


class Amount(msgspec.Struct, frozen=True):
    """What an administrator gives, or takes where it is negative."""

    amount: Annotated[int, Meta(ge=-ADJUSTMENT_MOST, le=ADJUSTMENT_MOST)]
    currency: Literal["USD"] = "USD"


class AdjustWallet(msgspec.Struct, frozen=True):
    """Give somebody credit, or take it."""

    user_id: UUID
    money: Amount
    reason: Annotated[str, Meta(min_length=10, max_length=500)]


class Adjusted(msgspec.Struct, frozen=True):
    """An adjustment that was made, and the balance after it."""

    id: str
    user_id: UUID
    money: Money
    reason: str
    balance: Money


class GoodwillReason(StrEnum):
    """What we are sorry for (B-08f)."""

    TUTOR_NO_SHOW = "tutor_no_show"
    OUTAGE = "outage"
    PAYMENT_ERROR = "payment_error"
    MINOR_TROUBLE = "minor_trouble"
    MAJOR_TROUBLE = "major_trouble"


class Gift(msgspec.Struct, frozen=True):
    """What is given."""

    amount: Annotated[int, Meta(gt=0, le=ADJUSTMENT_MOST)]
    currency: Literal["USD"] = "USD"


class GiveGoodwill(msgspec.Struct, frozen=True):
    """Give somebody credit for trouble that they had."""

    user_id: UUID
    money: Gift
    why: GoodwillReason
    reason: Annotated[str, Meta(min_length=10, max_length=500)]
    """In words, for the books."""


class GoodwillView(msgspec.Struct, frozen=True):
    """Goodwill that was given, and the balance after it."""

    id: str
    user_id: UUID
    money: Money
    why: GoodwillReason
    balance: Money


class RefundHold(msgspec.Struct, frozen=True):
    """Give money of a hold back to its student, however late."""

    hold_id: UUID
    reason: Annotated[str, Meta(min_length=10, max_length=500)]
    """Shown to both parties."""
    money: Gift | None = None
    """Without it: all that is left. What is still held goes back whole."""


class HoldRefund(msgspec.Struct, frozen=True):
    """What was given back now, and what still can be."""

    hold_id: UUID
    refunded: Money
    from_tutor: Money
    owed: Money
    """Of the tutor's part, what they had been paid out."""
    rest: Money


class ReleaseHold(msgspec.Struct, frozen=True):
    """Pay a part of what is held for a session of a course out by its split; the rest goes back to the student."""

    hold_id: UUID
    percent: Annotated[int, Meta(ge=1, le=100)]
    """Of the amount."""
    reason: Annotated[str, Meta(min_length=10, max_length=500)]
    """Shown to both parties."""


class HoldRelease(msgspec.Struct, frozen=True):
    """What was paid out, and what went back."""

    hold_id: UUID
    tutor_share: Money
    platform_share: Money
    refunded: Money


class ListHolds(msgspec.Struct, frozen=True):
    """Ask for the holds in which the caller is student or tutor, newest first; an administrator sees all."""

    status: HoldStatus | None = None
    limit: Limit = PAGE
    cursor: UUID | None = None


class GetHold(msgspec.Struct, frozen=True):
    """Ask for one hold."""

    hold_id: UUID


class GetReceipt(msgspec.Struct, frozen=True):
    """Ask for the receipt of a settled hold."""

    hold_id: UUID


class GetReceiptKey(msgspec.Struct, frozen=True):
    """Ask with which key receipts are signed."""


class ReceiptKey(msgspec.Struct, frozen=True):
    """The public key of this server's receipts."""

    algorithm: Literal["ed25519"]
    key: str
    """Base64; `fourtalk receipt verify --key` takes it."""


class HoldDetail(HoldView, frozen=True, kw_only=True):
    """A hold that explains itself in the caller's language."""

    title: str | None
    """Of its lesson; None while that has no date."""
    explanation: str


class HoldPage(msgspec.Struct, frozen=True):
    """A page of holds."""

    items: tuple[HoldDetail, ...]
    next_cursor: UUID | None

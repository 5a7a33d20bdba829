"""What packages are asked and what they answer."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from billing.models import REASON_LEAST, SESSIONS_MOST, HoldStatus, PackageExpiry, PackageStatus
from billing.money import Money
from server.pages import PAGE, Cursor, Limit

Title = Annotated[str, Meta(min_length=3, max_length=255, pattern=r"\S")]
Description = Annotated[str, Meta(max_length=5000)]
Minutes = Annotated[int, Meta(ge=1, le=600)]
Sessions = Annotated[int, Meta(ge=1, le=SESSIONS_MOST)]
# Ten years: whoever means longer means for ever.
ValidityDays = Annotated[int, Meta(ge=1, le=3653)]
Position = Annotated[int, Meta(ge=0, le=10_000)]
Reason = Annotated[str, Meta(min_length=REASON_LEAST, max_length=500)]

# A price above a hundred thousand is a slip of the keyboard, as with courses.
PRICE_MOST = 10_000_000


class Price(msgspec.Struct, frozen=True):
    """A price in minor units; packages are sold in US dollars."""

    amount: Annotated[int, Meta(gt=0, le=PRICE_MOST)]
    currency: Literal["USD"] = "USD"


# --- Offers ---------------------------------------------------------------------------------------------------------


class CreateOption(msgspec.Struct, frozen=True, kw_only=True):
    """Offer lessons at a price."""

    title: Title
    description: Description = ""
    minutes: Minutes
    """Of each lesson."""
    sessions: Sessions
    price: Price
    """Of all of them."""
    validity_days: ValidityDays | None = None
    """From the purchase on; without it the package never ends."""
    is_rolling: bool = False
    """Each lesson that is taken gives the package its whole validity again."""
    is_popular: bool = False
    position: Position = 0


class UpdateOption(msgspec.Struct, frozen=True, kw_only=True):
    """Change an offer; what is absent stays, and what is sold stays as it was sold."""

    option_id: UUID
    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    minutes: Minutes | UnsetType = UNSET
    sessions: Sessions | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    validity_days: ValidityDays | UnsetType | None = UNSET
    is_rolling: bool | UnsetType = UNSET
    is_popular: bool | UnsetType = UNSET
    position: Position | UnsetType = UNSET


class HideOption(msgspec.Struct, frozen=True):
    """Take an offer off sale, or put it back."""

    option_id: UUID
    hidden: bool = True


class ListOptions(msgspec.Struct, frozen=True):
    """Ask what a tutor offers; the tutor also sees what is hidden."""

    tutor_id: UUID


class OptionView(msgspec.Struct, frozen=True, kw_only=True):
    """An offer."""

    id: UUID
    tutor_id: UUID
    title: str
    description: str
    minutes: int
    sessions: int
    price: Money
    per_session: Money
    """The price by the lesson, cut to the cent."""
    validity_days: int | None
    is_rolling: bool
    is_popular: bool
    position: int
    is_hidden: bool
    created_at: datetime
    updated_at: datetime


class OptionList(msgspec.Struct, frozen=True):
    """A tutor's offers in their own order; one page."""

    items: tuple[OptionView, ...]
    next_cursor: None = None


class BrowseOptions(msgspec.Struct, frozen=True):
    """Ask what tutors offer, the newest first."""

    limit: Limit = PAGE
    cursor: Cursor | None = None


class OfferedOption(OptionView, frozen=True, kw_only=True):
    """An offer, and whose."""

    tutor_name: str


class OptionPage(msgspec.Struct, frozen=True):
    """A page of offers."""

    items: tuple[OfferedOption, ...]
    next_cursor: str | None


# --- Packages -------------------------------------------------------------------------------------------------------


class QuotePackage(msgspec.Struct, frozen=True):
    """Ask what an offer costs the caller now; nothing is charged."""

    option_id: UUID


class PackageQuote(msgspec.Struct, frozen=True, kw_only=True):
    """What a purchase costs, and everything worth knowing before it."""

    option_id: UUID
    terms: str
    """Names everything shown here that counts; the purchase repeats it."""
    price: Money
    balance: Money
    shortfall: Money
    sessions: int
    minutes: int
    validity_days: int | None
    is_rolling: bool
    on_expiry: PackageExpiry
    refund_days: int
    refund_rule: str
    """In the caller's language."""


class BuyPackage(msgspec.Struct, frozen=True):
    """Buy what was quoted."""

    option_id: UUID
    terms: Annotated[str, Meta(min_length=1, max_length=64)]


class GetPackage(msgspec.Struct, frozen=True):
    """Ask for one package."""

    package_id: UUID


class ListPackages(msgspec.Struct, frozen=True):
    """Ask for the packages that the caller bought or sold, newest first; an administrator sees all."""

    status: PackageStatus | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class RefundPackage(msgspec.Struct, frozen=True):
    """Give back what is unused: the student within the days of the terms, an administrator always, with a reason."""

    package_id: UUID
    reason: Reason | None = None


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """One lesson of a package, and its money."""

    hold_id: UUID
    number: int
    lesson_id: UUID | None
    """The lesson that it was taken for."""
    amount: Money
    status: HoldStatus
    refunded: Money


class PackageSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A package in a list."""

    id: UUID
    option_id: UUID
    title: str
    minutes: int
    student_id: UUID
    student_name: str
    tutor_id: UUID
    tutor_name: str
    price: Money
    purchased: int
    used: int
    remaining: int
    status: PackageStatus
    is_rolling: bool
    bought_at: datetime
    expires_at: datetime | None
    ends_soon: bool
    """Lessons are left, and its student was reminded of its end."""
    ended_at: datetime | None


class PackageView(PackageSummary, frozen=True, kw_only=True):
    """A package with each of its lessons."""

    tutor_bps: int
    policy_version: int
    on_expiry: PackageExpiry
    refundable_until: datetime
    """The student may have the unused rest back before then."""
    slices: tuple[Slice, ...]


class PackagePage(msgspec.Struct, frozen=True):
    """A page of packages."""

    items: tuple[PackageSummary, ...]
    next_cursor: str | None

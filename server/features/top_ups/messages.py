"""What top-ups are asked and what they answer."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from billing.models import TopUpStatus, TopUpWay
from billing.money import Money
from server.pages import PAGE, Limit

MethodId = Annotated[str, Meta(pattern=r"^pm_\w{1,250}\Z")]


class Amount(msgspec.Struct, frozen=True):
    """What somebody wants to pay in; the terms say how little and how much that may be."""

    amount: Annotated[int, Meta(gt=0)]
    currency: Literal["USD"] = "USD"


class StartTopUp(msgspec.Struct, frozen=True):
    """Ask to pay money into the caller's wallet."""

    amount: Amount
    way: TopUpWay = TopUpWay.HOSTED
    method_id: MethodId | None = None
    """The saved card, where the way is `saved`."""


class GetTopUp(msgspec.Struct, frozen=True):
    """Ask how a top-up of the caller stands; the payer's browser does, when it comes back."""

    top_up_id: UUID


class ListTopUps(msgspec.Struct, frozen=True):
    """Ask for the caller's top-ups, newest first."""

    limit: Limit = PAGE
    cursor: UUID | None = None


class TopUpView(msgspec.Struct, frozen=True, kw_only=True):
    """One top-up."""

    id: UUID
    amount: Money
    way: TopUpWay
    status: TopUpStatus
    reason: str | None
    """Why it failed: the code of the payment provider."""
    url: str | None = None
    """Where the payer goes now."""
    client_secret: str | None = None
    """For the payment form in our own page."""
    created_at: datetime
    expires_at: datetime
    test: bool
    """No money moves."""


class TopUpPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of top-ups, and how much the next one may bring."""

    items: tuple[TopUpView, ...]
    next_cursor: UUID | None
    least: Money
    most: Money
    test: bool


class ListMethods(msgspec.Struct, frozen=True):
    """Ask for the caller's saved cards."""


class MethodView(msgspec.Struct, frozen=True, kw_only=True):
    """One saved card."""

    id: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


class MethodList(msgspec.Struct, frozen=True, kw_only=True):
    """All saved cards of somebody."""

    items: tuple[MethodView, ...]
    next_cursor: None = None
    test: bool


class RemoveMethod(msgspec.Struct, frozen=True):
    """Ask to forget a saved card."""

    method_id: MethodId


class MethodRemoved(msgspec.Struct, frozen=True):
    """It is forgotten."""

    id: str
    test: bool

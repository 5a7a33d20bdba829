"""What bookings are asked, what they answer, and what is told of them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from billing.models import REASON_LEAST, PaymentMethod, PaymentState
from billing.money import Money
from server.features.bookings.rules import BookingStatus, Minutes, Outcome, Party
from server.pages import PAGE, Cursor, Limit

Topic = Annotated[str, Meta(max_length=255)]
Notes = Annotated[str, Meta(max_length=2000)]
Reason = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"\S")]
CardId = Annotated[str, Meta(min_length=4, max_length=255, pattern=r"^pm_[A-Za-z0-9_]+\Z")]


class QuoteBooking(msgspec.Struct, frozen=True, kw_only=True):
    """Ask what a lesson with a tutor costs, and what pays for it."""

    tutor_id: UUID
    minutes: Minutes = 60


class UsablePackage(msgspec.Struct, frozen=True, kw_only=True):
    """A package of the caller that pays for a lesson with this tutor."""

    id: UUID
    title: str
    minutes: int
    """Of the lesson; those of the package."""
    remaining: int
    expires_at: datetime | None


class BookingQuote(msgspec.Struct, frozen=True, kw_only=True):
    """What a lesson costs now; nothing is charged."""

    tutor_id: UUID
    tutor_name: str
    minutes: int
    hourly_rate: Money
    price: Money
    balance: Money
    shortfall: Money
    packages: tuple[UsablePackage, ...]
    cancel_rule: str
    """In the caller's language."""


class ExpectedPrice(msgspec.Struct, frozen=True):
    """What the student was shown, in minor units."""

    amount: Annotated[int, Meta(gt=0, le=10_000_000)]
    currency: Literal["USD"] = "USD"


class RequestBooking(msgspec.Struct, frozen=True, kw_only=True):
    """Ask a tutor for a lesson; its money is put aside at once, so that the tutor's yes cannot fail for want of it."""

    tutor_id: UUID
    starts_at: datetime
    minutes: Minutes | None = None
    """Absent with a package, whose length it has."""
    price: ExpectedPrice | None = None
    """What was quoted; another price now refuses the request. Absent with a package, or to take what it costs."""
    pay_with: Literal["wallet", "card"] = "wallet"
    card: CardId | None = None
    """A saved card; without one `booking.pay` asks for it."""
    package_id: UUID | None = None
    """Takes one lesson of it instead of money."""
    topic: Topic = ""
    notes: Notes = ""


class GetBooking(msgspec.Struct, frozen=True):
    """Ask for one booking."""

    booking_id: UUID


class ListBookings(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for the caller's bookings, as student and as tutor, latest start first; everybody's for an administrator."""

    status: BookingStatus | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class AcceptBooking(msgspec.Struct, frozen=True, kw_only=True):
    """Agree to a request."""

    booking_id: UUID
    version: int | None = None
    """What the tutor saw; if the booking has another one now, nothing happens."""


class DeclineBooking(msgspec.Struct, frozen=True, kw_only=True):
    """Say no to a request."""

    booking_id: UUID
    reason: Reason | None = None


class CancelBooking(msgspec.Struct, frozen=True, kw_only=True):
    """Withdraw a request, or cancel a lesson that is agreed."""

    booking_id: UUID
    reason: Reason | None = None
    """An administrator needs ten characters."""
    version: int | None = None


class PayBooking(msgspec.Struct, frozen=True):
    """Bring the card of a booking to where its owner is asked; repeating it is harmless."""

    booking_id: UUID


class LiftStrike(msgspec.Struct, frozen=True, kw_only=True):
    """Take a strike back."""

    booking_id: UUID
    reason: Annotated[str, Meta(min_length=REASON_LEAST, max_length=500, pattern=r"\S")]


class BookingPaid(msgspec.Struct, frozen=True, kw_only=True):
    """How the payment of a booking stands."""

    method: PaymentMethod
    state: PaymentState
    captured: Money
    refunded: Money


class BookingView(msgspec.Struct, frozen=True, kw_only=True):
    """A booking as its parties and administrators see it."""

    id: UUID
    status: BookingStatus
    outcome: Outcome | None
    student_id: UUID
    student_name: str
    tutor_id: UUID
    tutor_name: str
    starts_at: datetime
    ends_at: datetime
    minutes: int
    topic: str
    notes: str
    student_timezone: str
    tutor_timezone: str
    """IANA, as they were when it was made."""
    price: Money
    """0 where a package pays."""
    hourly_rate: Money | None
    package_id: UUID | None
    payment: BookingPaid | None
    """None where a package pays."""
    hold_id: UUID | None
    """The money that is put aside, or was; None while a card has only been authorised."""
    room_id: UUID | None
    """Once it is agreed."""
    answer_by: datetime
    """A request nobody answers ends then."""
    free_cancel_until: datetime
    """Its student cancels without a charge until then."""
    late_cancel_percent: int
    """Of the price, back to its student who cancels later, by the terms it was made under."""
    cancelled_by: Party | None
    reason: str | None
    has_strike: bool
    """It counts against its tutor; its student is not told."""
    requested_at: datetime
    accepted_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    version: int
    """Rises with every change."""


class BookingPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of bookings."""

    items: tuple[BookingView, ...]
    next_cursor: str | None


class CardAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Where the card of a booking stands, and what its student does next."""

    booking_id: UUID
    state: PaymentState
    client_secret: str | None
    """For the provider's form, or the bank's question; None where nothing is asked."""
    is_setup: bool
    """The card is only made ready: the lesson is far, and it is authorised two days before."""
    failure: str | None
    """The provider's code of why the card was not taken; another one may be given."""
    test: bool
    """No money moves."""


class BookingUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """`booking.updated`, to both parties."""

    booking_id: UUID
    version: int
    status: BookingStatus


# --- Domain events (outbox) ---------------------------------------------------------------------


class BookingChanged(msgspec.Struct, frozen=True, kw_only=True, tag="booking.changed"):
    """Something happened to a booking."""

    booking_id: UUID
    version: int
    was: BookingStatus | None
    """None as it is made."""
    status: BookingStatus
    outcome: Outcome | None
    student_id: UUID
    tutor_id: UUID
    starts_at: datetime
    actor: str
    """`user:<id>`, `admin:<id>` or `system:…`."""
    party: Party
    reason: str | None = None
    is_late: bool = False
    """Its student cancelled too late to get the money back."""
    strikes: int = 0
    """Of the tutor in ninety days, if this made one more."""

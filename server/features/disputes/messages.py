"""What disputes are asked and what they answer."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from billing.disputes import DisputeView
from billing.models import REASON_LEAST, WORDS_LEAST, WORDS_MOST, DisputeStatus
from billing.reviews import ReviewView
from server.pages import PAGE, Cursor, Limit

# Those of `DisputeReason` that a student may give; a test holds the two together.
Reason = Literal[
    "tutor_no_show",
    "session_quality",
    "technical_issues",
    "incorrect_charge",
    "unauthorised_charge",
    "not_as_described",
    "other",
]


class OpenDispute(msgspec.Struct, frozen=True):
    """Say that a hold was not settled as it should."""

    hold_id: UUID
    reason: Reason
    text: Annotated[str, Meta(min_length=WORDS_LEAST, max_length=WORDS_MOST)]


class ListDisputes(msgspec.Struct, frozen=True):
    """Ask for the disputes in which the caller is student or tutor, newest first; an administrator sees all."""

    hold_id: UUID | None = None
    status: DisputeStatus | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class DisputePage(msgspec.Struct, frozen=True):
    """A page of disputes."""

    items: tuple[DisputeView, ...]
    next_cursor: str | None


class GetDispute(msgspec.Struct, frozen=True):
    """Ask for one dispute."""

    dispute_id: UUID


class Part(msgspec.Struct, frozen=True):
    """What goes back to the student."""

    amount: Annotated[int, Meta(gt=0)]
    currency: Literal["USD"] = "USD"


class ResolveDispute(msgspec.Struct, frozen=True):
    """Decide a dispute."""

    dispute_id: UUID
    decision: Literal["upheld", "refunded"]
    """The settlement stays, or money goes back."""
    notes: Annotated[str, Meta(min_length=REASON_LEAST, max_length=WORDS_MOST)]
    """Why; both parties read it."""
    money: Part | None = None
    """With `refunded`; without it: all that is left."""


class ListReviews(msgspec.Struct, frozen=True):
    """Ask for settlements that late evidence contradicts, newest first."""

    state: Literal["open", "closed"] = "open"
    limit: Limit = PAGE
    cursor: Cursor | None = None


class ReviewPage(msgspec.Struct, frozen=True):
    """A page of reviews."""

    items: tuple[ReviewView, ...]
    next_cursor: str | None


class CloseReview(msgspec.Struct, frozen=True):
    """Say that one was looked at, and what came of it."""

    review_id: UUID
    notes: Annotated[str, Meta(min_length=REASON_LEAST, max_length=WORDS_MOST)]
    """For other administrators: nobody else reads it."""

"""What tutors' profiles are asked, what they answer, and what is told of them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from billing.money import Money
from server.features.accounts.models import TutorStatus
from server.features.tutors.rules import Part
from server.pages import PAGE, Cursor, Limit

Subject = Annotated[str, Meta(min_length=2, max_length=100, pattern=r"\S.*\S")]
Language = Annotated[str, Meta(pattern=r"^[a-z]{2}\Z")]


class Rate(msgspec.Struct, frozen=True):
    """What an hour costs, in minor units: 5 to 500 dollars (B-05)."""

    amount: Annotated[int, Meta(ge=500, le=50_000)]
    currency: Literal["USD"] = "USD"


class GetProfile(msgspec.Struct, frozen=True):
    """Ask for the own profile."""


class GetTutorProfile(msgspec.Struct, frozen=True):
    """Ask for a tutor's profile, to decide about it."""

    user_id: UUID


class ListTutors(msgspec.Struct, frozen=True, kw_only=True):
    """Find tutors who may teach, those who joined last first."""

    subject: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    """As they write it, whatever the case."""
    language: Language | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class GetTutor(msgspec.Struct, frozen=True):
    """Ask for one tutor's public page."""

    tutor_id: UUID


class UpdateProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Change the own profile; what is absent stays. It need not be whole before it is submitted."""

    title: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=5000)] | UnsetType = UNSET
    subjects: Annotated[tuple[Subject, ...], Meta(max_length=20)] | UnsetType = UNSET
    languages: Annotated[tuple[Language, ...], Meta(max_length=10)] | UnsetType = UNSET
    """ISO 639-1."""
    hourly_rate: Rate | UnsetType | None = UNSET
    experience_years: Annotated[int, Meta(ge=0, le=80)] | UnsetType | None = UNSET
    is_adult: bool | UnsetType = UNSET
    """Says that one is 18 or older."""


class SubmitProfile(msgspec.Struct, frozen=True):
    """Ask to be approved, for the first time or again after a refusal."""


class ProfileView(msgspec.Struct, frozen=True, kw_only=True):
    """What a tutor says of themselves, and how their application stands."""

    user_id: UUID
    status: TutorStatus
    title: str
    description: str
    subjects: tuple[str, ...]
    languages: tuple[str, ...]
    hourly_rate: Money | None
    experience_years: int | None
    is_adult: bool
    missing: tuple[Part, ...]
    """What an application still needs."""
    submitted_at: datetime | None
    answer: str | None
    """Why the last application was refused; None while there is no refusal."""


class TutorView(msgspec.Struct, frozen=True, kw_only=True):
    """A tutor as everybody sees them: nothing of how to reach them."""

    id: UUID
    name: str
    title: str
    description: str
    subjects: tuple[str, ...]
    languages: tuple[str, ...]
    hourly_rate: Money | None
    """None: they give no single lessons."""
    experience_years: int | None
    timezone: str


class TutorPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of tutors."""

    items: tuple[TutorView, ...]
    next_cursor: str | None


# --- Domain events (outbox) ---------------------------------------------------------------------


class TutorApplied(msgspec.Struct, frozen=True, tag="tutor.applied"):
    """A tutor asks to be approved."""

    user_id: UUID

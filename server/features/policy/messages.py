"""What is asked about the terms, and what is answered."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from billing.back_test import Outcome, Report
from billing.models import REASON_LEAST
from billing.policy import Changes, Policy
from server.pages import PAGE, Limit

Reason = Annotated[str, Meta(min_length=REASON_LEAST, max_length=500)]
Instant = Annotated[datetime, Meta(tz=True)]

Unit = Literal[
    "basis_points", "percent", "minor_units", "days", "hours", "minutes", "tiers", "truth", "choice"
]


class GetPolicy(msgspec.Struct, frozen=True):
    """Ask for the terms in force."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One of the terms in words; its value is the field of the same name."""

    name: str
    unit: Unit
    en: str
    vi: str


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """The terms in force, for programs and for people."""

    terms: Policy
    effective_from: datetime
    next_change_at: datetime | None
    """When other terms come into force, as far as that is known."""
    rules: tuple[Rule, ...]


class ListPolicies(msgspec.Struct, frozen=True):
    """Ask for all versions of the terms, the newest first."""

    limit: Limit = PAGE
    cursor: Annotated[int, Meta(ge=1)] | None = None
    """The version after which the page begins."""


class PolicyVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version, with who made it and why."""

    terms: Policy
    effective_from: datetime
    made_by: UUID | None
    """None: it came with the product."""
    made_by_name: str | None
    reason: str
    is_replaced: bool
    """Newer terms came before it could begin: it is never in force."""


class PolicyPage(msgspec.Struct, frozen=True):
    """A page of versions."""

    items: tuple[PolicyVersion, ...]
    next_cursor: int | None


class SetPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Make new terms. They bind what is bought from their moment on, and nothing before."""

    base_version: Annotated[int, Meta(ge=1)]
    """The newest version, which the changes are made to."""
    changes: Changes
    reason: Reason
    effective_from: Instant | None = None
    """Without it: now; at most a year ahead."""
    replace_planned: bool = False
    """Begin even before terms that are planned; those never come into force then."""


class PreviewPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Ask what a period would have been under other terms; without times, the last thirty days."""

    changes: Changes
    since: Instant | None = None
    until: Instant | None = None


class PolicyPreview(msgspec.Struct, frozen=True, kw_only=True):
    """A period as it was, under the newest terms, and under the changed ones."""

    base_version: int
    terms: Policy
    """With the changes."""
    under_newest: Outcome
    """As if the newest terms had been in force all the time."""
    report: Report
    """As it really was, against the changed terms."""

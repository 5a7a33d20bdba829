"""What revenue is asked and what it answers."""

from datetime import date

import msgspec

from billing.revenue import By, Revenue


class GetRevenue(msgspec.Struct, frozen=True):
    """Ask what a period brought, by the caller's own calendar."""

    by: By = "day"
    since: date | None = None
    """Without it: thirty days before the last."""
    until: date | None = None
    """The last day; without it: today."""


class RevenueView(Revenue, frozen=True, kw_only=True):
    """What a period brought."""

    by: By
    since: date
    until: date
    timezone: str

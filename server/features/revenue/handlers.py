"""The commands of revenue."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from billing import revenue
from server.context import Command, Context
from server.errors import BadRequestError, FieldError
from server.features.accounts.models import user_of
from server.features.revenue.messages import GetRevenue, RevenueView

# As with a tutor's earnings: a year of days, or ten of months; more is no screen of anybody's.
DAYS_MOST = {"day": 366, "month": 3_653}
DAYS_SHOWN = 30


async def get_revenue(ctx: Context, command: GetRevenue) -> RevenueView:
    """Return what a period brought the platform, from the ledger.

    Raises:
        BadRequestError: The last day is before the first, or too far away from it.
    """
    zone = (await user_of(ctx.session, ctx.user.user_id)).timezone
    until = command.until or ctx.now.astimezone(ZoneInfo(zone)).date()
    since = command.since or until - timedelta(days=DAYS_SHOWN)
    most = DAYS_MOST[command.by]
    if not timedelta() <= until - since <= timedelta(days=most):
        raise BadRequestError(
            "That is no span of time to show.", (FieldError("since", f"at most {most} days"),)
        )
    found = await revenue.revenue(
        ctx.session, by=command.by, zone=zone, since=since, until=until + timedelta(days=1)
    )
    return RevenueView(
        **{name: getattr(found, name) for name in found.__struct_fields__},
        by=command.by,
        since=since,
        until=until,
        timezone=zone,
    )


COMMANDS = (
    Command("revenue.get", GetRevenue, get_revenue, guard="owner", method="GET", path="/admin/revenue"),
)

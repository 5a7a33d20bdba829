"""TABLE: every command of the product, each with its operation, route, guard and handler. One table, two doors."""

from server.context import Command
from server.features.accounts import handlers as accounts
from server.features.admin import handlers as admin, rooms as live_rooms, webhooks
from server.features.bookings import handlers as bookings
from server.features.courses import handlers as courses
from server.features.disputes import handlers as disputes
from server.features.earnings import handlers as earnings
from server.features.lessons import handlers as lessons
from server.features.notifications import handlers as notifications
from server.features.packages import handlers as packages
from server.features.policy import handlers as policy
from server.features.referrals import handlers as referrals
from server.features.revenue import handlers as revenue
from server.features.talks import handlers as talks
from server.features.top_ups import handlers as top_ups
from server.features.tutors import handlers as tutors
from server.features.wallet import handlers as wallet, statements

TABLE: tuple[Command, ...] = (
    *accounts.COMMANDS,
    *tutors.COMMANDS,
    *notifications.COMMANDS,
    *courses.COMMANDS,
    *bookings.COMMANDS,
    *talks.COMMANDS,
    *lessons.COMMANDS,
    *wallet.COMMANDS,
    *disputes.COMMANDS,
    *statements.COMMANDS,
    *earnings.COMMANDS,
    *top_ups.COMMANDS,
    *packages.COMMANDS,
    *referrals.COMMANDS,
    *policy.COMMANDS,
    *revenue.COMMANDS,
    *admin.COMMANDS,
    *live_rooms.COMMANDS,
    *webhooks.COMMANDS,
)

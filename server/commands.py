"""TABLE: every command of the product, each with its operation, route, guard and handler. One table, two doors."""

from server.context import Command
from server.features.accounts import handlers as accounts
from server.features.admin import handlers as admin
from server.features.courses import handlers as courses
from server.features.earnings import handlers as earnings
from server.features.lessons import handlers as lessons
from server.features.notifications import handlers as notifications
from server.features.talks import handlers as talks
from server.features.top_ups import handlers as top_ups
from server.features.wallet import handlers as wallet, statements

TABLE: tuple[Command, ...] = (
    *accounts.COMMANDS,
    *notifications.COMMANDS,
    *courses.COMMANDS,
    *talks.COMMANDS,
    *lessons.COMMANDS,
    *wallet.COMMANDS,
    *statements.COMMANDS,
    *earnings.COMMANDS,
    *top_ups.COMMANDS,
    *admin.COMMANDS,
)

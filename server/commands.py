"""TABLE: every command of the product, each with its operation, route, guard and handler. One table, two doors."""

from server.context import Command
from server.features.accounts import handlers as accounts

TABLE: tuple[Command, ...] = (*accounts.COMMANDS,)

"""What a handler gets, and what a row of the command table says.

One command, two doors (PROTOCOL 2): `server/http/door.py` makes a route of every row, `server/gateway/dispatch.py` an
operation of every row; both run it through `server/execute.py`.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing.stripe_api import StripeApi
from rooms.messages import Command as RoomCommand
from rooms.registry import Registry
from server.clock import Clock
from server.config import Settings
from server.errors import UnauthenticatedError
from server.gateway.protocol import Publication
from server.integrations.geo import Locator
from server.reads import Reads


class Role(StrEnum):
    """A user's one role; for administration owner includes admin (ED-103, B-01)."""

    STUDENT = "student"
    TUTOR = "tutor"
    ADMIN = "admin"
    OWNER = "owner"


class Principal(msgspec.Struct, frozen=True):
    """Who calls, as the access token says and the account confirms."""

    user_id: UUID
    role: Role
    name: str
    version: int
    """Rises with every change of role, password or block, and when they logged out everywhere; a token with an older one does not hold."""

    @property
    def is_admin(self) -> bool:
        """Return whether the caller administrates the platform."""
        return self.role in (Role.ADMIN, Role.OWNER)


class Bound(Protocol):
    """The gateway's connection a command came over: rooms are bound to it by `room.join`."""

    id: str

    def expect(self, room_id: UUID) -> None:
        """Say that a room is about to be asked for a seat over this connection; if the command fails, it hears so.

        Raises:
            ServerError: The connection follows too many channels.
        """

    def bind(self, room_id: UUID, *, off: int, seated: bool) -> None:
        """Tie the connection to a room: it is subscribed, its end is told to the room, and with a seat it may send.

        `off` is the offset of the snapshot in the answer: what comes after it is sent after the answer.
        """

    def unbind(self, room_id: UUID) -> None:
        """Undo `bind`."""


class Parts(msgspec.Struct, frozen=True):
    """The collaborators that live as long as the process; made in `server/app.py`."""

    settings: Settings
    clock: Clock
    sessions: async_sessionmaker[AsyncSession]
    reads: Reads
    redis: Redis
    rooms: Registry
    locator: Locator
    publish: Callable[[str, Sequence[Publication]], None]
    """Shows something on a channel, here and on every node: the gateway's. For what is volatile; what was stored
    is published by the relay."""
    payments: StripeApi | None = None
    """Stripe, or test payments; None only where nobody pays."""


class Context(msgspec.Struct):
    """One command's surroundings. `session` is inside the command's transaction; nobody but the edge commits."""

    parts: Parts
    principal: Principal | None
    now: datetime
    """Business time (DESIGN §4)."""
    address: str | None = None
    """The caller's address, from trusted proxies only."""
    connection: Bound | None = None
    key: str | None = None
    """The idempotency key, where one was sent."""
    transaction: AsyncSession | None = None
    afterwards: Callable[[], Awaitable[None]] | None = None
    """What a command would like to see done before it is answered, once what it changed is committed. It may not fail:
    the command has happened."""

    @property
    def session(self) -> AsyncSession:
        """Return the transaction's session; a live command has none and opens short ones of its own."""
        assert self.transaction is not None, "a live command has no transaction"
        return self.transaction

    @property
    def user(self) -> Principal:
        """Return the caller.

        Raises:
            UnauthenticatedError: Nobody is logged in.
        """
        if self.principal is None:
            raise UnauthenticatedError("log in first")
        return self.principal


class Question(msgspec.Struct, frozen=True):
    """What a command asks one room, and how the room's reply is shown."""

    room_id: UUID
    command: RoomCommand
    show: Callable[[Any], msgspec.Struct]


Guard = Literal["public", "user", "tutor", "approved_tutor", "student", "admin", "owner"]


class Command(msgspec.Struct, frozen=True):
    """One row of the command table: what can be asked, through which doors, by whom, and what answers it."""

    op: str
    """Name of the operation on the socket, e.g. `course.create`."""
    request: type[msgspec.Struct]
    """Body, path and query values as one Struct; path parameters are fields of the same name."""
    handler: Callable[[Context, Any], Awaitable[Any]]
    guard: Guard = "user"
    method: Literal["GET", "POST", "PATCH", "DELETE"] | None = None
    """None: an operation of the socket only (room.join, chat.send, …)."""
    path: str | None = None
    """Route below `/api/v1`, e.g. `/courses/{course_id}/sessions`."""
    status: int = 200
    idempotent: bool = False
    """The key is mandatory and the first answer is given again (PROTOCOL 2)."""
    live: bool = False
    """Speaks to a room's actor: runs outside a transaction."""
    on_socket: bool = True
    """False: auth and pages, which have one door."""
    question: Callable[[Context, Any], Question] | None = None
    """All that the handler does is to ask a room this: on the socket it runs without a task."""

"""The HTTP edge of a server with any command table, and people to use it."""

import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast
from uuid import UUID

import httpx
import msgspec
from litestar import Litestar
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms.registry import Registry
from server import commands
from server.clock import Clock
from server.config import Settings
from server.context import Command, Parts, Principal, Role
from server.features.accounts import registration
from server.features.accounts.tokens import Authenticator
from server.http import door, problem
from server.http.edge import Edge
from server.http.limits import Limiter
from server.integrations.geo import Locator
from server.integrations.stripe_fake.fake import StripeFake
from server.reads import Reads
from tests.billing.payments import KEY, SECRET, api_of

PASSWORD = "Correct-horse-7"


class Person(msgspec.Struct, frozen=True):
    """Somebody with an account and a token."""

    id: UUID
    email: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class World(msgspec.Struct, frozen=True):
    """A server, a client of it, and its people."""

    parts: Parts
    authenticator: Authenticator
    client: httpx.AsyncClient
    app: Edge

    async def people(self, role: Role, count: int) -> list[Person]:
        async with self.parts.sessions.begin() as session:
            minted = await registration.mint(
                session, count=count, role=role, ttl_s=3600, settings=self.parts.settings
            )
        return [Person(one.user_id, one.email, one.access_token) for one in minted]

    async def person(self, role: Role) -> Person:
        return (await self.people(role, 1))[0]

    async def register(self, email: str = "ann@example.org", **fields: Any) -> httpx.Response:
        body = {
            "email": email,
            "password": PASSWORD,
            "first_name": "Ann",
            "last_name": "Lee",
            "role": "student",
        }
        return await self.client.post("/api/v1/auth/register", json=body | fields)

    async def log_in(self, email: str = "ann@example.org", password: str = PASSWORD) -> httpx.Response:
        return await self.client.post("/api/v1/auth/login", json={"email": email, "password": password})


@contextlib.asynccontextmanager
async def open_world(
    settings: Settings,
    sessions: async_sessionmaker[AsyncSession],
    redis: Redis,
    clock: Clock,
    table: Sequence[Command] = commands.TABLE,
    rooms: Registry | None = None,
) -> AsyncIterator[World]:
    """Build an edge; without `rooms`, commands that need a room fail."""
    fake = StripeFake(key=KEY, secret=SECRET, now=clock.now)
    reads = Reads(sessions)
    async with reads.running():
        parts = Parts(
            settings,
            clock,
            sessions,
            reads,
            redis,
            cast(Registry, rooms),
            Locator(None),
            publish=lambda *_: None,
            payments=api_of(fake),
        )
        async with _served(parts, table) as world:
            yield world


class _Api:
    """A Litestar with the routes of a table, for one world after the other: registering them takes longer than most tests.

    For the routes it is the parts: it has all that those of the present world have.
    """

    def __init__(self, table: Sequence[Command]) -> None:
        self.litestar = Litestar(
            route_handlers=door.routes(table, cast(Parts, self), authenticate=self._authenticate),
            exception_handlers={Exception: problem.answer},
            openapi_config=None,
            logging_config=None,
        )

    def enter(self, parts: Parts, authenticator: Authenticator) -> None:
        self._parts, self._authenticator = parts, authenticator

    async def _authenticate(self, token: str) -> Principal:
        return await self._authenticator.authenticate(token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parts, name)


_free: dict[int, list[_Api]] = {}
"""Those that no world uses, by the table (its id: the tables are constants)."""


@contextlib.asynccontextmanager
async def _served(parts: Parts, table: Sequence[Command]) -> AsyncIterator[World]:
    settings = parts.settings
    authenticator = Authenticator(
        secret=settings.secret_key, reads=parts.reads, redis=parts.redis, wall=parts.clock.wall
    )
    free = _free.setdefault(id(table), [])
    api = free.pop() if free else _Api(table)
    api.enter(parts, authenticator)
    app = Edge(api.litestar, settings=settings, limiter=Limiter(parts.redis))
    # An address of its own: the tests of a worker share one Valkey.
    address = ".".join(["10", *(str(random.randrange(1, 255)) for _ in range(3))])
    transport = httpx.ASGITransport(app=app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield World(parts, authenticator, client, app)
    free.append(api)

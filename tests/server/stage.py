"""Live rooms with everything around them but sockets and HTTP: commands in, publications out."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]  # it has no types
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import outbox
from rooms.messages import Command, PublicEvent, Reply
from rooms.registry import Registry
from server import reactions
from server.bridge import publications
from server.clock import Clock
from server.commands import TABLE
from server.config import Settings
from server.context import Context, Parts, Principal, Role
from server.execute import execute
from server.features.accounts import registration
from server.features.bookings import errands as booking_errands
from server.features.courses import errands
from server.gateway.protocol import Publication
from server.integrations.geo import Locator
from server.integrations.stripe_fake.fake import StripeFake
from server.reads import Reads
from server.relay import Relay
from tests.billing.payments import KEY, SECRET, api_of

ROWS = {row.op: row for row in TABLE}
VIETNAM, AMERICA, NOWHERE = "14.160.0.1", "8.8.8.8", "192.0.2.1"


class Shown(msgspec.Struct, frozen=True):
    """One publication as a receiver sees it."""

    channel: str
    off: int | None
    ev: str
    data: Any


class Connection:
    """A socket as commands see it; it remembers what it is bound to."""

    def __init__(self) -> None:
        self.id = uuid4().hex
        self.bound: dict[UUID, int] = {}

    def expect(self, room_id: UUID) -> None:
        """Nothing that the tests look at."""

    def bind(self, room_id: UUID, *, off: int, seated: bool) -> None:
        self.bound[room_id] = off

    def unbind(self, room_id: UUID) -> None:
        self.bound.pop(room_id, None)


class SoldLesson(msgspec.Struct, frozen=True):
    """A session that somebody bought."""

    tutor: Principal
    students: list[Principal]
    admin: Principal
    course: dict[str, Any]
    session: dict[str, Any]
    room_id: UUID
    starts_at: datetime
    holds: dict[UUID, str]


COURSE: dict[str, Any] = {
    "title": "Spanish from zero",
    "description": "Everything one needs on a journey.",
    "language": "es",
    "level": "A1",
    "category": "travel",
    "duration_hours": 1.5,
    "total_sessions": 1,
    "price_type": "per_session",
    "price_per_session": {"amount": 10_000, "currency": "USD"},
}


class Stage:
    """One node of a server."""

    stripe: StripeFake
    """What answers its payments, where `open_stage` made it."""

    def __init__(self, parts: Parts, relay: Relay, shown: list[Shown]) -> None:
        self.parts = parts
        self.relay = relay
        self.shown = shown

    async def people(self, count: int, role: Role = Role.STUDENT) -> list[Principal]:
        async with self.parts.sessions.begin() as session:
            made = await registration.mint(
                session, count=count, role=role, ttl_s=3600, settings=self.parts.settings
            )
        return [Principal(one.user_id, role, f"Person {number}", 1) for number, one in enumerate(made, 1)]

    async def do(
        self,
        op: str,
        person: Principal | None,
        *,
        address: str | None = None,
        connection: Connection | None = None,
        key: str | None = None,
        now: datetime | None = None,
        **fields: Any,
    ) -> Any:
        """Run a command and return its answer as JSON says it; with `now`, one that came at that moment."""
        row = ROWS[op]
        request = msgspec.json.decode(msgspec.json.encode(fields), type=row.request)
        ctx = Context(
            self.parts,
            person,
            now=now or self.parts.clock.now(),
            address=address,
            connection=connection,
            key=key or (uuid4().hex if row.idempotent else None),
        )
        return msgspec.json.decode((await execute(row, ctx, request)).body)

    async def sell_lesson(self, *, students: int = 1, **fields: Any) -> "SoldLesson":
        """Have a tutor offer a session of 90 minutes an hour from now, and students buy it."""
        [tutor] = await self.people(1, Role.TUTOR)
        [admin] = await self.people(1, Role.ADMIN)
        course = await self.do("course.create", tutor, **COURSE | fields)
        starts_at = self.parts.clock.now() + timedelta(hours=1)
        session = await self.do(
            "course.session.add",
            tutor,
            course_id=course["id"],
            number=1,
            title="Greetings",
            starts_at=starts_at,
            duration_minutes=90,
        )
        await self.do("course.publish", tutor, course_id=course["id"])
        buyers = await self.people(students)
        holds = {}
        for buyer in buyers:
            money = {"amount": 50_000, "currency": "USD"}
            await self.do(
                "wallet.adjust", admin, user_id=buyer.user_id, money=money, reason="money for the test"
            )
            quote = await self.do("purchase.quote", buyer, course_id=course["id"], session_id=session["id"])
            bought = await self.do("purchase.confirm", buyer, quote_token=quote["quote_token"])
            holds[buyer.user_id] = bought["holds"][0]["id"]
        return SoldLesson(tutor, buyers, admin, course, session, UUID(session["room_id"]), starts_at, holds)

    def seen(self, channel: str, ev: str | None = None) -> list[Shown]:
        """Return what was shown on a channel so far."""
        return [one for one in self.shown if one.channel == channel and ev in (None, one.ev)]


class Killed(BaseException):
    """The process dies where it would ask a room."""


class DeadRooms:
    """Rooms as a process has them that dies before it can ask."""

    async def ask(self, room_id: UUID, command: Command) -> Reply:
        raise Killed


def dying(stage: Stage) -> Stage:
    """Return a process beside the stage that dies when it asks a room."""
    rooms = cast(Registry, DeadRooms())
    return Stage(msgspec.structs.replace(stage.parts, rooms=rooms), stage.relay, stage.shown)


def locator_file(path: Path) -> Path:
    """Write a country file that knows two networks."""
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-Country")
    for country, network in (("VN", "14.160.0.0/11"), ("US", "8.8.8.0/24")):
        writer.insert_network(IPSet([network]), {"country": {"iso_code": country}})
    writer.to_db_file(str(path))
    return path


@contextlib.asynccontextmanager
async def open_stage(
    settings: Settings,
    sessions: async_sessionmaker[AsyncSession],
    redis: Redis,
    clock: Clock,
    folder: Path,
) -> AsyncIterator[Stage]:
    """Run a registry of rooms and have a relay at hand, which relays when told to."""
    shown: list[Shown] = []

    def publish(channel: str, found: Sequence[Publication]) -> None:
        shown.extend(Shown(channel, one.off, one.ev, msgspec.json.decode(one.d)) for one in found)

    def publish_room(room_id: UUID, events: Sequence[PublicEvent]) -> None:
        publish(f"room:{room_id}", publications(events))

    registry = Registry(sessions, now=clock.now, wall=clock.wall, publish=publish_room)
    sessions.configure(info={outbox.NODE: registry.node_id})
    reads = Reads(sessions)
    async with reads.running():
        relay = Relay(
            sessions,
            node=registry.node_id,
            publish=publish,
            reactions=reactions.TABLE,
            together=reactions.TOGETHER,
            after={**errands.table(sessions, reads, registry), **booking_errands.table(registry)},
            wall=clock.wall,
        )
        with Locator(locator_file(folder / "countries.mmdb")) as locator:
            async with registry:
                fake = StripeFake(key=KEY, secret=SECRET, now=clock.now)
                parts = Parts(
                    settings, clock, sessions, reads, redis, registry, locator, publish, payments=api_of(fake)
                )
                stage = Stage(parts, relay, shown)
                stage.stripe = fake
                yield stage

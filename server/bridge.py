"""What the gateway asks of accounts and rooms, and what rooms send through it. The two know nothing of each other."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import journal
from rooms.errors import BannedError
from rooms.messages import ConnectionId, Identity, PublicEvent, Reply, SocketGone, SocketsSeen
from rooms.registry import Registry
from server import errors, outage
from server.clock import Clock
from server.context import Command, Context, Parts, Principal, Question
from server.errors import NotFoundError
from server.execute import check, execute
from server.features.accounts.tokens import ACCESS_TTL, Authenticator
from server.features.lessons import access
from server.features.talks import lobby
from server.gateway.bus import Bus, BusError
from server.gateway.connection import Login
from server.gateway.dispatch import Call, Execute
from server.gateway.protocol import CommandError, Position, Publication
from server.gateway.questions import Answer, Ask
from server.reads import Lookup, Reads

ROOM = "room:"
LOBBY = "lobby:"
# A room on another node answers within this time, or the caller is told to come back; less than the 5 s after which
# the caller's own deadline would speak.
FORWARD_TIMEOUT_S = 4.0


class Doors:
    """Who somebody is, and what they may follow."""

    def __init__(self, authenticator: Authenticator, parts: Parts) -> None:
        self._authenticator = authenticator
        self._parts = parts
        self._clock = parts.clock

    async def authenticate(self, token: str) -> Login:
        """See `gateway.Doors`."""
        person, expires_at = await self._authenticator.log_in(token)
        return Login(person, self._in_own_time(expires_at))

    async def redeem(self, ticket: str) -> Login:
        """See `gateway.Doors`."""
        person = await self._authenticator.redeem(ticket)
        # A ticket stands for the access token it was made with: its socket needs a new one as soon as that would.
        return Login(person, (self._clock.own() + ACCESS_TTL).timestamp())

    def _in_own_time(self, at: float) -> float:
        """Return when this machine's clock, which the gateway asks, will show what is `at` in wall time."""
        return at + self._clock.skew.total_seconds()

    async def review(self, login: Login) -> Login | None:
        """See `gateway.Doors`: a change of role, password or block ends what was known before it."""
        assert isinstance(login.person, Principal), "logins are made above"
        person = await self._authenticator.review(login.person)
        return None if person is None else msgspec.structs.replace(login, person=person)

    async def may_read(self, login: Login, channel: str) -> bool:
        """See `gateway.Doors`."""
        assert isinstance(login.person, Principal), "logins are made above"
        if channel == lobby.CHANNEL:
            return True
        room_id = _room_id(channel)
        if room_id is None:
            return False
        try:
            return await access.may_read(self._parts, room_id, login.person)
        except BannedError as error:
            raise CommandError(errors.BANNED, str(error)) from None
        except NotFoundError:
            return False


class Seats:
    """What rooms hear of sockets. The gateway asks this machine's clock, rooms keep presence in business time."""

    def __init__(self, rooms: Registry, clock: Clock) -> None:
        self._rooms = rooms
        self._clock = clock

    def gone(self, room_id: UUID, user_id: str, connection_id: str, heard_at: datetime) -> None:
        """See `gateway.Seats`."""
        signal = SocketGone(
            Identity(user_id), ConnectionId(connection_id), seen_at=self._in_business_time(heard_at)
        )
        self._rooms.tell(room_id, signal)

    def seen(
        self, room_id: UUID, sockets: Mapping[str, Sequence[str]], heard_at: Mapping[str, datetime]
    ) -> None:
        """See `gateway.Seats`."""
        people = {
            Identity(user_id): tuple(ConnectionId(connection) for connection in connections)
            for user_id, connections in sockets.items()
        }
        frames = {Identity(user_id): self._in_business_time(at) for user_id, at in heard_at.items()}
        self._rooms.tell(room_id, SocketsSeen(str(self._rooms.node_id), people, self._clock.now(), frames))

    def _in_business_time(self, heard_at: datetime) -> datetime:
        return self._clock.now() - max(timedelta(), self._clock.own() - heard_at)


_HEAD = Lookup(journal.HEADS)


class RoomHistory:
    """The past of `room:` channels: the journal, so it survives every process and the loss of Valkey."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], reads: Reads, rooms: Registry) -> None:
        self._sessions = sessions
        self._reads = reads
        self._rooms = rooms

    async def heads(self, channels: Sequence[str]) -> Mapping[str, Position]:
        """See `gateway.History`: of a room that runs here, what it says itself."""
        found: dict[str, Position] = {}
        elsewhere: dict[UUID, str] = {}
        for channel in channels:
            room_id = _room_id(channel)
            if room_id is None:
                continue
            state = self._rooms.here(room_id)
            if state is None:
                elsewhere[room_id] = channel
            else:
                found[channel] = Position(state.epoch, state.off)
        rows = await self._reads.find_all(_HEAD, [(room_id,) for room_id in elsewhere])
        for channel, row in zip(elsewhere.values(), rows, strict=True):
            if row is not None:
                found[channel] = Position(row[1], row[2])
        return found

    async def read(self, channel: str, *, after: int, limit: int) -> Sequence[Publication]:
        """See `gateway.History`."""
        room_id = _room_id(channel)
        if room_id is None:
            return []
        async with self._sessions() as session:
            return publications(await journal.public_events(session, room_id, after, limit))


def publications(events: Sequence[PublicEvent]) -> list[Publication]:
    """Return a room's events as the gateway publishes them."""
    return [Publication(event.off, event.ev, event.ts_ms, event.data) for event in events]


async def forward(bus: Bus, node: UUID, payload: bytes) -> bytes:
    """Send what belongs to a room on another node there, and return its answer.

    Raises:
        ConnectionError: The node cannot be reached; it did nothing.
        TimeoutError: It did not answer; whether it acted is unknown.
    """
    try:
        return await bus.call(str(node), payload, FORWARD_TIMEOUT_S)
    except BusError as error:
        raise ConnectionError(str(error)) from error


def executor(parts: Parts, authenticator: Authenticator) -> Execute:
    """Return the function with which the socket door runs a row of the command table.

    Who is on the socket was checked when it opened, and is checked again when the account changes, by a message
    between nodes. Where money or other people's accounts are at stake, that message is not relied on.
    """

    async def run(row: Command, call: Call, request: msgspec.Struct, key: str | None) -> msgspec.Raw:
        person = call.login.person
        assert isinstance(person, Principal), "logins are made above"
        if row.idempotent or row.guard in ("approved_tutor", "admin", "owner"):
            person = await authenticator.confirm(person)
        ctx = Context(parts, person, now=parts.clock.now(), address=call.address, connection=call, key=key)
        return msgspec.Raw((await execute(row, ctx, request)).body)

    return run


def asks(parts: Parts, table: Sequence[Command]) -> Mapping[str, Ask]:
    """Return the functions with which the socket door asks a room, for those rows that do nothing else."""
    return {row.op: _ask(parts, row, row.question) for row in table if row.question is not None}


def _ask(parts: Parts, row: Command, question: Callable[[Context, Any], Question]) -> Ask:
    assert row.guard == "user", "only who somebody is can be known without a look at the database"
    assert not row.idempotent, "answers under such a key are rows"

    def ask(
        login: Login, address: str | None, request: msgspec.Struct, key: str | None, answer: Answer
    ) -> None:
        person = login.person
        assert isinstance(person, Principal), "logins are made above"
        ctx = Context(parts, person, now=parts.clock.now(), address=address, key=key)
        check(row, ctx, request)
        asked = question(ctx, request)
        parts.rooms.put(asked.room_id, asked.command, _Shown(answer, asked.show))

    return ask


class _Shown:
    """Hears a room's reply and hands it on as the client reads it; a `rooms.actor.Asker`."""

    __slots__ = ("_answer", "_show", "cancelled")

    def __init__(self, answer: Answer, show: Callable[[Any], msgspec.Struct]) -> None:
        self._answer = answer
        self._show = show
        self.cancelled = answer.cancelled

    def set_result(self, reply: Reply, /) -> None:
        self._answer.set_result(self._show(reply))

    def set_exception(self, error: Exception, /) -> None:
        self._answer.set_exception(outage.refusal_of(error) or error)


def _room_id(channel: str) -> UUID | None:
    try:
        return UUID(channel.removeprefix(ROOM))
    except ValueError:
        return None

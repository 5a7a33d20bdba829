"""The gateway of one node: its connections, what they share, and what the rest of the server may ask of it."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import Redis

from server import errors
from server.gateway import presence, protocol
from server.gateway.bus import Bus
from server.gateway.channel import Member, Receiver
from server.gateway.connection import Connection, Login
from server.gateway.dispatch import Dispatch, Execute, Row, decode
from server.gateway.history import History
from server.gateway.hub import Hub
from server.gateway.limits import Limits
from server.gateway.metrics import Metrics
from server.gateway.presence import Presence
from server.gateway.protocol import (
    CloseCode,
    Codec,
    CommandError,
    ConnectionId,
    Control,
    Publication,
    Request,
    SubscriptionView,
)
from server.gateway.questions import Ask
from server.gateway.shares import Shares
from server.gateway.wire import Wire

log = structlog.get_logger()

# Deadlines are kept to this precision: `connect` within 5 s means at most 5.25 s.
SWEEP_S = 0.25
# Six beats fit into the grace of a seat (30 s): a room that moved to another node hears of its people in time.
BEAT_S = 5.0
# A deploy moves 5 % of the sockets every half second, so that the nodes that stay are asked for 10 s, not at once.
DRAIN_SLICE = 0.05
DRAIN_EVERY_S = 0.5
# Each client of a slice waits up to this long of its own.
DRAIN_SPREAD_MS = 1000
# Below are the codes of RFC 6455 and its registry.
OWN_CLOSE_CODES = 3000
_CLOSE_CODES = frozenset(int(code) for code in CloseCode)
# An account is looked at again within this time, or its sockets are closed: they come back through the door.
REVIEW_S = 1.0

_CONNECT = msgspec.json.Decoder(protocol.Connect)
# What a failed `connect` closes the socket with; everything else is trouble of ours: come back later.
_REFUSALS = {
    errors.UNAUTHORIZED.code: CloseCode.AUTH_FAILED,
    errors.TOKEN_EXPIRED.code: CloseCode.AUTH_FAILED,
    errors.BAD_REQUEST.code: CloseCode.BAD_REQUEST,
    errors.PERMISSION_DENIED.code: CloseCode.FORBIDDEN,
    errors.INTERNAL.code: CloseCode.INTERNAL,
}
# After these a person holds no seat any more, or may not even look on.
_PARTINGS = frozenset({"participant.left", "participant.kicked", "participant.evicted"})


class _Whose(msgspec.Struct):
    user_id: str
    reason: str = ""
    banned: bool = False


_decode_whose = msgspec.json.Decoder(_Whose).decode


class Doors(Protocol):
    """What the gateway asks about people; the application answers."""

    async def authenticate(self, token: str) -> Login:
        """Return whose access token this is; raise an error of kind `unauthenticated` if it does not hold."""

    async def redeem(self, ticket: str) -> Login:
        """Return whose one-use ticket this is, and use it up; raise like `authenticate`."""

    async def review(self, login: Login) -> Login | None:
        """Look at the account again: return it as it is now, or None if the login does not hold any more."""

    async def may_read(self, login: Login, channel: str) -> bool:
        """Return whether the person may follow a channel that is not their own, or raise a `CommandError`."""


class Seats(Protocol):
    """What rooms hear of the sockets over which people sit in them. Must not block."""

    def gone(self, room_id: UUID, user_id: str, connection_id: ConnectionId, heard_at: datetime) -> None:
        """A bound socket closed; the last frame from it came at `heard_at` (wall clock)."""

    def seen(
        self,
        room_id: UUID,
        sockets: Mapping[str, Sequence[ConnectionId]],
        heard_at: Mapping[str, datetime],
    ) -> None:
        """Every five seconds: the sockets bound to the room on this node, and the last frame (wall clock), by user."""


class Gateway:
    """Sockets and channels of one node. Use it as `async with gateway.running():`."""

    def __init__(  # noqa: PLR0913 - everything the gateway knows of the rest, joined once in server/app.py
        self,
        *,
        node: str,
        redis: Redis,
        doors: Doors,
        seats: Seats,
        histories: Mapping[str, History],
        rows: Iterable[Row],
        execute: Execute,
        asks: Mapping[str, Ask],
        origins: Iterable[str],
        limits: Limits,
        metrics: Metrics,
        wall: Callable[[], datetime],
    ) -> None:
        self.limits = limits
        self.metrics = metrics
        self.doors = doors
        self.origins = frozenset(origins)
        self.bus = Bus(redis, node=node, metrics=self.metrics)
        self.hub = Hub(
            bus=self.bus,
            histories={**histories, presence.PREFIX: presence.NoHistory()},
            limits=self.limits,
            metrics=self.metrics,
            left=self._left,
        )
        self.presence = Presence(redis, node=node, bus=self.bus, hub=self.hub)
        self.shares = Shares(
            redis,
            node=node,
            limits=self.limits,
            told_elsewhere=lambda user_id: self.bus.broadcast("elsewhere", user_id),
            is_alone=lambda: self.bus.is_alone,
        )
        self.dispatch = Dispatch(self, rows, execute, asks)
        self.is_draining = False
        self.wall = wall
        """What clients are told of the time; deadlines of sockets are kept on `monotonic`."""
        self.monotonic = asyncio.get_running_loop().time
        self._seats = seats
        self._connections: dict[ConnectionId, Connection] = {}
        self._by_user: dict[str, set[Connection]] = {}
        self._by_room: dict[UUID, set[Connection]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self.bus.listen(self)

    # --- For the rest of the server ---

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the bus, the hub and the clocks; at the end close what is still open."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self.hub.run_in(tasks)
            forever = [
                tasks.create_task(run)
                for run in (
                    self.bus.run(),
                    self.shares.run(),
                    self.presence.run(),
                    self._sweep_forever(),
                    self._beat_forever(),
                )
            ]
            forever.append(self.hub.checks)
            try:
                yield
            finally:
                await self._end(forever)

    def publish(self, channel: str, publications: Sequence[Publication]) -> None:
        """Deliver committed events to everybody who follows the channel, here and on other nodes. Never waits."""
        self.hub.publish(channel, publications)
        self._watch_seats(channel, publications)

    async def recheck(self, user_id: UUID | str) -> None:
        """Look again at an account that changed; its sockets everywhere go on with the new role, or are closed."""
        self.bus.broadcast("recheck", str(user_id))
        await self._recheck_here(str(user_id))

    async def drain(self) -> None:
        """Refuse new sockets and ask those that are open to go elsewhere, in slices."""
        self.is_draining = True
        size = max(1, round(len(self._connections) * DRAIN_SLICE))
        while self._connections:
            leaving = [connection for connection in self._connections.values() if not connection.is_ended]
            for connection in leaving[:size]:
                delay_ms = random.randrange(DRAIN_SPREAD_MS)  # noqa: S311 - spreads reconnects
                advice = {"code": int(CloseCode.DRAIN), "reconnect": True, "retry_after_ms": delay_ms}
                connection.control(Control("disconnect", advice))
                connection.close(CloseCode.DRAIN, "drain")
            await asyncio.sleep(DRAIN_EVERY_S)

    # --- For the route ---

    def serve(self, wire: Wire, codec: Codec, *, address: str | None) -> None:
        """Take part in one connection, until it ends."""
        connection = Connection(self, wire, codec, address=address)
        self._connections[connection.id] = connection
        self.metrics.connections.inc()
        connection.log.info("connection_opened")
        wire.listen(connection)

    # --- For connections ---

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in a task of the gateway; it handles its own errors."""
        assert self._tasks is not None, "connections exist only while the gateway runs"
        self._tasks.create_task(work)

    async def connect(self, connection: Connection, request: Request) -> None:
        """Answer `connect`: who it is, its channels, and what they missed."""
        try:
            async with asyncio.timeout(self.limits.op_s):
                command = decode(_CONNECT, request)
                if await self._admit(connection, await self._login(command)):
                    await self._answer_connect(connection, request, command)
        except TimeoutError:
            self._refuse(
                connection, request, CommandError(errors.OVERLOADED, "that took too long; come back")
            )
        except Exception as error:
            if errors.socket_error_of(error) is errors.INTERNAL and not isinstance(error, CommandError):
                connection.log.exception("connect_failed")
            self._refuse(connection, request, error)

    async def _login(self, command: protocol.Connect) -> Login:
        if command.token is not None:
            return await self.doors.authenticate(command.token)
        if command.ticket is not None:
            return await self.doors.redeem(command.ticket)
        raise CommandError(errors.UNAUTHORIZED, "a token or a ticket is needed")

    async def _admit(self, connection: Connection, login: Login) -> bool:
        user_id = str(login.person.user_id)
        share = await self.shares.admit(user_id)
        if share is None:
            connection.close(CloseCode.CONNECTION_LIMIT, "too many connections")
            return False
        if connection.is_ended:
            self.shares.release(share)
            return False
        connection.opened(login, share)
        self._by_user.setdefault(user_id, set()).add(connection)
        return True

    async def _answer_connect(
        self, connection: Connection, request: Request, command: protocol.Connect
    ) -> None:
        own = f"user:{connection.user_id}"
        since = {item.ch: item for item in command.since}
        wanted = [own, *(channel for channel in since if channel != own)][: self.limits.channels]
        views: dict[str, SubscriptionView] = {}
        members: list[Member] = []
        refused: dict[str, CommandError] = {}
        for channel in wanted:
            try:
                await self.check_may_read(connection, channel)
                if connection.is_ended:
                    return
                member = self.hub.join(connection, channel)
                views[channel] = await self.hub.position(member, since.get(channel))
                members.append(member)
            except CommandError as refusal:
                if channel == own:
                    raise
                refused[channel] = refusal
        if connection.is_ended:
            return
        assert connection.login is not None, "admitted above"
        answer = protocol.Connected(
            conn=connection.id,
            user=protocol.UserView(connection.user_id, str(connection.login.person.role)),
            server_time=self.server_time(),
            ping_s=self.limits.ping_s,
            pong_s=self.limits.pong_s,
            limits=self.limits.shown(),
            subs=views,
        )
        connection.reply(1 if request.id is msgspec.UNSET else request.id, answer)
        for member in members:
            self.hub.start(member)
            self.presence.followed(connection, member.channel.name)
        for channel, error in refused.items():
            self.unsubscribe(connection, channel, error)
        connection.admitted()

    def _refuse(self, connection: Connection, request: Request, error: Exception) -> None:
        body = protocol.error_body(error)
        connection.fail(request.id, error)
        connection.close(_REFUSALS.get(body.code, CloseCode.OVERLOADED), body.name)

    def remove(self, connection: Connection, code: int) -> None:
        """Forget a connection that is gone."""
        if self._connections.pop(connection.id, None) is None:
            return
        if connection.login is not None:
            same_user = self._by_user.get(connection.user_id, set())
            same_user.discard(connection)
            if not same_user:
                self._by_user.pop(connection.user_id, None)
        self.metrics.connections.dec()
        # A client may close with thousands of codes of its own.
        is_known = code in _CLOSE_CODES or code < OWN_CLOSE_CODES
        self.metrics.closes.labels(str(code) if is_known else "other").inc()
        connection.log.info("connection_closed", code=code)

    def server_time(self) -> int:
        """Return the wall clock's time in milliseconds of the Unix epoch."""
        return int(self.wall().timestamp() * 1000)

    def check_channels(self, connection: Connection) -> None:
        """Raise if the connection follows as many channels as it may."""
        if len(connection.memberships) >= self.limits.channels:
            raise CommandError(errors.LIMIT_EXCEEDED, f"at most {self.limits.channels} channels")

    async def check_may_read(self, connection: Connection, channel: str) -> None:
        """Raise unless the connection's user may follow a channel."""
        assert connection.login is not None, "asked after connect only"
        is_presence = channel.startswith(presence.PREFIX)
        if not self.hub.knows(channel) or (is_presence and not presence.is_scope(channel)):
            raise CommandError(errors.UNKNOWN_CHANNEL, "there are no such channels")
        if channel == f"user:{connection.user_id}":
            return
        watched = presence.watched(channel)
        if watched.startswith("user:") or not await self.doors.may_read(connection.login, watched):
            raise CommandError(errors.PERMISSION_DENIED, "this channel is not for you")

    def _left(self, receiver: Receiver, channel: str) -> None:
        self.presence.left(receiver, channel)

    def unsubscribe(self, connection: Connection, channel: str, error: Exception) -> None:
        """End a subscription that the client wanted, and say why."""
        self.hub.leave(connection, channel)
        body = protocol.error_body(error)
        connection.control(Control("unsubscribed", {"ch": channel, "code": body.code, "name": body.name}))

    # --- Seats ---

    def bind(self, connection: Connection, room_id: UUID, *, seated: bool) -> None:
        """Note that a connection sits in a room, or waits for a seat."""
        connection.rooms[room_id] = seated
        member = connection.memberships.get(f"room:{room_id}")
        if member is not None:
            member.may_send = seated
        self._by_room.setdefault(room_id, set()).add(connection)

    def unbind(self, connection: Connection, room_id: UUID) -> None:
        """Note that it sits there no more."""
        connection.rooms.pop(room_id, None)
        member = connection.memberships.get(f"room:{room_id}")
        if member is not None:
            member.may_send = False
        bound = self._by_room.get(room_id)
        if bound is not None:
            bound.discard(connection)
            if not bound:
                del self._by_room[room_id]

    def tell_gone(self, connection: Connection, room_id: UUID) -> None:
        """Tell a room that a socket of it is gone."""
        self._seats.gone(room_id, connection.user_id, connection.id, connection.heard_at)

    def _watch_seats(self, channel: str, publications: Sequence[Publication]) -> None:
        """Unbind the sockets of people whose seat ended; each has seen that event before."""
        if not channel.startswith("room:"):
            return
        for publication in publications:
            if publication.ev == "room.closed":
                for connection in list(self._by_room.get(_room_of(channel), ())):
                    self.unbind(connection, _room_of(channel))
            elif publication.ev in _PARTINGS:
                self._part(channel, publication.ev, _decode_whose(publication.d))

    def _part(self, channel: str, ev: str, whose: _Whose) -> None:
        """End what somebody's sockets have of a room; who may not even look on keeps no subscription either."""
        error = CommandError(errors.SEAT_EXPIRED, "the seat is given up")
        if whose.banned:
            error = CommandError(errors.BANNED, "you were banned from this room")
        elif ev == "participant.evicted":
            error = CommandError(errors.PERMISSION_DENIED, "your place in this room has ended")
        may_look_on = error.row is errors.SEAT_EXPIRED
        room_id = _room_of(channel)
        for connection in list(self._by_user.get(whose.user_id, ())):
            if may_look_on and room_id not in connection.rooms:
                continue
            self.unbind(connection, room_id)
            if whose.reason == "closed":
                continue  # the room empties itself: they hear of its end, which for a lesson comes 90 s later
            for name in (channel,) if may_look_on else (channel, presence.PREFIX + channel):
                self.hub.dismiss(connection, name, partial(self.unsubscribe, connection, name, error))

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            for room_id, bound in self._by_room.items():
                sockets: dict[str, list[ConnectionId]] = {}
                heard_at: dict[str, datetime] = {}
                for connection in bound:
                    user_id = connection.user_id
                    sockets.setdefault(user_id, []).append(connection.id)
                    heard_at[user_id] = max(connection.heard_at, heard_at.get(user_id, connection.heard_at))
                self._seats.seen(room_id, sockets, heard_at)

    # --- Accounts ---

    async def _recheck_here(self, user_id: str) -> None:
        for connection in list(self._by_user.get(user_id, ())):
            if connection.is_ended or connection.login is None:
                continue
            try:
                async with asyncio.timeout(REVIEW_S):
                    login = await self.doors.review(connection.login)
            except Exception:
                log.exception("review_failed", user_id=user_id)
                connection.close(CloseCode.STATE_INVALIDATED, "account changed")
                continue
            if login is None:
                connection.close(CloseCode.AUTH_FAILED, "account changed")
            else:
                connection.renew(login)

    # --- Time ---

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self.monotonic()
            for connection in [item for item in self._connections.values() if item.check_at <= now]:
                connection.check(now)
            self.dispatch.questions.sweep(now)

    async def _end(self, forever: Iterable[asyncio.Task[None]]) -> None:
        self.is_draining = True
        for connection in list(self._connections.values()):
            connection.close(CloseCode.DRAIN, "drain")
        await self.bus.leave()
        await self.shares.leave()
        for task in forever:
            task.cancel()

    # --- What other nodes say: called by the bus ---

    def arrived(self, channel: str, publications: Sequence[Publication]) -> None:
        """Deliver what another node published."""
        if channel.startswith(presence.PREFIX):
            self.presence.arrived(channel, publications)
            return
        self.hub.deliver(channel, publications)
        self._watch_seats(channel, publications)

    def shared(self, channels: Sequence[str]) -> list[str]:
        """Note that another node has members in these channels; return those that have members here."""
        return self.hub.share(channels)

    def control(self, name: str, value: str) -> None:
        """Do what another node says to all."""
        match name:
            case "recheck":
                self.start(self._recheck_here(value))
            case "elsewhere":
                self.shares.note_elsewhere(value)
            case _:
                log.warning("control_unknown", name=name)

    def reconnected(self) -> None:
        """Look for what was missed: events in the channels, and changes of accounts."""
        self.hub.check_all()
        self.presence.reconnected()
        self.start(self._recheck_all())

    def missed(self, channels: Iterable[str]) -> None:
        """See `bus.Listener`."""
        self.hub.check_soon(channels)

    def forgotten(self, node: str) -> None:
        """Let the people of a node that has ended be gone."""
        self.presence.forgotten(node)

    async def _recheck_all(self) -> None:
        for user_id in list(self._by_user):
            await self._recheck_here(user_id)


def _room_of(channel: str) -> UUID:
    return UUID(channel.removeprefix("room:"))

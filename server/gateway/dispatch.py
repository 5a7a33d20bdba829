"""From a request to its answer: the gateway's own operations, and the rows of the command table.

`take` runs in the receive loop: it limits, decodes and enqueues, and never waits. What needs to wait answers in its own
time, at most eight a connection: in a task of the gateway, or without one where it only asks a room (`questions`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from uuid import UUID

import msgspec
from msgspec import UNSET

from server import errors
from server.errors import ErrorKind
from server.gateway import protocol
from server.gateway.channel import Member
from server.gateway.connection import Connection, Login
from server.gateway.protocol import CommandError, Done, Request
from server.gateway.questions import Ask, Questions
from server.request import error_of

if TYPE_CHECKING:
    from server.gateway.gateway import Gateway

OWN_OPS = frozenset(
    {
        "connect",
        "refresh",
        "subscribe",
        "unsubscribe",
        "history",
        "ping",
        "room.send",
        "typing.start",
        "typing.stop",
        "presence.set",
    }
)


# Channels whose fields are remembered (half a MB): those in which somebody writes at the moment.
NAMES_KEPT = 1_000

# With these nothing happened.
_REFUSALS = frozenset({ErrorKind.FORBIDDEN, ErrorKind.NOT_FOUND, ErrorKind.CONFLICT})


class Row(Protocol):
    """What the gateway reads of a row of the command table."""

    @property
    def op(self) -> str:
        """Return the operation's name."""

    @property
    def request(self) -> type[msgspec.Struct]:
        """Return the shape of `d`."""

    @property
    def method(self) -> str | None:
        """Return the HTTP method; `GET` changes nothing, None has no route and does."""


class Call:
    """The connection as one running command sees it: what it binds starts when its answer is sent."""

    __slots__ = ("_expected", "_gateway", "_opened", "connection", "id")

    def __init__(self, gateway: "Gateway", connection: Connection) -> None:
        self.id: str = connection.id
        self.connection = connection
        self._gateway = gateway
        self._expected: set[UUID] = set()
        self._opened: list[tuple[Member, int]] = []

    @property
    def login(self) -> Login:
        """Return whose connection it is."""
        assert self.connection.login is not None, "commands run after connect"
        return self.connection.login

    @property
    def address(self) -> str | None:
        """Return the client's address."""
        return self.connection.address

    def expect(self, room_id: UUID) -> None:
        """Say that a room is about to be asked for a seat; should the command fail, the room hears so.

        Raises:
            CommandError: The connection follows too many channels.
        """
        if f"room:{room_id}" not in self.connection.memberships:
            self._gateway.check_channels(self.connection)
        if room_id not in self.connection.rooms:
            self._expected.add(room_id)

    def bind(self, room_id: UUID, *, off: int, seated: bool) -> None:
        """Tie the connection to a room in which its user holds a seat or waits for one.

        With a seat it may send to the room. Its end is told to the room, and it follows the room's channel: what
        comes after `off`, the offset of the snapshot in the answer, is sent after that answer.

        Raises:
            CommandError: The connection follows too many channels.
        """
        connection = self.connection
        if connection.is_ended:
            self._gateway.tell_gone(connection, room_id)  # it went away while the room gave it the seat
            return
        name = f"room:{room_id}"
        if name not in connection.memberships:
            self._gateway.check_channels(connection)
            self._opened.append((self._gateway.hub.join(connection, name), off))
        self._gateway.bind(connection, room_id, seated=seated)

    def unbind(self, room_id: UUID) -> None:
        """Undo `bind`: the seat is given up."""
        self._gateway.unbind(self.connection, room_id)
        self._gateway.hub.leave(self.connection, f"room:{room_id}")

    async def start(self) -> None:
        """Start what was bound; the answer is sent."""
        for member, off in self._opened:
            try:
                await self._gateway.hub.follow(member, off)
            except Exception as error:
                if not isinstance(error, CommandError):
                    self.connection.log.exception("subscription_failed", channel=member.channel.name)
                self._gateway.unsubscribe(self.connection, member.channel.name, error)

    def undo(self, error: Exception) -> None:
        """Forget what was bound: the command failed. Unless it was refused, a room may have given a seat all the same."""
        for member, _ in self._opened:
            self.unbind(UUID(member.channel.name.removeprefix("room:")))
        if getattr(error, "kind", None) in _REFUSALS:
            return
        for room_id in self._expected - self.connection.rooms.keys():
            self._gateway.tell_gone(self.connection, room_id)


Execute = Callable[[Any, Call, msgspec.Struct, str | None], Awaitable[Any]]
"""Runs a row's command in its transaction and returns the answer: a Struct, or its JSON as `msgspec.Raw`."""


class Dispatch:
    """The operations of one gateway."""

    def __init__(
        self, gateway: "Gateway", rows: Iterable[Row], execute: Execute, asks: Mapping[str, Ask]
    ) -> None:
        self._gateway = gateway
        self._execute = execute
        self._rows = {row.op: row for row in rows}
        assert not OWN_OPS & self._rows.keys(), "an operation of the gateway is in the command table too"
        self._decoders = {op: msgspec.json.Decoder(row.request) for op, row in self._rows.items()}
        self.questions = Questions(
            gateway, asks, decode=self._decode, then=self._start, too_late=self._too_late
        )

    def take(self, connection: Connection, request: Request, op: str, now: float) -> None:
        """Answer what needs no waiting, and start or enqueue the rest."""
        share = connection.share
        assert share is not None, "an open connection has a share"
        try:
            bucket, wait_s = share.take(op, now)
            if wait_s:
                self._refuse_for(bucket, wait_s)
            if op == "room.send":
                self._send_to_room(connection, request)
                return
            self._check_channel(request)
            match op:
                case "typing.start" | "typing.stop":
                    self._type(connection, request, is_typing=op == "typing.start")
                case "presence.set":
                    self._gateway.presence.say(connection, decode(_PRESENCE, request))
                    connection.reply(request.id, Done())
                case "ping":
                    connection.reply(request.id, protocol.Pong(self._gateway.server_time()))
                case "unsubscribe":
                    self._unsubscribe(connection, request)
                case _:
                    self._check_op(op)
                    if connection.claim(request):
                        self._start(connection, request)
        except CommandError as error:
            connection.fail(request.id, error)

    def _refuse_for(self, bucket: str, wait_s: float) -> NoReturn:
        self._gateway.metrics.limited.labels(bucket).inc()
        raise CommandError(
            errors.TOO_MANY_REQUESTS,
            f"too many requests ({bucket})",
            retry_after_ms=round(wait_s * 1000) + 1,
        )

    def _check_channel(self, request: Request) -> None:
        if request.ch is not UNSET and not self._gateway.hub.knows(request.ch):
            raise CommandError(errors.UNKNOWN_CHANNEL, "there are no such channels")

    def _check_op(self, op: str) -> None:
        if op == "connect":
            raise CommandError(errors.BAD_REQUEST, "this connection is connected already")
        if op not in self._rows and op not in OWN_OPS:
            raise CommandError(errors.UNKNOWN_OP, "there is no such operation")

    # --- At once ---

    def _send_to_room(self, connection: Connection, request: Request) -> None:
        """Relay a volatile message. The hottest path there is: every cursor on a whiteboard takes it."""
        if len(request.d) > self._gateway.limits.message_bytes:
            self._check_channel(request)
            raise CommandError(errors.BAD_REQUEST, f"more than {self._gateway.limits.message_bytes} bytes")
        name, said = self._said(connection, request)
        message = protocol.RoomMessage(connection.user_id, said.kind, said.data)
        self._gateway.hub.say(name, "room.message", message)
        if request.id is not UNSET:
            connection.reply(request.id, Done())

    def _said(
        self, connection: Connection, request: Request
    ) -> tuple[str, protocol.Said | protocol.SendToRoom]:
        """Return a room's channel and what to send there; the short way where the envelope alone names the room."""
        member = None if request.ch is UNSET else connection.memberships.get(request.ch)
        if member is not None and member.may_send:
            try:
                said = _SAID.decode(request.d)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # the long way says what is wrong
            else:
                if said.room_id is UNSET:
                    return member.channel.name, said
        self._check_channel(request)
        command: protocol.SendToRoom = decode(_SEND, request)
        return self._bound(connection, command.room_id), command

    def _type(self, connection: Connection, request: Request, *, is_typing: bool) -> None:
        command = decode(_TYPING, request)
        name = self._bound(connection, command.room_id)
        if connection.is_typing_news(command.room_id, is_typing=is_typing):
            shown = protocol.TypingShown(connection.user_id, is_typing)
            self._gateway.hub.say(name, "typing", shown)
        connection.reply(request.id, Done())

    def _bound(self, connection: Connection, room_id: UUID) -> str:
        if not connection.rooms.get(room_id):
            raise CommandError(errors.PERMISSION_DENIED, "this connection holds no seat in that room")
        return f"room:{room_id}"

    def _unsubscribe(self, connection: Connection, request: Request) -> None:
        command = decode(_UNSUBSCRIBE, request)
        if command.ch == f"user:{connection.user_id}":
            raise CommandError(errors.PERMISSION_DENIED, "everybody follows their own channel")
        if not self._gateway.hub.leave(connection, command.ch):
            raise CommandError(errors.UNKNOWN_CHANNEL, "this channel is not followed")
        connection.reply(request.id, Done())

    # --- In its own time ---

    def _start(self, connection: Connection, request: Request) -> None:
        if request.op in self.questions:
            self.questions.begin(connection, request)
        else:
            self._gateway.start(self._run(connection, request))

    def _decode(self, request: Request) -> msgspec.Struct:
        command: msgspec.Struct = decode(self._decoders[str(request.op)], request)
        return command

    async def _run(self, connection: Connection, request: Request) -> None:
        await self._run_one(connection, request)
        waiting = connection.finished()
        if waiting is not None:
            self._start(connection, waiting)

    async def _run_one(self, connection: Connection, request: Request) -> None:
        call = Call(self._gateway, connection)
        deadline = asyncio.timeout(self._gateway.limits.op_s)
        try:
            async with deadline:
                ok, after = await self._perform(call, request)
        except Exception as error:
            call.undo(error)
            if isinstance(error, TimeoutError) and deadline.expired():
                connection.fail(request.id, self._too_late(request))
                return
            if errors.socket_error_of(error) is errors.INTERNAL:
                connection.log.exception("operation_failed", op=request.op)
            connection.fail(request.id, error)
            return
        try:
            connection.reply(request.id, ok)
            after()
            await call.start()
        except Exception:
            # It is done and may be answered; what should have followed is found by coming back.
            connection.log.exception("operation_not_followed", op=request.op)
            connection.close(protocol.CloseCode.INTERNAL, "internal")

    def _too_late(self, request: Request) -> CommandError:
        row = self._rows.get(str(request.op))
        if row is None or row.method == "GET":
            return CommandError(errors.OVERLOADED, "that took too long; try again")
        return CommandError(
            errors.TIMEOUT_UNKNOWN_OUTCOME,
            "that took too long; it may have happened: repeat it with the same key",
        )

    async def _perform(self, call: Call, request: Request) -> tuple[object, Callable[[], None]]:
        """Return the answer, and what has to follow it at once."""
        connection = call.connection
        match request.op:
            case "refresh":
                return await self._refresh(connection, request), _nothing
            case "subscribe":
                return await self._subscribe(connection, request)
            case "history":
                return await self._history(connection, request)
            case op:
                row = self._rows[str(op)]
                command = self._decode(request)
                key = None if request.key is UNSET else request.key
                return await self._execute(row, call, command, key), _nothing

    async def _refresh(self, connection: Connection, request: Request) -> protocol.Refreshed:
        login = await self._gateway.doors.authenticate(decode(_REFRESH, request).token)
        if str(login.person.user_id) != connection.user_id:
            raise CommandError(errors.UNAUTHORIZED, "the token belongs to somebody else")
        connection.renew(login)
        left_s = 0 if login.expires_at is None else round(login.expires_at - time.time())
        return protocol.Refreshed(left_s)

    async def _subscribe(self, connection: Connection, request: Request) -> tuple[object, Callable[[], None]]:
        command = decode(_SUBSCRIBE, request)
        hub = self._gateway.hub
        await self._gateway.check_may_read(connection, command.ch)
        # No await between this check and the join.
        if command.ch in connection.memberships:
            raise CommandError(errors.ALREADY_SUBSCRIBED, "this channel is followed already")
        self._gateway.check_channels(connection)
        if connection.is_ended:
            raise CommandError(errors.NOT_AVAILABLE, "the connection is closed")
        member = hub.join(connection, command.ch)
        try:
            view = await hub.position(member, command.since)
        except BaseException:
            if connection.memberships.get(command.ch) is member:
                hub.leave(connection, command.ch)
            raise
        return view, lambda: self._begin(member, connection)

    def _begin(self, member: Member, connection: Connection) -> None:
        self._gateway.hub.start(member)
        self._gateway.presence.followed(connection, member.channel.name)

    async def _history(self, connection: Connection, request: Request) -> tuple[object, Callable[[], None]]:
        command = decode(_HISTORY, request)
        member = connection.memberships.get(command.ch)
        if member is None:
            await self._gateway.check_may_read(connection, command.ch)
        page = await self._gateway.hub.history(member, command.ch, command.since, command.limit)
        if member is None:
            return page, _nothing
        return page, lambda: self._gateway.hub.paged(member, page)


_SAID = msgspec.json.Decoder(protocol.Said)
_SEND = msgspec.json.Decoder(protocol.SendToRoom)
_TYPING = msgspec.json.Decoder(protocol.Typing)
_PRESENCE = msgspec.json.Decoder(protocol.SetPresence)
_UNSUBSCRIBE = msgspec.json.Decoder(protocol.Unsubscribe)
_REFRESH = msgspec.json.Decoder(protocol.Refresh)
_SUBSCRIBE = msgspec.json.Decoder(protocol.Subscribe)
_HISTORY = msgspec.json.Decoder(protocol.ReadHistory)


def decode(decoder: msgspec.json.Decoder[Any], request: Request) -> Any:
    """Return `d` as the decoder's Struct; the envelope's `ch` stands for `ch` and, of a room, for `room_id`.

    Raises:
        CommandError: `d` does not fit.
    """
    d = bytes(request.d).strip()
    if d == b"null":
        d = b"{}"
    if request.ch is not UNSET and d.startswith(b"{"):
        d = _with_channel(d, request.ch)
    try:
        return decoder.decode(d)
    except RecursionError:
        raise CommandError(errors.BAD_REQUEST, "d is nested too deep") from None
    except msgspec.ValidationError as error:
        # By the field, so that a form shows it there, as over HTTP.
        raise CommandError(errors.BAD_REQUEST, str(error), errors=(error_of(error),)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandError(errors.BAD_REQUEST, str(error)) from None


def _with_channel(d: bytes, channel: str) -> bytes:
    """Put the channel first, so that a field of the same name in `d` (the last of two) wins."""
    rest = d[1:].lstrip()
    return b"{" + _fields_of(channel) + (b"}" if rest == b"}" else b"," + rest)


@lru_cache(NAMES_KEPT)
def _fields_of(channel: str) -> bytes:
    """Return the fields that a channel's name stands for."""
    fields = b'"ch":' + protocol.encode(channel)
    prefix, _, name = channel.partition(":")
    return fields + b',"room_id":' + protocol.encode(name) if prefix == "room" else fields


def _nothing() -> None:
    """Follow an answer with nothing."""

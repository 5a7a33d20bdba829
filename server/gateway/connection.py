"""One connection: what a client and the server owe each other from the handshake to the close."""

import math
import random
import secrets
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from server import errors
from server.gateway.channel import Member
from server.gateway.limits import Bucket
from server.gateway.outlet import Outlet
from server.gateway.protocol import (
    BadMessage,
    CloseCode,
    Codec,
    CommandError,
    ConnectionId,
    Control,
    ErrorBody,
    Failed,
    Ok,
    Request,
    encode,
    error_body,
)
from server.gateway.shares import Share
from server.gateway.wire import Wire

if TYPE_CHECKING:
    from server.gateway.gateway import Gateway

log = structlog.get_logger()

# Errors that are not the client's doing do not count against it; asking too fast is.
_NOT_COUNTED = frozenset({"internal", "overloaded", "timeout_unknown_outcome", "room_full", "seat_expired"})
# Even without an id a client hears of messages that can never have worked.
_ALWAYS_ANSWERED = (errors.BAD_REQUEST.code, errors.UNKNOWN_OP.code)
# The first heartbeats of sockets that all came back at once are spread over half an interval.
_SPREAD = (0.5, 1.0)
_JITTER = (0.9, 1.0)
# A full socket is looked at this often.
STALL_CHECK_S = 1.0
# A backlog is written in pieces of this size: about what a socket takes that has just become writable again.
PIECE_BYTES = 64 * 1024
# Requests may follow `connect` in the same breath; they wait for its answer.
EARLY = 16


class Person(Protocol):
    """Who somebody is; what else the application's principal has is its own affair."""

    @property
    def user_id(self) -> UUID:
        """Return the account."""

    @property
    def role(self) -> str:
        """Return the account's role."""


class Login(msgspec.Struct, frozen=True):
    """A person and how long the token that proved it holds."""

    person: Person
    expires_at: float | None
    """Seconds of the Unix epoch (wall clock); None: as long as the account does."""


class Connection:
    """A WebSocket and its user; a `hub.Receiver` and a `wire.Peer`. Everything in it runs on the loop, nothing awaits."""

    __slots__ = (
        "_backlog", "_backlog_bytes", "_early", "_error_times", "_expiring_told", "_flood", "_gateway", "_heard",
        "_next_key", "_ping_at", "_pong_by", "_progress_at", "_started_at", "_taken", "_typing", "_waiting", "address",
        "check_at", "codec", "id", "in_flight", "is_congested", "is_ended", "is_paused", "login", "memberships",
        "outlet", "rooms", "share", "state", "user_id", "wire",
    )  # fmt: skip

    def __init__(self, gateway: "Gateway", wire: Wire, codec: Codec, *, address: str | None) -> None:
        now = gateway.monotonic()
        self.id = ConnectionId(secrets.token_urlsafe(12))
        self.user_id = ""
        """The user's id as text; empty before `connect`."""
        self.wire = wire
        self.outlet: Outlet = wire.outlet
        self.codec = codec
        self.address = address
        self.login: Login | None = None
        self.share: Share | None = None
        self.state: Literal["new", "connecting", "open"] = "new"
        self.is_ended = False
        """Closed or closing: nothing more is read or sent."""
        self.memberships: dict[str, Member] = {}
        self.rooms: dict[UUID, bool] = {}
        """Rooms that hear when this connection goes: True where its user has a seat, False where they wait for one."""
        self.in_flight = 0
        self.check_at = now + gateway.limits.auth_s
        """When `check` has something to do."""
        self.is_paused = False
        self.is_congested = False
        """The socket is full, or what waited for it is not written yet."""
        self._gateway = gateway
        self._started_at = now
        self._heard = now
        self._flood = Bucket(gateway.limits.messages)
        # What most connections never need is made when it is: an empty deque alone is 600 bytes.
        self._early: list[Request] | None = None
        self._waiting: deque[Request] | None = None
        self._error_times: deque[float] | None = None
        self._typing: dict[UUID, float] | None = None
        self._backlog: dict[int | str, bytes] = {}
        self._backlog_bytes = 0
        self._next_key = 0
        self._taken = 0
        self._progress_at = now
        self._ping_at = now
        self._pong_by: float | None = None
        self._expiring_told = False

    @property
    def log(self) -> structlog.stdlib.BoundLogger:
        """Return a logger that says whose connection this is."""
        whose = {"user_id": self.user_id} if self.user_id else {}
        bound: structlog.stdlib.BoundLogger = log.bind(connection_id=self.id, **whose)
        return bound

    @property
    def heard_at(self) -> datetime:
        """When the last frame came in (wall clock)."""
        return datetime.now(UTC) - timedelta(seconds=self._gateway.monotonic() - self._heard)

    # --- In: called by the wire ---

    def received(self, message: bytes) -> None:
        """Decode, limit, and hand on; never waits (a paused transport would starve the heartbeat)."""
        if self.is_ended:
            return
        limits = self._gateway.limits
        now = self._heard = self._gateway.monotonic()
        self._pong_by = None
        if len(message) > (limits.first_frame_bytes if self.login is None else limits.frame_bytes):
            self.close(CloseCode.FRAME_TOO_BIG, "frame too big")
            return
        for request in self.codec.decode(message):
            if limits.are_rates_on and self._flood.take(now):
                self.close(CloseCode.FLOOD, "flood")
                return
            self._take(request, now)

    def _take(self, request: Request | BadMessage, now: float) -> None:
        if self.is_ended:
            return
        if isinstance(request, BadMessage):
            self.fail(request.id, CommandError(errors.BAD_REQUEST, request.reason))
        elif request.op is UNSET:
            if request.id is not UNSET:
                self.fail(request.id, CommandError(errors.BAD_REQUEST, "op is missing"))
        elif self.state == "open":
            self._gateway.dispatch.take(self, request, request.op, now)
        elif request.op == "connect":
            self._begin(request)
        elif self.state == "connecting" and len(self._early or ()) < EARLY:
            self._early = [*(self._early or ()), request]
        else:
            self.fail(request.id, CommandError(errors.UNAUTHORIZED, "connect first"))

    def _begin(self, request: Request) -> None:
        if self.state != "new":
            self.fail(request.id, CommandError(errors.BAD_REQUEST, "connect was sent already"))
            return
        self.state = "connecting"
        self.check_at = math.inf  # the answer has a deadline of its own
        self._gateway.start(self._gateway.connect(self, request))

    def lost(self, code: int) -> None:
        """Forget everything: the socket is gone."""
        self._end()
        self._gateway.remove(self, int(code))

    # --- Life ---

    def opened(self, login: Login, share: Share) -> None:
        """Note whose connection this is."""
        self.login, self.share = login, share
        self.user_id = share.user_id

    def admitted(self) -> None:
        """Begin with what came after `connect`; its answer is sent."""
        self.state = "open"
        self._ping_at = self._gateway.monotonic() + self._gateway.limits.ping_s * random.uniform(*_SPREAD)  # noqa: S311
        self._plan()
        early, self._early = self._early, None
        for request in early or ():
            self._take(request, self._gateway.monotonic())

    def renew(self, login: Login) -> None:
        """Go on with a newer token or a changed account."""
        self.login = login
        self._expiring_told = False
        self._plan()

    def close(self, code: int, reason: str) -> None:
        """Close; the peer has some seconds to read what was sent before, then it is aborted."""
        if self.is_ended:
            return
        self._end()
        self.wire.close(code, reason)

    def _end(self) -> None:
        if self.is_ended:
            return
        self.is_ended = True
        self._backlog.clear()
        self._waiting = self._early = None
        if self.is_congested:
            self.is_congested = False
            self._gateway.metrics.congested.dec()
        for name in list(self.memberships):
            self._gateway.hub.leave(self, name)
        for room_id in list(self.rooms):
            self._gateway.unbind(self, room_id)
            self._gateway.tell_gone(self, room_id)
        if self.share is not None:
            self._gateway.shares.release(self.share)
            self.share = None

    # --- Time: called by the gateway's sweep when `check_at` has come ---

    def check(self, now: float) -> None:
        """Do what is due: refuse who is silent, heartbeat, token, stalled reader."""
        limits = self._gateway.limits
        if self.is_ended:
            return
        if self.state != "open":
            if now >= self._started_at + limits.auth_s:
                self.close(CloseCode.AUTH_TIMEOUT, "no connect in time")
            return
        if self._is_stalled(now):
            self.close(CloseCode.SLOW_CONSUMER, "reads too slowly")
            return
        if self._pong_by is not None and now >= self._pong_by:
            self.close(CloseCode.NO_PONG, "no heartbeat")
            return
        if now >= self._ping_at:
            self._ping_at = now + limits.ping_s * random.uniform(*_JITTER)  # noqa: S311 - spreads heartbeats
            if self._pong_by is None:
                self._pong_by = now + limits.pong_s
            self.send(self.codec.heartbeat, conflate="heartbeat")
        if self._has_expired():
            self.close(CloseCode.TOKEN_EXPIRED, "token expired")
            return
        self._plan()

    def _has_expired(self) -> bool:
        assert self.login is not None, "an open connection has a user"
        if self.login.expires_at is None:
            return False
        left_s = self.login.expires_at - datetime.now(UTC).timestamp()
        if left_s <= self._gateway.limits.expiring_s and not self._expiring_told:
            self._expiring_told = True
            self.control(Control("token.expiring", {"expires_in_s": max(0, round(left_s))}))
        return left_s <= 0

    def _is_stalled(self, now: float) -> bool:
        """Return whether the peer has taken nothing for too long; what does not fit the kernel waits in our memory."""
        if not self.is_paused:
            return False
        taken = self.wire.taken
        if taken > self._taken:
            self._taken, self._progress_at = taken, now
        return now - self._progress_at >= self._gateway.limits.stalled_s

    def _plan(self) -> None:
        """Set `check_at` to the first thing that will be due."""
        now = self._gateway.monotonic()
        due = self._ping_at
        if self._pong_by is not None:
            due = min(due, self._pong_by)
        if self.is_paused:
            due = min(due, now + STALL_CHECK_S)
        if self.login is not None and self.login.expires_at is not None:
            left_s = self.login.expires_at - datetime.now(UTC).timestamp()
            due = min(
                due, now + (left_s if self._expiring_told else left_s - self._gateway.limits.expiring_s)
            )
        self.check_at = due

    # --- Operations ---

    def claim(self, request: Request) -> bool:
        """Take one of the places for operations that run; False: the request waits, or was refused."""
        if self.in_flight < self._gateway.limits.concurrent_ops:
            self.in_flight += 1
            return True
        if self._waiting is None:
            self._waiting = deque()
        if len(self._waiting) < self._gateway.limits.waiting_ops:
            self._waiting.append(request)
        else:
            self.fail(request.id, CommandError(errors.OVERLOADED, "too many operations are waiting"))
        return False

    def finished(self) -> Request | None:
        """Give the place back, or hand it to the request that waits longest."""
        if self._waiting and not self.is_ended:
            return self._waiting.popleft()
        self.in_flight -= 1
        return None

    def is_typing_news(self, room_id: UUID, *, is_typing: bool) -> bool:
        """Return whether a typing message says something new; the same again within 2 s does not."""
        if self._typing is None:
            self._typing = {}
        if not is_typing:
            self._typing.pop(room_id, None)
            return True
        now = self._gateway.monotonic()
        is_news = now >= self._typing.get(room_id, 0.0)
        if is_news:
            self._typing[room_id] = now + self._gateway.limits.typing_s
        return is_news

    # --- Out ---

    def reply(self, request_id: int | UnsetType, ok: object) -> None:
        """Answer a request, if it wants an answer."""
        if request_id is not UNSET:
            self.send(self.codec.frame((encode(Ok(request_id, ok)),)))

    def fail(self, request_id: int | UnsetType, error: Exception) -> None:
        """Answer that a request failed, and count it; a client that makes error after error is closed."""
        body = error_body(error)
        if request_id is UNSET and body.code not in _ALWAYS_ANSWERED:
            return
        self.send(self.codec.frame((encode(Failed(body, request_id)),)))
        self._count(body)

    def _count(self, body: ErrorBody) -> None:
        if body.name in _NOT_COUNTED:
            return
        limits, now = self._gateway.limits, self._gateway.monotonic()
        if self._error_times is None:
            self._error_times = deque(maxlen=limits.errors)
        self._error_times.append(now)
        if len(self._error_times) == limits.errors and now - self._error_times[0] <= limits.errors_s:
            self.close(CloseCode.TOO_MANY_ERRORS, "too many errors")

    def control(self, control: Control) -> None:
        """Say something about the connection itself."""
        self.send(self.codec.frame((encode(control),)))

    def send(self, frame: bytes, *, conflate: str | None = None) -> None:
        """Write a frame, or keep it while the socket is full.

        With `conflate` it is volatile: a later one of that name takes its place, and all of them go before anything
        else is lost.
        """
        if self.is_ended:
            return
        if not self.is_congested:
            self.outlet.write(frame)
            return
        key: int | str
        if conflate is None:
            self._next_key += 1
            key = self._next_key
        else:
            key = conflate
            replaced = self._backlog.pop(key, None)
            if replaced is not None:
                self._backlog_bytes -= len(replaced)
                self._gateway.metrics.dropped.labels("conflated").inc()
        self._backlog[key] = frame
        self._backlog_bytes += len(frame)
        if self._is_overfull() and not self._drop_volatile():
            self.close(CloseCode.SLOW_CONSUMER, "reads too slowly")

    def _is_overfull(self) -> bool:
        limits = self._gateway.limits
        return self._backlog_bytes > limits.queue_bytes or len(self._backlog) > limits.queue_messages

    def _drop_volatile(self) -> bool:
        """Drop what may be lost; return whether the rest fits."""
        volatile = [key for key in self._backlog if isinstance(key, str)]
        for key in volatile:
            self._backlog_bytes -= len(self._backlog.pop(key))
        self._gateway.metrics.dropped.labels("slow").inc(len(volatile))
        return not self._is_overfull()

    def paused(self) -> None:
        """Leave the fast path: the socket is full."""
        self.is_paused = True
        if self.is_ended:
            return
        now = self._gateway.monotonic()
        self._taken, self._progress_at = self.wire.taken, now
        self.check_at = min(self.check_at, now + STALL_CHECK_S)
        if not self.is_congested:
            self.is_congested = True
            self._gateway.metrics.congested.inc()
            self._gateway.hub.congested(self)

    def resumed(self) -> None:
        """Write what waited; back on the fast path once all of it is out."""
        self.is_paused = False
        if self.is_ended:
            return
        size = 0
        while self._backlog and not self.is_paused:
            frame = self._backlog.pop(next(iter(self._backlog)))
            self._backlog_bytes -= len(frame)
            self.outlet.write(frame)
            size += len(frame)
            if size >= PIECE_BYTES:
                size = 0
                self.outlet.flush()  # may pause again, at once
        if not self._backlog and not self.is_paused:
            self.is_congested = False
            self._gateway.metrics.congested.dec()
            self._gateway.hub.relieved(self)
            self._gateway.presence.relieved(self)

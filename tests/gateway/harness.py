"""A gateway on a real uvicorn with real sockets; accounts, table and history are small ones of the tests' own."""

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import uvicorn
from litestar import Litestar
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from server import errors
from server.gateway.connection import Login
from server.gateway.dispatch import Call
from server.gateway.gateway import Gateway
from server.gateway.history import History
from server.gateway.limits import Limits
from server.gateway.metrics import Metrics
from server.gateway.protocol import ConnectionId, Position, Publication
from server.gateway.questions import Ask
from server.gateway.socket import with_sockets
from server.gateway.wire import protocol_class

ORIGIN = "http://page.test"


class Somebody(msgspec.Struct, frozen=True):
    user_id: UUID
    role: str = "student"


class People:
    """Doors: a token is `<user id>`, `<user id>/<seconds it holds>`; other things are refused."""

    def __init__(self) -> None:
        self.roles: dict[str, str] = {}
        self.blocked: set[str] = set()
        self.tickets: dict[str, str] = {}
        self.closed_channels: set[str] = set()
        self.delay_s = 0.0
        self.seen: list[Login] = []

    async def authenticate(self, token: str) -> Login:
        await asyncio.sleep(self.delay_s)
        name, _, holds_s = token.partition("/")
        try:
            user_id = UUID(name)
        except ValueError:
            raise errors.UnauthenticatedError("this token does not hold") from None
        if name in self.blocked:
            raise errors.ForbiddenError("banned")
        expires_at = time.time() + float(holds_s) if holds_s else None
        if holds_s and float(holds_s) <= 0:
            raise errors.TokenExpiredError("this token held once")
        return Login(Somebody(user_id, self.roles.get(name, "student")), expires_at)

    async def redeem(self, ticket: str) -> Login:
        token = self.tickets.pop(ticket, None)
        if token is None:
            raise errors.UnauthenticatedError("this ticket does not hold")
        return await self.authenticate(token)

    async def review(self, login: Login) -> Login | None:
        name = str(login.person.user_id)
        self.seen.append(login)
        if name in self.blocked:
            return None
        return Login(Somebody(login.person.user_id, self.roles.get(name, "student")), login.expires_at)

    async def may_read(self, login: Login, channel: str) -> bool:
        return channel not in self.closed_channels


class Seats:
    def __init__(self) -> None:
        self.ended: list[tuple[UUID, str, ConnectionId, datetime]] = []
        self.beats: list[tuple[UUID, Mapping[str, Sequence[ConnectionId]]]] = []
        self.heard: list[Mapping[str, datetime]] = []

    def gone(self, room_id: UUID, user_id: str, connection_id: ConnectionId, heard_at: datetime) -> None:
        self.ended.append((room_id, user_id, connection_id, heard_at))

    def seen(
        self,
        room_id: UUID,
        sockets: Mapping[str, Sequence[ConnectionId]],
        heard_at: Mapping[str, datetime],
    ) -> None:
        self.beats.append((room_id, sockets))
        self.heard.append(heard_at)


class Memory:
    """A history shared by the nodes of a test; `write` commits, what is published is another matter."""

    def __init__(self) -> None:
        self.events: dict[str, list[Publication]] = {}
        self.epochs: dict[str, str] = {}
        self.gone: set[str] = set()
        self.delay_s = 0.0
        self.reads = 0

    def write(
        self, channel: str, d: object = None, *, ev: str = "message.created", ts: int | None = None
    ) -> Publication:
        events = self.events.setdefault(channel, [])
        now = time.time_ns() // 1_000_000 if ts is None else ts
        events.append(Publication(len(events) + 1, ev, now, msgspec.json.encode(d or {})))
        return events[-1]

    async def heads(self, channels: Sequence[str]) -> Mapping[str, Position]:
        await asyncio.sleep(self.delay_s)
        return {
            channel: Position(self.epochs.get(channel, "e1"), len(self.events.get(channel, ())))
            for channel in channels
            if channel not in self.gone
        }

    async def read(self, channel: str, *, after: int, limit: int) -> Sequence[Publication]:
        self.reads += 1
        await asyncio.sleep(self.delay_s)
        return self.events.get(channel, [])[after : after + limit]


class Nap(msgspec.Struct, frozen=True):
    seconds: float = 0.0


class Say(msgspec.Struct, frozen=True):
    text: str
    room_id: UUID | None = None
    ch: str | None = None


class Enter(msgspec.Struct, frozen=True):
    room_id: UUID


class Command(msgspec.Struct, frozen=True):
    op: str
    request: type[msgspec.Struct]
    method: str | None
    run: Callable[["Node", Call, Any], Awaitable[Any]]


async def nap(_node: "Node", _call: Call, command: Nap) -> Any:
    await asyncio.sleep(command.seconds)
    return {"slept": command.seconds}


async def say(_node: "Node", _call: Call, command: Say) -> Any:
    return command


async def enter(node: "Node", call: Call, command: Enter) -> Any:
    """Join as rooms do: the snapshot has an offset, and events may come before the answer is out."""
    channel = f"room:{command.room_id}"
    call.expect(command.room_id)
    head = (await node.history.heads([channel]))[channel]
    await node.after_snapshot(channel)
    call.bind(command.room_id, off=head.off, seated=True)
    if channel in node.away:
        raise errors.OverloadedError("the media server is away")
    if channel in node.full:
        raise errors.ConflictError("the room is full", code="room_full", seats=4)
    return {"sub": {"epoch": head.epoch, "off": head.off}}


async def leave(_node: "Node", call: Call, command: Enter) -> Any:
    call.unbind(command.room_id)
    return {}


async def crash(_node: "Node", _call: Call, _command: Nap) -> Any:
    raise RuntimeError("a secret of the server")


TABLE = (
    Command("nap", Nap, "GET", nap),
    Command("nap.change", Nap, "POST", nap),
    Command("chat.send", Say, None, say),
    Command("room.join", Enter, None, enter),
    Command("room.leave", Enter, None, leave),
    Command("crash", Nap, None, crash),
)


class Node:
    """One server process, as far as the gateway is concerned."""

    def __init__(
        self,
        redis: Redis,
        *,
        node: str,
        limits: Limits,
        history: Memory,
        people: People,
        extra: Mapping[str, History],
        asks: Mapping[str, Ask],
    ) -> None:
        self.history = history
        self.people = people
        self.seats = Seats()
        self.full: set[str] = set()
        self.away: set[str] = set()
        self.ran: list[tuple[str, str | None]] = []
        self.registry = CollectorRegistry()
        self.on_snapshot: Callable[[str], Awaitable[None]] | None = None
        self.gateway = Gateway(
            node=node,
            redis=redis,
            doors=people,
            seats=self.seats,
            histories={"room:": history, "user:": history, **extra},
            rows=TABLE,
            execute=self.execute,
            asks=asks,
            origins=[ORIGIN],
            limits=limits,
            metrics=Metrics(self.registry),
            wall=lambda: datetime.now(UTC),
        )
        self.port = 0

    async def execute(self, row: Command, call: Call, command: msgspec.Struct, key: str | None) -> Any:
        self.ran.append((row.op, key))
        return await row.run(self, call, command)

    async def after_snapshot(self, channel: str) -> None:
        if self.on_snapshot is not None:
            await self.on_snapshot(channel)

    def post(self, channel: str, d: object = None, *, ev: str = "message.created") -> Publication:
        """Commit an event and publish it, as a room's turn does."""
        publication = self.history.write(channel, d, ev=ev)
        self.gateway.publish(channel, [publication])
        return publication

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def serving(
    redis_url: str,
    *,
    node: str | None = None,
    limits: Limits | None = None,
    history: Memory | None = None,
    people: People | None = None,
    extra: Mapping[str, History] | None = None,
    asks: Mapping[str, Ask] | None = None,
) -> AsyncIterator[Node]:
    """Serve on a free port until the block ends."""
    redis = Redis.from_url(redis_url, socket_timeout=None)
    running = Node(
        redis,
        node=node or str(uuid.uuid4()),
        limits=limits or Limits(),
        history=history or Memory(),
        people=people or People(),
        extra=extra or {},
        asks=asks or {},
    )
    app = with_sockets(Litestar([], openapi_config=None), running.gateway)
    config = uvicorn.Config(app, ws=protocol_class(), lifespan="off", log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    running.port = listener.getsockname()[1]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        stack.callback(listener.close)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        serving_task = tasks.create_task(server._serve([listener]))
        await stack.enter_async_context(running.gateway.running())
        await eventually(lambda: server.started and running.gateway.bus.is_up)
        try:
            yield running
        finally:
            server.should_exit = True
            server.force_exit = True
            await serving_task


async def eventually(is_so: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait until something inside the server is so."""
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 - the server has no event for what tests want to know
            await asyncio.sleep(0.005)


class Refused(Exception):  # noqa: N818 - what the protocol calls it
    def __init__(self, err: dict[str, Any]) -> None:
        super().__init__(err["name"], err["message"])
        self.code: int = err["code"]
        self.err = err


class Client:
    """A client that keeps what it gets: events by channel, control messages, answers."""

    def __init__(self, socket: ClientConnection, *, answers_heartbeats: bool = True) -> None:
        self.socket = socket
        self.is_msgpack = socket.subprotocol == "fourtalk.v1.msgpack"
        self.answers_heartbeats = answers_heartbeats
        self.events: list[dict[str, Any]] = []
        self.controls: list[dict[str, Any]] = []
        self.frames: list[str | bytes] = []
        self.errors: list[dict[str, Any]] = []
        self.heartbeats = 0
        self.connected: dict[str, Any] = {}
        self.close_code: int | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 1
        self._news = asyncio.Event()

    async def read(self) -> None:
        try:
            async for frame in self.socket:
                self.frames.append(frame)
                for message in self._decode(frame):
                    await self._take(message)
                self._news.set()
        except ConnectionClosed:
            pass
        self.close_code = self.socket.close_code
        for answer in self._answers.values():
            if not answer.done():
                answer.cancel()
        self._news.set()

    def _decode(self, frame: str | bytes) -> list[dict[str, Any]]:
        if isinstance(frame, str):
            return [msgspec.json.decode(line) for line in frame.split("\n")]
        found, rest = [], memoryview(frame)
        from server.gateway.protocol import msgpack_size

        while rest:
            size = msgpack_size(rest)
            found.append(msgspec.msgpack.decode(rest[:size]))
            rest = rest[size:]
        return found

    async def _take(self, message: dict[str, Any]) -> None:
        if not message:
            self.heartbeats += 1
            if self.answers_heartbeats:
                await self.send_raw(b"\x80" if self.is_msgpack else "{}")
        elif "ev" in message:
            self.events.append(message)
        elif "ctl" in message:
            self.controls.append(message)
        elif message.get("id") in self._answers:
            self._answers.pop(message["id"]).set_result(message)
        else:
            self.errors.append(message)

    async def send_raw(self, frame: str | bytes) -> None:
        await self.socket.send(frame)

    async def tell(self, op: str, d: object = None, *, ch: str | None = None) -> None:
        """Send without an id."""
        await self._send({"op": op, "d": d or {}} | ({"ch": ch} if ch else {}))

    async def call(self, op: str, d: object = None, *, ch: str | None = None, key: str | None = None) -> Any:
        number, self._next = self._next, self._next + 1
        message: dict[str, Any] = {"id": number, "op": op, "d": {} if d is None else d}
        if ch:
            message["ch"] = ch
        if key:
            message["key"] = key
        self._answers[number] = asyncio.get_running_loop().create_future()
        answer = self._answers[number]
        await self._send(message)
        async with asyncio.timeout(10):
            found = await answer
        if "err" in found:
            raise Refused(found["err"])
        return found["ok"]

    async def _send(self, message: dict[str, Any]) -> None:
        if self.is_msgpack:
            await self.socket.send(msgspec.msgpack.encode(message))
        else:
            await self.socket.send(msgspec.json.encode(message).decode())

    async def until(self, is_so: Callable[[], object], within_s: float = 5.0) -> None:
        """Wait until something that this client received makes it so."""
        async with asyncio.timeout(within_s):
            while not is_so():
                self._news.clear()
                await self._news.wait()

    async def until_offs(self, channel: str, offs: Sequence[int]) -> None:
        """Wait for exactly these events of a channel."""
        await self.until(lambda: self.offs(channel) == list(offs))

    async def until_events(self, count: int = 1) -> None:
        """Wait for so many events."""
        await self.until(lambda: len(self.events) >= count)

    async def until_errors(self, count: int) -> None:
        """Wait for answers to what was sent raw."""
        await self.until(lambda: len(self.errors) >= count)

    async def until_told(self) -> None:
        """Wait for a control message."""
        await self.until(lambda: self.controls)

    async def closed(self, within_s: float = 5.0) -> int:
        await self.until(lambda: self.close_code is not None, within_s)
        assert self.close_code is not None
        return self.close_code

    def offs(self, channel: str) -> list[int]:
        """The offsets of a channel as they came in."""
        return [event["off"] for event in self.events if event["ch"] == channel and "off" in event]


@asynccontextmanager
async def client(
    node: Node,
    *,
    token: str | None = "",
    subprotocol: str | None = "fourtalk.v1.json",
    origin: str | None = None,
    since: Sequence[dict[str, Any]] = (),
    answers_heartbeats: bool = True,
    **options: Any,
) -> AsyncIterator[Client]:
    """Open a socket; connect as a new user, as `token`, or (None) not at all."""
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(
            connect(
                f"ws://127.0.0.1:{node.port}/ws",
                subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
                additional_headers={"Origin": origin} if origin else None,
                ping_interval=None,
                max_size=None,
                proxy=None,
                close_timeout=2,
                **options,
            )
        )
        found = Client(opened, answers_heartbeats=answers_heartbeats)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stack.push_async_callback(opened.close)
        tasks.create_task(found.read())
        if token is not None:
            d = {
                "token": token or str(uuid.uuid4()),
                "client": {"name": "test", "version": "1"},
                "since": since,
            }
            found.connected = await found.call("connect", d)
        yield found

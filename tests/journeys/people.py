"""People who speak the protocol over real HTTP and real sockets, and know nothing else of the server."""

import asyncio
import io
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec

from tests.journeys.product import Product

Body = dict[str, Any]

PASSWORD = "Correct-horse-7"
# On a busy machine with two cores everything takes a while; what never comes fails after this.
PATIENCE_S = 15.0


class RefusedError(Exception):
    """The server answered an error over the socket."""

    def __init__(self, err: Body) -> None:
        super().__init__(f"{err['code']} {err['name']}: {err['message']}")
        self.code: int = err["code"]
        self.err = err


class Answer(msgspec.Struct, frozen=True):
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        """Return the JSON of the content."""
        return msgspec.json.decode(self.content or b"null")


class Device:
    """One socket of somebody, with everything that came over it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.connected: Body = {}
        self.events: list[Body] = []
        self.controls: list[Body] = []
        self.unasked: list[Body] = []
        """Answers to what was sent raw."""
        self.close_code: int | None = None
        self.answers_heartbeats = True
        self._news = asyncio.Condition()
        self._replies: dict[int, asyncio.Future[Body]] = {}
        self._last_id = 0

    async def connect(self, token: str, **more: Any) -> Body:
        """Say who one is."""
        d = {"token": token, "client": {"name": "journey", "version": "1"}, **more}
        self.connected = await self.ask("connect", d)
        return self.connected

    async def ask(
        self, op: str, d: Body | None = None, *, ch: str | None = None, key: str | None = None
    ) -> Body:
        """Ask and return what is in `ok`.

        Raises:
            RefusedError: The answer is an error.
        """
        self._last_id += 1
        request: Body = {"id": self._last_id, "op": op, "d": {} if d is None else d}
        request |= {name: value for name, value in (("ch", ch), ("key", key)) if value is not None}
        reply = self._replies[self._last_id] = asyncio.get_running_loop().create_future()
        await self.socket.send_str(msgspec.json.encode(request).decode())
        async with asyncio.timeout(PATIENCE_S):
            answer = await reply
        if "err" in answer:
            raise RefusedError(answer["err"])
        ok: Body = answer["ok"]
        return ok

    async def refused(self, op: str, d: Body | None = None, **envelope: Any) -> Body:
        """Ask, expecting an error, and return it."""
        try:
            ok = await self.ask(op, d, **envelope)
        except RefusedError as refusal:
            return refusal.err
        raise AssertionError(f"{op} was not refused: {ok}")

    async def saw(self, ev: str, *, within_s: float = PATIENCE_S, **facts: Any) -> Body:
        """Wait until an event with these facts has come, also before this call, and return it."""

        def find() -> Body | None:
            return next((e for e in self.events if e["ev"] == ev and facts.items() <= e["d"].items()), None)

        found = await self.until(find, f"{ev} {facts}", within_s=within_s)
        assert isinstance(found, dict)
        return found

    async def closed(self, *, within_s: float = PATIENCE_S) -> int:
        """Wait for the end and return its code."""
        code = await self.until(lambda: self.close_code, "the end of the socket", within_s=within_s)
        assert isinstance(code, int)
        return code

    async def until(self, find: Callable[[], object], what: str, *, within_s: float = PATIENCE_S) -> object:
        """Wait until something that came makes it so, and return it."""
        try:
            async with asyncio.timeout(within_s), self._news:
                while not (found := find()):
                    await self._news.wait()
                return found
        except TimeoutError:
            seen = [(event["ev"], event["d"]) for event in self.events]
            raise AssertionError(f"never came: {what}; what came is {seen} {self.controls}") from None

    def seen(self, ev: str) -> list[Body]:
        """Return the data of all events of a name so far."""
        return [event["d"] for event in self.events if event["ev"] == ev]

    async def read(self) -> None:
        """Take what comes until the end."""
        async for frame in self.socket:
            if frame.type is aiohttp.WSMsgType.TEXT:
                for line in frame.data.split("\n"):
                    await self._take(msgspec.json.decode(line))
        async with self._news:
            self.close_code = self.socket.close_code or 1006
            self._news.notify_all()
        for reply in self._replies.values():
            if not reply.done():
                reply.cancel()

    async def _take(self, message: Body) -> None:
        if not message:
            if self.answers_heartbeats:
                await self.socket.send_str("{}")
            return
        reply = self._replies.pop(message.get("id", 0), None)
        async with self._news:
            if reply is not None:
                reply.set_result(message)
            else:
                kind = {"ev": self.events, "ctl": self.controls}
                next((found for name, found in kind.items() if name in message), self.unasked).append(message)
            self._news.notify_all()


class Person:
    """An account, its token, and the devices it is connected with."""

    def __init__(self, town: "Town", *, user_id: str, token: str, email: str, name: str = "") -> None:
        self.id = user_id
        self.token = token
        self.email = email
        self.name = name
        self.address: str | None = None
        """Where requests seem to come from."""
        self.devices: list[Device] = []
        self._town = town

    @property
    def device(self) -> Device:
        """Return the first device."""
        return self.devices[0]

    async def send(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Ask over HTTP and return whatever comes."""
        own = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": str(uuid.uuid4())}
        if self.address is not None:
            own["X-Forwarded-For"] = self.address
        return await self._town.send(method, path, body, **own | headers)

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Ask over HTTP and return the answer's JSON; a problem fails the test."""
        answer = await self.send(method, path, body, **headers)
        assert answer.status < 400, f"{method} {path}: {answer.status} {answer.content!r}"
        return answer.body

    async def connect(self, **more: Any) -> Device:
        """Open one more socket."""
        device = await self._town.open_socket()
        await device.connect(self.token, **more)
        self.devices.append(device)
        return device

    async def ask(self, op: str, d: Body | None = None, **envelope: Any) -> Body:
        """Ask over the first device."""
        return await self.device.ask(op, d, **envelope)

    async def refused(self, op: str, d: Body | None = None, **envelope: Any) -> Body:
        """Ask over the first device, expecting an error."""
        return await self.device.refused(op, d, **envelope)

    async def saw(self, ev: str, **facts: Any) -> Body:
        """Wait for an event on the first device."""
        return await self.device.saw(ev, **facts)

    async def join(self, room_id: str, **options: Any) -> Body:
        """Take a seat over the first device."""
        return await self.ask("room.join", {"room_id": room_id, **options})

    async def leave(self, room_id: str) -> None:
        """Give the seat up."""
        await self.ask("room.leave", {"room_id": room_id})

    async def notified(self, kind: str) -> Body:
        """Return the newest notification of a kind, once there is one; it is in the list as it was pushed."""
        pushed = await self.saw("notification.created", type=kind)
        listed = await self.call("GET", "/api/v1/notifications?limit=100")
        assert pushed["d"] in listed["items"]
        found: Body = pushed["d"]
        return found

    async def wallet(self) -> tuple[int, int, int]:
        """Return balance, held, and earnings that can be paid out."""
        has = await self.call("GET", "/api/v1/wallet")
        return has["balance"]["amount"], has["held"]["amount"], has["earnings"]["available"]["amount"]


class Town:
    """Everybody in a story, the server they use, and the clock they live by."""

    def __init__(self, product: Product, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        self.product = product
        self._http = http
        self._tasks = tasks
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []

    async def send(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Ask over HTTP as nobody; a body of bytes goes as it is."""
        content: io.BytesIO | None = None
        if body is not None:
            content = io.BytesIO(body if isinstance(body, bytes) else msgspec.json.encode(body))
        async with (
            asyncio.timeout(PATIENCE_S * 2),
            self._http.request(
                method,
                self.product.base + path,
                data=content,
                headers={"Content-Type": "application/json"} | headers,
            ) as answer,
        ):
            return Answer(answer.status, answer.headers, await answer.read())

    async def mint(self, count: int = 1, role: str = "student") -> list[Person]:
        """Make accounts from the command line."""
        return [self._person(made) for made in await asyncio.to_thread(self.product.mint, count, role)]

    async def admin(self) -> Person:
        """Return the administrator, always the same."""
        return self._person(await asyncio.to_thread(lambda: self.product.admin))

    def _person(self, made: Body) -> Person:
        return Person(self, user_id=made["user_id"], token=made["access_token"], email=made["email"])

    async def register(self, name: str, *, role: str = "student", referral_code: str | None = None) -> Person:
        """Make an account over HTTP."""
        email = f"{name.lower()}-{uuid.uuid4().hex[:10]}@journey.example"
        body = {"email": email, "password": PASSWORD, "first_name": name, "last_name": "Tester", "role": role}
        if referral_code is not None:
            body["referral_code"] = referral_code
        answer = await self.send("POST", "/api/v1/auth/register", body)
        assert answer.status == 201, answer.content
        made = answer.body
        return Person(self, user_id=made["user"]["id"], token=made["access_token"], email=email, name=name)

    async def open_socket(self, **headers: str) -> Device:
        """Open a socket that has not said who it is."""
        socket = await self._http.ws_connect(
            self.product.base.replace("http", "ws", 1) + "/ws",
            protocols=("fourtalk.v1.json",),
            headers=headers,
            max_msg_size=0,
        )
        self._sockets.append(socket)
        device = Device(socket)
        self._tasks.create_task(device.read())
        return device

    async def now(self) -> datetime:
        """Return business time."""
        return await self._move({"advance_s": 0})

    async def advance(self, **time: float) -> datetime:
        """Let business time pass; everything due by then has run."""
        return await self._move({"advance_s": timedelta(**time).total_seconds()})

    async def go_to(self, moment: datetime) -> datetime:
        """Let business time pass to a moment."""
        return await self._move({"set": instant(moment)})

    async def hang_up(self) -> None:
        """Close every socket."""
        for socket in self._sockets:
            await socket.close()

    async def _move(self, move: Body) -> datetime:
        answer = await self.send("POST", "/api/v1/dev/clock", move)
        assert answer.status == 200, answer.content
        return parsed(answer.body["now"])


@asynccontextmanager
async def town(product: Product) -> AsyncIterator[Town]:
    """Let people use a server; whoever is still connected at the end is not any more."""
    failure: Exception | None = None
    # However many are in town, nobody waits for somebody else's socket to close. None is kept: the server ends one that
    # rests for five seconds, and an order that goes out at that moment fails.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as tasks:
        found = Town(product, http, tasks)
        try:
            yield found
        except Exception as error:  # noqa: BLE001 - raised below, where no group of errors is made of it
            failure = error
        finally:
            await found.hang_up()
    if failure is not None:
        raise failure


@asynccontextmanager
async def story(product: Product) -> AsyncIterator[Town]:
    """Let people use a server; at the end every invariant holds and nothing went wrong inside."""
    async with town(product) as found:
        yield found
    violations, errors = await asyncio.to_thread(product.violations), product.errors()
    assert not violations, violations
    assert not errors, errors[0]


async def eventually(is_so: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait until something that can only be asked for is so."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await is_so():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"never so: {what}") from None


def instant(moment: datetime) -> str:
    """Return a moment as the protocol writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parsed(text: str) -> datetime:
    """Return the moment that an answer names; it is in UTC and says so."""
    assert text.endswith("Z"), text
    return msgspec.convert(text, datetime)


def usd(amount: int) -> Body:
    """Return money as the protocol writes it."""
    return {"amount": amount, "currency": "USD"}

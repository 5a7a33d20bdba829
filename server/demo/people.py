"""People of the demo: each speaks HTTP and holds one WebSocket, as a browser would."""

import asyncio
import base64
import uuid
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

# Nothing in the demo takes longer than a second; a claim that waits for more has failed.
PATIENCE_S = 15.0

Body = dict[str, Any]


class RefusedError(Exception):
    """The server answered an error; `code` is its stable code or number."""

    def __init__(self, code: str | int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Person:
    """One account with its access token and, once connected, its socket."""

    def __init__(
        self, http: aiohttp.ClientSession, base: str, *, user_id: str, name: str, token: str
    ) -> None:
        self.user_id = user_id
        self.name = name
        self.events: list[Body] = []
        self._http = http
        self._base = base
        self._token = token
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._replies: dict[int, asyncio.Future[Body]] = {}
        self._arrived = asyncio.Condition()
        self._last_id = 0

    async def call(self, method: str, path: str, body: Body | None = None) -> Any:
        """Ask over HTTP and return the answer's JSON.

        Raises:
            RefusedError: The answer is a problem.
        """
        headers = {"Authorization": f"Bearer {self._token}", "Idempotency-Key": str(uuid.uuid4())}
        async with self._http.request(method, self._base + path, json=body, headers=headers) as answer:
            content = msgspec.json.decode(await answer.read())
            if answer.status >= 400:
                raise RefusedError(content.get("code", answer.status), content.get("detail", ""))
            return content

    async def connect(self, tasks: asyncio.TaskGroup) -> Self:
        """Open the socket; its reader is a task of `tasks` and ends with the socket."""
        self._socket = await self._http.ws_connect(
            self._base.replace("http", "ws") + "/ws", protocols=("fourtalk.v1.json",)
        )
        tasks.create_task(self._read(self._socket))
        await self.ask("connect", {"token": self._token, "client": {"name": "demo", "version": "1"}})
        return self

    async def ask(self, op: str, d: Body | None = None, *, ch: str | None = None) -> Body:
        """Ask over the socket and return what is in `ok`.

        Raises:
            RefusedError: The reply is an error.
        """
        assert self._socket is not None, "connect first"
        self._last_id += 1
        request: Body = {"id": self._last_id, "op": op, "d": d or {}} | ({"ch": ch} if ch else {})
        reply = self._replies[self._last_id] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(msgspec.json.encode(request).decode())
        async with asyncio.timeout(PATIENCE_S):
            answer = await reply
        if "err" in answer:
            raise RefusedError(answer["err"]["code"], answer["err"]["message"])
        ok: Body = answer["ok"]
        return ok

    async def saw(self, ev: str, **facts: Any) -> Body:
        """Wait until an event with these facts has arrived (also before this call) and return it."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            while True:
                for event in self.events:
                    if event["ev"] == ev and facts.items() <= event["d"].items():
                        return event
                await self._arrived.wait()

    async def hang_up(self) -> None:
        """Close the socket as a closed tab would."""
        if self._socket is not None:
            await self._socket.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in socket:
            if frame.type is not aiohttp.WSMsgType.TEXT:
                break
            for line in frame.data.splitlines():
                message: Body = msgspec.json.decode(line)
                if not message:
                    await socket.send_str("{}")
                elif "id" in message:
                    self._replies.pop(message["id"]).set_result(message)
                elif "ev" in message:
                    async with self._arrived:
                        self.events.append(message)
                        self._arrived.notify_all()


class Town:
    """Everybody in the demo, and the clock they live by."""

    def __init__(self, base: str) -> None:
        self.base = base
        # No connection is kept: the server ends one that rests for five seconds, and an order that goes out at that
        # moment fails.
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        self.on_advance: Callable[[datetime], None] = lambda _: None
        """Hears business time after each advance."""
        self._people: list[Person] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.close()

    async def register(self, name: str, *, role: str = "student", referral_code: str | None = None) -> Person:
        """Make an account over HTTP."""
        password = base64.b32encode(uuid.uuid4().bytes).decode().rstrip("=") + "a1!"
        body = {
            "email": f"{name.lower()}-{uuid.uuid4().hex[:8]}@demo.example",
            "password": password,
            "first_name": name,
            "last_name": "Demo",
            "role": role,
        } | ({"referral_code": referral_code} if referral_code else {})
        async with self.http.post(f"{self.base}/api/v1/auth/register", json=body) as answer:
            content = msgspec.json.decode(await answer.read())
            if answer.status != 201:
                raise RefusedError(content.get("code", answer.status), content.get("detail", ""))
        return self.person(name, content["user"]["id"], content["access_token"])

    async def log_in(self, name: str, email: str, password: str) -> Person:
        """Return the person of an existing account."""
        body = {"email": email, "password": password}
        async with self.http.post(f"{self.base}/api/v1/auth/login", json=body) as answer:
            content = msgspec.json.decode(await answer.read())
        return self.person(name, content["user"]["id"], content["access_token"])

    async def advance(self, seconds: float) -> datetime:
        """Let business time pass, and return what it is then; everything due by then has run."""
        return await self._move_clock({"advance_s": seconds})

    async def travel(self, until: datetime) -> None:
        """Let business time pass until a moment; everything due by then has run."""
        await self._move_clock({"set": until.strftime("%Y-%m-%dT%H:%M:%SZ")})

    async def _move_clock(self, body: Body) -> datetime:
        async with self.http.post(f"{self.base}/api/v1/dev/clock", json=body) as answer:
            now = msgspec.convert(msgspec.json.decode(await answer.read())["now"], datetime)
        self.on_advance(now)
        return now

    async def hang_up(self) -> None:
        """Close everybody's socket."""
        for person in self._people:
            await person.hang_up()

    def person(self, name: str, user_id: str, token: str) -> Person:
        """Return the person of an account whose token is known."""
        person = Person(self.http, self.base, user_id=user_id, name=name, token=token)
        self._people.append(person)
        return person

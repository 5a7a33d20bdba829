"""Stripe behind a socket: it outlives the processes that speak to it, and lets them be the payer and the bank too."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn

from billing.stripe_api import Access, StripeApi
from billing.stripe_events import TABLE
from billing.stripe_gate import Gate
from server.integrations.stripe_fake.fake import StripeFake

KEY, SECRET = "sk_test_of_the_chaos", "whsec_of_the_chaos"
BASE = "http://stripe.test"
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Event(msgspec.Struct, frozen=True):
    """A delivery, as it would be posted."""

    body: str
    signature: str


class Bank:
    """The fake with a clock that is moved by hand, as an application: the API, and `/hand/…` for people and banks."""

    def __init__(self) -> None:
        self.now = START
        self.fake = StripeFake(key=KEY, secret=SECRET, now=lambda: self.now)
        self._seen = 0
        self._bodies: list[bytes] = []
        """Of the fake's events, in their order."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not scope["path"].startswith("/hand/"):
            await self.fake(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        asked = msgspec.json.decode(body)
        answer = msgspec.json.encode(await self._hand(scope["path"].removeprefix("/hand/"), asked))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    async def _hand(self, what: str, asked: dict[str, Any]) -> object:
        match what:
            case "act":
                return (await self.fake.act(asked["path"], **asked["params"])).body
            case "events":
                # Whatever the event is about names us in its metadata, or is what was asked for.
                # Of those that we subscribe to.
                fresh = self.fake.events[self._seen :]
                self._seen += len(fresh)
                self._bodies += [msgspec.json.encode(one) for one in fresh if one["type"] in TABLE]
                words = [word.encode() for word in asked["about"]]
                about = [body for body in self._bodies if any(word in body for word in words)]
                wall = datetime.now(UTC)
                return [Event(body.decode(), self.fake.sign(body, at=wall)) for body in about]
            case "pass":
                self.now += timedelta(seconds=asked["seconds"])
                return self.now
            case _:
                self.now = max(self.now, datetime.fromisoformat(asked["moment"]))
                return self.now

    def authorized(self) -> int:
        """Return how many authorisations nobody has captured or let go."""
        return sum(one.get("status") == "requires_capture" for one in self.fake.objects.values())

    def transfers(self) -> tuple[int, int]:
        """Return what was transferred, and what came back of it."""
        found = [one for one in self.fake.objects.values() if one["object"] == "transfer"]
        return sum(one["amount"] for one in found), sum(one["amount_reversed"] for one in found)


@contextlib.asynccontextmanager
async def listening(bank: Bank, socket: Path) -> AsyncIterator[None]:
    """Serve it at a Unix socket."""
    server = uvicorn.Server(
        uvicorn.Config(bank, uds=str(socket), lifespan="off", log_config=None, access_log=False)
    )
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        yield
        server.should_exit = True
        await serving


class Hand:
    """One process's way there."""

    def __init__(self, socket: str) -> None:
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=socket, verify=False), base_url=BASE, timeout=20
        )
        self.api = StripeApi(Access(KEY, BASE), self._http, retries=0, gate=Gate(per_second=1e6))

    async def act(self, path: str, **params: Any) -> dict[str, Any]:
        """Let people or banks do something; doing it twice may be refused, and changes nothing."""
        found: dict[str, Any] = await self._ask("act", path=path, params=params)
        return found

    async def events(self, *about: str) -> list[Event]:
        """Return the deliveries about these ids."""
        return msgspec.convert(await self._ask("events", about=about), list[Event])

    async def passes(self, by: timedelta = timedelta()) -> datetime:
        """Let time pass there, and return which it is."""
        return datetime.fromisoformat(await self._ask("pass", seconds=by.total_seconds()))

    async def reaches(self, moment: datetime) -> datetime:
        """Let time pass until then, if it is earlier, and return which it is; done again, it is done once."""
        return datetime.fromisoformat(await self._ask("reach", moment=moment.isoformat()))

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, what: str, **asked: Any) -> Any:
        answer = await self._http.post(f"/hand/{what}", content=msgspec.json.encode(asked))
        return msgspec.json.decode(answer.content)

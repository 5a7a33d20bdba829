"""The outside of the account: its API as an ASGI application, a network that loses things, and signed webhooks."""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import msgspec
import structlog

from server.integrations.stripe_fake import connect, disputes, payments
from server.integrations.stripe_fake.forms import read_form
from server.integrations.stripe_fake.machine import (
    OURS,
    Answer,
    Call,
    Machine,
    Object,
    Refusal,
    Routes,
    Table,
)

log = structlog.get_logger()

# In test mode Stripe tries three times over some hours; here nobody wants to wait so long.
RETRY_AFTER_S = (1.0, 10.0, 60.0)
# What falls due between calls, payouts that arrive and sessions that expire, is told at most so late.
TICK_S = 5.0

Fault = Literal["none", "lose_request", "lose_response", "break", "hang", "busy"]
"""What happens to a call: lost on the way there or back, 500 after its effect, no answer until `release`, 429."""


class Fate(msgspec.Struct, frozen=True):
    """What the network does with one webhook."""

    copies: int = 1
    """0 loses it, 2 delivers it twice."""
    delay_s: float = 0.0
    """Held back for so long, while later ones overtake it."""
    is_signed: bool = True
    """False: signed by somebody else."""


class Keeper(Protocol):
    """Where calls are kept, when they are; `tape.Tape` is one."""

    async def read(self) -> Sequence[Call]:
        """Return calls of others since the last time."""

    async def append(self, call: Call) -> Sequence[Call]:
        """Keep a call, and return those of others that came before it."""


Send = Callable[[bytes, Mapping[str, str]], Awaitable[int]]
"""Brings a webhook (body, headers) and returns the status of the answer."""


class StripeFake:
    """An account at Stripe. Its webhooks are sent only inside its context, and to `send`, if there is one."""

    def __init__(
        self,
        *,
        key: str,
        secret: str,
        pages: str = "http://pay.test",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        send: Send | None = None,
        tape: Keeper | None = None,
        retry_after_s: tuple[float, ...] = RETRY_AFTER_S,
    ) -> None:
        self.fault: Callable[[Call], Fault] = lambda _: "none"
        """Asked once for each call of the API."""
        self.fate: Callable[[Object], Fate] = lambda _: Fate()
        """Asked once for each webhook."""
        self.send = send
        self.hanging = asyncio.Event()
        """A call has had its effect and hangs."""
        self.calls: list[Call] = []
        """Every call of the API that arrived."""
        self._key = key
        self._secret = secret
        self._now = now
        self._wall = wall
        self._tape = tape
        self._retry_after_s = retry_after_s
        table: Table = {
            **payments.TABLE,
            **connect.TABLE,
            **disputes.TABLE,
            ("ACT", "/tick"): _tick,
            ("ACT", "/events/{}/delivered"): _delivered,
        }
        self._machine = Machine(Routes(table, {**payments.EXPIRIES, **connect.EXPIRIES}), pages=pages)
        self._busy = asyncio.Lock()
        self._in_flight: set[tuple[str, str]] = set()
        self._released = asyncio.Event()
        self._senders: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()
        self._tasks: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._spawn(self._tick_for_ever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sender in self._senders:
            sender.cancel()
        self._tasks = None
        await self._stack.__aexit__(kind, error, trace)

    # What people and banks do ----------------------------------------------------------------------------------

    @property
    def events(self) -> list[Object]:
        """Every event in the order in which things happened, lost ones too."""
        return self._machine.events

    @property
    def objects(self) -> dict[str, Object]:
        """Every object as it is now, by id; only to look at."""
        return self._machine.objects

    async def act(self, path: str, **params: Any) -> Answer:
        """Let people or banks do something: the paths of method ACT in the tables."""
        return await self._happen(self._call("ACT", path, params))

    async def pay(self, checkout: str, card: str = "4242", *, save: bool = False) -> Answer:
        """Pay on a Checkout page."""
        return await self.act(f"/checkout/{checkout}/pay", card=card, save=save)

    async def save_card(self, customer: str, card: str = "4242") -> str:
        """Save a card, and return its id."""
        return str((await self.act(f"/customers/{customer}/save", card=card)).body["id"])

    async def find(self, id_: str) -> Object | None:
        """Return an object as it is now, whichever process made it."""
        await self.tick()
        return self._machine.objects.get(id_)

    def onboarded_at(self, account: str) -> str | None:
        """Return where the onboarding of an account leads back to."""
        return self._machine.returns.get(account)

    async def tick(self) -> None:
        """Let what is due by now happen."""
        async with self._busy:
            await self._catch_up()

    def deliver_to(self, send: Send) -> None:
        """Send webhooks there from now on, those first that nobody took before the last restart."""
        self.send = send
        self._spawn(self._deliver_rest(), name="webhook")

    def release(self) -> None:
        """Answer the calls that hang; those that come later may hang again."""
        self._released.set()
        self._released = asyncio.Event()
        self.hanging.clear()

    # The API ---------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        call = await self._read(scope, receive)
        answer = await self._answer(call, _header(scope, "authorization"))
        headers = [
            (b"content-type", b"application/json"),
            (b"request-id", b"req_test"),
            *([(b"idempotent-replayed", b"true")] if answer.replayed else ()),
            *([(b"stripe-should-retry", b"false")] if answer.status == 500 else ()),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": msgspec.json.encode(answer.body)})

    async def _read(self, scope: Any, receive: Any) -> Call:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["path"]
        text = scope["query_string"].decode() if scope["method"] == "GET" else body.decode()
        if path.startswith("/v2/") and scope["method"] == "POST":
            params = msgspec.json.decode(body)
        else:
            params = read_form(text)
        return self._call(
            scope["method"],
            path,
            params,
            key=_header(scope, "idempotency-key"),
            account=_header(scope, "stripe-account") or OURS,
        )

    async def _answer(self, call: Call, authorization: str | None) -> Answer:
        if authorization != f"Bearer {self._key}":
            return _answer_of(Refusal("api_key_invalid", "Invalid API Key provided", status=401))
        fault = self.fault(call)
        if fault == "lose_request":
            raise ConnectionResetError("the fake lost a request")
        self.calls.append(call)
        if fault == "busy":
            return _answer_of(Refusal("rate_limit", "Too many requests hit the API too quickly.", status=429))
        place = (call.account, call.key or "")
        if call.key is not None and place in self._in_flight:
            words = "There is currently another in-progress request using this Idempotent Key."
            return _answer_of(Refusal("idempotency_key_in_use", words, status=409, kind="idempotency_error"))
        self._in_flight.add(place)
        try:
            answer = await self._happen(msgspec.structs.replace(call, breaks=fault == "break"))
            if fault == "hang":
                self.hanging.set()
                await self._released.wait()
        finally:
            self._in_flight.discard(place)
        if fault == "lose_response":
            raise ConnectionResetError("the fake lost a response")
        return answer

    def _call(
        self,
        method: str,
        path: str,
        params: dict[str, Any],
        *,
        key: str | None = None,
        account: str = OURS,
    ) -> Call:
        at = int(self._now().timestamp())
        return Call(at=at, method=method, path=path, params=params, key=key, account=account)

    # How things happen -----------------------------------------------------------------------------------------

    async def _happen(self, call: Call) -> Answer:
        async with self._busy:
            await self._catch_up()
            return await self._do(call)

    async def _catch_up(self) -> None:
        """Take in what other processes did, and what has fallen due."""
        if self._tape is not None:
            self._replay(await self._tape.read())
        tick = self._call("ACT", "/tick", {})
        if self._machine.due_at <= tick.at:
            await self._do(tick)

    async def _do(self, call: Call) -> Answer:
        if call.method != "GET" and self._tape is not None:
            self._replay(await self._tape.append(call))
        known = len(self._machine.events)
        answer = self._machine.do(call)
        for event in self._machine.events[known:]:
            self._tell(event)
        return answer

    def _replay(self, calls: Sequence[Call]) -> None:
        """Follow other processes; they send the webhooks of what they did."""
        for call in calls:
            self._machine.do(call)

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            with _passing():
                await self.tick()

    # Webhooks --------------------------------------------------------------------------------------------------

    def sign(self, body: bytes, *, at: datetime | None = None, secret: str | None = None) -> str:
        """Return the Stripe-Signature header of a delivery."""
        time = int((at or self._wall()).timestamp())
        signed = f"{time}.".encode() + body
        mac = hmac.new((secret or self._secret).encode(), signed, hashlib.sha256).hexdigest()
        return f"t={time},v1={mac},v0={'0' * 64}"

    async def settled(self) -> None:
        """Wait until every webhook is delivered, given up or lost."""
        while waiting := [task for task in self._senders if task.get_name() == "webhook"]:
            await asyncio.wait(waiting)

    def _tell(self, event: Object) -> None:
        if self._tasks is None or self.send is None:
            return
        fate = self.fate(event)
        for _ in range(fate.copies):
            self._spawn(self._deliver(self.send, event, fate), name="webhook")

    async def _deliver_rest(self) -> None:
        with _passing():
            await self.tick()
        for event in self._machine.events:
            if event["id"] not in self._machine.delivered:
                self._tell(event)

    async def _deliver(self, send: Send, event: Object, fate: Fate) -> None:
        body = msgspec.json.encode(event)
        if fate.delay_s:
            await asyncio.sleep(fate.delay_s)
        for wait_s in (*self._retry_after_s, None):
            signature = self.sign(body, secret=None if fate.is_signed else "whsec_somebody_else")
            headers = {"Stripe-Signature": signature, "Content-Type": "application/json"}
            with _passing():
                if 200 <= await send(body, headers) < 300:
                    await self.act(f"/events/{event['id']}/delivered")
                    return
            if wait_s is not None:
                await asyncio.sleep(wait_s)

    def _spawn(self, work: Coroutine[Any, Any, None], *, name: str | None = None) -> None:
        assert self._tasks is not None, "only inside the context"
        task = self._tasks.create_task(work, name=name)
        self._senders.add(task)
        task.add_done_callback(self._senders.discard)


@contextlib.contextmanager
def _passing() -> Iterator[None]:
    """Note trouble of the database or of the receiver, which passes: what was to be done is done later."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - it may be anything of theirs, and must end nothing here
        log.warning("test_payments_interrupted", error=type(error).__name__)


def _tick(_machine: Machine, _params: Mapping[str, Any]) -> Object:
    """Time passes; the machine has done it before it came here."""
    return {}


def _delivered(machine: Machine, _params: Mapping[str, Any], event: str) -> Object:
    """Somebody has taken a webhook."""
    machine.delivered.add(event)
    return {}


def _answer_of(refusal: Refusal) -> Answer:
    return Answer(refusal.status, refusal.body)


def _header(scope: Any, name: str) -> str | None:
    return next(
        (value.decode() for header, value in scope["headers"] if header.decode().lower() == name), None
    )

"""Clients that follow the protocol's recovery to the letter, and note whatever the server owes them."""

import asyncio
import contextlib
import random
import socket
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from tests.chaos.server import Account

Body = dict[str, Any]
Taken = Callable[[Body], None]
Waiting = dict[int, tuple[asyncio.Future[Body], Taken | None]]

# A command is answered within 5 s, or the server says that it does not know; the rest is for a busy machine.
ANSWER_S = 20.0
# The pause before another try: shorter than any real client's, so that servers are met while they start.
AGAIN_S = 0.1
HISTORY_PAGE = 200
# PROTOCOL 3: after these codes a client waits at least a second, and twice as long each time.
BACK_OFF = range(4100, 4104)
BACK_OFF_S = 1.0
# What the kernel keeps for somebody who reads nothing; by itself it would be a hundred times as much.
RECEIVE_BYTES = 4096

ROOM_FULL = 120
OVERLOADED = 130
UNKNOWN_OUTCOME = 132
UNAVAILABLE = 503


class LostError(Exception):
    """The socket went away before the answer came, or there is none."""


class RefusedError(Exception):
    """The server answered an error; `code` is its number, or the status over HTTP."""

    def __init__(self, code: int, body: Body) -> None:
        super().__init__(f"{code}: {body}")
        self.code = code
        self.is_retryable = code == UNAVAILABLE or bool(body.get("retryable"))


class Place(msgspec.Struct):
    """How far a client has a channel."""

    epoch: str
    off: int


class Town:
    """What clients share: connections, and the group that owns their tasks."""

    def __init__(self, session: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        self.session = session
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something run beside the test, until it ends or the test does."""
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def send_home(self) -> None:
        """End everything that runs."""
        for task in self._running:
            task.cancel()

    def client(self, base: str, account: Account) -> "Client":
        """Return somebody who has not connected yet."""
        return Client(self, base, account)

    async def call(
        self, base: str, account: Account, method: str, path: str, body: Body | None = None, *, key: str = ""
    ) -> Any:
        """Ask over HTTP and return the answer's JSON.

        Raises:
            LostError: There was no answer.
            RefusedError: The answer is a problem.
        """
        headers = {
            "Authorization": f"Bearer {account.access_token}",
            "Idempotency-Key": key or str(uuid.uuid4()),
        }
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                self.session.request(method, f"{base}/api/v1{path}", json=body, headers=headers) as answer,
            ):
                status, content = answer.status, await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise LostError from None
        decoded = msgspec.json.decode(content or b"null")
        if status >= 400:
            raise RefusedError(status, decoded)
        return decoded

    async def open_talk(self, base: str, host: Account) -> str:
        """Open a talk for four and return its room."""
        body = {"title": "Under fire", "language": "en"}
        talk = await self.call(base, host, "POST", "/talks", body)
        return str(talk["room_id"])


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    """Yield a town; whoever still stays when the context ends is sent home."""
    # No connection is kept: one that a killed server left behind would fail the next request.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
        everybody = Town(session, tasks)
        try:
            yield everybody
        finally:
            everybody.send_home()


class Client:
    """Somebody with one socket at a time.

    Replayable events are taken once and in order; whatever does not fit is a fault of the server.
    """

    def __init__(self, of: Town, base: str, account: Account) -> None:
        self.account = account
        self.base = base
        """Where it connects next; another server may be named at any time."""
        self.places: dict[str, Place] = {}
        self.events: dict[str, list[Body]] = defaultdict(list)
        """Replayable events by channel."""
        self.faults: list[str] = []
        self.repeated = 0
        """Events that came again and were dropped, as the protocol says."""
        self.paged = 0
        self.connects = 0
        self.advice: list[Body] = []
        """What `disconnect` said before the server closed."""
        self.close_codes: list[int | None] = []
        """How sockets ended; None without a close frame."""
        self.rooms: list[str] = []
        """Rooms in which it wants its seat back after each connect."""
        self.seats: dict[str, list[int]] = defaultdict(list)
        """Numbers of the seats it was given, by room."""
        self.online = asyncio.Event()
        """Set while it is connected and in its rooms."""
        self.on_event: Taken = lambda _: None
        """Hears every event that was taken."""
        self.lost = asyncio.Event()
        self.refusals: list[int] = []
        """Numbers of the errors for which it came again."""
        self._town = of
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._waiting: Waiting = {}
        self._last_id = 0
        self._left: set[str] = set()
        """Channels of rooms that were left."""
        self._is_staying = False
        self._pause_s = AGAIN_S
        self._busy_times = 0

    @property
    def user_id(self) -> str:
        """Return whose client it is."""
        return self.account.user_id

    # --- Life ---

    def come(self) -> None:
        """Be connected and in one's rooms from now on, whatever happens to the socket."""
        self._town.spawn(self._stay())

    def go(self) -> None:
        """Hang up and stay away, undoing `come`."""
        self._is_staying = False
        self.cut()

    async def _stay(self) -> None:
        self._is_staying = True
        while self._is_staying:
            try:
                await self.connect()
                for room_id in self.rooms:
                    await self.join(room_id)
                self.online.set()
                self._busy_times = 0
                await self.lost.wait()
            except (LostError, aiohttp.ClientError, OSError, TimeoutError):
                pass
            except RefusedError as refusal:
                if not refusal.is_retryable:
                    self.faults.append(f"could not come back: {refusal}")
                    return
                self.refusals.append(refusal.code)
            finally:
                self.online.clear()
                self.cut()
            await asyncio.sleep(self._pause_s)
            self._pause_s = AGAIN_S

    async def connect(self) -> None:
        """Open a socket, resuming where the last one ended.

        Raises:
            LostError: It was closed at once.
            RefusedError: The server does not let us in, or cannot now.
        """
        async with asyncio.timeout(ANSWER_S):
            self._socket = await self._town.session.ws_connect(
                self.base.replace("http", "ws", 1) + "/ws", protocols=("fourtalk.v1.json",)
            )
        self.connects += 1
        self.lost = asyncio.Event()
        self._waiting = {}
        self._town.spawn(self._read(self._socket, self._waiting, self.lost))
        since = [{"ch": ch, "epoch": place.epoch, "off": place.off} for ch, place in self.places.items()]
        d = {
            "token": self.account.access_token,
            "client": {"name": "chaos", "version": "1"},
            "since": since,
        }
        ok = await self.ask("connect", d, taken=self._take_subs)
        for ch, sub in ok["subs"].items():
            if sub["more"]:
                await self._page(ch)

    @property
    def port(self) -> int:
        """Of its end of the socket."""
        transport = self._transport()
        assert transport is not None, "connect first"
        port: int = transport.get_extra_info("sockname")[1]
        return port

    def cut(self) -> None:
        """Lose the socket without a goodbye."""
        if transport := self._transport():
            transport.abort()

    def stop_reading(self) -> None:
        """Leave what comes in the kernel, which takes little of it, until `read_on`."""
        transport = self._transport()
        assert transport is not None, "connect first"
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        transport.pause_reading()

    def read_on(self) -> None:
        """Undo `stop_reading`."""
        if transport := self._transport():
            transport.resume_reading()

    def _transport(self) -> asyncio.Transport | None:
        response = None if self._socket is None else self._socket._response
        connection = None if response is None else response.connection
        return None if connection is None else connection.transport

    async def hang_up(self) -> None:
        """Close the socket in good order."""
        if self._socket is not None:
            await self._socket.close()

    # --- Asking ---

    async def ask(
        self,
        op: str,
        d: Body | None = None,
        *,
        ch: str | None = None,
        key: str | None = None,
        taken: Taken | None = None,
    ) -> Body:
        """Ask and return what is in `ok`; `taken` gets it before anything that the server sent after it.

        Raises:
            RefusedError: The answer is an error.
            LostError: The socket was lost first.
            TimeoutError: There was no answer at all.
        """
        if self._socket is None or self.lost.is_set():
            raise LostError
        self._last_id += 1
        request = {"id": self._last_id, "op": op, "d": d or {}}
        request |= {name: value for name, value in (("ch", ch), ("key", key)) if value is not None}
        answer: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._waiting[self._last_id] = (answer, taken)
        try:
            await self._socket.send_str(msgspec.json.encode(request).decode())
        except ConnectionError:
            raise LostError from None
        async with asyncio.timeout(ANSWER_S):
            return await answer

    async def join(self, room_id: str) -> Body:
        """Take one's seat and follow the room from there."""

        def follow(ok: Body) -> None:
            self.places.setdefault(f"room:{room_id}", Place(ok["sub"]["epoch"], ok["sub"]["off"]))
            self.seats[room_id].append(ok["seat"]["no"])

        return await self.ask("room.join", {"room_id": room_id}, taken=follow)

    async def leave(self, room_id: str) -> None:
        """Give the seat up, and with it the room's channel."""
        self._left.add(f"room:{room_id}")
        await self.ask("room.leave", {"room_id": room_id})
        del self.places[f"room:{room_id}"]

    async def follow(self, ch: str) -> None:
        """Follow a channel from now on."""
        await self.ask("subscribe", {}, ch=ch, taken=lambda ok: self._take_sub(ch, ok))

    async def say(self, room_id: str, text: str) -> None:
        """Say something in a room, repeating it under the same key until it was answered."""
        key = str(uuid.uuid4())
        while True:
            await self.online.wait()
            try:
                await self.ask("chat.send", {"text": text}, ch=f"room:{room_id}", key=key)
            except (LostError, TimeoutError):
                pass
            except RefusedError as refusal:
                if not refusal.is_retryable:
                    raise
            else:
                return
            await asyncio.sleep(AGAIN_S)

    # --- What arrives ---

    async def _read(self, ws: aiohttp.ClientWebSocketResponse, waiting: Waiting, lost: asyncio.Event) -> None:
        try:
            async for frame in ws:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    break
                for line in frame.data.split("\n"):
                    message: Body = msgspec.json.decode(line)
                    if message:
                        self._take(message)
                    else:
                        await ws.send_str("{}")
        except (aiohttp.ClientError, OSError):
            pass
        finally:
            self.close_codes.append(ws.close_code)
            if ws.close_code in BACK_OFF:
                self._busy_times += 1
                self._pause_s = BACK_OFF_S * random.uniform(1, 2**self._busy_times)
            lost.set()
            for answer, _ in waiting.values():
                if not answer.done():
                    answer.set_exception(LostError())
                    answer.exception()  # seen, also when nobody waits any more
            with contextlib.suppress(ConnectionError):
                await ws.close()

    def _take(self, message: Body) -> None:
        if "ev" in message:
            self._take_event(message)
        elif "id" in message:
            answer, taken = self._waiting.pop(message["id"], (None, None))
            if answer is None or answer.done():
                return
            if "err" in message:
                answer.set_exception(RefusedError(message["err"]["code"], message["err"]))
                return
            if taken is not None:
                taken(message["ok"])
            answer.set_result(message["ok"])
        elif message.get("ctl") == "disconnect":
            self.advice.append(message["d"])
            self._pause_s = message["d"].get("retry_after_ms", 0) / 1000
        elif message.get("ctl") in ("reset", "unsubscribed") and message["d"]["ch"] not in self._left:
            self.faults.append(f"control: {message}")

    def _take_event(self, event: Body) -> None:
        off, ch = event.get("off"), event["ch"]
        if off is None:
            return
        place = self.places.get(ch)
        if ch in self._left:
            return
        if place is None:
            self.faults.append(f"{ch} is not followed: {event}")
        elif off <= place.off:
            self.repeated += 1
        else:
            if off != place.off + 1:
                self.faults.append(f"{ch}: {off} follows {place.off}")
            place.off = off
            self.events[ch].append(event)
            self.on_event(event)

    def _take_subs(self, ok: Body) -> None:
        for ch, sub in ok["subs"].items():
            self._take_sub(ch, sub)

    def _take_sub(self, ch: str, sub: Body) -> None:
        place = self.places.get(ch)
        if place is None:
            self.places[ch] = Place(sub["epoch"], sub["off"])
            return
        if not sub["recovered"] or sub["epoch"] != place.epoch:
            self.faults.append(f"{ch} was not recovered from {place}: {sub['epoch']} {sub['off']}")
        self._take_page(ch, sub)

    def _take_page(self, ch: str, page: Body) -> None:
        for event in page["events"]:
            self._take_event(event)
        if self.places[ch].off != page["off"]:
            self.faults.append(f"{ch}: the page ends at {page['off']}, its events at {self.places[ch].off}")

    async def _page(self, ch: str) -> None:
        has_more = True
        while has_more:
            self.paged += 1
            since = {"epoch": self.places[ch].epoch, "off": self.places[ch].off}
            page = await self.ask(
                "history",
                {"since": since, "limit": HISTORY_PAGE},
                ch=ch,
                taken=lambda ok: self._take_page(ch, ok),
            )
            has_more = page["more"]

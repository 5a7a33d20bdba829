"""The whole product as people meet it: `fourtalk serve` with a LiveKit server of its own, clients, real media."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import msgspec
from livekit import rtc

from rooms.media import LiveKitMedia, room_name
from server import embedded
from server.demo.people import Body, Person, RefusedError, Town
from server.ports import free_port
from tests import beside
from tests.forked import Forked
from tests.livekit.ear import KEY, SECRET
from tests.livekit.participant import Participant

T = TypeVar("T")

READY = "fourtalk is ready"
PRICE = 10_000
LESSON = timedelta(hours=1)
# What of our own environment a server needs; everything else would configure it by accident.
KEPT = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "TMPDIR")
# A condition is looked at this often; the server allows a user 20 operations a second.
LOOK_S = 0.1


class Product:
    """One `fourtalk serve --time-travel` on a data dir of its own, which starts its own LiveKit server."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.base = f"http://127.0.0.1:{free_port()}"
        self._binary = binary
        self._folder = folder
        self._pid_file = folder / "livekit.pid"
        self._log = folder / "serve.log"
        self._data_dir = folder / "data"
        self._environment = {
            **{name: os.environ[name] for name in KEPT if name in os.environ},
            "FOURTALK_LIVEKIT_BIN": str(folder / "livekit-server"),
            "FOURTALK_LOG_LEVEL": "warning",
            "FOURTALK_WEB": "off",
            "LIVEKIT_API_KEY": KEY,
            "LIVEKIT_API_SECRET": SECRET,
            "PUBLIC_URL": self.base,
        }
        self._serve: Forked | None = None
        self._livekit: asyncio.subprocess.Process | None = None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Run the server for as long as the block."""
        # `exec` keeps the process id, so the test knows whom to kill.
        starter = self._folder / "livekit-server"
        starter.write_text(f'#!/bin/sh\necho $$ > "{self._pid_file}"\nexec "{self._binary}" "$@"\n')
        starter.chmod(0o700)
        try:
            await self.start()
            yield
        finally:
            if self._livekit is not None:
                with contextlib.suppress(ProcessLookupError):
                    self._livekit.kill()
                await self._livekit.wait()
            await self._end(signal.SIGTERM)

    async def start(self) -> None:
        """Start the server and wait until it is ready."""
        await asyncio.to_thread(beside.prepare, self._data_dir)
        port = self.base.rpartition(":")[2]
        self._serve = await asyncio.to_thread(
            Forked,
            *("serve", "--port", port, "--time-travel", "--data-dir", str(self._data_dir)),
            environment=self._environment,
            log=self._log,
        )
        assert READY in await asyncio.to_thread(self._serve.line), self._log.read_text()[-2000:]

    async def kill(self) -> None:
        """End the server without a goodbye; everything it started dies with it, LiveKit too."""
        await self._end(signal.SIGKILL)

    async def mint(self, count: int, *, role: str) -> list[dict[str, Any]]:
        """Make accounts, as `fourtalk user mint` does."""
        return await asyncio.to_thread(beside.mint, self._environment, self._data_dir, count, role=role)

    async def violations(self) -> list[Any]:
        """Return what `fourtalk check` finds wrong."""
        return await asyncio.to_thread(beside.violations, self._environment, self._data_dir)

    def kill_livekit(self) -> None:
        """End LiveKit without a goodbye."""
        os.kill(int(self._pid_file.read_text()), signal.SIGKILL)

    async def restart_livekit(self) -> None:
        """Bring LiveKit back on the same ports, as a supervisor would; it has forgotten every room."""
        config = self._data_dir / "livekit.json"
        self._livekit = await asyncio.create_subprocess_exec(
            *embedded.dying_with_parent(signal.SIGKILL, str(self._binary), "--config", str(config)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{msgspec.json.decode(config.read_bytes())['port']}/"
        async with httpx.AsyncClient() as http:

            async def answers() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await http.get(url)).status_code == httpx.codes.OK
                return False

            await eventually(answers, "LiveKit answers again")

    async def _end(self, sig: signal.Signals) -> None:
        serve, self._serve = self._serve, None
        if serve is not None:
            await asyncio.to_thread(serve.end, sig)


class Stage:
    """A running product, its people, and business time as they read it."""

    def __init__(self, product: Product, town: Town, tasks: asyncio.TaskGroup) -> None:
        self.product = product
        self._town = town
        self._tasks = tasks
        self._offset = timedelta()

    def now(self) -> datetime:
        """Return business time."""
        return datetime.now(UTC) + self._offset

    async def advance(self, time: timedelta) -> None:
        """Let business time pass."""
        now = await self._town.advance(time / timedelta(seconds=1))
        self._offset = now - datetime.now(UTC)

    async def people(self, *names: str, role: str = "student") -> list[Person]:
        """Return new people, connected."""
        accounts = await self.product.mint(len(names), role=role)
        people = [
            self._town.person(name, account["user_id"], account["access_token"])
            for name, account in zip(names, accounts, strict=True)
        ]
        for person in people:
            await self.connect(person)
        return people

    async def connect(self, person: Person) -> None:
        """Open the person's socket, also after the server was gone."""
        await person.connect(self._tasks)

    async def another_device(self, person: Person) -> Person:
        """Return the same person with a second socket."""
        return await self._town.person(person.name, person.user_id, person._token).connect(self._tasks)


@contextlib.asynccontextmanager
async def playing(binary: Path, folder: Path) -> AsyncIterator[Stage]:
    """Run a product and clients for as long as the block; every invariant holds at its end."""
    product = Product(binary, folder)
    async with product.serving(), Town(product.base) as town, asyncio.TaskGroup() as tasks:
        try:
            yield Stage(product, town, tasks)
            assert await product.violations() == []
        finally:
            await town.hang_up()


class Lesson:
    """A course session of an hour that has just begun, its tutor, and the students who paid for it."""

    def __init__(self, room_id: str, tutor: Person, students: list[Person], holds: dict[str, str]) -> None:
        self.room_id = room_id
        self.tutor = tutor
        self.students = students
        self._holds = holds

    async def attendance(self) -> dict[Person, Body]:
        """Return everybody's attendance."""
        shown = await self.tutor.ask("room.attendance", {"room_id": self.room_id})
        rows = {row["user_id"]: row for row in shown["people"]}
        return {person: rows[person.user_id] for person in (self.tutor, *self.students)}

    async def fates(self) -> list[str]:
        """Return what became of each student's money."""
        holds = [await s.ask("hold.get", {"hold_id": self._holds[s.user_id]}) for s in self.students]
        return [hold["status"] for hold in holds]

    async def end(self, stage: Stage) -> None:
        """Let the tutor end it, and time pass until it is settled."""
        await self.tutor.ask("room.close", {"room_id": self.room_id})
        await stage.advance(timedelta(minutes=2))

        async def is_over() -> bool:
            is_closed = (await look(self.tutor, self.room_id))["state"] == "closed"
            return is_closed and "held" not in await self.fates()

        await eventually(is_over, "the lesson is closed and settled")


async def lesson(stage: Stage, *names: str) -> Lesson:
    """Make a course of one session for so many students, have them buy it, and let its time come."""
    [tutor], students, [admin] = await asyncio.gather(
        stage.people("Thao", role="tutor"), stage.people(*names), stage.people("Admin", role="admin")
    )
    course = await tutor.call("POST", "/api/v1/courses", _course())
    await stage.advance(timedelta())
    starts_at = (stage.now() + timedelta(days=1)).replace(microsecond=0)
    session = await tutor.call("POST", f"/api/v1/courses/{course['id']}/sessions", _session(starts_at))
    await tutor.call("POST", f"/api/v1/courses/{course['id']}/publish")
    holds: dict[str, str] = {}
    for student in students:
        credit = {"user_id": student.user_id, "money": _usd(PRICE), "reason": "credit for the lesson"}
        await admin.call("POST", "/api/v1/admin/wallet-adjustments", credit)
        wanted = {"course_id": course["id"], "session_id": session["id"]}
        quote = await student.call("POST", "/api/v1/purchases/quote", wanted)
        bought = await student.call("POST", "/api/v1/purchases", {"quote_token": quote["quote_token"]})
        holds[student.user_id] = bought["holds"][0]["id"]
    await stage.advance(starts_at - stage.now())
    return Lesson(session["room_id"], tutor, students, holds)


async def join(person: Person, room_id: str) -> Body:
    """Take a seat; return where the media are."""
    joined = await person.ask("room.join", {"room_id": room_id})
    media: Body = joined["media"]
    assert media["provider"] == "livekit"
    return media


async def enter(
    stack: contextlib.AsyncExitStack, person: Person, room_id: str, *, media: Body | None = None
) -> Participant:
    """Take a seat, or use a ticket from before, and bring one's media into the room."""
    media = media or await join(person, room_id)
    return await stack.enter_async_context(Participant(media["url"], media["token"]))


async def come_back(stack: contextlib.AsyncExitStack, person: Person, room_id: str) -> Participant:
    """Do what a client does whose media broke: join again until they stand."""

    async def back() -> Participant | None:
        try:
            return await enter(stack, person, room_id)
        except (rtc.ConnectError, RefusedError):
            # The media room is not there, or not yet; a person may join 20 times a minute.
            await asyncio.sleep(1)
            return None

    return await eventually(back, f"{person.name} is back", timeout_s=45)


async def look(person: Person, room_id: str) -> Body:
    """Return the room as its page shows it."""
    return await person.ask("room.get", {"room_id": room_id})


async def seats(person: Person, room_id: str) -> dict[str, str]:
    """Return who has a seat, and its state, by user id."""
    return {seat["user_id"]: seat["state"] for seat in (await look(person, room_id))["participants"]}


async def media_room(url: str, room_id: str, *, generation: int) -> tuple[str, ...] | None:
    """Return who LiveKit says is in its room, None when there is no such room."""
    async with LiveKitMedia(url.replace("ws", "http", 1), KEY, SECRET) as media:
        found = await media.poll(room_name(UUID(room_id), generation))
    return None if found is None else tuple(person.identity for person in found if person.active)


async def eventually(
    condition: Callable[[], Awaitable[T | None]], what: str, *, timeout_s: float = 20.0
) -> T:
    """Wait until the condition gives something true, and return that.

    Raises:
        AssertionError: It does not in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not (found := await condition()):  # noqa: ASYNC110  (what is asked is on the other side)
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s} s: {what}") from None
    return found


def _course() -> Body:
    return {
        "title": "A real lesson",
        "description": "With real media.",
        "language": "vi",
        "level": "A1",
        "category": "languages",
        "duration_hours": 1,
        "total_sessions": 1,
        "price_type": "per_session",
        "price_per_session": _usd(PRICE),
    }


def _session(starts_at: datetime) -> Body:
    return {
        "number": 1,
        "title": "Xin chào",
        "starts_at": starts_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "duration_minutes": LESSON // timedelta(minutes=1),
    }


def _usd(amount: int) -> Body:
    return {"amount": amount, "currency": "USD"}

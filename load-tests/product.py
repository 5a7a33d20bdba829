"""The product from outside: its command line, its HTTP API, and rooms with people in them. Imports nothing of it."""

import contextlib
import http.client
import json  # noqa: TID251 - no package but the standard library
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from client import Connection
from processes import Server

T = TypeVar("T")
R = TypeVar("R")

# Calls at a time while a scenario is set up: enough to keep the server busy, far below what it queues.
AT_ONCE = 8
CALL_TIMEOUT_S = 60
MINT_TIMEOUT_S = 300
TOKEN_TTL_S = 4 * 3600
SUBPROTOCOL = "fourtalk.v1.json"
PASSWORD = "Load-tests-2025"


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


def environment(**extra: str) -> dict[str, str]:
    """Return the environment for the product: nothing configured by accident, and no rate limits."""
    kept = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - handed on to a child
        if not name.startswith(("FOURTALK_", "LIVEKIT_"))
        and name
        not in {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "PUBLIC_URL", "GEOIP_DB", "TRUSTED_PROXIES"}
    }
    return {**kept, "RATE_LIMITS": "off", **extra}


def command() -> str:
    """Return the `fourtalk` of this Python's environment, or the one on the PATH."""
    beside = Path(sys.executable).with_name("fourtalk")
    found = str(beside) if beside.exists() else shutil.which("fourtalk")
    if found is None:
        raise SystemExit("there is no `fourtalk` here: run this with `uv run python …` in the checkout")
    return found


def serve(
    folder: Path,
    port: int,
    *,
    env: Mapping[str, str],
    name: str = "fourtalk",
    core: int | None = None,
    time_travel: bool = False,
) -> Server:
    """Start a server with its data in `folder`."""
    flags = ["--time-travel"] if time_travel else []
    return Server(
        [command(), "serve", "--port", str(port), "--data-dir", str(folder / name), *flags],
        port=port,
        log=folder / f"{name}.log",
        env=env,
        core=core,
    )


def mint(folder: Path, count: int, *, env: Mapping[str, str], name: str = "fourtalk") -> list[Account]:
    """Make accounts in the running server's database."""
    arguments = ["--count", str(count), "--ttl-s", str(TOKEN_TTL_S), "--data-dir", str(folder / name)]
    lines = _run(["user", "mint", *arguments], env=env).splitlines()
    minted = [json.loads(line) for line in lines if line.strip()]
    return [Account(line["user_id"], line["access_token"]) for line in minted]


def create(folder: Path, api: Api, role: str, *, env: Mapping[str, str], name: str = "fourtalk") -> Account:
    """Make one account of a role, tutors approved, and log in."""
    email = f"{role}@load.example"
    flags = ["--approved"] if role == "tutor" else []
    arguments = ["--email", email, "--password", PASSWORD, "--role", role, "--data-dir", str(folder / name)]
    _run(["user", "create", *arguments, *flags], env=env)
    answer = api.call("POST", "/auth/login", {"email": email, "password": PASSWORD})
    return Account(answer["user"]["id"], answer["access_token"])


def _run(arguments: Sequence[str], *, env: Mapping[str, str]) -> str:
    done = subprocess.run(
        [command(), *arguments],
        env=dict(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=MINT_TIMEOUT_S,
    )
    if done.returncode:
        raise RuntimeError(f"fourtalk {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


def concurrently(act: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do the same to every item, a few at a time; the first failure ends it."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(act, items))


def talks(api: Api, hosts: Sequence[Account]) -> list[str]:
    """Let every host open a talk for four; return the rooms' ids."""
    body = {"title": "Load", "language": "en", "max_participants": 4, "public": False}
    return [
        answer["room_id"]
        for answer in concurrently(lambda host: api.call("POST", "/talks", body, token=host.token), hosts)
    ]


def lesson(api: Api, tutor: Account, admin: Account, students: Sequence[Account]) -> str:
    """Sell one session of a course to all students, and move time to its doors; return the room's id."""
    now = datetime.fromisoformat(api.call("POST", "/dev/clock", {"advance_s": 0})["now"])
    starts_at = (now + timedelta(days=1)).replace(microsecond=0)
    price = {"amount": 100, "currency": "USD"}
    course = api.call(
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
    session = api.call(
        "POST",
        f"/courses/{course}/sessions",
        {"number": 1, "title": "Load", "starts_at": _instant(starts_at), "duration_minutes": 120},
        token=tutor.token,
    )
    api.call("POST", f"/courses/{course}/publish", token=tutor.token)

    def buy(student: Account) -> None:
        adjustment = {"user_id": student.user_id, "money": price, "reason": "money for a load test"}
        api.call("POST", "/admin/wallet-adjustments", adjustment, token=admin.token)
        wanted = {"course_id": course, "session_id": session["id"]}
        quote = api.call("POST", "/purchases/quote", wanted, token=student.token)
        api.call("POST", "/purchases", {"quote_token": quote["quote_token"]}, token=student.token)

    concurrently(buy, students)
    # The doors are open from 10 minutes before the start to 5 minutes after it.
    api.call("POST", "/dev/clock", {"set": _instant(starts_at - timedelta(minutes=9))})
    return str(session["room_id"])


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def connect(port: int, account: Account) -> Connection:
    """Open a socket and say who it is."""
    connection = Connection("127.0.0.1", port, "/ws", subprotocol=SUBPROTOCOL)
    connection.request("connect", d={"token": account.token, "client": {"name": "load", "version": "1"}})
    return connection


def join(connection: Connection, room_id: str) -> dict[str, Any]:
    """Take a seat in a room."""
    return connection.request("room.join", ch=f"room:{room_id}", d={"room_id": room_id})

"""A user for Locust: registers, connects, joins a talk with three others, and sends.

    uv run fourtalk serve                      # with RATE_LIMITS=off
    uv run --no-project --with-requirements load-tests/locust/requirements.txt \\
        locust -f load-tests/locustfile.py --host http://127.0.0.1:8000 --headless -u 40 -r 4 -t 30s

Locust is for looking at the product from where a Python client stands: its own cost per message is far above the
server's. What the server costs is measured by run.py.
"""

import itertools
import json  # noqa: TID251 - runs without the product and its packages
import secrets
import time
from typing import Any

import gevent
import gevent.lock
import websocket
from locust import HttpUser, between, events, task

TALK_CAP = 4
REPLY_LIMIT_S = 10.0


class Lobby:
    """Gives each newcomer a room: four share one, and the first of them opens it."""

    def __init__(self) -> None:
        self._lock = gevent.lock.Semaphore()
        self._room = ""
        self._left = 0

    def room(self, person: "Talker") -> str:
        with self._lock:
            if not self._left:
                self._room, self._left = person.open_talk(), TALK_CAP
            self._left -= 1
            return self._room


LOBBY = Lobby()


class Talker(HttpUser):
    """Somebody in a talk."""

    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[str, tuple[str, float, gevent.event.AsyncResult]] = {}
        account = {
            "email": f"{secrets.token_hex(8)}@locust.example",
            "password": secrets.token_urlsafe(16) + "aA1!",
            "first_name": "Lo",
            "last_name": "Cust",
            "role": "student",
            "timezone": "UTC",
        }
        self._token = self.client.post("/api/v1/auth/register", json=account).json()["access_token"]
        room = LOBBY.room(self)
        address = self.host.replace("http", "ws", 1) + "/ws"
        self._socket = websocket.create_connection(
            address, subprotocols=["fourtalk.v1.json"], suppress_origin=True, timeout=60
        )
        self._reader = gevent.spawn(self._read)
        self._ask("connect", token=self._token, client={"name": "locust", "version": "1"})
        self._channel = f"room:{room}"
        self._ask("room.join", ch=self._channel, room_id=room)

    def on_stop(self) -> None:
        self._reader.kill()
        self._socket.close()

    def open_talk(self) -> str:
        talk = {"title": "Locust", "language": "en", "max_participants": TALK_CAP}
        headers = {"Authorization": f"Bearer {self._token}", "Idempotency-Key": secrets.token_hex(16)}
        return self.client.post("/api/v1/talks", json=talk, headers=headers).json()["room_id"]

    @task(10)
    def wave(self) -> None:
        """Send what is not kept, and wait until it comes back."""
        mark = secrets.token_hex(8)
        message = {"op": "room.send", "ch": self._channel, "d": {"kind": "reaction", "data": mark}}
        self._send_and_wait("room.send", mark, message)

    @task(1)
    def chat(self) -> None:
        """Say what is kept."""
        self._ask("chat.send", ch=self._channel, text="The quick brown fox jumps over the lazy dog.")

    def _ask(self, op: str, *, ch: str | None = None, **d: Any) -> None:
        number = next(self._numbers)
        message = {"id": number, "op": op, "d": d, **({"ch": ch} if ch else {})}
        self._send_and_wait(op, f"#{number}", message)

    def _send_and_wait(self, name: str, key: str, message: dict[str, Any]) -> None:
        answered = gevent.event.AsyncResult()
        self._waiting[key] = (name, time.monotonic(), answered)
        self._socket.send(json.dumps(message))
        try:
            answered.get(timeout=REPLY_LIMIT_S)
        except gevent.Timeout:
            self._done(key, 0, "no answer")

    def _read(self) -> None:
        while True:
            text = self._socket.recv()
            for line in text.split("\n"):
                message = json.loads(line)
                if not message:
                    self._socket.send("{}")
                elif "id" in message:
                    self._done(f"#{message['id']}", len(line), message.get("err", {}).get("name"))
                elif message.get("ev") == "room.message":
                    self._done(message["d"]["data"], len(line), None)

    def _done(self, key: str, size: int, error: str | None) -> None:
        # What others said has a key that nobody here waits for.
        if (waiting := self._waiting.pop(key, None)) is None:
            return
        name, began, answered = waiting
        events.request.fire(
            request_type="WS",
            name=name,
            response_time=(time.monotonic() - began) * 1e3,
            response_length=size,
            exception=None if error is None else RuntimeError(error),
            context=self.context(),
        )
        answered.set(True)

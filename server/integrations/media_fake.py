"""A LiveKit room service in memory, on loopback: what the demo and the tests use where no media server runs.

It behaves as livekit-server 1.13.5 was measured to: the same calls over the same protocol with the same errors,
the same webhooks with the same signatures, order and retries. People are moved by calling its methods; what a bad
network does to calls and webhooks is said by `calls` and `fate`.
"""

import asyncio
import base64
import contextlib
import hashlib
import random
import secrets
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Self, cast

import aiohttp
import jwt
import msgspec
from aiohttp import web
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from livekit.protocol import models, room as wire
from livekit.protocol.webhook import WebhookEvent

# LiveKit tries 1 + 4 times (go-retryablehttp); every answer but these counts as delivered.
RETRY_AFTER_S = (1.0, 2.0, 4.0, 8.0)
RETRIED = frozenset({429, *range(500, 600)} - {501})
# What has waited longer than this behind another delivery of its room is dropped.
AGE_MAX_S = 30.0
SIGNATURE_TTL = timedelta(minutes=5)

Calls = Literal["answer", "fail", "hang"]


class Fate(msgspec.Struct, frozen=True):
    """What the network does with one webhook."""

    copies: int = 1
    """0 loses it, 2 delivers it twice."""
    delay_s: float = 0.0
    """Held back for so long, while later ones overtake it."""


def rough(
    seed: int, *, lost: float = 0.0, doubled: float = 0.0, late: float = 0.0
) -> "Callable[[object], Fate]":
    """Return a fate that loses, doubles and reorders by chance, the same for the same seed. Shares of 1."""
    dice = random.Random(seed)  # noqa: S311  (nobody must be unable to guess it)

    def fate(_: object) -> Fate:
        if dice.random() < lost:
            return Fate(copies=0)
        copies = 2 if dice.random() < doubled else 1
        return Fate(copies=copies, delay_s=dice.uniform(0.01, 0.2) if dice.random() < late else 0.0)

    return fate


class MediaRefusedError(Exception):
    """Nobody can join: there is no such room, or it is full."""


class _Refusal(Exception):  # noqa: N818  (an answer, not a fault)
    """A twirp error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class _Room(msgspec.Struct):
    info: models.Room
    people: dict[str, models.ParticipantInfo]


class _Delivery(msgspec.Struct, frozen=True):
    body: bytes
    token: str
    queued_s: float


class MediaFake:
    """The room service; an async context manager that listens on a free port of loopback.

    `now` gives the time that webhooks and lists carry; signatures are made on wall time. `retry_after_s` are the
    waits between tries of one webhook.
    """

    def __init__(
        self,
        *,
        key: str,
        secret: str,
        webhook_url: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        retry_after_s: tuple[float, ...] = RETRY_AFTER_S,
    ) -> None:
        self.url = ""
        """The http address, known once it listens."""
        self.webhook_url = webhook_url
        self.calls: Calls = "answer"
        """`fail` answers every call with 503, `hang` answers none."""
        self.fate: Callable[[Mapping[str, Any]], Fate] = lambda _: Fate()
        """Asked once for each webhook."""
        self.sent: list[dict[str, Any]] = []
        """Every webhook in the order in which things happened, lost ones too."""
        self._key = key
        self._secret = secret
        self._now = now
        self._retry_after_s = retry_after_s
        self._rooms: dict[str, _Room] = {}
        self._queues: defaultdict[str, deque[_Delivery]] = defaultdict(deque)
        self._senders: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        # LiveKit sets no limit either: a receiver that hangs holds up its room.
        no_limit = aiohttp.ClientTimeout(total=None)
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession(timeout=no_limit))
        application = web.Application()
        application.router.add_post("/twirp/livekit.RoomService/{method}", self._call)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sender in self._senders:
            sender.cancel()
        await self._stack.__aexit__(kind, error, trace)

    # What happens in the rooms ---------------------------------------------------------------------------------

    def people(self, room: str) -> list[str]:
        """Return the identities of who is in the room, in order of joining."""
        return list(self._rooms[room].people) if room in self._rooms else []

    def join(self, room: str, identity: str, name: str = "") -> str:
        """Let a person's media come up; return their sid. A second device of theirs replaces the first.

        Raises:
            MediaRefusedError: There is no such room, or it is full.
        """
        found = self._rooms.get(room)
        if found is None:
            raise MediaRefusedError("requested room does not exist")
        if identity in found.people:
            self.leave(room, identity, reason="DUPLICATE_IDENTITY")
        if 0 < found.info.max_participants <= len(found.people):
            raise MediaRefusedError("the room is full")
        person = self._person(identity, name)
        found.people[identity] = person
        self._happened("participant_joined", found, person)
        return person.sid

    def leave(self, room: str, identity: str, *, reason: str = "CLIENT_INITIATED") -> None:
        """Let a person go. Who lost the network goes 20 to 22 s after that, with CONNECTION_TIMEOUT."""
        found = self._rooms[room]
        person = found.people.pop(identity)
        self._happened("participant_left", found, _gone(person, reason))

    def abort(self, room: str, identity: str) -> None:
        """Let a person come whose media never comes up."""
        person = _gone(self._person(identity, ""), "JOIN_FAILURE")
        self._happened("participant_connection_aborted", self._rooms[room], person)

    def publish(self, room: str, identity: str) -> None:
        """Let a person publish a microphone; LiveKit then tells no more of them than who they are."""
        found = self._rooms[room]
        person = found.people[identity]
        brief = models.ParticipantInfo(sid=person.sid, identity=identity)
        self._happened("track_published", found, brief)

    def finish(self, room: str) -> None:
        """Close the room, as a deletion or an empty room's time-out does."""
        found = self._rooms.pop(room)
        for identity in tuple(found.people):
            self._happened("participant_left", found, _gone(found.people.pop(identity), "ROOM_DELETED"))
        self._happened("room_finished", found, None)

    def crash(self) -> None:
        """Lose every room and what was not sent yet, without a word."""
        self._rooms.clear()
        self._queues.clear()
        for sender in self._senders:
            sender.cancel()

    async def settled(self) -> None:
        """Wait until every webhook is delivered, given up or lost."""
        while self._senders:
            await asyncio.wait(self._senders)

    def _person(self, identity: str, name: str) -> models.ParticipantInfo:
        at = self._now().timestamp()
        return models.ParticipantInfo(
            sid=f"PA_{secrets.token_hex(6)}",
            identity=identity,
            name=name,
            state=models.ParticipantInfo.State.ACTIVE,
            joined_at=int(at),
            joined_at_ms=int(at * 1000),
            permission=models.ParticipantPermission(
                can_subscribe=True, can_publish=True, can_publish_data=True
            ),
        )

    # Webhooks --------------------------------------------------------------------------------------------------

    def _happened(self, event: str, room: _Room, person: models.ParticipantInfo | None) -> None:
        """Write the webhook as LiveKit does, and hand it to the network."""
        body = MessageToDict(
            WebhookEvent(
                event=event,
                id=f"EV_{secrets.token_hex(6)}",
                created_at=int(self._now().timestamp()),
                room=room.info,
                participant=person,
            )
        )
        self.sent.append(body)
        fate = self.fate(body)
        for _ in range(fate.copies):
            self._spawn(self._deliver(room.info.name, msgspec.json.encode(body), fate.delay_s))

    def sign(self, body: bytes) -> str:
        """Return the Authorization header that LiveKit sends with this body."""
        now = datetime.now(UTC)
        claims = {
            "iss": self._key,
            "iat": now,
            "nbf": now,
            "exp": now + SIGNATURE_TTL,
            "sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
        }
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._senders.add(task)
        task.add_done_callback(self._senders.discard)

    async def _deliver(self, room: str, body: bytes, delay_s: float) -> None:
        """Queue one delivery behind the others of its room, and send the queue when nobody else does."""
        if delay_s:
            await asyncio.sleep(delay_s)
        queue = self._queues[room]
        queue.append(_Delivery(body, self.sign(body), asyncio.get_running_loop().time()))
        if len(queue) > 1:
            return
        while queue:
            await self._send(queue[0])
            queue.popleft()

    async def _send(self, delivery: _Delivery) -> None:
        if asyncio.get_running_loop().time() - delivery.queued_s > AGE_MAX_S:
            return
        headers = {"Content-Type": "application/webhook+json", "Authorization": delivery.token}
        for wait_s in (*self._retry_after_s, None):
            with contextlib.suppress(aiohttp.ClientError):
                async with self._http.post(self.webhook_url, data=delivery.body, headers=headers) as answer:
                    if answer.status not in RETRIED:
                        return
            if wait_s is not None:
                await asyncio.sleep(wait_s)

    # Calls -----------------------------------------------------------------------------------------------------

    async def _call(self, request: web.Request) -> web.Response:
        if self.calls == "hang":
            await asyncio.Event().wait()
        if self.calls == "fail":
            return _refused(_Refusal(503, "unavailable", "the fake was told to fail"))
        try:
            answer = self._answer(request.match_info["method"], request, await request.read())
        except _Refusal as refusal:
            return _refused(refusal)
        return web.Response(body=answer.SerializeToString(), content_type="application/protobuf")

    def _answer(self, method: str, request: web.Request, raw: bytes) -> Message:
        match method:
            case "CreateRoom":
                self._check(request, "roomCreate")
                return self._create(wire.CreateRoomRequest.FromString(raw))
            case "ListRooms":
                self._check(request, "roomList")
                names = wire.ListRoomsRequest.FromString(raw).names
                found = [room.info for name, room in self._rooms.items() if not names or name in names]
                return wire.ListRoomsResponse(rooms=found)
            case "ListParticipants":
                self._check(request, "roomAdmin")
                listed = self._rooms.get(wire.ListParticipantsRequest.FromString(raw).room)
                if listed is None:
                    raise _Refusal(503, "unavailable", "no response from servers")
                return wire.ListParticipantsResponse(participants=list(listed.people.values()))
            case "RemoveParticipant":
                self._check(request, "roomAdmin")
                who = wire.RoomParticipantIdentity.FromString(raw)
                if who.identity not in self.people(who.room):
                    raise _Refusal(404, "not_found", "participant does not exist")
                self.leave(who.room, who.identity, reason="PARTICIPANT_REMOVED")
                return wire.RemoveParticipantResponse()
            case "DeleteRoom":
                self._check(request, "roomCreate")
                name = wire.DeleteRoomRequest.FromString(raw).room
                if name not in self._rooms:
                    raise _Refusal(404, "not_found", "requested room does not exist")
                self.finish(name)
                return wire.DeleteRoomResponse()
            case _:
                raise _Refusal(404, "bad_route", f"no handler for {method}")

    def _create(self, asked: wire.CreateRoomRequest) -> models.Room:
        """Make the room; one that exists keeps its options."""
        if asked.name not in self._rooms:
            at = self._now().timestamp()
            info = models.Room(
                sid=f"RM_{secrets.token_hex(6)}",
                name=asked.name,
                max_participants=asked.max_participants,
                empty_timeout=asked.empty_timeout,
                departure_timeout=asked.departure_timeout,
                creation_time=int(at),
                creation_time_ms=int(at * 1000),
                turn_password=secrets.token_hex(8),
            )
            self._rooms[asked.name] = _Room(info, {})
            self._happened("room_started", self._rooms[asked.name], None)
        return self._rooms[asked.name].info

    def _check(self, request: web.Request, grant: str) -> None:
        """Refuse a call that our key did not sign, or not for this."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = jwt.decode(token, self._secret, algorithms=["HS256"], issuer=self._key, leeway=60)
        except jwt.PyJWTError:
            raise _Refusal(401, "unauthenticated", "invalid authorization token") from None
        if not claims.get("video", {}).get(grant):
            raise _Refusal(403, "permission_denied", "permissions denied")


def _refused(refusal: _Refusal) -> web.Response:
    return web.json_response({"code": refusal.code, "msg": refusal.message}, status=refusal.status)


def _gone(person: models.ParticipantInfo, reason: str) -> models.ParticipantInfo:
    """Return the person as the webhook of their end shows them."""
    gone = models.ParticipantInfo()
    gone.CopyFrom(person)
    gone.state = models.ParticipantInfo.State.DISCONNECTED
    gone.disconnect_reason = cast("models.DisconnectReason", models.DisconnectReason.Value(reason))
    return gone

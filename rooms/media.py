"""LiveKit, the media server: rooms, tokens, who is there, and its signed webhooks. The only importer of livekit.

What the answers of a real server mean was measured (livekit-server 1.13.5):

- ListRooms by name tells whether a room exists; 5xx, time-outs and connection errors tell nothing at all, and
  ListParticipants of a missing room is one of those (503 after 3.0 s).
- A 404 on remove or delete means that it is so already.
- livekit-api never gives up on a server that does not answer, so every call here has its own limit.

```
RoomError
├── MediaUnavailableError   no answer from LiveKit, or none that says anything: try again
├── WebhookSignatureError   a webhook that LiveKit did not sign, or that was changed on the way
└── WebhookMalformedError   signed, but not a webhook that can be read
```
"""

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self
from uuid import UUID

import aiohttp
import jwt
import msgspec
from livekit import api
from livekit.protocol.models import ParticipantInfo

from rooms.errors import RoomError
from rooms.messages import EvidenceKind, Identity, Presence

# LiveKit itself takes 3.0 s to say that it cannot find a room's node; less would cut that answer off, more keeps
# effects of other rooms waiting behind a server that is frozen.
CALL_TIMEOUT_S = 5.0
# A token is used at once. The seat waits 120 s: this, and the minute that LiveKit forgives an expired token.
TOKEN_TTL = timedelta(seconds=60)
# The actor closes rooms; LiveKit's own timers are the net, far enough away never to be first.
EMPTY_TIMEOUT_S = 120
DEPARTURE_TIMEOUT_S = 60
# Real bodies have 540 to 900 bytes; metadata of ours adds nothing.
WEBHOOK_BYTES_MAX = 64 * 1024
# How JSON writes the one character that PostgreSQL stores in no text.
NUL = rb"\u0000"
# LiveKit's own leeway for tokens, and what clocks of two hosts may differ by.
SIGNATURE_LEEWAY_S = 60

_ROOM_NAME = re.compile(
    r"ft_([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})_([1-9][0-9]{0,8})"
)
# Which events prove anything about attendance. Not track_unpublished: LiveKit sends it for the dead too.
EVIDENCE_KINDS: Mapping[str, EvidenceKind] = {
    "participant_joined": "joined",
    "participant_left": "left",
    "participant_connection_aborted": "aborted",
    "track_published": "track",
    "room_started": "started",
    "room_finished": "finished",
}


class MediaUnavailableError(RoomError):
    """LiveKit gave no answer that says anything; whether the call was carried out is unknown."""

    kind = "unavailable"
    code = "overloaded"

    def __init__(self, call: str, why: str) -> None:
        super().__init__(f"The media server did not answer {call} ({why}).")


class WebhookSignatureError(RoomError):
    """The webhook is not signed by a key we know, or not for this body, or not for now."""

    kind = "unauthenticated"
    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("The signature of the webhook does not hold.")


class WebhookMalformedError(RoomError):
    """The webhook is signed, and still nothing that can be read."""

    kind = "invalid"
    code = "bad_request"

    def __init__(self) -> None:
        super().__init__("The body is not a LiveKit webhook.")


def room_name(room_id: UUID, generation: int) -> str:
    """Return LiveKit's name of the n-th media room of a room.

    A name is never used twice: LiveKit may hand out the old sid again for 28 s, and late webhooks of the old
    room must not be taken for news of the new one.
    """
    return f"ft_{room_id}_{generation}"


def parse_room_name(name: str) -> tuple[UUID, int] | None:
    """Return room and generation of a name that we gave, None for any other."""
    match = _ROOM_NAME.fullmatch(name)
    return (UUID(match[1]), int(match[2])) if match else None


class Media(Protocol):
    """What rooms ask of a media server. Every call may raise `MediaUnavailableError`, and may be repeated."""

    async def ensure_room(self, name: str, *, cap: int) -> None:
        """Make sure that the room exists; the cap is a backstop behind the actor's own."""

    async def poll(self, name: str) -> tuple[Presence, ...] | None:
        """Return who is in the room, None when it does not exist."""

    async def remove(self, name: str, identity: Identity) -> None:
        """Make sure that the person is not in the room; a token of theirs may bring them back."""

    async def delete_room(self, name: str) -> None:
        """Make sure that the room does not exist."""


class LiveKitMedia:
    """`Media` on a LiveKit server. An async context manager, to be entered inside the running loop.

    `url` is the http(s) address. `shift` is what turns LiveKit's timestamps into business time: the clock's
    offset for a server that runs on wall time beside a business clock that travels.
    """

    def __init__(
        self, url: str, api_key: str, api_secret: str, *, shift: Callable[[], timedelta] = timedelta
    ) -> None:
        self._url = url
        self._key = api_key
        self._secret = api_secret
        self._shift = shift
        self._api: api.LiveKitAPI | None = None

    async def __aenter__(self) -> Self:
        # Failover is for LiveKit's cloud; a call that is repeated behind our back would outlive its limit.
        self._api = api.LiveKitAPI(self._url, self._key, self._secret, failover=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._api is not None:
            await self._api.aclose()
            self._api = None

    async def ensure_room(self, name: str, *, cap: int) -> None:
        """Make sure that the room exists. For one that does, LiveKit ignores the options."""
        async with _answer("CreateRoom"):
            await self._rooms.create_room(
                api.CreateRoomRequest(
                    name=name,
                    max_participants=cap,
                    empty_timeout=EMPTY_TIMEOUT_S,
                    departure_timeout=DEPARTURE_TIMEOUT_S,
                )
            )

    async def poll(self, name: str) -> tuple[Presence, ...] | None:
        """Return who is in the room, None when it does not exist."""
        async with _answer("ListRooms"):
            found = await self._rooms.list_rooms(api.ListRoomsRequest(names=[name]))
        if not found.rooms:
            return None
        async with _answer("ListParticipants"):
            listed = await self._rooms.list_participants(api.ListParticipantsRequest(room=name))
        return tuple(self._presence(info) for info in listed.participants)

    async def remove(self, name: str, identity: Identity) -> None:
        """Make sure that the person is not in the room; not to be there already is fine."""
        async with _answer("RemoveParticipant", missing_is_done=True):
            await self._rooms.remove_participant(api.RoomParticipantIdentity(room=name, identity=identity))

    async def delete_room(self, name: str) -> None:
        """Make sure that the room does not exist; not to exist already is fine.

        A room that LiveKit's Redis remembers and no node holds (its node crashed) cannot be deleted, only made
        again and then deleted.
        """
        try:
            async with _answer("DeleteRoom", missing_is_done=True):
                await self._rooms.delete_room(api.DeleteRoomRequest(room=name))
        except MediaUnavailableError:
            await self.ensure_room(name, cap=1)
            async with _answer("DeleteRoom", missing_is_done=True):
                await self._rooms.delete_room(api.DeleteRoomRequest(room=name))

    def token(self, identity: Identity, *, name: str, room: str, ttl: timedelta = TOKEN_TTL) -> str:
        """Return what lets one person into one room.

        It never says `roomCreate`: LiveKit would then make rooms without a cap, auto_create or not.
        """
        grants = api.VideoGrants(room_join=True, room=room)
        token = api.AccessToken(self._key, self._secret).with_identity(identity).with_name(name)
        return token.with_ttl(ttl).with_grants(grants).to_jwt()

    @property
    def _rooms(self) -> api.room_service.RoomService:
        assert self._api is not None, "LiveKitMedia is used inside `async with` only"
        return self._api.room

    def _presence(self, info: ParticipantInfo) -> Presence:
        joined_ms = info.joined_at_ms or info.joined_at * 1000
        return Presence(
            identity=Identity(info.identity),
            sid=info.sid,
            joined_at=datetime.fromtimestamp(joined_ms / 1000, UTC) + self._shift(),
            active=info.state == ParticipantInfo.State.ACTIVE,
            counted=_is_counted(
                ParticipantInfo.Kind.Name(info.kind), info.permission.agent or info.permission.recorder
            ),
        )


@asynccontextmanager
async def _answer(call: str, *, missing_is_done: bool = False) -> AsyncIterator[None]:
    """Limit one call in time and translate what may go wrong with it."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield
    except api.ServerError as error:
        if not (missing_is_done and error.status == 404):
            raise MediaUnavailableError(call, f"HTTP {error.status}") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise MediaUnavailableError(call, type(error).__name__) from error


def _is_counted(kind: str, is_machine: bool) -> bool:  # noqa: FBT001
    """Say whether LiveKit counts somebody of this kind against the cap.

    Grants `agent` and `recorder` show the kind STANDARD, so the permission has to be asked too.
    """
    return kind not in {"AGENT", "EGRESS"} and not is_machine


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One verified delivery. Instants are LiveKit's own."""

    event_id: str
    type: str
    room_name: str
    room_id: UUID | None
    """None when the name is not one of ours."""
    generation: int | None
    room_sid: str | None
    identity: Identity | None
    participant_sid: str | None
    counted: bool
    created_at: datetime | None
    joined_at: datetime | None
    reason: str | None
    body: dict[str, Any]
    """As received, without room.turnPassword and NUL characters."""

    def time(self, *, received_at: datetime, shift: timedelta = timedelta()) -> datetime:
        """Return when it happened on the business clock: never later than we heard of it."""
        return received_at if self.created_at is None else min(self.created_at + shift, received_at)


def decode_webhook(raw: bytes, authorization: str, keys: Mapping[str, str], now: datetime) -> Webhook:
    """Verify a delivery over its raw bytes and read it.

    `keys` maps API keys to secrets, so that keys can be changed without losing events; `now` is wall time.

    Raises:
        WebhookSignatureError: Nobody with one of the keys signed these bytes for this time.
        WebhookMalformedError: It is signed, but too big or not a webhook.
    """
    _verify(raw, authorization.removeprefix("Bearer "), keys, now)
    if len(raw) > WEBHOOK_BYTES_MAX:
        raise WebhookMalformedError
    try:
        if NUL in raw:
            raw = msgspec.json.encode(_without_nul(msgspec.json.decode(raw)))
        body = _without_secrets(_bodies.decode(raw))
        return _webhook(_wires.decode(raw), body)
    except (msgspec.DecodeError, RecursionError, OverflowError, ValueError, OSError):
        raise WebhookMalformedError from None


class _WirePermission(msgspec.Struct, rename="camel"):
    agent: bool = False
    recorder: bool = False


class _WireParticipant(msgspec.Struct, rename="camel"):
    sid: str = ""
    identity: str = ""
    kind: str = "STANDARD"
    joined_at: int = 0
    joined_at_ms: int = 0
    disconnect_reason: str | None = None
    permission: _WirePermission = msgspec.field(default_factory=_WirePermission)


class _WireRoom(msgspec.Struct, rename="camel"):
    sid: str = ""
    name: str = ""


class _Wire(msgspec.Struct, rename="camel"):
    """LiveKit's WebhookEvent as protojson: 64-bit numbers are text, zero values are left out."""

    id: str
    event: str
    created_at: int = 0
    room: _WireRoom = msgspec.field(default_factory=_WireRoom)
    participant: _WireParticipant | None = None


class _Claims(msgspec.Struct):
    iss: str
    sha256: str
    exp: float
    nbf: float = 0.0


_bodies = msgspec.json.Decoder(dict[str, Any])
_wires = msgspec.json.Decoder(_Wire, strict=False)
_claims = msgspec.json.Decoder(_Claims)
_jws = jwt.PyJWS()


def _verify(raw: bytes, token: str, keys: Mapping[str, str], now: datetime) -> None:
    """Check the token that came with a delivery, and its digest of the body."""
    try:
        # Whose key it claims to be; nothing else of it is believed before the signature is checked.
        claimed = _claims.decode(_jws.decode(token, options={"verify_signature": False}))
        claims = _claims.decode(_jws.decode(token, keys[claimed.iss], algorithms=["HS256"]))
        digest = base64.b64decode(claims.sha256, validate=True)
    except (jwt.PyJWTError, msgspec.DecodeError, KeyError, ValueError, RecursionError):
        raise WebhookSignatureError from None
    is_of_body = hmac.compare_digest(digest, hashlib.sha256(raw).digest())
    in_time = claims.nbf - SIGNATURE_LEEWAY_S <= now.timestamp() <= claims.exp + SIGNATURE_LEEWAY_S
    if not (is_of_body and in_time):
        raise WebhookSignatureError


def _without_secrets(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body as it may be stored: LiveKit puts the room's TURN password into every one."""
    if isinstance(room := body.get("room"), dict):
        room.pop("turnPassword", None)
    return body


def _without_nul(value: object) -> object:
    """Return the value without NUL characters, which PostgreSQL stores in no text."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, dict):
        return {str(_without_nul(key)): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    return value


def _webhook(wire: _Wire, body: dict[str, Any]) -> Webhook:
    if not wire.id or not wire.event:
        raise ValueError("a webhook has an id and an event")
    ours = parse_room_name(wire.room.name)
    person = wire.participant
    joined_ms = (person.joined_at_ms or person.joined_at * 1000) if person else 0
    return Webhook(
        event_id=wire.id,
        type=wire.event,
        room_name=wire.room.name,
        room_id=ours[0] if ours else None,
        generation=ours[1] if ours else None,
        room_sid=wire.room.sid or None,
        identity=Identity(person.identity) if person and person.identity else None,
        participant_sid=(person.sid or None) if person else None,
        counted=person is None
        or _is_counted(person.kind, person.permission.agent or person.permission.recorder),
        created_at=datetime.fromtimestamp(wire.created_at, UTC) if wire.created_at else None,
        joined_at=datetime.fromtimestamp(joined_ms / 1000, UTC) if joined_ms else None,
        reason=person.disconnect_reason if person else None,
        body=body,
    )

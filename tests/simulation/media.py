"""A media server in memory: rooms, who is in them, and the signed news it has not delivered yet."""

import base64
import hashlib
from datetime import datetime
from typing import Any
from uuid import uuid4

import jwt
import msgspec

from rooms.messages import Identity, Presence
from tests.simulation.clock import HandClock

KEY, SECRET = "fourtalk", "a secret of more than thirty-two characters"


class Visitor(msgspec.Struct, frozen=True):
    """Somebody in a media room."""

    sid: str
    joined_at: datetime


class MemoryMedia:
    """Does what `rooms.media.Media` asks, and lets people in and out as a browser with a token would.

    Its news wait in `news` until the machine delivers, repeats or loses them.
    """

    def __init__(self, clock: HandClock) -> None:
        self.rooms: dict[str, dict[Identity, Visitor]] = {}
        self.news: list[bytes] = []
        self._caps: dict[str, int] = {}
        self._clock = clock

    # --- What the product asks ------------------------------------------------------------------------------

    async def ensure_room(self, name: str, *, cap: int) -> None:
        if name not in self.rooms:
            self.rooms[name] = {}
            self._caps[name] = cap
            self._tell("room_started", name)

    async def poll(self, name: str) -> tuple[Presence, ...] | None:
        if name not in self.rooms:
            return None
        return tuple(
            Presence(identity, visitor.sid, visitor.joined_at, active=True, counted=True)
            for identity, visitor in self.rooms[name].items()
        )

    async def remove(self, name: str, identity: Identity) -> None:
        self.exit(name, identity, reason="PARTICIPANT_REMOVED")

    async def delete_room(self, name: str) -> None:
        self.finish(name)

    # --- What people and the network do ---------------------------------------------------------------------

    def enter(self, name: str, identity: Identity) -> None:
        """Come in with a token; a second device replaces the first, and a full room lets nobody in."""
        people = self.rooms.get(name)
        if people is None or (identity not in people and len(people) >= self._caps[name]):
            return
        self.exit(name, identity, reason="DUPLICATE_IDENTITY")
        visitor = Visitor(f"PA_{uuid4().hex}", self._clock.now())
        people[identity] = visitor
        self._tell("participant_joined", name, identity, visitor)

    def exit(self, name: str, identity: Identity, *, reason: str) -> None:
        visitor = self.rooms.get(name, {}).pop(identity, None)
        if visitor is not None:
            self._tell("participant_left", name, identity, visitor, reason=reason)

    def finish(self, name: str) -> None:
        for identity in list(self.rooms.get(name, {})):
            self.exit(name, identity, reason="ROOM_DELETED")
        if self.rooms.pop(name, None) is not None:
            self._tell("room_finished", name)

    def sign(self, body: bytes) -> str:
        now = int(self._clock.wall().timestamp())
        claims = {
            "iss": KEY,
            "nbf": now,
            "exp": now + 300,
            "sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
        }
        return jwt.encode(claims, SECRET, algorithm="HS256")

    def _tell(
        self,
        event: str,
        name: str,
        identity: Identity | None = None,
        visitor: Visitor | None = None,
        *,
        reason: str | None = None,
    ) -> None:
        body: dict[str, Any] = {
            "id": f"EV_{uuid4().hex}",
            "event": event,
            "createdAt": str(int(self._clock.now().timestamp())),
            "room": {"sid": f"RM_{name}", "name": name},
        }
        if identity is not None and visitor is not None:
            body["participant"] = {
                "sid": visitor.sid,
                "identity": identity,
                "state": "ACTIVE",
                "joinedAtMs": str(int(visitor.joined_at.timestamp() * 1000)),
                "permission": {"canPublish": True},
            }
            if reason is not None:
                body["participant"]["disconnectReason"] = reason
        self.news.append(msgspec.json.encode(body))

"""A channel on this node, its members, and what is on its way to them. State only; `hub.py` moves it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from server.gateway.outlet import Outlet
from server.gateway.protocol import Codec, Publication


class Receiver(Protocol):
    """What the hub needs of a connection."""

    codec: Codec
    is_congested: bool
    memberships: "dict[str, Member]"

    @property
    def outlet(self) -> Outlet:
        """Return what takes a frame on the fast path."""

    def send(self, frame: bytes, *, conflate: str | None = None) -> None:
        """Take a frame, or keep it while the socket is full; with `conflate` a later one of the same name replaces it."""


class Pending(msgspec.Struct):
    """A publication on its way out, encoded once a codec."""

    off: int | None
    """None: volatile."""
    ev: str
    json: bytes
    """The whole event."""
    frames: dict[Codec, bytes] | None = None

    def frame(self, codec: Codec) -> bytes:
        """Return the frame with this publication alone."""
        if self.frames is None:
            self.frames = {}
        found = self.frames.get(codec)
        if found is None:
            found = self.frames[codec] = codec.frame((self.json,))
        return found


class Member:
    """One connection's membership of one channel."""

    __slots__ = ("buffer", "channel", "farewell", "is_reset", "last", "may_send", "paging_until", "receiver")

    def __init__(self, channel: "Channel", receiver: Receiver) -> None:
        self.channel = channel
        self.receiver = receiver
        self.last = 0
        """The offset up to which this connection has everything; kept only while it is held."""
        self.buffer: list[Pending] | None = []
        """What was published while the subscription opens; None once it is open."""
        self.paging_until: float | None = None
        """While the client reads pages of history, live events are kept back (and read with the last page)."""
        self.is_reset = False
        """The client's position could not be recovered: it is told so after the answer."""
        self.farewell: Callable[[], None] | None = None
        """Ends the membership as soon as it has opened."""
        self.may_send = False
        """The connection's user is known to have a seat in the room; False says nothing."""


class Channel:
    """A channel with members on this node."""

    __slots__ = (
        "_outlets", "ahead", "check_at", "epoch", "fast", "flushed_at", "held", "is_filling", "is_scheduled", "is_shared",
        "last", "name", "pending", "pending_bytes", "ready", "target",
    )  # fmt: skip

    def __init__(self, name: str, ready: asyncio.Future[None]) -> None:
        self.name = name
        self.ready: asyncio.Future[None] | None = ready
        """Has a result when the position is known and other nodes are heard; None from then on."""
        self.epoch = ""
        self.last = -1
        self.target = -1
        """The highest offset known to exist."""
        self.fast: dict[Receiver, Member] = {}
        self.held: dict[Receiver, Member] = {}
        self.pending: list[Pending] = []
        self.pending_bytes = 0
        self.ahead: dict[int, Publication] = {}
        self.is_filling = False
        self.is_scheduled = False
        self.is_shared = False
        """Another node has members too, so volatile publications must travel."""
        self.flushed_at = 0.0
        self.check_at = 0.0
        self._outlets: dict[Codec, tuple[Outlet, ...]] | None = None

    @property
    def is_open(self) -> bool:
        """Return whether the position is known."""
        return self.ready is None

    def outlets(self) -> Mapping[Codec, tuple[Outlet, ...]]:
        """Return the fast members' ways out by codec, made anew only when somebody came or went."""
        if self._outlets is None:
            by_codec: dict[Codec, list[Outlet]] = {}
            for receiver in self.fast:
                by_codec.setdefault(receiver.codec, []).append(receiver.outlet)
            self._outlets = {codec: tuple(outlets) for codec, outlets in by_codec.items()}
        return self._outlets

    def put_fast(self, member: Member) -> None:
        """Give a member the channel's own frames from now on."""
        self.held.pop(member.receiver, None)
        if not self.held:
            self.held = {}  # an emptied dict keeps its table, and almost every channel has one
        self.fast[member.receiver] = member
        self._outlets = None

    def put_held(self, member: Member) -> None:
        """Look at each publication for this member from now on."""
        if self.fast.pop(member.receiver, None) is not None:
            self._outlets = None
            member.last = self.last
        self.held[member.receiver] = member

    def remove(self, receiver: Receiver) -> None:
        """Forget a member."""
        if self.fast.pop(receiver, None) is not None:
            self._outlets = None
        self.held.pop(receiver, None)

"""Every limit of the gateway, with its reason, and the bucket that rates are counted in."""

from typing import Any

import msgspec

from rooms import seats


class Rate(msgspec.Struct, frozen=True):
    """So many a second in the long run, so many at once."""

    per_s: float
    burst: int


class Limits(msgspec.Struct, frozen=True):
    """The numbers of one gateway; the defaults are the product's, tests make some of them shorter."""

    frame_bytes: int = 32 * 1024
    """The largest thing a client sends is a room.signal of 8 KiB or a course description of about 20; larger
    frames hold the loop for longer than the 0.5 ms that p99 may take."""
    first_frame_bytes: int = 4 * 1024
    """Nobody is known before `connect`: a token (1 KiB) and some thirty positions fit, an attack by memory does not.
    Who follows more subscribes to the rest."""
    channels: int = 100
    """A person follows their own channel, a room and some conversations; 100 is what recovery reads in one round trip."""
    connections: int = 8
    """Phone, tablet, laptop with several tabs. Every connection costs memory and a copy of each event."""
    concurrent_ops: int = 8
    """One socket may hold 8 of the pool's 30 database connections at most, and less under load."""
    waiting_ops: int = 64
    """The burst of operations (40) fits in what waits and runs; more waiting than that is answered `overloaded`."""
    history_page: int = 200
    """200 events of 500 B are 100 KiB: below the out-queue, above what a short cut loses."""
    recover_events: int = 1_000
    """Five pages. Above that a snapshot is smaller than the history."""
    recover_age_s: int = 24 * 3600
    """A closed laptop overnight recovers; who comes back later loads the page anew anyway."""
    message_bytes: int = 1024
    """`room.send`: reactions, cursors, strokes. Fifty a second of these to three others is 150 KiB/s."""
    queue_bytes: int = 512 * 1024
    """A second of a hot room at 300 KiB/s and some more; ten thousand stuck readers would still fit in 5 GiB."""
    queue_messages: int = 512
    """The same bound for small messages, whose overhead is larger than their bytes."""
    auth_s: float = 5.0
    """A slow phone needs two round trips (1 s); who is silent for longer only holds memory."""
    op_s: float = 5.0
    """The database's own statement limit; after it the outcome of a change is unknown to the client."""
    ping_s: float = 25.0
    """Below the 30 s after which mobile networks and proxies forget a silent connection (nginx: 60 s)."""
    pong_s: float = 10.0
    """A page in the background is woken once a second; a phone that changes its network is away for some seconds."""
    expiring_s: float = 60.0
    """Time for a client to get a new token, also when its first attempt fails."""
    stalled_s: float = 4.0
    """A reader that takes nothing for this long is closed; with the grace below it is gone within 10 s (PROTOCOL 3)."""
    close_s: float = 2.0
    """Time for the close frame to arrive and be answered, then the transport is aborted."""
    seat_grace_s: float = seats.GRACE.total_seconds()
    """The rooms' own: clients count down to it, and give the seat of a closed tab up after it."""
    errors: int = 20
    """A broken client must not spin; a form that is filled in badly makes some errors, not twenty in `errors_s`."""
    errors_s: float = 10.0
    """The time in which `errors` are counted: people make mistakes more slowly, loops faster."""
    typing_s: float = 2.0
    """Repeated `typing.start` of one person in one place within this time say nothing new."""
    ops: Rate = Rate(20, 40)
    """A page that opens asks for about 20 things at once; nobody clicks 20 times a second."""
    chat_send: Rate = Rate(5, 10)
    """Faster than anybody types; a pasted list of ten lines passes."""
    room_join: Rate = Rate(20 / 60, 20)
    """A join may call the media server. Reconnects in a bad network come every few seconds."""
    room_signal: Rate = Rate(60, 120)
    """A fourth person's join costs 30 messages in a moment (three offers with their candidates)."""
    room_send: Rate = Rate(50, 100)
    """Cursors and strokes at 50 a second look continuous; browsers send no more than 60."""
    presence_set: Rate = Rate(10 / 60, 10)
    """People come and go, and look away, some times a minute; each change is told to everybody who looks on."""
    messages: Rate = Rate(400, 1000)
    """All buckets above together allow 150 a second and 310 at once; who sends several times that does not listen."""
    are_rates_on: bool = True
    """False for load tests only (`RATE_LIMITS=off`)."""

    def rates_of(self, op: str) -> tuple[tuple[str, Rate], ...]:
        """Return the buckets that an operation is counted in."""
        match op:
            case "room.send":
                return (("room.send", self.room_send),)
            case "room.signal":
                return (("room.signal", self.room_signal),)
            case "chat.send":
                return (("chat.send", self.chat_send), ("ops", self.ops))
            case "room.join":
                return (("room.join", self.room_join), ("ops", self.ops))
            case "presence.set":
                return (("presence.set", self.presence_set), ("ops", self.ops))
            case _:
                return (("ops", self.ops),)

    def shown(self) -> dict[str, Any]:
        """Return what `connect` tells the client."""
        return {
            "frame_bytes": self.frame_bytes,
            "channels": self.channels,
            "connections": self.connections,
            "concurrent_ops": self.concurrent_ops,
            "history_page": self.history_page,
            "recover_events": self.recover_events,
            "recover_age_s": self.recover_age_s,
            "message_bytes": self.message_bytes,
            "queue_bytes": self.queue_bytes,
            "queue_messages": self.queue_messages,
            "op_s": self.op_s,
            "seat_grace_s": self.seat_grace_s,
            "rates": {
                "ops": self.ops,
                "chat.send": self.chat_send,
                "room.join": self.room_join,
                "room.signal": self.room_signal,
                "room.send": self.room_send,
                "presence.set": self.presence_set,
            },
        }


class Bucket:
    """A token bucket in one number: the time at which it is full again (GCRA, ITU-T I.371).

    Two buckets that count the same thing on two nodes are merged by the later of their times.
    """

    __slots__ = ("full_at", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.full_at = 0.0

    def take(self, now: float) -> float:
        """Take one token; return 0, or the seconds until there is one again (then none was taken)."""
        rate = self.rate
        step = 1 / rate.per_s
        full_at = max(now, self.full_at) + step
        wait = full_at - now - rate.burst * step
        if wait > 1e-9:
            return wait
        self.full_at = full_at
        return 0.0

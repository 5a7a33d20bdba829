"""What deciding one message collects: events and everything that follows from them. Pure.

Rules emit events on a `Turn`; each is applied at once, so the next rule sees what the one before
decided. When all rules have spoken, the turn is frozen into a `Decision`.
"""

from datetime import datetime

import msgspec

from rooms import messages as m, published
from rooms.messages import Evidence, Identity
from rooms.state import Seat, State, apply

# What people say changes nothing else of a room: neither who is in it nor what it waits for.
TALK = frozenset({m.MessageCreated, m.MessageUpdated, m.MessageDeleted, m.MessageRead})


class Numbered(msgspec.Struct, frozen=True):
    """An event with its place in the journal and, when public, on the channel."""

    seq: int
    off: int | None
    event: m.Event


class Decision(msgspec.Struct, frozen=True):
    """What one message leads to; nothing of it is true before it is committed."""

    state: State
    events: tuple[Numbered, ...] = ()
    reply: m.Reply | None = None
    evidence: tuple[Evidence, ...] = ()
    domain: tuple[m.DomainEvent, ...] = ()
    effects: tuple[m.Effect, ...] = ()
    """Only those that the state does not ask for by itself, see `rooms.wishes`."""
    assessed: m.Assessed | None = None
    """The lesson closes with this turn: attendance and what is due are written with it."""
    look: bool = False
    """Somebody came or went: attendance should be shown now, not at its next turn."""
    is_talk: bool = False
    """People said something, and that was all: timers, wishes and what others read of the room are as before."""


class Turn:
    """Collects one decision. Lives only as long as `rooms.room.decide` runs."""

    def __init__(self, state: State, *, now: datetime, wall: datetime) -> None:
        self.state = state
        self.now = now
        self.wall = wall
        self.assessed: m.Assessed | None = None
        self.look = False
        self._events: list[Numbered] = []
        self._said = 0
        """How many of them are talk."""
        self._evidence: list[Evidence] = []
        self._domain: list[m.DomainEvent] = []
        self._effects: list[m.Effect] = []

    def emit(self, event: m.Event) -> None:
        """Let something happen."""
        is_public = published.is_public(event)
        self.state = state = apply(self.state, event, is_public=is_public)
        self._events.append(Numbered(state.seq, state.off if is_public else None, event))
        self._said += type(event) in TALK

    def witness(self, evidence: Evidence) -> None:
        """Keep a fact about who was there. Only lessons need any."""
        if self.state.is_lesson:
            self._evidence.append(evidence)

    def stay(self, seat: Seat, *, until: datetime | None = None, goodbye: str | None = None) -> None:
        """Extend somebody's socket presence to now, or to `until`; a goodbye ends it exactly there."""
        if self.state.uses_livekit:
            return
        self.witness(
            Evidence(
                kind="stay",
                at=seat.joined_at,
                identity=seat.identity,
                session=str(seat.generation),
                until=max(seat.joined_at, until or self.now),
                source="socket",
                reason=goodbye,
            )
        )

    def tell(self, event: m.DomainEvent) -> None:
        """Let the rest of the product know."""
        self._domain.append(event)

    def note(self, identity: Identity, ev: str, payload: msgspec.Struct) -> None:
        """Send something to one person's own channel."""
        self._domain.append(m.Personal(identity, ev, msgspec.Raw(published.encode_event(payload))))

    def want(self, effect: m.Effect) -> None:
        """Have something done outside that the state alone would not ask for."""
        self._effects.append(effect)

    @property
    def is_talk(self) -> bool:
        """See `Decision`."""
        follows = self._evidence or self._domain or self._effects or self.assessed or self.look
        return 0 < self._said == len(self._events) and not follows

    def decision(self, reply: m.Reply | None) -> Decision:
        """Freeze what was collected."""
        return Decision(
            state=self.state,
            events=tuple(self._events),
            reply=reply,
            evidence=tuple(self._evidence),
            domain=tuple(self._domain),
            effects=tuple(self._effects),
            assessed=self.assessed,
            look=self.look,
            is_talk=self.is_talk,
        )

"""Rules of the queue before a full talk: first come, first served. Pure.

Whenever a seat is free it is offered to the first in the queue, and kept for them while the offer
stands, so nobody who comes later can take it.
"""

from datetime import timedelta
from typing import Literal

import msgspec

from rooms import errors, messages as m, published
from rooms.attendance import SEAT_GRACE
from rooms.messages import ConnectionId, Identity
from rooms.state import State, Waiting
from rooms.turn import Turn

# Long enough to see the offer and press a button, short enough for the next in the queue (DESIGN §4).
OFFER = timedelta(seconds=20)
# As for seats.
GRACE = SEAT_GRACE
# Four people rarely leave often enough for the fiftieth to get in; a longer queue only costs each turn.
QUEUE_MAX = 50

EndReason = Literal["seated", "left", "gone", "lapsed", "kicked", "evicted", "closed"]


class QueueUpdated(msgspec.Struct, frozen=True):
    """`queue.updated` on the waiting person's own channel."""

    room_id: str
    position: int | None
    """Counted from 1; None: no longer in the queue."""


class SeatOfferShown(msgspec.Struct, frozen=True):
    """`seat.offered` on the waiting person's own channel: accept by repeating `room.join`."""

    room_id: str
    expires_in_s: int


def enqueue(turn: Turn, command: m.Join) -> m.Queued:
    """Put somebody at the end of the queue, or tell them where they stand.

    Raises:
        RoomFullError: They did not ask to wait, this is a lesson, or the queue is full.
    """
    state = turn.state
    if is_waiting(state, command.user):
        if command.connection is not None:
            seen(turn, command.user, (command.connection,))
    elif not command.queue or state.is_lesson or len(state.queue) >= QUEUE_MAX:
        raise errors.RoomFullError(state.spec.cap)
    else:
        until = None if command.connection else turn.wall + GRACE
        turn.emit(m.WaitBegan(command.user, command.name, command.role, command.connection, until))
    return m.Queued(published.snapshot(turn.state), position(turn.state, command.user))


def is_waiting(state: State, identity: Identity) -> bool:
    """Whether somebody stands in the queue, with an offer or without."""
    return _find(state, identity) is not None


def has_offer(state: State, identity: Identity) -> bool:
    """Whether a seat is kept for somebody."""
    waiting = _find(state, identity)
    return waiting is not None and waiting.offered_until_wall is not None


def position(state: State, identity: Identity) -> int:
    """Return somebody's place, counted from 1."""
    return 1 + [w.identity for w in state.queue].index(identity)


def end(turn: Turn, identity: Identity, reason: EndReason) -> None:
    """Take somebody out of the queue, if they stand in it."""
    if is_waiting(turn.state, identity):
        turn.emit(m.WaitEnded(identity, reason))


def socket_gone(turn: Turn, signal: m.SocketGone) -> None:
    """Forget a socket of somebody who waits; without any, their place is kept for the grace."""
    waiting = _find(turn.state, signal.user)
    if waiting is None or signal.connection not in waiting.connections:
        return
    left = tuple(c for c in waiting.connections if c != signal.connection)
    turn.emit(m.WaitChanged(signal.user, left, None if left else turn.wall + GRACE))


def seen(turn: Turn, identity: Identity, connections: tuple[ConnectionId, ...]) -> None:
    """Remember the sockets of somebody who waits."""
    waiting = _find(turn.state, identity)
    if waiting is None:
        return
    missing = tuple(c for c in connections if c not in waiting.connections)
    if missing:
        turn.emit(m.WaitChanged(identity, waiting.connections + missing, None))


def expire(turn: Turn) -> None:
    """Let go of who was away too long or did not take what was offered."""
    for waiting in turn.state.queue:
        if waiting.until_wall is not None and waiting.until_wall <= turn.wall:
            turn.emit(m.WaitEnded(waiting.identity, "gone"))
        elif waiting.offered_until_wall is not None and waiting.offered_until_wall <= turn.wall:
            turn.emit(m.WaitEnded(waiting.identity, "lapsed"))


def offer_seats(turn: Turn) -> None:
    """Offer every free seat to the first who has no offer yet."""
    for waiting in turn.state.queue:
        if turn.state.taken >= turn.state.spec.cap:
            return
        if waiting.offered_until_wall is None:
            turn.emit(m.SeatOffered(waiting.identity, turn.wall + OFFER))
            shown = SeatOfferShown(str(turn.state.spec.id), int(OFFER.total_seconds()))
            turn.note(waiting.identity, "seat.offered", shown)


def tell_positions(turn: Turn, before: State) -> None:
    """Tell everybody whose place changed."""
    old = {w.identity: place for place, w in enumerate(before.queue, 1)}
    new = {w.identity: place for place, w in enumerate(turn.state.queue, 1)}
    for identity in old | new:
        if old.get(identity) != new.get(identity) and identity not in turn.state.seats:
            place = QueueUpdated(str(turn.state.spec.id), new.get(identity))
            turn.note(identity, "queue.updated", place)


def _find(state: State, identity: Identity) -> Waiting | None:
    return next((w for w in state.queue if w.identity == identity), None)

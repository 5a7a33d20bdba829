"""Rules of seats: who gets one, keeps it, loses it. Pure.

A seat is a lease. `joining` waits for the person to appear, `connected` has no end, `grace` waits for
somebody who vanished. All three count against the cap, and one person has one seat whatever the
number of their devices.
"""

from datetime import datetime, timedelta

from rooms import errors, messages as m, published, waiting
from rooms.attendance import SEAT_GRACE
from rooms.messages import ConnectionId, Identity, RoomKind, RoomStatus, SeatStatus
from rooms.state import Seat, State
from rooms.turn import Turn

# A token lives 60 s and LiveKit forgives another 60 s; until then a late client may still appear on it
# (realtime.md 3.4). Shorter would let two people use one place, longer keeps an unused place from others.
JOINING = timedelta(seconds=120)
GRACE = SEAT_GRACE
# Several devices that enter LiveKit at once as the same person throw each other out for 30 to 45 s (measured), in steps
# of its own 15 s of patience with a half-open connection; one that has not entered by then will not.
ENTERING = timedelta(seconds=15)
# The doors of a lesson: so long before it begins they open (DESIGN §4).
DOORS_OPEN_BEFORE = timedelta(minutes=10)
# A lesson may run over by this much; until then the doors stay open.
OVERRUN = timedelta(minutes=5)


def join(turn: Turn, command: m.Join) -> m.Reply:
    """Give a seat, the one already held, or a place in the queue.

    Raises:
        OverloadedError: Another device of the same person is just entering the media room.
    """
    state = turn.state
    if not state.takes_people:
        raise errors.RoomClosedError(state.reason or "closed")
    if command.user in state.banned:
        raise errors.BannedError
    _check_doors(turn)
    held = state.seats.get(command.user)
    if held is not None:
        _wait_for_the_other(turn, held, command.connection)
        _return_to(turn, held, command.connection)
    elif not waiting.has_offer(state, command.user) and _free_for(turn, command.user) <= 0:
        return waiting.enqueue(turn, command)
    else:
        take(turn, command.user, command.name, command.role, command.connection)
        waiting.end(turn, command.user, "seated")
    if state.uses_livekit:
        turn.emit(m.MediaAllowed(command.user, command.connection, turn.wall + ENTERING))
    seat = turn.state.seats[command.user]
    if turn.state.status is RoomStatus.OPEN and not turn.state.is_lesson:
        turn.emit(m.RoomWentLive(turn.now))
    view = m.SeatView(seat.no, seat.status, seat.generation)
    return m.Joined(published.snapshot(turn.state), view)


def take(turn: Turn, identity: Identity, name: str, role: m.Role, connection: ConnectionId | None) -> None:
    """Give a new seat; the caller has made sure that one is free."""
    state = turn.state
    used = {seat.no for seat in state.seats.values()}
    no = next(no for no in range(1, state.spec.cap + 1) if no not in used)
    if not state.is_lesson:
        role = "host" if state.host in {identity, None} else "member"
    is_present = _is_present(turn, identity, has_socket=connection is not None)
    status = SeatStatus.CONNECTED if is_present else SeatStatus.JOINING
    lease = _lease(turn, status)
    turn.emit(m.SeatTaken(identity, name, role, no, state.seat_count + 1, status, turn.now, lease))
    if connection is not None:
        turn.emit(m.SocketsChanged(identity, (connection,)))
    if status is SeatStatus.CONNECTED:
        turn.stay(turn.state.seats[identity])
    turn.look = True


def reseat(turn: Turn, identity: Identity) -> None:
    """Seat somebody whom LiveKit shows and who has none, if they were admitted and one is free."""
    state = turn.state
    guest = state.admitted.get(identity)
    doors = _doors(state)
    is_shut = doors is not None and not doors[0] <= turn.now <= doors[1]
    if identity in state.banned or guest is None or is_shut or _free_for(turn, identity) <= 0:
        return
    take(turn, identity, guest.name, guest.role, None)


def leave(turn: Turn, command: m.Leave) -> m.Done:
    """Give up seat, offer or place in the queue; repeating it changes nothing."""
    seat = turn.state.seats.get(command.user)
    if seat is not None:
        free(turn, seat, "left")
    waiting.end(turn, command.user, "left")
    return m.Done()


def kick(turn: Turn, command: m.Kick) -> m.Done:
    """Remove somebody, with a ban for the room's life; not the student of a booking, who pays for a lesson they miss."""
    state = turn.state
    if not command.admin and command.by != state.chair:
        raise errors.NotAllowedError("the host or the tutor")
    if not command.admin and state.spec.kind is RoomKind.BOOKING:
        raise errors.NotAllowedError("an administrator")
    if command.user == command.by:
        raise errors.ConflictError("Leave the room instead of removing yourself.")
    if not state.takes_people:
        raise errors.RoomClosedError(state.reason or "closed")
    seat = state.seats.get(command.user)
    is_here = seat is not None or waiting.is_waiting(state, command.user)
    if not is_here and not command.ban:
        return m.Done()
    turn.emit(m.Kicked(command.user, command.by, command.ban))
    if seat is not None:
        free(turn, seat, "kicked")
    waiting.end(turn, command.user, "kicked")
    return m.Done()


def evict(turn: Turn, command: m.Evict) -> m.Done:
    """Remove somebody whose right to be here has ended, and forget that they were ever let in.

    It is said even of somebody without a seat: they may be looking on.
    """
    if not turn.state.takes_people:
        return m.Done()
    turn.emit(m.Evicted(command.user, command.reason))
    seat = turn.state.seats.get(command.user)
    if seat is not None:
        free(turn, seat, "evicted")
    waiting.end(turn, command.user, "evicted")
    return m.Done()


def free(turn: Turn, seat: Seat, reason: m.LeaveReason) -> None:
    """Take a seat back. Whoever was present was so until now; whoever vanished, until they did."""
    if seat.status is SeatStatus.CONNECTED or reason == "left":
        turn.stay(seat, goodbye=reason)
    turn.emit(m.SeatFreed(seat.identity, seat.no, seat.generation, reason))
    turn.look = True


def expire(turn: Turn) -> None:
    """Free the seats whose lease is over."""
    for seat in turn.state.seats.values():
        if seat.until_wall is not None and seat.until_wall <= turn.wall:
            free(turn, seat, "expired")


# --- Sockets ------------------------------------------------------------------------------------


def socket_gone(turn: Turn, signal: m.SocketGone) -> None:
    """Forget a socket; when it was the last, the grace begins."""
    seat = turn.state.seats.get(signal.user)
    if seat is None:
        waiting.socket_gone(turn, signal)
        return
    if signal.connection not in seat.connections:
        return
    left = tuple(c for c in seat.connections if c != signal.connection)
    if seat.status is SeatStatus.CONNECTED:
        turn.stay(seat, until=min(turn.now, signal.seen_at or turn.now))
    turn.emit(m.SocketsChanged(seat.identity, left))
    if not left and seat.status is SeatStatus.CONNECTED:
        _change(turn, seat, SeatStatus.GRACE)


def sockets_seen(turn: Turn, signal: m.SocketsSeen) -> None:
    """Extend the presence of everybody a gateway sees, and welcome back who was missed."""
    for identity, connections in signal.sockets.items():
        seat = turn.state.seats.get(identity)
        if seat is None:
            waiting.seen(turn, identity, connections)
            continue
        missing = tuple(c for c in connections if c not in seat.connections)
        if missing:
            turn.emit(m.SocketsChanged(identity, seat.connections + missing))
        seat = _appear(turn, identity)
        if seat.status is SeatStatus.CONNECTED:
            turn.stay(seat, until=min(signal.seen.get(identity, signal.at), turn.now))


def adopt(turn: Turn) -> None:
    """Start the grace of everybody who was in anew: our outage is nobody's absence."""
    present = [s for s in turn.state.seats.values() if s.status is not SeatStatus.JOINING]
    turn.emit(m.Adopted(turn.wall + GRACE))
    for seat in present:
        _change(turn, turn.state.seats[seat.identity], SeatStatus.GRACE)


def travel(turn: Turn) -> None:
    """Extend the presence of everybody connected to now, which has just been moved."""
    for seat in turn.state.seats.values():
        if seat.status is SeatStatus.CONNECTED:
            turn.stay(seat)


# --- Media --------------------------------------------------------------------------------------


def media_entered(turn: Turn, identity: Identity) -> None:
    """LiveKit shows somebody: their seat is connected, or they get one, or they are removed."""
    seat = turn.state.seats.get(identity)
    if seat is None:
        reseat(turn, identity)
    elif seat.status is not SeatStatus.CONNECTED:
        _change(turn, seat, SeatStatus.CONNECTED)
        turn.look = True


def media_exited(turn: Turn, identity: Identity) -> None:
    """LiveKit shows somebody no more: with a socket they may come back, without one the grace runs."""
    seat = turn.state.seats.get(identity)
    if seat is not None and seat.status is SeatStatus.CONNECTED:
        _change(turn, seat, SeatStatus.JOINING if seat.connections else SeatStatus.GRACE)
        turn.look = True


# --- Helpers ------------------------------------------------------------------------------------


def _check_doors(turn: Turn) -> None:
    """Refuse to let anybody into a lesson outside its doors."""
    doors = _doors(turn.state)
    if doors is not None and not doors[0] <= turn.now <= doors[1]:
        raise errors.NotAvailableError(opens_at=doors[0], closes_at=doors[1])


def _doors(state: State) -> tuple[datetime, datetime] | None:
    if not state.is_lesson:
        return None
    starts_at, ends_at = state.window
    return starts_at - DOORS_OPEN_BEFORE, ends_at + OVERRUN


def _wait_for_the_other(turn: Turn, seat: Seat, connection: ConnectionId | None) -> None:
    """Let one device of a person after the other into the media room."""
    entering = seat.entering
    is_same = entering is not None and entering.connection == connection
    if entering is not None and not is_same and turn.wall < entering.until_wall:
        raise errors.OverloadedError("another device of yours is just entering")


def _return_to(turn: Turn, seat: Seat, connection: ConnectionId | None) -> None:
    """Let somebody who has a seat join again, on the same device or another."""
    if connection is not None and connection not in seat.connections:
        turn.emit(m.SocketsChanged(seat.identity, (*seat.connections, connection)))
    seat = _appear(turn, seat.identity)
    if seat.status is SeatStatus.CONNECTED:
        turn.stay(seat)
    is_half_over = seat.until_wall is not None and seat.until_wall - turn.wall < JOINING / 2
    if seat.status is SeatStatus.GRACE or (seat.status is SeatStatus.JOINING and is_half_over):
        # A new token was asked for; it needs the whole time again.
        _change(turn, seat, SeatStatus.JOINING)
    if seat.identity in turn.state.media:
        # Their media broke before we heard of it, or this is another device: a crashed LiveKit tells nobody.
        turn.want(m.PollMedia(turn.state.generation))


def _appear(turn: Turn, identity: Identity) -> Seat:
    """Bring the seat of somebody who has a socket where sockets and media say it should be."""
    seat = turn.state.seats[identity]
    if not seat.connections or seat.status is SeatStatus.CONNECTED:
        return seat
    if _is_present(turn, identity, has_socket=True):
        _change(turn, seat, SeatStatus.CONNECTED)
        turn.look = True
    elif seat.status is SeatStatus.GRACE:
        _change(turn, seat, SeatStatus.JOINING)
    return turn.state.seats[identity]


def _is_present(turn: Turn, identity: Identity, *, has_socket: bool) -> bool:
    return identity in turn.state.media if turn.state.uses_livekit else has_socket


def _change(turn: Turn, seat: Seat, status: SeatStatus) -> None:
    lease = _lease(turn, status)
    turn.emit(m.SeatChanged(seat.identity, seat.no, seat.generation, status, lease))


def _lease(turn: Turn, status: SeatStatus) -> datetime | None:
    match status:
        case SeatStatus.CONNECTED:
            return None
        case SeatStatus.JOINING:
            return turn.wall + JOINING
        case SeatStatus.GRACE:
            return turn.wall + GRACE


def _free_for(turn: Turn, identity: Identity) -> int:
    """Seats that this person may take: the tutor's own is kept until the tutor is in."""
    state = turn.state
    kept = state.is_lesson and identity != state.spec.owner and state.spec.owner not in state.seats
    return state.spec.cap - state.taken - kept

"""What a state asks for: when to be woken, and what to have done outside. Pure.

Both are derived from the state and nowhere stored beside it, so they cannot be forgotten: whoever adopts a room
knows from its state alone what is still to be done.
"""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from rooms import lessons, messages as m, seats, sightings
from rooms.messages import RoomStatus
from rooms.state import State

Clock = Literal["business", "wall"]


class Timer(msgspec.Struct, frozen=True):
    """A moment at which the room has to look at itself."""

    due_at: datetime
    clock: Clock


# Live attendance is shown this often (a person sees their time grow), see also `Decision.look`.
LOOK_EVERY = timedelta(seconds=15)


def timers(state: State, *, now: datetime, wall: datetime) -> dict[str, Timer]:
    """Return the future moments that matter. What is past was dealt with in the turn that saw it pass."""
    wished = {**_leases(state), **_deadlines(state)}
    clocks = {"business": now, "wall": wall}
    # Closing lasts until a turn has written the result, so that timer stays armed however late it is.
    return {
        name: timer
        for name, timer in wished.items()
        if timer.due_at > clocks[timer.clock] or name == "finish"
    }


def _leases(state: State) -> dict[str, Timer]:
    """Return the ends of seats, offers and places in the queue: wall clock."""
    found: dict[str, Timer] = {}
    for seat in state.seats.values():
        if seat.until_wall is not None:
            found[f"seat {seat.identity}"] = Timer(seat.until_wall, "wall")
    for waiting in state.queue:
        if waiting.until_wall is not None:
            found[f"wait {waiting.identity}"] = Timer(waiting.until_wall, "wall")
        if waiting.offered_until_wall is not None:
            found[f"offer {waiting.identity}"] = Timer(waiting.offered_until_wall, "wall")
    return found


def _deadlines(state: State) -> dict[str, Timer]:
    """Return what the room's own life waits for: business clock."""
    found: dict[str, datetime] = {}
    if state.is_lesson and state.takes_people:
        starts_at, ends_at = state.window
        if state.status is RoomStatus.OPEN:
            found["start"] = starts_at
        else:
            found["end"] = ends_at
        found["overrun"] = ends_at + seats.OVERRUN
    elif state.takes_people:
        if state.empty_close_at is not None:
            found["empty"] = state.empty_close_at
        if state.status is RoomStatus.OPEN:
            found["unjoined"] = lessons.unjoined_until(state)
    if state.finish_at is not None:
        found["finish"] = state.finish_at
    return {name: Timer(due_at, "business") for name, due_at in found.items()}


def looks(state: State) -> dict[str, timedelta]:
    """Return the periodic looks that the state needs, with their periods on the business clock.

    They are kept in memory only: after a restart the next one comes a period later.
    """
    found: dict[str, timedelta] = {}
    if state.status is RoomStatus.LIVE and state.is_lesson and state.seats:
        found["look"] = LOOK_EVERY
    if state.takes_people and state.uses_livekit and state.media_ready and (state.seats or state.media):
        found["poll"] = sightings.POLL_EVERY
    return found


def effects(state: State) -> tuple[m.Effect, ...]:
    """Return what has to be done outside, until an event says that it was."""
    found: list[m.Effect] = []
    if state.uses_livekit:
        found.extend(_media_effects(state))
    if state.status is RoomStatus.CLOSED and state.outcome is not None and not state.settled:
        found.append(m.Settle())
    return tuple(found)


def _media_effects(state: State) -> list[m.Effect]:
    if not state.takes_people:
        # Nobody ever had a seat: there was no media room either.
        was_used = state.seat_count > 0 and not state.media_deleted
        return [m.DeleteMedia(state.generation)] if was_used else []
    found: list[m.Effect] = []
    if state.seats and not state.media_ready:
        found.append(m.EnsureMedia(state.generation))
    found.extend(
        m.RemoveParticipant(state.generation, identity, session.sid)
        for identity, session in state.media.items()
        if identity not in state.seats
    )
    return found

"""The rules of a room: `decide(state, message) → events, effects, reply`. Pure.

Every decision has three steps: what has run out by now ends; the message itself; what follows from both. So a
timer needs no rule of its own, a late one does no harm, and a message that comes in its place does its work.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from rooms import chat, lessons, messages as m, published, seats, sightings, waiting
from rooms.messages import RoomKind
from rooms.state import State, apply, created
from rooms.turn import Decision, Numbered, Turn

Rule = Callable[[Turn, Any], m.Reply | None]


def decide(state: State, message: m.Message, *, now: datetime, wall: datetime) -> Decision:
    """Decide what a message leads to.

    Raises:
        RoomError: The command is refused; nothing happened.
    """
    turn = Turn(state, now=now, wall=wall)
    rule = RULES[type(message)]
    _expire(turn)
    reply = rule(turn, message)
    _follow(turn, before=state)
    return turn.decision(reply)


def open_room(spec: m.RoomSpec, *, epoch: str, now: datetime, wall: datetime) -> Decision:
    """Decide how a room begins: with a talk's host on a joining seat, or with an empty lesson."""
    creation = m.RoomCreated(spec, epoch, now)
    turn = Turn(created(creation), now=now, wall=wall)
    turn.tell(m.RoomOpened(spec.id, spec.kind, spec.owner))
    if spec.kind is RoomKind.TALK:
        seats.take(turn, spec.owner, spec.owner_name, "host", None)
    decision = turn.decision(None)
    first = Numbered(1, 1, creation)
    return Decision(state=decision.state, events=(first, *decision.events), domain=decision.domain)


def replay(state: State | None, events: Iterable[m.Event]) -> State:
    """Return the state after further events; the first event of all creates it."""
    for event in events:
        if isinstance(event, m.RoomCreated):
            state = created(event)
        else:
            assert state is not None, "a journal begins with the creation"
            state = apply(state, event, is_public=published.is_public(event))
    assert state is not None, "a room has at least one event"
    return state


def _expire(turn: Turn) -> None:
    if turn.state.takes_people:
        seats.expire(turn)
        waiting.expire(turn)


def _follow(turn: Turn, before: State) -> None:
    if turn.state.takes_people:
        waiting.offer_seats(turn)
    lessons.follow(turn)
    if turn.is_talk:
        return
    waiting.tell_positions(turn, before)
    listing = _listing(turn.state)
    if listing != _listing(before):
        turn.tell(listing)


def _listing(state: State) -> m.RoomUpdated:
    spec = state.spec
    return m.RoomUpdated(spec.id, spec.kind, spec.title, state.status, state.chair, state.taken)


# --- Signals without a home of their own --------------------------------------------------------


def _timer_due(turn: Turn, signal: m.TimerDue) -> None:
    """Look at LiveKit's list; every other timer only wakes the room."""
    if signal.name == "poll" and turn.state.takes_people and turn.state.media_ready:
        turn.want(m.PollMedia(turn.state.generation))


def _adopt(turn: Turn, signal: m.Adopt) -> None:
    """Go on with a room that another process ran before."""
    state = turn.state
    if not state.takes_people or not (state.seats or state.queue or state.media):
        return
    lessons.outage(turn, signal)
    seats.adopt(turn)
    if turn.state.media_ready:
        turn.want(m.PollMedia(turn.state.generation))


def _effect_done(turn: Turn, signal: m.EffectResult) -> None:
    """Note what was done outside; news of an older media room changes nothing any more."""
    state = turn.state
    match signal.effect:
        case m.EnsureMedia(generation):
            if generation == state.generation and state.takes_people and not state.media_ready:
                turn.emit(m.MediaReady(generation))
        case m.DeleteMedia(generation):
            if generation == state.generation and not state.takes_people and not state.media_deleted:
                turn.emit(m.MediaDeleted())
        case m.RemoveParticipant(generation, identity, sid):
            if generation == state.generation:
                sightings.leave(turn, identity, sid)
        case m.Settle():
            if not state.settled:
                turn.emit(m.Settled())
        case m.PollMedia():
            pass


# One rule a message, for commands and signals alike. What is missing here is answered by the actor itself
# from stored rows (`InboxChanged`, `ReadAttendance`).
RULES: dict[type, Rule] = {
    m.Join: seats.join,
    m.Leave: seats.leave,
    m.Kick: seats.kick,
    m.Evict: seats.evict,
    m.Close: lessons.close,
    m.UpdateRoom: lessons.update,
    m.EndLesson: lessons.end_lesson,
    m.CancelLesson: lessons.cancel_lesson,
    m.Reschedule: lessons.reschedule,
    m.SendChat: chat.send,
    m.EditChat: chat.edit,
    m.DeleteChat: chat.delete,
    m.ReadChat: chat.read,
    m.SocketGone: seats.socket_gone,
    m.SocketsSeen: seats.sockets_seen,
    m.TimerDue: _timer_due,
    m.Travelled: lambda turn, _: seats.travel(turn),
    m.Adopt: _adopt,
    m.MediaChanged: sightings.changed,
    m.Polled: sightings.polled,
    m.PollFailed: sightings.poll_failed,
    m.EffectResult: _effect_done,
    m.Assessed: lessons.assessed,
}

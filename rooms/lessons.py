"""Rules of a room's life: beginning, end; a talk's host and its empty close. Pure."""

from datetime import datetime, timedelta

import msgspec

from rooms import errors, messages as m, seats
from rooms.messages import Evidence, Identity, RoomStatus
from rooms.state import State
from rooms.turn import Turn

# Late evidence: LiveKit delivers nothing older than 46 s (30 s in its queue + 15 s of retries, measured).
CLOSING = timedelta(seconds=90)
# Everybody may have been thrown out by one broken access point; shorter would close on them.
EMPTY_CLOSE = timedelta(seconds=20)
# A talk announced for a time waits for late guests.
SCHEDULED_WAIT = timedelta(minutes=15)
# A talk that nobody ever joined is not listed for ever.
UNJOINED = timedelta(hours=24)
TITLE_MAX = 255


class AttendanceUpdated(msgspec.Struct, frozen=True):
    """`attendance.updated`, to the person and to the tutor."""

    room_id: str
    user_id: Identity
    attended_s: int
    required_s: int
    reached: bool


# --- Commands -----------------------------------------------------------------------------------


def close(turn: Turn, command: m.Close) -> m.Done:
    """Close a talk; end a running lesson."""
    if turn.state.is_lesson:
        return end_lesson(turn, m.EndLesson(command.by, command.admin))
    if turn.state.status is RoomStatus.CLOSED:
        return m.Done()
    if not command.admin and command.by != turn.state.host:
        raise errors.NotAllowedError("the host")
    by_host = command.by == turn.state.host
    close_room(turn, "closed_by_host" if by_host else "closed_by_admin", outcome=None)
    return m.Done()


def update(turn: Turn, command: m.UpdateRoom) -> m.Done:
    """Give the room another title."""
    _require_life(turn.state)
    if not command.admin and command.by != turn.state.chair:
        raise errors.NotAllowedError("the host or the tutor")
    title = command.title.replace("\x00", "").strip()
    if not 1 <= len(title) <= TITLE_MAX:
        raise errors.InvalidTextError("title", TITLE_MAX)
    if title != turn.state.spec.title:
        turn.emit(m.Retitled(title))
    return m.Done()


def end_lesson(turn: Turn, command: m.EndLesson) -> m.Done:
    """End a running lesson early."""
    state = turn.state
    if not state.is_lesson:
        raise errors.ConflictError("A talk is closed, not ended.")
    if not command.admin and command.by != state.spec.owner:
        raise errors.NotAllowedError("the tutor")
    match state.status:
        case RoomStatus.OPEN:
            raise errors.ConflictError("The lesson has not begun; cancel it instead.")
        case RoomStatus.LIVE:
            _over(turn)
        case RoomStatus.CLOSING | RoomStatus.CLOSED:
            pass
    return m.Done()


def cancel_lesson(turn: Turn, command: m.CancelLesson) -> m.Done:
    """Cancel a lesson before it begins."""
    state = turn.state
    if not state.is_lesson or (state.status is not RoomStatus.OPEN and state.outcome != "cancelled"):
        raise errors.ConflictError("Only a lesson that has not begun can be cancelled.")
    if state.status is RoomStatus.OPEN:
        _cancel(turn, command.reason)
    return m.Done()


def reschedule(turn: Turn, command: m.Reschedule) -> m.Done:
    """Move a lesson that has not begun."""
    state = turn.state
    if not state.is_lesson or state.status is not RoomStatus.OPEN:
        raise errors.ConflictError("Only a lesson that has not begun can be moved.")
    if not turn.now < command.starts_at < command.ends_at:
        raise errors.ConflictError("A lesson begins in the future and ends after it begins.")
    if (command.starts_at, command.ends_at) != state.window:
        turn.emit(m.Rescheduled(command.starts_at, command.ends_at))
    return m.Done()


# --- What follows by itself ---------------------------------------------------------------------


def follow(turn: Turn) -> None:
    """Let everything happen that the state and the time now ask for."""
    if turn.state.is_lesson:
        _follow_lesson(turn)
    elif turn.state.takes_people:
        _pass_host(turn)
        _follow_emptiness(turn)


def _follow_lesson(turn: Turn) -> None:
    state = turn.state
    _, ends_at = state.window
    if state.status is RoomStatus.OPEN:
        if turn.now >= ends_at + seats.OVERRUN:
            _cancel(turn, "expired")
        elif _begins(turn):
            turn.emit(m.RoomWentLive(turn.now))
            turn.tell(m.LessonStarted(state.spec.id, state.spec.kind, turn.now))
    if turn.state.status is not RoomStatus.LIVE:
        return
    is_empty_after = turn.now >= ends_at and not state.seats
    if is_empty_after or turn.now >= ends_at + seats.OVERRUN:
        _over(turn)


def _begins(turn: Turn) -> bool:
    """Whether the tutor is in, or the planned start is reached with somebody inside."""
    state = turn.state
    return state.spec.owner in state.seats or (turn.now >= state.window[0] and bool(state.seats))


def _over(turn: Turn) -> None:
    turn.emit(m.LessonOver(turn.now, "ended", turn.now + CLOSING))
    turn.emit(m.RoomClosing("ended"))
    _empty(turn)


def _cancel(turn: Turn, reason: str) -> None:
    close_room(turn, reason, outcome="cancelled")
    spec = turn.state.spec
    turn.tell(m.LessonCancelled(spec.id, spec.kind, reason, turn.now))
    turn.assessed = m.Assessed((), finish=True)


def _pass_host(turn: Turn) -> None:
    """Make the longest present person host when the host has no seat any more.

    Before the first join the creator stays host, even when the joining seat was not used in time.
    """
    state = turn.state
    if state.host in state.seats or state.status is RoomStatus.OPEN:
        return
    heir = next(iter(state.seats), None)
    if heir != state.host:
        turn.emit(m.HostPassed(heir))


def _follow_emptiness(turn: Turn) -> None:
    state = turn.state
    if state.status is RoomStatus.OPEN:
        if not state.seats and turn.now >= unjoined_until(state):
            close_room(turn, "expired", outcome=None)
        return
    if state.seats or state.queue:
        if state.empty_close_at is not None:
            turn.emit(m.RoomEmptied(None))
        return
    if state.empty_close_at is None:
        close_at = turn.now + EMPTY_CLOSE
        if state.spec.starts_at is not None:
            close_at = max(close_at, state.spec.starts_at + SCHEDULED_WAIT)
        turn.emit(m.RoomEmptied(close_at))
    elif turn.now >= state.empty_close_at:
        close_room(turn, "empty", outcome=None)


def unjoined_until(state: State) -> datetime:
    """Return when a talk is given up that nobody has joined."""
    return max(state.spec.starts_at or state.created_at, state.created_at) + UNJOINED


def close_room(turn: Turn, reason: str, *, outcome: m.Outcome | None) -> None:
    """Close the room for good."""
    _empty(turn)
    turn.emit(m.RoomWasClosed(reason, outcome, turn.now))
    spec = turn.state.spec
    turn.tell(m.RoomClosed(spec.id, spec.kind, reason))


def _empty(turn: Turn) -> None:
    """Let everybody go."""
    for seat in turn.state.seats.values():
        seats.free(turn, seat, "closed")
    for waiting in turn.state.queue:
        turn.emit(m.WaitEnded(waiting.identity, "closed"))


# --- Attendance ---------------------------------------------------------------------------------


def assessed(turn: Turn, signal: m.Assessed) -> None:
    """Show live attendance, or close the lesson with it."""
    state = turn.state
    if signal.finish:
        if state.finish_at is None or turn.now < state.finish_at:
            return
        turn.assessed = signal
        show(turn, signal, everybody=True)
        close_room(turn, state.reason or "ended", outcome="completed")
        return
    if state.status is not RoomStatus.LIVE:
        return
    show(turn, signal, everybody=False)
    newly = tuple(p for p in signal.people if p.reached and p.user_id not in state.reached)
    if newly:
        turn.emit(m.AttendanceShown(tuple(p.user_id for p in newly)))
    for person in newly:
        turn.tell(m.AttendanceReached(state.spec.id, person.user_id, person.attended_s, person.required_s))


def show(turn: Turn, signal: m.Assessed, *, everybody: bool) -> None:
    """Tell each person inside, or with `everybody` each who ever was, and the tutor."""
    state = turn.state
    for person in signal.people:
        is_news = person.reached and person.user_id not in state.reached
        if not (everybody or is_news or person.user_id in state.seats):
            continue
        shown = AttendanceUpdated(
            str(state.spec.id), person.user_id, person.attended_s, person.required_s, person.reached
        )
        for identity in {person.user_id, state.spec.owner}:
            turn.note(identity, "attendance.updated", shown)


def outage(turn: Turn, signal: m.Adopt) -> None:
    """Remember that for a while it was we who could see nobody."""
    if turn.state.status is RoomStatus.LIVE and signal.outage_from < turn.now:
        turn.witness(Evidence(kind="outage", at=signal.outage_from, until=turn.now, source="ours"))


def _require_life(state: State) -> None:
    if not state.takes_people:
        raise errors.RoomClosedError(state.reason or "closed")

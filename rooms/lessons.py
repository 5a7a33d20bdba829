"""Rules of a room's life: beginning, end; a talk's host and its empty close. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from rooms import errors, messages as m, seats
from rooms.messages import Evidence, Identity, RoomKind, RoomStatus
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
# B-08c: who has not come to a booked lesson by then is absent. Earlier its tutor would end it before the student is there,
# and be paid for having come.
STUDENT_MAY_COME = timedelta(minutes=10)
# The 20 % of the shortest lesson are three minutes: news of each minute show them coming. Each is a stored event for
# two people, so in a lecture of 500 a shorter time is most of what the server does.
TELL_EVERY_S = 60


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
    """End a running lesson early; that of a booking only once its student had time to come."""
    state = turn.state
    if not state.is_lesson:
        raise errors.ConflictError("A talk is closed, not ended.")
    if not command.admin and command.by != state.spec.owner:
        raise errors.NotAllowedError("the tutor")
    match state.status:
        case RoomStatus.OPEN:
            raise errors.ConflictError("The lesson has not begun; cancel it instead.")
        case RoomStatus.LIVE:
            if not command.admin:
                _require_waited(turn)
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
        _cancel(turn, command.reason, actor=command.actor)
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


def _require_waited(turn: Turn) -> None:
    """Refuse the tutor of a booking who does not wait for the student.

    Raises:
        ConflictError: It is too early.
    """
    starts_at, ends_at = turn.state.window
    until = min(starts_at + STUDENT_MAY_COME, ends_at)
    if turn.state.spec.kind is RoomKind.BOOKING and turn.now < until:
        raise errors.ConflictError(f"The student may come: end it from {until:%H:%M} UTC on.")


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


def _cancel(turn: Turn, reason: str, *, actor: str = m.SYSTEM) -> None:
    close_room(turn, reason, outcome="cancelled", actor=actor)
    spec = turn.state.spec
    turn.tell(m.LessonCancelled(spec.id, spec.kind, reason, turn.now, actor))
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


def close_room(turn: Turn, reason: str, *, outcome: m.Outcome | None, actor: str = m.SYSTEM) -> None:
    """Close the room for good."""
    _empty(turn)
    turn.emit(m.RoomWasClosed(reason, outcome, turn.now, actor))
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
        _show(turn, signal.people)
        close_room(turn, state.reason or "ended", outcome="completed")
        return
    if state.status is not RoomStatus.LIVE:
        return
    newly = tuple(p for p in signal.people if _has_newly_reached(state, p))
    told = [p for p in signal.people if p in newly or _is_worth_telling(state, p)]
    if told:
        _show(turn, told)
        reached = tuple(p.user_id for p in newly)
        turn.emit(m.AttendanceShown(reached, {p.user_id: p.attended_s for p in told}))
    for person in newly:
        turn.tell(m.AttendanceReached(state.spec.id, person.user_id, person.attended_s, person.required_s))


def _has_newly_reached(state: State, person: m.AttendanceRow) -> bool:
    return person.reached and person.user_id not in state.reached


def _is_worth_telling(state: State, person: m.AttendanceRow) -> bool:
    """Say whether somebody inside has another minute since they were last told, or was never told."""
    before = state.told.get(person.user_id)
    if person.user_id not in state.seats:
        return False
    return before is None or abs(person.attended_s - before) >= TELL_EVERY_S


def _show(turn: Turn, people: Sequence[m.AttendanceRow]) -> None:
    """Tell each person and the tutor."""
    state = turn.state
    for person in people:
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

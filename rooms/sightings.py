"""Rules for what LiveKit shows: webhooks and polls become evidence, and move seats. Pure.

Webhooks may be lost, doubled and out of order. Evidence is kept as it comes, attendance sorts it out; the
seats only follow the newest picture.
"""

from datetime import timedelta

from rooms import messages as m, seats
from rooms.attendance import ABSENT_TWICE, POLL_SETTLES
from rooms.messages import Evidence, Identity
from rooms.turn import Turn

# Also in LiveKit's room longer than any late webhook travels (46 s, measured).
POLL_EVERY = timedelta(seconds=30)


def changed(turn: Turn, signal: m.MediaChanged) -> None:
    """Take in one webhook."""
    evidence = signal.evidence
    if not signal.counted:
        return
    turn.witness(evidence)
    state = turn.state
    if not state.takes_people or evidence.generation != state.generation:
        if evidence.kind in {"joined", "started"} and _is_over(turn, evidence.generation):
            turn.want(m.DeleteMedia(evidence.generation))
        return
    if evidence.kind == "finished":
        lost(turn)
    elif evidence.identity is not None:
        _person_changed(turn, evidence.kind, evidence.identity, evidence.session)


def _person_changed(turn: Turn, kind: m.EvidenceKind, identity: Identity, sid: str) -> None:
    current = turn.state.media.get(identity)
    if kind == "joined":
        is_known = current is not None and current.sid == sid
        if not is_known and sid not in turn.state.departed:
            enter(turn, identity, sid)
    elif kind in {"left", "aborted"}:
        leave(turn, identity, sid)


def polled(turn: Turn, signal: m.Polled) -> None:
    """Compare LiveKit's own list with ours; it mends what webhooks did not tell."""
    if not turn.state.takes_people or signal.generation != turn.state.generation:
        return
    if signal.people is None:
        if turn.state.media_ready:
            lost(turn)
        return
    shown = {p.identity: p for p in signal.people if p.active and p.counted}
    for person in shown.values():
        turn.witness(
            Evidence(
                kind="seen",
                at=signal.at,
                identity=person.identity,
                session=person.sid,
                generation=signal.generation,
                source="poll",
                joined_at=person.joined_at,
            )
        )
        current = turn.state.media.get(person.identity)
        is_known = current is not None and current.sid == person.sid and current.doubted_at is None
        if not is_known and person.sid not in turn.state.departed:
            enter(turn, person.identity, person.sid)
    for identity in turn.state.media.keys() - shown.keys():
        _missing(turn, identity, signal)


def poll_failed(turn: Turn, signal: m.PollFailed) -> None:
    """Remember that LiveKit was away: who is not seen after this was there until the last evidence only."""
    if not turn.state.takes_people or signal.generation != turn.state.generation:
        return
    turn.witness(
        Evidence(kind="outage", at=signal.at, until=signal.at, generation=signal.generation, source="media")
    )


def _missing(turn: Turn, identity: Identity, signal: m.Polled) -> None:
    """Doubt who is not on the list; two lists far enough apart are believed."""
    session = turn.state.media[identity]
    turn.witness(
        Evidence(
            kind="absent",
            at=signal.at,
            identity=identity,
            session=session.sid,
            generation=signal.generation,
            source="poll",
        )
    )
    if session.doubted_at is None:
        turn.emit(m.MediaDoubted(identity, session.sid, signal.at))
    elif signal.at - session.doubted_at >= ABSENT_TWICE + POLL_SETTLES:
        leave(turn, identity, session.sid)


def enter(turn: Turn, identity: Identity, sid: str) -> None:
    """Somebody is in the media room."""
    turn.emit(m.MediaEntered(identity, sid))
    seats.media_entered(turn, identity)


def leave(turn: Turn, identity: Identity, sid: str) -> None:
    """One session of somebody is over; a newer one of theirs goes on."""
    if sid in turn.state.departed:
        return
    was_current = identity in turn.state.media and turn.state.media[identity].sid == sid
    turn.emit(m.MediaExited(identity, sid))
    if was_current:
        seats.media_exited(turn, identity)


def lost(turn: Turn) -> None:
    """The media room is gone while this room lives on: the next one gets a new name."""
    people = tuple(turn.state.media)
    turn.emit(m.MediaLost(turn.state.generation + 1))
    for identity in people:
        seats.media_exited(turn, identity)


def _is_over(turn: Turn, generation: int) -> bool:
    return not turn.state.takes_people or generation < turn.state.generation

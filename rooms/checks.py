"""Invariants of live rooms and of what they leave behind, asked of the database (DESIGN §5, REQUIREMENTS F.1).

`CHECKS` are questions that the database answers by itself, in the form of `billing.checks`. `retrace` goes further:
it lives through the journal of a room again and measures each lesson anew from its raw evidence, so that snapshots,
projections and the facts that moved money are proven to follow from what was witnessed. Nothing here writes.

Retracing costs some 50 µs an event. The hourly check looks at rooms that are open or were lately, so its cost follows
the traffic; `fourtalk check` takes every room there ever was. Either way a page of rooms at a time, streamed.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Select, Text, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing.checks import ROWS_MOST, Check, Violation
from billing.facts import Interval, LessonFacts, Presence
from billing.models import FactsRow, OwnerId, PresenceRow
from rooms import finish, journal, media, messages as m, published, room, wishes
from rooms.attendance import Known
from rooms.messages import Evidence, Identity, RoomStatus
from rooms.models import Attendance, EvidenceRow, Room, RoomEvent, RoomSeat, RoomSnapshot, RoomTimer
from rooms.state import VERSION, State

# Rooms that are retraced together: a few queries for all of them, and their states are in memory at once.
PAGE = 100
# Rows that are decoded in one go. The server checks itself on the loop that serves its people: some ms at a time.
CHUNK = 200
# The hourly check takes rooms that changed within this time before the newest change: every room is seen many times
# before it is left out, also when the check did not run for most of a day.
LATELY = timedelta(days=1)
# Timers that pass without changing the room: only these may be wished and not stored. A talk that nobody joined stays
# while its creator's seat is kept, and that is kept by another clock.
_QUIET_TIMERS = frozenset({"start", "end", "unjoined"})
# A moment before every timer, so that none counts as past.
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)

_events = msgspec.json.Decoder(m.Event)
_states = msgspec.msgpack.Decoder(State)

CHECKS = (
    Check(
        "room_seats",
        "A room has more seats than its cap or than it shows, or somebody has two.",
        """
        select r.id, r.cap, r.seated, count(*) as seats from room r join room_seat s on s.room_id = r.id
        group by r.id
        having count(*) > r.seated or r.seated > r.cap or count(distinct s.identity) < count(*)
            or min(s.cap) <> r.cap or max(s.cap) <> r.cap or max(s.seat_no) > r.cap
        """,
    ),
    Check(
        "closed_room_is_empty",
        "Somebody has a seat in a room that takes nobody.",
        """
        select r.id, r.state, r.seated, s.identity from room r left join room_seat s on s.room_id = r.id
        where r.state in ('closing', 'closed') and (r.seated > 0 or s.identity is not null)
        """,
    ),
    Check(
        "empty_talk_closes",
        "Nobody has a seat in a talk, and nothing will close it.",
        """
        select r.id, r.state from room r
        where r.kind = 'talk' and r.state <> 'closed' and r.seated = 0
          and not exists (select from room_timer t where t.room_id = r.id)
        """,
    ),
    Check(
        "lesson_goes_on",
        "A lesson is not over, and nothing will end it.",
        """
        select r.id, r.state from room r
        where r.kind <> 'talk' and r.state <> 'closed'
          and not exists (select from room_timer t where t.room_id = r.id and t.name in ('overrun', 'finish'))
        """,
    ),
    Check(
        "journal_is_whole",
        "The numbers of a room's events have a gap, or an older owner wrote after a newer one.",
        """
        select room_id, seq, off, fence from (
          select room_id, seq, off, fence, row_number() over journal as seq_due, count(off) over journal as off_due,
            lag(fence, 1, 0) over journal as fence_before
          from room_event window journal as (partition by room_id order by seq)
        ) e
        where seq <> seq_due or off <> off_due or fence < fence_before
        """,
    ),
    Check(
        "room_has_one_owner",
        "A room has no events, or events of an owner that never was.",
        """
        select r.id, e.fence, o.fence as newest_fence from room r
        left join room_owner o on o.room_id = r.id
        left join lateral (
          select fence from room_event where room_id = r.id order by seq desc limit 1
        ) e on true
        where (e.fence <= o.fence) is not true
        """,
    ),
    Check(
        "closed_lesson_has_facts",
        "A lesson was closed without telling what is due, or the other way round.",
        """
        select r.id, r.state, f.lesson_id from room r
        left join lesson_facts f on f.lesson_id = r.id and f.version = 1
        where r.kind <> 'talk' and (r.state = 'closed') <> (f.lesson_id is not null)
        """,
    ),
    Check(
        "absence_by_policy",
        "A tutor was measured by another threshold than that of the policy at the lesson's end.",
        """
        select f.lesson_id, f.version, f.absence_percent, p.attendance_percent
        from lesson_facts f join room r on r.id = f.lesson_id
        join lateral (
          select attendance_percent from policy where effective_from <= f.ended_at
          order by version desc limit 1
        ) p on true
        where f.absence_percent <> p.attendance_percent
        """,
    ),
    Check(
        "webhook_is_evidence",
        "A webhook of a lesson was read and is no evidence.",
        f"""
        select w.event_id, w.room_id, w.type from media_event w
        join room r on r.id = w.room_id and r.kind <> 'talk'
        where w.read_at is not null and w.counted and w.generation is not null
          and w.type in ({", ".join(f"'{kind}'" for kind in media.EVIDENCE_KINDS)})
          and not exists (select from evidence e where e.ref = w.event_id)
        """,  # noqa: S608 - the words are ours
    ),
    Check(
        "dead_letter",
        "A room could not take a message; somebody must look.",
        "select id, room_id, message, error from room_dead_letter order by id",
    ),
)

# What `retrace` may find.
RETRACED: Mapping[str, str] = {
    "journal_retraces": "The events of a room cannot be lived through again, or not with their numbers.",
    "snapshot_is_retraced": "A snapshot is not the state after the events that it stands for.",
    "room_is_retraced": "The row of a room is not what its events say.",
    "seats_are_retraced": "The seats of a room are not what its events say.",
    "timers_are_retraced": "The timers of a room are not what its state asks for.",
    "facts_by_evidence": "The facts of a lesson are not what its raw evidence proves.",
    "attendance_by_evidence": "The attendance of a lesson is not what its raw evidence proves.",
}


class _Faults:
    """What was found so far."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in RETRACED}

    def add(self, name: str, /, **row: Any) -> None:
        """Keep a row that must not be, as long as there are few of its kind."""
        if len(self._rows[name]) < ROWS_MOST:
            self._rows[name].append(row)

    def violations(self) -> list[Violation]:
        """Return what was found, in the order of `RETRACED`."""
        return [Violation(name, RETRACED[name], tuple(rows)) for name, rows in self._rows.items() if rows]


class _Past(msgspec.Struct, frozen=True):
    """What a room's events say."""

    state: State
    closed_at: datetime | None
    """When the closing was committed, by the database's clock: evidence recorded later came too late."""


class _Told(msgspec.Struct, frozen=True):
    """One version of what billing was told of a lesson."""

    facts: LessonFacts
    """As its rows say it."""
    digest: bytes
    """As it was stored beside them."""
    threshold_percent: int


async def retrace(session: AsyncSession, *, every_room: bool) -> Sequence[Violation]:
    """Live through the journals again, of all rooms or of those that changed lately; return what differs.

    The transaction must be one that sees a single moment (repeatable read), or rooms that change meanwhile seem broken.
    """
    faults = _Faults()
    query = select(Room).order_by(Room.id).limit(PAGE)
    if not every_room:
        newest = select(func.max(Room.updated_at)).scalar_subquery()
        query = query.where(or_(Room.state != RoomStatus.CLOSED, Room.updated_at > newest - LATELY))
    rows: Sequence[Room] = (await session.scalars(query)).all()
    while rows:
        pasts = await _pasts(session, [row.id for row in rows], faults)
        await _check_rows(session, rows, pasts, faults)
        await _check_lessons(session, pasts, faults)
        rows = (await session.scalars(query.where(Room.id > rows[-1].id))).all()
    return faults.violations()


# --- The journal ----------------------------------------------------------------------------------------------


async def _pasts(session: AsyncSession, room_ids: Sequence[UUID], faults: _Faults) -> dict[UUID, _Past]:
    """Return what the events of each room say; rooms whose events cannot be retraced are missing."""
    found = await session.scalars(
        select(RoomSnapshot).where(RoomSnapshot.room_id.in_(room_ids), RoomSnapshot.version == VERSION)
    )
    snapshots = {snapshot.room_id: snapshot for snapshot in found}
    query = (
        select(
            RoomEvent.room_id,
            RoomEvent.seq,
            RoomEvent.off,
            cast(RoomEvent.data, Text).label("data"),
            RoomEvent.recorded_at,
        )
        .where(RoomEvent.room_id.in_(room_ids))
        .order_by(RoomEvent.room_id, RoomEvent.seq)
    )
    pasts: dict[UUID, _Past] = {}
    async for room_id, events in _by_room(session, query):
        past = _past(room_id, events, snapshots.get(room_id), faults)
        if past is not None:
            pasts[room_id] = past
    return pasts


def _past(room_id: UUID, rows: Sequence[Any], snapshot: RoomSnapshot | None, faults: _Faults) -> _Past | None:
    """Live through the events of one room, and compare its snapshot on the way."""
    state: State | None = None
    closed_at: datetime | None = None
    for row in rows:
        try:
            event = _events.decode(row.data)
            state = room.replay(state, (event,))
        except Exception as error:  # noqa: BLE001 - whatever a broken history makes a rule raise is a finding
            faults.add("journal_retraces", room_id=room_id, seq=row.seq, error=repr(error))
            return None
        if (row.seq, row.off) != (state.seq, state.off if published.is_public(event) else None):
            faults.add("journal_retraces", room_id=room_id, seq=row.seq, off=row.off, error="numbers")
            return None
        if isinstance(event, m.RoomWasClosed):
            closed_at = row.recorded_at
        if snapshot is not None and snapshot.seq == state.seq and not _is_kept(snapshot, state):
            faults.add("snapshot_is_retraced", room_id=room_id, seq=snapshot.seq)
    assert state is not None, "rows of a room are at least one"
    if snapshot is not None and snapshot.seq > state.seq:
        faults.add("snapshot_is_retraced", room_id=room_id, seq=snapshot.seq, newest=state.seq)
    return _Past(state, closed_at)


def _is_kept(snapshot: RoomSnapshot, state: State) -> bool:
    """Say whether the snapshot holds this state, with the order of people and messages, which the rules go by."""
    try:
        kept = _states.decode(snapshot.state)
    except msgspec.MsgspecError:
        return False
    return snapshot.off == state.off and kept == state and _orders(kept) == _orders(state)


def _orders(state: State) -> object:
    return [*state.seats], [*state.lines], [*state.keys]


# --- What lists, joins and clocks go by -----------------------------------------------------------------------


async def _check_rows(
    session: AsyncSession, rows: Iterable[Room], pasts: Mapping[UUID, _Past], faults: _Faults
) -> None:
    seats: dict[UUID, dict[str, int]] = {room_id: {} for room_id in pasts}
    for seat in await session.scalars(select(RoomSeat).where(RoomSeat.room_id.in_(pasts))):
        seats[seat.room_id][seat.identity] = seat.seat_no
    armed: dict[UUID, dict[str, tuple[str, datetime]]] = {room_id: {} for room_id in pasts}
    for timer in await session.scalars(select(RoomTimer).where(RoomTimer.room_id.in_(pasts))):
        armed[timer.room_id][timer.name] = (timer.clock, timer.due_at)
    for row in rows:
        if row.id in pasts:
            state = pasts[row.id].state
            _check_row(row, state, faults)
            _check_seats(row.id, seats[row.id], state, faults)
            _check_timers(row.id, armed[row.id], state, faults)


def _check_row(row: Room, state: State, faults: _Faults) -> None:
    spec = state.spec
    fixed = {"kind": spec.kind, "cap": spec.cap, "owner": spec.owner, "epoch": state.epoch}
    for column, retraced in (fixed | journal.projection(state)).items():
        if (stored := getattr(row, column)) != retraced:
            faults.add("room_is_retraced", id=row.id, column=column, stored=stored, retraced=retraced)


def _check_seats(room_id: UUID, stored: Mapping[str, int], state: State, faults: _Faults) -> None:
    retraced = {seat.identity: seat.no for seat in state.seats.values()}
    if stored != retraced:
        faults.add("seats_are_retraced", room_id=room_id, stored=stored, retraced=retraced)


def _check_timers(
    room_id: UUID, stored: Mapping[str, tuple[str, datetime]], state: State, faults: _Faults
) -> None:
    wished = wishes.timers(state, now=_BEFORE_ALL, wall=_BEFORE_ALL)
    for name in stored.keys() | wished.keys():
        due = (wished[name].clock, wished[name].due_at) if name in wished else None
        is_quiet = name in _QUIET_TIMERS and name not in stored
        if stored.get(name) != due and not is_quiet:
            faults.add(
                "timers_are_retraced", room_id=room_id, name=name, stored=stored.get(name), retraced=due
            )


# --- From evidence to facts -----------------------------------------------------------------------------------


async def _check_lessons(session: AsyncSession, pasts: Mapping[UUID, _Past], faults: _Faults) -> None:
    """Measure the lessons that are over anew. What their facts did to money, `billing.checks` goes on to prove."""
    over = [room_id for room_id, past in pasts.items() if past.state.outcome is not None]
    if not over:
        return
    told = await _told(session, over)
    frozen: dict[UUID, dict[Identity, m.AttendanceRow]] = {room_id: {} for room_id in told}
    for person in await session.scalars(select(Attendance).where(Attendance.room_id.in_(told))):
        frozen[person.room_id][Identity(person.identity)] = finish.frozen(person)
    columns = (getattr(EvidenceRow, name) for name in Evidence.__struct_fields__)
    query = (
        select(EvidenceRow.room_id, EvidenceRow.recorded_at, *columns)
        .where(EvidenceRow.room_id.in_(told))
        .order_by(EvidenceRow.room_id)
    )
    unseen = set(told)
    async for room_id, rows in _by_room(session, query):
        unseen.discard(room_id)
        known = [(row.recorded_at, msgspec.convert(row._asdict(), Evidence)) for row in rows]
        _check_lesson(pasts[room_id], known, told[room_id], frozen[room_id], faults)
    for room_id in unseen:
        _check_lesson(pasts[room_id], (), told[room_id], frozen[room_id], faults)


def _check_lesson(
    past: _Past,
    known: Sequence[tuple[datetime, Evidence]],
    told: Sequence[_Told],
    frozen: Mapping[Identity, m.AttendanceRow],
    faults: _Faults,
) -> None:
    lesson_id = past.state.spec.id
    measured = _measured(past, known, threshold_percent=told[0].threshold_percent)
    judged: list[LessonFacts] = []
    for assessed in measured:
        facts = finish.lesson_facts(past.state, assessed)
        if not judged or judged[-1].digest != facts.digest:
            judged.append(facts)  # what says nothing new is told to nobody
    for version, (one, again) in enumerate(zip_longest(told, judged), 1):
        if one is None or again is None or not one.digest == one.facts.digest == again.digest:
            faults.add(
                "facts_by_evidence",
                lesson_id=lesson_id,
                version=version,
                stored=one and _shown(one.facts),
                retraced=again and _shown(again),
            )
    people = {person.user_id: person for person in measured[0].people}
    for identity in frozen.keys() | people.keys():
        stored, retraced = frozen.get(identity), people.get(identity)
        if stored != retraced:
            faults.add(
                "attendance_by_evidence",
                room_id=lesson_id,
                identity=identity,
                stored=stored,
                retraced=retraced,
            )


def _measured(
    past: _Past, known: Sequence[tuple[datetime, Evidence]], *, threshold_percent: int
) -> list[m.Assessed]:
    """Measure a lesson by what was known when it was closed, and again for whenever more became known."""
    state, closed_at = past.state, past.closed_at
    assert closed_at is not None, "a lesson has its outcome from its closing"
    assert state.ended_at is not None, "a lesson that is closed has ended"
    if state.outcome == "cancelled":
        return [m.Assessed((), finish=True)]
    found: list[m.Assessed] = []
    for moment in (closed_at, *sorted({at for at, _ in known if at > closed_at})):
        by_then = Known(evidence for at, evidence in known if at <= moment)
        people = finish.measure(state, by_then, until=state.ended_at, threshold_percent=threshold_percent)
        found.append(m.Assessed(people, finish=True))
    return found


def _shown(facts: LessonFacts) -> dict[str, Any]:
    """Return what of the facts decides about money."""
    return {
        "tutor_attended_s": facts.tutor_attended_s,
        "tutor_absent": facts.tutor_absent,
        "cancelled": facts.cancelled,
        "total_s": facts.total_s,
        "students": {str(student): presence.attended_s for student, presence in facts.students.items()},
    }


async def _told(session: AsyncSession, lesson_ids: Sequence[UUID]) -> dict[UUID, list[_Told]]:
    """Return every version of what billing was told of each lesson, as its rows say it."""
    students: dict[tuple[UUID, int], dict[OwnerId, Presence]] = {}
    for row in await session.scalars(select(PresenceRow).where(PresenceRow.lesson_id.in_(lesson_ids))):
        intervals = msgspec.convert(row.intervals, tuple[Interval, ...])
        presence = Presence(row.attended_s, intervals, row.confidence)
        students.setdefault((row.lesson_id, row.version), {})[OwnerId(row.student_id)] = presence
    told: dict[UUID, list[_Told]] = {}
    query = select(FactsRow).where(FactsRow.lesson_id.in_(lesson_ids)).order_by(FactsRow.version)
    for stored in await session.scalars(query):
        facts = LessonFacts(
            lesson_id=stored.lesson_id,
            tutor_id=OwnerId(stored.tutor_id),
            planned_s=stored.planned_s,
            total_s=stored.total_s,
            tutor_attended_s=stored.tutor_attended_s,
            tutor_absent=stored.tutor_absent,
            cancelled=stored.cancelled,
            actor=stored.actor,
            reason=stored.reason,
            ended_at=stored.ended_at,
            evidence=stored.evidence,
            students=students.get((stored.lesson_id, stored.version), {}),
        )
        told.setdefault(stored.lesson_id, []).append(_Told(facts, stored.digest, stored.absence_percent))
    return told


async def _by_room(
    session: AsyncSession, query: Select[*tuple[Any, ...]]
) -> AsyncIterator[tuple[UUID, list[Any]]]:
    """Yield the rows of each room; the query is in the order of rooms."""
    rows: list[Any] = []
    stream = await session.stream(query.execution_options(yield_per=CHUNK))
    async for chunk in stream.partitions():
        for row in chunk:
            if rows and rows[-1].room_id != row.room_id:
                yield rows[-1].room_id, rows
                rows = []
            rows.append(row)
    if rows:
        yield rows[-1].room_id, rows

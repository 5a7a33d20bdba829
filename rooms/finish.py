"""From evidence to money: attendance while a lesson runs, and the one transaction that ends it.

`record` runs inside the turn that closes the lesson, so outcome, attendance, what is due, the closed event and the
outbox commit together or not at all. `settle` moves the money right after, in a transaction of its own; if the
process dies between the two, the adopting node asks again, and the sweeper asks in any case.
"""

import math
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import facts, outbox, policy, settlement
from billing.errors import LessonNotSettledError
from billing.models import OwnerId
from rooms import attendance as times, journal, messages as m
from rooms.attendance import NOT_SEEN, Attended, Known
from rooms.messages import AttendanceRow, Identity
from rooms.models import Attendance
from rooms.state import State

# An owner who changes the terms sees them in running lessons this much later; each node reads them as often.
TERMS_KEPT_S = 30.0


class Terms:
    """The share of a lesson that counts as having been there, as it was read not long ago.

    For what people see while a lesson runs; what decides about money reads it anew.
    """

    def __init__(self) -> None:
        self._percent = 0
        self._read_at = -math.inf
        self._since: datetime | None = None
        self._until: datetime | None = None

    def percent(self, now: datetime) -> int | None:
        """Return what is in force at `now`, None when that has to be read."""
        is_known = (
            self._since is not None and self._since <= now and (self._until is None or now < self._until)
        )
        is_fresh = time.monotonic() - self._read_at < TERMS_KEPT_S
        return self._percent if is_known and is_fresh else None

    async def read(self, session: AsyncSession, now: datetime) -> int:
        """Read what is in force at `now`."""
        terms = await policy.current(session, now)
        self._percent, self._since = terms.attendance_percent, now
        self._until = await policy.next_change(session, now)
        self._read_at = time.monotonic()
        return self._percent


async def assess(session: AsyncSession, state: State, *, now: datetime, finish: bool = False) -> m.Assessed:
    """Compute everybody's attendance up to now, or to the end of the lesson, from what is stored."""
    until = state.ended_at or now
    terms = await policy.current(session, until)
    known = Known(await journal.evidence_of(session, state.spec.id))
    people = measure(state, known, until=until, threshold_percent=terms.attendance_percent)
    return m.Assessed(people, finish)


def measure(
    state: State, known: Known, *, until: datetime, threshold_percent: int
) -> tuple[AttendanceRow, ...]:
    """Return everybody's attendance as the evidence proves it, the tutor's first. Pure."""
    starts_at, ends_at = state.window
    found = known.attendance(provider=state.spec.evidence, starts_at=starts_at, ends_at=ends_at, until=until)
    everybody = [state.spec.owner, *sorted((found.keys() | state.seats.keys()) - {state.spec.owner})]
    return tuple(
        _row(state, identity, found.get(identity, NOT_SEEN), threshold_percent) for identity in everybody
    )


async def record(session: AsyncSession, state: State, assessed: m.Assessed, *, now: datetime) -> None:
    """Write what a lesson leaves behind: attendance, and that its settlement is due. `state` is closed."""
    spec = state.spec
    if assessed.people:
        await session.execute(
            insert(Attendance),
            [{"room_id": spec.id, **_columns(person)} for person in assessed.people],
        )
    known = lesson_facts(state, assessed)
    await settlement.due(session, known, now=now)
    if state.outcome == "completed":
        assert state.ended_at is not None, "a completed lesson has ended"
        ended = m.LessonEnded(
            room_id=spec.id,
            kind=spec.kind,
            outcome=state.outcome,
            tutor_absent=known.tutor_absent,
            started_at=state.started_at,
            ended_at=state.ended_at,
            reason=state.reason or "ended",
        )
        outbox.record(session, ended, at=now)


async def settle(sessions: async_sessionmaker[AsyncSession], room_id: UUID, *, now: datetime) -> None:
    """Move the money of a closed lesson; harmless when somebody else did."""
    async with sessions.begin() as session:
        await settlement.settle(session, room_id, now=now)


async def reconsider(session: AsyncSession, state: State, *, now: datetime) -> None:
    """Judge a settled lesson again, because evidence came late. Its frozen attendance stays as it was."""
    if state.outcome != "completed":
        return
    assessed = await assess(session, state, now=now)
    try:
        await settlement.reconsider(session, lesson_facts(state, assessed), now=now)
    except (
        LessonNotSettledError
    ):  # pragma: no cover - late evidence waits for the settlement, see rooms.actor
        raise AssertionError("late evidence was read before the settlement") from None


async def view(session: AsyncSession, state: State, *, now: datetime) -> m.AttendanceView:
    """Return the attendance as people may read it: live, or as it was frozen."""
    starts_at, ends_at = state.window
    scheduled_s = (ends_at - starts_at) // timedelta(seconds=1)
    if state.outcome is None:
        live = await assess(session, state, now=now)
        return m.AttendanceView(scheduled_s, frozen=False, people=live.people)
    rows = await session.scalars(select(Attendance).where(Attendance.room_id == state.spec.id))
    people = [frozen(row) for row in rows]
    return m.AttendanceView(scheduled_s, frozen=True, people=tuple(people))


def _row(state: State, identity: Identity, attended: Attended, threshold_percent: int) -> AttendanceRow:
    """Measure one person: the tutor against the plan, a student against what the tutor gave."""
    planned_s, total_s = _totals(state)
    against_s = planned_s if identity == state.spec.owner else total_s
    # Nobody has attended a lesson that ended before it began, although of 0 s none are required, or of anything 0 %.
    reached = total_s > 0 and times.student_reached(
        attended.attended_s, against_s, threshold_percent=threshold_percent
    )
    return AttendanceRow(
        user_id=identity,
        attended_s=attended.attended_s,
        required_s=times.required_s(against_s, threshold_percent=threshold_percent),
        percent=times.percent(attended.attended_s, against_s),
        reached=reached,
        intervals=attended.intervals,
        confidence=attended.confidence.value,
    )


def _totals(state: State) -> tuple[int, int]:
    """Return planned seconds, and the seconds a student is measured against."""
    starts_at, ends_at = state.window
    # Before its planned end a lesson only ends when its tutor, or an admin in the tutor's place, ends it.
    ended_early = state.ended_at if state.ended_at is not None and state.outcome != "cancelled" else None
    total_s = times.total_s(starts_at, ends_at, ended_by_tutor_at=ended_early)
    return times.total_s(starts_at, ends_at, ended_by_tutor_at=None), total_s


def lesson_facts(state: State, assessed: m.Assessed) -> facts.LessonFacts:
    """Return what billing is told of a lesson that is over. Pure."""
    planned_s, total_s = _totals(state)
    people = {person.user_id: person for person in assessed.people}
    tutor = people.pop(state.spec.owner, None)
    is_cancelled = state.outcome == "cancelled"
    assert state.ended_at is not None, "facts are of a lesson that is over"
    return facts.LessonFacts(
        lesson_id=state.spec.id,
        tutor_id=OwnerId(UUID(state.spec.owner)),
        planned_s=planned_s,
        total_s=total_s,
        tutor_attended_s=tutor.attended_s if tutor else 0,
        tutor_absent=not is_cancelled and (tutor is None or not tutor.reached),
        cancelled=is_cancelled,
        actor=state.closed_by if is_cancelled else None,
        reason=state.reason if is_cancelled else None,
        ended_at=state.ended_at,
        evidence=msgspec.to_builtins(
            {
                "source": state.spec.evidence,
                "started_at": state.started_at,
                "reason": state.reason,
                "tutor": {"intervals": tutor.intervals, "confidence": tutor.confidence} if tutor else None,
            }
        ),
        students=_presences(people.values()),
    )


def facts_if_ended(room: m.Snapshot, shown: m.AttendanceView, *, at: datetime) -> facts.LessonFacts:
    """Return what billing would be told of a lesson that its tutor ended now, while it runs. Pure."""
    assert room.starts_at is not None, "a lesson has its time"
    assert room.ends_at is not None, "a lesson has its time"
    assert room.host is not None, "a lesson has its tutor"
    people = {person.user_id: person for person in shown.people}
    tutor = people.pop(room.host, None)
    return facts.LessonFacts(
        lesson_id=room.id,
        tutor_id=OwnerId(UUID(room.host)),
        planned_s=shown.scheduled_s,
        total_s=times.total_s(room.starts_at, room.ends_at, ended_by_tutor_at=at),
        tutor_attended_s=tutor.attended_s if tutor else 0,
        tutor_absent=tutor is None or not tutor.reached,
        ended_at=at,
        students=_presences(people.values()),
    )


def _presences(people: Iterable[AttendanceRow]) -> dict[OwnerId, facts.Presence]:
    return {
        student: _presence(person) for person in people if (student := _owner_id(person.user_id)) is not None
    }


def _owner_id(identity: Identity) -> OwnerId | None:
    """Return whose money it is; None for somebody LiveKit showed who is no user of ours."""
    try:
        return OwnerId(UUID(identity))
    except ValueError:
        return None


def _presence(person: AttendanceRow) -> facts.Presence:
    return facts.Presence(
        attended_s=person.attended_s,
        intervals=tuple(facts.Interval(span.start, span.end, span.sources) for span in person.intervals),
        confidence=person.confidence,
    )


def frozen(row: Attendance) -> AttendanceRow:
    """Return the frozen attendance of one person."""
    columns = {name: getattr(row, name) for name in AttendanceRow.__struct_fields__ if name != "user_id"}
    return msgspec.convert({**columns, "user_id": row.identity}, AttendanceRow, strict=False)


def _columns(person: AttendanceRow) -> dict[str, object]:
    columns = {name: value for name, value in msgspec.structs.asdict(person).items() if name != "user_id"}
    return {**columns, "identity": person.user_id, "intervals": msgspec.to_builtins(person.intervals)}

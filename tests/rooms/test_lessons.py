"""Life of a lesson: doors, beginning, end, and the evidence our sockets give."""

from datetime import timedelta

import msgspec
import pytest

from rooms import errors, messages as m
from rooms.lessons import CLOSING, STUDENT_MAY_COME
from rooms.messages import AttendanceRow, Evidence, Identity, RoomKind, RoomStatus
from rooms.seats import DOORS_OPEN_BEFORE, GRACE, OVERRUN
from rooms.wishes import effects, looks, timers
from tests.rooms.kit import ANN, BEN, CY, EVE, HOST, MINUTE, SECOND, T0, Room, lesson, socket

STARTS = T0 + 60 * MINUTE
ENDS = STARTS + 60 * MINUTE


@pytest.fixture
def room() -> Room:
    return Room(lesson())


@pytest.fixture
def live(room: Room) -> Room:
    room.at(STARTS)
    room.join(HOST)
    room.join(ANN)
    return room


def row(who: Identity, attended_s: int, *, reached: bool) -> AttendanceRow:
    return AttendanceRow(who, attended_s, 720, attended_s * 100 // 3600, reached, (), "exact")


def stays(room: Room) -> list[Evidence]:
    return [e for e in room.last.evidence if e.kind == "stay"]


# --- Doors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [HOST, ANN], ids=["tutor", "student"])
def test_doors_are_shut_before_ten_minutes_to(room: Room, who: Identity) -> None:
    room.at(STARTS - DOORS_OPEN_BEFORE - SECOND)

    with pytest.raises(errors.NotAvailableError) as refused:
        room.join(who)

    assert refused.value.facts["opens_at"] == STARTS - DOORS_OPEN_BEFORE


def test_doors_open_ten_minutes_before(room: Room) -> None:
    room.at(STARTS - DOORS_OPEN_BEFORE)

    assert isinstance(room.join(ANN), m.Joined)


def test_the_tutors_seat_is_kept(room: Room) -> None:
    room.at(STARTS)
    for who in (ANN, BEN, CY):
        room.join(who)

    with pytest.raises(errors.RoomFullError):
        room.join(EVE)

    assert isinstance(room.join(HOST), m.Joined)


# --- Beginning ------------------------------------------------------------------------------------------------


def test_it_begins_when_the_tutor_enters(room: Room) -> None:
    room.at(STARTS - 5 * MINUTE)

    room.join(HOST)

    assert room.state.status is RoomStatus.LIVE
    assert room.of(m.LessonStarted) == [m.LessonStarted(room.state.spec.id, room.state.spec.kind, room.now)]


def test_it_begins_at_the_planned_time_with_a_student_inside(room: Room) -> None:
    room.at(STARTS - 5 * MINUTE)
    room.join(ANN)
    before = room.state.status

    room.at(STARTS)

    assert before is RoomStatus.OPEN
    assert room.state.status is RoomStatus.LIVE


def test_it_does_not_begin_without_anybody(room: Room) -> None:
    room.at(STARTS)
    before = room.state.status

    room.join(ANN)

    assert before is RoomStatus.OPEN
    assert room.state.status is RoomStatus.LIVE


# --- End ------------------------------------------------------------------------------------------------------


def test_emptiness_never_ends_it_early(live: Room) -> None:
    live.leave(HOST)
    live.leave(ANN)

    live.at(ENDS - SECOND)

    assert live.state.status is RoomStatus.LIVE


def test_it_ends_at_the_planned_end_when_empty(live: Room) -> None:
    live.leave(HOST)
    live.leave(ANN)

    live.at(ENDS)

    assert (live.state.status, live.state.finish_at) == (RoomStatus.CLOSING, ENDS + CLOSING)


def test_it_ends_when_the_last_leaves_after_the_planned_end(live: Room) -> None:
    live.at(ENDS + MINUTE)
    live.leave(HOST)
    before = live.state.status

    live.leave(ANN)

    assert before is RoomStatus.LIVE
    assert live.state.status is RoomStatus.CLOSING


def test_it_ends_five_minutes_over_with_everybody_inside(live: Room) -> None:
    live.at(ENDS + OVERRUN)

    assert live.state.status is RoomStatus.CLOSING
    assert live.state.seats == {}


def test_its_tutor_ends_it_early(live: Room) -> None:
    live.at(STARTS + 10 * MINUTE)

    live.send(m.Close(HOST))

    assert live.state.ended_at == STARTS + 10 * MINUTE
    with pytest.raises(errors.RoomClosedError):
        live.join(ANN)


@pytest.fixture
def booked() -> Room:
    """A booked lesson that has begun, with both in it."""
    room = Room(msgspec.structs.replace(lesson(cap=2), kind=RoomKind.BOOKING))
    room.at(STARTS - MINUTE)
    room.join(HOST)
    room.join(ANN)
    return room


def test_the_tutor_of_a_booking_waits_ten_minutes_for_its_student(booked: Room) -> None:
    for moment in (STARTS - SECOND, STARTS + SECOND, STARTS + STUDENT_MAY_COME - SECOND):
        booked.at(moment)
        for command in (m.Close(HOST), m.EndLesson(HOST)):
            with pytest.raises(errors.ConflictError, match="11:10 UTC"):
                booked.send(command)

    booked.at(STARTS + STUDENT_MAY_COME)
    booked.send(m.EndLesson(HOST))

    assert booked.state.status is RoomStatus.CLOSING


def test_an_administrator_ends_a_booking_at_any_time(booked: Room) -> None:
    booked.send(m.EndLesson(EVE, admin=True))

    assert booked.state.status is RoomStatus.CLOSING


@pytest.mark.parametrize("ban", [True, False], ids=["banned", "kicked"])
def test_the_tutor_of_a_booking_cannot_keep_its_student_out(booked: Room, *, ban: bool) -> None:
    with pytest.raises(errors.NotAllowedError, match="administrator"):
        booked.send(m.Kick(HOST, ANN, ban=ban))

    booked.send(m.Kick(EVE, ANN, ban=ban, admin=True))

    assert ANN not in booked.state.seats


def test_a_student_may_not_end_it(live: Room) -> None:
    with pytest.raises(errors.NotAllowedError):
        live.send(m.EndLesson(ANN))


def test_what_has_not_begun_cannot_be_ended(room: Room) -> None:
    with pytest.raises(errors.ConflictError):
        room.send(m.EndLesson(HOST))


def test_ending_twice_is_harmless(live: Room) -> None:
    live.send(m.EndLesson(HOST))
    finish_at = live.state.finish_at
    live.wait(SECOND)

    live.send(m.EndLesson(HOST))

    assert live.state.finish_at == finish_at


def test_it_closes_with_its_attendance_90_seconds_later(live: Room) -> None:
    live.send(m.EndLesson(HOST))
    people = (row(HOST, 600, reached=False), row(ANN, 800, reached=True))

    live.send(m.Assessed(people, finish=True))
    early = live.state.status
    live.wait(CLOSING)
    live.send(m.Assessed(people, finish=True))

    assert early is RoomStatus.CLOSING
    assert (live.state.status, live.state.outcome) == (RoomStatus.CLOSED, "completed")
    assert live.last.assessed == m.Assessed(people, finish=True)
    assert effects(live.state) == (m.Settle(),)


def test_the_timer_of_the_end_stays_until_it_is_done(live: Room) -> None:
    live.send(m.EndLesson(HOST))

    live.wait(2 * CLOSING)

    assert set(timers(live.state, now=live.now, wall=live.wall)) == {"finish"}


def test_what_nobody_opened_is_cancelled(room: Room) -> None:
    room.at(ENDS + OVERRUN)

    assert (room.state.status, room.state.outcome, room.state.reason) == (
        RoomStatus.CLOSED,
        "cancelled",
        "expired",
    )
    assert room.last.assessed == m.Assessed((), finish=True)
    assert room.of(m.LessonCancelled)


def test_it_can_be_cancelled_before_it_begins(room: Room) -> None:
    room.send(m.CancelLesson())
    room.send(m.CancelLesson())

    assert (room.state.outcome, room.state.reason, room.state.closed_by) == (
        "cancelled",
        "cancelled",
        m.SYSTEM,
    )
    assert room.last.events == ()


def test_it_cannot_be_cancelled_once_it_runs(live: Room) -> None:
    with pytest.raises(errors.ConflictError):
        live.send(m.CancelLesson())


def test_it_can_be_moved_before_it_begins(room: Room) -> None:
    room.send(m.Reschedule(STARTS + 60 * MINUTE, ENDS + 60 * MINUTE))

    assert timers(room.state, now=room.now, wall=room.wall)["start"].due_at == STARTS + 60 * MINUTE


def test_a_late_wake_up_does_everything_that_was_missed(live: Room) -> None:
    live.wait(timedelta(days=1))

    assert live.state.status is RoomStatus.CLOSING


# --- Evidence of our sockets ----------------------------------------------------------------------------------


def test_a_stay_begins_with_joining_and_ends_with_a_goodbye(live: Room) -> None:
    live.wait(10 * MINUTE)

    live.leave(ANN)

    (stay,) = stays(live)
    assert (stay.at, stay.until, stay.reason) == (STARTS, STARTS + 10 * MINUTE, "left")


def test_beats_extend_a_stay(live: Room) -> None:
    live.wait(5 * SECOND)

    live.send(m.SocketsSeen("node", {ANN: (socket(f"{ANN}/1"),)}, live.now))

    (stay,) = stays(live)
    assert (stay.identity, stay.until) == (ANN, STARTS + 5 * SECOND)
    assert live.last.events == ()


def test_a_beat_counts_only_to_the_last_frame(live: Room) -> None:
    live.wait(30 * SECOND)
    frame = STARTS + 12 * SECOND

    live.send(m.SocketsSeen("node", {ANN: (socket(f"{ANN}/1"),)}, live.now, {ANN: frame}))

    assert stays(live)[0].until == frame


def test_coming_back_counts_to_the_last_frame(live: Room) -> None:
    live.wait(10 * SECOND)
    frame = STARTS + 4 * SECOND
    live.send(m.Adopt(live.now))

    live.send(m.SocketsSeen("node", {ANN: (socket(f"{ANN}/1"),)}, live.now, {ANN: frame}))

    assert [s.until for s in stays(live)] == [frame]


def test_an_unanswered_grace_adds_no_time(live: Room) -> None:
    live.wait(10 * SECOND)
    live.send(m.SocketGone(ANN, socket(f"{ANN}/1"), seen_at=STARTS + 4 * SECOND))
    lost = stays(live)

    live.wait(GRACE)

    assert [s.until for s in lost] == [STARTS + 4 * SECOND]
    assert stays(live) == []


def test_a_gap_within_the_grace_counts(live: Room) -> None:
    live.lose(ANN)
    live.wait(20 * SECOND)

    live.join(ANN, over="again")

    (stay,) = stays(live)
    assert (stay.session, stay.until) == ("2", STARTS + 20 * SECOND)


def test_travelling_counts_for_whoever_is_connected(live: Room) -> None:
    live.lose(ANN)
    live.now += 40 * MINUTE

    live.send(m.Travelled())

    assert [(s.identity, s.until) for s in stays(live)] == [(HOST, STARTS + 40 * MINUTE)]


def test_our_outage_is_remembered(live: Room) -> None:
    live.wait(MINUTE)

    live.send(m.Adopt(live.now - 40 * SECOND))

    (outage,) = (e for e in live.last.evidence if e.kind == "outage")
    assert (outage.source, outage.at, outage.until) == ("ours", live.now - 40 * SECOND, live.now)


def test_talks_need_no_evidence(live: Room) -> None:
    assert all(e.kind == "stay" for e in live.evidence)


# --- Live attendance ------------------------------------------------------------------------------------------


def test_a_running_lesson_looks_every_15_seconds(live: Room) -> None:
    assert looks(live.state) == {"look": 15 * SECOND}
    assert live.last.look


def test_attendance_is_shown_to_the_person_and_the_tutor(live: Room) -> None:
    live.send(m.Assessed((row(ANN, 100, reached=False),)))

    shown = {
        "room_id": str(live.state.spec.id),
        "user_id": ANN,
        "attended_s": 100,
        "required_s": 720,
        "reached": False,
    }
    assert live.notes(ANN, "attendance.updated") == [shown]
    assert live.notes(HOST, "attendance.updated") == [shown]


def test_reaching_it_is_told_once(live: Room) -> None:
    people = (row(ANN, 720, reached=True),)

    live.send(m.Assessed(people))
    first = live.of(m.AttendanceReached)
    live.send(m.Assessed(people))

    assert first == [m.AttendanceReached(live.state.spec.id, ANN, 720, 720)]
    assert live.of(m.AttendanceReached) == []
    assert live.last.events == ()


def test_attendance_is_told_again_with_each_minute(live: Room) -> None:
    live.send(m.Assessed((row(ANN, 100, reached=False),)))

    live.send(m.Assessed((row(ANN, 159, reached=False),)))
    too_soon = live.notes(ANN, "attendance.updated")
    live.send(m.Assessed((row(ANN, 160, reached=False),)))

    assert too_soon == []
    assert [note["attended_s"] for note in live.notes(ANN, "attendance.updated")] == [160]


def test_facts_of_a_lesson_survive_the_wire() -> None:
    spec = lesson()

    again = msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=m.RoomSpec)

    assert again == spec

"""Life of a talk: its host, and how it closes."""

import pytest

from rooms import errors, messages as m
from rooms.lessons import EMPTY_CLOSE, SCHEDULED_WAIT, UNJOINED
from rooms.messages import RoomStatus
from rooms.seats import JOINING
from rooms.wishes import timers
from tests.rooms.kit import ANN, BEN, EVE, HOST, MINUTE, SECOND, T0, Room, talk


def test_the_first_join_makes_a_talk_live() -> None:
    room = Room(talk())

    room.join(HOST)

    assert room.state.status is RoomStatus.LIVE


def test_a_leaving_host_hands_over_to_the_longest_present() -> None:
    room = Room(talk())
    for who in (HOST, ANN, BEN):
        room.join(who)

    room.leave(HOST)

    assert room.state.host == ANN
    assert room.of(m.HostPassed) == [m.HostPassed(ANN)]


def test_an_empty_talk_closes_after_20_seconds() -> None:
    room = Room(talk())
    room.join(HOST)
    room.leave(HOST)

    room.wait(EMPTY_CLOSE - SECOND)
    before = room.state.status
    room.wait(SECOND)

    assert before is RoomStatus.LIVE
    assert (room.state.status, room.state.reason) == (RoomStatus.CLOSED, "empty")
    assert room.of(m.RoomClosed) == [m.RoomClosed(room.state.spec.id, room.state.spec.kind, "empty")]


def test_somebody_who_comes_back_keeps_it_open() -> None:
    room = Room(talk())
    room.join(HOST)
    room.leave(HOST)
    room.wait(EMPTY_CLOSE - SECOND)

    room.join(ANN)
    room.wait(EMPTY_CLOSE)

    assert room.state.status is RoomStatus.LIVE
    assert room.state.host == ANN


def test_a_running_grace_keeps_it_open() -> None:
    room = Room(talk())
    room.join(HOST)

    room.lose(HOST)
    room.wait(29 * SECOND)

    assert room.state.empty_close_at is None


def test_a_scheduled_talk_waits_for_late_guests() -> None:
    starts_at = T0 + 60 * MINUTE
    room = Room(talk(starts_at=starts_at))
    room.join(HOST)
    room.leave(HOST)

    room.at(starts_at + SCHEDULED_WAIT - SECOND)
    before = room.state.status
    room.wait(SECOND)

    assert before is RoomStatus.LIVE
    assert room.state.status is RoomStatus.CLOSED


def test_a_talk_nobody_joined_stays_open_for_a_day() -> None:
    room = Room(talk())

    room.wait(JOINING)
    room.wait(10 * EMPTY_CLOSE)
    before = room.state.status
    room.wait(UNJOINED)

    assert before is RoomStatus.OPEN
    assert room.state.reason == "expired"


def test_the_host_closes_a_talk() -> None:
    room = Room(talk())
    room.join(HOST)
    room.join(ANN)

    room.send(m.Close(HOST))

    assert room.state.reason == "closed_by_host"
    assert [e.reason for e in room.of(m.SeatFreed) if isinstance(e, m.SeatFreed)] == ["closed", "closed"]
    with pytest.raises(errors.RoomClosedError):
        room.join(BEN)


def test_a_guest_may_not_close_it() -> None:
    room = Room(talk())
    room.join(ANN)

    with pytest.raises(errors.NotAllowedError):
        room.send(m.Close(ANN))


def test_an_admin_may_close_it() -> None:
    room = Room(talk())

    room.send(m.Close(EVE, admin=True))

    assert room.state.reason == "closed_by_admin"


def test_closing_twice_is_harmless() -> None:
    room = Room(talk())
    room.join(HOST)
    room.send(m.Close(HOST))

    reply = room.send(m.Close(HOST))

    assert reply == m.Done()
    assert room.last.events == ()


def test_a_closed_talk_waits_for_nothing() -> None:
    room = Room(talk())
    room.join(HOST)
    room.send(m.Close(HOST))

    assert timers(room.state, now=room.now, wall=room.wall) == {}


def test_the_host_gives_it_another_title() -> None:
    room = Room(talk())
    room.join(HOST)

    room.send(m.UpdateRoom(HOST, " Verbs "))

    assert room.state.spec.title == "Verbs"
    (updated,) = room.of(m.RoomUpdated)
    assert isinstance(updated, m.RoomUpdated)
    assert updated.title == "Verbs"


def test_lists_hear_of_every_seat() -> None:
    room = Room(talk())

    room.join(ANN)

    (updated,) = room.of(m.RoomUpdated)
    assert isinstance(updated, m.RoomUpdated)
    assert updated.seated == 2

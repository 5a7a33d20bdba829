"""Seats are leases: who gets one, keeps it, loses it."""

import pytest

from rooms import errors, messages as m, state
from rooms.messages import SeatStatus
from rooms.seats import GRACE, JOINING
from tests.rooms.kit import ANN, BEN, CY, DEE, EVE, HOST, SECOND, Room, socket, talk


def test_creating_a_talk_gives_the_host_a_joining_seat() -> None:
    room = Room(talk())

    assert room.seat(HOST) is SeatStatus.JOINING
    assert room.state.host == HOST


def test_join_over_a_socket_is_connected_at_once() -> None:
    room = Room(talk())

    reply = room.join(ANN)

    assert isinstance(reply, m.Joined)
    assert reply.seat == m.SeatView(2, SeatStatus.CONNECTED, 2)


def test_join_without_a_socket_waits_for_one() -> None:
    room = Room(talk())
    room.join(ANN, over=None)

    room.send(m.SocketsSeen("node", {ANN: (socket("late"),)}, room.now))

    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_joining_again_returns_the_same_seat() -> None:
    room = Room(talk())
    first = room.join(ANN)
    seq = room.state.seq

    again = room.join(ANN)

    assert isinstance(first, m.Joined)
    assert isinstance(again, m.Joined)
    assert again.seat == first.seat
    assert room.state.seq == seq


def test_a_second_device_shares_the_seat() -> None:
    room = Room(talk())
    room.join(ANN)
    room.join(ANN, over="phone")

    room.lose(ANN)

    assert len(room.state.seats) == 2
    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_without_a_media_server_devices_do_not_wait_for_each_other() -> None:
    room = Room(talk())
    room.join(ANN, over="phone")

    assert isinstance(room.join(ANN, over="laptop"), m.Joined)


def test_the_fifth_is_refused() -> None:
    room = Room(talk())
    for who in (ANN, BEN, CY):
        room.join(who)

    with pytest.raises(errors.RoomFullError) as refused:
        room.join(DEE)

    assert refused.value.facts == {"cap": 4}


def test_an_unused_joining_seat_is_free_after_its_lease() -> None:
    room = Room(talk())
    room.join(ANN)

    room.wait(JOINING - SECOND)
    assert room.seat(HOST) is SeatStatus.JOINING
    room.wait(SECOND)

    assert room.seat(HOST) is None


def test_grace_begins_with_the_last_socket_and_ends_in_leaving() -> None:
    room = Room(talk())
    room.join(ANN)

    room.lose(ANN)
    (shown,) = room.of(m.SeatChanged)
    room.wait(GRACE - SECOND)
    still = room.seat(ANN)
    room.wait(SECOND)

    assert isinstance(shown, m.SeatChanged)
    assert shown.status is SeatStatus.GRACE
    assert still is SeatStatus.GRACE
    assert room.of(m.SeatFreed) == [m.SeatFreed(ANN, 2, 2, "expired")]


def test_back_within_the_grace_keeps_the_seat() -> None:
    room = Room(talk())
    room.join(ANN)
    room.lose(ANN)
    room.wait(GRACE - SECOND)

    room.join(ANN, over="new")
    room.wait(GRACE)

    assert room.seat(ANN) is SeatStatus.CONNECTED
    assert room.state.seats[ANN].generation == 2


def test_a_seat_given_anew_has_a_new_generation() -> None:
    room = Room(talk())
    room.join(ANN)
    room.leave(ANN)

    reply = room.join(ANN)

    assert isinstance(reply, m.Joined)
    assert reply.seat.generation == 3


def test_leaving_twice_changes_nothing() -> None:
    room = Room(talk())
    room.join(ANN)
    room.leave(ANN)
    seq = room.state.seq

    room.leave(ANN)

    assert room.state.seq == seq


def test_news_of_a_socket_that_never_joined_is_ignored() -> None:
    room = Room(talk())
    room.join(ANN)

    room.lose(ANN, over="other")

    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_adoption_starts_every_grace_anew() -> None:
    room = Room(talk())
    room.join(HOST)
    room.join(ANN)
    room.lose(ANN)
    room.wait(20 * SECOND)

    room.send(m.Adopt(room.now - 10 * SECOND))
    statuses = {room.seat(HOST), room.seat(ANN)}
    room.wait(20 * SECOND)
    room.send(m.SocketsSeen("node", {ANN: (socket("x"),)}, room.now))
    room.wait(10 * SECOND)

    assert statuses == {SeatStatus.GRACE}
    assert room.seat(HOST) is None
    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_the_host_may_kick_and_the_kicked_may_return() -> None:
    room = Room(talk())
    room.join(HOST)
    room.join(ANN)

    room.send(m.Kick(HOST, ANN))
    kicked = room.of(m.Kicked) + room.of(m.SeatFreed)
    room.join(ANN)

    assert kicked == [m.Kicked(ANN, HOST, banned=False), m.SeatFreed(ANN, 2, 2, "kicked")]
    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_a_ban_lasts_for_the_life_of_the_room() -> None:
    room = Room(talk())
    room.join(HOST)
    room.join(ANN)

    room.send(m.Kick(HOST, ANN, ban=True))

    with pytest.raises(errors.BannedError):
        room.join(ANN)


def test_somebody_outside_can_be_banned() -> None:
    room = Room(talk())
    room.join(HOST)

    room.send(m.Kick(HOST, EVE, ban=True))

    with pytest.raises(errors.BannedError):
        room.join(EVE)


def test_only_the_host_may_kick() -> None:
    room = Room(talk())
    room.join(ANN)
    room.join(BEN)

    with pytest.raises(errors.NotAllowedError):
        room.send(m.Kick(ANN, BEN))


def test_an_admin_may_kick_the_host() -> None:
    room = Room(talk())
    room.join(HOST)
    room.join(ANN)

    room.send(m.Kick(EVE, HOST, admin=True))

    assert room.seat(HOST) is None
    assert room.state.host == ANN


def test_whose_right_has_ended_loses_the_seat_without_a_ban() -> None:
    room = Room(talk())
    room.join(HOST)
    room.join(ANN)

    room.send(m.Evict(ANN, "refunded"))
    evicted = room.of(m.Evicted) + room.of(m.SeatFreed)
    room.join(ANN)

    assert evicted == [m.Evicted(ANN, "refunded"), m.SeatFreed(ANN, 2, 2, "evicted")]
    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_who_only_looks_on_is_evicted_too() -> None:
    room = Room(talk())

    room.send(m.Evict(ANN, "refunded"))

    assert room.of(m.Evicted) == [m.Evicted(ANN, "refunded")]
    assert room.of(m.SeatFreed) == []


def test_nobody_is_evicted_from_a_closed_room() -> None:
    room = Room(talk())
    room.join(HOST)
    room.send(m.Close(HOST))

    room.send(m.Evict(ANN, "refunded"))

    assert room.last.events == ()


def test_every_event_changes_a_state() -> None:
    assert set(state.APPLY) | {m.RoomCreated} == set(m.Event.__args__)

"""The queue before a full talk is fair."""

import pytest

from rooms import errors, messages as m
from rooms.messages import Identity, SeatStatus
from rooms.waiting import GRACE, OFFER
from tests.rooms.kit import ANN, BEN, CY, DEE, EVE, HOST, SECOND, Room, person, socket, talk

FAY = person(7)


@pytest.fixture
def full() -> Room:
    room = Room(talk())
    for who in (HOST, ANN, BEN, CY):
        room.join(who)
    return room


def order(room: Room) -> list[Identity]:
    return [w.identity for w in room.state.queue]


def test_who_asks_for_it_waits_in_the_queue(full: Room) -> None:
    first = full.join(DEE, queue=True)
    second = full.join(EVE, queue=True)

    assert isinstance(first, m.Queued)
    assert isinstance(second, m.Queued)
    assert (first.position, second.position) == (1, 2)
    assert full.notes(EVE, "queue.updated") == [{"room_id": str(full.state.spec.id), "position": 2}]


def test_joining_again_keeps_the_place(full: Room) -> None:
    full.join(DEE, queue=True)
    full.join(EVE, queue=True)

    again = full.join(DEE, queue=True)

    assert isinstance(again, m.Queued)
    assert again.position == 1


def test_a_free_seat_is_offered_to_the_first(full: Room) -> None:
    full.join(DEE, queue=True)
    full.join(EVE, queue=True)

    full.leave(ANN)

    assert full.notes(DEE, "seat.offered") == [{"room_id": str(full.state.spec.id), "expires_in_s": 20}]
    assert full.notes(EVE, "seat.offered") == []


def test_an_offer_counts_against_the_cap(full: Room) -> None:
    full.join(DEE, queue=True)
    full.leave(ANN)

    with pytest.raises(errors.RoomFullError):
        full.join(FAY)


def test_an_offer_is_accepted_by_joining(full: Room) -> None:
    full.join(DEE, queue=True)
    full.join(EVE, queue=True)
    full.leave(ANN)

    reply = full.join(DEE)

    assert isinstance(reply, m.Joined)
    assert order(full) == [EVE]
    assert full.notes(EVE, "queue.updated") == [{"room_id": str(full.state.spec.id), "position": 1}]


def test_an_offer_lapses_and_goes_to_the_next(full: Room) -> None:
    full.join(DEE, queue=True)
    full.join(EVE, queue=True)
    full.leave(ANN)

    full.wait(OFFER)

    assert order(full) == [EVE]
    assert full.notes(DEE, "queue.updated") == [{"room_id": str(full.state.spec.id), "position": None}]
    assert full.notes(EVE, "seat.offered")


def test_leaving_gives_the_offer_up(full: Room) -> None:
    full.join(DEE, queue=True)
    full.join(EVE, queue=True)
    full.leave(ANN)

    full.leave(DEE)

    assert full.notes(EVE, "seat.offered")


def test_being_gone_longer_than_the_grace_loses_the_place(full: Room) -> None:
    full.join(DEE, queue=True)
    full.join(EVE, queue=True)

    full.lose(DEE)
    full.wait(GRACE)

    assert order(full) == [EVE]


def test_being_back_within_the_grace_keeps_the_place(full: Room) -> None:
    full.join(DEE, queue=True)
    full.lose(DEE)

    full.send(m.SocketsSeen("node", {DEE: (socket("new"),)}, full.now))
    full.wait(GRACE)

    assert order(full) == [DEE]


def test_a_seat_in_grace_is_not_offered(full: Room) -> None:
    full.join(DEE, queue=True)

    full.lose(ANN)
    during = full.state.queue[0].offered_until_wall
    full.wait(30 * SECOND)

    assert during is None
    assert full.state.queue[0].offered_until_wall is not None


def test_closing_the_room_ends_the_waiting(full: Room) -> None:
    full.join(DEE, queue=True)

    full.send(m.Close(HOST))

    assert order(full) == []
    assert full.notes(DEE, "queue.updated")


def test_the_kicked_do_not_wait(full: Room) -> None:
    full.join(DEE, queue=True)

    full.send(m.Kick(HOST, DEE, ban=True))

    assert order(full) == []
    with pytest.raises(errors.BannedError):
        full.join(DEE, queue=True)


def test_a_seat_is_connected_after_the_offer(full: Room) -> None:
    full.join(DEE, queue=True)
    full.leave(ANN)
    full.wait(10 * SECOND)

    full.join(DEE)

    assert full.seat(DEE) is SeatStatus.CONNECTED

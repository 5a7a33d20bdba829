"""With a media server, seats follow what LiveKit shows."""

import pytest

from rooms import errors, messages as m
from rooms.messages import Identity, Presence, SeatStatus
from rooms.seats import ENTERING, GRACE, JOINING
from rooms.wishes import effects, looks
from tests.rooms.kit import ANN, BEN, CY, DEE, EVE, HOST, MINUTE, SECOND, T0, Room, lesson, talk


@pytest.fixture
def room() -> Room:
    room = Room(talk(evidence="livekit"))
    room.join(HOST)
    room.send(m.EffectResult(m.EnsureMedia(1)))
    return room


def poll(room: Room, *people: tuple[Identity, str], generation: int = 1) -> None:
    shown = tuple(Presence(who, sid, room.now, active=True, counted=True) for who, sid in people)
    room.send(m.Polled(generation, room.now, shown))


def test_a_seat_is_joining_until_media_shows(room: Room) -> None:
    room.join(ANN)
    before = room.seat(ANN)

    room.media("joined", ANN, "PA_1")

    assert before is SeatStatus.JOINING
    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_media_left_with_a_socket_goes_back_to_joining(room: Room) -> None:
    room.join(ANN)
    room.media("joined", ANN, "PA_1")

    room.media("left", ANN, "PA_1")
    during = room.seat(ANN)
    room.wait(JOINING)

    assert during is SeatStatus.JOINING
    assert room.seat(ANN) is None


def test_a_second_device_waits_until_the_first_is_in(room: Room) -> None:
    room.join(ANN, over="phone")

    with pytest.raises(errors.OverloadedError):
        room.join(ANN, over="laptop")
    room.media("joined", ANN, "PA_1")
    reply = room.join(ANN, over="laptop")
    with pytest.raises(errors.OverloadedError):
        room.join(ANN, over="tablet")
    room.media("joined", ANN, "PA_2")
    room.join(ANN, over="tablet")

    assert isinstance(reply, m.Joined)
    assert len(room.state.seats) == 2


def test_a_second_device_waits_no_longer_than_the_first_may_take(room: Room) -> None:
    room.join(ANN, over="phone")
    room.wait(ENTERING - SECOND)
    with pytest.raises(errors.OverloadedError):
        room.join(ANN, over="laptop")

    room.wait(SECOND)

    assert isinstance(room.join(ANN, over="laptop"), m.Joined)


@pytest.mark.parametrize("over", ["phone", None], ids=["socket", "http"])
def test_a_device_that_repeats_itself_does_not_wait(room: Room, over: str | None) -> None:
    room.join(ANN, over=over)

    assert isinstance(room.join(ANN, over=over), m.Joined)


def test_nobody_waits_for_a_device_that_is_gone(room: Room) -> None:
    room.join(ANN, over="before the reload")
    room.lose(ANN, over="before the reload")

    assert isinstance(room.join(ANN, over="after"), m.Joined)


@pytest.mark.parametrize(("first", "second"), [("phone", None), (None, "phone")])
def test_what_came_over_http_is_another_device_than_a_socket(
    room: Room, first: str | None, second: str | None
) -> None:
    room.join(ANN, over=first)

    with pytest.raises(errors.OverloadedError):
        room.join(ANN, over=second)


def test_the_grace_runs_when_the_last_socket_is_gone(room: Room) -> None:
    room.join(ANN)
    room.media("joined", ANN, "PA_1")

    room.lose(ANN)
    during = room.seat(ANN)
    room.wait(GRACE)

    assert during is SeatStatus.GRACE
    assert room.seat(ANN) is None
    assert m.RemoveParticipant(1, ANN, "PA_1") in effects(room.state)


def test_a_socket_brings_the_seat_back_while_media_runs(room: Room) -> None:
    room.join(ANN)
    room.media("joined", ANN, "PA_1")
    room.lose(ANN)

    room.join(ANN, over="again")

    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_a_newer_session_survives_the_older_ones_goodbye(room: Room) -> None:
    room.join(ANN)
    room.media("joined", ANN, "PA_1")

    room.media("joined", ANN, "PA_2")
    room.media("left", ANN, "PA_1")

    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_a_late_joined_does_not_resurrect(room: Room) -> None:
    room.join(ANN)

    room.media("left", ANN, "PA_1")
    room.media("joined", ANN, "PA_1")

    assert room.seat(ANN) is SeatStatus.JOINING


def test_a_stranger_is_removed_each_time(room: Room) -> None:
    room.media("joined", EVE, "PA_1")
    first = effects(room.state)
    room.send(m.EffectResult(m.RemoveParticipant(1, EVE, "PA_1")))
    between = effects(room.state)

    room.media("joined", EVE, "PA_2")

    assert first == (m.RemoveParticipant(1, EVE, "PA_1"),)
    assert between == ()
    assert effects(room.state) == (m.RemoveParticipant(1, EVE, "PA_2"),)


def test_who_was_evicted_is_removed_each_time(room: Room) -> None:
    room.join(ANN)
    room.media("joined", ANN, "PA_1")

    room.send(m.Evict(ANN, "refunded"))
    first = effects(room.state)
    room.send(m.EffectResult(m.RemoveParticipant(1, ANN, "PA_1")))
    room.media("joined", ANN, "PA_2")

    assert first == (m.RemoveParticipant(1, ANN, "PA_1"),)
    assert effects(room.state) == (m.RemoveParticipant(1, ANN, "PA_2"),)
    assert room.seat(ANN) is None


def test_who_was_admitted_before_is_seated_again(room: Room) -> None:
    room.join(ANN)
    room.leave(ANN)

    room.media("joined", ANN, "PA_1")

    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_who_was_admitted_before_is_removed_when_the_room_is_full(room: Room) -> None:
    room.join(ANN)
    room.leave(ANN)
    for who in (BEN, CY, DEE):
        room.join(who)

    room.media("joined", ANN, "PA_1")

    assert room.seat(ANN) is None
    assert m.RemoveParticipant(1, ANN, "PA_1") in effects(room.state)


@pytest.mark.parametrize("ban", [True, False], ids=["banned", "kicked"])
def test_the_kicked_do_not_return_through_media(room: Room, ban: bool) -> None:
    room.join(ANN)
    room.media("joined", ANN, "PA_1")

    room.send(m.Kick(HOST, ANN, ban=ban))
    removed = effects(room.state)
    room.media("joined", ANN, "PA_2")

    assert removed == (m.RemoveParticipant(1, ANN, "PA_1"),)
    assert room.seat(ANN) is None


def test_machines_take_no_seat(room: Room) -> None:
    room.media("joined", EVE, "PA_1", counted=False)

    assert effects(room.state) == ()


def test_a_lost_media_room_gets_a_new_name() -> None:
    room = Room(lesson(evidence="livekit"))
    room.at(T0 + 60 * MINUTE)
    room.join(HOST)
    room.send(m.EffectResult(m.EnsureMedia(1)))
    room.media("joined", HOST, "PA_1")

    room.media("finished")

    assert (room.state.generation, room.state.media_ready) == (2, False)
    assert room.seat(HOST) is SeatStatus.JOINING
    assert effects(room.state) == (m.EnsureMedia(2),)


def test_an_old_media_room_that_lives_is_deleted_again(room: Room) -> None:
    room.media("finished")

    room.media("joined", ANN, "PA_9", generation=1)

    assert room.last.effects == (m.DeleteMedia(1),)


def test_a_closed_room_wants_its_media_deleted(room: Room) -> None:
    room.send(m.Close(HOST))
    wanted = effects(room.state)

    room.send(m.EffectResult(m.DeleteMedia(1)))

    assert wanted == (m.DeleteMedia(1),)
    assert effects(room.state) == ()


def test_an_unused_room_has_no_media_to_delete() -> None:
    room = Room(lesson(evidence="livekit"))

    room.send(m.CancelLesson())

    assert effects(room.state) == (m.Settle(),)


def test_a_poll_finds_who_was_not_told(room: Room) -> None:
    room.join(ANN)

    poll(room, (ANN, "PA_1"))

    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_two_polls_without_somebody_end_their_media(room: Room) -> None:
    room.join(ANN)
    room.media("joined", ANN, "PA_1")

    poll(room)
    after_one = room.seat(ANN)
    room.wait(30 * SECOND)
    poll(room)

    assert after_one is SeatStatus.CONNECTED
    assert room.seat(ANN) is SeatStatus.JOINING


def test_a_doubt_is_forgotten_when_they_are_seen(room: Room) -> None:
    room.join(ANN)
    room.media("joined", ANN, "PA_1")
    poll(room)
    room.wait(30 * SECOND)
    poll(room, (ANN, "PA_1"))
    room.wait(30 * SECOND)

    poll(room)

    assert room.seat(ANN) is SeatStatus.CONNECTED


def test_a_missing_room_is_made_anew(room: Room) -> None:
    room.send(m.Polled(1, room.now, None))

    assert effects(room.state) == (m.EnsureMedia(2),)


def test_an_answer_about_an_older_room_is_ignored(room: Room) -> None:
    room.media("finished")

    room.send(m.EffectResult(m.EnsureMedia(1)))

    assert not room.state.media_ready


def test_media_is_watched_while_somebody_is_in(room: Room) -> None:
    assert looks(room.state) == {"poll": 30 * SECOND}
    room.send(m.TimerDue("poll"))
    assert room.last.effects == (m.PollMedia(1),)


def test_whoever_joins_again_while_shown_may_know_more_than_we_do(room: Room) -> None:
    room.media("joined", HOST, "PA_1")

    room.join(HOST)

    assert room.last.effects == (m.PollMedia(1),)


def test_a_first_join_asks_nothing(room: Room) -> None:
    room.join(ANN)

    assert room.last.effects == ()


def test_a_poll_without_an_answer_is_evidence_of_an_outage() -> None:
    room = Room(lesson(evidence="livekit"))
    room.at(T0 + 60 * MINUTE)
    room.join(HOST)
    room.send(m.EffectResult(m.EnsureMedia(1)))
    room.media("joined", HOST, "PA_1")

    room.send(m.PollFailed(1, room.now))

    assert room.last.evidence == (m.Evidence("outage", room.now, until=room.now, source="media"),)
    assert room.seat(HOST) is SeatStatus.CONNECTED


def test_a_poll_of_an_older_media_room_that_fails_says_nothing() -> None:
    room = Room(lesson(evidence="livekit"))
    room.at(T0 + 60 * MINUTE)
    room.join(HOST)
    room.send(m.EffectResult(m.EnsureMedia(1)))
    room.media("finished")

    room.send(m.PollFailed(1, room.now))

    assert room.last.evidence == ()


def test_the_tutor_may_enter_by_media_alone() -> None:
    room = Room(lesson(evidence="livekit"))
    room.at(T0 + 55 * MINUTE)

    room.media("joined", HOST, "PA_1")

    assert room.seat(HOST) is SeatStatus.CONNECTED
    assert room.of(m.LessonStarted)


def test_webhooks_of_a_lesson_become_evidence_even_without_a_seat() -> None:
    room = Room(lesson(evidence="livekit"))

    room.media("joined", EVE, "PA_1")

    assert [e.identity for e in room.last.evidence] == [EVE]


def test_sockets_are_no_evidence_beside_livekit() -> None:
    room = Room(lesson(evidence="livekit"))
    room.at(T0 + 60 * MINUTE)

    room.join(HOST)

    assert room.evidence == []

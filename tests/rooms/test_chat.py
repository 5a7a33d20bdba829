"""Chat of a room, and commands that may be repeated."""

from uuid import uuid4

import pytest

from rooms import errors, messages as m
from rooms.chat import EDITABLE, TEXT_MAX
from rooms.seats import GRACE
from rooms.state import KEYS_KEPT, LINES_KEPT
from tests.rooms.kit import ANN, BEN, HOST, SECOND, Room, talk


@pytest.fixture
def room() -> Room:
    room = Room(talk())
    room.join(HOST)
    room.join(ANN)
    return room


def say(room: Room, text: str, *, who: m.Identity = ANN, key: str | None = None) -> m.ChatMessage:
    reply = room.send(m.SendChat(who, text, key))
    assert isinstance(reply, m.ChatMessage)
    return reply


def test_a_message_is_shown_and_answered(room: Room) -> None:
    line = say(room, " hello ")

    assert (line.user_id, line.text, line.sent_at) == (ANN, "hello", room.now)
    assert room.of(m.MessageCreated)


def test_a_message_copies_no_seat(room: Room) -> None:
    seats = room.state.seats

    say(room, "hello")

    assert room.state.seats is seats


def test_talk_changes_nothing_but_what_was_said(room: Room) -> None:
    # given: a room as it was before each thing that people can say
    line = say(room, "hello")
    before = room.state
    said = {"seq", "off", "lines", "keys", "read"}

    for command in (
        m.SendChat(ANN, "again"),
        m.EditChat(ANN, line.id, "hullo"),
        m.ReadChat(ANN, line.id),
        m.DeleteChat(ANN, line.id),
    ):
        # when
        room.send(command)

        # then: nobody has to look at timers, wishes or lists again
        assert room.last.is_talk
        changed = {
            name
            for name in before.__struct_fields__
            if getattr(room.state, name) is not getattr(before, name)
        }
        assert changed <= said


def test_a_message_that_finds_a_lease_over_is_more_than_talk(room: Room) -> None:
    # given: nobody has woken the room since Ann's grace ended
    room.lose(ANN)
    room.now += GRACE
    room.wall += GRACE

    say(room, "is she gone?", who=HOST)

    assert room.of(m.SeatFreed)
    assert not room.last.is_talk


def test_a_repeated_message_is_no_talk(room: Room) -> None:
    say(room, "hello", key="k")

    say(room, "hello", key="k")

    assert not room.last.is_talk


def test_no_two_messages_share_an_id(room: Room) -> None:
    other = Room(talk())
    other.join(ANN)

    ids = [say(where, "hello").id for where in (room, other) for _ in range(50)]

    assert len(set(ids)) == 100


def test_the_same_key_gives_the_first_answer(room: Room) -> None:
    first = say(room, "hello", key="k")
    room.wait(SECOND)

    again = say(room, "hello", key="k")

    assert again == first
    assert room.last.events == ()


def test_a_key_is_remembered_by_replay(room: Room) -> None:
    first = say(room, "hello", key="k")
    room.state = room.replayed()

    assert say(room, "hello", key="k") == first


def test_the_same_key_with_another_text_is_refused(room: Room) -> None:
    say(room, "hello", key="k")

    with pytest.raises(errors.IdempotencyMismatchError):
        room.send(m.SendChat(ANN, "bye", "k"))


def test_keys_belong_to_a_person(room: Room) -> None:
    one = say(room, "hello", key="k")

    other = say(room, "hello", who=HOST, key="k")

    assert one.id != other.id


def test_a_repeat_is_answered_after_the_end(room: Room) -> None:
    first = say(room, "hello", key="k")
    room.send(m.Close(HOST))

    assert say(room, "hello", key="k") == first
    with pytest.raises(errors.RoomClosedError):
        room.send(m.SendChat(ANN, "more", "l"))


def test_only_people_inside_talk(room: Room) -> None:
    with pytest.raises(errors.SeatExpiredError):
        room.send(m.SendChat(BEN, "hello"))


@pytest.mark.parametrize("text", ["", "  ", "x" * (TEXT_MAX + 1)], ids=["empty", "blank", "long"])
def test_a_text_has_a_size(room: Room, text: str) -> None:
    with pytest.raises(errors.InvalidTextError):
        room.send(m.SendChat(ANN, text))


def test_the_author_edits_for_15_minutes(room: Room) -> None:
    line = say(room, "helo")

    room.now += EDITABLE
    edited = room.send(m.EditChat(ANN, line.id, "hello"))
    room.now += SECOND

    assert isinstance(edited, m.ChatMessage)
    assert (edited.text, edited.edited_at) == ("hello", line.sent_at + EDITABLE)
    with pytest.raises(errors.ConflictError):
        room.send(m.EditChat(ANN, line.id, "hi"))


def test_nobody_edits_for_another(room: Room) -> None:
    line = say(room, "hello")

    with pytest.raises(errors.NotAllowedError):
        room.send(m.EditChat(HOST, line.id, "bye"))


def test_the_host_deletes_anything_a_guest_only_their_own(room: Room) -> None:
    own = say(room, "one", who=HOST)
    theirs = say(room, "two")

    room.send(m.DeleteChat(HOST, theirs.id))

    assert list(room.state.lines) == [own.id]
    with pytest.raises(errors.NotAllowedError):
        room.send(m.DeleteChat(ANN, own.id))
    with pytest.raises(errors.MessageNotFoundError):
        room.send(m.DeleteChat(HOST, theirs.id))


def test_reading_only_goes_forward(room: Room) -> None:
    first, second = say(room, "one"), say(room, "two")

    room.send(m.ReadChat(HOST, second.id))
    shown = room.of(m.MessageRead)
    room.send(m.ReadChat(HOST, first.id))

    assert shown == [m.MessageRead(second.id, HOST)]
    assert room.last.events == ()
    with pytest.raises(errors.MessageNotFoundError):
        room.send(m.ReadChat(HOST, uuid4()))


def test_memory_of_lines_and_keys_is_bounded(room: Room) -> None:
    for n in range(KEYS_KEPT + 1):
        say(room, "hello", key=str(n))

    assert len(room.state.lines) == LINES_KEPT
    assert len(room.state.keys) == KEYS_KEPT

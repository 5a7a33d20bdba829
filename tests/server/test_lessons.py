"""Live rooms over the edge: seats, media, signals, chat and attendance."""

from datetime import timedelta
from types import SimpleNamespace
from typing import cast
from unittest.mock import ANY
from uuid import UUID, uuid4

import jwt
import msgspec
import pytest

from rooms.errors import BannedError, NotAllowedError, NotAvailableError, SeatExpiredError
from rooms.messages import EvidenceMode, RoomKind, RoomStatus, Snapshot
from rooms.registry import Registry
from server import config
from server.bridge import Doors, RoomHistory
from server.context import Parts, Principal, Role
from server.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError, OverloadedError
from server.features.accounts.tokens import Authenticator
from server.features.lessons import access, media
from server.features.lessons.handlers import UnknownChannelError
from server.features.lessons.messages import LiveKitAccess
from server.gateway.connection import Login
from server.gateway.protocol import CommandError, error_body
from tests.server.stage import Connection, Stage
from tests.server.test_talks import TALK


async def talk_of(stage: Stage, host: Principal) -> str:
    talk = await stage.do("talk.create", host, **TALK)
    return str(talk["room_id"])


async def seated(stage: Stage, count: int) -> tuple[str, list[Principal]]:
    """A talk with so many people in it."""
    people = await stage.people(count)
    room_id = await talk_of(stage, people[0])
    for person in people:
        await stage.do("room.join", person, room_id=room_id, connection=Connection())
    return room_id, people


async def test_join_answers_room_seat_media_and_position(stage: Stage) -> None:
    [host] = await stage.people(1)
    room_id = await talk_of(stage, host)
    connection = Connection()

    joined = await stage.do("room.join", host, room_id=room_id, connection=connection)

    assert joined.keys() == {"room", "seat", "media", "sub"}
    assert joined["room"]["participants"][0]["user_id"] == str(host.user_id)
    assert (joined["seat"]["no"], joined["seat"]["state"]) == (1, "connected")
    assert joined["media"] == {"provider": "peer", "ice_servers": []}
    assert joined["sub"] == {"epoch": joined["room"]["epoch"], "off": joined["room"]["off"]}
    assert connection.bound == {UUID(room_id): joined["sub"]["off"]}


async def test_repeated_join_returns_the_same_seat(stage: Stage) -> None:
    room_id, [host] = await seated(stage, 1)

    again = await stage.do("room.join", host, room_id=room_id, connection=Connection())

    assert (again["seat"]["no"], again["seat"]["generation"]) == (1, 1)


async def test_full_room_queues_who_asks_and_offers_the_free_seat(stage: Stage) -> None:
    room_id, people = await seated(stage, 4)
    [waiting] = await stage.people(1)

    queued = await stage.do("room.join", waiting, room_id=room_id, queue=True, connection=Connection())
    waits = await stage.do("room.get", waiting, room_id=room_id)
    await stage.do("room.leave", people[1], room_id=room_id)
    await stage.relay.flush()
    is_offered = await stage.do("room.get", waiting, room_id=room_id)
    joined = await stage.do("room.join", waiting, room_id=room_id, connection=Connection())

    assert queued["queue"] == {"position": 1}
    assert waits["own_wait"] == {"position": 1, "offered_until": None}
    assert is_offered["own_wait"] == {"position": 1, "offered_until": ANY}
    assert (await stage.do("room.get", people[0], room_id=room_id))["own_wait"] is None
    [offer] = stage.seen(f"user:{waiting.user_id}", "seat.offered")
    assert offer.data["room_id"] == room_id
    assert joined["seat"]["no"] == 2


async def test_kicked_person_is_out_and_a_banned_one_stays_out(stage: Stage) -> None:
    room_id, [host, guest] = await seated(stage, 2)

    with pytest.raises(NotAllowedError):
        await stage.do("room.kick", guest, room_id=room_id, user_id=host.user_id)
    await stage.do("room.kick", host, room_id=room_id, user_id=guest.user_id, ban=True)

    with pytest.raises(BannedError):
        await stage.do("room.join", guest, room_id=room_id)
    assert len((await stage.do("room.get", host, room_id=room_id))["participants"]) == 1


async def test_banned_person_may_not_even_look_on(stage: Stage) -> None:
    room_id, [host, guest] = await seated(stage, 2)
    doors = Doors(cast(Authenticator, None), stage.parts)
    channel = f"room:{room_id}"
    allowed = await doors.may_read(Login(guest, None), channel)

    await stage.do("room.kick", host, room_id=room_id, user_id=guest.user_id, ban=True)

    assert allowed
    assert await doors.may_read(Login(host, None), channel)
    with pytest.raises(BannedError):
        await stage.do("room.get", guest, room_id=room_id)
    with pytest.raises(CommandError) as refused:
        await doors.may_read(Login(guest, None), channel)
    assert error_body(refused.value).code == 122


def elsewhere(stage: Stage) -> Parts:
    """The same product on a node that runs none of its rooms."""
    return msgspec.structs.replace(
        stage.parts,
        rooms=cast(Registry, SimpleNamespace(here=lambda _: None, nature=stage.parts.rooms.nature)),
    )


async def test_what_somebody_is_to_a_talk_is_the_same_from_memory_and_from_the_database(stage: Stage) -> None:
    room_id, [host, guest, banned] = await seated(stage, 3)
    [stranger] = await stage.people(1)
    await stage.do("room.kick", host, room_id=room_id, user_id=banned.user_id, ban=True)

    found = [
        [await access.standing(parts, UUID(room_id), one.user_id) for one in (host, guest, banned, stranger)]
        for parts in (stage.parts, elsewhere(stage))
    ]

    assert stage.parts.rooms.here(UUID(room_id)) is not None
    assert [(one.role, one.is_banned) for one in found[0]] == [
        ("host", False),
        ("member", False),
        ("member", True),
        ("member", False),
    ]
    assert found[0] == found[1]


async def test_what_somebody_is_to_a_lesson_is_the_same_from_memory_and_from_the_database(
    stage: Stage,
) -> None:
    lesson = await stage.sell_lesson()
    [stranger] = await stage.people(1)
    stage.parts.clock.pin(lesson.starts_at)
    await stage.do("room.join", lesson.tutor, room_id=lesson.room_id, connection=Connection())

    found = [
        [
            await access.standing(parts, lesson.room_id, one.user_id)
            for one in (lesson.tutor, *lesson.students, stranger)
        ]
        for parts in (stage.parts, elsewhere(stage))
    ]

    assert [one.role for one in found[0]] == ["tutor", "student", None]
    assert found[0] == found[1]


async def test_place_that_ended_is_honoured_by_the_next_look(stage: Stage) -> None:
    lesson = await stage.sell_lesson()
    [student] = lesson.students
    login, channel = Login(student, None), f"room:{lesson.room_id}"
    doors = Doors(cast(Authenticator, None), stage.parts)
    before = await doors.may_read(login, channel)

    [purchase] = (await stage.do("purchase.list", student))["items"]
    await stage.do("purchase.cancel", student, purchase_id=purchase["id"])

    assert before
    assert not await doors.may_read(login, channel)


async def test_room_that_is_not_there_may_not_be_followed(stage: Stage) -> None:
    [person], [admin] = await stage.people(1), await stage.people(1, Role.ADMIN)
    doors = Doors(cast(Authenticator, None), stage.parts)

    assert not await doors.may_read(Login(person, None), f"room:{uuid4()}")
    assert not await doors.may_read(Login(person, None), "room:1")
    assert await doors.may_read(Login(admin, None), f"room:{uuid4()}")


async def test_head_of_a_room_is_the_same_from_memory_and_from_the_database(stage: Stage) -> None:
    first, _ = await seated(stage, 2)
    second, _ = await seated(stage, 1)
    channels = [f"room:{first}", f"room:{uuid4()}", f"room:{second}", "room:1"]

    here, there = [
        await RoomHistory(stage.parts.sessions, stage.parts.reads, parts.rooms).heads(channels)
        for parts in (stage.parts, elsewhere(stage))
    ]

    assert here.keys() == {channels[0], channels[2]}
    assert here == there


async def test_unknown_room_is_not_found(stage: Stage) -> None:
    [person] = await stage.people(1)

    with pytest.raises(NotFoundError):
        await stage.do("room.join", person, room_id=uuid4())


async def test_chat_is_said_changed_read_and_deleted(stage: Stage) -> None:
    room_id, [host, guest] = await seated(stage, 2)

    said = await stage.do("chat.send", host, room_id=room_id, text="hello")
    again = await stage.do("chat.send", guest, room_id=room_id, text="hi", key="one")
    repeated = await stage.do("chat.send", guest, room_id=room_id, text="hi", key="one")
    message_id = said["message"]["id"]
    changed = await stage.do("chat.edit", host, room_id=room_id, message_id=message_id, text="hello all")
    await stage.do("chat.read", guest, room_id=room_id, message_id=message_id)
    gone = await stage.do("chat.delete", host, room_id=room_id, message_id=message_id)

    events = [one.ev for one in stage.seen(f"room:{room_id}") if one.ev.startswith("message.")]
    assert again == repeated
    assert changed["message"]["text"] == "hello all"
    assert gone == {"message": {"id": message_id}}
    assert events == [
        "message.created",
        "message.created",
        "message.updated",
        "message.read",
        "message.deleted",
    ]


async def test_chat_needs_a_seat_and_a_room(stage: Stage) -> None:
    room_id, [host] = await seated(stage, 1)
    [stranger] = await stage.people(1)

    with pytest.raises(SeatExpiredError):
        await stage.do("chat.send", stranger, room_id=room_id, text="hello")
    with pytest.raises(UnknownChannelError):
        await stage.do("chat.send", host, ch="chat:1", text="hello")
    with pytest.raises(BadRequestError):
        await stage.do("chat.send", host, text="hello")


async def test_signal_reaches_the_other_and_is_not_stored(stage: Stage) -> None:
    room_id, [host, guest] = await seated(stage, 2)

    await stage.do("room.signal", host, room_id=room_id, to=guest.user_id, data={"sdp": "v=0"})

    [shown] = stage.seen(f"user:{guest.user_id}", "room.signal")
    assert shown.off is None
    assert shown.data == {"room_id": room_id, "from": str(host.user_id), "data": {"sdp": "v=0"}}


async def test_signal_is_for_people_with_seats_only(stage: Stage) -> None:
    room_id, [host] = await seated(stage, 1)
    [stranger] = await stage.people(1)

    for sender, receiver in ((host, stranger), (stranger, host)):
        with pytest.raises(ForbiddenError):
            await stage.do("room.signal", sender, room_id=room_id, to=receiver.user_id, data={})
    with pytest.raises(BadRequestError):
        await stage.do("room.signal", host, room_id=room_id, to=host.user_id, data={})

    assert stage.seen(f"user:{stranger.user_id}") == []


@pytest.mark.parametrize(("size", "passes"), [(8 * 1024, True), (8 * 1024 + 1, False)])
async def test_signal_has_a_largest_size(stage: Stage, size: int, passes: bool) -> None:
    room_id, [host, guest] = await seated(stage, 2)
    data = "x" * (size - 2)

    if passes:
        await stage.do("room.signal", host, room_id=room_id, to=guest.user_id, data=data)
    else:
        with pytest.raises(BadRequestError):
            await stage.do("room.signal", host, room_id=room_id, to=guest.user_id, data=data)

    assert len(stage.seen(f"user:{guest.user_id}", "room.signal")) == passes


async def test_media_state_is_shown_to_the_room(stage: Stage) -> None:
    room_id, [host] = await seated(stage, 1)

    await stage.do("room.media_state", host, room_id=room_id, state="good")

    [shown] = stage.seen(f"room:{room_id}", "participant.media")
    assert (shown.off, shown.data) == (None, {"user_id": str(host.user_id), "state": "good"})


async def test_lesson_is_for_its_tutor_and_its_buyers(stage: Stage) -> None:
    stage.parts.clock.pin(stage.parts.clock.now())
    lesson = await stage.sell_lesson()
    [stranger] = await stage.people(1)
    with pytest.raises(NotAvailableError):
        await stage.do("room.join", lesson.tutor, room_id=lesson.room_id)
    stage.parts.clock.pin(lesson.starts_at - timedelta(minutes=10))

    of_tutor = await stage.do("room.join", lesson.tutor, room_id=lesson.room_id, connection=Connection())
    of_student = await stage.do(
        "room.join", lesson.students[0], room_id=lesson.room_id, connection=Connection()
    )

    for op in ("room.join", "room.get", "room.attendance"):
        with pytest.raises(ForbiddenError):
            await stage.do(op, stranger, room_id=lesson.room_id)
    roles = [one["role"] for one in of_student["room"]["participants"]]
    assert roles == ["tutor", "student"]
    assert of_tutor["room"]["kind"] == "course_session"
    assert (await stage.do("room.get", lesson.admin, room_id=lesson.room_id))["state"] == "live"


async def test_attendance_is_the_tutors_and_a_student_sees_only_the_own(stage: Stage) -> None:
    clock = stage.parts.clock
    clock.pin(clock.now())
    lesson = await stage.sell_lesson(students=2)
    clock.pin(lesson.starts_at)
    for person in (lesson.tutor, *lesson.students):
        await stage.do("room.join", person, room_id=lesson.room_id, connection=Connection())
    clock.pin(lesson.starts_at + timedelta(minutes=30))
    for person in lesson.students:
        await stage.do("room.leave", person, room_id=lesson.room_id)

    everybody = await stage.do("room.attendance", lesson.tutor, room_id=lesson.room_id)
    own = await stage.do("room.attendance", lesson.students[0], room_id=lesson.room_id)

    assert len(everybody["people"]) == 3
    assert [row["user_id"] for row in own["people"]] == [str(lesson.students[0].user_id)]
    assert own["people"][0]["attended_s"] == 30 * 60
    assert own["scheduled_s"] == 90 * 60


async def test_preview_of_an_early_end_says_what_the_end_does(stage: Stage) -> None:
    clock = stage.parts.clock
    clock.pin(clock.now())
    lesson = await stage.sell_lesson(students=3)
    short, long, _absent = lesson.students
    with pytest.raises(ConflictError):
        await stage.do("room.end_preview", lesson.tutor, room_id=lesson.room_id)
    clock.pin(lesson.starts_at)
    for person in (lesson.tutor, short, long):
        await stage.do("room.join", person, room_id=lesson.room_id, connection=Connection())
    clock.pin(lesson.starts_at + timedelta(minutes=5))
    await stage.do("room.leave", short, room_id=lesson.room_id)
    clock.pin(lesson.starts_at + timedelta(minutes=17))
    too_early = await stage.do("room.end_preview", lesson.tutor, room_id=lesson.room_id)
    clock.pin(lesson.starts_at + timedelta(minutes=24))
    # No socket is behind these connections: that they say goodbye shows until when they were there.
    for person in (lesson.tutor, long):
        await stage.do("room.leave", person, room_id=lesson.room_id)

    seen = await stage.do("room.end_preview", lesson.tutor, room_id=lesson.room_id)

    # Of 90 planned minutes the tutor has to give 18; of 24 given ones a student needs 4:48.
    assert (too_early["tutor_absent"], too_early["to_students"]["amount"]) == (True, 30_000)
    assert (seen["tutor_absent"], seen["left_s"]) == (False, 66 * 60)
    assert {one["user_id"]: one["released"] for one in seen["students"]} == {
        str(one.user_id): one in (short, long) for one in lesson.students
    }
    with pytest.raises(ForbiddenError):
        await stage.do("room.end_preview", long, room_id=lesson.room_id)
    await stage.do("room.close", lesson.tutor, room_id=lesson.room_id)
    over = lesson.starts_at + timedelta(minutes=26)
    await stage.parts.rooms.run_due(over)
    clock.pin(over)
    holds = [await stage.do("hold.get", lesson.admin, hold_id=hold_id) for hold_id in lesson.holds.values()]
    for sum_of, part in (
        ("to_tutor", "tutor_share"),
        ("to_platform", "platform_share"),
        ("to_students", "refunded"),
    ):
        assert seen[sum_of]["amount"] == sum(hold[part]["amount"] for hold in holds)


async def test_attendance_is_kept_of_lessons_only(stage: Stage) -> None:
    room_id, [host] = await seated(stage, 1)

    with pytest.raises(BadRequestError):
        await stage.do("room.attendance", host, room_id=room_id)


def test_ticket_to_livekit_is_short_and_for_one_room() -> None:
    person = Principal(uuid4(), Role.STUDENT, "Ann", 1)
    room = snapshot(evidence="livekit", generation=2)
    livekit = config.LiveKit("http://media.example", "key", "s" * 32)

    allowed = media.access(room, livekit, person)

    assert isinstance(allowed, LiveKitAccess)
    claims = jwt.decode(allowed.token, "s" * 32, algorithms=["HS256"])
    assert allowed.url == "ws://media.example"
    assert claims["sub"] == str(person.user_id)
    assert claims["video"]["room"] == f"ft_{room.id}_2"
    assert "roomCreate" not in claims["video"]
    assert claims["exp"] - claims["nbf"] == 60


def test_room_made_for_a_media_server_is_not_entered_without_one() -> None:
    person = Principal(uuid4(), Role.STUDENT, "Ann", 1)

    with pytest.raises(OverloadedError):
        media.access(snapshot(evidence="livekit"), config.LiveKit(None, None, None), person)


def snapshot(*, evidence: EvidenceMode, generation: int = 1) -> Snapshot:
    return Snapshot(
        id=uuid4(),
        kind=RoomKind.TALK,
        title="Tea",
        state=RoomStatus.OPEN,
        cap=4,
        generation=generation,
        participants=(),
        host=None,
        evidence=evidence,
        media_ready=True,
        epoch="e",
        off=1,
    )

"""Hostile input for every operation over a real socket: a clear error, the socket stays, nothing is changed."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import pytest
from msgspec import inspect

from server import embedded
from server.commands import TABLE
from server.http.contract import OWN
from tests.contract.shapes import fits
from tests.contract.test_socket import ERROR, is_error, talk
from tests.journeys import school
from tests.journeys.people import Body, Device, Person, RefusedError, Town, story, town
from tests.journeys.product import Product
from tests.server.test_bad_input import VALUES, role_for, valid

pytestmark = pytest.mark.journey

ROWS = {row.op: row for row in TABLE if row.on_socket}
REQUESTS: dict[str, type[msgspec.Struct]] = {op: row.request for op, row in ROWS.items()}
# `connect` is said once, and what is wrong with it closes the socket (tests/contract/test_socket.py).
REQUESTS |= {op: request for op, (request, _) in OWN.items() if op != "connect"}
# The server closes whoever makes twenty errors in ten seconds.
ERRORS_MOST = 18
GIANT = 30_000
# `d` as it would stand in the message, whatever is asked for.
NO_OBJECTS = {
    "list": "[]",
    "text": '"x"',
    "number": "7",
    "truth": "true",
    "deep_list": "[" * 10_000 + "]" * 10_000,
    "deep_object": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "not_json": "{a}",
    "cut_short": '{"a":',
    "not_a_number": '{"a":NaN}',
    "lone_surrogate": '{"a":"\\ud800"}',
    "nul": '{"a":"\\u0000"}',
}


class Attacker:
    """Somebody who comes back with a new socket before the server has enough of the old one."""

    def __init__(self, people: Town, person: Person) -> None:
        self._people = people
        self._person = person
        self._device: Device | None = None
        self._errors = 0

    async def device(self) -> Device:
        """Return a socket on which another error may be made."""
        if self._device is None or self._errors >= ERRORS_MOST:
            if self._device is not None:
                await self._device.socket.close()
            self._device, self._errors = await self._people.open_socket(), 0
            await self._device.connect(self._person.token)
        self._errors += 1
        return self._device

    async def ask(self, op: str, d: object) -> Body | None:
        """Ask with a new key and return the error, None where it was no error; the socket stays in any case."""
        device = await self.device()
        try:
            await device.ask(op, d, key=uuid.uuid4().hex)  # type: ignore[arg-type]  # that is the point
        except RefusedError as refusal:
            check_clear(refusal.err, op)
            return refusal.err
        return None


def check_clear(err: Body, what: str) -> None:
    fits(err, ERROR, at=what)
    assert err["code"] != 100, f"{what}: {err}"
    assert err["message"], what


async def attacker(people: Town, op: str) -> Attacker:
    """Return somebody whose role may use the operation."""
    role = role_for(ROWS[op]).value if op in ROWS else "student"
    return Attacker(people, (await people.mint(role=role))[0])


def fields_of(request: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(request)
    assert isinstance(info, inspect.StructType)
    return info.fields


def valid_d(request: type[msgspec.Struct]) -> Body:
    return {field.encode_name: valid_of(field) for field in fields_of(request) if field.required}


def valid_of(field: inspect.Field) -> Any:
    return {} if isinstance(field.type, inspect.RawType) else valid(field.type)


def wrong(request: type[msgspec.Struct]) -> Iterator[tuple[str, Any]]:
    """Every field with every value that its own type refuses."""
    for field in msgspec.structs.fields(request):
        if field.type is msgspec.Raw:
            continue  # opaque: only its size counts
        for value in VALUES:
            if len(str(value)) > GIANT:
                continue  # a frame of 32 KiB cannot carry it; what is too big closes with 4009
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError:
                yield field.encode_name, value


@asynccontextmanager
async def unchanged(product: Product) -> AsyncIterator[None]:
    """Fail if what is done inside leaves a trace among people's deeds: courses, money, rooms, what is said there."""
    before = await deeds(product)
    yield
    assert await deeds(product) == before


TABLES = (
    "course", "course_session", "course_place", "purchase", "hold", "hold_settlement", "ledger_journal", "ledger_transfer",
    "talk", "room", "room_ban", "audit_log", "idempotency",
)  # fmt: skip
# Seats of earlier tests lapse by themselves meanwhile, so of a room only what somebody does counts.
DEEDS = (
    "seat_taken", "kicked", "retitled", "rescheduled", "wait_began", "message_created", "message_updated",
    "message_deleted", "message_read",
)  # fmt: skip


async def deeds(product: Product) -> dict[str, int]:
    """Return how many rows tell of what people did."""
    sockets = embedded.socket_folder((product.folder / "data").resolve())
    connection = await asyncpg.connect(host=str(sockets), user=embedded.USER, database=embedded.DATABASE)
    try:
        found = {name: await connection.fetchval(f'select count(*) from "{name}"') for name in TABLES}
        events = "select count(*) from room_event where type = any($1)"
        return found | {"room_event": await connection.fetchval(events, DEEDS)}
    finally:
        await connection.close()


@pytest.mark.timeout(180)
async def test_every_field_of_every_operation_refuses_what_its_type_does_not_take(product: Product) -> None:
    async with story(product) as people, unchanged(product):
        for op, request in REQUESTS.items():
            who = await attacker(people, op)
            for name, value in wrong(request):
                err = await who.ask(op, valid_d(request) | {name: value})

                what = f"{op} {name}={str(value)[:60]!r}"
                assert err is not None, what
                is_error(err, 107)


async def test_every_missing_field_is_missed(product: Product) -> None:
    async with town(product) as people, unchanged(product):
        for op, request in REQUESTS.items():
            whole = valid_d(request)
            if not whole:
                continue
            who = await attacker(people, op)
            for name in whole:
                err = await who.ask(op, {field: value for field, value in whole.items() if field != name})

                assert err is not None, f"{op} without {name}"
                is_error(err, 107)


@pytest.mark.timeout(120)
async def test_what_is_no_object_is_refused_by_every_operation(product: Product) -> None:
    async with story(product) as people, unchanged(product):
        for op in REQUESTS.keys() - {"ping"}:  # it has nothing to ask, so nobody reads its `d`
            who = await attacker(people, op)
            for name, d in NO_OBJECTS.items():
                device = await who.device()
                seen = len(device.unasked)

                await device.socket.send_str(f'{{"id":77,"op":"{op}","key":"{uuid.uuid4()}","d":{d}}}')

                await device.until(lambda d=device, n=seen: len(d.unasked) > n, f"{op} {name}")  # type: ignore[misc]
                answer = device.unasked[-1]
                if "err" in answer:
                    check_clear(answer["err"], f"{op} {name}")
                    assert answer["err"]["code"] == 107, f"{op} {name}: {answer}"
                else:
                    # Unknown fields are ignored, whatever they hold.
                    assert name in ("deep_object", "lone_surrogate"), f"{op} {name}: {answer}"
                assert device.close_code is None


async def test_ids_of_nothing_are_not_found_and_never_an_error_of_ours(product: Product) -> None:
    async with story(product) as people, unchanged(product):
        for op, request in REQUESTS.items():
            ids = [
                field.encode_name for field in fields_of(request) if isinstance(field.type, inspect.UUIDType)
            ]
            if not ids:
                continue
            err = await (await attacker(people, op)).ask(op, valid_d(request))

            assert err is not None, op
            assert err["code"] in (102, 103, 107, 108, 124), f"{op}: {err}"


async def test_wrong_roles_are_refused(product: Product) -> None:
    async with town(product) as people, unchanged(product):
        student = Attacker(people, (await people.mint())[0])
        tutor = Attacker(people, (await people.mint(role="tutor"))[0])
        for op, row in ROWS.items():
            refused = {"admin": (student, tutor), "owner": (student, tutor), "tutor": (student,),
                       "approved_tutor": (student,), "student": (tutor,)}.get(row.guard, ())  # fmt: skip
            for who in refused:
                err = await who.ask(op, valid_d(row.request))

                assert err is not None, op
                is_error(err, 103)


async def test_things_of_other_people_stay_theirs(product: Product) -> None:
    """A stranger with the right role and real ids."""
    async with story(product) as people:
        admin, (owner, stranger) = await people.admin(), await people.mint(2)
        lesson = await school.offer(people, admin)
        bought = await school.sell(lesson, admin, owner)
        rival = await school.tutor_of(people, admin, "Rival")
        await owner.connect()
        room_id = await talk(owner)
        joined = await owner.join(room_id)
        said = await owner.ask("chat.send", {"text": "mine"}, ch=f"room:{room_id}")
        (talked,) = (await owner.call("GET", "/api/v1/talks/history"))["items"]
        notice = (await owner.call("GET", "/api/v1/notifications"))["items"][0]
        course, hold = {"course_id": lesson.course_id}, {"hold_id": bought["holds"][0]["id"]}
        session, reason = {**course, "session_id": lesson.session_id}, {"reason": "because I am a stranger"}
        message = {"room_id": room_id, "message_id": said["message"]["id"]}
        new = valid_d(REQUESTS["course.session.add"])
        cases: list[tuple[str, Body, int]] = [
            ("hold.get", hold, 108),
            ("purchase.get", {"purchase_id": bought["id"]}, 108),
            ("purchase.cancel", {"purchase_id": bought["id"], **reason}, 108),
            ("notification.read", {"notification_id": notice["id"]}, 108),
            ("course.update", {**course, "title": "Mine now"}, 103),
            ("course.publish", course, 103),
            ("course.unpublish", course, 103),
            ("course.cancel", {**course, **reason}, 103),
            ("course.students", course, 103),
            ("course.revenue", course, 103),
            ("course.session.add", {**new, **course}, 103),
            ("course.session.update", {**session, "title": "Mine now"}, 103),
            ("course.session.cancel", {**session, **reason}, 103),
            ("room.get", {"room_id": lesson.room_id}, 103),
            ("room.attendance", {"room_id": lesson.room_id}, 103),
            ("room.end_preview", {"room_id": lesson.room_id}, 103),
            ("room.join", {"room_id": lesson.room_id}, 103),
            ("room.close", {"room_id": room_id}, 103),
            ("room.kick", {"room_id": room_id, "user_id": owner.id}, 103),
            ("room.signal", {"room_id": room_id, "to": owner.id, "data": 1}, 103),
            ("room.send", {"room_id": room_id, "kind": "x"}, 103),
            ("room.media_state", {"room_id": room_id, "state": {}}, 103),
            ("typing.start", {"room_id": room_id}, 103),
            ("talk.update", {"talk_id": talked["id"], "title": "Mine now"}, 103),
            ("talk.close", {"talk_id": talked["id"]}, 103),
            ("chat.send", {"room_id": room_id, "text": "hello"}, 123),
            ("chat.edit", {**message, "text": "changed"}, 123),
            ("chat.delete", message, 103),
            ("chat.read", message, 123),
            ("subscribe", {"ch": f"user:{owner.id}"}, 103),
            ("history", {"ch": f"user:{owner.id}", "since": {"epoch": "x", "off": 0}}, 103),
        ]  # fmt: skip
        strangers = [Attacker(people, stranger), Attacker(people, rival)]
        async with unchanged(product):
            for op, d, code in cases:
                for who in strangers:
                    err = await who.ask(op, d)

                    assert err is not None, op
                    assert err["code"] == code, f"{op}: {err}"
        room = await owner.ask("room.get", {"room_id": room_id})
        assert room["participants"] == joined["room"]["participants"]
        assert (await school.hold(owner, bought))["status"] == "held"


async def test_bytes_that_are_not_utf8(product: Product) -> None:
    async with town(product) as people:
        text, binary = [await person.connect() for person in await people.mint(2)]

        await binary.socket.send_bytes(b'{"id":5,"op":"chat.send","d":{"text":"\xff\xfe"}}')
        await binary.until(lambda: binary.unasked, "an answer")
        is_error(binary.unasked[0]["err"], 107)
        assert await binary.ask("ping")
        await send_text(text, b'{"id":5,"op":"ping","x":"\xff"}')

        assert await text.closed() == 1007


async def send_text(device: Device, content: bytes) -> None:
    """Send a text frame as no browser would."""
    import aiohttp

    writer = device.socket._writer
    await writer.send_frame(content, aiohttp.WSMsgType.TEXT)


async def test_ids_of_messages_that_no_client_should_use(product: Product) -> None:
    async with town(product) as people:
        device = await (await people.mint())[0].connect()
        ids = ("0", "-1", '"5"', "1.5", "1e999", "9" * 30, "[]", "{}", "true")

        for number, raw in enumerate(ids, 1):
            await device.socket.send_str(f'{{"id":{raw},"op":"ping"}}')
            await device.until(lambda n=number: len(device.unasked) == n, raw)  # type: ignore[misc]

        for answer in device.unasked:
            is_error(answer["err"], 107)
            assert "id" not in answer
        assert await device.ask("ping")

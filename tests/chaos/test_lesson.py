"""The server or its database dies during a lesson: seats, attendance and money are what they would have been."""

import asyncio
import os
import select
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server import embedded
from tests.chaos.client import (
    AGAIN_S,
    OVERLOADED,
    UNKNOWN_OUTCOME,
    Body,
    Client,
    RefusedError,
    Town,
    town,
)
from tests.chaos.server import Account, Server, running

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

PRICE = 10_000
PLANNED_S = 90 * 60
# What the crash may cost, or give: beats come every 5 s (DESIGN §4).
TOLERANCE_S = 10
# Minutes after the beginning at which the server is killed; the lesson closes at 90 and settles 90 s later.
KILLS = (45,)
KILLS_FULL = (2, 5, 13, 17, 30, 32, 45, 60, 62, 75)
LEAVES_AT, LEAVES_EARLY = 80, 15


class Lesson:
    """A sold course session, its people, and the time that passes in it."""

    def __init__(self, server: Server, of: Town, tutor: Account, room_id: str, starts_at: datetime) -> None:
        self.server = server
        self.of = of
        self.tutor = tutor
        self.room_id = room_id
        self.starts_at = starts_at
        self.holds: dict[str, str] = {}
        """Hold of each student."""
        self.databases = AsyncExitStack()
        """What runs in place of the server's own PostgreSQL, for longer than the server."""

    async def until(self, minutes: float) -> None:
        """Let business time pass until so many minutes after the beginning."""
        moment = self.starts_at + timedelta(minutes=minutes)
        body = {"set": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
        await self.of.call(self.server.base, self.tutor, "POST", "/dev/clock", body)

    async def hold_of(self, student: Client) -> Body:
        """Return a student's hold."""
        hold: Body = await self.of.call(
            self.server.base, student.account, "GET", f"/holds/{self.holds[student.user_id]}"
        )
        return hold


async def _kill_server(lesson: Lesson, people: list[Client]) -> None:
    """Kill the server, start it again, and wait until the people are back."""
    await lesson.server.kill()
    await lesson.server.start()
    for person in people:
        await person.online.wait()


async def _restart_database(lesson: Lesson, people: list[Client]) -> None:
    """End PostgreSQL as a crash of it would, start it again, and wait until commands are taken."""
    connects = [person.connects for person in people]
    await _stop_database(lesson.server.folder)
    for person in people:
        with pytest.raises(RefusedError) as refused:
            await person.ask("chat.send", {"text": "?"}, ch=f"room:{lesson.room_id}")
        assert refused.value.code in (OVERLOADED, UNKNOWN_OUTCOME)
    database = lesson.databases.enter_context(embedded.Embedded(lesson.server.folder))
    await asyncio.to_thread(database.start_postgres)
    for person in people:
        await person.say(lesson.room_id, "it goes on")
    while (status := await _wallet_status(lesson)) != HTTPStatus.OK:
        assert status == HTTPStatus.SERVICE_UNAVAILABLE
        await asyncio.sleep(AGAIN_S)
    assert [person.connects for person in people] == connects, "sockets stay open"


async def _stop_database(folder: Path) -> None:
    pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGQUIT)
        # Readable once it has ended, though its parent is the server.
        await asyncio.to_thread(select.select, [process], [], [])
    finally:
        os.close(process)


async def _wallet_status(lesson: Lesson) -> int:
    try:
        await lesson.of.call(lesson.server.base, lesson.tutor, "GET", "/wallet")
    except RefusedError as refusal:
        return refusal.code
    return HTTPStatus.OK


Crash = Callable[[Lesson, list[Client]], Awaitable[None]]


@pytest.mark.parametrize("crash", [_kill_server, _restart_database])
async def test_a_crash_changes_neither_seats_nor_attendance_nor_money(
    tmp_path: Path, record_property: Callable[[str, object], None], crash: Crash, *, full: bool
) -> None:
    server = Server(tmp_path / "data", time_travel=True)
    async with AsyncExitStack() as databases, running(server), town() as of:
        lesson, stays, leaves = await _sold_lesson(server, of)
        lesson.databases = databases
        tutor = of.client(server.base, lesson.tutor)
        people = [tutor, *stays, leaves]
        await lesson.until(0)
        for person in people:
            person.rooms.append(lesson.room_id)
            person.come()
            await person.online.wait()
        present = list(people)
        kills = KILLS_FULL if full else KILLS
        for minute in sorted({*kills, LEAVES_EARLY}):
            await lesson.until(minute)
            if minute == LEAVES_EARLY:
                await leaves.leave(lesson.room_id)
                leaves.go()
                present.remove(leaves)
            else:
                await crash(lesson, present)
        await lesson.until(LEAVES_AT)
        for student in stays:
            await student.leave(lesson.room_id)
            student.go()
        await lesson.until(90)
        for person in people:
            assert len(set(person.seats[lesson.room_id])) == 1, "everybody kept the seat"
            assert person.faults == []
        await tutor.ask("room.close", {"room_id": lesson.room_id})
        tutor.go()
        await crash(lesson, [])  # while it waits for late evidence
        await lesson.until(100)
        await crash(lesson, [])  # after the settlement
        await lesson.until(110)

        attended = []
        for student, minutes in ((stays[0], LEAVES_AT), (stays[1], LEAVES_AT), (leaves, LEAVES_EARLY)):
            hold = await lesson.hold_of(student)
            attended.append(hold["attendance"]["attended_s"] - minutes * 60)
            has_attended = minutes == LEAVES_AT
            assert hold["status"] == ("released" if has_attended else "refunded")
            assert hold["refunded"]["amount"] == (0 if has_attended else PRICE)
            assert hold["adjustments"] == []
        assert max(map(abs, attended)) <= TOLERANCE_S, attended
        (settled,) = await server.query(
            "select count(*) as settlements, count(distinct hold_id) as holds from hold_settlement"
        )
        assert (settled["settlements"], settled["holds"]) == (3, 3)
        assert await server.violations() == []
        record_property("figures", f"{len(kills) + 2} crashes, attendance off by {attended} s")
    assert server.errors() == []


async def _sold_lesson(server: Server, of: Town) -> tuple[Lesson, list[Client], Client]:
    (admin,) = await server.mint(1, role="admin")
    (tutor,) = await server.mint(1, role="tutor")
    students = await server.mint(3)
    course = await of.call(
        server.base,
        tutor,
        "POST",
        "/courses",
        {
            "title": "Under fire",
            "description": "What remains when everything else dies.",
            "language": "en",
            "level": "B1",
            "category": "languages",
            "duration_hours": 2,
            "total_sessions": 1,
            "price_type": "per_session",
            "price_per_session": _usd(PRICE),
        },
    )
    now = msgspec.convert(
        (await of.call(server.base, tutor, "POST", "/dev/clock", {"advance_s": 0}))["now"], datetime
    )
    starts_at = (now + timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
    session = await of.call(
        server.base,
        tutor,
        "POST",
        f"/courses/{course['id']}/sessions",
        {
            "number": 1,
            "title": "The only one",
            "starts_at": starts_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_minutes": PLANNED_S // 60,
        },
    )
    await of.call(server.base, tutor, "POST", f"/courses/{course['id']}/publish")
    lesson = Lesson(server, of, tutor, session["room_id"], starts_at)
    for student in students:
        credit = {"user_id": student.user_id, "money": _usd(PRICE), "reason": "credit for the chaos"}
        await of.call(server.base, admin, "POST", "/admin/wallet-adjustments", credit)
        wanted = {"course_id": course["id"], "session_id": session["id"]}
        quote = await of.call(server.base, student, "POST", "/purchases/quote", wanted)
        bought = await of.call(
            server.base, student, "POST", "/purchases", {"quote_token": quote["quote_token"]}
        )
        (hold,) = bought["holds"]
        lesson.holds[student.user_id] = hold["id"] if isinstance(hold, dict) else hold
    first, second, third = (of.client(server.base, student) for student in students)
    return lesson, [first, second], third


def _usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}

"""A tutor, students with money, and courses that are played without waiting: what tests of selling start from."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
from sqlalchemy import delete, select, update

from billing import checks as money, settlement
from billing.checks import Violation
from billing.facts import Interval, LessonFacts, Presence
from billing.models import Outbox, OwnerId
from rooms.messages import LessonEnded, LessonStarted, RoomKind
from server.context import Role
from server.features.accounts.models import User
from server.features.courses import checks as courses
from server.features.courses.reactions import REACTIONS, TOGETHER
from server.reaction import Happened, Occasion
from tests.server.world import Person, World

Body = dict[str, Any]

START = datetime(2030, 1, 7, 12, tzinfo=UTC)
LESSON = timedelta(minutes=90)
# Each waits for a connection as long as a command may: a crowd larger than the pool is served in this many rounds.
MOST_ATTEMPTS = 8


class School:
    """One tutor's school in a world, at noon of a Monday."""

    def __init__(self, world: World, tutor: Person, admin: Person) -> None:
        self.world = world
        self.tutor = tutor
        self.admin = admin

    @classmethod
    async def open(cls, world: World) -> "School":
        world.parts.clock.pin(START)
        return cls(world, await world.person(Role.TUTOR), await world.person(Role.ADMIN))

    def at(self, moment: datetime) -> None:
        self.world.parts.clock.pin(moment)

    async def ask(
        self, method: str, path: str, person: Person | None, body: object = None, *, key: str | None = None
    ) -> httpx.Response:
        """Ask the API, and while it is too busy for an answer, again under the same key: what a client does."""
        headers = {} if person is None else dict(person.headers)
        if method != "GET":
            headers["Idempotency-Key"] = key or uuid.uuid4().hex
        attempts = 0
        while True:
            answer = await self.world.client.request(
                method, f"/api/v1{path}", content=msgspec.json.encode(body or {}), headers=headers
            )
            attempts += 1
            if answer.status_code != 503 or attempts == MOST_ATTEMPTS:
                return answer

    async def do(self, method: str, path: str, person: Person | None, body: object = None) -> Body:
        """Ask for something that must succeed."""
        answer = await self.ask(method, path, person, body)
        assert answer.is_success, answer.text
        found: Body = answer.json()
        return found

    async def students(self, count: int, *, cents: int = 100_000, referred: bool = False) -> list[Person]:
        people = await self.world.people(Role.STUDENT, count)
        if referred:
            async with self.world.parts.sessions.begin() as session:
                await session.execute(
                    update(User)
                    .where(User.id.in_([person.id for person in people]))
                    .values(referred_by=self.tutor.id)
                )
        for person in people:
            if cents:
                await self.pay_in(person, cents)
        return people

    async def pay_in(self, person: Person, cents: int) -> None:
        body = {"user_id": person.id, "money": {"amount": cents}, "reason": "money for the test"}
        await self.do("POST", "/admin/wallet-adjustments", self.admin, body)

    async def balance(self, person: Person) -> int:
        return int((await self.do("GET", "/wallet", person))["balance"]["amount"])

    async def course(self, *, sessions: int = 3, dated: int | None = None, **fields: Any) -> Body:
        """Make and publish a course; its sessions are on the days from Tuesday on, the first `dated` with a date."""
        body = course_body(total_sessions=sessions) | fields
        course = await self.do("POST", "/courses", self.tutor, body)
        for number in range(1, (sessions if dated is None else dated) + 1):
            await self.add_session(course, number)
        return await self.do("POST", f"/courses/{course['id']}/publish", self.tutor)

    async def add_session(self, course: Body, number: int, *, starts_at: datetime | None = None) -> Body:
        body = session_body(number, starts_at or START + timedelta(days=number))
        return await self.do("POST", f"/courses/{course['id']}/sessions", self.tutor, body)

    async def quote(self, person: Person, course: Body, session: Body | None = None) -> Body:
        body = {"course_id": course["id"], "session_id": session["id"] if session else None}
        return await self.do("POST", "/purchases/quote", person, body)

    async def buy(self, person: Person, course: Body, session: Body | None = None) -> Body:
        quote = await self.quote(person, course, session)
        return await self.do("POST", "/purchases", person, {"quote_token": quote["quote_token"]})

    async def course_now(self, course: Body) -> Body:
        return await self.do("GET", f"/courses/{course['id']}", self.tutor)

    async def purchase_now(self, purchase: Body) -> Body:
        return await self.do("GET", f"/purchases/{purchase['id']}", self.admin)

    async def start(self, session: Body) -> None:
        starts_at = datetime.fromisoformat(session["starts_at"])
        self.at(starts_at)
        room_id = UUID(session["room_id"])
        await self.react(LessonStarted(room_id, RoomKind.COURSE_SESSION, starts_at))

    async def hold_lesson(self, session: Body, attended: dict[UUID, timedelta]) -> None:
        """Play a session to its end: the tutor is there, students as long as said; its money moves."""
        await self.start(session)
        room_id, ends_at = UUID(session["room_id"]), datetime.fromisoformat(session["ends_at"])
        self.at(ends_at)
        planned_s = session["duration_minutes"] * 60
        facts = LessonFacts(
            lesson_id=room_id,
            tutor_id=OwnerId(self.tutor.id),
            planned_s=planned_s,
            total_s=planned_s,
            tutor_attended_s=planned_s,
            tutor_absent=False,
            ended_at=ends_at,
            students={
                OwnerId(student): was_there(datetime.fromisoformat(session["starts_at"]), time)
                for student, time in attended.items()
            },
        )
        async with self.world.parts.sessions.begin() as session_:
            await settlement.due(session_, facts, now=ends_at)
        async with self.world.parts.sessions.begin() as session_:
            await settlement.settle(session_, room_id, now=ends_at)
        await self.react(
            LessonEnded(
                room_id,
                RoomKind.COURSE_SESSION,
                "completed",
                tutor_absent=False,
                started_at=facts.ended_at - LESSON,
                ended_at=ends_at,
                reason="ended",
            )
        )
        await self.react_to_all()

    async def react(self, event: msgspec.Struct, *, times: int = 2) -> None:
        """Run an event's reactions, twice as a crash would."""
        for _ in range(times):
            async with self.world.parts.sessions.begin() as session:
                occasion = Occasion(session, uuid.uuid4().hex, self.world.parts.clock.now())
                for together in TOGETHER.get(type(event), ()):
                    await together(session, [Happened(occasion, event)])
                for reaction in REACTIONS.get(type(event), ()):
                    await reaction(occasion, event)

    async def react_to_all(self) -> list[str]:
        """Take everything out of the outbox, with its reactions; return the types of events."""
        known = {str(kind.__struct_config__.tag): kind for kind in (*REACTIONS, *TOGETHER)}
        seen: list[str] = []
        while rows := await self._take():
            for row in rows:
                seen.append(row.type)
                if row.type in known:
                    await self.react(msgspec.convert(row.data, known[row.type]))
        return seen

    async def violations(self) -> Sequence[Violation]:
        """Return what is wrong with the money and the courses; lessons here have no evidence, and nobody is told."""
        async with self.world.parts.sessions() as session:
            return await money.run(session, (*money.CHECKS, *courses.CHECKS))

    async def _take(self) -> list[Outbox]:
        async with self.world.parts.sessions.begin() as session:
            rows = list(await session.scalars(select(Outbox).order_by(Outbox.id)))
            await session.execute(delete(Outbox).where(Outbox.id.in_([row.id for row in rows])))
        return rows


def was_there(starts_at: datetime, time: timedelta) -> Presence:
    """Presence from a lesson's start on."""
    stay = Interval(starts_at, starts_at + time, ("webhook",))
    return Presence(attended_s=int(time.total_seconds()), intervals=(stay,), confidence="exact")


def course_body(**fields: Any) -> Body:
    body: Body = {
        "title": "Spanish from zero",
        "description": "Everything one needs on a journey.",
        "language": "es",
        "level": "A1",
        "category": "travel",
        "duration_hours": 4.5,
        "total_sessions": 3,
        "price_type": "full_course",
        "price_per_session": {"amount": 10_000, "currency": "USD"},
        "price_full_course": {"amount": 1_000, "currency": "USD"},
        "max_students": 20,
    }
    return body | fields


def session_body(number: int, starts_at: datetime) -> Body:
    return {
        "number": number,
        "title": f"Lesson {number}",
        "starts_at": starts_at,
        "duration_minutes": LESSON // timedelta(minutes=1),
    }

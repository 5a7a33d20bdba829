"""Random lives of the whole product against the real database; after every step all invariants hold."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update

from rooms.errors import OverloadedError
from rooms.media import room_name
from rooms.messages import ConnectionId, Identity, SocketGone, SocketsSeen
from server import db
from server.context import Principal, Role
from server.errors import ErrorKind
from server.features.accounts.models import User
from server.features.courses.models import CourseSession
from server.travel import MoveClock
from tests.server.stage import Connection
from tests.simulation import laws
from tests.simulation.clock import HandClock
from tests.simulation.media import MemoryMedia
from tests.simulation.node import Channels, Node, Sessions

Databases = Callable[[], AbstractAsyncContextManager[str]]
Body = dict[str, Any]
T = TypeVar("T")

# The short form ends within a minute on two busy cores; the long form takes more than 20,000 steps.
SHORT, LONG = (10, 50), (290, 100)
# What costs more than a step is looked at so often only, and at the end.
LOOK_EVERY, DEEP_EVERY = 2, 20
# Whoever is refused for one of these did something that is not allowed. Nothing is ever away here, so
# `unavailable` would hide a deadlock or a time-out.
LEGAL = set(ErrorKind) - {ErrorKind.UNAVAILABLE}
# A process that lost a room says so. Not `part_refused`: what only a constraint refuses, the rules have let through.
EXPECTED_WARNINGS = {"room_fenced"}
REASON = "the machine wants it"

INDEX = st.integers(0, 99)
STUDENT = st.integers(0, 4)
KEYS = st.none() | st.sampled_from(("a", "b", "c"))
HOURS = st.sampled_from((1, 2, 5, 26, 49))


class Theatre(msgspec.Struct):
    """What all lives of one test share."""

    runner: asyncio.Runner
    databases: Databases
    folder: Path
    steps: int = 0
    lives: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    done: Counter[str] = msgspec.field(default_factory=Counter)


class Asked(msgspec.Struct, frozen=True):
    """A request under a key, and its first answer."""

    op: str
    person: Principal
    key: str
    fields: Body
    answer: Body


class Life(RuleBasedStateMachine):
    """People register, teach, buy, talk and go away; processes die; time passes and is travelled through."""

    def __init__(self, theatre: Theatre) -> None:
        super().__init__()
        self.theatre = theatre
        self.stack = AsyncExitStack()
        self.logs: list[Any] = self.stack.enter_context(structlog.testing.capture_logs())
        self.memory = laws.Memory()
        self.clock = HandClock()
        self.courses: list[UUID] = []
        self.sessions_of: dict[UUID, list[UUID]] = {}
        self.tutor_of: dict[UUID, Principal] = {}
        self.purchases: list[tuple[UUID, Principal]] = []
        self.talks: list[tuple[UUID, UUID]] = []
        self.rooms: list[UUID] = []
        self.course_of: dict[UUID, UUID] = {}
        self.course_bought: dict[UUID, UUID] = {}
        self.sockets: dict[tuple[UUID, Principal], list[Connection]] = {}
        self.messages: list[tuple[UUID, UUID]] = []
        self.asked: list[Asked] = []
        self.registered = 0
        self.pending: list[Principal] = []
        self.relay_rests = 0
        self.age = 0
        self.is_broken = False

    # --- Machinery ------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self.theatre.runner.run(work)
        except BaseException:
            self.is_broken = True
            raise

    async def ask(
        self,
        op: str,
        person: Principal | None,
        *,
        key: str | None = None,
        connection: Connection | None = None,
        **fields: Any,
    ) -> Any:
        """Ask for something that may be refused; return the answer, or None."""
        try:
            answer = await self.node.stage.do(op, person, key=key, connection=connection, **fields)
        except Exception as error:
            # Two devices of one person enter a media room one after the other.
            is_second = op == "room.join" and self.media is not None and isinstance(error, OverloadedError)
            if getattr(error, "kind", None) not in LEGAL and not is_second:
                raise
            self.theatre.refused[f"{op} {getattr(error, 'code', '')}"] += 1
            return None
        self.theatre.done[op] += 1
        return answer

    async def ask_once(self, op: str, person: Principal, **fields: Any) -> Any:
        """Ask under a key, and remember it so that it can be asked again."""
        key = uuid4().hex
        answer = await self.ask(op, person, key=key, **fields)
        if answer is not None:
            self.asked.append(Asked(op, person, key, fields, answer))
        return answer

    async def start_node(self) -> None:
        self.node = Node(self.sessions, self.clock, self.channels, self.media, self.theatre.folder)
        await self.node.start()

    @property
    def everybody(self) -> list[Principal]:
        return [*self.tutors, *self.students, self.admin]

    def student(self, index: int) -> Principal:
        return self.students[index % len(self.students)]

    async def travel(self, until: datetime) -> None:
        if until > self.clock.now():
            await self.node.traveller.advance(MoveClock(set=until))
        self.relay_rests = 0

    # --- The beginning --------------------------------------------------------------------------------------

    @initialize(with_media=st.booleans())
    def open(self, with_media: bool) -> None:
        self.run(self._open(with_media))

    async def _open(self, with_media: bool) -> None:
        url = await self.stack.enter_async_context(self.theatre.databases())
        engine = db.create_engine(url, pool_size=5)
        self.stack.push_async_callback(engine.dispose)
        self.sessions: Sessions = db.create_sessions(engine)
        self.channels = Channels(self.sessions)
        self.media = MemoryMedia(self.clock) if with_media else None
        await self.start_node()
        stage = self.node.stage
        self.tutors = await stage.people(2, Role.TUTOR)
        self.students = await stage.people(5, Role.STUDENT)
        [self.admin] = await stage.people(1, Role.ADMIN)
        async with self.sessions.begin() as session:
            referred = [person.user_id for person in self.students[:2]]
            sent = update(User).where(User.id.in_(referred)).values(referred_by=self.tutors[0].user_id)
            await session.execute(sent)
        for person in self.students[:4]:
            await self._give(person, 50_000)
        course = await self._make_course(self.tutors[0], total=2, dated=2, hours=3, seats=3, whole=True)
        assert course is not None, "nothing forbids it"
        for who, index in ((0, None), (1, None), (2, 0), (3, 1)):
            await self._buy(self.students[who], course, index)
        await self._create_talk(self.students[1], 3, None)

    # --- People and money -----------------------------------------------------------------------------------

    @precondition(lambda self: self.registered < 2)
    @rule(is_tutor=st.booleans(), is_referred=st.booleans())
    def register(self, is_tutor: bool, is_referred: bool) -> None:
        self.run(self._register(is_tutor, is_referred))

    async def _register(self, is_tutor: bool, is_referred: bool) -> None:
        self.registered += 1
        code = (await self.node.stage.do("me.get", self.tutors[0]))["referral_code"]
        made = await self.ask(
            "auth.register",
            None,
            email=f"person{self.registered}@example.org",
            password="Correct-horse-7",
            first_name="Ann",
            last_name="Lee",
            role="tutor" if is_tutor else "student",
            referral_code=code if is_referred else None,
        )
        if made is None:
            return
        role = Role(made["user"]["role"])
        person = Principal(UUID(made["user"]["id"]), role, "Ann Lee", 1)
        (self.pending if is_tutor else self.students).append(person)
        if is_tutor:
            self.tutors.append(person)

    @precondition(lambda self: self.pending)
    @rule(index=INDEX, approve=st.booleans())
    def judge_tutor(self, index: int, approve: bool) -> None:
        user_id = self.pending[index % len(self.pending)].user_id
        op = "admin.tutor.approve" if approve else "admin.tutor.reject"
        reason: Body = {} if approve else {"reason": REASON}
        self.run(self.ask(op, self.admin, user_id=user_id, **reason))

    @rule(who=STUDENT, amount=st.integers(-30_000, 30_000))
    def adjust(self, who: int, amount: int) -> None:
        self.run(self._give(self.student(who), amount))

    async def _give(self, person: Principal, amount: int) -> None:
        money = {"amount": amount, "currency": "USD"}
        await self.ask_once("wallet.adjust", self.admin, user_id=person.user_id, money=money, reason=REASON)

    @precondition(lambda self: self.asked)
    @rule(index=INDEX, is_other=st.booleans())
    def ask_again(self, index: int, is_other: bool) -> None:
        """The same key gives the first answer again; with another request it is refused."""
        asked = self.asked[index % len(self.asked)]
        if is_other:
            other = next(
                (one for one in self.asked if (one.op, one.fields) != (asked.op, asked.fields)), None
            )
            if other is not None and other.person == asked.person:
                refused = self.run(self.ask(other.op, asked.person, key=asked.key, **other.fields))
                assert refused is None
        else:
            assert self.run(self.ask(asked.op, asked.person, key=asked.key, **asked.fields)) == asked.answer

    # --- Courses --------------------------------------------------------------------------------------------

    @rule(
        tutor=INDEX,
        total=st.integers(1, 3),
        dated=st.integers(0, 3),
        hours=HOURS,
        seats=st.integers(1, 3),
        whole=st.booleans(),
    )
    def make_course(self, tutor: int, total: int, dated: int, hours: int, seats: int, whole: bool) -> None:
        teacher = self.tutors[tutor % len(self.tutors)]
        self.run(self._make_course(teacher, total=total, dated=dated, hours=hours, seats=seats, whole=whole))

    async def _make_course(
        self, tutor: Principal, *, total: int, dated: int, hours: int, seats: int, whole: bool
    ) -> UUID | None:
        made = await self.ask(
            "course.create",
            tutor,
            title="Spanish from zero",
            description="Everything one needs on a journey.",
            language="es",
            level="A1",
            category="travel",
            duration_hours=1.5,
            total_sessions=total,
            price_type="full_course" if whole else "per_session",
            price_per_session={"amount": 3_333},
            price_full_course={"amount": 10_000} if whole else None,
            max_students=seats,
        )
        if made is None:
            return None
        course_id = UUID(made["id"])
        self.courses.append(course_id)
        self.sessions_of[course_id] = []
        self.tutor_of[course_id] = tutor
        for number in range(1, min(dated, total) + 1):
            await self._add_session(tutor, course_id, number, hours * number, 60)
        await self.ask("course.publish", tutor, course_id=course_id)
        return course_id

    async def _add_session(
        self, person: Principal, course_id: UUID, number: int, hours: int, minutes: int
    ) -> None:
        made = await self.ask(
            "course.session.add",
            person,
            course_id=course_id,
            number=number,
            title=f"Lesson {number}",
            starts_at=self.clock.now() + timedelta(hours=hours),
            duration_minutes=minutes,
        )
        if made is not None:
            self.sessions_of[course_id].append(UUID(made["id"]))
            self.rooms.append(UUID(made["room_id"]))
            self.course_of[UUID(made["room_id"])] = course_id

    @rule(
        course=INDEX,
        number=st.integers(1, 3),
        hours=HOURS,
        minutes=st.sampled_from((10, 15, 60)),
        as_admin=st.booleans(),
    )
    def add_session(self, course: int, number: int, hours: int, minutes: int, as_admin: bool) -> None:
        course_id = self._course(course)
        person = self.admin if as_admin else self.tutor_of[course_id]
        self.run(self._add_session(person, course_id, number, hours, minutes))

    @rule(
        course=INDEX,
        index=INDEX,
        hours=st.none() | HOURS,
        minutes=st.none() | st.sampled_from((15, 90)),
        as_admin=st.booleans(),
    )
    def change_session(
        self, course: int, index: int, hours: int | None, minutes: int | None, as_admin: bool
    ) -> None:
        course_id, session_id = self._session(course, index)
        changes: Body = {} if hours is None else {"starts_at": self.clock.now() + timedelta(hours=hours)}
        changes |= {"title": f"Lesson of {self.age}"} if minutes is None else {"duration_minutes": minutes}
        person = self.admin if as_admin else self.tutor_of[course_id]
        self.run(
            self.ask("course.session.update", person, course_id=course_id, session_id=session_id, **changes)
        )

    @rule(course=INDEX, index=INDEX, as_admin=st.booleans())
    def cancel_session(self, course: int, index: int, as_admin: bool) -> None:
        course_id, session_id = self._session(course, index)
        person = self.admin if as_admin else self.tutor_of[course_id]
        self.run(
            self.ask(
                "course.session.cancel", person, course_id=course_id, session_id=session_id, reason=REASON
            )
        )

    def _course(self, index: int) -> UUID:
        """A course; the newest ones, where more can happen, and the first."""
        return [self.courses[0], *self.courses[-3:]][-1 - index % min(len(self.courses), 4)]

    def _session(self, course: int, index: int) -> tuple[UUID, UUID]:
        course_id = self._course(course)
        sessions = self.sessions_of[course_id]
        return course_id, sessions[index % len(sessions)] if sessions else uuid4()

    @rule(
        course=INDEX,
        op=st.sampled_from(("course.publish", "course.unpublish", "course.update", "course.cancel")),
        total=st.integers(1, 3),
        as_admin=st.booleans(),
    )
    def change_course(self, course: int, op: str, total: int, as_admin: bool) -> None:
        course_id = self._course(course)
        person = self.admin if as_admin else self.tutor_of[course_id]
        fields: Body = {"total_sessions": total} if op == "course.update" else {}
        fields |= {"reason": REASON} if op == "course.cancel" else {}
        self.run(self.ask(op, person, course_id=course_id, **fields))

    @rule(who=STUDENT, course=INDEX, index=st.none() | INDEX, regrets=st.booleans())
    def buy(self, who: int, course: int, index: int | None, regrets: bool) -> None:
        async def trade() -> None:
            known = len(self.purchases)
            await self._buy(self.student(who), self._course(course), index)
            if regrets and len(self.purchases) > known:
                await self._return(*self.purchases[-1])

        self.run(trade())

    async def _buy(self, person: Principal, course_id: UUID, index: int | None) -> None:
        session_id = None
        if index is not None and self.sessions_of[course_id]:
            session_id = self.sessions_of[course_id][index % len(self.sessions_of[course_id])]
        quote = await self.ask("purchase.quote", person, course_id=course_id, session_id=session_id)
        if quote is None:
            return
        bought = await self.ask_once("purchase.confirm", person, quote_token=quote["quote_token"])
        assert (bought is None) == (quote["shortfall"]["amount"] > 0)
        if bought is not None:
            self.purchases.append((UUID(bought["id"]), person))
            self.course_bought[UUID(bought["id"])] = course_id

    @precondition(lambda self: self.purchases)
    @rule(index=INDEX, as_admin=st.booleans())
    def cancel_purchase(self, index: int, as_admin: bool) -> None:
        purchase_id, student = self.purchases[index % len(self.purchases)]
        self.run(self._return(purchase_id, self.admin if as_admin else student))

    async def _return(self, purchase_id: UUID, person: Principal) -> None:
        await self.ask_once("purchase.cancel", person, purchase_id=purchase_id, reason=REASON)

    # --- Rooms ----------------------------------------------------------------------------------------------

    @rule(who=STUDENT, seats=st.integers(2, 4), hours=st.none() | HOURS)
    def create_talk(self, who: int, seats: int, hours: int | None) -> None:
        self.run(self._create_talk(self.student(who), seats, hours))

    async def _create_talk(self, host: Principal, seats: int, hours: int | None) -> None:
        starts_at = None if hours is None else self.clock.now() + timedelta(hours=hours)
        made = await self.ask(
            "talk.create", host, title="Tea", language="es", max_participants=seats, starts_at=starts_at
        )
        self.talks.append((UUID(made["id"]), UUID(made["room_id"])))
        self.rooms.append(UUID(made["room_id"]))

    def _room(self, index: int) -> UUID:
        """A room; the newest ones, where more happens, come first."""
        return self.rooms[-1 - index % min(len(self.rooms), 6)]

    def _person(self, index: int) -> Principal:
        return self.everybody[index % len(self.everybody)]

    def _insider(self, room_id: UUID, index: int) -> Principal:
        """Mostly somebody with a seat, the host before others; sometimes anybody."""
        actor = self.node.rooms._actors.get(room_id)
        seated = [] if actor is None else list(actor.state.seats)
        if not seated or index % 5 == 0:
            return self._person(index)
        chosen = seated[index // 5 % len(seated)] if index % 2 else seated[0]
        return next(person for person in self.everybody if str(person.user_id) == chosen)

    def _guest(self, room_id: UUID, index: int) -> Principal:
        """Mostly somebody who may enter, sometimes anybody."""
        course_id = self.course_of.get(room_id)
        if course_id is None or index % 5 == 0:
            return self._person(index)
        buyers = [
            buyer for purchase_id, buyer in self.purchases if self.course_bought[purchase_id] == course_id
        ]
        people = [self.tutor_of[course_id], *buyers]
        return people[index // 5 % len(people)]

    @rule(who=INDEX, room=INDEX, with_socket=st.booleans(), queue=st.booleans())
    def join(self, who: int, room: int, with_socket: bool, queue: bool) -> None:
        room_id = self._room(room)
        self.run(self._join(self._guest(room_id, who), room_id, with_socket, queue))

    @rule(room=INDEX, queue=st.booleans())
    def everybody_joins(self, room: int, queue: bool) -> None:
        async def rush() -> None:
            async with asyncio.TaskGroup() as tasks:
                for person in self.everybody:
                    tasks.create_task(self._join(person, self._room(room), True, queue))

        self.run(rush())

    async def _join(self, person: Principal, room_id: UUID, with_socket: bool, queue: bool) -> None:
        connection = Connection() if with_socket else None
        joined = await self.ask("room.join", person, connection=connection, room_id=room_id, queue=queue)
        if joined is not None and connection is not None:
            self.sockets.setdefault((room_id, person), []).append(connection)

    @rule(who=INDEX, room=INDEX)
    def leave(self, who: int, room: int) -> None:
        room_id = self._room(room)
        person = self._insider(room_id, who)
        known = self.sockets.get((room_id, person), [])
        connection = known.pop() if known else None
        self.run(self.ask("room.leave", person, connection=connection, room_id=room_id))

    @rule(by=INDEX, who=INDEX, room=INDEX, ban=st.booleans())
    def kick(self, by: int, who: int, room: int, ban: bool) -> None:
        room_id = self._room(room)
        user_id = self._insider(room_id, who).user_id
        self.run(self.ask("room.kick", self._insider(room_id, by), room_id=room_id, user_id=user_id, ban=ban))

    @rule(by=INDEX, room=INDEX)
    def close_room(self, by: int, room: int) -> None:
        room_id = self._room(room)
        self.run(self.ask("room.close", self._insider(room_id, by), room_id=room_id))

    @precondition(lambda self: self.talks)
    @rule(by=INDEX, talk=INDEX, close=st.booleans())
    def change_talk(self, by: int, talk: int, close: bool) -> None:
        talk_id, room_id = self.talks[talk % len(self.talks)]
        changes: Body = {} if close else {"title": f"Tea of {self.age}", "public": self.age % 2 == 0}
        op = "talk.close" if close else "talk.update"
        self.run(self.ask(op, self._insider(room_id, by), talk_id=talk_id, **changes))

    @rule(who=INDEX, room=INDEX, text=st.sampled_from(("hello", " ")), key=KEYS)
    def say(self, who: int, room: int, text: str, key: str | None) -> None:
        room_id = self._room(room)
        said = self.run(
            self.ask("chat.send", self._insider(room_id, who), key=key, room_id=room_id, text=text)
        )
        if said is not None:
            self.messages.append((room_id, UUID(said["message"]["id"])))

    @precondition(lambda self: self.messages)
    @rule(who=INDEX, index=INDEX, op=st.sampled_from(("chat.edit", "chat.delete", "chat.read")), key=KEYS)
    def change_message(self, who: int, index: int, op: str, key: str | None) -> None:
        room_id, message_id = self.messages[index % len(self.messages)]
        text: Body = {"text": "hello again"} if op == "chat.edit" else {}
        self.run(
            self.ask(op, self._insider(room_id, who), key=key, room_id=room_id, message_id=message_id, **text)
        )

    # --- Sockets and media ----------------------------------------------------------------------------------

    @precondition(lambda self: any(self.sockets.values()))
    @rule(index=INDEX, silent_s=st.sampled_from((0, 4, 20)))
    def lose_socket(self, index: int, silent_s: int) -> None:
        bound = [(room_id, who, one) for (room_id, who), known in self.sockets.items() for one in known]
        room_id, person, connection = bound[index % len(bound)]
        self.sockets[room_id, person].remove(connection)
        seen_at = self.clock.now() - timedelta(seconds=silent_s)
        gone = SocketGone(Identity(str(person.user_id)), ConnectionId(connection.id), seen_at)
        self.run(self._tell(room_id, gone))

    async def _beat(self, room_id: UUID) -> None:
        people = {
            Identity(str(who.user_id)): tuple(ConnectionId(one.id) for one in known)
            for (where, who), known in self.sockets.items()
            if where == room_id and known
        }
        await self._tell(room_id, SocketsSeen("gateway", people, self.clock.now()))

    async def _tell(self, room_id: UUID, signal: SocketGone | SocketsSeen) -> None:
        self.node.rooms.tell(room_id, signal)

    @precondition(lambda self: self.media is not None)
    @rule(who=INDEX, room=INDEX, generation=st.sampled_from((0, 0, 0, -1)))
    def enter_media(self, who: int, room: int, generation: int) -> None:
        room_id = self._room(room)
        self.run(self._enter_media(self._insider(room_id, who), room_id, generation))

    async def _enter_media(self, person: Principal, room_id: UUID, generation: int = 0) -> None:
        if self.media is not None:
            newest = (await self.node.rooms.snapshot(room_id)).generation
            self.media.enter(room_name(room_id, newest + generation), Identity(str(person.user_id)))

    @precondition(lambda self: self.media is not None and any(self.media.rooms.values()))
    @rule(
        index=INDEX, reason=st.sampled_from(("CLIENT_INITIATED", "CONNECTION_TIMEOUT")), all_of=st.booleans()
    )
    def exit_media(self, index: int, reason: str, all_of: bool) -> None:
        assert self.media is not None, "see above"
        inside = [(name, who) for name, people in self.media.rooms.items() for who in people]
        name, identity = inside[index % len(inside)]
        if all_of:
            self.media.finish(name)
        else:
            self.media.exit(name, identity, reason=reason)

    @precondition(lambda self: self.media is not None and self.media.news)
    @rule(index=INDEX, fate=st.sampled_from(("once", "once", "twice", "lost")))
    def deliver(self, index: int, fate: str) -> None:
        """News arrive in any order, twice, or never."""
        assert self.media is not None, "see above"
        news = self.media.news.pop(index % len(self.media.news))
        if fate != "lost":
            self.run(self._deliver([news] * (2 if fate == "twice" else 1)))

    @precondition(lambda self: self.media is not None and self.media.news)
    @rule()
    def deliver_all(self) -> None:
        assert self.media is not None, "see above"
        news, self.media.news = self.media.news, []
        self.run(self._deliver(news))

    async def _deliver(self, news: Sequence[bytes]) -> None:
        assert self.media is not None, "it has news"
        for body in news:
            await self.node.receive(body, self.media.sign(body))

    # --- Time -----------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((1, 5, 19, 20, 30, 91, 121)))
    def let_pass(self, seconds: int) -> None:
        """Both clocks tick on, and the process notices late."""
        self.clock.let_pass(timedelta(seconds=seconds))
        self.run(self.node.tick())

    @rule(minutes=st.sampled_from((1, 5, 12, 60, 600)))
    def travel_on(self, minutes: int) -> None:
        self.run(self.travel(self.clock.now() + timedelta(minutes=minutes)))

    @rule(
        which=st.integers(0, 2),
        early=st.sampled_from((9, 5, 0, -10)),
        coming=st.sets(STUDENT),
        tutor_comes=st.sampled_from((True, True, True, False)),
        minutes=st.sampled_from((5, 11, 12, 13, 40, 70, 100)),
    )
    def attend(self, which: int, early: int, coming: set[int], tutor_comes: bool, minutes: int) -> None:
        """People come to one of the next lessons and stay for a while."""
        self.run(self._attend(which, early, coming, tutor_comes, minutes))

    async def _attend(
        self, which: int, early: int, coming: set[int], tutor_comes: bool, minutes: int
    ) -> None:
        ahead = select(CourseSession).where(CourseSession.status.in_(("scheduled", "in_progress")))
        async with self.sessions() as session:
            lessons = list(await session.scalars(ahead.order_by(CourseSession.starts_at).limit(3)))
        if not lessons:
            return
        lesson = lessons[which % len(lessons)]
        await self.travel(lesson.starts_at - timedelta(minutes=early))
        students = [self.student(index) for index in sorted(coming)]
        for person in [*([self.tutor_of[lesson.course_id]] if tutor_comes else []), *students]:
            await self._join(person, lesson.room_id, True, False)
            await self._enter_media(person, lesson.room_id)
        if self.media is not None:
            await self._deliver(self.media.news)
        await self.travel(self.clock.now() + timedelta(minutes=minutes))

    # --- The process ----------------------------------------------------------------------------------------

    @rule(what=st.sampled_from(("look around", "jobs", "beat", "relay rests")), index=st.integers(1, 6))
    def keep_house(self, what: str, index: int) -> None:
        """What runs by itself, and the relay that lags behind for some steps."""
        match what:
            case "look around":
                self.run(self.node.look_around())
            case "jobs":
                self.run(self.node.jobs.run_due())
            case "beat":
                self.run(self._beat(self._room(index)))
            case _:
                self.relay_rests = index

    @rule(hand_over=st.booleans(), sockets_live=st.booleans())
    def restart(self, hand_over: bool, sockets_live: bool) -> None:
        self.run(self._restart(hand_over=hand_over, sockets_live=sockets_live))

    @rule(
        what=st.sampled_from(("join", "leave", "say", "buy", "return", "close", "cancel", "relay")),
        who=INDEX,
        index=INDEX,
        ticks=st.integers(0, 40),
    )
    def crash_in_the_middle(self, what: str, who: int, index: int, ticks: int) -> None:
        self.run(self._crash_in_the_middle(what, who, index, ticks))

    async def _crash_in_the_middle(self, what: str, who: int, index: int, ticks: int) -> None:
        room_id = self._room(index)
        person = self._insider(room_id, who)
        course_id, session_id = self._session(index, who)
        purchase_id, buyer = (
            self.purchases[index % len(self.purchases)] if self.purchases else (uuid4(), person)
        )
        work: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "join": lambda: self._join(person, room_id, True, True),
            "leave": lambda: self.ask("room.leave", person, room_id=room_id),
            "say": lambda: self.ask("chat.send", person, room_id=room_id, text="hello"),
            "buy": lambda: self._buy(person, course_id, None),
            "return": lambda: self.ask("purchase.cancel", buyer, purchase_id=purchase_id),
            "close": lambda: self.ask("room.close", self.admin, room_id=room_id),
            "cancel": lambda: self.ask(
                "course.session.cancel",
                self.tutor_of[course_id],
                course_id=course_id,
                session_id=session_id,
            ),
            "relay": self.node.relay.flush,
        }
        task = asyncio.get_running_loop().create_task(work[what]())
        await asyncio.sleep(ticks / 4_000)
        task.cancel()
        await self._restart(hand_over=False, sockets_live=False)
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            assert getattr(error, "kind", None) in set(ErrorKind), repr(error)

    async def _restart(self, *, hand_over: bool, sockets_live: bool) -> None:
        await (self.node.stop() if hand_over else self.node.crash())
        self.memory.forget_rooms()
        if not sockets_live:
            self.sockets.clear()
        self.clock.let_pass(timedelta(seconds=3))
        await self.start_node()
        await self.node.look_around()
        self.relay_rests = 0

    # --- What always holds ----------------------------------------------------------------------------------

    @rule(who=INDEX, index=INDEX)
    def read_everything(self, who: int, index: int) -> None:
        """Every page can be read, by anybody who may."""

        async def read() -> None:
            person, room_id = self._person(who), self._room(index)
            course_id = self.courses[index % len(self.courses)]
            for op in ("course.list", "talk.list", "talk.history", "hold.list", "purchase.list", "wallet.get",
                       "wallet.entries", "notification.list", "notification.count", "me.get"):  # fmt: skip
                assert await self.ask(op, person) is not None
            for op in ("course.get", "course.students", "course.revenue", "course.session.list"):
                await self.ask(op, person, course_id=course_id)
            for op in ("room.get", "room.attendance"):
                await self.ask(op, person, room_id=room_id)

        self.run(read())

    @invariant()
    def everything_holds(self) -> None:
        if not hasattr(self, "node"):
            return  # before the beginning
        self.age += 1
        self.theatre.steps += 1
        is_deep = self.age % DEEP_EVERY == 0
        self.run(self._check(look=is_deep or self.age % LOOK_EVERY == 0, is_deep=is_deep))

    async def _check(self, *, look: bool, is_deep: bool) -> None:
        try:
            await self.node.quiet()
        finally:
            self._check_logs()
        self.relay_rests = max(0, self.relay_rests - 1)
        is_relayed = self.relay_rests == 0
        if is_relayed:
            await self.node.relay.flush()
        if look:
            async with self.sessions() as session:
                await laws.check(session, is_deep=is_deep, is_relayed=is_relayed)
                await self.memory.check(session)
        async with self.sessions() as session:
            await self.memory.check_rooms(session, list(self.node.rooms._actors.values()))
        await self.channels.check(from_the_start=is_deep)
        if is_deep and is_relayed:
            await self._check_courses()
        self._check_logs()

    def _check_logs(self) -> None:
        """Nothing has failed, also not where nobody waits for an answer."""
        wrong = [
            entry
            for entry in self.logs
            if entry["log_level"] in ("error", "critical")
            or (entry["log_level"] == "warning" and entry["event"] not in EXPECTED_WARNINGS)
        ]
        assert not wrong, wrong
        self.logs.clear()

    async def _check_courses(self) -> None:
        bought = [
            await self.node.stage.do("purchase.get", self.admin, purchase_id=one) for one, _ in self.purchases
        ]
        for course_id in self.courses:
            live = {
                purchase["student_id"]
                for purchase in bought
                if purchase["course_id"] == str(course_id) and purchase["status"] == "active"
            }
            course = await self.node.stage.do("course.get", self.admin, course_id=course_id)
            assert course["current_students"] == len(live)
            laws.check_revenue(await self.node.stage.do("course.revenue", self.admin, course_id=course_id))

    def teardown(self) -> None:
        self.theatre.lives += 1
        self.run(self._end())

    async def _end(self) -> None:
        async with self.stack:
            if not hasattr(self, "node"):
                return
            try:
                self.relay_rests = 0
                if not self.is_broken:
                    await self._check(look=True, is_deep=True)
            finally:
                await self.node.stop()


@pytest.mark.timeout(4 * 3600)
def test_random_lives_keep_every_invariant(
    fresh_database: Databases,
    tmp_path: Path,
    full: bool,
    record_property: Callable[[str, object], None],
) -> None:
    examples, steps = LONG if full else SHORT
    with asyncio.Runner() as runner:
        theatre = Theatre(runner, fresh_database, tmp_path)
        try:
            run_state_machine_as_test(
                lambda: Life(theatre),  # type: ignore[arg-type]  # any factory will do
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=steps,
                    deadline=None,
                    derandomize=not full,
                    database=None,
                    # Each try of a shorter life would play all of it again; the log of the life is enough.
                    phases=(Phase.generate,),
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            record_property("figures", f"{theatre.steps} steps in {theatre.lives} lives")
            record_property("figures", f"done: {_most(theatre.done)}; refused: {_most(theatre.refused)}")


def _most(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())

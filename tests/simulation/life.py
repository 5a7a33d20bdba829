"""What every random life needs: a process to ask, people, and the look at everything after each step."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import msgspec
import structlog
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
)

from rooms.errors import OverloadedError
from server import db
from server.context import Principal, Role
from server.errors import ErrorKind
from server.reads import Reads
from server.travel import MoveClock
from tests.server.stage import Connection
from tests.simulation import laws
from tests.simulation.clock import HandClock
from tests.simulation.media import MemoryMedia
from tests.simulation.node import Channels, Node, Sessions

Databases = Callable[[], AbstractAsyncContextManager[str]]
Body = dict[str, Any]
T = TypeVar("T")

# What costs more than a step is looked at so often only, and at the end.
LOOK_EVERY, DEEP_EVERY = 2, 20
# Whoever is refused for one of these did something that is not allowed. Nothing is ever away here, so
# `unavailable` would hide a deadlock or a time-out.
LEGAL = set(ErrorKind) - {ErrorKind.UNAVAILABLE}
# A process that lost a room says so. Not `part_refused`: what only a constraint refuses, the rules have let through.
EXPECTED_WARNINGS = {"room_fenced"}

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
    """A world with a process in it; its subclasses say what may happen there."""

    node: Node
    sessions: Sessions
    channels: Channels
    media: MemoryMedia | None
    tutors: list[Principal]
    students: list[Principal]
    admin: Principal

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

    # --- Asking ---------------------------------------------------------------------------------------------

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

    async def begin(self, *, with_media: bool) -> None:
        """Make an empty world with some people in it."""
        url = await self.stack.enter_async_context(self.theatre.databases())
        engine = db.create_engine(url, pool_size=5)
        self.stack.push_async_callback(engine.dispose)
        self.sessions = db.create_sessions(engine)
        reads = Reads(self.sessions)
        await self.stack.enter_async_context(reads.running())
        self.channels = Channels(self.sessions, reads)
        self.media = MemoryMedia(self.clock) if with_media else None
        await self.start_node()
        stage = self.node.stage
        self.tutors = await stage.people(2, Role.TUTOR)
        self.students = await stage.people(5, Role.STUDENT)
        [self.admin] = await stage.people(1, Role.ADMIN)

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

    # --- What always holds ----------------------------------------------------------------------------------

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
        assert not wrong, (wrong, self.node.violations)
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

"""Random lives of the whole product against the real database; after every step all invariants hold."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    initialize,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update

from server.errors import ErrorKind
from server.features.accounts.models import User
from server.features.courses.models import CourseSession
from tests.simulation.life import INDEX, STUDENT, Databases, Theatre
from tests.simulation.live_rooms import LiveRooms

# The short form ends within a minute on two busy cores; the long form takes more than 20,000 steps.
SHORT, LONG = (1, 60), (290, 100)


class Product(LiveRooms):
    """Everything that may happen: to the market, to the rooms, to time and to the process itself."""

    # --- The beginning --------------------------------------------------------------------------------------

    @initialize(with_media=st.booleans())
    def open(self, with_media: bool) -> None:
        self.run(self._open(with_media))

    async def _open(self, with_media: bool) -> None:
        await self.begin(with_media=with_media)
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

    @rule(minutes=st.sampled_from((5, 15, 70, 100)))
    def hold_lesson(self, minutes: int) -> None:
        """The next lesson, with everybody who may enter it."""
        self.run(self._attend(0, 5, set(range(5)), True, minutes))

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
                lambda: Product(theatre),  # type: ignore[arg-type]  # any factory will do
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

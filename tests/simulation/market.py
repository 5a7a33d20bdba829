"""Rules of people, money, courses and purchases."""

from datetime import timedelta
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

from server.context import Principal, Role
from tests.simulation.life import HOURS, INDEX, STUDENT, Body, Life

REASON = "the machine wants it"


class Market(Life):
    """People register, teach, buy and return."""

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

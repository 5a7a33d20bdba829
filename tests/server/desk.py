"""A desk where lessons are booked: one tutor, students with money, live rooms, and whatever runs by itself at the test's word."""

from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast
from uuid import uuid4

from prometheus_client import CollectorRegistry
from sqlalchemy import select

from billing import top_ups
from billing.models import JobRow, OwnerId
from server import checks, jobs
from server.context import Principal, Role
from server.gateway.metrics import Metrics
from server.job import Means
from server.runner import Runner
from server.upkeep import RelayFailure
from tests.server.stage import Connection, Stage

Body = dict[str, Any]

NOON = datetime(2030, 1, 7, 12, tzinfo=UTC)
RATE, MINUTES, PRICE = 6_000, 60, 6_000
TUTORS, OURS = 4_800, 1_200
FUNDS = 100_000
WHY = "After a call with them."
DAY, HOUR, MINUTE, SECOND = (
    timedelta(days=1),
    timedelta(hours=1),
    timedelta(minutes=1),
    timedelta(seconds=1),
)
# More than all that one event leads to, one after the other.
ROUNDS_MOST = 8


class Desk:
    """What people do with bookings, at noon of a Monday."""

    def __init__(self, stage: Stage, tutor: Principal, admin: Principal, student: Principal) -> None:
        self.stage = stage
        self.tutor = tutor
        self.admin = admin
        self.student = student
        self._runner = Runner(
            Means(stage.parts.sessions, cast(Any, None)),
            (*jobs.TABLE, *jobs.of_payments(cast(Any, stage.parts.payments))),
            clock=stage.parts.clock,
            metrics=Metrics(CollectorRegistry()),
        )

    @classmethod
    async def open(cls, stage: Stage) -> Self:
        stage.parts.clock.pin(NOON)
        [admin] = await stage.people(1, Role.ADMIN)
        [student] = await stage.people(1)
        desk = cls(stage, admin, admin, student)
        desk.tutor = await desk.new_tutor()
        await desk.pay_in(student)
        return desk

    def at_another(self, stage: Stage) -> "Desk":
        """Return the same people's desk at another node."""
        return Desk(stage, self.tutor, self.admin, self.student)

    # People -----------------------------------------------------------------------------------------------------

    async def new_tutor(self, rate: int = RATE) -> Principal:
        [tutor] = await self.stage.people(1, Role.TUTOR)
        await self.stage.do("tutor_profile.update", tutor, hourly_rate={"amount": rate, "currency": "USD"})
        return tutor

    async def new_students(self, count: int = 1, *, cents: int = FUNDS) -> list[Principal]:
        people = await self.stage.people(count)
        for person in people:
            await self.pay_in(person, cents)
        return people

    async def pay_in(self, person: Principal, cents: int = FUNDS) -> None:
        if cents:
            money = {"amount": cents, "currency": "USD"}
            await self.do("wallet.adjust", self.admin, user_id=person.user_id, money=money, reason=WHY)

    async def balance(self, person: Principal | None = None) -> int:
        return int((await self.do("wallet.get", person or self.student))["balance"]["amount"])

    # Time -------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        return self.stage.parts.clock.now()

    def at(self, moment: datetime) -> None:
        self.stage.parts.clock.pin(moment)

    async def go_to(self, moment: datetime) -> None:
        """Let time pass, with rooms and jobs running as they fall due, and everything told."""
        await self.stage.parts.rooms.run_due(moment)
        self.at(moment)
        await self.run()

    async def run(self) -> None:
        """Do what is due now, until nothing follows from it any more."""
        for _ in range(ROUNDS_MOST):
            await self.stage.relay.flush()
            if not await self.jobs():
                return
        raise AssertionError("something follows from itself")

    async def jobs(self) -> int:
        """Do the work that is due now; return how much there was."""
        return await self._runner.run_due(only="business")

    # What people do ---------------------------------------------------------------------------------------------

    async def do(self, op: str, person: Principal | None, **fields: Any) -> Body:
        return cast(Body, await self.stage.do(op, person, **fields))

    async def refused(self, op: str, person: Principal | None, **fields: Any) -> str:
        """Return the code with which something is refused."""
        try:
            done = await self.do(op, person, **fields)
        except Exception as error:
            code = getattr(error, "code", None)
            if not isinstance(code, str):
                raise
            return code
        raise AssertionError(f"{op} was done: {done}")

    async def ask(
        self,
        starts_at: datetime | None = None,
        *,
        student: Principal | None = None,
        tutor: Principal | None = None,
        **fields: Any,
    ) -> Body:
        """Ask for a lesson, in three days if nobody says otherwise."""
        return await self.do(
            "booking.request", student or self.student, **self.wanted(starts_at, tutor, **fields)
        )

    def wanted(
        self, starts_at: datetime | None = None, tutor: Principal | None = None, **fields: Any
    ) -> Body:
        body: Body = {"tutor_id": (tutor or self.tutor).user_id, "starts_at": starts_at or self.now + 3 * DAY}
        if "package_id" not in fields:
            body["minutes"] = MINUTES
        return body | fields

    async def accept(self, booking: Body, tutor: Principal | None = None) -> Body:
        return await self.do("booking.accept", tutor or self.tutor, booking_id=booking["id"])

    async def agreed(self, starts_at: datetime | None = None, **fields: Any) -> Body:
        """Ask for a lesson, and have the tutor agree."""
        return await self.accept(await self.ask(starts_at, **fields), fields.get("tutor"))

    async def cancel(self, booking: Body, person: Principal | None = None, **fields: Any) -> Body:
        who = person or self.student
        if who.is_admin:
            fields.setdefault("reason", WHY)
        return await self.do("booking.cancel", who, booking_id=booking["id"], **fields)

    async def get(self, booking: Body, person: Principal | None = None) -> Body:
        return await self.do("booking.get", person or self.admin, booking_id=booking["id"])

    async def package(self, student: Principal | None = None, **fields: Any) -> Body:
        """Have a student buy a package of the tutor's."""
        who = student or self.student
        price = {"amount": 10_000, "currency": "USD"}
        offer: Body = {"title": "Five lessons", "minutes": 50, "sessions": 5, "price": price}
        option = await self.do("package_option.create", self.tutor, **offer | fields)
        quote = await self.do("package.quote", who, option_id=option["id"])
        return await self.do("package.buy", who, option_id=option["id"], terms=quote["terms"])

    async def save_card(self, card: str = "4242", *, person: Principal | None = None) -> str:
        owner, parts = OwnerId((person or self.student).user_id), self.stage.parts
        assert parts.payments is not None, "a stage has test payments"
        customer = await top_ups.customer_of(
            parts.sessions, parts.payments, owner, key=uuid4().hex, now=self.now
        )
        return await self.stage.stripe.save_card(customer, card)

    async def join(self, booking: Body, person: Principal) -> Body:
        return await self.do("room.join", person, room_id=booking["id"], connection=Connection())

    async def held(self, booking: Body, *people: Principal) -> Body:
        """Let the time of a lesson pass with these people in its room, and return what became of it."""
        starts_at, ends_at = (datetime.fromisoformat(booking[name]) for name in ("starts_at", "ends_at"))
        await self.go_to(starts_at)
        for person in people:
            await self.join(booking, person)
        await self.run()
        await self.go_to(ends_at - MINUTE)
        await self.go_to(ends_at + 10 * MINUTE)
        return await self.get(booking)

    # What is there ----------------------------------------------------------------------------------------------

    def at_stripe(self, kind: str) -> list[Body]:
        """Return the objects of a kind that the test payments have, in their order."""
        return [one for one in self.stage.stripe.objects.values() if one["object"] == kind]

    async def told(self, person: Principal) -> list[str]:
        """Return what somebody was told of bookings, the first first."""
        items = (await self.do("notification.list", person))["items"]
        return [
            one["type"] for one in reversed(items) if one["type"].startswith(("booking_", "tutor_strikes"))
        ]

    async def checked(self) -> None:
        """See that every invariant of the product holds, once all is told, and that no work was given up."""
        await self.run()
        async with self.stage.parts.sessions() as session:
            found = await checks.run(session, every_room=True)
        assert [str(one) for one in found] == []
        async with self.stage.parts.sessions() as session:
            failed = [
                *await session.scalars(select(JobRow.error).where(JobRow.error.is_not(None))),
                *await session.scalars(select(RelayFailure.error)),
            ]
        assert failed == []


def moment(said: str) -> datetime:
    return datetime.fromisoformat(said)

"""Random lives of money against the real database, compared with a model that is a few dictionaries."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from billing import checks, holds, settlement, wallet
from billing.errors import (
    AlreadyHeldError,
    BillingError,
    HoldNotHeldError,
    InsufficientFundsError,
    LessonOverError,
)
from billing.holds import NewHold
from billing.models import Cause, HoldId, OwnerId, SourceKind
from billing.money import Money, split
from server import db
from tests.billing.town import TABLE, Town
from tests.billing.world import NOW, PLANNED_S, Sessions, end, facts, new_hold, owner, usd

EXAMPLES = 8
STEPS = 50

T = TypeVar("T")


class Placed:
    """What the model knows of a hold."""

    def __init__(self, hold: NewHold, student: OwnerId) -> None:
        self.hold = hold
        self.student = student
        self.lesson_id = hold.lesson_id
        self.status = "held"


class Life(RuleBasedStateMachine):
    """Students buy, tutors teach, admins adjust; everything may be asked for twice."""

    lessons = Bundle("lessons")

    def __init__(self, runner: asyncio.Runner, sessions: Sessions) -> None:
        super().__init__()
        self.runner = runner
        self.sessions = sessions
        self.students = [owner() for _ in range(3)]
        self.tutors = [owner() for _ in range(2)]
        self.balance = dict.fromkeys(self.students, 0)
        self.earned = dict.fromkeys(self.tutors, 0)
        self.holds: dict[HoldId, Placed] = {}
        self.over: set[UUID] = set()
        self.purchases: list[tuple[OwnerId, list[NewHold], str]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def held(self) -> list[HoldId]:
        return [hold_id for hold_id, placed in self.holds.items() if placed.status == "held"]

    @initialize(target=lessons)
    def announce(self) -> Any:
        return multiple(uuid4(), uuid4())

    @rule(target=lessons)
    def announce_another(self) -> UUID:
        return uuid4()

    @rule(who=st.integers(0, 2), amount=st.integers(-5_000, 20_000).filter(bool))
    def adjust(self, who: int, amount: int) -> None:
        student = self.students[who]

        async def work() -> Money | None:
            try:
                async with self.sessions.begin() as session:
                    await wallet.adjust(
                        session,
                        student,
                        usd(amount),
                        actor="admin:1",
                        reason="By the machine.",
                        key=str(uuid4()),
                        now=NOW,
                    )
            except InsufficientFundsError as error:
                return error.shortfall
            return None

        shortfall = self.run(work())
        left = self.balance[student] + amount
        assert shortfall == (None if left >= 0 else usd(-left))
        self.balance[student] += amount if left >= 0 else 0

    @rule(
        who=st.integers(0, 2),
        tutor=st.integers(0, 1),
        bps=st.sampled_from((0, 3_000, 7_000, 3_333, 10_000)),
        wanted=st.lists(st.tuples(st.integers(1, 6_000), st.none() | lessons), min_size=1, max_size=3),
    )
    def buy(self, who: int, tutor: int, bps: int, wanted: list[tuple[int, UUID | None]]) -> None:
        student, purchase, key = self.students[who], uuid4(), str(uuid4())
        asked = [
            new_hold(
                amount,
                lesson_id=lesson,
                tutor_id=self.tutors[tutor],
                tutor_bps=bps,
                source_kind=SourceKind.COURSE_SLICE,
                source_id=purchase,
                slice_no=number,
            )
            for number, (amount, lesson) in enumerate(wanted, start=1)
        ]
        named = [hold.lesson_id for hold in asked if hold.lesson_id is not None]
        open_lessons = {
            placed.lesson_id
            for placed in self.holds.values()
            if placed.student == student and placed.status == "held"
        }
        price = sum(hold.money.amount for hold in asked)
        expected: set[type[BillingError]] = set()
        if price > self.balance[student]:
            expected.add(InsufficientFundsError)
        else:
            if len(set(named)) < len(named) or open_lessons & set(named):
                expected.add(AlreadyHeldError)
            if self.over & set(named):
                expected.add(LessonOverError)

        answer = self.run(self.try_to_buy(student, asked, key))

        if expected:
            assert type(answer) in expected
            return
        assert answer == [hold.id for hold in asked]
        self.balance[student] -= price
        self.holds |= {hold.id: Placed(hold, student) for hold in asked}
        self.purchases.append((student, asked, key))

    @rule(index=st.integers(0, 50))
    def buy_again_by_the_same_key(self, index: int) -> None:
        if self.purchases:
            student, asked, key = self.purchases[index % len(self.purchases)]

            assert self.run(self.try_to_buy(student, asked, key)) == [hold.id for hold in asked]

    async def try_to_buy(
        self, student: OwnerId, asked: list[NewHold], key: str
    ) -> list[HoldId] | BillingError:
        try:
            async with self.sessions.begin() as session:
                return await holds.place(session, holds=asked, student_id=student, key=key, now=NOW)
        except BillingError as error:
            return error

    @rule(index=st.integers(0, 50), only_held=st.booleans())
    def refund(self, index: int, only_held: bool) -> None:
        if not self.purchases:
            return
        student, asked, _ = self.purchases[index % len(self.purchases)]
        still = [hold for hold in asked if self.holds[hold.id].status == "held"]

        async def work() -> list[HoldId] | None:
            try:
                async with self.sessions.begin() as session:
                    return await holds.refund(
                        session,
                        [hold.id for hold in asked],
                        cause=Cause.CANCELLED,
                        actor=f"user:{student}",
                        reason="machine",
                        key=str(uuid4()),
                        now=NOW,
                        only_held=only_held,
                    )
            except HoldNotHeldError:
                return None

        answer = self.run(work())
        if not only_held and len(still) < len(asked):
            assert answer is None
            return
        assert answer == sorted(hold.id for hold in still)
        for hold in still:
            self.holds[hold.id].status = "refunded"
            self.balance[student] += hold.money.amount

    @rule(
        lesson=consumes(lessons),
        attended=st.tuples(*[st.integers(0, PLANNED_S)] * 3),
        tutor_s=st.sampled_from((0, 1_079, 1_080)),
    )
    def teach(self, lesson: UUID, attended: tuple[int, int, int], tutor_s: int) -> None:
        seconds = dict(zip(self.students, attended, strict=True))

        settled = self.run(end(self.sessions, facts(lesson, seconds, tutor_attended_s=tutor_s)))

        assert settled is not None
        self.over.add(lesson)
        for hold_id in self.held():
            placed = self.holds[hold_id]
            if placed.lesson_id != lesson:
                continue
            money, bps = placed.hold.money.amount, placed.hold.tutor_bps
            if tutor_s >= 1_080 and seconds[placed.student] >= 1_080:
                placed.status = "released"
                self.earned[placed.hold.tutor_id] += split(money, bps)[0]
            else:
                placed.status = "refunded"
                self.balance[placed.student] += money

    @rule()
    def sweep(self) -> None:
        assert self.run(settlement.sweep(self.sessions, NOW + timedelta(days=1))) == 0

    @invariant()
    def everybody_has_what_the_model_says(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        async with self.sessions() as session:
            for student, expected in self.balance.items():
                found = await wallet.balances(session, student)
                held = sum(
                    placed.hold.money.amount
                    for placed in self.holds.values()
                    if placed.student == student and placed.status == "held"
                )
                assert (found.balance, found.held) == (usd(expected), usd(held))
            for tutor, expected in self.earned.items():
                assert (await wallet.balances(session, tutor)).earnings_available == usd(expected)

    def teardown(self) -> None:
        async def verify() -> None:
            async with self.sessions() as session:
                assert await checks.run(session) == []

        self.run(verify())


def test_random_lives_agree_with_the_model(database_url: str) -> None:
    engine = db.create_engine(database_url, pool_size=2)
    with asyncio.Runner() as runner:
        run_state_machine_as_test(
            lambda: Life(runner, db.create_sessions(engine)),  # type: ignore[arg-type]  # any factory will do
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        runner.run(engine.dispose())


# Far more than Hypothesis can drive: batches of operations in one transaction.


@pytest.mark.timeout(7_200)
async def test_a_town_agrees_with_its_model(
    sessions: Sessions,
    record_property: Callable[[str, object], None],
    capfd: pytest.CaptureFixture[str],
    operations: int | None,
    *,
    full: bool,
) -> None:
    """Alone on its database: a transaction of many operations locks the platform's own accounts in any order."""
    wanted = operations or (200_000 if full else 1_200)
    began, cpu_began = time.perf_counter(), time.process_time()
    town = Town(sessions, seed=1)
    await town.settle_in()
    done = told = 0
    while done < wanted:
        done += await town.batch()
        if done - told >= 10_000:
            told = done
            async with sessions() as session:
                assert await checks.ledger_sums(session) == {"USD": 0}
            with capfd.disabled():
                print(f"{done:,} of {wanted:,} in {time.perf_counter() - began:.0f} s", flush=True)
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began

    assert set(town.done) == set(TABLE), "everything was done"
    async with sessions() as session:
        await session.execute(text("set local statement_timeout = 0"))
        assert await checks.run(session) == []
    record_property(
        "figures",
        f"{done:,} operations in {took_s:.0f} s, {done / took_s:,.0f}/s, {cpu_s / done * 1e6:,.0f} us of Python each",
    )

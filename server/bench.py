"""`fourtalk bench money`: what purchases and settlements cost, beside the same purchase written the usual ORM way.

The functions of `billing` are called directly, on a PostgreSQL of its own in a temporary folder; rounds are interleaved,
so that whatever else the machine does meets all of them. A figure "per core" is work by CPU time: how many were done in
a second of CPU of this process and of every process of that PostgreSQL together.
"""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Identity, UniqueConstraint, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from billing import checks, holds, settlement, wallet
from billing.facts import Interval, LessonFacts, Presence
from billing.holds import NewHold
from billing.models import HoldId, OwnerId, SourceKind
from billing.money import Money
from server import db, embedded, migrate

Sessions = async_sessionmaker[AsyncSession]
T = TypeVar("T")

# Enough that PostgreSQL is never idle on one core, and few enough that nobody queues for a lock.
AT_ONCE = 8
SMALL, LARGE = 20, 200
PRICE = 1_000
PLANNED_S = 5_400
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Cost(msgspec.Struct, frozen=True):
    """What some work took."""

    count: int
    cpu_s: float
    wall_s: float

    @property
    def per_core(self) -> float:
        """Return how many were done in a second of CPU."""
        return self.count / self.cpu_s


class Figure(msgspec.Struct, frozen=True):
    """One kind of work, over all rounds."""

    name: str
    per_core: float
    """Median."""
    per_core_range: tuple[float, float]
    per_s: float
    """By the wall clock, median."""
    cpu_us: float


class Report(msgspec.Struct, frozen=True):
    """What the bench found."""

    figures: tuple[Figure, ...]
    purchases_to_orm: float
    """How many purchases of ours one by the ORM costs: the median of the rounds."""
    violations: tuple[str, ...]


def money(*, rounds: int, purchases: int, as_json: bool) -> int:
    """Run the bench, print what it found, and return 0 if the books hold."""
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="fourtalk-bench-") as folder,
        embedded.Embedded(Path(folder)) as servers,
    ):
        servers.acquire()
        servers.start_postgres()
        migrate.upgrade(servers.database_url)
        report = uvloop.run(_money(servers, console, rounds=rounds, purchases=purchases))
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        _show(Console(), report)
    return 1 if report.violations else 0


async def _money(servers: embedded.Embedded, console: Console, *, rounds: int, purchases: int) -> Report:
    meter = Meter(servers.data_dir / "postgres")
    costs: dict[str, list[Cost]] = {}
    async with _opened(servers.database_url) as sessions:
        ours, theirs = Ours(sessions), OrmShop(sessions)
        await theirs.prepare()
        # The first round fills caches and is not counted.
        for number in range(rounds + 1):
            async for name, cost in _round(ours, theirs, meter, purchases):
                costs.setdefault(name, []).append(cost)
            console.print(f"[dim]round {number} of {rounds}[/]")
        async with sessions() as session:
            broken = [violation.name for violation in await checks.run(session)]
    counted = {name: found[1:] for name, found in costs.items()}
    pairs = zip(counted[BUY], counted[BUY_ORM], strict=True)
    return Report(
        figures=tuple(_figure(name, found) for name, found in counted.items()),
        purchases_to_orm=statistics.median(mine.per_core / orm.per_core for mine, orm in pairs),
        violations=tuple(broken),
    )


# What a machine, its load and its hypervisor make of three ways to the database and back: the unit of the others.
NOTHING = "transactions that do nothing"
BUY, BUY_ORM = "purchases", "purchases, the ORM way"
SETTLE_SMALL, SETTLE_LARGE = f"holds settled, lessons of {SMALL}", f"holds settled, lessons of {LARGE}"


async def _round(
    ours: "Ours", theirs: "OrmShop", meter: "Meter", purchases: int
) -> AsyncIterator[tuple[str, Cost]]:
    """Buy both ways, then settle what was bought here."""
    count = -(-purchases // LARGE) * LARGE
    students = await ours.students(LARGE, PRICE * count)
    small = [ours.lesson() for _ in range(count // SMALL)]
    large = [ours.lesson() for _ in range(count // LARGE)]
    # Lessons fill side by side, as they do: who buys at the same moment seldom buys the same.
    wanted = [(student, lesson) for student in students[:SMALL] for lesson in small]
    others = await theirs.students(SMALL, PRICE * count)
    lessons = await theirs.lessons(count // SMALL)
    theirs_wanted = [(student, lesson) for student in others for lesson in lessons]
    yield NOTHING, await meter.measure(wanted, ours.nothing)
    yield BUY_ORM, await meter.measure(theirs_wanted, lambda one: theirs.buy(*one))
    yield BUY, await meter.measure(wanted, lambda one: ours.buy(*one))
    for lesson in large:
        await meter.measure([(student, lesson) for student in students], lambda one: ours.buy(*one))
    for name, due, size in ((SETTLE_SMALL, small, SMALL), (SETTLE_LARGE, large, LARGE)):
        for lesson in due:
            await ours.end(lesson, students[:size])
        cost = await meter.measure(due, ours.settle)
        yield name, Cost(cost.count * size, cost.cpu_s, cost.wall_s)


# Measuring ----------------------------------------------------------------------------------------------------------


class Meter:
    """The CPU of this process and of every process of one PostgreSQL, by their clocks, to the nanosecond."""

    def __init__(self, cluster: Path) -> None:
        self._postmaster = int((cluster / "postmaster.pid").read_text().split()[0])

    async def measure(self, wanted: Sequence[T], work: Callable[[T], Awaitable[object]]) -> Cost:
        """Do the work for each that is wanted, some at once, and return what it cost."""
        waiting = iter(wanted)

        async def take() -> None:
            for one in waiting:
                await work(one)

        before, began = self._read(), time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(take())
        wall_s, after = time.perf_counter() - began, self._read()
        # Whoever began meanwhile began with nothing; whoever ended is not counted, it was no connection of ours.
        cpu_s = sum(used - before.get(pid, 0.0) for pid, used in after.items())
        return Cost(len(wanted), cpu_s, wall_s)

    def _read(self) -> dict[int, float]:
        clocks = {0: time.process_time()}
        for pid in (self._postmaster, *_children(self._postmaster)):
            with contextlib.suppress(OSError):
                # What clock_getcpuclockid(3) makes of a process id.
                clocks[pid] = time.clock_gettime((~pid << 3) | 2)
        return clocks


def _children(parent: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name stands in parentheses and may hold anything; the parent is the second field behind it.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(stat.parent.name)


def _figure(name: str, costs: Sequence[Cost]) -> Figure:
    rates = [cost.per_core for cost in costs]
    return Figure(
        name=name,
        per_core=statistics.median(rates),
        per_core_range=(min(rates), max(rates)),
        per_s=statistics.median(cost.count / cost.wall_s for cost in costs),
        cpu_us=statistics.median(cost.cpu_s / cost.count * 1e6 for cost in costs),
    )


def _show(console: Console, report: Report) -> None:
    table = Table("", "a second per core", "(least - most)", "a second", "CPU us each")
    for figure in report.figures:
        least, most = figure.per_core_range
        table.add_row(
            figure.name,
            f"{figure.per_core:,.0f}",
            f"({least:,.0f} - {most:,.0f})",
            f"{figure.per_s:,.0f}",
            f"{figure.cpu_us:,.0f}",
        )
    console.print(table)
    console.print(f"one purchase the ORM way costs {report.purchases_to_orm:.2f} of ours")
    console.print("the books hold" if not report.violations else f"broken: {', '.join(report.violations)}")


@contextlib.asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Sessions]:
    engine = db.create_engine(url, pool_size=AT_ONCE)
    yield db.create_sessions(engine)
    await engine.dispose()


# Ours ---------------------------------------------------------------------------------------------------------------


class Ours:
    """Purchases and settlements as the product makes them."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._tutor = OwnerId(uuid4())

    async def students(self, count: int, cents: int) -> list[OwnerId]:
        """Return new students who have so much."""
        made = [OwnerId(uuid4()) for _ in range(count)]
        async with self._sessions.begin() as session:
            for student in made:
                await wallet.adjust(
                    session,
                    student,
                    Money(cents),
                    actor="system:bench",
                    reason="Money to be spent.",
                    key=str(student),
                    now=NOW,
                )
        return made

    def lesson(self) -> UUID:
        """Name a new lesson."""
        return uuid4()

    async def buy(self, student: OwnerId, lesson: UUID) -> None:
        """Buy one lesson."""
        hold = NewHold(
            id=HoldId(uuid4()),
            lesson_id=lesson,
            tutor_id=self._tutor,
            money=Money(PRICE),
            tutor_bps=3_000,
            attribution="platform",
            policy_version=1,
            source_kind=SourceKind.COURSE_SESSION,
            source_id=uuid4(),
        )
        async with self._sessions.begin() as session:
            await holds.place(session, holds=[hold], student_id=student, key=str(hold.id), now=NOW)

    async def nothing(self, _: object) -> None:
        """Begin, ask for nothing, and commit."""
        async with self._sessions.begin() as session:
            await session.execute(text("select 1"))

    async def end(self, lesson: UUID, students: Sequence[OwnerId]) -> None:
        """Freeze a lesson in which everybody was there for most of the time."""
        span = Interval(NOW - timedelta(seconds=4_800), NOW, ("socket",))
        facts = LessonFacts(
            lesson_id=lesson,
            tutor_id=self._tutor,
            planned_s=PLANNED_S,
            total_s=PLANNED_S,
            tutor_attended_s=PLANNED_S,
            tutor_absent=False,
            ended_at=NOW,
            students={student: Presence(4_800, (span,), "full") for student in students},
        )
        async with self._sessions.begin() as session:
            await settlement.due(session, facts, now=NOW)

    async def settle(self, lesson: UUID) -> None:
        """Settle all its holds."""
        async with self._sessions.begin() as session:
            await settlement.settle(session, lesson, now=NOW)


# The same purchase, written the usual ORM way -----------------------------------------------------------------------


class OrmBase(DeclarativeBase):
    """Tables of the baseline, in a schema of their own."""

    type_annotation_map = {datetime: DateTime(timezone=True), dict[str, Any]: JSONB}  # noqa: RUF012 -- read from the class


SCHEMA = "orm_baseline"


class OrmAccount(OrmBase):
    """A wallet or an escrow, with its balance."""

    __tablename__ = "account"
    __table_args__ = (
        UniqueConstraint("kind", "owner_id"),
        CheckConstraint("balance >= 0"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    owner_id: Mapped[UUID]
    currency: Mapped[str] = mapped_column(default="USD")
    balance: Mapped[int] = mapped_column(default=0)


class OrmLesson(OrmBase):
    """What places are sold for, until it is over."""

    __tablename__ = "lesson"
    __table_args__ = ({"schema": SCHEMA},)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    ended_at: Mapped[datetime | None]


class OrmJournal(OrmBase):
    """A movement, with its entries; the key makes it once."""

    __tablename__ = "journal"
    __table_args__ = (UniqueConstraint("key"), {"schema": SCHEMA})

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    key: Mapped[str]
    actor: Mapped[str]
    at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    entries: Mapped[list["OrmEntry"]] = relationship(back_populates="journal")


class OrmEntry(OrmBase):
    """One side of a movement."""

    __tablename__ = "entry"
    __table_args__ = ({"schema": SCHEMA},)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    journal_id: Mapped[int] = mapped_column(ForeignKey(OrmJournal.id), index=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(OrmAccount.id), index=True)
    amount: Mapped[int]
    journal: Mapped[OrmJournal] = relationship(back_populates="entries")
    account: Mapped[OrmAccount] = relationship()


class OrmHold(OrmBase):
    """Money set aside for one lesson."""

    __tablename__ = "hold"
    __table_args__ = (UniqueConstraint("student_id", "lesson_id"), {"schema": SCHEMA})

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    student_id: Mapped[UUID] = mapped_column(index=True)
    tutor_id: Mapped[UUID] = mapped_column(index=True)
    lesson_id: Mapped[UUID] = mapped_column(index=True)
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(default="USD")
    tutor_bps: Mapped[int]
    attribution: Mapped[str]
    status: Mapped[str] = mapped_column(default="held")
    placed_at: Mapped[datetime]
    journal_id: Mapped[int] = mapped_column(ForeignKey(OrmJournal.id))
    journal: Mapped[OrmJournal] = relationship()


class OrmEvent(OrmBase):
    """An event that waits for publication."""

    __tablename__ = "event"
    __table_args__ = ({"schema": SCHEMA},)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class OrmShop:
    """The baseline: objects are read, changed and added, and the session writes what changed.

    It keeps what ours keeps of a purchase: journal and entries, balances above zero, a key that works once, the hold,
    a lesson that is not over, and the two events. It guards less: entries need not add up, any code may change a balance.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._tutor = uuid4()

    async def prepare(self) -> None:
        """Make its tables."""
        async with self._sessions.begin() as session:
            await session.execute(text(f"create schema {SCHEMA}"))
            connection = await session.connection()
            await connection.run_sync(OrmBase.metadata.create_all)

    async def students(self, count: int, cents: int) -> list[UUID]:
        """Return new students who have so much."""
        made = [uuid4() for _ in range(count)]
        async with self._sessions.begin() as session:
            session.add_all(OrmAccount(kind="wallet", owner_id=student, balance=cents) for student in made)
        return made

    async def lessons(self, count: int) -> list[UUID]:
        """Return new lessons."""
        made = [uuid4() for _ in range(count)]
        async with self._sessions.begin() as session:
            session.add_all(OrmLesson(id=lesson) for lesson in made)
        return made

    async def buy(self, student: UUID, lesson: UUID) -> None:
        """Buy one lesson."""
        key = str(uuid4())
        async with self._sessions.begin() as session:
            if await session.scalar(select(OrmJournal).where(OrmJournal.key == key)) is not None:
                return
            # Nobody ends it meanwhile.
            sold = await session.get_one(OrmLesson, lesson, with_for_update={"read": True})
            if sold.ended_at is not None:
                raise ValueError("the lesson is over")
            wallet_account = await self._account(session, "wallet", student)
            escrow_account = await self._account(session, "escrow", lesson)
            if wallet_account.balance < PRICE:
                raise ValueError("too little money")
            wallet_account.balance -= PRICE
            escrow_account.balance += PRICE
            journal = OrmJournal(kind="purchase", key=key, actor=f"user:{student}", at=NOW)
            journal.entries = [
                OrmEntry(account=wallet_account, amount=-PRICE),
                OrmEntry(account=escrow_account, amount=PRICE),
            ]
            hold = OrmHold(
                id=uuid4(),
                student_id=student,
                tutor_id=self._tutor,
                lesson_id=lesson,
                amount=PRICE,
                tutor_bps=3_000,
                attribution="platform",
                placed_at=NOW,
                journal=journal,
            )
            placed = {
                "hold_id": str(hold.id),
                "student_id": str(student),
                "tutor_id": str(self._tutor),
                "lesson_id": str(lesson),
                "amount": str(PRICE),
            }
            changed = {"owner_id": str(student), "currency": "USD"}
            session.add_all(
                [
                    journal,
                    hold,
                    OrmEvent(type="hold.placed", data=placed, at=NOW),
                    OrmEvent(type="wallet.changed", data=changed, at=NOW),
                ]
            )

    async def _account(self, session: AsyncSession, kind: str, owner_id: UUID) -> OrmAccount:
        """Lock an account; the first who needs it opens it."""
        query = (
            select(OrmAccount)
            .where(OrmAccount.kind == kind, OrmAccount.owner_id == owner_id)
            .with_for_update(key_share=True)
        )
        found = await session.scalar(query)
        if found is None:
            try:
                async with session.begin_nested():
                    found = OrmAccount(kind=kind, owner_id=owner_id, balance=0)
                    session.add(found)
            except IntegrityError:
                # Somebody opened it meanwhile.
                found = (await session.scalars(query)).one()
        return found

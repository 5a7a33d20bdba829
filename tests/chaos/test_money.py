"""Processes that move money are killed at every named point, and so is PostgreSQL: nothing is lost, nothing is doubled.

The points are those of the crash matrix: a job that dies between claim and effect, a transaction before and after its
commit, a call that Stripe has answered and nobody has written down. A life that was killed is lived again from the start
by another process, with the same keys, as people, webhooks and jobs do; then everybody must have exactly what they would
have had. Stripe outlives them all.
"""

import asyncio
import itertools
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import checks, reconciliation, stripe_entries
from billing.crashpoints import POINTS, Point
from billing.ledger import AccountKey, Order
from billing.models import PLATFORM, AccountKind, JournalKind
from billing.stripe_objects import BalanceTransaction
from server import db
from tests.chaos.backends import Backends
from tests.chaos.money import lives
from tests.chaos.money.life import Plan
from tests.chaos.money.lives import DONE, INTERRUPTED
from tests.chaos.money.stripe import START, Bank, Hand, listening

pytestmark = [pytest.mark.journey, pytest.mark.timeout(3_600)]

Tell = Callable[[str], None]
Sessions = async_sessionmaker[AsyncSession]

KILLED = -signal.SIGKILL
# Who lost the database comes back once more, and finds it.
TRIES = 10
RICH = 10**12
AGES = timedelta(days=36_500)


class Shape(msgspec.Struct, frozen=True):
    """How much is done."""

    kills: int
    """At each point, at least."""
    crashes: int
    """Of PostgreSQL."""
    pupils: int
    lessons: int
    """Of each course: every pupil has a hold in every lesson."""
    beside: int
    """Courses beside each turn of kills, so that the dying are not alone."""
    anywhere: bool
    """Die in any life that comes to a point and at any time of coming there, not in the first and at once."""


# Courses at once; each is a process with two connections.
CROWD = 2

SHORT = Shape(kills=1, crashes=1, pupils=2, lessons=3, beside=0, anywhere=False)
# More than a thousand kills, and beside them more than a hundred thousand holds.
FULL = Shape(kills=21, crashes=20, pupils=50, lessons=20, beside=5, anywhere=True)


class Nursery:
    """Where lives begin; says how each ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._count = 0
        self._waiting: dict[int, asyncio.Future[int]] = {}

    async def live(self, plan: Plan) -> int:
        """Live a life, and return how its process ended."""
        assert self._process.stdin is not None
        self._count += 1
        number = self._count
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(f"{number} ".encode() + msgspec.json.encode(plan) + b"\n")
        return await self._waiting[number]

    async def hear(self) -> None:
        """Take the answers, for ever."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            number, code = map(int, line.split())
            self._waiting.pop(number).set_result(code)


@asynccontextmanager
async def nursery(root: Path) -> AsyncIterator[Nursery]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.chaos.money.nursery"),
        cwd=root,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    made = Nursery(process)
    async with asyncio.TaskGroup() as tasks:
        hearing = tasks.create_task(made.hear())
        try:
            yield made
        finally:
            hearing.cancel()
            process.kill()
            await process.wait()


class Chaos:
    """Lives, deaths, and what they leave."""

    def __init__(
        self, nursery: Nursery, backends: Backends, socket: Path, shape: Shape, draw: random.Random
    ) -> None:
        self._nursery = nursery
        self._backends = backends
        self._socket = socket
        self._shape = shape
        self._draw = draw
        self._numbers = itertools.count()
        self.lived: list[Plan] = []
        self.kills: Counter[Point] = Counter()
        self._up = asyncio.Event()
        self._up.set()
        """PostgreSQL is there."""
        self.crashes = 0

    def plan(self, kind: str, **more: Any) -> Plan:
        return Plan(
            database_url=self._backends.database_url,
            stripe=str(self._socket),
            kind=kind,
            number=next(self._numbers),
            pupils=self._shape.pupils,
            lessons=self._shape.lessons,
            **more,
        )

    async def live(self, plan: Plan) -> None:
        """Live a life, again and again until it is over."""
        self.lived.append(plan)
        code = await self._try(plan)
        assert code == DONE, f"{plan} ended with {code}"

    async def _try(self, plan: Plan) -> int:
        """Live it, again where the database was away or too busy, and return how it ended."""
        for _ in range(TRIES):
            await self._up.wait()
            code = await self._nursery.live(plan)
            if code != INTERRUPTED:
                return code
        raise AssertionError(f"{plan} does not come to its end")

    async def count(self, folder: Path) -> dict[str, Mapping[Point, int]]:
        """Live one life of each kind in peace, and return how often it comes to each point."""
        found: dict[str, Mapping[Point, int]] = {}
        for kind in lives.LIVES:
            file = folder / f"{kind}.json"
            await self.live(self.plan(kind, counts=str(file)))
            found[kind] = msgspec.json.decode(file.read_bytes(), type=dict[Point, int])
        return found

    async def kill_everywhere(self, counts: Mapping[str, Mapping[Point, int]]) -> None:
        """Kill at every point once: each kind of life has a share of the points, and dies at one after the other."""
        async with asyncio.TaskGroup() as tasks:
            begun = asyncio.Semaphore(CROWD)
            for _ in range(self._shape.beside):
                tasks.create_task(self._live_beside(begun))
            await self._kill_everywhere(counts)

    async def _live_beside(self, begun: asyncio.Semaphore) -> None:
        async with begun:
            await self.live(self.plan("course"))

    async def _kill_everywhere(self, counts: Mapping[str, Mapping[Point, int]]) -> None:
        chosen: dict[Point, str] = {}
        for point in POINTS:
            kinds = [kind for kind in counts if point in counts[kind]]
            # The first ones are short.
            chosen[point] = self._draw.choice(kinds) if self._shape.anywhere else kinds[0]
        for kind, found in counts.items():
            points = [point for point in found if chosen[point] == kind]
            if not points:
                continue
            most = {point: found[point] if self._shape.anywhere else 1 for point in points}
            missed = await self._kill_along(
                kind, {point: self._draw.randint(1, most[point]) for point in points}
            )
            # Who clicks twice comes to a point once more or less, and what was done is not done again.
            while missed:
                left = await self._kill_along(kind, dict.fromkeys(missed, 1))
                assert len(left) < len(missed), f"nobody comes to {left}"
                missed = left

    async def _kill_along(self, kind: str, places: Mapping[Point, int]) -> list[Point]:
        """Have one life die at all these places and come to its end; return where it did not come to."""
        plan = self.plan(kind)
        missed: list[Point] = []
        for point, nth in places.items():
            code = await self._try(msgspec.structs.replace(plan, point=point, nth=nth))
            assert code in (KILLED, DONE), f"{plan} ended with {code}"
            if code == KILLED:
                self.kills[point] += 1
            else:
                missed.append(point)
        await self.live(plan)
        return missed

    async def crash_database(self) -> None:
        """End PostgreSQL as a crash would, while people live, and start it again."""

        async def crash() -> None:
            await asyncio.sleep(self._draw.uniform(0.0, 0.15))
            self._up.clear()
            await self._backends.stop_postgres(signal.SIGQUIT)
            await self._backends.start_postgres()
            self._up.set()

        kinds = [self._draw.choice(sorted(lives.LIVES)), "shopping", "course"]
        await asyncio.gather(crash(), *(self.live(self.plan(kind)) for kind in kinds))
        self.crashes += 1


async def test_no_crash_loses_or_doubles_a_cent(
    tmp_path: Path,
    root: Path,
    backends: Backends,
    record_property: Callable[[str, object], None],
    capfd: pytest.CaptureFixture[str],
    *,
    full: bool,
) -> None:
    shape = FULL if full else SHORT
    draw = random.Random(1)
    began = time.monotonic()

    def tell(words: str) -> None:
        if full:
            with capfd.disabled():
                print(f"{time.monotonic() - began:6.1f} s  {words}", flush=True)

    bank, socket = Bank(), tmp_path / "stripe.sock"
    engine = db.create_engine(backends.database_url, pool_size=2)
    sessions = db.create_sessions(engine)
    await make_rich(sessions, bank)
    async with listening(bank, socket), nursery(root) as process:
        chaos = Chaos(process, backends, socket, shape, draw)
        counts = await chaos.count(tmp_path)
        assert {point for found in counts.values() for point in found} == set(POINTS), (
            "every point is on some way"
        )
        for turn in range(shape.kills):
            await chaos.kill_everywhere(counts)
            while chaos.crashes < shape.crashes * (turn + 1) // shape.kills:
                await chaos.crash_database()
            tell(f"{chaos.kills.total()} kills, {chaos.crashes} crashes, {len(chaos.lived)} lives")
        await engine.dispose()
        holds = await verify(sessions, chaos.lived)
        sent, returned = bank.transfers()
        report = await reconcile(sessions, socket)

    assert {point for point, count in chaos.kills.items() if count >= shape.kills} == set(POINTS)
    assert bank.authorized() == 0, "what is not captured is let go"
    earners = sum(plan.kind == "earning" for plan in chaos.lived)
    assert (sent, returned) == (earners * (lives.SENT + lives.RETURNED), earners * lives.RETURNED)
    assert (report.findings, report.repaired, report.timing) == ((), 0, 0), "Stripe's books are ours"
    record_property(
        "figures",
        f"{chaos.kills.total():,} kills at {len(POINTS)} points, {chaos.crashes} crashes of PostgreSQL,"
        f" {len(chaos.lived):,} lives, {holds:,} holds: each settled once, sum 0, Stripe agrees",
    )
    await engine.dispose()


async def make_rich(sessions: Sessions, bank: Bank) -> None:
    """Have money at Stripe, in both books, so that nobody waits for a payment to become available."""
    made = bank.fake._machine.move("topup", RICH, source="tu_1", category="topup", currency="usd", after_s=0)
    order = Order(
        kind=JournalKind.BANK_TRANSFER,
        scope="chaos",
        key="rich",
        request=RICH,
        actor="system:chaos",
        reason=None,
        ref_type="test",
        ref_id=uuid4(),
        at=START,
    )
    expense = AccountKey(AccountKind.PLATFORM_EXPENSE, PLATFORM, "USD")
    async with sessions.begin() as session:
        await stripe_entries.post(session, order, msgspec.convert(made, BalanceTransaction), other=expense)


# What waits for nothing any more, and what would be something that happened twice.
STUCK = """
  select 'hold' as what, count(*) from hold where status = 'held'
  union all select 'settlement', abs((select count(*) from hold)
    - (select count(distinct hold_id) from hold_settlement where number = 0))
  union all select 'due', count(*) from settle_due
  union all select 'risk', count(*) from maturing
  union all select 'review', count(*) from hold_review
  union all select 'top-up', count(*) from top_up where status in ('created', 'pending')
  union all select 'webhook', count(*) from stripe_event where handled_at is null
  union all select 'withdrawal', count(*) from withdrawal where status in ('pending', 'processing')
  union all select 'payout', count(*) from payout_attempt where status = 'submitted'
  union all select 'payment', count(*) from payment where state in ('PENDING', 'AUTHORIZED')
  union all select 'card', count(*) from card_authorization where status in ('wanted', 'asked', 'authorized')
  union all select 'card refund', count(*) from card_refund where status = 'asked'
  union all select 'bank', count(*) from card_dispute where ended_at is null
  union all select 'frozen', count(*) from ledger_account where kind = 'frozen' and balance <> 0
  union all select 'job', count(*) from job where dead_at is not null or kind <> 'top_up_due'
"""


async def verify(sessions: Sessions, lived: Sequence[Plan]) -> int:
    """See that everybody has what they must have, and return how many holds there were."""
    expected = merged(lives.outcome(plan) for plan in lived)
    async with sessions() as session:
        await session.execute(text("set local statement_timeout = 0"))
        assert await checks.run(session) == []
        assert await checks.ledger_sums(session) == {"USD": 0}
        stuck: dict[str, int] = dict((await session.execute(text(STUCK))).all())
        assert {what: count for what, count in stuck.items() if count} == {}
        rows = await session.execute(
            text("select kind, owner_id, balance from ledger_account where owner_id = any(:owners)"),
            {"owners": list({owner for _, owner in expected})},
        )
        found = {(row.kind, row.owner_id): row.balance for row in rows}
        wrong = {
            key: (found.get(key, 0), amount)
            for key, amount in expected.items()
            if found.get(key, 0) != amount
        }
        assert wrong == {}
        return int(await session.scalar(text("select count(*) from hold")) or 0)


def merged(parts: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    whole: dict[Any, int] = {}
    for part in parts:
        whole |= part
    return whole


async def reconcile(sessions: Sessions, socket: Path) -> reconciliation.Report:
    hand = Hand(str(socket))
    try:
        now = await hand.passes() + reconciliation.TIMING
        return await reconciliation.run(sessions, hand.api, now=now, window=AGES)
    finally:
        await hand.close()

"""What the tests of rooms share: a room that lives without a database, people, and registries."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import journal, messages as m, ownership
from rooms.messages import ConnectionId, Identity, PublicEvent, RoomKind
from rooms.ownership import Leases
from rooms.registry import Registry
from rooms.room import decide, open_room, replay
from rooms.state import State
from rooms.turn import Decision

T0 = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
# Looks often, and is as patient as in production: a busy machine must not make a node pause.
PATIENT = Leases(scan_s=0.1)
# A node whose death is noticed within seconds.
FAST = Leases(beat_s=0.3, ttl_s=2.0, pause_s=1.5, scan_s=0.1)


def person(n: int) -> Identity:
    """The n-th person; identities are user ids."""
    return Identity(str(UUID(int=n)))


HOST, ANN, BEN, CY, DEE, EVE = (person(n) for n in range(1, 7))


def socket(name: str) -> ConnectionId:
    return ConnectionId(name)


def talk(
    *, cap: int = 4, evidence: m.EvidenceMode = "socket", starts_at: datetime | None = None
) -> m.RoomSpec:
    return m.RoomSpec(uuid4(), RoomKind.TALK, "Talk", cap, HOST, "Host", evidence, starts_at)


def lesson(*, cap: int = 4, evidence: m.EvidenceMode = "socket", minutes: int = 60) -> m.RoomSpec:
    """A lesson of HOST, from T0 + 1 h on."""
    starts_at = T0 + 60 * MINUTE
    return m.RoomSpec(
        uuid4(),
        RoomKind.COURSE_SESSION,
        "Lesson",
        cap,
        HOST,
        "Tutor",
        evidence,
        starts_at,
        starts_at + minutes * MINUTE,
    )


class Room:
    """A room in memory: both clocks are moved by hand, and everything that happened is kept."""

    def __init__(self, spec: m.RoomSpec) -> None:
        self.now = self.wall = T0
        opened = open_room(spec, epoch="e", now=T0, wall=T0)
        self.state: State = opened.state
        self.events: list[m.Event] = [n.event for n in opened.events]
        self.last: Decision = opened
        self.domain: list[m.DomainEvent] = list(opened.domain)
        self.evidence: list[m.Evidence] = []

    def send(self, message: m.Message) -> m.Reply | None:
        """Decide one message and live with it."""
        self.last = decide(self.state, message, now=self.now, wall=self.wall)
        self.state = self.last.state
        self.events += [n.event for n in self.last.events]
        self.domain += self.last.domain
        self.evidence += self.last.evidence
        return self.last.reply

    def wait(self, time: timedelta) -> None:
        """Let time pass on both clocks and wake the room."""
        self.now += time
        self.wall += time
        self.send(m.TimerDue("any"))

    def at(self, moment: datetime) -> None:
        """Go to a moment of business time."""
        self.wait(moment - self.now)

    def join(self, who: Identity, *, queue: bool = False, over: str | None = "") -> m.Reply | None:
        connection = None if over is None else socket(over or f"{who}/1")
        role: m.Role = "tutor" if who == self.state.spec.owner else "student"
        return self.send(m.Join(who, "Name", role, connection, queue))

    def leave(self, who: Identity) -> None:
        self.send(m.Leave(who))

    def lose(self, who: Identity, over: str = "") -> None:
        self.send(m.SocketGone(who, socket(over or f"{who}/1")))

    def seat(self, who: Identity) -> m.SeatStatus | None:
        found = self.state.seats.get(who)
        return found.status if found else None

    def media(
        self, kind: m.EvidenceKind, who: Identity | None = None, sid: str = "", **facts: object
    ) -> None:
        """A webhook that was read from the inbox."""
        generation = facts.pop("generation", self.state.generation)
        assert isinstance(generation, int)
        counted = facts.pop("counted", True)
        assert isinstance(counted, bool)
        evidence = m.Evidence(kind, self.now, who, sid, generation=generation, ref=str(uuid4()))
        self.send(m.MediaChanged(evidence, counted))

    def of(self, kind: type[msgspec.Struct]) -> list[msgspec.Struct]:
        """Everything of one kind that the last message led to."""
        found: Sequence[msgspec.Struct] = (*(n.event for n in self.last.events), *self.last.domain)
        return [item for item in found if isinstance(item, kind)]

    def notes(self, who: Identity, ev: str) -> list[dict[str, Any]]:
        """What one person was sent by the last message."""
        return [
            msgspec.json.decode(item.data)
            for item in self.last.domain
            if isinstance(item, m.Personal) and (item.user_id, item.ev) == (who, ev)
        ]

    def replayed(self) -> State:
        return replay(None, self.events)


class Clock:
    """Both clocks of a process; time passes by itself, and business time can be moved."""

    def __init__(self, start: datetime) -> None:
        self.offset = start - datetime.now(UTC)

    def now(self) -> datetime:
        return self.wall() + self.offset

    def wall(self) -> datetime:
        return datetime.now(UTC)

    def move_to(self, moment: datetime) -> None:
        self.offset = moment - self.wall()


def registry(
    sessions: async_sessionmaker[AsyncSession],
    clock: Clock,
    *,
    published: list[PublicEvent] | None = None,
    **options: object,
) -> Registry:
    """A registry of a node of its own."""
    shown: list[PublicEvent] = published if published is not None else []
    show: Callable[[UUID, Sequence[PublicEvent]], None] = lambda _, events: shown.extend(events)  # noqa: E731
    return Registry(
        sessions,
        now=clock.now,
        wall=clock.wall,
        publish=show,
        leases=options.pop("leases", PATIENT),  # type: ignore[arg-type]
        **options,  # type: ignore[arg-type]
    )


async def outlived(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Let every node be dead for certain, as a process that holds the data dir's lock does before it starts."""
    async with sessions.begin() as session:
        await ownership.outlive(session, None)


async def create(sessions: async_sessionmaker[AsyncSession], spec: m.RoomSpec, clock: Clock) -> UUID:
    async with sessions.begin() as session:
        await journal.create(session, spec, now=clock.now(), wall=clock.wall())
    return spec.id


@asynccontextmanager
async def doomed(rooms: Registry) -> AsyncIterator[Registry]:
    """A registry whose process is killed at the end: nothing is released, nothing handed over."""
    ready, killed = asyncio.Event(), asyncio.Event()

    async def process() -> None:
        async with rooms:
            ready.set()
            await killed.wait()

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(process())
        await ready.wait()
        yield rooms
        running.cancel()


async def eventually(rooms: Registry, room_id: UUID, holds: Callable[[m.Snapshot], bool]) -> float:
    """Wait until something holds of a room, at most 8 s; return how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(400):
        if holds(await rooms.snapshot(room_id)):
            break
        await asyncio.sleep(0.02)
    return loop.time() - began

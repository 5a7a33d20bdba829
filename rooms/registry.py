"""Every room of this process: find or adopt its actor, hand on what belongs to another node, watch over all.

Whoever needs a room asks here. If a living other node runs it, the message travels there through the function
`forward` that the server hands in; nobody else has to know where a room is.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import journal, messages as m, ownership, published
from rooms.actor import DATABASE_AWAY, FOLD_AFTER_S, Actor, Asker, Letter, Surroundings, rest
from rooms.agenda import Agenda
from rooms.commits import LANES, Commits
from rooms.effects import Effects
from rooms.envelopes import Answer, Envelope, decode_envelope, encode
from rooms.errors import FencedError, OverloadedError, RoomError, RoomNotFoundError, UnknownOutcomeError
from rooms.finish import Terms
from rooms.journal import Nature
from rooms.media import Media
from rooms.messages import Identity, PublicEvent, Snapshot
from rooms.natures import Natures
from rooms.neighbours import Forward, Neighbours, UnreachableError
from rooms.ownership import Elsewhere, Leases, Taken
from rooms.state import State
from rooms.wishes import Timer

log = structlog.get_logger()

T = TypeVar("T")
Item = TypeVar("Item")

Publish = Callable[[UUID, Sequence[PublicEvent]], None]

# A timer is at most so late; ten looks at two sorted lists a second cost nothing.
TICK_S = 0.1
# A client waits this long for an answer; then it repeats with the same key (PROTOCOL 3).
ASK_TIMEOUT_S = 5.0
# Of that, what taking a dead node's room and asking it may need; a lease that ends later is not waited for.
TAKE_OVER_S = 1.0
# A room may move, its node may turn out to be dead, and another may be quicker to take it; more is not chance.
ASK_TRIES = 4
# A room that nobody used for so long lets go of its memory; loading it again takes a few ms.
REST_AFTER_S = 120.0
# So many rooms are let go of in one transaction; more would hold their rows for longer than one who wants a room waits.
REST_PAGE = 100
# CreateRoom takes 2 ms, and 3 s when LiveKit looks for a node; a longer wait is a client's time-out.
MEDIA_LOOK_S = 0.05
MEDIA_LOOKS = 60
# How long a stopping process gives its rooms to finish what they have begun.
DRAIN_TIMEOUT_S = 10.0
# Rooms that are handed over at the same time. Each needs one connection of the pool's twenty for some ms: 5,000 rooms
# are handed over in the time above, and those that get commands meanwhile are not kept waiting.
MOVES = 8
# Groups of rooms that are opened at the same time, each on one connection of the pool.
OPENERS = 4
# Rooms that are opened in one transaction: seven statements for all of them instead of for each. The first waits for the
# last, a few ms; larger groups would save little more.
OPEN_MAX = 16
# A lease is looked at this long after its end: in the same moment it might just not be over, by the rounding of a clock.
LEASE_OVER_S = 0.01
# LiveKit calls give up after 5 s; a room that is busy for longer is stuck.
QUIET_TIMEOUT_S = 8.0
FORGET_NODES_EVERY_S = 3600.0


class _StoppingError(OverloadedError):
    """This node takes no more rooms; whoever runs the room next can be asked at once."""

    def __init__(self) -> None:
        super().__init__("the server is stopping")


Found = Actor | Elsewhere | Exception
"""What became of opening a room."""


class Registry:
    """The rooms of one process. Start and drain it in the same task, or use it as a context manager.

    Leaving the context by an error or by cancelling it is a crash: nothing is handed over.

    Args:
        sessions: Factory of database sessions.
        now: Business clock.
        wall: Wall clock.
        publish: Gets the public events of every committed turn; must neither block nor raise.
        recorded: Called when events for the rest of the product were committed; must neither block nor raise.
        forward: Sends bytes to a room on another node and returns its answer; without it this is the only node.
        media: The media server, if there is one.
        address: Where this node is, for people.
        node_id: This process, where somebody outside has to know it; no two share one, ever.
        predecessor: A node that is dead for certain: its rooms are free at once.
        leases: How fast a dead node is noticed.
        rest_after_s: After how long an unused room lets go of its memory.
    """

    def __init__(  # noqa: PLR0913  (one argument a collaborator; `server/app.py` names each)
        self,
        sessions: async_sessionmaker[AsyncSession],
        *,
        now: Callable[[], datetime],
        wall: Callable[[], datetime],
        publish: Publish,
        recorded: Callable[[], None] = lambda: None,
        forward: Forward | None = None,
        media: Media | None = None,
        address: str = "",
        node_id: UUID | None = None,
        predecessor: UUID | None = None,
        leases: Leases | None = None,
        rest_after_s: float = REST_AFTER_S,
    ) -> None:
        self.node_id = node_id or uuid4()
        self._sessions = sessions
        self._now = now
        self._wall = wall
        self._address = address
        self._predecessor = predecessor
        self._leases = leases or Leases()
        self._rest_after_s = rest_after_s
        self._actors: dict[UUID, Actor] = {}
        self._opening: dict[UUID, asyncio.Future[Any]] = {}
        """What whoever wants a room has to wait for: its opening, or that it has gone to rest."""
        self._wanted: deque[UUID] = deque()
        """Rooms to be opened, each with its future in `_opening`."""
        self._has_wanted = asyncio.Event()
        self._neighbours = Neighbours(forward)
        self._natures = Natures(sessions, self._task)
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []
        self._lanes: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Task[Any]] = set()
        self._agenda = Agenda(self._actors)
        self._is_draining = False
        self._is_stopped = False
        self._renewed = 0.0
        self._effects = Effects(sessions, media=media, now=now, spawn=self._spawn, deliver=self._deliver)
        self._commits = Commits(sessions, self.node_id, recorded)
        self._around = Surroundings(
            sessions=sessions,
            commits=self._commits,
            now=now,
            wall=wall,
            publish=publish,
            effects=self._effects,
            terms=Terms(),
            spawn=self._spawn,
            is_paused=self._is_paused,
            changed=self._changed,
            gone=self._gone,
        )

    # --- Life -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take a lease and begin to watch; adopts what nobody runs."""
        await self._beat()
        if self._predecessor is not None:
            async with self._sessions.begin() as session:
                await ownership.outlive(session, self._predecessor)
        await self._tasks.__aenter__()
        self._lanes = [self._tasks.create_task(self._commits.run()) for _ in range(LANES)]
        self._lanes += [self._tasks.create_task(self._open_forever()) for _ in range(OPENERS)]
        self._loops = [
            self._tasks.create_task(self._every(self._leases.beat_s, self._beat)),
            self._tasks.create_task(self._every(TICK_S, self._tick)),
            self._tasks.create_task(self._every(self._leases.scan_s, self._watch)),
            self._tasks.create_task(self._every(FORGET_NODES_EVERY_S, self._forget_nodes)),
        ]

    async def drain(self) -> None:
        """Finish what was begun, hand every room over and stop.

        Each room serves until its own turn comes, and is free for another node within that one transaction.
        """
        self._is_draining = True
        lease, timers, *others = self._loops
        for loop in others:
            loop.cancel()
        began = time.monotonic()
        rooms = len(self._actors)
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await _each(list(self._actors.values()), self._hand_over)
        except TimeoutError:
            log.warning("rooms_not_drained", left=len(self._actors))
        log.info("rooms_handed_over", rooms=rooms, seconds=round(time.monotonic() - began, 3))
        lease.cancel()
        timers.cancel()
        try:
            async with self._sessions.begin() as session:
                await ownership.retire(session, self.node_id)
        except DATABASE_AWAY as error:
            log.warning("node_not_retired", error=str(error))
        await self._stop_tasks()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.drain()
        else:
            self._is_draining = True
            await self._stop_tasks()

    # --- Asking and telling ---------------------------------------------------------------------------------

    async def ask(self, room_id: UUID, command: m.Command) -> m.Reply:
        """Have a room carry out a command, wherever it runs, and return its reply.

        Raises:
            RoomError: The room refuses, is not there, or cannot answer now.
        """
        self._require_lease()
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                return await self._ask(room_id, command)
        except TimeoutError:
            raise UnknownOutcomeError from None

    def put(self, room_id: UUID, command: m.Command, asker: Asker) -> None:
        """Have a room carry out a command as `ask` does; the asker hears the answer, at once or later.

        Where the room runs here this costs no task. It sets no limit of time: an asker that has waited long enough says
        that it is cancelled.
        """
        actor = self._actors.get(room_id)
        if actor is None or actor.is_gone or self._is_draining or self._is_paused():
            self._look_for(room_id, command, asker)
            return
        look_again = partial(self._look_for, room_id, command, asker)
        try:
            actor.ask(Letter(command, _FirstTry(asker, look_again)))
        except RoomError as error:
            asker.set_exception(error)

    def _look_for(self, room_id: UUID, command: m.Command, asker: Asker) -> None:
        self._spawn(self._ask_for(room_id, command, asker))

    async def _ask_for(self, room_id: UUID, command: m.Command, asker: Asker) -> None:
        try:
            reply = await self.ask(room_id, command)
        except Exception as error:  # noqa: BLE001  (whatever it is, the asker hears of it)
            asker.set_exception(error)
        else:
            asker.set_result(reply)

    def tell(self, room_id: UUID, signal: m.Signal) -> None:
        """Let a room know something; never blocks. What must not be lost stands in a row besides."""
        self._deliver(room_id, signal, None)

    async def snapshot(self, room_id: UUID, asking: Identity | None = None) -> Snapshot:
        """Return what a room looks like to somebody, from memory where it runs here, else from the journal.

        Raises:
            RoomNotFoundError: There is no such room.
        """
        actor = self._actors.get(room_id)
        if actor is not None and not actor.is_gone:
            return published.snapshot(actor.state, asking)
        async with self._sessions() as session:
            return published.snapshot(await journal.load(session, room_id), asking)

    def here(self, room_id: UUID) -> State | None:
        """Return what a room is like where it certainly runs here, None where only the database can say."""
        actor = self._actors.get(room_id)
        return actor.state if actor is not None and actor.is_certain and not self._is_paused() else None

    async def nature(self, room_id: UUID) -> Nature:
        """Return what never changes of a room.

        Raises:
            RoomNotFoundError: There is no such room.
        """
        actor = self._actors.get(room_id)
        if actor is not None:
            return Nature(actor.state.spec.kind, actor.state.spec.owner)
        return await self._natures.of(room_id)

    async def media_ready(self, room_id: UUID) -> bool:
        """Wait, for a moment only, until the room's media room exists; say whether it does."""
        for _ in range(MEDIA_LOOKS):
            if (await self.snapshot(room_id)).media_ready:
                return True
            await asyncio.sleep(MEDIA_LOOK_S)
        return False

    async def handle_forwarded(self, payload: bytes) -> bytes:
        """Serve a message that another node forwarded to this one."""
        envelope = decode_envelope(payload)
        try:
            answer = Answer(await self._handle(envelope))
        except RoomError as error:
            answer = Answer(error=type(error).__name__, words=str(error), facts=error.facts)
        except Exception:
            log.exception("forwarded_message_failed", room_id=str(envelope.room_id))
            answer = Answer(error=OverloadedError.__name__, words="The room could not answer.")
        return encode(answer)

    async def _handle(self, envelope: Envelope) -> m.Reply | None:
        if self._is_paused():
            # The room may be another's by now; the sender looks again, and does not come back here out of habit.
            raise FencedError(envelope.room_id)
        try:
            target = await self._open(envelope.room_id)
        except _StoppingError:
            # It was handed over while the message was under way; the sender looks again, and may take it.
            raise FencedError(envelope.room_id) from None
        if isinstance(target, Elsewhere):
            # It moved on, likewise.
            raise FencedError(envelope.room_id)
        if envelope.signal is not None:
            target.tell(Letter(envelope.signal))
        return None if envelope.command is None else await self._ask_actor(target, envelope.command)

    async def _ask(self, room_id: UUID, command: m.Command) -> m.Reply:
        give_up_at = time.monotonic() + ASK_TIMEOUT_S - TAKE_OVER_S
        for _ in range(ASK_TRIES):
            try:
                target = await self._find(room_id)
                if isinstance(target, Actor):
                    return await self._ask_actor(target, command)
                return await self._neighbours.ask(target.node_id, room_id, command)
            except FencedError:
                # The room has moved, or went to rest, between finding and asking it.
                self._neighbours.forget(room_id)
            except UnreachableError as error:
                self._neighbours.forget(room_id)
                await self._until_free(room_id, error.node_id, give_up_at)
        raise OverloadedError("the room is moving")

    async def _until_free(self, room_id: UUID, node_id: UUID, give_up_at: float) -> None:
        """Wait until the lease of a node that is dead has run out, if whoever asks has the time.

        Raises:
            OverloadedError: The node renews its lease, or it will not have run out in time.
        """
        found = await self._open(room_id)
        if isinstance(found, Actor) or found.node_id != node_id:
            return
        left_s = found.lease_left.total_seconds()
        missed_s = self._leases.ttl_s - left_s
        if missed_s < 2 * self._leases.beat_s or time.monotonic() + left_s > give_up_at:
            raise UnreachableError(node_id)
        await asyncio.sleep(left_s + LEASE_OVER_S)

    async def _find(self, room_id: UUID) -> Actor | Elsewhere:
        """Return who runs a room, as far as is known; `_open` asks the database."""
        actor = self._actors.get(room_id)
        known = self._neighbours.where(room_id)
        if known is None or (actor is not None and not actor.is_gone):
            return await self._open(room_id)
        self._require_service()
        return known

    async def _ask_actor(self, actor: Actor, command: m.Command) -> m.Reply:
        answer: asyncio.Future[m.Reply] = asyncio.get_running_loop().create_future()
        actor.ask(Letter(command, answer))
        return await answer

    def _deliver(self, room_id: UUID, signal: m.Signal, at: datetime | None) -> None:
        actor = self._actors.get(room_id)
        if actor is not None and not actor.is_gone:
            actor.tell(Letter(signal, at=at))
        else:
            self._spawn(self._bring(room_id, signal, at))

    async def _bring(self, room_id: UUID, signal: m.Signal, at: datetime | None) -> None:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                await self._tell(room_id, signal, at)
        except (RoomError, TimeoutError) as error:
            # Signals are repeated (beats) or stand in rows (webhooks, timers).
            log.info(
                "signal_not_delivered", room_id=str(room_id), signal=type(signal).__name__, why=str(error)
            )

    async def _tell(self, room_id: UUID, signal: m.Signal, at: datetime | None) -> None:
        target = await self._find(room_id)
        if isinstance(target, Actor):
            target.tell(Letter(signal, at=at))
            return
        try:
            await self._neighbours.tell(target.node_id, room_id, signal)
        except (FencedError, UnreachableError):
            # What was known of it may be out of date; the database knows better.
            self._neighbours.forget(room_id)
            found = await self._open(room_id)
            if isinstance(found, Actor):
                found.tell(Letter(signal, at=at))
            else:
                await self._neighbours.tell(found.node_id, room_id, signal)

    # --- Opening and closing actors -------------------------------------------------------------------------

    async def _open(self, room_id: UUID) -> Actor | Elsewhere:
        """Return the room's actor, adopting the room if no living node has it.

        Raises:
            RoomNotFoundError: There is no such room.
            OverloadedError: The database is away.
        """
        while True:
            actor = self._actors.get(room_id)
            if actor is not None and not actor.is_gone:
                return actor
            self._require_service()
            opening = self._opening.get(room_id)
            if opening is None:
                self._opening[room_id] = opening = asyncio.get_running_loop().create_future()
                self._wanted.append(room_id)
                self._has_wanted.set()
            # Shielded: whoever waits first may give up, the others still want the room.
            found: Found | None = await asyncio.shield(opening)
            if isinstance(found, Exception):
                raise found
            if found is not None:
                return found

    async def _open_forever(self) -> None:
        """Open the rooms that are wanted: one at once, those that come while others are under way together."""
        while True:
            await self._has_wanted.wait()
            group = [self._wanted.popleft() for _ in range(min(OPEN_MAX, len(self._wanted)))]
            if not self._wanted:
                self._has_wanted.clear()
            if not group:
                continue  # all openers hear the call, one of them takes what there is
            found = await self._take(group)
            for room_id in group:
                self._opening.pop(room_id).set_result(found[room_id])

    async def _take(self, room_ids: Sequence[UUID]) -> Mapping[UUID, Found]:
        """Claim rooms and load them in one transaction; those that it leaves out have one of their own."""
        if self._is_draining:
            return dict.fromkeys(room_ids, _StoppingError())
        try:
            async with self._sessions.begin() as session:
                claimed = await ownership.claim(session, room_ids, self.node_id)
                ours = [room_id for room_id, one in claimed.items() if isinstance(one, Taken)]
                states = await journal.load_all(session, ours)
                armed = await journal.all_armed_timers(session, ours)
            found: dict[UUID, Found] = {}
            for room_id, one in claimed.items():
                if isinstance(one, Elsewhere):
                    self._neighbours.remember(room_id, one)
                    found[room_id] = one
                elif room_id in states:
                    found[room_id] = self._begin(one, states[room_id], armed[room_id])
        except DATABASE_AWAY as error:
            log.warning("rooms_not_opened", rooms=len(room_ids), error=str(error))
            return dict.fromkeys(room_ids, OverloadedError("the database is away"))
        except Exception:
            if len(room_ids) > 1:
                return await self._take_each(room_ids)  # only the one at fault shall suffer
            log.exception("room_unreadable", room_id=str(room_ids[0]))
            return {room_ids[0]: OverloadedError("it cannot be read")}
        missing = [room_id for room_id in room_ids if room_id not in found]
        if len(room_ids) > 1:
            return {**found, **await self._take_each(missing)}
        return {**found, **{room_id: RoomNotFoundError(room_id) for room_id in missing}}

    async def _take_each(self, room_ids: Sequence[UUID]) -> dict[UUID, Found]:
        found: dict[UUID, Found] = {}
        for room_id in room_ids:
            found |= await self._take([room_id])
        return found

    def _begin(self, taken: Taken, state: State, armed: dict[str, Timer]) -> Actor:
        room_id = taken.claim.room_id
        self._neighbours.forget(room_id)
        actor = self._actors[room_id] = Actor(taken.claim, state, armed, self._around)
        self._greet(actor, taken)
        return actor

    def _greet(self, actor: Actor, taken: Taken) -> None:
        """Let a room that was just opened catch up with what happened while nobody ran it."""
        if taken.silent_for is not None:
            actor.tell(Letter(m.Adopt(self._now() - taken.silent_for)))
        if actor.state.uses_livekit:
            actor.tell(Letter(m.InboxChanged()))
        actor.pursue()
        self._changed(actor)

    def _changed(self, actor: Actor) -> None:
        self._agenda.plan(actor)
        self._agenda.visit(actor, self._until_visit_s(actor))

    def _gone(self, actor: Actor) -> None:
        if self._actors.get(actor.room_id) is actor:
            del self._actors[actor.room_id]

    def _send_to_rest(self, actors: Sequence[Actor]) -> None:
        for start in range(0, len(actors), REST_PAGE):
            page = actors[start : start + REST_PAGE]
            task = self._task(self._rest(page))
            # Whoever asks for one of the rooms meanwhile waits for the end of this, and looks again.
            self._opening.update((actor.room_id, task) for actor in page)

    async def _rest(self, actors: Sequence[Actor]) -> None:
        try:
            idle = [actor for actor in actors if actor.is_idle]
            await rest(idle)
            for actor in idle:
                self._gone(actor)
        finally:
            for actor in actors:
                del self._opening[actor.room_id]

    async def _hand_over(self, actor: Actor) -> None:
        """Let a room go as soon as it is quiet; whoever asks it in that moment waits for the end of this."""
        try:
            while self._actors.get(actor.room_id) is actor:
                await self._quiet(actor)
                if actor.room_id not in self._opening:
                    self._send_to_rest([actor])
                await asyncio.wait([self._opening[actor.room_id]])
        except OverloadedError as error:
            log.warning("room_not_handed_over", room_id=str(actor.room_id), why=str(error))

    # --- Watching -------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        started = time.monotonic()
        async with self._sessions.begin() as session:
            await ownership.beat(session, self.node_id, self._address, self._leases.ttl_s)
        self._renewed = started

    def _is_paused(self) -> bool:
        return time.monotonic() - self._renewed > self._leases.pause_s

    def _require_service(self) -> None:
        if self._is_draining:
            raise _StoppingError
        self._require_lease()

    def _require_lease(self) -> None:
        if self._is_paused():
            raise OverloadedError("the database is away")

    async def _watch(self) -> float:
        """Hear what was not told, adopt what nobody runs; return in how many seconds to do it again.

        That is at the very end of a lease that is not renewed: people wait for it.
        """
        async with self._sessions() as session:
            with_news = await ownership.with_news(session, self.node_id)
        for room_id in with_news:
            self._deliver(room_id, m.InboxChanged(), None)
        while await self._adopt_page():
            pass
        async with self._sessions() as session:
            next_end = await ownership.next_end(session)
        scan_s = self._leases.scan_s
        return scan_s if next_end is None else min(scan_s, next_end.total_seconds() + LEASE_OVER_S)

    async def _adopt_page(self) -> bool:
        """Adopt some of the rooms that nobody runs; return whether it is worth looking for more at once."""
        async with self._sessions.begin() as session:
            abandoned = await ownership.abandoned(session, now=self._now(), wall=self._wall())
        moved = 0

        async def adopt(room_id: UUID) -> None:
            nonlocal moved
            try:
                await self._open(room_id)
                moved += 1
            except RoomError as error:
                log.warning("room_not_adopted", room_id=str(room_id), why=str(error))

        async with asyncio.TaskGroup() as tasks:
            for room_id in abandoned:
                tasks.create_task(adopt(room_id))
        return moved > 0 and len(abandoned) == ownership.ADOPT_PAGE

    async def _tick(self) -> None:
        """Wake the rooms that are due, and look after those whose turn it is."""
        for actor, names in self._agenda.due(now=self._now(), wall=self._wall()):
            for name in names:
                actor.tell(Letter(m.TimerDue(name)))
            # A signal may be lost; then the timer is still armed.
            self._agenda.visit(actor, self._leases.scan_s)
        self._send_to_rest([actor for actor in self._agenda.visits() if not self._look_after(actor)])

    def _look_after(self, actor: Actor) -> bool:
        """Notice dead sockets and lost timers, fold what is not in use; False: nobody needs it in memory any more."""
        for gone in actor.silent_sockets():
            actor.tell(Letter(gone))
        if (
            actor.may_rest(self._rest_after_s)
            and actor.room_id not in self._opening
            and not self._is_paused()
        ):
            return False
        actor.fold()
        if not actor.is_folded:
            self._agenda.plan(actor)
        self._agenda.visit(actor, self._until_visit_s(actor))
        return True

    def _until_visit_s(self, actor: Actor) -> float:
        """Return in how many seconds a room wants to be looked after: to be heard, to be folded or to rest."""
        if actor.is_occupied:
            return self._leases.scan_s
        unused_s = time.monotonic() - actor.used_at
        after_s = self._rest_after_s if actor.is_folded else min(FOLD_AFTER_S, self._rest_after_s)
        # A room that only waits for a near timer is asked again every few seconds, however long it was not used.
        return max(after_s - unused_s, min(FOLD_AFTER_S, self._rest_after_s) / 2)

    async def _forget_nodes(self) -> None:
        async with self._sessions.begin() as session:
            await ownership.forget_old_nodes(session)

    async def _every(self, period_s: float, work: Callable[[], Awaitable[float | None]]) -> None:
        """Do something again and again; it may say itself how long to wait for the next time."""
        wait_s: float | None = None
        while True:
            await asyncio.sleep(period_s if wait_s is None else wait_s)
            wait_s = None
            try:
                wait_s = await work()
            except DATABASE_AWAY as error:
                log.warning("watch_interrupted", work=work.__name__, error=str(error))
            except Exception:
                log.exception("watch_failed", work=work.__name__)

    # --- Time travel ----------------------------------------------------------------------------------------

    async def next_due(self, until: datetime) -> datetime | None:
        """Return when the next business timer falls due, up to `until`."""
        async with self._sessions() as session:
            return await ownership.next_due(session, self.node_id, until=until)

    async def run_next(self, at: datetime) -> None:
        """Run the business timers that are due at `at`, with `at` as now, and wait for all that follows.

        Raises:
            OverloadedError: A timer could not be run; time must not go on.
        """
        async with self._sessions() as session:
            due = await ownership.due_timers(session, self.node_id, at=at)
        for room_id, name in due:
            actor = await self._open(room_id)
            if isinstance(actor, Elsewhere):
                continue  # taken over this moment by a node that runs it on its own clock
            actor.tell(Letter(m.Travelled(), at=at))
            actor.tell(Letter(m.TimerDue(name), at=at))
            await self._quiet(actor)
            timer = actor.armed.get(name)
            if timer is not None and timer.due_at <= at:
                raise OverloadedError(f"timer {name} of a room could not be run")

    async def catch_up(self, until: datetime) -> None:
        """After an advance: who is connected was so all the while, and sees their time now."""
        actors = [actor for actor in self._actors.values() if actor.looks]
        for actor in actors:
            actor.tell(Letter(m.Travelled(), at=until))
            for name in actor.looks:
                actor.tell(Letter(m.TimerDue(name), at=until))
        for actor in actors:
            await self._quiet(actor)

    async def run_due(self, until: datetime) -> None:
        """Run every business timer up to `until` in order, each with its own due time as now."""
        while (at := await self.next_due(until)) is not None:
            await self.run_next(at)
        await self.catch_up(until)

    async def _quiet(self, actor: Actor) -> None:
        """Wait until a room has no mail and every effect it asked for was tried.

        Raises:
            OverloadedError: It takes too long; the database or the media server is away.
        """
        try:
            async with asyncio.timeout(QUIET_TIMEOUT_S):
                await actor.idle()
                while await self._effects.tried(actor.room_id):
                    await actor.idle()
        except TimeoutError:
            raise OverloadedError("it does not come to rest") from None

    # --- Tasks ----------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Let something run beside everything else. It may fail, but never takes the other rooms with it."""
        if self._is_stopped:
            work.close()
        else:
            _ = self._task(self._guarded(work))

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception:
            log.exception("room_task_failed", work=getattr(work, "__qualname__", "?"))

    async def _stop_tasks(self) -> None:
        self._is_stopped = True
        for task in [*self._loops, *self._lanes, *self._running]:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        for opening in self._opening.values():
            if not opening.done():
                opening.set_result(_StoppingError())


class _FirstTry:
    """An asker for whom the room is looked for again, once it turns out to have moved or gone to rest."""

    __slots__ = ("_asker", "_look_again", "cancelled", "set_result")

    def __init__(self, asker: Asker, look_again: Callable[[], None]) -> None:
        self._asker = asker
        self._look_again = look_again
        self.cancelled = asker.cancelled
        self.set_result = asker.set_result

    def set_exception(self, error: Exception, /) -> None:
        """Hear what came in the way."""
        if isinstance(error, FencedError):
            self._look_again()
        else:
            self._asker.set_exception(error)


async def _each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    """Do something with each item, `MOVES` at a time."""
    waiting = iter(items)

    async def take() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(MOVES):
            tasks.create_task(take())

"""One room at work: a bounded mailbox of two lanes and, only while a turn needs one, a task.

A turn is: decide, one transaction, publish, answer. Up to 64 waiting messages share a turn, and turns that one
statement can write share it with those of other rooms (`rooms.commits`). Nothing is believed, shown or
answered before it is committed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import insert
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import commits, finish, inbox, journal, messages as m, ownership, published, wishes
from rooms.attendance import Known
from rooms.commits import CommitLostError, Commits, NotTogetherError
from rooms.effects import Effects
from rooms.errors import FencedError, OverloadedError, RoomError, UnknownOutcomeError
from rooms.journal import Claim, Write
from rooms.memory import Memory, fold, unfold
from rooms.messages import ConnectionId, PublicEvent, RoomStatus
from rooms.models import DeadLetter
from rooms.room import decide
from rooms.state import State
from rooms.turn import Decision
from rooms.wishes import Clock, Timer

log = structlog.get_logger()

# Every seat of a room may repeat itself dozens of times; more than this waits longer than a client does.
LANE_MAX = 256
# Larger batches save nothing more per message and let the first wait for the last.
BATCH_MAX = 64
# A message that fails this often is no accident.
TRIES = 3
# So many given up messages within `CRASH_WINDOW_S` mean that the room itself is broken.
CRASHES_MAX = 5
CRASH_WINDOW_S = 60.0
# While the database is away: quick after a hiccup, and never longer than a client waits for its answer.
BACKOFF_FIRST_S = 0.1
BACKOFF_LAST_S = 2.0
# Loading again costs some ms; waking for a timer that is this near costs more than staying.
TIMER_NEAR = timedelta(seconds=60)
# A node that beats every 5 s has missed four beats: its sockets are gone with it.
SOCKET_SILENT_S = 20.0
# A room that heard nothing for so long is kept folded up: a quarter of the memory. Nobody notices the 30 us that it
# takes to unfold, but a chat at walking pace should not pay for it with every message.
FOLD_AFTER_S = 10.0

# These read stored rows before they are decided, so nothing else may be undecided beside them.
ALONE = (m.InboxChanged, m.TimerDue, m.ReadAttendance, m.Adopt)
DATABASE_AWAY = (SQLAlchemyError, OSError, TimeoutError)
# The database is there and refuses: that is the message's fault, or ours.
REFUSED = (IntegrityError, DataError, ProgrammingError)


# Rooms that have none share it; nobody changes one in place.
_NO_LOOKS: dict[str, datetime] = {}
_NO_SOCKETS: "dict[ConnectionId, tuple[float, datetime]]" = {}


class Asker(Protocol):
    """Who waits for the answer to a command: a future, or whatever else hears one."""

    def cancelled(self) -> bool:
        """Whether it does not wait any more."""

    def set_result(self, reply: m.Reply, /) -> None:
        """Hear the reply."""

    def set_exception(self, error: Exception, /) -> None:
        """Hear what came in the way."""


class Letter:
    """A message on its way, and who waits for the answer."""

    __slots__ = ("answer", "at", "failures", "message")

    def __init__(self, message: m.Message, answer: Asker | None = None, at: datetime | None = None) -> None:
        self.message = message
        self.answer = answer
        self.at = at
        """Business time at which it counts, when that is not now (time travel)."""
        self.failures = 0

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the answer any more, so that what was asked must not be begun."""
        return self.answer is not None and self.answer.cancelled()

    def succeed(self, reply: m.Reply | None) -> None:
        """Answer."""
        if self.answer is not None and not self.answer.cancelled():
            self.answer.set_result(reply if reply is not None else m.Done())

    def fail(self, error: Exception) -> None:
        """Refuse."""
        if self.answer is not None and not self.answer.cancelled():
            self.answer.set_exception(error)


class _Turn:
    """What the letters of one turn lead to; true once it is committed."""

    __slots__ = ("answers", "at", "before", "decisions", "now", "read", "state", "wall")

    def __init__(self, before: State, *, now: datetime, wall: datetime, at: datetime | None) -> None:
        self.before = self.state = before
        self.now = now
        self.wall = wall
        self.at = at
        """Business time of its letters, when that is not now (time travel)."""
        self.decisions: list[tuple[datetime, Decision]] = []
        self.answers: list[tuple[Letter, m.Reply | RoomError | None]] = []
        self.read: list[str] = []
        """Ids of the webhooks that were taken in."""

    def write(self, armed: dict[str, Timer]) -> Write:
        """Return what it leaves behind in a room with these timers."""
        is_talk = bool(self.decisions) and all(decision.is_talk for _, decision in self.decisions)
        wanted = armed if is_talk else wishes.timers(self.state, now=self.now, wall=self.wall)
        return Write(self.before, self.state, self.decisions, armed, wanted, self.read, is_talk)


class Surroundings(msgspec.Struct, frozen=True):
    """What an actor needs from the process; the same for all of them."""

    sessions: async_sessionmaker[AsyncSession]
    commits: Commits
    now: Callable[[], datetime]
    wall: Callable[[], datetime]
    publish: Callable[[UUID, Sequence[PublicEvent]], None]
    effects: Effects
    terms: finish.Terms
    spawn: Callable[..., object]
    is_paused: Callable[[], bool]
    """True while this node may have lost its lease."""
    changed: "Callable[[Actor], None]"
    """Called after each turn: timers may have moved."""
    gone: "Callable[[Actor], None]"
    """Called once, when the actor has stopped for good."""


class Actor:
    """The single writer of one room."""

    __slots__ = (
        "_around", "_at_hand", "_backoff_s", "_crashes", "_idlers", "_is_careful", "_is_doubtful", "_is_running", "_known", "_memory", "_sockets", "_system", "_user",
        "business_entry", "claim", "is_dirty", "is_gone", "looks", "used_at", "visit_entry", "wall_entry",
    )  # fmt: skip

    def __init__(self, claim: Claim, state: State, armed: dict[str, Timer], around: Surroundings) -> None:
        self.claim = claim
        self.looks = _NO_LOOKS
        """Next periodic looks, in memory only."""
        # Its entries in the registry's lists, of which each has one that counts.
        self.business_entry: tuple[datetime, UUID] | None = None
        self.wall_entry: tuple[datetime, UUID] | None = None
        self.visit_entry: tuple[float, UUID] | None = None
        self.used_at = time.monotonic()
        self.is_gone = False
        self.is_dirty = False
        self._around = around
        # Lanes are made with the first letter and dropped with the last: an idle room keeps neither.
        self._system: deque[Letter] | None = None
        self._user: deque[Letter] | None = None
        self._sockets = _NO_SOCKETS
        self._crashes: tuple[float, ...] = ()
        self._memory: Memory | bytes = Memory(state, armed, state.created_at)
        self._is_running = False
        self._is_doubtful = False
        # Webhooks are read one by one once some of them could not be taken in.
        self._is_careful = False
        self._at_hand: Sequence[str] = ()
        # What the stored evidence of a running lesson tells, from its first look on; None: the rows have to be read.
        self._known: Known | None = None
        self._idlers: list[asyncio.Future[None]] | None = None
        self._backoff_s = BACKOFF_FIRST_S

    @property
    def room_id(self) -> UUID:
        """The room."""
        return self.claim.room_id

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Where it is written."""
        return self._around.sessions

    @property
    def state(self) -> State:
        """What the room is like after its newest committed turn."""
        return self._remembered().state

    @state.setter
    def state(self, state: State) -> None:
        self._remembered().state = state

    @property
    def armed(self) -> dict[str, Timer]:
        """Timers as they are stored."""
        return self._remembered().armed

    @armed.setter
    def armed(self, armed: dict[str, Timer]) -> None:
        self._remembered().armed = armed

    def _remembered(self) -> Memory:
        memory = self._memory
        if isinstance(memory, bytes):
            memory = self._memory = unfold(memory)
        return memory

    def fold(self) -> None:
        """Keep what the room knows as bytes until somebody asks, if nobody is in it and nothing is under way."""
        memory = self._memory
        if isinstance(memory, bytes) or not self.is_idle or self._is_doubtful:
            return
        if memory.state.seats or memory.state.queue or time.monotonic() - self.used_at < FOLD_AFTER_S:
            return
        self._memory = fold(memory)
        self._known = None

    @property
    def is_folded(self) -> bool:
        """Whether what it knows is bytes at the moment."""
        return isinstance(self._memory, bytes)

    @property
    def is_occupied(self) -> bool:
        """Whether somebody holds a seat or waits for one."""
        memory = self._memory
        return not isinstance(memory, bytes) and bool(memory.state.seats or memory.state.queue)

    @property
    def is_idle(self) -> bool:
        """Whether there is neither mail nor a task."""
        return not self._is_running and not self._system and not self._user

    @property
    def is_certain(self) -> bool:
        """Whether `state` is what the database has; not after a commit of which nobody knows what became."""
        return not self._is_doubtful and not self.is_gone

    @property
    def is_quarantined(self) -> bool:
        """Whether the room failed too often lately to be written to."""
        if len(self._crashes) < CRASHES_MAX:
            return False
        return self._crashes[-CRASHES_MAX] > time.monotonic() - CRASH_WINDOW_S

    # --- Mail -----------------------------------------------------------------------------------------------

    def ask(self, letter: Letter) -> None:
        """Put a command into the user lane.

        Raises:
            OverloadedError: The lane is full, or the room in quarantine.
        """
        if self.is_gone:
            raise FencedError(self.room_id)
        if self.is_quarantined and not isinstance(letter.message, m.ReadAttendance):
            raise OverloadedError("the room is in quarantine")
        if self._user is not None and len(self._user) >= LANE_MAX:
            raise OverloadedError("too many commands are waiting")
        self._user = self._user if self._user is not None else deque()
        self._user.append(letter)
        self._wake()

    def tell(self, letter: Letter) -> None:
        """Put a signal into the system lane; when it is full, remember to look at the stored rows instead."""
        if self.is_gone:
            return
        if self._system is not None and len(self._system) >= LANE_MAX:
            self.is_dirty = True
            return
        if self._system and _joined(self._system[-1], letter):
            return
        self._system = self._system if self._system is not None else deque()
        self._system.append(letter)
        self._wake()

    async def idle(self) -> None:
        """Wait until there is no mail left."""
        while not self.is_idle:
            self._idlers = self._idlers or []
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idlers.append(waiting)
            await waiting

    def _wake(self) -> None:
        self.used_at = time.monotonic()
        if not self._is_running:
            self._is_running = True
            # Not at once: what else comes in this tick shares the turn.
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Begin the next turn: in a task only if it needs a transaction of its own. Without mail, end."""
        while not self.is_gone and (batch := self._next_batch()):
            light = self._try_lightly(batch)
            if light is None:
                self._around.spawn(self._work(batch))
                return
            turn, write = light
            if not write.is_empty:
                settle = partial(self._settled, batch, turn, write)
                self._around.commits.add(commits.Turn(self.claim, write, settle))
                return
            self._finish(turn, write)
        self._end()

    def _end(self) -> None:
        """Be idle: an idle room has neither a task nor a mailbox."""
        self._is_running = False
        self._system = self._system or None
        self._user = self._user or None
        idlers, self._idlers = self._idlers or (), None
        for waiting in idlers:
            if not waiting.done():
                waiting.set_result(None)
        if self.is_gone:
            self._refuse_all()

    async def _work(self, batch: list[Letter], outcome: Exception | None = None) -> None:
        try:
            await self._turn(batch, outcome)
        except BaseException:
            self._end()
            raise
        self._go_on()

    def _next_batch(self) -> list[Letter]:
        """Take letters from the lanes, the system's first; one that reads stored rows comes alone."""
        batch: list[Letter] = []
        for lane in (self._system, self._user):
            while lane and len(batch) < BATCH_MAX:
                if lane[0].is_abandoned:
                    lane.popleft()
                    continue
                if isinstance(lane[0].message, ALONE) and batch:
                    return batch
                batch.append(lane.popleft())
                if isinstance(batch[-1].message, ALONE):
                    return batch
        if not batch and self.is_dirty:
            self.is_dirty = False
            return [Letter(m.InboxChanged())]
        return batch

    def _refuse_all(self) -> None:
        for lane in (self._system, self._user):
            for letter in lane or ():
                letter.fail(FencedError(self.room_id))
        self._system = self._user = None

    # --- A turn ---------------------------------------------------------------------------------------------

    def _try_lightly(self, batch: list[Letter]) -> tuple[_Turn, Write] | None:
        """Decide a turn that needs neither stored rows nor a transaction of its own; None: it needs a task."""
        if self._is_doubtful or self._around.is_paused():
            return None
        turn = self._begin(batch)
        try:
            for letter in batch:
                now = turn.now = self._time(letter, turn.now)
                messages = self._prepare_lightly(letter.message, now, turn.read)
                if messages is None:
                    return None
                self._decide(turn, letter, messages, now)
            write = turn.write(self.armed)
        except Exception:  # noqa: BLE001  (the task meets it again, and deals with it)
            return None
        return (turn, write) if write.is_empty or write.is_light else None

    def _prepare_lightly(
        self, message: m.Message, now: datetime, read: list[str]
    ) -> Sequence[m.Message] | None:
        """Do what `_prepare` does without stored rows; None: they are needed."""
        match message:
            case m.ReadAttendance():
                return None
            case m.InboxChanged(deliveries):
                # Those of a lesson that is over wait for its settlement, and those that failed are tried one by one.
                are_here = deliveries and not self._is_careful and self.state.outcome is None
                return _take_in(deliveries, read) if are_here else None
            case m.TimerDue("look") if self.state.status is RoomStatus.LIVE:
                percent = self._around.terms.percent(now)
                if self._known is None or percent is None:
                    return None
                people = finish.measure(self.state, self._known, until=now, threshold_percent=percent)
                return (m.Assessed(people),)
            case m.TimerDue("finish") if self.state.finish_at is not None:
                return None
            case _:
                return (message,)

    def _settled(self, batch: list[Letter], turn: _Turn, write: Write, outcome: Exception | None) -> None:
        """Hear what became of a turn that shared its commit."""
        if outcome is not None:
            self._around.spawn(self._work(batch, outcome))
            return
        self._backoff_s = BACKOFF_FIRST_S
        self._finish(turn, write)
        self._go_on()

    def _finish(self, turn: _Turn, write: Write) -> None:
        """Do what follows a turn that had no task, which would have logged what fails."""
        try:
            self._committed(turn, write)
        except Exception:
            log.exception("turn_not_finished", room_id=str(self.room_id))

    async def _turn(self, batch: list[Letter], outcome: Exception | None = None) -> None:
        try:
            turn, write = await self._commit(batch, outcome)
        except FencedError as error:
            log.warning("room_fenced", room_id=str(self.room_id), fence=self.claim.fence)
            self._stop(batch, error)
        except REFUSED as error:
            self._is_doubtful = True
            await self._failed(batch, error)
        except CommitLostError as error:
            self._is_doubtful = True
            await self._wait_for_database(batch, error, UnknownOutcomeError())
        except DATABASE_AWAY as error:
            self._is_doubtful = True
            await self._wait_for_database(batch, error, OverloadedError("the database is away"))
        except Exception as error:  # noqa: BLE001  (whatever a rule does, only its message may suffer)
            await self._failed(batch, error)
        else:
            self._backoff_s = BACKOFF_FIRST_S
            self._committed(turn, write)

    async def _commit(self, batch: list[Letter], outcome: Exception | None = None) -> tuple[_Turn, Write]:
        """Commit a turn on its own; `outcome` is what became of it in a group, where it was in one."""
        if outcome is not None and not isinstance(outcome, NotTogetherError):
            raise outcome
        if self._around.is_paused():
            raise TimeoutError("the lease could not be renewed")
        if self._is_doubtful:
            await self._reload()
        turn = self._begin(batch)
        async with self._around.sessions() as session:
            for letter in batch:
                now = turn.now = self._time(letter, turn.now)
                try:
                    if isinstance(letter.message, m.ReadAttendance):
                        turn.answers.append((letter, await finish.view(session, turn.state, now=now)))
                        continue
                    messages = await self._prepare(session, letter.message, now, turn.read)
                except RoomError as error:
                    turn.answers.append((letter, error))
                else:
                    self._decide(turn, letter, messages, now)
            write = turn.write(self.armed)
            await self._write(session, write)
            await _commit(session)
        return turn, write

    def _begin(self, batch: list[Letter]) -> _Turn:
        memory = self._remembered()
        return _Turn(memory.state, now=memory.latest, wall=self._around.wall(), at=batch[-1].at)

    def _decide(self, turn: _Turn, letter: Letter, messages: Sequence[m.Message], now: datetime) -> None:
        answer: m.Reply | RoomError | None = None
        try:
            for message in messages:
                self._note_sockets(message, now)
                decision = decide(turn.state, message, now=now, wall=turn.wall)
                turn.state, answer = decision.state, decision.reply
                turn.decisions.append((now, decision))
        except RoomError as error:
            answer = error
        turn.answers.append((letter, answer))

    def _time(self, letter: Letter, latest: datetime) -> datetime:
        """Return the business time of a letter; in one room time never runs backwards.

        While time is being advanced, letters with a moment of their own and others come side by side.
        """
        return max(letter.at or self._around.now(), latest)

    async def _reload(self) -> None:
        """Read the room anew: when a commit got no answer, nobody but the database knows whether it was made."""
        async with self._around.sessions.begin() as session:
            await journal.require_fence(session, self.claim)
            self.state = await journal.load(session, self.room_id)
            self.armed = await journal.armed_timers(session, self.room_id)
        self._known = None
        self._is_doubtful = False

    async def _prepare(
        self, session: AsyncSession, message: m.Message, now: datetime, read: list[str]
    ) -> Sequence[m.Message]:
        """Turn a message that only points at stored rows into messages that say what they hold."""
        match message:
            case m.ReadAttendance():
                return ()
            case m.InboxChanged():
                return await self._read_inbox(session, read)
            case m.TimerDue("look") if self.state.status is RoomStatus.LIVE:
                return (await self._look(session, now),)
            case m.TimerDue("finish") if self.state.finish_at is not None:
                if await inbox.has_unread(session, self.room_id):
                    # What lies unread is evidence too: turns of their own store it first, however much it is.
                    self.tell(Letter(m.InboxChanged(), at=now))
                    self.tell(Letter(message, at=now))
                    return ()
                return (await finish.assess(session, self.state, now=now, finish=True),)
            case _:
                return (message,)

    async def _look(self, session: AsyncSession, now: datetime) -> m.Assessed:
        """Compute everybody's attendance up to now, and remember what it needs: the next look reads nothing."""
        percent = await self._around.terms.read(session, now)
        if self._known is None:
            self._known = Known(await journal.evidence_of(session, self.room_id))
        return m.Assessed(finish.measure(self.state, self._known, until=now, threshold_percent=percent))

    def _note_sockets(self, message: m.Message, now: datetime) -> None:
        """Remember which sockets were spoken of, and when."""
        match message:
            case m.Join(connection=connection) if connection is not None:
                self._heard({connection: (time.monotonic(), now)})
            case m.SocketsSeen(sockets=sockets, seen=seen):
                beat = time.monotonic()
                for identity, connections in sockets.items():
                    frame = (beat, seen.get(identity, now))
                    self._heard(dict.fromkeys(connections, frame))
            case _:
                pass

    def _heard(self, sockets: dict[ConnectionId, tuple[float, datetime]]) -> None:
        self._sockets = {**self._sockets, **sockets}

    async def _read_inbox(self, session: AsyncSession, read: list[str]) -> Sequence[m.MediaChanged]:
        if self.state.outcome is not None and not self.state.settled:
            return ()  # evidence that comes after the end is judged after the settlement
        limit = 1 if self._is_careful else inbox.PAGE
        unread = await inbox.unread(session, self.room_id, limit=limit)
        self._at_hand = [delivery.event_id for delivery in unread]
        if len(unread) == limit:
            self.is_dirty = True
        else:
            self._is_careful = False
        return _take_in(unread, read)

    async def _write(self, session: AsyncSession, write: Write) -> None:
        if write.is_empty:
            return
        await journal.append(session, self.claim, write)
        for now, decision in write.decisions:
            if decision.assessed is not None:
                await finish.record(session, write.after, decision.assessed, now=now)
        if write.reopens:
            await finish.reconsider(session, write.after, now=write.decisions[-1][0])

    def _committed(self, turn: _Turn, write: Write) -> None:
        """Believe, show, answer and pursue what was committed. Synchronous, so nothing comes between."""
        memory = self._remembered()
        memory.state, memory.latest = turn.state, turn.now
        if not write.is_talk:
            memory.armed = dict(write.wanted)
        self._remember_evidence(turn)
        try:
            self._show(turn)
        except Exception:
            # It is committed, so it must be answered; the relay shows it again from the outbox.
            log.exception("room_not_shown", room_id=str(self.room_id))
        for letter, answer in turn.answers:
            if isinstance(answer, RoomError):
                letter.fail(answer)
            else:
                letter.succeed(answer)
        if write.is_talk:
            return  # it waits for the same, and wants the same
        self._plan_looks()
        if any(d.look for _, d in turn.decisions) and "look" in self.looks:
            self.tell(Letter(m.TimerDue("look"), at=turn.at))
        if any(isinstance(n.event, m.Settled) for _, d in turn.decisions for n in d.events):
            self.tell(Letter(m.InboxChanged(), at=turn.at))
        self.pursue([effect for _, d in turn.decisions for effect in d.effects], at=turn.at)
        self._around.changed(self)

    def _remember_evidence(self, turn: _Turn) -> None:
        """Keep what is known in step with the rows, for as long as somebody looks."""
        if turn.state.status is not RoomStatus.LIVE:
            self._known = None
        if self._known is not None:
            for _, decision in turn.decisions:
                for fact in decision.evidence:
                    self._known.add(fact)

    def _show(self, turn: _Turn) -> None:
        events = [
            published.public(n.event, off=n.off, at=now, is_lesson=turn.state.is_lesson)
            for now, decision in turn.decisions
            for n in decision.events
            if n.off is not None
        ]
        if events:
            self._around.publish(self.room_id, events)

    def pursue(self, asked: Sequence[m.Effect] = (), *, at: datetime | None = None) -> None:
        """Start what the state wishes to have done outside, and what was asked for besides."""
        self._around.effects.pursue(
            self.room_id,
            [*wishes.effects(self.state), *asked],
            cap=self.state.spec.cap,
            at=at,
            is_wanted=lambda effect: not self.is_gone and effect in wishes.effects(self.state),
        )

    def _plan_looks(self) -> None:
        now = self._around.now()
        wanted = wishes.looks(self.state)
        # After a journey in time a look may lie far in the past or, backwards, too far ahead: plan it anew.
        self.looks = {
            name: due if (due := self.looks.get(name, now + every)) > now else now + every
            for name, every in wanted.items()
        } or _NO_LOOKS

    # --- When something goes wrong ---------------------------------------------------------------------------

    async def _failed(self, batch: list[Letter], error: Exception) -> None:
        """Try the messages of a failed turn one by one; give up the one that keeps failing."""
        if len(batch) > 1:
            for letter in batch:
                await self._turn([letter])
            return
        (letter,) = batch
        letter.failures += 1
        if isinstance(letter.message, m.InboxChanged):
            self._is_careful = True
        if letter.failures < TRIES:
            await self._turn(batch)
            return
        self._crashes = (*self._crashes, time.monotonic())[-CRASHES_MAX:]
        kind = type(letter.message).__name__
        log.error("message_given_up", room_id=str(self.room_id), message=kind, exc_info=error)
        if self.is_quarantined:
            log.error("room_quarantined", room_id=str(self.room_id))
        letter.fail(error)
        await self._keep_dead_letter(letter, error)

    async def _keep_dead_letter(self, letter: Letter, error: Exception) -> None:
        is_inbox = isinstance(letter.message, m.InboxChanged)
        message = msgspec.to_builtins(m.InboxChanged() if is_inbox else letter.message)
        if is_inbox:
            message |= {"webhooks": self._at_hand}
            self.is_dirty = True  # the others are still to be read
        row = {
            "room_id": self.room_id,
            "message": message,
            "error": f"{type(error).__name__}: {error}"[:2000],
        }
        try:
            async with self._around.sessions.begin() as session:
                await session.execute(insert(DeadLetter), [row])
                if is_inbox:
                    await inbox.give_up(session, self._at_hand)
        except DATABASE_AWAY as away:
            log.warning("dead_letter_lost", room_id=str(self.room_id), error=str(away))

    async def _wait_for_database(self, batch: list[Letter], error: Exception, refusal: RoomError) -> None:
        """Refuse the commands, keep the signals, and try again in a moment."""
        log.warning("room_without_database", room_id=str(self.room_id), error=str(error))
        commands = [letter for letter in batch if letter.answer is not None]
        signals = [letter for letter in batch if letter.answer is None]
        for letter in commands:
            letter.fail(refusal)
        if signals:
            self._system = self._system if self._system is not None else deque()
            self._system.extendleft(reversed(signals))
        await asyncio.sleep(self._backoff_s)
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_LAST_S)

    def _stop(self, batch: Sequence[Letter], error: Exception) -> None:
        self.is_gone = True
        for letter in batch:
            letter.fail(error)
        self._around.gone(self)

    # --- Rest -----------------------------------------------------------------------------------------------

    def wakes(self, clock: Clock) -> list[tuple[str, datetime]]:
        """Return its timers and looks by a clock."""
        found = [(name, timer.due_at) for name, timer in self.armed.items() if timer.clock == clock]
        return [*found, *self.looks.items()] if clock == "business" else found

    def may_rest(self, after_s: float) -> bool:
        """Whether nobody is in, nothing is due soon, and nothing happened for a while."""
        if not self.is_idle or self.is_occupied or time.monotonic() - self.used_at < after_s:
            return False
        # What is planned first, so that nothing has to be unfolded for the answer.
        planned = ((self.business_entry, self._around.now()), (self.wall_entry, self._around.wall()))
        return all(entry is None or entry[0] - now > TIMER_NEAR for entry, now in planned)

    def stop(self) -> None:
        """Take no letters any more."""
        self.is_gone = True
        self._refuse_all()

    def silent_sockets(self) -> list[m.SocketGone]:
        """Return the sockets nobody has spoken of for too long: their gateway died without a word."""
        if not self.is_occupied:
            self._sockets = _NO_SOCKETS
            return []
        found: list[m.SocketGone] = []
        known: dict[ConnectionId, tuple[float, datetime]] = {}
        clock = (time.monotonic(), self._around.now())
        held = {seat.identity: seat.connections for seat in self.state.seats.values()}
        held |= {waiting.identity: waiting.connections for waiting in self.state.queue}
        for identity, connections in held.items():
            for connection in connections:
                seen, seen_at = known[connection] = self._sockets.get(connection, clock)
                if clock[0] - seen > SOCKET_SILENT_S:
                    found.append(m.SocketGone(identity, connection, seen_at))
        self._sockets = known
        return found


async def rest(actors: Sequence[Actor]) -> None:
    """Keep snapshots of rooms, let go of them and stop them, in one transaction.

    Letters that come meanwhile are refused as fenced.
    """
    for actor in actors:
        actor.is_gone = True
    if not actors:
        return
    try:
        async with actors[0].sessions.begin() as session:
            released = await ownership.release(session, [actor.claim for actor in actors])
            await journal.save_snapshots(
                session, [actor.state for actor in actors if actor.room_id in released]
            )
        if len(released) < len(actors):
            log.warning("rooms_not_released", count=len(actors) - len(released), error="fenced")
    except DATABASE_AWAY as error:
        # Then the lease decides: it runs out with this process.
        log.warning("rooms_not_released", count=len(actors), error=str(error))
    finally:
        for actor in actors:
            actor.stop()


def _take_in(deliveries: Sequence[m.Delivery], read: list[str]) -> Sequence[m.MediaChanged]:
    """Return what webhooks say, and note in `read` that they are taken in, also those that say nothing."""
    read.extend(delivery.event_id for delivery in deliveries)
    return [delivery.change for delivery in deliveries if delivery.change is not None]


def _joined(one: Letter, other: Letter) -> bool:
    """Let a letter about the inbox say what another says too, and whether it does now."""
    first, second = one.message, other.message
    if not (isinstance(first, m.InboxChanged) and isinstance(second, m.InboxChanged) and one.at == other.at):
        return False
    if not (first.deliveries and second.deliveries):
        # One look at the stored rows answers both: it finds everything that was there when it began.
        one.message = m.InboxChanged()
        return True
    together = {delivery.event_id: delivery for delivery in (*first.deliveries, *second.deliveries)}
    if len(together) > inbox.PAGE:
        return False
    one.message = m.InboxChanged(tuple(together.values()))
    return True


async def _commit(session: AsyncSession) -> None:
    try:
        await session.commit()
    except REFUSED:
        raise
    except DATABASE_AWAY as error:
        raise CommitLostError(str(error)) from error

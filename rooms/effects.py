"""What rooms have done outside a turn: calls to the media server, and the settlement right after the end.

Most effects are wishes of a state (`rooms.wishes.effects`): wanted until an event says that they are done. So they
are started again after a crash, each may run twice, and each is tried until it succeeds or is wished no more.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing.errors import BillingError
from rooms import finish, messages as m
from rooms.media import Media, MediaUnavailableError, room_name

log = structlog.get_logger()

# Between two tries of the same effect: quick for a hiccup, slow enough for a server that starts again.
RETRY_FIRST_S = 0.5
RETRY_LAST_S = 15.0

# A result is a message to the room, and a message can be lost in a full mailbox; then the effect, still wished,
# is carried out again. Sooner would repeat effects whose result is only being written.
REPEAT_AFTER_S = 5.0

Deliver = Callable[[UUID, m.Signal, datetime | None], None]
Spawn = Callable[..., object]


class _Run:
    """One effect under way, or done and waiting for the room to notice."""

    __slots__ = ("done_at", "tried")

    def __init__(self) -> None:
        self.tried = asyncio.Event()
        self.done_at: float | None = None

    @property
    def is_current(self) -> bool:
        return self.done_at is None or time.monotonic() - self.done_at < REPEAT_AFTER_S


class Effects:
    """Runs effects, each of a room at most once at a time, in the registry's task group."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        *,
        media: Media | None,
        now: Callable[[], datetime],
        spawn: Spawn,
        deliver: Deliver,
    ) -> None:
        self._sessions = sessions
        self._media = media
        self._now = now
        self._spawn = spawn
        self._deliver = deliver
        self._running: dict[UUID, dict[m.Effect, _Run]] = {}

    def pursue(
        self,
        room_id: UUID,
        effects: Iterable[m.Effect],
        *,
        cap: int,
        at: datetime | None,
        is_wanted: Callable[[m.Effect], bool],
    ) -> None:
        """Start the effects that are not running yet.

        `at` is the business time of the turn that asked, when that is not now; results come back with it.
        """
        wanted = set(effects)
        running = self._running.get(room_id, {})
        for effect in [effect for effect, run in running.items() if run.done_at is not None]:
            if effect not in wanted:
                self._forget(room_id, effect)
        for effect in wanted:
            running = self._running.setdefault(room_id, {})
            if effect not in running or not running[effect].is_current:
                running[effect] = run = _Run()
                self._spawn(self._run(room_id, effect, cap, at, is_wanted, run))

    async def tried(self, room_id: UUID) -> bool:
        """Wait until every running effect of a room was tried once; say whether there was one to wait for."""
        waiting = [run for run in self._running.get(room_id, {}).values() if not run.tried.is_set()]
        for run in waiting:
            await run.tried.wait()
        return bool(waiting)

    async def _run(
        self,
        room_id: UUID,
        effect: m.Effect,
        cap: int,
        at: datetime | None,
        is_wanted: Callable[[m.Effect], bool],
        run: _Run,
    ) -> None:
        delay_s = RETRY_FIRST_S
        try:
            while not await self._attempt(room_id, effect, cap, at):
                run.tried.set()
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_LAST_S)
                if not is_wanted(effect):
                    break
        finally:
            run.done_at = time.monotonic()
            run.tried.set()
            if not is_wanted(effect):
                self._forget(room_id, effect)

    def _forget(self, room_id: UUID, effect: m.Effect) -> None:
        running = self._running.get(room_id, {})
        running.pop(effect, None)
        if not running:
            self._running.pop(room_id, None)

    async def _attempt(self, room_id: UUID, effect: m.Effect, cap: int, at: datetime | None) -> bool:
        """Carry out an effect and report it; False when it may be tried again."""
        begun = at or self._now()
        result: m.Signal | None
        try:
            result = await self._carry_out(room_id, effect, cap, begun)
        except (MediaUnavailableError, SQLAlchemyError, BillingError, OSError, TimeoutError) as error:
            log.warning("effect_failed", room_id=str(room_id), effect=type(effect).__name__, error=str(error))
            if not isinstance(effect, m.PollMedia):
                return False
            # The next poll comes by itself.
            result = m.PollFailed(effect.generation, begun)
        except Exception:
            # A bug must not take the task group, and with it every room, down.
            log.exception("effect_broken", room_id=str(room_id), effect=type(effect).__name__)
            return True
        if result is not None:
            self._deliver(room_id, result, at)
        return True

    async def _carry_out(self, room_id: UUID, effect: m.Effect, cap: int, at: datetime) -> m.Signal | None:
        if isinstance(effect, m.Settle):
            await finish.settle(self._sessions, room_id, now=at)
            return m.EffectResult(effect)
        if self._media is None:
            return None  # the room was made when there was a media server; none is configured any more
        name = room_name(room_id, effect.generation)
        match effect:
            case m.EnsureMedia():
                await self._media.ensure_room(name, cap=cap)
            case m.DeleteMedia():
                await self._media.delete_room(name)
            case m.RemoveParticipant(_, identity):
                await self._media.remove(name, identity)
            case m.PollMedia(generation):
                return m.Polled(generation, at, await self._media.poll(name))
        return m.EffectResult(effect)

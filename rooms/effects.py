"""What rooms have done outside a turn: calls to the media server, and the settlement right after the end.

Most effects are wishes of a state (`rooms.wishes.effects`): wanted until an event says that they are done. So they
are started again after a crash, each may run twice, and each is tried until it succeeds or is wished no more.
"""

import asyncio
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

Deliver = Callable[[UUID, m.Signal, datetime | None], None]
Spawn = Callable[..., object]


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
        self._running: dict[UUID, dict[m.Effect, asyncio.Event]] = {}

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
        for effect in effects:
            running = self._running.setdefault(room_id, {})
            if effect not in running:
                running[effect] = tried = asyncio.Event()
                self._spawn(self._run(room_id, effect, cap, at, is_wanted, tried))

    async def tried(self, room_id: UUID) -> bool:
        """Wait until every running effect of a room was tried once; say whether there was one to wait for."""
        waiting = [tried for tried in self._running.get(room_id, {}).values() if not tried.is_set()]
        for tried in waiting:
            await tried.wait()
        return bool(waiting)

    async def _run(
        self,
        room_id: UUID,
        effect: m.Effect,
        cap: int,
        at: datetime | None,
        is_wanted: Callable[[m.Effect], bool],
        tried: asyncio.Event,
    ) -> None:
        delay_s = RETRY_FIRST_S
        try:
            while not await self._attempt(room_id, effect, cap, at):
                tried.set()
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_LAST_S)
                if not is_wanted(effect):
                    return
        finally:
            tried.set()
            running = self._running[room_id]
            del running[effect]
            if not running:
                del self._running[room_id]

    async def _attempt(self, room_id: UUID, effect: m.Effect, cap: int, at: datetime | None) -> bool:
        """Carry out an effect and report it; False when it may be tried again."""
        try:
            result = await self._carry_out(room_id, effect, cap, at or self._now())
        except (MediaUnavailableError, SQLAlchemyError, BillingError, OSError, TimeoutError) as error:
            log.warning("effect_failed", room_id=str(room_id), effect=type(effect).__name__, error=str(error))
            return isinstance(effect, m.PollMedia)  # the next poll comes by itself
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

"""One commit for the turns of many rooms: what PostgreSQL and Python do for a commit is done once for all of them.

While one group is on its way, the turns that come collect for the next: an idle process commits at once, a busy one in
larger groups. Each room has at most one turn here, so the order within a room is its actor's.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from uuid import UUID

import asyncpg
import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import journal
from rooms.held import LOST, HeldConnection
from rooms.journal import Claim, Write
from rooms.state import State

log = structlog.get_logger()

# Two groups at once: one is written while the other is decided and answered. More would only make them smaller.
LANES = 2
# A group is answered in one go; so many turns take a few ms, in which nobody else is served.
GROUP_MAX = 64
# SQLSTATE classes after which nobody but the database knows whether it committed: the connection ended.
_ENDED = ("08", "57P")


class CommitLostError(Exception):
    """The connection was lost in the commit; whether it was made only the database knows."""


class NotConnectedError(OSError):
    """The group could not reach the database. Nothing of it happened."""


class NotTogetherError(Exception):
    """The group did not write this turn. Nothing of it happened; on its own it may succeed, or is told why not."""


class Turn(msgspec.Struct, frozen=True):
    """A light turn that waits for its commit."""

    claim: Claim
    write: Write
    settle: Callable[[Exception | None], None]
    """Hears once that it is committed (None), or what became of it; must not raise."""


class Commits:
    """Writes the light turns of a process.

    Args:
        sessions: Their engine's connections are used.
        node_id: The process.
        recorded: Called after each commit with events for the rest of the product.
    """

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], node_id: UUID, recorded: Callable[[], None]
    ) -> None:
        self._sessions = sessions
        self._node_id = node_id
        self._recorded = recorded
        self._waiting: deque[Turn] = deque()
        self._has_mail = asyncio.Event()

    def add(self, turn: Turn) -> None:
        """Have a turn committed with the next group."""
        self._waiting.append(turn)
        self._has_mail.set()

    async def run(self) -> None:
        """Write whatever comes, on a connection of its own; cancelling it is the end."""
        lane = _Lane(self._sessions, self._node_id, self._recorded)
        try:
            while True:
                await self._has_mail.wait()
                await lane.write(self._next())
        finally:
            await lane.close()

    def _next(self) -> list[Turn]:
        group = [self._waiting.popleft() for _ in range(min(GROUP_MAX, len(self._waiting)))]
        if not self._waiting:
            self._has_mail.clear()
        return group


class _Lane:
    """One connection and the group that is on its way over it."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], node_id: UUID, recorded: Callable[[], None]
    ) -> None:
        self._sessions = sessions
        self._node_id = node_id
        self._recorded = recorded
        self._held = HeldConnection(sessions)

    async def write(self, group: list[Turn]) -> None:
        """Commit a group and tell each turn what became of it."""
        if not group:
            return
        try:
            raw = await self._held.open()
        except Exception as error:  # noqa: BLE001  (whatever it is, nothing has been written yet)
            _settle(group, NotConnectedError(str(error)))
            return
        try:
            written = await journal.append_together(
                raw, self._node_id, [(turn.claim, turn.write) for turn in group]
            )
        except asyncpg.PostgresError as error:
            if str(error.sqlstate).startswith(_ENDED):
                await self._lose(group, error)
            else:
                # One of them does not fit: each for itself, so that it harms nobody else.
                log.warning("group_refused", rooms=len(group), sqlstate=error.sqlstate, error=str(error))
                _settle(group, NotTogetherError())
        except LOST as error:
            await self._lose(group, error)
        except Exception as error:  # noqa: BLE001  (a turn that cannot be encoded meets it again on its own)
            log.warning("group_not_made", rooms=len(group), error=repr(error))
            _settle(group, NotTogetherError())
        else:
            if any(decision.domain for turn in group for _, decision in turn.write.decisions):
                self._recorded()
            _settle([turn for turn in group if turn.claim.room_id in written], None)
            _settle([turn for turn in group if turn.claim.room_id not in written], NotTogetherError())
            await self._save([turn.write.after for turn in group if turn.write.is_milestone])

    async def close(self) -> None:
        """Let go of the connection; what is on its way over it is cut off."""
        await self._held.close()

    async def _lose(self, group: list[Turn], error: Exception) -> None:
        await self._held.close()
        lost = CommitLostError(str(error))
        lost.__cause__ = error
        _settle(group, lost)

    async def _save(self, states: list[State]) -> None:
        """Write snapshots after everybody was answered. They are a shorter way only: without them nothing is lost."""
        if not states:
            return
        try:
            async with self._sessions.begin() as session:
                await journal.save_snapshots(session, states)
        except Exception as error:  # noqa: BLE001  (a lane must not end over a shorter way)
            log.warning("snapshots_not_saved", rooms=len(states), error=str(error))


def _settle(group: list[Turn], outcome: Exception | None) -> None:
    for turn in group:
        turn.settle(outcome)

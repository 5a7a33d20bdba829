"""The inbox of the media server's events: each stored once by its id, many in one commit, then its room is told.

Whoever finds no commit under way begins one, with everything that came meanwhile. So a quiet inbox stores at once, and
a flood pays for one commit where it would have paid for hundreds.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms.messages import InboxChanged
from server import outage
from server.errors import OverloadedError

log = structlog.get_logger()

# A delivery that waits holds up everything else of its room at LiveKit, which drops what is older than 30 s.
STORE_TIMEOUT_S = 2.0
# Larger groups save nothing more per event and let the first wait for the last.
GROUP_MAX = 200
# While deliveries come faster than they are stored, a room is told once for all of its own that came in this time: it
# reads up to 200 in one turn, and a turn costs as much as several deliveries. Longer would show people late who is in.
TELL_EVERY_S = 0.5

AWAY = (SQLAlchemyError, OSError, TimeoutError)

# One array a column, whatever the number of rows: one statement to prepare, one line to send.
_COLUMNS = {
    "event_id": "text",
    "room_id": "uuid",
    "generation": "bigint",
    "room_name": "text",
    "room_sid": "text",
    "type": "text",
    "identity": "text",
    "participant_sid": "text",
    "counted": "boolean",
    "created_at": "timestamptz",
    "joined_at": "timestamptz",
    "reason": "text",
    "body": "text",
    "received_at": "timestamptz",
}
_INSERT = text(f"""
    insert into media_event ({", ".join(_COLUMNS)})
    select {", ".join("cast(body as jsonb)" if name == "body" else name for name in _COLUMNS)}
    from unnest({", ".join(f"cast(:{name} as {kind}[])" for name, kind in _COLUMNS.items())})
        as e ({", ".join(_COLUMNS)})
    on conflict (event_id) do nothing
""")  # noqa: S608  (made of the names above alone)

Row = Mapping[str, Any]
"""One event: the columns above, `body` as JSON."""


class _Group:
    """Events that are stored in one commit."""

    __slots__ = ("ended", "rows", "stored")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.stored: set[str] = set()
        """Ids of those that are, known once `ended`."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Inbox:
    """Stores events and tells their rooms; `tell` must not block."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], *, tell: Callable[[UUID, InboxChanged], None]
    ) -> None:
        self._sessions = sessions
        self._tell = tell
        self._open: _Group | None = None
        """The group that still takes events."""
        self._commit = asyncio.Lock()
        self._untold: set[UUID] = set()
        self._told_at = 0.0

    async def store(self, row: Row) -> None:
        """Commit an event and tell its room, also of a repeat: the first may have been stored just before a crash.

        Raises:
            OverloadedError: The database is away or too slow; LiveKit will send the event again.
        """
        group = self._open
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                if group is None or len(group.rows) == GROUP_MAX:
                    group = self._open = _Group()
                    group.rows.append(row)
                    await self._lead(group)
                else:
                    group.rows.append(row)
                    await asyncio.shield(group.ended)
        except AWAY as error:
            log.warning("livekit_webhook_not_stored", type=row["type"], error=type(error).__name__)
            raise OverloadedError("The event could not be stored now.") from error
        if row["event_id"] not in group.stored:
            raise OverloadedError("The event could not be stored now.")

    async def _lead(self, group: _Group) -> None:
        """Commit a group once the commit before it has ended. Whatever ends this ends the group: it is sent again."""
        try:
            async with self._commit:
                self._close(group)
                await self._insert(group)
        finally:
            self._close(group)
            group.ended.set_result(None)
            self._untold.update(
                row["room_id"]
                for row in group.rows
                if row["room_id"] is not None and row["event_id"] in group.stored
            )
            self._tell_rooms()

    def _close(self, group: _Group) -> None:
        if self._open is group:
            self._open = None

    async def _insert(self, group: _Group) -> None:
        try:
            await self._insert_rows(group, group.rows)
        except DBAPIError as error:
            if outage.is_away(error) or len(group.rows) == 1:
                raise
            # The database is there and refuses: one row is at fault, not its neighbours.
            for row in group.rows:
                await self._insert_alone(group, row)

    async def _insert_alone(self, group: _Group, row: Row) -> None:
        try:
            await self._insert_rows(group, [row])
        except DBAPIError as error:
            if outage.is_away(error):
                raise
            log.warning("livekit_webhook_refused", type=row["type"], sqlstate=outage.state_of(error))

    async def _insert_rows(self, group: _Group, rows: Sequence[Row]) -> None:
        # In one order on every node: two that store the same events would else wait for each other.
        rows = sorted(rows, key=_event_id)
        async with self._sessions.begin() as session:
            await session.execute(_INSERT, {name: [row[name] for row in rows] for name in _COLUMNS})
        group.stored.update(row["event_id"] for row in rows)

    def _tell_rooms(self) -> None:
        """Tell the rooms at once, or, while others wait to be stored, after the next commit: theirs are told with it."""
        now = time.monotonic()
        if self._open is not None and now - self._told_at < TELL_EVERY_S:
            return
        rooms, self._untold, self._told_at = self._untold, set(), now
        for room_id in rooms:
            self._tell(room_id, InboxChanged())


def _event_id(row: Row) -> str:
    event_id: str = row["event_id"]
    return event_id

"""The inbox of the media server's events: each stored once by its id, many in one commit, then its room is told.

Whoever finds no commit under way begins one, with everything that came meanwhile. So a quiet inbox stores at once, and
a flood pays for one commit where it would have paid for hundreds.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from rooms import inbox
from rooms.held import LOST
from rooms.inbox import Stored
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

AWAY = (asyncpg.PostgresError, *LOST)


class _Group:
    """Events that are stored in one commit."""

    __slots__ = ("ended", "new", "stored", "webhooks")

    def __init__(self) -> None:
        self.webhooks: list[Stored] = []
        self.stored: set[str] = set()
        """Ids of those that are, known once `ended`."""
        self.new: set[str] = set()
        """Ids of those that were not there before."""
        self.ended = asyncio.Event()


class Inbox:
    """Stores events and tells their rooms; `tell` must not block."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], *, tell: Callable[[UUID, InboxChanged], None]
    ) -> None:
        engine = sessions.kw["bind"]
        assert isinstance(engine, AsyncEngine), "sessions of a process have an engine"
        self._engine = engine
        self._tell = tell
        self._open: _Group | None = None
        """The group that still takes events."""
        self._commit = asyncio.Lock()
        self._untold: dict[UUID, list[Stored] | None] = {}
        """What each room has not heard of; None: that there is something."""
        self._told_at = 0.0

    async def store(self, webhook: Stored) -> None:
        """Commit an event and tell its room, also of a repeat: the first may have been stored just before a crash.

        Raises:
            OverloadedError: The database is away or too slow; LiveKit will send the event again.
        """
        group = self._open
        try:
            if group is None or len(group.webhooks) == GROUP_MAX:
                group = self._open = _Group()
                group.webhooks.append(webhook)
                async with asyncio.timeout(STORE_TIMEOUT_S):
                    await self._lead(group)
            else:
                group.webhooks.append(webhook)
                # Whoever leads ends the group in time, and began before us.
                await group.ended.wait()
        except AWAY as error:
            log.warning("livekit_webhook_not_stored", type=webhook.type, error=type(error).__name__)
            raise OverloadedError("The event could not be stored now.") from error
        if webhook.event_id not in group.stored:
            raise OverloadedError("The event could not be stored now.")

    async def _lead(self, group: _Group) -> None:
        """Commit a group once the commit before it has ended. Whatever ends this ends the group: it is sent again."""
        try:
            async with self._commit:
                self._close(group)
                await self._insert(group)
        finally:
            self._close(group)
            group.ended.set()
            self._note(group)
            self._tell_rooms()

    def _close(self, group: _Group) -> None:
        if self._open is group:
            self._open = None

    async def _insert(self, group: _Group) -> None:
        try:
            await self._insert_together(group, group.webhooks)
        except asyncpg.PostgresError as error:
            if outage.is_away(error) or len(group.webhooks) == 1:
                raise
            # The database is there and refuses: one row is at fault, not its neighbours.
            for webhook in group.webhooks:
                await self._insert_alone(group, webhook)

    async def _insert_alone(self, group: _Group, webhook: Stored) -> None:
        try:
            await self._insert_together(group, [webhook])
        except asyncpg.PostgresError as error:
            if outage.is_away(error):
                raise
            log.warning("livekit_webhook_refused", type=webhook.type, sqlstate=outage.state_of(error))

    async def _insert_together(self, group: _Group, webhooks: Sequence[Stored]) -> None:
        # One statement is its own transaction: no session, no begin, no commit.
        async with self._engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None, "an open connection has its driver's"
            group.new |= await inbox.store(raw, webhooks)
        group.stored.update(webhook.event_id for webhook in webhooks)

    def _note(self, group: _Group) -> None:
        """Keep for each room what of a group is its own."""
        new = group.new.copy()
        for webhook in group.webhooks:
            room_id, event_id = webhook.room_id, webhook.event_id
            if room_id is None or event_id not in group.stored:
                continue
            untold = self._untold.setdefault(room_id, [])
            if event_id in new:
                new.remove(event_id)
                if untold is not None:
                    untold.append(webhook)
            elif event_id not in group.new:
                # A repeat: whether the first was read, only its row knows.
                self._untold[room_id] = None

    def _tell_rooms(self) -> None:
        """Tell the rooms at once, or, while others wait to be stored, after the next commit: theirs are told with it."""
        now = time.monotonic()
        if self._open is not None and now - self._told_at < TELL_EVERY_S:
            return
        rooms, self._untold, self._told_at = self._untold, {}, now
        for room_id, webhooks in rooms.items():
            deliveries = inbox.in_order(webhooks or ())
            for start in range(0, len(deliveries) or 1, inbox.PAGE):
                self._tell(room_id, InboxChanged(tuple(deliveries[start : start + inbox.PAGE])))

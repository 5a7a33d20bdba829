"""The channel of open talks: whoever shows the list is told which talk came into it, changed in it, or left it.

What rooms say goes by the relay, on whichever node; the talks it is about are read a moment later, once for all of them, and
shown as they are by then. Nothing of this is stored: who was away asks for the list again.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms.messages import RoomClosed, RoomKind, RoomOpened, RoomUpdated
from server import outage
from server.config import Settings
from server.features.talks import handlers
from server.features.talks.messages import TalkChanged, TalkGone
from server.features.talks.models import Talk
from server.gateway.protocol import Publication
from server.reaction import Happened, Post, Together

log = structlog.get_logger()

CHANNEL = "lobby:talks"
# Four people who come at once are one change of the list; nobody who looks at one sees a quarter of a second.
TOGETHER_S = 0.25
# Talks read in one query; the rest a moment later.
MOST = 200
# While the database is away.
AWAY_S = 1.0


class Lobby:
    """Tells of the open talks that change.

    Args:
        sessions: Only read.
        settings: For the talks' links.
        publish: Shows something on a channel, on every node.
        wall: The wall clock.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        settings: Settings,
        publish: Callable[[str, Sequence[Publication]], None],
        wall: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._publish = publish
        self._wall = wall
        # By room, in their order: whether everybody may know of the talk even if it is private by now.
        self._changed: dict[UUID, bool] = {}
        self._awake = asyncio.Event()

    @property
    def hears(self) -> Mapping[type[msgspec.Struct], tuple[Together, ...]]:
        """Return what the relay tells it."""
        return dict.fromkeys((RoomOpened, RoomUpdated, RoomClosed, TalkChanged), (self.note,))

    async def note(self, _session: AsyncSession, happened: Sequence[Happened]) -> Sequence[Sequence[Post]]:
        """Remember the talks that changed."""
        for one in happened:
            event = one.event
            if isinstance(event, TalkChanged):
                self._note(event.room_id, was_public=event.was_public)
            elif event.kind is RoomKind.TALK:
                self._note(event.room_id, was_public=False)
        if self._changed:
            self._awake.set()
        return [()] * len(happened)

    async def run(self) -> None:
        """Tell of what is noted, for ever."""
        while True:
            await self._awake.wait()
            await asyncio.sleep(TOGETHER_S)
            try:
                await self.tell()
            except Exception as error:
                if not (outage.is_away(error) or outage.may_succeed_again(error)):
                    log.exception("lobby_failed")
                await asyncio.sleep(AWAY_S)
            if not self._changed:
                self._awake.clear()

    async def tell(self) -> None:
        """Tell of the talks that were noted, as they are now."""
        noted = dict(itertools.islice(self._changed.items(), MOST))
        # Before they are read: what changes meanwhile is told once more.
        for room_id in noted:
            del self._changed[room_id]
        try:
            async with self._sessions() as session:
                found = await handlers.find_all(session, Talk.room_id.in_(noted))
        except Exception:
            for room_id, was_public in noted.items():
                self._note(room_id, was_public=was_public)
            raise
        now_ms = int(self._wall().timestamp() * 1000)
        shown = [
            Publication(None, ev, now_ms, msgspec.json.encode(data))
            for ev, data in (self._shown(one) for one in found if one[0].is_public or noted[one[0].room_id])
        ]
        if shown:
            self._publish(CHANNEL, shown)

    def _note(self, room_id: UUID, *, was_public: bool) -> None:
        self._changed[room_id] = was_public or self._changed.get(room_id, False)

    def _shown(self, found: handlers.Found) -> tuple[str, msgspec.Struct]:
        if handlers.is_listed(found):
            return "talk.listed", handlers.listed(found, self._settings)
        return "talk.unlisted", TalkGone(found[0].id)

"""What never changes of rooms, remembered. However many ask for one at once, the database is asked once."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import journal
from rooms.actor import DATABASE_AWAY
from rooms.errors import RoomError
from rooms.journal import Nature

Reading = Nature | Exception
Begin = Callable[[Coroutine[Any, Any, Reading]], asyncio.Task[Reading]]

# Some MB, and more rooms than are in use through one node at a time.
KNOWN_MAX = 10_000


class Natures:
    """The natures of rooms that do not run here; `begin` runs a reading beside everything else."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], begin: Begin) -> None:
        self._sessions = sessions
        self._begin = begin
        self._known: OrderedDict[UUID, Nature] = OrderedDict()
        self._readings: dict[UUID, asyncio.Task[Reading]] = {}

    async def of(self, room_id: UUID) -> Nature:
        """Return what never changes of a room.

        Raises:
            RoomNotFoundError: There is no such room.
        """
        known = self._known.get(room_id)
        if known is not None:
            self._known.move_to_end(room_id)
            return known
        reading = self._readings.get(room_id)
        if reading is None:
            reading = self._readings[room_id] = self._begin(self._read(room_id))
        # Shielded: whoever waits first may give up, the others still want to know.
        found = await asyncio.shield(reading)
        if isinstance(found, Exception):
            raise found
        return found

    async def _read(self, room_id: UUID) -> Reading:
        try:
            async with self._sessions() as session:
                found = await journal.nature(session, room_id)
        except (RoomError, *DATABASE_AWAY) as error:
            return error
        finally:
            del self._readings[room_id]
        self._known[room_id] = found
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return found

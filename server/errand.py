"""What rooms are asked once a change is committed, and how.

The database decides and the rooms follow: a command commits first and asks no room while it holds a lock. It asks
right afterwards; whether or not it lived to do so, the relay asks again from the committed event, until the rooms
have answered. So each errand may run twice, and reads what is true when it runs.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from rooms import messages as m
from rooms.errors import RoomError
from rooms.registry import Registry

log = structlog.get_logger()

Errand = Callable[[Any], Awaitable[None]]
"""`async def follow(event)`: what follows an event outside of the database; the argument is the event's own Struct."""

Errands = Mapping[type[msgspec.Struct], Errand]
"""What the relay does after the reactions, by the event's type."""


async def at_once(errand: Awaitable[None]) -> None:
    """Run an errand for a caller who would like to see it done; the relay repeats it in any case."""
    try:
        await errand
    except (RoomError, SQLAlchemyError, OSError) as error:
        log.info("errand_left_to_relay", why=str(error))


async def close_rooms(rooms: Registry, room_ids: Iterable[UUID], *, actor: str, reason: str) -> None:
    """Close the rooms of cancelled lessons.

    Raises:
        RoomError: A room cannot answer now.
    """
    for room_id in room_ids:
        if not await ask(rooms, room_id, m.CancelLesson(reason, actor)):
            # It began in the very moment. Everybody has their money back, so nobody is kept in it.
            await ask(rooms, room_id, m.EndLesson(m.Identity(actor), admin=True))


async def ask(rooms: Registry, room_id: UUID, command: m.Command) -> bool:
    """Ask a room; return False when what it has become forbids it.

    Raises:
        RoomError: The room cannot answer now.
    """
    try:
        await rooms.ask(room_id, command)
    except RoomError as error:
        if error.kind != "conflict":
            raise
        return False
    return True

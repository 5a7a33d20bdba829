"""What a reaction gets and gives: the row type of `server/reactions.py`.

A reaction runs after the commit of the event it belongs to, in a transaction of the relay. It may run twice (a
crash between its commit and the mark), so what it writes is keyed by `Occasion.key`.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession


class Occasion(msgspec.Struct, frozen=True):
    """The surroundings of one committed event while its reactions run; nobody but the relay commits."""

    session: AsyncSession
    key: str
    """Names the event for ever: the same at each repetition."""
    at: datetime
    """When it happened, business time."""


class Post(msgspec.Struct, frozen=True):
    """Something to publish on a channel once the reactions are committed."""

    channel: str
    ev: str
    data: msgspec.Raw
    """JSON."""


Reaction = Callable[[Occasion, Any], Awaitable[Sequence[Post]]]
"""`async def react(occasion, event) -> posts`; the second argument is the event's own Struct."""


class Happened(NamedTuple):
    """One of several events of a type."""

    occasion: Occasion
    event: Any
    """Its own Struct."""


Together = Callable[[AsyncSession, Sequence[Happened]], Awaitable[Sequence[Sequence[Post]]]]
"""`async def react(session, happened) -> posts of each`: one reaction to all events of a type that the relay has at hand,
in their order. For what comes by the hundred: a lesson that ends settles a hold of everybody in it.
"""


def to_user(user_id: UUID | str, ev: str, data: object) -> Post:
    """Return a post for one person's own channel; `data` is anything that JSON can say."""
    raw = data if isinstance(data, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(data))
    return Post(f"user:{user_id}", ev, raw)

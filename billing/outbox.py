"""Where events wait for publication: a row in the transaction of what happened (DESIGN §1).

It stands in the lowest package so that every package may use it. `server/relay.py` reads the committed rows.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncSession

from billing.models import Outbox
from billing.rows import Rows

# Set in `session.info`, so that the edge knows to wake the relay after its commit.
RECORDED = "outbox_recorded"

# In `session.info` of every session of a process: its node id. Another node relays the row only when it was left.
NODE = "node"


def record(session: AsyncSession, event: msgspec.Struct, *, at: datetime) -> None:
    """Add an event to the session's transaction; events of one transaction keep their order.

    Args:
        session: Commits the event together with what happened.
        event: Tagged; the tag is the row's type, and the fields its data.
        at: Business time of what happened.
    """
    columns = row(event)
    # As JSON and back: an event may carry ready-made JSON (msgspec.Raw), which to_builtins does not know.
    data = msgspec.json.decode(columns["data"])
    session.add(Outbox(type=columns["type"], data=data, at=at, node=session.info.get(NODE)))
    recorded(session)


def row(event: msgspec.Struct) -> dict[str, Any]:
    """Return `type` and `data` (JSON) of an event's row, for a statement that writes many at once."""
    tag = event.__struct_config__.tag
    assert isinstance(tag, str), "an event is a tagged struct"
    return {"type": tag, "data": msgspec.Raw(msgspec.json.encode(event))}


def rows(session: AsyncSession, events: Sequence[msgspec.Struct], *, at: datetime) -> Rows:
    """Return events as rows for the statement that moves the money they tell of; they keep their order."""
    columns = [row(event) for event in events]
    recorded(session)
    return Rows(
        cast(Table, Outbox.__table__),
        {"type": [one["type"] for one in columns], "data": [one["data"] for one in columns]},
        {"at": at, "node": session.info.get(NODE)},
    )


def recorded(session: AsyncSession) -> None:
    """Note that the session's transaction has events, so that its commit wakes the relay."""
    session.info[RECORDED] = True

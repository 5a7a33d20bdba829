"""Webhooks of the media server as they are stored: each once by its id, unread until its room has taken it in."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from rooms import media, messages as m
from rooms.messages import Delivery, Evidence, Identity
from rooms.models import MediaEvent

# One turn takes in at most so many webhooks; the rest comes with the next.
PAGE = 200


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as a row of `media_event`. Times are on the business clock."""

    event_id: str
    room_id: UUID | None
    generation: int | None
    room_name: str
    room_sid: str | None
    type: str
    identity: Identity | None
    participant_sid: str | None
    counted: bool
    created_at: datetime
    joined_at: datetime | None
    reason: str | None
    received_at: datetime
    body: msgspec.Raw = msgspec.Raw(b"{}")
    """JSON as received; left out where a row is only read."""


_encoder = msgspec.json.Encoder()
_READ = tuple(name for name in Stored.__struct_fields__ if name != "body")

# In one order on every node: two that store the same events would else wait for each other.
_STORE = """
    insert into media_event (
        event_id, room_id, generation, room_name, room_sid, type, identity, participant_sid, counted, created_at,
        joined_at, reason, received_at, body
    )
    select * from json_to_recordset(cast($1 as json)) as e (
        event_id text, room_id uuid, generation bigint, room_name text, room_sid text, type text, identity text,
        participant_sid text, counted boolean, created_at timestamptz, joined_at timestamptz, reason text,
        received_at timestamptz, body jsonb
    )
    order by event_id
    on conflict (event_id) do nothing
    returning event_id
"""


async def store(connection: asyncpg.Connection, webhooks: Sequence[Stored]) -> set[str]:
    """Commit webhooks and return the ids of those that were not there before."""
    found = await connection.fetch(_STORE, _encoder.encode(webhooks).decode())
    return {row[0] for row in found}


async def unread(session: AsyncSession, room_id: UUID, *, limit: int) -> list[Delivery]:
    """Return the unread webhooks of a room in order of their happening."""
    columns = [MediaEvent.__table__.c[name] for name in _READ]
    query = (
        select(*columns)
        .where(MediaEvent.room_id == room_id, MediaEvent.read_at.is_(None))
        .order_by(MediaEvent.created_at, MediaEvent.received_at, MediaEvent.event_id)
        .limit(limit)
    )
    rows = await session.execute(query)
    return [delivery(Stored(**dict(zip(_READ, row, strict=True)))) for row in rows]


async def has_unread(session: AsyncSession, room_id: UUID) -> bool:
    """Return whether webhooks of a room wait to be read."""
    return bool(await unread(session, room_id, limit=1))


async def give_up(session: AsyncSession, event_ids: Sequence[str]) -> None:
    """Note that webhooks never can be taken in. Those that were are noted by the turn that did (`rooms.journal`)."""
    rows = update(MediaEvent).where(MediaEvent.event_id.in_(event_ids))
    await session.execute(rows.values(read_at=func.now()))


def in_order(webhooks: Iterable[Stored]) -> list[Delivery]:
    """Return what webhooks say, in order of their happening."""
    return [delivery(webhook) for webhook in sorted(webhooks, key=_moment)]


def delivery(webhook: Stored) -> Delivery:
    """Return what a stored webhook says."""
    kind = media.EVIDENCE_KINDS.get(webhook.type)
    if kind is None or webhook.generation is None:
        return Delivery(webhook.event_id)
    evidence = Evidence(
        kind=kind,
        at=webhook.created_at,
        identity=webhook.identity,
        session=webhook.participant_sid or "",
        generation=webhook.generation,
        reason=webhook.reason,
        room_sid=webhook.room_sid,
        joined_at=webhook.joined_at,
        received_at=webhook.received_at,
        ref=webhook.event_id,
    )
    return Delivery(webhook.event_id, m.MediaChanged(evidence, webhook.counted))


def _moment(webhook: Stored) -> tuple[datetime, datetime, str]:
    return webhook.created_at, webhook.received_at, webhook.event_id

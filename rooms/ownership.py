"""Which node runs a room: leases of nodes, claims on rooms, and the search for rooms nobody runs.

A lease is only a hint, kept by the database's clock. What protects a room is the fence that every write checks
(`rooms.journal`), so a node that slept through its lease does no harm.
"""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVarTuple
from uuid import UUID

import msgspec
from sqlalchemy import (
    CompoundSelect,
    Select,
    Uuid,
    any_,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import ColumnElement

from rooms.journal import Claim
from rooms.models import MediaEvent, Node, Room, RoomOwner, RoomTimer

Columns = TypeVarTuple("Columns")

# So many rooms are adopted between two looks for more: a dead node's thousands are shared by those that live on.
ADOPT_PAGE = 50
# Out of so many: more, or an order, and PostgreSQL reads the owners of all rooms instead of looking up those it needs.
ADOPT_FROM = 2 * ADOPT_PAGE
# A room is told of its webhooks at once, under a flood within half a second. What is unread for longer was not heard of;
# a smaller number would have rooms read rows that they were just handed.
UNTOLD_AFTER = timedelta(seconds=2)
# Rows of dead nodes say since when a room was without owner; after a day nothing asks any more.
NODE_KEPT = timedelta(days=1)


class Leases(msgspec.Struct, frozen=True):
    """How fast a dead node is noticed. Tests shorten them together."""

    beat_s: float = 2.0
    """A beat is one small write a node; four may be lost before the lease is."""
    ttl_s: float = 10.0
    """Shorter would take rooms from nodes that only wait for the database; longer keeps people waiting."""
    pause_s: float = 7.0
    """A node that could not renew for this long stops working before others may start."""
    scan_s: float = 2.0
    """With the lease this gives 12 s from a crash to the next answer."""


class Elsewhere(msgspec.Struct, frozen=True):
    """A living node runs the room."""

    node_id: UUID
    lease_left: timedelta
    """By then the node has renewed its lease, or anybody may take the room."""


class Taken(msgspec.Struct, frozen=True):
    """The room is ours now."""

    claim: Claim
    silent_for: timedelta | None
    """Time since the last sign of life of the owner before; None when nobody had it, or we ourselves."""


async def beat(session: AsyncSession, node_id: UUID, address: str, ttl_s: float) -> None:
    """Renew, or begin, this node's lease."""
    values = {
        "address": address,
        "renewed_at": func.clock_timestamp(),
        "expires_at": func.clock_timestamp() + timedelta(seconds=ttl_s),
    }
    statement = postgresql.insert(Node).values(id=node_id, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=[Node.id], set_=values))


async def outlive(session: AsyncSession, node_id: UUID | None) -> None:
    """End the lease of a node that is dead for certain; None: of every node.

    Certain is who has seen the process end, and, of all, who holds the data dir's lock before it starts the first.
    """
    living = Node.expires_at > func.clock_timestamp()
    dead = living if node_id is None else living & (Node.id == node_id)
    await session.execute(update(Node).where(dead).values(expires_at=func.clock_timestamp()))


async def retire(session: AsyncSession, node_id: UUID) -> None:
    """End this node's lease and let go of what it still has."""
    await session.execute(
        update(RoomOwner)
        .where(RoomOwner.node_id == node_id)
        .values(node_id=None, released_at=func.clock_timestamp())
    )
    await session.execute(delete(Node).where(Node.id == node_id))


async def forget_old_nodes(session: AsyncSession) -> None:
    """Remove the rows of nodes that are long dead and own nothing any more."""
    owns = exists().where(RoomOwner.node_id == Node.id)
    old = Node.expires_at < func.clock_timestamp() - NODE_KEPT
    await session.execute(delete(Node).where(old, ~owns))


async def claim(
    session: AsyncSession, room_ids: Sequence[UUID], node_id: UUID
) -> dict[UUID, Taken | Elsewhere]:
    """Take rooms unless living other nodes have them. Every claim raises the fence.

    A single room that somebody is about to take, or to write into, is waited for. Of several, such are passed over, so
    that none waits for another's: they are missing from the answer, as are rooms that do not exist.
    """
    # First the lock, then the look. One statement that waits for another node's claim would take the new owner from
    # the row it waited for, and whether that node lives from before the wait: it would take the owner for dead.
    lock = select(RoomOwner.room_id).where(_among(RoomOwner.room_id, room_ids))
    locked = list(await session.scalars(lock.with_for_update(key_share=True, skip_locked=len(room_ids) > 1)))
    query = (
        select(
            RoomOwner.room_id,
            RoomOwner.node_id,
            RoomOwner.fence,
            Node.expires_at - func.clock_timestamp(),
            # An owner that died was last alive at its last beat; one that let go, when it did.
            func.clock_timestamp() - func.coalesce(RoomOwner.released_at, Node.renewed_at),
        )
        .outerjoin(Node, Node.id == RoomOwner.node_id)
        .where(_among(RoomOwner.room_id, locked))
    )
    found: dict[UUID, Taken | Elsewhere] = {}
    for room_id, owner, fence, lease_left, silent_for in await session.execute(query):
        if owner is not None and owner != node_id and lease_left is not None and lease_left > timedelta():
            found[room_id] = Elsewhere(owner, lease_left)
        else:
            claimed = Claim(room_id, node_id, fence + 1)
            found[room_id] = Taken(claimed, None if owner == node_id else silent_for)
    taken = [room_id for room_id, one in found.items() if isinstance(one, Taken)]
    if taken:
        rows = update(RoomOwner).where(_among(RoomOwner.room_id, taken))
        await session.execute(
            rows.values(node_id=node_id, fence=RoomOwner.fence + 1, released_at=None),
            execution_options={"synchronize_session": False},
        )
    return found


async def next_end(session: AsyncSession) -> timedelta | None:
    """Return after what time the first lease of a node runs out, if it is not renewed."""
    left = func.min(Node.expires_at) - func.clock_timestamp()
    found: timedelta | None = await session.scalar(select(left).where(_is_alive()))
    return found


_RELEASE = text("""
    update room_owner o set node_id = null, released_at = clock_timestamp()
    from unnest(cast(:room_ids as uuid[]), cast(:node_ids as uuid[]), cast(:fences as bigint[]))
        as e (room_id, node_id, fence)
    where o.room_id = e.room_id and o.node_id = e.node_id and o.fence = e.fence
    returning o.room_id
""")


async def release(session: AsyncSession, ours: Sequence[Claim]) -> set[UUID]:
    """Let go of rooms; whoever needs one next takes it at once. Return those that were still ours."""
    rows = await session.scalars(
        _RELEASE,
        {
            "room_ids": [claim.room_id for claim in ours],
            "node_ids": [claim.node_id for claim in ours],
            "fences": [claim.fence for claim in ours],
        },
    )
    return set(rows)


async def abandoned(session: AsyncSession, *, now: datetime, wall: datetime) -> list[UUID]:
    """Return rooms that nobody runs and that have people, something due or unread news."""
    # Three indexed looks instead of one condition: closed rooms pile up and must cost nothing here.
    busy: CompoundSelect[UUID | None] = union_all(
        select(Room.id).where(Room.seated > 0),
        select(RoomTimer.room_id).where(_due(now=now, wall=wall)),
        select(MediaEvent.room_id).where(MediaEvent.read_at.is_(None)),
    )
    query = (
        select(RoomOwner.room_id)
        .outerjoin(Node, Node.id == RoomOwner.node_id)
        .where(RoomOwner.room_id.in_(busy), or_(RoomOwner.node_id.is_(None), ~_is_alive()))
        .with_for_update(of=RoomOwner, key_share=True, skip_locked=True)
        .limit(ADOPT_FROM)
    )
    found = list(await session.scalars(query))
    # Nodes that look at the same time take different ones, and rooms that nobody can read keep no others waiting.
    return random.sample(found, min(len(found), ADOPT_PAGE))


async def with_news(session: AsyncSession, node_id: UUID) -> list[UUID]:
    """Return this node's rooms whose inbox has something unread: the message that said so was lost."""
    query = select(MediaEvent.room_id).join(RoomOwner, RoomOwner.room_id == MediaEvent.room_id)
    is_left = MediaEvent.read_at.is_(None) & (MediaEvent.recorded_at < func.clock_timestamp() - UNTOLD_AFTER)
    unread = query.where(is_left, RoomOwner.node_id == node_id).distinct()
    return [room_id for room_id in await session.scalars(unread) if room_id is not None]


async def next_due(session: AsyncSession, node_id: UUID, *, until: datetime) -> datetime | None:
    """Return when the first business timer of the rooms that this node may run falls due, up to `until`."""
    first = select(func.min(RoomTimer.due_at)).join(RoomOwner, RoomOwner.room_id == RoomTimer.room_id)
    return await session.scalar(_runnable(first, node_id).where(RoomTimer.due_at <= until))


async def due_timers(session: AsyncSession, node_id: UUID, *, at: datetime) -> list[tuple[UUID, str]]:
    """Return the business timers that are due at `at`, of rooms that this node may run, in order."""
    query = select(RoomTimer.room_id, RoomTimer.name).join(RoomOwner, RoomOwner.room_id == RoomTimer.room_id)
    rows = await session.execute(
        _runnable(query, node_id)
        .where(RoomTimer.due_at <= at)
        .order_by(RoomTimer.due_at, RoomTimer.room_id, RoomTimer.name)
    )
    return [(room_id, name) for room_id, name in rows]


def _runnable(query: Select[*Columns], node_id: UUID) -> Select[*Columns]:
    return query.outerjoin(Node, Node.id == RoomOwner.node_id).where(
        RoomTimer.clock == "business",
        or_(RoomOwner.node_id.is_(None), RoomOwner.node_id == node_id, ~_is_alive()),
    )


def _among(column: InstrumentedAttribute[UUID], ids: Sequence[UUID]) -> ColumnElement[bool]:
    """Return a condition that is the same text for any number of ids, so that its plan is kept."""
    return column == any_(literal(list(ids), postgresql.ARRAY(Uuid)))


def _is_alive() -> ColumnElement[bool]:
    return func.coalesce(Node.expires_at > func.clock_timestamp(), False)


def _due(*, now: datetime, wall: datetime) -> ColumnElement[bool]:
    business = (RoomTimer.clock == "business") & (RoomTimer.due_at <= now)
    return business | ((RoomTimer.clock == "wall") & (RoomTimer.due_at <= wall))

"""The commands of the live map: which rooms there are, who is in them, and the journal of each, step by step."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from rooms import journal
from rooms.messages import RoomStatus
from rooms.models import EvidenceRow, Room, RoomOwner
from rooms.state import State
from rooms.wishes import Timer
from server import pages
from server.context import Command, Context
from server.errors import NotFoundError
from server.features.admin.messages import (
    EvidenceCount,
    JournalEntry,
    JournalPage,
    ListRooms,
    ReadJournal,
    RoomPage,
    RoomView,
    SeatHeld,
    TimerView,
)

# Whoever did it, whom it is about: the first of these that an event has.
_ACTORS = ("by", "user", "actor", "identity")
# What an event keeps for the room alone: whoever repeats a command is known by them.
_SECRETS = frozenset({"key", "digest"})


async def list_rooms(ctx: Context, command: ListRooms) -> RoomPage:
    """Return rooms as they are at this moment, the newest first: people, seats, what falls due, evidence."""
    wanted = Room.state == command.state if command.state is not None else Room.state != RoomStatus.CLOSED
    query = select(Room.id, Room.created_at).where(wanted)
    query = pages.page(query, Room.created_at, Room.id, limit=command.limit, cursor=command.cursor)
    rows = (await ctx.session.execute(query)).all()
    shown, more = pages.cut(rows, command.limit, lambda row: pages.cursor_after(row.created_at, row.id))
    return RoomPage(await _views(ctx, [row.id for row in shown]), more, ctx.now)


async def read_journal(ctx: Context, command: ReadJournal) -> JournalPage:
    """Return a room and what happened in it, step by step, in order; deleted messages without their text.

    Raises:
        NotFoundError: There is no such room.
    """
    views = await _views(ctx, [command.room_id])
    if not views:
        raise NotFoundError("There is no such room.")
    found = await journal.entries(ctx.session, command.room_id, command.cursor, command.limit + 1)
    shown, more = pages.cut([_entry(one) for one in found], command.limit, lambda entry: entry.seq)
    return JournalPage(views[0], tuple(shown), more, ctx.now)


async def _views(ctx: Context, room_ids: Sequence[UUID]) -> tuple[RoomView, ...]:
    states = await _states(ctx, room_ids)
    timers = await journal.all_armed_timers(ctx.session, room_ids)
    evidence = await _evidence(ctx.session, room_ids)
    owners = select(RoomOwner.room_id, RoomOwner.node_id).where(RoomOwner.room_id.in_(room_ids))
    nodes: dict[UUID, UUID | None] = {row.room_id: row.node_id for row in await ctx.session.execute(owners)}
    return tuple(
        _view(
            states[room_id],
            timers=timers[room_id],
            evidence=evidence.get(room_id, EvidenceCount(0, None)),
            node=nodes.get(room_id),
        )
        for room_id in room_ids
        if room_id in states
    )


async def _states(ctx: Context, room_ids: Sequence[UUID]) -> dict[UUID, State]:
    """Return the rooms' states, from memory where they run here, else from the journal."""
    here = {room_id: ctx.parts.rooms.here(room_id) for room_id in room_ids}
    states = {room_id: state for room_id, state in here.items() if state is not None}
    elsewhere = [room_id for room_id in room_ids if room_id not in states]
    return states | await journal.load_all(ctx.session, elsewhere) if elsewhere else states


async def _evidence(session: AsyncSession, room_ids: Sequence[UUID]) -> Mapping[UUID, EvidenceCount]:
    # A stay of a socket is one row that grows: its end is when it was last seen.
    newest = func.max(func.coalesce(EvidenceRow.until, EvidenceRow.at))
    query = select(EvidenceRow.room_id, func.count(), newest).where(EvidenceRow.room_id.in_(room_ids))
    rows = await session.execute(query.group_by(EvidenceRow.room_id))
    return {room_id: EvidenceCount(count, at) for room_id, count, at in rows}


def _view(
    state: State, *, timers: Mapping[str, Timer], evidence: EvidenceCount, node: UUID | None
) -> RoomView:
    spec = state.spec
    return RoomView(
        id=spec.id,
        kind=spec.kind,
        title=spec.title,
        state=state.status,
        cap=spec.cap,
        owner_id=UUID(spec.owner),
        owner=spec.owner_name,
        seats=tuple(
            SeatHeld(seat.identity, seat.name, seat.role, seat.no, seat.status, seat.joined_at)
            for seat in state.seats.values()
        ),
        waiting=tuple(waiting.name for waiting in state.queue),
        generation=state.generation,
        proof=spec.evidence,
        evidence=evidence,
        timers=tuple(
            TimerView(name, timer.due_at, timer.clock) for name, timer in sorted(timers.items(), key=_due)
        ),
        events=state.seq,
        node=node,
        created_at=state.created_at,
        starts_at=spec.starts_at,
        ends_at=spec.ends_at,
        started_at=state.started_at,
        ended_at=state.ended_at,
        reason=state.reason,
        settled=state.settled if state.is_lesson else None,
    )


def _due(named: tuple[str, Timer]) -> datetime:
    return named[1].due_at


def _entry(row: journal.Entry) -> JournalEntry:
    facts: dict[str, Any] = msgspec.to_builtins(row.event, str_keys=True)
    facts = {name: value for name, value in facts.items() if name not in _SECRETS and name != "type"}
    actor = next((facts[name] for name in _ACTORS if facts.get(name) is not None), None)
    return JournalEntry(row.seq, row.off, row.fence, row.type, actor, row.at, row.recorded_at, facts)


COMMANDS = (
    Command("admin.room.list", ListRooms, list_rooms, guard="admin", method="GET", path="/admin/rooms"),
    Command(
        "admin.room.journal", ReadJournal, read_journal, guard="admin", method="GET",
        path="/admin/rooms/{room_id}/journal",
    ),
)  # fmt: skip

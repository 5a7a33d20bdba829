"""The durable side of a room: events, snapshots, timers, evidence, and the rows that others read.

One turn of an actor is one transaction. The first statement of each checks the fence and keeps it shared until
the commit, so a node that lost a room while it slept writes nothing at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID, uuid4

import msgspec
from msgspec.structs import replace
from sqlalchemy import Text, cast, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from billing import outbox
from rooms import media, messages as m, published, room
from rooms.errors import FencedError, RoomNotFoundError
from rooms.messages import Evidence, Identity, PublicEvent, RoomStatus
from rooms.models import (
    EvidenceRow,
    MediaEvent,
    Room,
    RoomBan,
    RoomEvent,
    RoomOwner,
    RoomSeat,
    RoomSnapshot,
    RoomTimer,
)
from rooms.state import VERSION, Seat, State
from rooms.turn import Decision, Numbered
from rooms.wishes import Timer, timers

# Replay of 200 events takes a few ms; a smaller distance writes the whole state more often.
SNAPSHOT_EVERY = 200
# One turn reads at most so many webhooks; the rest comes with the next.
INBOX_PAGE = 200

_event_decoder = msgspec.json.Decoder(m.Event)
_event_encoder = msgspec.json.Encoder()
_state_encoder = msgspec.msgpack.Encoder()
_state_decoder = msgspec.msgpack.Decoder(State)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What entitles a node to write into a room."""

    room_id: UUID
    node_id: UUID
    fence: int


class Nature(msgspec.Struct, frozen=True):
    """What never changes of a room."""

    kind: m.RoomKind
    owner: Identity


class Write(msgspec.Struct, frozen=True):
    """What one turn, of one message or of many, leaves behind."""

    before: State
    after: State
    decisions: Sequence[tuple[datetime, Decision]]
    """Each with its business time."""
    armed: Mapping[str, Timer]
    """Timers as they stand in the database."""
    wanted: Mapping[str, Timer]
    read: Sequence[str] = ()
    """Ids of the webhooks that were taken in."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        has_news = any(d.events or d.evidence or d.domain for _, d in self.decisions)
        return not has_news and not self.read and self.armed == self.wanted


# --- Writing ------------------------------------------------------------------------------------------------


async def create(session: AsyncSession, spec: m.RoomSpec, *, now: datetime, wall: datetime) -> State:
    """Create a room in the caller's transaction; its actor wakes with the first command."""
    decision = room.open_room(spec, epoch=uuid4().hex[:8], now=now, wall=wall)
    state = decision.state
    session.add(
        Room(
            id=spec.id,
            kind=spec.kind,
            epoch=state.epoch,
            cap=spec.cap,
            owner=spec.owner,
            created_at=now,
            updated_at=now,
            **projection(state),
        )
    )
    await session.flush()
    await session.execute(insert(RoomOwner).values(room_id=spec.id, node_id=None, fence=0))
    await session.execute(
        insert(RoomEvent),
        [
            {"room_id": spec.id, "fence": 0, "at": now, **_event_row(numbered), "data": _builtins(numbered)}
            for numbered in decision.events
        ],
    )
    await _write_seats(session, spec, {}, state.seats)
    await _write_timers(session, spec.id, {}, timers(state, now=now, wall=wall))
    _record(session, spec.id, [(now, decision)])
    return state


async def append(session: AsyncSession, claim: Claim, write: Write) -> None:
    """Write one turn.

    Raises:
        FencedError: Another node owns the room; nothing was written.
    """
    rows = [(at, numbered) for at, decision in write.decisions for numbered in decision.events]
    await (_write_events(session, claim, rows) if rows else require_fence(session, claim))
    spec = write.after.spec
    if projection(write.after) != projection(write.before):
        newest = write.decisions[-1][0]
        changes = {**projection(write.after), "updated_at": newest}
        await session.execute(update(Room).where(Room.id == spec.id).values(changes))
    await _write_seats(session, spec, write.before.seats, write.after.seats)
    await _write_bans(session, spec.id, write.after.banned - write.before.banned)
    await _write_timers(session, spec.id, write.armed, write.wanted)
    await _write_evidence(session, spec.id, [e for _, d in write.decisions for e in d.evidence])
    if write.read:
        await mark_read(session, write.read)
    if write.after.seq // SNAPSHOT_EVERY > write.before.seq // SNAPSHOT_EVERY:
        await save_snapshots(session, [write.after])
    _record(session, spec.id, write.decisions)


async def require_fence(session: AsyncSession, claim: Claim) -> None:
    """Keep the room ours until the end of the transaction.

    Raises:
        FencedError: Another node owns the room.
    """
    ours = (RoomOwner.room_id == claim.room_id, RoomOwner.node_id == claim.node_id)
    query = select(RoomOwner.fence).where(*ours, RoomOwner.fence == claim.fence)
    if await session.scalar(query.with_for_update(read=True)) is None:
        raise FencedError(claim.room_id)


_SAVE_SNAPSHOTS = text("""
    insert into room_snapshot (room_id, seq, off, version, state)
    select room_id, seq, off, :version, state
    from unnest(
        cast(:room_ids as uuid[]), cast(:seqs as bigint[]), cast(:offs as bigint[]), cast(:states as bytea[])
    ) as e (room_id, seq, off, state)
    on conflict (room_id) do update
    set seq = excluded.seq, off = excluded.off, version = excluded.version, state = excluded.state
    where room_snapshot.seq < excluded.seq
""")


async def save_snapshots(session: AsyncSession, states: Sequence[State]) -> None:
    """Keep states, so that the next replay is short. The caller has checked the fences."""
    await session.execute(
        _SAVE_SNAPSHOTS,
        {
            "version": VERSION,
            "room_ids": [state.spec.id for state in states],
            "seqs": [state.seq for state in states],
            "offs": [state.off for state in states],
            "states": [_state_encoder.encode(state) for state in states],
        },
    )


# The fence is checked, and kept from changing, by the very statement that writes.
_INSERT_EVENTS = text("""
    insert into room_event (room_id, seq, off, fence, type, data, at)
    select o.room_id, e.seq, e.off, o.fence, e.type, cast(e.data as jsonb), e.at
    from room_owner o
    cross join unnest(
        cast(:seqs as bigint[]), cast(:offs as bigint[]), cast(:types as text[]),
        cast(:datas as text[]), cast(:ats as timestamptz[])
    ) as e (seq, off, type, data, at)
    where o.room_id = :room_id and o.node_id = :node_id and o.fence = :fence
    for share of o
""")


async def _write_events(
    session: AsyncSession, claim: Claim, rows: Sequence[tuple[datetime, Numbered]]
) -> None:
    found = [_event_row(numbered) for _, numbered in rows]
    written = await session.execute(
        _INSERT_EVENTS,
        {
            "room_id": claim.room_id,
            "node_id": claim.node_id,
            "fence": claim.fence,
            "seqs": [row["seq"] for row in found],
            "offs": [row["off"] for row in found],
            "types": [row["type"] for row in found],
            "datas": [_event_encoder.encode(numbered.event).decode() for _, numbered in rows],
            "ats": [at for at, _ in rows],
        },
    )
    if written.rowcount != len(rows):  # type: ignore[attr-defined]  # a DML result has one
        raise FencedError(claim.room_id)


def _event_row(numbered: Numbered) -> dict[str, object]:
    return {"seq": numbered.seq, "off": numbered.off, "type": type(numbered.event).__struct_config__.tag}


def _builtins(numbered: Numbered) -> object:
    return msgspec.json.decode(_event_encoder.encode(numbered.event))


def projection(state: State) -> dict[str, object]:
    """Return the columns of `room` that change during a room's life, as they follow from the state."""
    return {
        "title": state.spec.title,
        "state": state.status.value,
        "seated": state.taken,
        "host": state.chair,
        "reason": state.reason,
        "starts_at": state.spec.starts_at,
        "ends_at": state.spec.ends_at,
        "started_at": state.started_at,
        "closed_at": state.ended_at if state.status is RoomStatus.CLOSED else None,
    }


async def _write_seats(
    session: AsyncSession, spec: m.RoomSpec, before: Mapping[Identity, Seat], after: Mapping[Identity, Seat]
) -> None:
    if before is after:
        return
    held = {(seat.identity, seat.no) for seat in before.values()}
    holds = {(seat.identity, seat.no) for seat in after.values()}
    if gone := [identity for identity, _ in held - holds]:
        mine = delete(RoomSeat).where(RoomSeat.room_id == spec.id)
        await session.execute(mine.where(RoomSeat.identity.in_(gone)))
    if new := holds - held:
        seats = [{"room_id": spec.id, "seat_no": no, "identity": who, "cap": spec.cap} for who, no in new]
        await session.execute(insert(RoomSeat), seats)


async def _write_bans(session: AsyncSession, room_id: UUID, banned: Iterable[Identity]) -> None:
    if rows := [{"room_id": room_id, "identity": identity} for identity in banned]:
        await session.execute(insert(RoomBan), rows)


async def _write_timers(
    session: AsyncSession, room_id: UUID, armed: Mapping[str, Timer], wanted: Mapping[str, Timer]
) -> None:
    if cleared := armed.keys() - wanted.keys():
        mine = delete(RoomTimer).where(RoomTimer.room_id == room_id)
        await session.execute(mine.where(RoomTimer.name.in_(cleared)))
    changed = [
        {"room_id": room_id, "name": name, "due_at": timer.due_at, "clock": timer.clock}
        for name, timer in wanted.items()
        if armed.get(name) != timer
    ]
    if changed:
        statement = postgresql.insert(RoomTimer).values(changed)
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=[RoomTimer.room_id, RoomTimer.name],
                set_={"due_at": statement.excluded.due_at, "clock": statement.excluded.clock},
            )
        )


async def _write_evidence(session: AsyncSession, room_id: UUID, evidence: Iterable[Evidence]) -> None:
    stays: dict[tuple[Identity | None, str], Evidence] = {}
    facts: list[Evidence] = []
    for fact in evidence:
        if fact.kind == "stay":
            # One statement may touch a row only once: several beats of one turn become the longest.
            key = (fact.identity, fact.session)
            stays[key] = _longer(stays[key], fact) if key in stays else fact
        else:
            facts.append(fact)
    if stays:
        statement = postgresql.insert(EvidenceRow).values(_evidence_rows(room_id, stays.values()))
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=[EvidenceRow.room_id, EvidenceRow.identity, EvidenceRow.session],
                # Written out: a parameter would hide from the planner which index is meant, once the statement
                # has run five times on a connection and its plan becomes generic.
                index_where=text("kind = 'stay'"),
                set_={
                    "until": func.greatest(EvidenceRow.until, statement.excluded.until),
                    "reason": func.coalesce(EvidenceRow.reason, statement.excluded.reason),
                },
            )
        )
    if facts:
        once = postgresql.insert(EvidenceRow).values(_evidence_rows(room_id, facts))
        await session.execute(once.on_conflict_do_nothing(index_elements=[EvidenceRow.ref]))


def _longer(one: Evidence, other: Evidence) -> Evidence:
    assert one.until is not None, "a stay has an end"
    assert other.until is not None, "a stay has an end"
    return replace(one, until=max(one.until, other.until), reason=one.reason or other.reason)


def _evidence_rows(room_id: UUID, evidence: Iterable[Evidence]) -> list[dict[str, object]]:
    return [{"room_id": room_id, **msgspec.structs.asdict(fact)} for fact in evidence]


def _record(session: AsyncSession, room_id: UUID, decisions: Sequence[tuple[datetime, Decision]]) -> None:
    """Put into the outbox what the channel shows and what the rest of the product hears."""
    offs = [n.off for _, decision in decisions for n in decision.events if n.off is not None]
    if offs:
        published_now = m.RoomPublished(room_id, offs[0], offs[-1])
        outbox.record(session, published_now, at=decisions[-1][0])
    for at, decision in decisions:
        for event in decision.domain:
            outbox.record(session, event, at=at)


# --- Reading ------------------------------------------------------------------------------------------------


async def load(session: AsyncSession, room_id: UUID) -> State:
    """Return a room's state: the newest snapshot and what happened since.

    Raises:
        RoomNotFoundError: There is no such room.
    """
    kept = select(RoomSnapshot.state).where(RoomSnapshot.room_id == room_id, RoomSnapshot.version == VERSION)
    snapshot = await session.scalar(kept)
    state = None if snapshot is None else _state_decoder.decode(snapshot)
    tail = (
        select(cast(RoomEvent.data, Text))
        .where(RoomEvent.room_id == room_id, RoomEvent.seq > (state.seq if state else 0))
        .order_by(RoomEvent.seq)
    )
    events = [_event_decoder.decode(data) for data in await session.scalars(tail)]
    if state is None and not events:
        raise RoomNotFoundError(room_id)
    return room.replay(state, events)


async def armed_timers(session: AsyncSession, room_id: UUID) -> dict[str, Timer]:
    """Return the timers of a room as they are stored."""
    rows = await session.scalars(select(RoomTimer).where(RoomTimer.room_id == room_id))
    return {row.name: msgspec.convert({"due_at": row.due_at, "clock": row.clock}, Timer) for row in rows}


async def nature(session: AsyncSession, room_id: UUID) -> Nature:
    """Return what never changes of a room.

    Raises:
        RoomNotFoundError: There is no such room.
    """
    row = (await session.execute(select(Room.kind, Room.owner).where(Room.id == room_id))).one_or_none()
    if row is None:
        raise RoomNotFoundError(room_id)
    return Nature(m.RoomKind(row.kind), Identity(row.owner))


async def is_banned(session: AsyncSession, room_id: UUID, identity: Identity) -> bool:
    """Return whether somebody was banned from a room."""
    found = select(RoomBan.identity).where(RoomBan.room_id == room_id, RoomBan.identity == identity)
    return await session.scalar(found) is not None


async def head(session: AsyncSession, room_id: UUID) -> tuple[str, int]:
    """Return epoch and newest offset of a room's channel.

    Raises:
        RoomNotFoundError: There is no such room.
    """
    newest = select(func.coalesce(func.max(RoomEvent.off), 0)).where(RoomEvent.room_id == room_id)
    row = (
        await session.execute(select(Room.epoch, newest.scalar_subquery()).where(Room.id == room_id))
    ).first()
    if row is None:
        raise RoomNotFoundError(room_id)
    return row[0], row[1]


async def heads(session: AsyncSession, room_ids: Sequence[UUID]) -> dict[UUID, tuple[str, int]]:
    """Return epoch and newest offset of the channels of those rooms that exist."""
    newest = (
        select(func.coalesce(func.max(RoomEvent.off), 0))
        .where(RoomEvent.room_id == Room.id)
        .correlate(Room)
        .scalar_subquery()
    )
    found = await session.execute(select(Room.id, Room.epoch, newest).where(Room.id.in_(room_ids)))
    return {room_id: (epoch, off) for room_id, epoch, off in found}


async def public_events(
    session: AsyncSession, room_id: UUID, since_off: int, limit: int
) -> list[PublicEvent]:
    """Return the events of a room's channel after `since_off`, in order; deleted messages without their text."""
    query = (
        select(RoomEvent.off, RoomEvent.at, cast(RoomEvent.data, Text), Room.kind)
        .join(Room, Room.id == RoomEvent.room_id)
        .where(RoomEvent.room_id == room_id, RoomEvent.off > since_off)
        .order_by(RoomEvent.off)
        .limit(limit)
    )
    found = [
        (off, at, _event_decoder.decode(data), kind)
        for off, at, data, kind in await session.execute(query)
        if off is not None
    ]
    gone = await _deleted(session, room_id, [event for _, _, event, _ in found])
    return [
        published.public(_blanked(event, gone), off=off, at=at, is_lesson=kind != m.RoomKind.TALK)
        for off, at, event, kind in found
    ]


async def _deleted(session: AsyncSession, room_id: UUID, events: Iterable[m.Event]) -> set[UUID]:
    """Return which of the messages that these events tell of were deleted since."""
    told = {str(event.id) for event in events if isinstance(event, m.MessageCreated | m.MessageUpdated)}
    if not told:
        return set()
    message_id = RoomEvent.data["id"].astext
    deleted = select(message_id).where(
        RoomEvent.room_id == room_id,
        RoomEvent.type == m.MessageDeleted.__struct_config__.tag,
        message_id.in_(told),
    )
    return {UUID(found) for found in await session.scalars(deleted)}


def _blanked(event: m.Event, gone: set[UUID]) -> m.Event:
    if isinstance(event, m.MessageCreated | m.MessageUpdated) and event.id in gone:
        return replace(event, text="")
    return event


async def inbox(session: AsyncSession, room_id: UUID, *, limit: int) -> list[MediaEvent]:
    """Return the unread webhooks of a room in order of their happening."""
    unread = (
        select(MediaEvent)
        .where(MediaEvent.room_id == room_id, MediaEvent.read_at.is_(None))
        .order_by(MediaEvent.created_at, MediaEvent.received_at, MediaEvent.event_id)
        .limit(limit)
    )
    return list(await session.scalars(unread))


async def has_news(session: AsyncSession, room_id: UUID) -> bool:
    """Return whether webhooks of a room wait to be read."""
    return bool(await inbox(session, room_id, limit=1))


def changes(webhooks: Iterable[MediaEvent]) -> list[m.MediaChanged]:
    """Return what stored webhooks say."""
    return [change for row in webhooks if (change := _media_changed(row)) is not None]


async def mark_read(session: AsyncSession, event_ids: Sequence[str]) -> None:
    """Note that webhooks were taken in, or never can be."""
    rows = update(MediaEvent).where(MediaEvent.event_id.in_(event_ids))
    await session.execute(rows.values(read_at=func.now()))


def _media_changed(row: MediaEvent) -> m.MediaChanged | None:
    kind = media.EVIDENCE_KINDS.get(row.type)
    if kind is None or row.generation is None:
        return None
    evidence = Evidence(
        kind=kind,
        at=row.created_at,
        identity=Identity(row.identity) if row.identity is not None else None,
        session=row.participant_sid or "",
        generation=row.generation,
        reason=row.reason,
        room_sid=row.room_sid,
        joined_at=row.joined_at,
        received_at=row.received_at,
        ref=row.event_id,
    )
    return m.MediaChanged(evidence, row.counted)


async def evidence_of(session: AsyncSession, room_id: UUID) -> list[Evidence]:
    """Return everything known about who was there."""
    rows = await session.scalars(select(EvidenceRow).where(EvidenceRow.room_id == room_id))
    return [msgspec.convert(row, Evidence, from_attributes=True) for row in rows]

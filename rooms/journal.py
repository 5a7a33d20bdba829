"""The durable side of a room: events, snapshots, timers, evidence, and the rows that others read.

One turn of an actor is one transaction. The first statement of each checks the fence and keeps it shared until
the commit, so a node that lost a room while it slept writes nothing at all.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import get_args
from uuid import UUID, uuid4

import asyncpg
import msgspec
from msgspec.structs import replace
from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import outbox
from rooms import messages as m, published, room
from rooms.errors import FencedError, RoomNotFoundError
from rooms.messages import Evidence, Identity, PublicEvent, RoomStatus
from rooms.models import (
    EvidenceRow,
    Room,
    RoomBan,
    RoomEvent,
    RoomOwner,
    RoomSeat,
)
from rooms.state import VERSION, Seat, State
from rooms.turn import Decision
from rooms.wishes import Timer, timers

# Replay of 200 events takes a few ms; a smaller distance writes the whole state more often.
SNAPSHOT_EVERY = 200

_event_decoder = msgspec.json.Decoder(m.Event)
_row_encoder = msgspec.json.Encoder()
_TAGS = {kind: kind.__struct_config__.tag for kind in get_args(m.Event)}
_state_encoder = msgspec.msgpack.Encoder()
_state_decoder = msgspec.msgpack.Decoder(State)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What entitles a node to write into a room."""

    room_id: UUID
    node_id: UUID | None
    """None: nobody runs it yet."""
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
    is_talk: bool = False
    """All of its decisions are (`rooms.turn.Decision`)."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        has_news = any(d.events or d.evidence or d.domain for _, d in self.decisions)
        return not has_news and not self.read and self.armed == self.wanted

    @property
    def is_light(self) -> bool:
        """Whether one statement can write it, so that it may share one with the turns of other rooms."""
        return (
            self.before.banned is self.after.banned
            and not any(d.assessed for _, d in self.decisions)
            and not self.passes_seats
            and not self.reopens
        )

    @property
    def reopens(self) -> bool:
        """Whether it brings evidence of a settled lesson, which has to be judged again."""
        return self.before.settled and any(d.evidence for _, d in self.decisions)

    @property
    def passes_seats(self) -> bool:
        """Whether seats are freed and given in one turn: a number may go from one person to the next."""
        freed, taken = _seats_moved(self.before.seats, self.after.seats)
        return bool(freed and taken)

    @property
    def is_milestone(self) -> bool:
        """Whether a snapshot is due after it."""
        return self.after.seq // SNAPSHOT_EVERY > self.before.seq // SNAPSHOT_EVERY


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
    write = Write(state, state, [(now, decision)], {}, timers(state, now=now, wall=wall))
    await _append(session, Claim(spec.id, None, 0), write, seats_before={})
    return state


async def append(session: AsyncSession, claim: Claim, write: Write) -> None:
    """Write one turn.

    Raises:
        FencedError: Another node owns the room; nothing was written.
    """
    spec = write.after.spec
    seats_before = write.before.seats
    if write.passes_seats:
        await require_fence(session, claim)
        freed, _ = _seats_moved(seats_before, write.after.seats)
        mine = delete(RoomSeat).where(RoomSeat.room_id == spec.id)
        await session.execute(mine.where(RoomSeat.identity.in_(freed)))
        seats_before = {who: seat for who, seat in seats_before.items() if who not in freed}
    await _append(session, claim, write, seats_before=seats_before)
    await _write_bans(session, spec.id, write.after.banned - write.before.banned)
    if write.is_milestone:
        await save_snapshots(session, [write.after])


async def _append(
    session: AsyncSession, claim: Claim, write: Write, *, seats_before: Mapping[Identity, Seat]
) -> None:
    rows = _Rows()
    rows.add(claim, write, seats_before)
    statement = _APPEND_WITNESSED if rows.are_witnessed else _APPEND
    written = await session.scalars(statement, rows.parameters(claim.node_id, session.info.get(outbox.NODE)))
    if claim.room_id not in written:
        raise FencedError(claim.room_id)
    if rows.told:
        outbox.recorded(session)


async def append_together(
    connection: asyncpg.Connection, node_id: UUID, writes: Sequence[tuple[Claim, Write]]
) -> set[UUID]:
    """Write light turns of different rooms at once; return the rooms that were written.

    The others belong to another node, or somebody is about to change that, or took in a webhook that another turn had
    taken in: nothing of them was written.
    """
    rows = _Rows()
    for claim, write in writes:
        rows.add(claim, write, write.before.seats)
    statement = _APPEND_TOGETHER_WITNESSED if rows.are_witnessed else _APPEND_TOGETHER
    found = await connection.fetch(statement, *rows.parameters(node_id, node_id).values())
    return {row[0] for row in found}


class _Rows:
    """What turns leave behind, as rows of the tables; each list goes to the database as one JSON text."""

    __slots__ = (
        "armed", "claims", "cleared", "events", "facts", "freed", "read", "shown", "spans", "stays", "taken", "told",
    )  # fmt: skip

    def __init__(self) -> None:
        self.claims: list[object] = []
        self.events: list[object] = []
        self.shown: list[object] = []
        self.freed: list[object] = []
        self.taken: list[object] = []
        self.cleared: list[object] = []
        self.armed: list[object] = []
        self.told: list[object] = []
        self.spans: list[object] = []
        self.facts: list[object] = []
        self.stays: list[object] = []
        self.read: list[object] = []

    @property
    def are_witnessed(self) -> bool:
        """Whether there is evidence among them, or webhooks that were taken in."""
        return bool(self.facts or self.stays or self.read)

    def add(self, claim: Claim, write: Write, seats_before: Mapping[Identity, Seat]) -> None:
        """Add one turn."""
        room_id = claim.room_id
        self.claims.append({"room_id": room_id, "fence": claim.fence})
        offs: list[int] = []
        for at, decision in write.decisions:
            for numbered in decision.events:
                event, off = numbered.event, numbered.off
                row = {"room_id": room_id, "seq": numbered.seq, "off": off, "type": _TAGS[type(event)]}
                row |= {"data": event, "at": at}
                self.events.append(row)
                if off is not None:
                    offs.append(off)
            for told in decision.domain:
                self.told.append({"room_id": room_id, "no": len(self.told) + 1, "at": at, **outbox.row(told)})
        if offs:
            newest = write.decisions[-1][0]
            self.spans.append({"room_id": room_id, "first_off": offs[0], "last_off": offs[-1], "at": newest})
        if not write.is_talk:
            self._add_projections(room_id, write, seats_before)
        self._add_evidence(room_id, write)

    def _add_projections(self, room_id: UUID, write: Write, seats_before: Mapping[Identity, Seat]) -> None:
        """Add what others read of the room, where it changed."""
        changed = projection(write.after)
        if changed != projection(write.before):
            self.shown.append({"room_id": room_id, "updated_at": write.decisions[-1][0], **changed})
        freed, taken = _seats_moved(seats_before, write.after.seats)
        self.freed += ({"room_id": room_id, "identity": who} for who in freed)
        cap = write.after.spec.cap
        self.taken += (
            {"room_id": room_id, "seat_no": no, "identity": who, "cap": cap} for who, no in taken.items()
        )
        if write.armed != write.wanted:
            cleared = write.armed.keys() - write.wanted.keys()
            self.cleared += ({"room_id": room_id, "name": name} for name in cleared)
            self.armed += (
                {"room_id": room_id, "name": name, "due_at": timer.due_at, "clock": timer.clock}
                for name, timer in write.wanted.items()
                if write.armed.get(name) != timer
            )

    def _add_evidence(self, room_id: UUID, write: Write) -> None:
        self.read += ({"room_id": room_id, "event_id": event_id} for event_id in write.read)
        stays: dict[tuple[Identity | None, str], Evidence] = {}
        for _, decision in write.decisions:
            for fact in decision.evidence:
                if fact.kind == "stay":
                    # One statement may touch a row only once: several beats of one turn become the longest.
                    key = (fact.identity, fact.session)
                    stays[key] = _longer(stays[key], fact) if key in stays else fact
                else:
                    self.facts.append({"room_id": room_id, **msgspec.structs.asdict(fact)})
        self.stays += ({"room_id": room_id, **msgspec.structs.asdict(stay)} for stay in stays.values())

    def parameters(self, owner: UUID | None, teller: UUID | None) -> dict[str, object]:
        """Return the parameters of the statement, in its order."""
        names = _LISTS_WITNESSED if self.are_witnessed else _LISTS
        lists = {name: _json(getattr(self, name)) for name in names}
        return {"owner": owner, "teller": teller, "published": m.RoomPublished.__struct_config__.tag, **lists}


def _json(rows: list[object]) -> str:
    return _row_encoder.encode(rows).decode() if rows else "[]"


def _seats_moved(
    before: Mapping[Identity, Seat], after: Mapping[Identity, Seat]
) -> tuple[set[Identity], dict[Identity, int]]:
    """Return whose seat is gone, and who has a new one."""
    if before is after:
        return set(), {}
    freed = {who for who, seat in before.items() if who not in after or after[who].no != seat.no}
    taken = {who: seat.no for who, seat in after.items() if who not in before or before[who].no != seat.no}
    return freed, taken


def _longer(one: Evidence, other: Evidence) -> Evidence:
    assert one.until is not None, "a stay has an end"
    assert other.until is not None, "a stay has an end"
    return replace(one, until=max(one.until, other.until), reason=one.reason or other.reason)


_LISTS = ("claims", "events", "shown", "freed", "taken", "cleared", "armed", "told", "spans")
_LISTS_WITNESSED = (*_LISTS, "facts", "stays", "read")

# All rows of a turn, or of the turns of many rooms, in one statement. The fence of each room is checked, and kept from
# changing, by the very statement that writes. An owner's row is locked before any row of the room is written, so a room
# is written whole or not at all.
_SQL = """
    with ours as materialized (
        select o.room_id, o.fence
        from json_to_recordset(cast({claims} as json)) as c (room_id uuid, fence bigint)
        join room_owner o on o.room_id = c.room_id and o.fence = c.fence
            and o.node_id is not distinct from cast({owner} as uuid)
        {unread}
        for share of o {locked}
    ), written as (
        insert into room_event (room_id, seq, off, fence, type, data, at)
        select o.room_id, e.seq, e.off, o.fence, e.type, e.data, e.at
        from json_to_recordset(cast({events} as json))
            as e (room_id uuid, seq bigint, off bigint, type text, data jsonb, at timestamptz)
        join ours o on o.room_id = e.room_id
    ), shown as (
        update room r
        set title = s.title, state = s.state, seated = s.seated, host = s.host, reason = s.reason,
            starts_at = s.starts_at, ends_at = s.ends_at, started_at = s.started_at, closed_at = s.closed_at,
            updated_at = s.updated_at
        from json_to_recordset(cast({shown} as json)) as s (
            room_id uuid, title text, state text, seated bigint, host text, reason text, starts_at timestamptz,
            ends_at timestamptz, started_at timestamptz, closed_at timestamptz, updated_at timestamptz
        )
        join ours o on o.room_id = s.room_id
        where r.id = s.room_id
    ), freed as (
        delete from room_seat s
        using json_to_recordset(cast({freed} as json)) as f (room_id uuid, identity text)
        join ours o on o.room_id = f.room_id
        where s.room_id = f.room_id and s.identity = f.identity
    ), taken as (
        insert into room_seat (room_id, seat_no, identity, cap)
        select t.room_id, t.seat_no, t.identity, t.cap
        from json_to_recordset(cast({taken} as json))
            as t (room_id uuid, seat_no bigint, identity text, cap bigint)
        join ours o on o.room_id = t.room_id
    ), cleared as (
        delete from room_timer t
        using json_to_recordset(cast({cleared} as json)) as c (room_id uuid, name text)
        join ours o on o.room_id = c.room_id
        where t.room_id = c.room_id and t.name = c.name
    ), armed as (
        insert into room_timer (room_id, name, due_at, clock)
        select a.room_id, a.name, a.due_at, a.clock
        from json_to_recordset(cast({armed} as json))
            as a (room_id uuid, name text, due_at timestamptz, clock text)
        join ours o on o.room_id = a.room_id
        on conflict (room_id, name) do update set due_at = excluded.due_at, clock = excluded.clock
    ), recorded as (
        insert into outbox (type, data, at, node)
        select n.type, n.data, n.at, cast({teller} as uuid)
        from (
            select 0 as no, cast({published} as text) as type, jsonb_build_object(
                    'type', cast({published} as text),
                    'spans', jsonb_agg(jsonb_build_array(s.room_id, s.first_off, s.last_off))
                ) as data, max(s.at) as at
            from json_to_recordset(cast({spans} as json))
                as s (room_id uuid, first_off bigint, last_off bigint, at timestamptz)
            join ours o on o.room_id = s.room_id
            having count(*) > 0
            union all
            select t.no, t.type, t.data, t.at
            from json_to_recordset(cast({told} as json))
                as t (room_id uuid, no bigint, type text, data jsonb, at timestamptz)
            join ours o on o.room_id = t.room_id
        ) n
        order by n.no
    ) {witnessed}
    select room_id from ours
"""
# What is taken in was not taken in before: webhooks that a room was handed may have been read from their rows meanwhile.
_UNREAD = """
        where not exists (
            select from json_to_recordset(cast({read} as json)) as r (room_id uuid, event_id text)
            join media_event e on e.event_id = r.event_id
            where r.room_id = o.room_id and e.read_at is not null
        )
"""
_EVIDENCE = (
    "room_id uuid, kind text, at timestamptz, identity text, session text, until timestamptz, generation bigint, "
    "source text, reason text, room_sid text, joined_at timestamptz, received_at timestamptz, ref text"
)
_KEEP = f"""
        insert into evidence as kept ({", ".join(column.split()[0] for column in _EVIDENCE.split(", "))})
        select e.* from json_to_recordset(cast({{rows}} as json)) as e ({_EVIDENCE})
        join ours o on o.room_id = e.room_id
        on conflict"""  # noqa: S608  (made of the names above alone)
_WITNESSED = f"""
    , facts as ({_KEEP.replace("rows", "facts")} (ref) do nothing
    ), stays as ({_KEEP.replace("rows", "stays")} (room_id, identity, session) where kind = 'stay' do update
        set until = greatest(kept.until, excluded.until), reason = coalesce(kept.reason, excluded.reason)
    ), read as (
        update media_event e set read_at = now()
        from json_to_recordset(cast({{read}} as json)) as r (room_id uuid, event_id text)
        join ours o on o.room_id = r.room_id
        where e.event_id = r.event_id
    )
"""  # noqa: S608  (likewise)


def _statement(form: str, *, locked: str, witnessed: bool) -> str:
    """Return the statement with its parameters in a form like `:{name}` or `${no}`."""
    names = ("owner", "teller", "published", *(_LISTS_WITNESSED if witnessed else _LISTS))
    places = {name: form.format(name=name, no=no) for no, name in enumerate(names, start=1)}
    unread, kept = (_UNREAD, _WITNESSED) if witnessed else ("", "")
    return _SQL.format(
        locked=locked, unread=unread.format(**places), witnessed=kept.format(**places), **places
    )


_APPEND = text(_statement(":{name}", locked="", witnessed=False))
_APPEND_WITNESSED = text(_statement(":{name}", locked="", witnessed=True))
# An owner's row that somebody else holds is passed over, so that no room waits for the fence of another.
_APPEND_TOGETHER = _statement("${no}", locked="skip locked", witnessed=False)
_APPEND_TOGETHER_WITNESSED = _statement("${no}", locked="skip locked", witnessed=True)


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


async def _write_bans(session: AsyncSession, room_id: UUID, banned: Iterable[Identity]) -> None:
    if rows := [{"room_id": room_id, "identity": identity} for identity in banned]:
        await session.execute(insert(RoomBan), rows)


# --- Reading ------------------------------------------------------------------------------------------------


async def load(session: AsyncSession, room_id: UUID) -> State:
    """Return a room's state: the newest snapshot and what happened since.

    Raises:
        RoomNotFoundError: There is no such room.
    """
    found = await load_all(session, [room_id])
    if room_id not in found:
        raise RoomNotFoundError(room_id)
    return found[room_id]


_SNAPSHOTS = text("""
    select room_id, state from room_snapshot
    where room_id = any(cast(:room_ids as uuid[])) and version = :version
""")
# Beginning where the snapshots that were read end: meanwhile there may be newer ones.
_TAILS = text("""
    select e.room_id, cast(e.data as text)
    from unnest(cast(:room_ids as uuid[]), cast(:seqs as bigint[])) as s (room_id, seq)
    join room_event e on e.room_id = s.room_id and e.seq > s.seq
    order by e.room_id, e.seq
""")


async def load_all(session: AsyncSession, room_ids: Sequence[UUID]) -> dict[UUID, State]:
    """Return the states of those rooms that exist."""
    kept = await session.execute(_SNAPSHOTS, {"room_ids": list(room_ids), "version": VERSION})
    states: dict[UUID, State] = {room_id: _state_decoder.decode(state) for room_id, state in kept}
    seqs = [states[room_id].seq if room_id in states else 0 for room_id in room_ids]
    tails: dict[UUID, list[m.Event]] = {}
    for room_id, data in await session.execute(_TAILS, {"room_ids": list(room_ids), "seqs": seqs}):
        tails.setdefault(room_id, []).append(_event_decoder.decode(data))
    for room_id, events in tails.items():
        states[room_id] = room.replay(states.get(room_id), events)
        await asyncio.sleep(0)  # a replay takes up to a few ms: nobody else waits for all of them
    return states


async def armed_timers(session: AsyncSession, room_id: UUID) -> dict[str, Timer]:
    """Return the timers of a room as they are stored."""
    return (await all_armed_timers(session, [room_id]))[room_id]


_TIMERS = text("""
    select room_id, name, due_at, clock from room_timer where room_id = any(cast(:room_ids as uuid[]))
""")


async def all_armed_timers(session: AsyncSession, room_ids: Sequence[UUID]) -> dict[UUID, dict[str, Timer]]:
    """Return the timers of rooms as they are stored."""
    found: dict[UUID, dict[str, Timer]] = {room_id: {} for room_id in room_ids}
    for room_id, name, due_at, clock in await session.execute(_TIMERS, {"room_ids": list(room_ids)}):
        found[room_id][name] = Timer(due_at, clock)
    return found


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


# One row for each of these rooms that exists: its place among them, epoch and newest offset of its channel.
HEADS = """
    select a.no, r.epoch, (select coalesce(max(e.off), 0) from room_event e where e.room_id = r.id)
    from unnest($1::uuid[]) with ordinality as a (room_id, no)
    join room r on r.id = a.room_id
"""


_PUBLIC_EVENTS = text("""
    select e.off, e.at, cast(e.data as text), r.kind
    from room_event e
    join room r on r.id = e.room_id
    where e.room_id = :room_id and e.off > :since_off
    order by e.off
    limit :most
""")


async def public_events(
    session: AsyncSession, room_id: UUID, since_off: int, limit: int
) -> list[PublicEvent]:
    """Return the events of a room's channel after `since_off`, in order; deleted messages without their text."""
    wanted = {"room_id": room_id, "since_off": since_off, "most": limit}
    found = [
        (off, at, _event_decoder.decode(data), kind)
        for off, at, data, kind in await session.execute(_PUBLIC_EVENTS, wanted)
    ]
    gone = await _deleted(session, room_id, [event for _, _, event, _ in found])
    return [
        published.public(_blanked(event, gone), off=off, at=at, is_lesson=kind != m.RoomKind.TALK)
        for off, at, event, kind in found
    ]


class Entry(msgspec.Struct, frozen=True):
    """One row of the journal."""

    seq: int
    off: int | None
    fence: int
    type: str
    at: datetime
    """Business clock."""
    recorded_at: datetime
    """The database's clock."""
    event: m.Event


_ENTRIES = text("""
    select seq, off, fence, type, at, recorded_at, cast(data as text) as data
    from room_event
    where room_id = :room_id and seq > :since_seq
    order by seq
    limit :most
""")


async def entries(session: AsyncSession, room_id: UUID, since_seq: int, limit: int) -> list[Entry]:
    """Return what happened in a room after `since_seq`, in order; deleted messages without their text."""
    wanted = {"room_id": room_id, "since_seq": since_seq, "most": limit}
    found = [
        Entry(row.seq, row.off, row.fence, row.type, row.at, row.recorded_at, _event_decoder.decode(row.data))
        for row in await session.execute(_ENTRIES, wanted)
    ]
    gone = await _deleted(session, room_id, [entry.event for entry in found])
    return [replace(entry, event=_blanked(entry.event, gone)) for entry in found]


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


async def evidence_of(session: AsyncSession, room_id: UUID) -> list[Evidence]:
    """Return everything known about who was there."""
    columns = [EvidenceRow.__table__.c[name] for name in Evidence.__struct_fields__]
    rows = await session.execute(select(*columns).where(EvidenceRow.room_id == room_id))
    return [Evidence(*row) for row in rows]

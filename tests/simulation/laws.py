"""What must be true of the product at every moment, beside the checks that it runs itself (REQUIREMENTS F.1)."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Text, cast, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import checks as money
from billing.checks import Check
from rooms import journal, messages as m, room
from rooms.actor import Actor
from rooms.models import Room, RoomEvent, RoomSeat
from rooms.state import State
from server import checks
from server.features.courses import rules

_events = msgspec.json.Decoder(m.Event)

# True whenever the outbox was emptied, beside the product's own checks.
AFTER_REACTIONS = (
    Check("outbox", "An event is left.", "select id, type from outbox where type <> 'room.published'"),
    Check("relay_failure", "An event could not be reacted to.", "select * from relay_failure"),
    Check(
        "stays_are_seats",
        # Those of an open talk are brought up to date when somebody reads them.
        "A closed talk's stays are not the seats that were taken in it, each from first to last.",
        "select t.id from talk t join room r on r.id = t.room_id and r.state = 'closed'"
        " where (select array_agg((e.data->>'generation')::bigint order by e.seq) from room_event e"
        "   where e.room_id = r.id and e.type = 'seat_taken') is distinct from"
        " (select array_agg(s.seat_generation order by s.seat_generation) from talk_stay s"
        "   where s.talk_id = t.id and s.left_at >= s.taken_at)",
    ),
)

# One row for everything that has a life: (what, id, status).
_LIVES = text("""
    select 'course' as what, id, status from course
    union all select 'session', id, status from course_session
    union all select 'purchase', id, status from purchase
    union all select 'hold', id, status from hold
    union all select 'room', id, state from room
""")
# One row for everything that never changes once it is there: (what, id, digest).
_FROZEN = text("""
    select 'purchase' as what, id::text, md5((to_jsonb(p) - '{status,ended_at,reason}'::text[])::text) as digest
      from purchase p
    union all select 'hold', id::text, md5((to_jsonb(h) - '{status,lesson_id}'::text[])::text) from hold h
    union all select 'settlement', hold_id || ' ' || number, md5(to_jsonb(s)::text) from hold_settlement s
    union all select 'facts', lesson_id || ' ' || version, md5(to_jsonb(f)::text) from lesson_facts f
    union all select 'attendance', room_id || ' ' || identity, md5(to_jsonb(a)::text) from attendance a
    union all select 'ledger', journal_id || ' ' || leg, md5(to_jsonb(t)::text) from ledger_transfer t
    union all select 'audit', id::text, md5(to_jsonb(l)::text) from audit_log l
""")


def _reachable(arrows: Mapping[Any, Iterable[str]]) -> set[tuple[str, str]]:
    """Return from where one may come to where, by any number of arrows."""
    found = {(old, new) for old, news in arrows.items() for new in news}
    for through, old, new in itertools.product(arrows, repeat=3):
        if (old, through) in found and (through, new) in found:
            found.add((old, new))
    return found


ARROWS = {
    "course": _reachable(rules.COURSE_ARROWS),
    "session": _reachable(rules.SESSION_ARROWS),
    "purchase": _reachable(rules.PURCHASE_ARROWS),
    "hold": _reachable({"held": ("released", "refunded")}),
    "room": _reachable(
        {"open": ("live", "closed"), "live": ("closing", "closed"), "closing": ("closed",), "closed": ()}
    ),
}


class Memory:
    """What was true at the last look."""

    def __init__(self) -> None:
        self._lives: dict[tuple[str, UUID], str] = {}
        self._frozen: dict[tuple[str, str], str] = {}
        self._states: dict[UUID, State] = {}

    async def check(self, session: AsyncSession) -> None:
        """Everything only goes where an arrow leads, and what is written once stays as it is."""
        lives = {(what, id_): status for what, id_, status in await session.execute(_LIVES)}
        for thing, before in self._lives.items():
            after = lives[thing]
            assert after == before or (before, after) in ARROWS[thing[0]], (thing, before, after)
        self._lives = lives
        frozen = {(what, id_): digest for what, id_, digest in await session.execute(_FROZEN)}
        changed = {thing for thing, digest in self._frozen.items() if frozen.get(thing) != digest}
        assert not changed
        self._frozen = frozen

    async def check_rooms(self, session: AsyncSession, actors: Iterable[Actor]) -> None:
        """Look at every room that has changed since the last look."""
        for actor in actors:
            if self._states.get(actor.room_id) is not actor.state:
                await check_room(session, actor)
                self._states[actor.room_id] = actor.state

    def forget_rooms(self) -> None:
        """The process died: every room is read anew, and looked at anew."""
        self._states.clear()


async def check(session: AsyncSession, *, is_deep: bool, is_relayed: bool) -> None:
    """Nothing is broken that the product checks itself; `is_deep` says to live through all journals again."""
    if is_deep:
        violations = await checks.run(session, every_room=True)
    else:
        violations = await money.run(session, checks.TABLE)
    assert not violations, violations
    if is_relayed:
        violations = await money.run(session, AFTER_REACTIONS)
        assert not violations, violations


async def check_room(session: AsyncSession, actor: Actor) -> None:
    """Journal, projections and constraints say what the room believes, and its numbers have no gap."""
    state, room_id = actor.state, actor.room_id
    rows = await session.execute(
        select(RoomEvent.seq, RoomEvent.off, cast(RoomEvent.data, Text))
        .where(RoomEvent.room_id == room_id)
        .order_by(RoomEvent.seq)
    )
    seqs, offs, datas = zip(*rows.all(), strict=True)
    assert list(seqs) == list(range(1, state.seq + 1))
    assert [off for off in offs if off is not None] == list(range(1, state.off + 1))
    assert _same(room.replay(None, map(_events.decode, datas)), state), "replay of the journal"
    assert _same(await journal.load(session, room_id), state), "snapshot and what came after"
    assert await journal.armed_timers(session, room_id) == actor.armed
    seats = await session.execute(
        select(RoomSeat.identity, RoomSeat.seat_no).where(RoomSeat.room_id == room_id)
    )
    assert dict(seats.all()) == {seat.identity: seat.no for seat in state.seats.values()}
    assert state.taken <= state.spec.cap
    row = await session.get_one(Room, room_id, populate_existing=True)
    shown = journal.projection(state)
    assert {name: getattr(row, name) for name in shown} == shown


def _same(one: State, other: State) -> bool:
    """Compare also the order of people and messages, which dictionaries do not."""
    return one == other and [*one.seats, *one.lines] == [*other.seats, *other.lines]


def check_revenue(revenue: Mapping[str, Any]) -> None:
    """sold = earned + platform + held + refunded."""
    parts = ("earned", "platform", "held", "refunded")
    assert revenue["sold"]["amount"] == sum(revenue[part]["amount"] for part in parts), revenue

"""The outbox loop: committed events → their reactions → what is published → done (DESIGN §1).

Each event goes through three states, so that a crash between any two steps loses nothing:

1. recorded: the row was committed with what happened;
2. reacted: one transaction ran the reactions, stored what is to be published with its offsets, and marked the row
   with the very instant that its publications carry, so that they are found again;
3. gone: the publications were pushed, what follows outside was done, and the row deleted. Where there is nothing to
   push or to do, the transaction of the reactions deletes it.

A node takes its own rows at once, and rows that nobody finished for two seconds from any node. Pushing is
repeatable: receivers drop an offset that they have.

Events of rooms that are public have their offsets already (the journal's): their owner pushed them right after the
commit, so their rows are only a safety net for an owner that died in between.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import Select, Text, cast, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing.models import Outbox
from rooms import journal
from rooms.messages import RoomPublished, Span
from server import outage
from server.errand import Errands
from server.gateway import history
from server.gateway.history import Draft
from server.gateway.models import StoredPublication
from server.gateway.protocol import Publication
from server.reaction import Happened, Occasion, Post, Reaction, Together
from server.upkeep import RelayFailure

log = structlog.get_logger()

# A turn or a command records at most a few dozen events; 200 rows are one screen of work and far below the
# statement limit. A larger batch would make everybody wait for its slowest reaction.
BATCH = 200
# The wake-up after a commit is the normal case; the poll finds what others left, and what a lost wake-up left.
POLL_S = 0.25
# DESIGN §2: what a node has not finished after two seconds is another's. A smaller number would have healthy nodes
# do each other's work twice; a larger one shows people the news later when a node dies.
STALE = timedelta(seconds=2)
# A failing reaction is tried again after 1, 2, 4 … s; ten tries are 17 minutes, which outlasts a restart of the
# database. Then somebody must look: more tries would only hide it.
TRIES = 10
PAUSE = timedelta(seconds=1)
# While the database is away.
AWAY_S = 1.0
# Half of STALE, so that nothing is left for longer than twice that.
SWEEP_S = 1.0
# A busy room commits hundreds of turns a second, and each wakes the relay: they share a look at the outbox. F4-84
# gives an event 100 ms.
REST_S = 0.02

PUBLISHED = RoomPublished.__struct_config__.tag
_published = msgspec.json.Decoder(RoomPublished)

_CLAIM = text("""
    select o.id, o.type, cast(o.data as text), o.at, o.node
    from outbox o
    left join relay_failure f on f.outbox_id = o.id
    where o.reacted_at is null and o.type <> :published
        and (o.node = :node or o.node is null or o.recorded_at < now() - :stale)
        and (f.outbox_id is null or f.retry_at <= :now)
        and (cast(:only as bigint) is null or o.id = :only)
    order by o.id
    limit :batch
    for update of o skip locked
""").bindparams(published=PUBLISHED, stale=STALE, batch=BATCH)
_MARK = text("""
    with forgiven as (delete from relay_failure where outbox_id = any(cast(:ids as bigint[])))
    update outbox set reacted_at = :moment where id = any(cast(:ids as bigint[]))
""")
_FORGET = text("""
    with forgiven as (delete from relay_failure where outbox_id = any(cast(:ids as bigint[])))
    delete from outbox where id = any(cast(:ids as bigint[]))
""")


class Row(msgspec.Struct, frozen=True):
    """A claimed row of the outbox."""

    id: int
    type: str
    data: str
    """JSON."""
    at: datetime
    node: UUID | None


class _Batch(msgspec.Struct, frozen=True):
    """What one transaction of the relay did."""

    size: int
    left: Sequence[Row]
    """Those that are marked: what they publish is to be pushed, and what follows outside to be done."""
    published: Sequence[tuple[str, Publication]]


class Relay:
    """Relays the events of one node, and those that other nodes left.

    Args:
        sessions: Where the outbox is.
        node: Id of this process, as its sessions record it.
        publish: Delivers to everybody who follows a channel, on every node (the gateway's).
        reactions: What follows, by the event's type.
        together: What comes before that, once for all events of a type in a batch; what it publishes of an event comes
            after what the event's own reactions publish.
        after: What follows outside of the database once the reactions are committed, by the event's type. It may
            run twice, and like a reaction it is tried again when it fails.
        wall: The wall clock.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        *,
        node: UUID,
        publish: Callable[[str, Sequence[Publication]], None],
        reactions: Mapping[type[msgspec.Struct], Sequence[Reaction]],
        together: Mapping[type[msgspec.Struct], Sequence[Together]],
        after: Errands,
        wall: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._node = node
        self._publish = publish
        self._reactions = dict(reactions)
        self._together = dict(together)
        self._after = dict(after)
        heard = {*reactions, *together, *after}
        self._decoders = {_tag(event): msgspec.json.Decoder(event) for event in heard}
        self._wall = wall
        self._awake = asyncio.Event()
        # One batch at a time, so that `flush` and the loop keep the order of events.
        self._busy = asyncio.Lock()

    def wake(self) -> None:
        """Say that something was committed. Safe to call from a session's listener."""
        self._awake.set()

    async def run(self) -> None:
        """Relay for ever; whatever goes away comes back."""
        sweep_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                # What was committed meanwhile has woken it.
                while await self.turn() == BATCH:
                    pass
                if loop.time() >= sweep_at:
                    await self.sweep()
                    sweep_at = loop.time() + SWEEP_S
                await asyncio.sleep(REST_S)
                await self._sleep(POLL_S)
            except Exception as error:
                # Away, or behind a lock of another node that is frozen: the next look finds the same rows.
                if outage.is_away(error) or outage.may_succeed_again(error):
                    log.warning("relay_interrupted", node=str(self._node), error=type(error).__name__)
                else:
                    log.exception("relay_failed", node=str(self._node))
                await asyncio.sleep(AWAY_S)

    async def flush(self) -> None:
        """Relay until nothing of this node waits, but for what failed and is to be tried again later."""
        while await self.turn():
            pass

    async def turn(self) -> int:
        """Run the reactions of one batch and push what they publish; return how many events it had."""
        async with self._busy:
            self._awake.clear()
            try:
                batch = await self._react()
            except Exception:  # noqa: BLE001 - one of them is poison: each for itself, so that it keeps nobody
                return await self._react_singly()
            await self._finish(batch.left, batch.published)
            return batch.size

    async def sweep(self) -> None:
        """Finish what nobody finished in time: publications never pushed, rows never deleted."""
        async with self._busy:
            while await self._push_left():
                pass
            while await self._tidy_rooms():
                pass

    async def _react(self, *, only: int | None = None) -> _Batch:
        async with self._sessions.begin() as session:
            return await self._run(session, await self._claim(session, only=only))

    async def _react_singly(self) -> int:
        async with self._sessions.begin() as session:
            waiting = await self._claim(session)
        for row in waiting:
            try:
                batch = await self._react(only=row.id)
            except Exception as error:
                if outage.is_away(error):
                    raise
                await self._note_failure(row, error)
            else:
                await self._finish(batch.left, batch.published)
        return len(waiting)

    async def _claim(self, session: AsyncSession, *, only: int | None = None) -> list[Row]:
        """Lock rows that wait for their reactions, oldest first."""
        wanted = {"node": self._node, "now": self._wall(), "only": only}
        return [Row(*found) for found in await session.execute(_CLAIM, wanted)]

    @staticmethod
    def _rows() -> Select[int, str, str, datetime, UUID | None]:
        columns = (Outbox.id, Outbox.type, cast(Outbox.data, Text), Outbox.at, Outbox.node)
        return select(*columns).order_by(Outbox.id).limit(BATCH)

    async def _run(self, session: AsyncSession, rows: Sequence[Row]) -> _Batch:
        """Run the reactions of rows in order, store their publications and mark the rows.

        Of which nothing is left to do, those are forgotten at once.
        """
        if not rows:
            return _Batch(0, (), ())
        events = [self._event_of(row) for row in rows]
        occasions = [Occasion(session, key=str(row.id), at=row.at) for row in rows]
        shared = await self._react_together(session, occasions, events)
        posts: list[Post] = []
        left: list[Row] = []
        for row, occasion, event, more in zip(rows, occasions, events, shared, strict=True):
            own = [*await self._posts_of(occasion, event), *more]
            posts += own
            if own or type(event) in self._after:
                left.append(row)
        # Cut to milliseconds, so that the mark equals the publications' timestamp (see the module's docstring).
        moment = self._wall()
        moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        ts = _milliseconds(moment)
        published = await history.append(
            session, [Draft(post.channel, post.ev, ts, bytes(post.data)) for post in posts]
        )
        ids = {row.id for row in left}
        if left:
            await session.execute(_MARK, {"moment": moment, "ids": list(ids)})
        await _forget(session, [row for row in rows if row.id not in ids])
        return _Batch(len(rows), left, published)

    async def _react_together(
        self, session: AsyncSession, occasions: Sequence[Occasion], events: Sequence[msgspec.Struct | None]
    ) -> list[list[Post]]:
        """Return what each event has to publish by this."""
        posts: list[list[Post]] = [[] for _ in events]
        by_type: dict[type[msgspec.Struct], list[int]] = {}
        for number, event in enumerate(events):
            if event is not None and type(event) in self._together:
                by_type.setdefault(type(event), []).append(number)
        for kind, numbers in by_type.items():
            happened = [Happened(occasions[number], events[number]) for number in numbers]
            for react in self._together[kind]:
                for number, more in zip(numbers, await react(session, happened), strict=True):
                    posts[number] += more
        return posts

    async def _posts_of(self, occasion: Occasion, event: msgspec.Struct | None) -> Sequence[Post]:
        reactions = self._reactions.get(type(event), ()) if event is not None else ()
        return [post for react in reactions for post in await react(occasion, event)]

    def _event_of(self, row: Row) -> msgspec.Struct | None:
        """Return the event, None if nothing follows from its kind."""
        decoder = self._decoders.get(row.type)
        return None if decoder is None else decoder.decode(row.data)

    async def _finish(self, rows: Sequence[Row], published: Iterable[tuple[str, Publication]]) -> None:
        """Show and do what follows the commit of the reactions, then forget the rows."""
        self._push(published)
        done = [row for row in rows if await self._do_after(row)]
        if done:
            async with self._sessions.begin() as session:
                await _forget(session, done)

    async def _do_after(self, row: Row) -> bool:
        """Do what follows outside; return False when it failed and the row stays, to be found by a sweep."""
        if row.type not in self._decoders:
            return True
        event = self._decoders[row.type].decode(row.data)
        follow = self._after.get(type(event))
        if follow is None:
            return True
        try:
            await follow(event)
        except Exception as error:  # noqa: BLE001 - noted, and tried again
            await self._note_failure(row, error)
            return False
        return True

    def _push(self, published: Iterable[tuple[str, Publication]]) -> None:
        by_channel: dict[str, list[Publication]] = {}
        for channel, publication in published:
            by_channel.setdefault(channel, []).append(publication)
        for channel, publications in by_channel.items():
            self._publish(channel, publications)

    async def _note_failure(self, row: Row, error: Exception) -> None:
        """Put an event off, or park it after the last try."""
        async with self._sessions.begin() as session:
            tries = 1 + (
                await session.scalar(select(RelayFailure.tries).where(RelayFailure.outbox_id == row.id)) or 0
            )
            retry_at = self._wall() + PAUSE * 2 ** (tries - 1) if tries < TRIES else None
            values = {"tries": tries, "retry_at": retry_at, "error": repr(error)[:2000]}
            await session.execute(
                insert(RelayFailure)
                .values(outbox_id=row.id, **values)
                .on_conflict_do_update(index_elements=[RelayFailure.outbox_id], set_=values)
            )
        tell = log.error if retry_at is None else log.warning
        tell(
            "event_parked" if retry_at is None else "reaction_failed",
            outbox_id=row.id,
            type=row.type,
            tries=tries,
            exc_info=error,
        )

    async def _push_left(self) -> bool:
        """Finish what a crash left between the commit of its reactions and its push."""
        query = (
            self._rows()
            .outerjoin(RelayFailure, RelayFailure.outbox_id == Outbox.id)
            .where(
                Outbox.reacted_at < self._wall() - STALE,
                or_(RelayFailure.outbox_id.is_(None), RelayFailure.retry_at <= self._wall()),
            )
            .add_columns(Outbox.reacted_at)
        )
        async with self._sessions() as session:
            left = (await session.execute(query)).all()
            stamps = {_milliseconds(reacted_at) for *_, reacted_at in left if reacted_at is not None}
            stored = await session.scalars(
                select(StoredPublication)
                .where(StoredPublication.ts.in_(stamps))
                .order_by(StoredPublication.channel, StoredPublication.off)
            )
            published = [
                (event.channel, Publication(event.off, event.ev, event.ts, event.d)) for event in stored
            ]
        # Two nodes may find the same rows; doing this twice is as good as once.
        await self._finish([Row(*found) for *found, _ in left], published)
        return len(left) == BATCH

    async def _tidy_rooms(self) -> bool:
        """Delete the rows of public room events that are old enough to have been pushed; push those of others.

        The owner pushes in the very next step after its commit. Whether it lived to do so is not known of another
        node's row: that one is pushed again from the journal.
        """
        is_old = (Outbox.type == PUBLISHED, Outbox.recorded_at < func.now() - STALE)
        async with self._sessions.begin() as session:
            await session.execute(delete(Outbox).where(*is_old, Outbox.node == self._node))
            found = await session.execute(self._rows().where(*is_old).with_for_update(skip_locked=True))
            rows = [Row(*row) for row in found]
            left = (_published.decode(row.data) for row in rows)
            for span in _joined(span for event in left for span in event.spans):
                await self._push_room(session, span)
            await session.execute(delete(Outbox).where(Outbox.id.in_([row.id for row in rows])))
        return len(rows) == BATCH

    async def _push_room(self, session: AsyncSession, span: Span) -> None:
        count = span.last_off - span.first_off + 1
        events = await journal.public_events(session, span.room_id, span.first_off - 1, count)
        publications = [Publication(found.off, found.ev, found.ts_ms, found.data) for found in events]
        if publications:
            self._publish(f"room:{span.room_id}", publications)

    async def _sleep(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._awake.wait()
        except TimeoutError:
            return


async def _forget(session: AsyncSession, rows: Sequence[Row]) -> None:
    if rows:
        await session.execute(_FORGET, {"ids": [row.id for row in rows]})


def _joined(spans: Iterable[Span]) -> Iterable[Span]:
    """Return one span a room, from its first to its last; receivers drop what they have of those between."""
    joined: dict[UUID, Span] = {}
    for span in spans:
        other = joined.get(span.room_id, span)
        joined[span.room_id] = Span(
            span.room_id, min(span.first_off, other.first_off), max(span.last_off, other.last_off)
        )
    return joined.values()


def _tag(event: type[msgspec.Struct]) -> str:
    tag: Any = event.__struct_config__.tag
    assert isinstance(tag, str), "an event is a tagged struct"
    return tag


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)

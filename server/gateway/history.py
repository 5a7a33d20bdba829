"""Where a channel's past is read: one reader per channel prefix, and the tables of channels without a journal."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server.gateway.models import ChannelHead, StoredPublication
from server.gateway.protocol import Position, Publication
from server.reads import Lookup, Reads

# A transaction of the relay may write to hundreds of channels; PostgreSQL takes at most 32,767 parameters.
INSERT_ROWS = 2_000

_HEAD = Lookup("""
    select a.no, h.epoch, h.off
    from unnest($1::text[]) with ordinality as a (channel, no)
    join channel_head h on h.channel = a.channel
""")


class History(Protocol):
    """What the hub reads of a channel's past."""

    async def heads(self, channels: Sequence[str]) -> Mapping[str, Position]:
        """Return how far each channel has come; channels that do not exist are missing."""

    async def read(self, channel: str, *, after: int, limit: int) -> Sequence[Publication]:
        """Return the events after an offset, in order, at most `limit`; those that are gone are missing."""


class Draft(msgspec.Struct, frozen=True):
    """An event that has no offset yet."""

    channel: str
    ev: str
    ts: int
    """Milliseconds of the Unix epoch."""
    d: bytes
    """JSON object."""


class TableHistory:
    """The history that `append` writes."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], reads: Reads) -> None:
        self._sessions = sessions
        self._reads = reads

    async def heads(self, channels: Sequence[str]) -> Mapping[str, Position]:
        """Return the heads; a channel without one gets it now, so that its epoch never changes."""
        found = await self._heads(channels)
        missing = sorted(set(channels) - found.keys())
        if missing:
            async with self._sessions.begin() as session:
                await _create_heads(session, missing)
            found |= await self._heads(missing)
        return found

    async def _heads(self, channels: Sequence[str]) -> dict[str, Position]:
        rows = await self._reads.find_all(_HEAD, [(channel,) for channel in channels])
        return {
            channel: Position(row[1], row[2])
            for channel, row in zip(channels, rows, strict=True)
            if row is not None
        }

    async def read(self, channel: str, *, after: int, limit: int) -> Sequence[Publication]:
        """See `History`."""
        query = (
            select(StoredPublication.off, StoredPublication.ev, StoredPublication.ts, StoredPublication.d)
            .where(StoredPublication.channel == channel, StoredPublication.off > after)
            .order_by(StoredPublication.off)
            .limit(limit)
        )
        async with self._sessions() as session:
            rows = (await session.execute(query)).all()
        return [Publication(off, ev, ts, d) for off, ev, ts, d in rows]


async def append(session: AsyncSession, drafts: Iterable[Draft]) -> list[tuple[str, Publication]]:
    """Store events and return them with their offsets, in the order given; publish them after the commit.

    Offsets are gap-free: the head's row stays locked until the commit, and heads are locked in sorted order so that
    two writers of the same channels cannot wait for each other.
    """
    drafts = list(drafts)
    channels = sorted({draft.channel for draft in drafts})
    if not channels:
        return []
    await _create_heads(session, channels)
    locked = select(ChannelHead).where(ChannelHead.channel.in_(channels)).order_by(ChannelHead.channel)
    heads = {
        head.channel: head
        for head in await session.scalars(
            locked.with_for_update(key_share=True).execution_options(populate_existing=True)
        )
    }
    published = []
    for draft in drafts:
        head = heads[draft.channel]
        head.off += 1
        published.append((draft.channel, Publication(head.off, draft.ev, draft.ts, draft.d)))
    rows = [
        {"channel": channel, "off": event.off, "ev": event.ev, "ts": event.ts, "d": event.d}
        for channel, event in published
    ]
    for start in range(0, len(rows), INSERT_ROWS):
        await session.execute(insert(StoredPublication), rows[start : start + INSERT_ROWS])
    await session.flush()
    return published


async def forget(session: AsyncSession, *, before_ms: int, limit: int) -> int:
    """Delete events older than what recovery reaches back to; return how many, at most `limit`."""
    old = (
        select(StoredPublication.channel, StoredPublication.off)
        .where(StoredPublication.ts < before_ms)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    keys = tuple_(StoredPublication.channel, StoredPublication.off)
    removed = await session.execute(
        delete(StoredPublication).where(keys.in_(old)).returning(StoredPublication.off)
    )
    return len(removed.all())


async def _create_heads(session: AsyncSession, channels: Sequence[str]) -> None:
    rows = [{"channel": channel, "epoch": secrets.token_hex(8), "off": 0} for channel in channels]
    await session.execute(insert(ChannelHead).values(rows).on_conflict_do_nothing())

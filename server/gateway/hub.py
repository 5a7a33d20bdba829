"""Channels and who follows them on this node; order, gaps, and one frame for everybody.

A member is *fast* when it has had everything the channel had: its wire gets the channel's frames as they are. It is
*held* while its subscription opens, while it is ahead of the channel or behind it, and while its socket is full.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog
from msgspec import Raw, Struct
from sqlalchemy.exc import SQLAlchemyError

from server import errors
from server.gateway.bus import Bus
from server.gateway.channel import Channel, Member, Pending, Receiver
from server.gateway.history import History
from server.gateway.limits import Limits
from server.gateway.metrics import Metrics
from server.gateway.outlet import tick_of
from server.gateway.protocol import (
    Codec,
    CommandError,
    Control,
    Event,
    HistoryPage,
    Position,
    Publication,
    Since,
    SubscriptionView,
    encode,
    event_json,
)

log = structlog.get_logger()

# Publications of a channel that was quiet for this long go out in the same loop tick; those that follow within it
# wait for its end and share one frame. 5 ms are below what anybody sees, and a hot room costs a quarter of the CPU
# (a write a member is the cost, not a message).
WINDOW_S = 0.005
# More than this goes out at once: a frame is written whole, and a socket that is full should hold one of them, not ten.
WINDOW_BYTES = 32 * 1024
# Every channel is compared with its history this often: a message that Redis lost is rare, a query for thousands of
# channels is not free. While the bus is down it is the only way that events of other nodes come, so every second.
CHECK_S = 30.0
CHECK_DOWN_S = 1.0
# Channels asked for in one query.
CHECK_BATCH = 500
# Events that arrive out of order wait here; above it they are forgotten and read from the history.
AHEAD = 1_000
# Messages over the bus overtake each other by milliseconds; only a gap that stays is read from the history.
GAP_S = 0.02
GAP_RETRY_S = (0.05, 1.0)
# Volatile publications that a subscription may collect while it opens, at most for an operation's 5 s; the durable
# ones are bounded by what a room's actor can journal in that time.
OPENING = 1_000
# A client that was told `more` and asks for no page is given the live events after this time anyway.
PAGING_S = 10.0

NOT_READABLE = "the channel cannot be read at the moment; try again"


class Hub:
    """All channels of this node."""

    def __init__(
        self,
        *,
        bus: Bus,
        histories: Mapping[str, History],
        limits: Limits,
        metrics: Metrics,
        left: Callable[[Receiver, str], None],
    ) -> None:
        self._bus = bus
        self._histories = histories
        self._limits = limits
        self._metrics = metrics
        self._left = left
        self._channels: dict[str, Channel] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._loop = asyncio.get_running_loop()
        self._tick = tick_of(self._loop)
        self._due: list[Channel] = []
        """Channels that go out when this turn of the loop ends."""

    def run_in(self, tasks: asyncio.TaskGroup) -> None:
        """Let `tasks` own what the hub does on its own: opening, filling gaps, checking heads."""
        self._tasks = tasks
        self.checks = tasks.create_task(self._check_forever())

    def knows(self, channel: str) -> bool:
        """Return whether channels of this kind exist."""
        return _prefix(channel) in self._histories

    # --- Publishing ---

    def publish(self, name: str, publications: Sequence[Publication]) -> None:
        """Deliver to this node's members at once and to the other nodes over the bus."""
        self.deliver(name, publications)
        channel = self._channels.get(name)
        is_volatile = all(publication.off is None for publication in publications)
        # A volatile message on a channel that nobody else follows need not travel; where we have no member we
        # cannot know who follows.
        if not is_volatile or channel is None or channel.is_shared:
            self._bus.publish(name, publications)

    def say(self, name: str, ev: str, d: Struct) -> None:
        """Publish one volatile message of now, the short way: what no other node wants is encoded once, whole."""
        ts = time.time_ns() // 1_000_000
        channel = self._channels.get(name)
        if channel is not None:
            self._push(channel, Pending(None, ev, encode(Event(name, ev, ts, d))))
        if channel is None or channel.is_shared:
            self._bus.publish(name, (Publication(None, ev, ts, encode(d)),))

    def deliver(self, name: str, publications: Iterable[Publication]) -> None:
        """Deliver to this node's members: each offset once and in order, gaps filled from the history."""
        channel = self._channels.get(name)
        if channel is None:
            return
        for publication in publications:
            off = publication.off
            if off is None:
                # Also while the channel opens: it waits in the buffers of those whose join was answered already.
                self._push(channel, _pending(channel, publication))
            elif not channel.is_open or off > channel.last + 1:
                self._put_ahead(channel, publication)
            elif off == channel.last + 1:
                channel.last = off
                self._push(channel, _pending(channel, publication))
                if channel.ahead:
                    self._drain_ahead(channel)

    def _push(self, channel: Channel, item: Pending) -> None:
        channel.pending.append(item)
        channel.pending_bytes += len(item.json)
        if channel.pending_bytes >= WINDOW_BYTES:
            self._flush(channel)
            return
        if channel.is_scheduled:
            return
        channel.is_scheduled = True
        wait = channel.flushed_at + WINDOW_S - self._loop.time()
        if wait <= 0:
            if not self._due:
                self._loop.call_soon(self._flush_due)
            self._due.append(channel)
        else:
            self._loop.call_later(wait, self._flush_later, channel)

    def _flush_due(self) -> None:
        due, self._due = self._due, []
        for channel in due:
            self._flush_later(channel)
        self._tick.run()  # now, not after one more look at all sockets

    def _flush_later(self, channel: Channel) -> None:
        channel.is_scheduled = False
        try:
            self._flush(channel)
        except Exception:
            log.exception(
                "channel_flush_failed", channel=channel.name
            )  # the other channels go out all the same

    def _flush(self, channel: Channel) -> None:
        pending = channel.pending
        if not pending:
            return
        channel.pending, channel.pending_bytes = [], 0
        channel.flushed_at = self._loop.time()
        for codec, outlets in channel.outlets().items():
            self._tick.broadcast(outlets, _shared_frame(codec, pending))
        if channel.held:
            for member in list(channel.held.values()):
                self._give_held(member, pending)

    def _give_held(self, member: Member, pending: list[Pending]) -> None:
        if member.buffer is not None:
            is_full = len(member.buffer) >= OPENING
            member.buffer.extend(item for item in pending if not is_full or item.off is not None)
            return
        for item in pending:
            self._give(member, item)
        self._promote(member)

    def _give(self, member: Member, item: Pending) -> None:
        off = item.off
        if off is not None and (member.paging_until is not None or off <= member.last):
            return
        if off is not None:
            member.last = off
        conflate = f"{member.channel.name} {item.ev}" if off is None else None
        member.receiver.send(item.frame(member.receiver.codec), conflate=conflate)

    def _promote(self, member: Member) -> None:
        """Put a member on the fast path if it has had everything and its socket takes more."""
        channel = member.channel
        if (
            member.buffer is None
            and member.paging_until is None
            and not member.receiver.is_congested
            and member.last <= channel.last
            and member.receiver in channel.held
        ):
            if channel.pending:
                self._flush(channel)  # what it has had already must not reach it again
                return  # the flush has promoted it, or seen why not
            channel.put_fast(member)

    def congested(self, receiver: Receiver) -> None:
        """Take a connection whose socket is full off the fast path of all its channels."""
        for member in receiver.memberships.values():
            channel = member.channel
            if channel.pending and receiver in channel.fast:
                self._flush(channel)
            channel.put_held(member)

    def relieved(self, receiver: Receiver) -> None:
        """Put a connection whose backlog is gone back."""
        for member in receiver.memberships.values():
            self._promote(member)

    # --- Subscribing ---

    def join(self, receiver: Receiver, name: str) -> Member:
        """Register a connection with a channel; from now on nothing that is published is lost for it.

        `start` has to follow, or `leave`.
        """
        channel = self._channels.get(name)
        if channel is None:
            assert self._tasks is not None, "a hub that has members runs"
            channel = self._channels[name] = Channel(name, self._loop.create_future())
            self._tasks.create_task(self._open(channel))
            self._metrics.channels.inc()
        member = Member(channel, receiver)
        channel.held[receiver] = member
        receiver.memberships[channel.name] = member
        return member

    def leave(self, receiver: Receiver, name: str) -> bool:
        """Forget a membership; return whether there was one."""
        member = receiver.memberships.pop(name, None)
        if member is None:
            return False
        channel = member.channel
        channel.remove(receiver)
        self._left(receiver, name)
        if not channel.fast and not channel.held:
            self._close(channel)
        return True

    async def position(self, member: Member, since: Since | None) -> SubscriptionView:
        """Find where a subscription starts and what it missed; send that, then `start`.

        Raises:
            CommandError: The channel does not exist, or its history cannot be read now.
        """
        channel = member.channel
        await self._until_open(channel)
        if since is None:
            member.last = channel.last
            return SubscriptionView(channel.epoch, channel.last, recovered=False)
        if since.epoch == channel.epoch and since.off > channel.last:
            await self._catch_up(channel)
        # No await between these lines and the buffer: what comes after `head` waits there.
        head = channel.last
        missed = head - since.off
        if since.epoch != channel.epoch or not 0 <= missed <= self._limits.recover_events:
            return self._unrecovered(member)
        if missed == 0:
            self._metrics.resumes.labels("lossless").inc()
            member.last = head
            return SubscriptionView(channel.epoch, head, recovered=True)
        events = await self._read(channel, after=since.off, limit=min(missed, self._limits.history_page))
        if not events or self._is_too_old(events[0]):
            return self._unrecovered(member)
        self._metrics.resumes.labels("replayed").inc()
        member.last = events[-1].off or 0
        has_more = member.last < head
        member.paging_until = self._loop.time() + PAGING_S if has_more else None
        raws = [Raw(event_json(channel.name, event)) for event in events]
        return SubscriptionView(channel.epoch, member.last, recovered=True, events=raws, more=has_more)

    async def follow(self, member: Member, off: int) -> None:
        """Start a subscription at an offset that the client was told already, sending what came since as events.

        Raises:
            CommandError: The history cannot be read now, or does not reach back to `off`.
        """
        channel = member.channel
        await self._until_open(channel)
        member.last = off
        while member.last < channel.last:
            events = await self._read(channel, after=member.last, limit=self._limits.history_page)
            if not events:
                raise CommandError(errors.UNRECOVERABLE_POSITION, "the history does not reach back that far")
            for event in events:
                member.last = event.off or 0
                member.receiver.send(member.receiver.codec.frame([event_json(channel.name, event)]))
        self.start(member)

    def start(self, member: Member) -> None:
        """Send what was published while the subscription opened, without what the client has already."""
        if member.receiver.memberships.get(member.channel.name) is not member:
            return  # it left meanwhile
        channel = member.channel
        if channel.pending:
            self._flush(channel)
        if member.is_reset:
            member.is_reset = False
            member.receiver.send(member.receiver.codec.frame([_reset_json(channel, member.last)]))
        buffered, member.buffer = member.buffer or [], None
        for item in buffered:
            self._give(member, item)
        self._promote(member)
        if member.farewell is not None:
            member.farewell()

    def dismiss(self, receiver: Receiver, name: str, farewell: Callable[[], None]) -> None:
        """End a membership by `farewell`, which leaves, once everything published before has been sent."""
        member = receiver.memberships.get(name)
        if member is None:
            return
        self._flush(member.channel)
        if member.buffer is None:
            farewell()
        else:
            member.farewell = farewell

    async def history(self, member: Member | None, name: str, since: Since, limit: int) -> HistoryPage:
        """Return a page after a position; a subscriber that was told `more` is caught up by its last page.

        Raises:
            CommandError: The position is of another epoch or too old, or the history cannot be read now.
        """
        channel = member.channel if member is not None else None
        if channel is None:
            head = await self._head(name)
        else:
            await self._until_open(channel)
            head = Position(channel.epoch, channel.last)
        if since.epoch != head.epoch or since.off > head.off:
            raise CommandError(
                errors.UNRECOVERABLE_POSITION, "the channel has another epoch, or never came so far"
            )
        if since.off == head.off:
            events: Sequence[Publication] = ()
        else:
            events = await self._read_from(name, after=since.off, limit=min(limit, head.off - since.off))
            if not events:
                raise CommandError(errors.UNRECOVERABLE_POSITION, "the history does not reach back that far")
        off = (events[-1].off or 0) if events else since.off
        raws = [Raw(event_json(name, event)) for event in events]
        has_more = off < (channel.last if channel is not None else head.off)
        return HistoryPage(head.epoch, off, raws, has_more)

    def paged(self, member: Member, page: HistoryPage) -> None:
        """Note that a subscriber who reads pages has this one; call it right after the page was sent."""
        if member.paging_until is None or page.off < member.last:
            return
        member.last = page.off
        if page.off >= member.channel.last:
            self._end_paging(member)
        else:
            member.paging_until = self._loop.time() + PAGING_S

    def _end_paging(self, member: Member) -> None:
        member.paging_until = None
        self._promote(member)

    def _unrecovered(self, member: Member) -> SubscriptionView:
        channel = member.channel
        self._metrics.resumes.labels("reset").inc()
        member.last = channel.last
        member.is_reset = True
        return SubscriptionView(channel.epoch, channel.last, recovered=False)

    def _is_too_old(self, event: Publication) -> bool:
        return event.ts < (time.time() - self._limits.recover_age_s) * 1000

    # --- Opening and closing ---

    async def _open(self, channel: Channel) -> None:
        ready = channel.ready
        assert ready is not None, "a channel opens once"
        if self._channels.get(channel.name) is not channel:
            return  # everybody left before it began
        # Before the head is read: a channel that has to be compared sooner is said to be from then on.
        channel.check_at = self._loop.time() + CHECK_S * random.uniform(0.5, 1.0)  # noqa: S311 - spreads checks
        try:
            await self._bus.subscribe(channel.name)
            head = await self._head(channel.name)
        except Exception as error:
            if not isinstance(error, CommandError):
                log.exception("channel_open_failed", channel=channel.name)
            if not ready.done():
                ready.set_exception(error)
                ready.exception()  # seen, also when nobody waits any more
            return
        if ready.done():
            return
        channel.epoch, channel.last = head.epoch, head.off
        channel.target = max(channel.target, head.off)
        channel.ready = None
        ready.set_result(None)
        self._drain_ahead(channel)

    def _close(self, channel: Channel) -> None:
        if channel.ready is not None:
            channel.ready.cancel()
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]
            self._bus.unsubscribe(channel.name)
            self._metrics.channels.dec()

    async def _until_open(self, channel: Channel) -> None:
        ready = channel.ready
        if ready is None:
            return
        try:
            await asyncio.shield(ready)
        except asyncio.CancelledError:
            if ready.cancelled():
                raise CommandError(errors.NOT_AVAILABLE, "the subscription was given up") from None
            raise

    # --- History, gaps, heads ---

    def _put_ahead(self, channel: Channel, publication: Publication) -> None:
        assert publication.off is not None, "only what has an offset can be ahead"
        channel.target = max(channel.target, publication.off)
        if len(channel.ahead) < AHEAD:
            channel.ahead[publication.off] = publication
        self._fill_soon(channel)

    def _drain_ahead(self, channel: Channel) -> None:
        ahead = channel.ahead
        while (publication := ahead.pop(channel.last + 1, None)) is not None:
            channel.last += 1
            self._push(channel, _pending(channel, publication))
        if ahead:
            channel.ahead = {off: item for off, item in ahead.items() if off > channel.last}
        if channel.target > channel.last:
            self._fill_soon(channel)

    def _fill_soon(self, channel: Channel) -> None:
        if channel.is_open and not channel.is_filling and self._tasks is not None:
            channel.is_filling = True
            self._tasks.create_task(self._fill(channel))

    async def _fill(self, channel: Channel) -> None:
        """Read from the history what did not arrive, until the channel is where it is known to be."""
        delay = GAP_RETRY_S[0]
        try:
            await asyncio.sleep(GAP_S)
            while channel.target > channel.last and self._channels.get(channel.name) is channel:
                before = channel.last
                try:
                    await self._fill_page(channel)
                except CommandError:
                    log.warning("history_unreadable", channel=channel.name)
                if channel.last == before:
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, GAP_RETRY_S[1])
        except Exception:
            log.exception("channel_fill_failed", channel=channel.name)
        finally:
            channel.is_filling = False

    async def _fill_page(self, channel: Channel) -> None:
        after = channel.last
        found = await self._read_any(channel.name, after=after, limit=self._limits.history_page)
        if found and after == channel.last:
            self._metrics.gaps.inc()
            if found[0].off != after + 1:
                self._reset(channel, Position(channel.epoch, (found[0].off or 1) - 1))
        for event in found:
            if event.off == channel.last + 1:
                channel.last = event.off
                self._push(channel, _pending(channel, event))
        self._drain_ahead(channel)

    def _reset(self, channel: Channel, position: Position) -> None:
        """Go on at another position; what lies between is lost, and every member is told so."""
        self._flush(channel)
        is_same = position.epoch == channel.epoch
        channel.target = max(channel.target, position.off) if is_same else position.off
        channel.epoch, channel.last = position.epoch, position.off
        channel.ahead.clear()
        message = _reset_json(channel, channel.last)
        for member in [*channel.fast.values(), *channel.held.values()]:
            member.last = channel.last
            member.receiver.send(member.receiver.codec.frame([message]))
        log.warning("channel_reset", channel=channel.name, off=channel.last)

    async def _catch_up(self, channel: Channel) -> None:
        """Bring the channel to its head; a client may know more than this node has heard."""
        head = await self._head(channel.name)
        channel.target = max(channel.target, head.off)
        while channel.last < head.off:
            before = channel.last
            await self._fill_page(channel)
            if channel.last == before:
                break

    async def _read(self, channel: Channel, *, after: int, limit: int) -> Sequence[Publication]:
        return await self._read_from(channel.name, after=after, limit=limit)

    async def _read_from(self, name: str, *, after: int, limit: int) -> Sequence[Publication]:
        """Return events right after an offset without a gap; nothing if the first of them is gone."""
        found = await self._read_any(name, after=after, limit=limit)
        if any(event.off != after + number for number, event in enumerate(found, 1)):
            return ()
        return found

    async def _read_any(self, name: str, *, after: int, limit: int) -> Sequence[Publication]:
        try:
            return await self._history_of(name).read(name, after=after, limit=limit)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("history_read_failed", channel=name, error=type(error).__name__)
            raise CommandError(errors.OVERLOADED, NOT_READABLE) from error

    async def _head(self, name: str) -> Position:
        try:
            heads = await self._history_of(name).heads([name])
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("history_head_failed", channel=name, error=type(error).__name__)
            raise CommandError(errors.OVERLOADED, NOT_READABLE) from error
        if name not in heads:
            raise CommandError(errors.UNKNOWN_CHANNEL, "there is no such channel")
        return heads[name]

    def _history_of(self, name: str) -> History:
        return self._histories[_prefix(name)]

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(CHECK_DOWN_S)
            now = self._loop.time()
            # While nothing arrives from other nodes, everybody is due each time.
            is_down = not self._bus.is_up
            open_channels = [channel for channel in self._channels.values() if channel.is_open]
            due = [channel for channel in open_channels if is_down or channel.check_at <= now]
            for channel in due:
                channel.check_at = now + CHECK_S * random.uniform(0.8, 1.0)  # noqa: S311 - spreads checks
            try:
                await self._check(due)
                self._let_go_of_pagers(now)
            except Exception:
                log.exception("channel_check_failed")

    def _let_go_of_pagers(self, now: float) -> None:
        # Copies: who is let go of may turn out to be too slow, and take a channel along.
        for channel in list(self._channels.values()):
            for member in list(channel.held.values()):
                if member.paging_until is not None and member.paging_until <= now:
                    member.last = channel.last
                    self._end_paging(member)

    async def _check(self, channels: Sequence[Channel]) -> None:
        """Compare channels with their history: what was lost on the way is found here."""
        by_prefix: dict[str, list[Channel]] = {}
        for channel in channels:
            by_prefix.setdefault(_prefix(channel.name), []).append(channel)
        for prefix, some in by_prefix.items():
            for start in range(0, len(some), CHECK_BATCH):
                batch = some[start : start + CHECK_BATCH]
                try:
                    heads = await self._histories[prefix].heads([channel.name for channel in batch])
                except (SQLAlchemyError, OSError, TimeoutError) as error:
                    log.warning("heads_unreadable", error=type(error).__name__)
                    continue
                for channel in batch:
                    self._compare(channel, heads.get(channel.name))

    def _compare(self, channel: Channel, head: Position | None) -> None:
        if head is None:
            return
        if head.epoch != channel.epoch:
            self._reset(channel, head)
        elif head.off > channel.last:
            channel.target = max(channel.target, head.off)
            self._fill_soon(channel)

    def check_all(self) -> None:
        """Compare every channel with its history within a second."""
        self.check_soon(self._channels)

    def check_soon(self, names: Iterable[str]) -> None:
        """Compare channels with their history within a second."""
        for name in names:
            channel = self._channels.get(name)
            if channel is not None:
                channel.check_at = 0.0

    def share(self, names: Iterable[str]) -> list[str]:
        """Note that other nodes have members in these channels; return those that have some here."""
        ours = []
        for name in names:
            channel = self._channels.get(name)
            if channel is not None:
                channel.is_shared = True
                ours.append(name)
        return ours


def _pending(channel: Channel, publication: Publication) -> Pending:
    return Pending(publication.off, publication.ev, event_json(channel.name, publication))


def _reset_json(channel: Channel, off: int) -> bytes:
    return encode(Control("reset", {"ch": channel.name, "epoch": channel.epoch, "off": off}))


def _prefix(name: str) -> str:
    """Return a channel's kind, `room:` of `room:9f…`."""
    return name[: name.find(":") + 1]


def _shared_frame(codec: Codec, pending: Sequence[Pending]) -> bytes:
    return codec.frame([item.json for item in pending])

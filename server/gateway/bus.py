"""What travels between nodes, over the Redis protocol: publications, calls, and control messages.

Losing Redis costs latency, never data: what counts is in PostgreSQL, and while the bus is down the hub compares its
channels with their history more often. Local delivery never waits for the bus.

Where the server offers it (Redis 7, Valkey), pub/sub is sharded: a channel then belongs to one slot, as keys do.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from server import errors
from server.gateway.metrics import Metrics
from server.gateway.protocol import Publication

log = structlog.get_logger()

# Names of ours in a Redis that may be shared.
PREFIX = "fourtalk:"
EVERYBODY = PREFIX + "everybody"
# Every node says this often that it lives; three missed beats and it is forgotten, so that a call to a dead node fails
# long before its lease ends. A node that only hangs for so long answers "overloaded" through the others: no harm.
BEAT_S = 1.0
PEER_TTL_S = 3.5
# Waiting for the confirmation of a subscription; whoever goes on without it compares the channel once more when it comes.
SUBSCRIBE_S = 1.0
# The others notice an end by themselves; telling them must not hold up a shutdown.
LEAVE_S = 1.0
# What may wait for Redis. Above it publications are dropped: durable ones are found by the check of heads.
OUTGOING = 10_000
# One pipeline; more would hold the loop for longer than a millisecond.
BATCH = 256
# Commands forwarded to this node that run at the same time; the caller of one more hears `overloaded`.
CALLS = 256
RECONNECT_S = (0.1, 2.0)


class BusError(errors.OverloadedError):
    """Another node cannot be reached, or has too much to do: it did nothing."""


class _Publish(msgspec.Struct, array_like=True, tag="p"):
    channel: str
    publications: list[Publication]


class _Interest(msgspec.Struct, array_like=True, tag="i"):
    """A node has members in these channels; `to` answers that node."""

    channels: list[str]
    is_answer: bool = False


class _Beat(msgspec.Struct, array_like=True, tag="b"):
    """A node lives; a new one wants to be answered at once, one that ends says so."""

    is_new: bool = False
    is_last: bool = False


class _Control(msgspec.Struct, array_like=True, tag="c"):
    name: str
    value: str


class _Call(msgspec.Struct, array_like=True, tag="q"):
    number: int
    payload: bytes


class _Answer(msgspec.Struct, array_like=True, tag="a"):
    number: int
    payload: bytes | None


_Message = _Publish | _Interest | _Beat | _Control | _Call | _Answer
_decode = msgspec.msgpack.Decoder(_Message).decode
_encode = msgspec.msgpack.Encoder().encode
_Entry = TypeVar("_Entry")


class Listener(Protocol):
    """Who hears what other nodes say."""

    def arrived(self, channel: str, publications: Sequence[Publication]) -> None:
        """Take publications of another node."""

    def shared(self, channels: Sequence[str]) -> list[str]:
        """Note that another node has members in these channels; return those that have members here."""

    def control(self, name: str, value: str) -> None:
        """Take a control message of another node."""

    def reconnected(self) -> None:
        """The bus is back: something may have been missed."""

    def missed(self, channels: Iterable[str]) -> None:
        """Compare channels with their history: other nodes may have said something before they were heard."""

    def forgotten(self, node: str) -> None:
        """Note that another node has ended, or is silent for too long."""


class Bus:
    """One node's end of the bus. Use it as `async with bus:`; it owns its tasks."""

    def __init__(self, redis: Redis, *, node: str, metrics: Metrics) -> None:
        self.node = node
        self.is_up = False
        self._redis = redis
        self._metrics = metrics
        self._listener: Listener | None = None
        self._serve: Callable[[bytes], Awaitable[bytes]] | None = None
        name = node.encode()
        self._tag = bytes((len(name),)) + name
        self._pubsub: PubSub | None = None
        self._channels: set[str] = set()
        self._confirmed: dict[str, asyncio.Future[None]] = {}
        self._early: set[str] = set()
        """Channels whose subscriber did not wait until other nodes were heard."""
        self._outgoing: list[tuple[str, bytes]] = []
        self._publishing: dict[str, list[Publication]] = {}
        """What waits for the next write, by channel: one message carries all of it."""
        self._is_sharded = False
        self._orders: dict[str, None] = {}
        """Channels to be heard, or not any more, whichever is true when their turn comes."""
        self._has_orders = asyncio.Event()
        self._unanswered: dict[str, int] = {}
        """How many answers to subscriptions of a channel are still to come; only the last one confirms."""
        self._wake = asyncio.Event()
        self._peers: dict[str, float] = {}
        self._certain_at = 0.0
        """By then every other node has said that it lives."""
        self._calls: dict[int, tuple[str, asyncio.Future[bytes | None]]] = {}
        self._next_call = random.getrandbits(32)
        self._serving = 0
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def is_alone(self) -> bool:
        """Return whether it is certain that no other node lives."""
        return self.is_up and not self._peers and time.monotonic() >= self._certain_at

    def knows(self, node: str) -> bool:
        """Return whether another node was heard of lately; its end will be told."""
        return node in self._peers

    def listen(self, listener: Listener) -> None:
        """Send what other nodes say to `listener`."""
        self._listener = listener

    def serve(self, handler: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Answer the calls of other nodes with `handler`; it returns errors as bytes of its own."""
        self._serve = handler

    async def run(self) -> None:
        """Keep the connection, read, write and beat until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._read())
            tasks.create_task(self._order_forever())
            tasks.create_task(self._write())
            tasks.create_task(self._beat())

    async def leave(self) -> None:
        """Tell the others that this node ends."""
        self._send(EVERYBODY, _Beat(is_last=True))
        try:
            async with asyncio.timeout(LEAVE_S), self._line() as line:
                await self._flush(line)
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("leaving_not_told", error=type(error).__name__)

    # --- Publications ---

    async def subscribe(self, channel: str) -> None:
        """Hear what other nodes publish on a channel; returns when that is certain, or not worth waiting for.

        Nobody waits while there is no other node, while the bus is down, or for longer than it may take. What other
        nodes say before they are heard is then found in the history (`Listener.missed`).
        """
        confirmed = self._confirmed.get(channel)
        if confirmed is None:
            confirmed = self._confirmed[channel] = asyncio.get_running_loop().create_future()
            self._channels.add(channel)
            self._order(channel)
        if confirmed.done():
            return
        if self.is_up and not self.is_alone:
            try:
                async with asyncio.timeout(SUBSCRIBE_S):
                    await asyncio.shield(confirmed)
            except TimeoutError:
                log.warning("bus_subscribe_timed_out")
            else:
                return
        if self._confirmed.get(channel) is confirmed:
            self._early.add(channel)

    def unsubscribe(self, channel: str) -> None:
        """Undo `subscribe`."""
        self._channels.discard(channel)
        self._early.discard(channel)
        self._confirmed.pop(channel, None)
        self._order(channel)

    def publish(self, channel: str, publications: Sequence[Publication]) -> None:
        """Send publications to the other nodes, if there are any."""
        if not self._peers or not self.is_up:
            return
        waiting = self._publishing.get(channel)
        if waiting is not None:
            waiting += publications
        elif len(self._publishing) >= OUTGOING:
            self._metrics.dropped.labels("bus").inc()
        else:
            self._publishing[channel] = list(publications)
            self._wake.set()

    # --- Control and calls ---

    def broadcast(self, name: str, value: str) -> None:
        """Send a control message to every other node."""
        if self._peers and self.is_up:
            self._send(EVERYBODY, _Control(name, value))

    async def call(self, node: str, payload: bytes, timeout_s: float) -> bytes:
        """Ask another node and return its answer.

        Raises:
            BusError: The bus is down, the node was not heard of lately, or it is too busy.
            TimeoutError: The node did not answer, or was forgotten meanwhile; whether it acted is unknown.
        """
        if not self.is_up:
            raise BusError("the bus is down")
        if node not in self._peers:
            # A dead node is forgotten before its lease ends: whoever asks again finds the moment it may be replaced.
            raise BusError(f"node {node} was not heard of lately")
        self._next_call += 1
        number = self._next_call
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._calls[number] = (node, answer)
        try:
            self._send(PREFIX + "node:" + node, _Call(number, payload))
            async with asyncio.timeout(timeout_s):
                found = await answer
        except TimeoutError:
            raise TimeoutError(f"node {node} did not answer within {timeout_s} s") from None
        finally:
            del self._calls[number]
        if found is None:
            raise BusError(f"node {node} is too busy")
        return found

    # --- Writing ---

    def _send(self, topic: str, message: _Message) -> None:
        if len(self._outgoing) >= OUTGOING:
            self._metrics.dropped.labels("bus").inc()
            return
        self._outgoing.append((topic, self._tag + _encode(message)))
        self._wake.set()

    def _order(self, channel: str) -> None:
        self._orders[channel] = None
        self._has_orders.set()

    async def _order_forever(self) -> None:
        """Carry out orders beside everything else that is written: people wait for them at the door."""
        while True:
            await self._has_orders.wait()
            self._has_orders.clear()
            await self._try(self._apply_orders)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            await self._try(self._write_while_up)

    async def _write_while_up(self) -> None:
        """Write over one connection until the bus is lost.

        Taking one out of the pool for each message cost 190 us, where the message itself costs 50.
        """
        pubsub = self._pubsub
        async with self._line() as line:
            while self._pubsub is pubsub:
                self._wake.clear()
                await self._flush(line)
                await self._wake.wait()

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[AbstractConnection]:
        pool = self._redis.connection_pool
        line: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it without types
        is_whole = False
        try:
            yield line
            is_whole = True
        finally:
            if not is_whole:
                await line.disconnect(nowait=True)  # answers may be under way that nobody waits for any more
            await pool.release(line)

    async def _try(self, write: Callable[[], Awaitable[None]]) -> None:
        try:
            await write()
        except (RedisError, OSError) as error:
            # The reader notices too and reconnects. What was being sent is lost, as it would be at any
            # moment of an outage; heads are checked afterwards.
            log.warning("bus_write_failed", error=type(error).__name__)
            await asyncio.sleep(RECONNECT_S[0])

    async def _apply_orders(self) -> None:
        """Hear, or hear no more, all channels that were ordered since, without waiting for an answer."""
        pubsub = self._pubsub
        if pubsub is None:
            return
        orders = list(self._orders)
        self._orders.clear()
        wanted = [channel for channel in orders if channel in self._channels]
        unwanted = [channel for channel in orders if channel not in self._channels]
        for names in _batches(wanted):
            await self._hear_channels(pubsub, names)
            self._send(EVERYBODY, _Interest(names))
        for names in _batches(unwanted):
            ignore = pubsub.sunsubscribe if self._is_sharded else pubsub.unsubscribe
            await ignore(*(PREFIX + name for name in names))

    async def _hear_channels(self, pubsub: PubSub, names: Sequence[str]) -> None:
        for name in names:
            self._unanswered[name] = self._unanswered.get(name, 0) + 1
        await self._hear(pubsub, [PREFIX + name for name in names])

    async def _hear(self, pubsub: PubSub, topics: Sequence[str]) -> None:
        hear = pubsub.ssubscribe if self._is_sharded else pubsub.subscribe
        await hear(*topics)

    async def _flush(self, line: AbstractConnection) -> None:
        say = "SPUBLISH" if self._is_sharded else "PUBLISH"
        while self._outgoing or self._publishing:
            self._put_publications()
            batch, self._outgoing = self._outgoing[:BATCH], self._outgoing[BATCH:]
            commands = line.pack_commands([(say, topic, payload) for topic, payload in batch])
            await line.send_packed_command(commands, check_health=False)
            for _ in batch:
                await line.read_response()

    def _put_publications(self) -> None:
        """Queue what was published since the last write: as late as possible, so that a message carries much."""
        waiting, self._publishing = self._publishing, {}
        for channel, publications in waiting.items():
            self._outgoing.append((PREFIX + channel, self._tag + _encode(_Publish(channel, publications))))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if not self.is_up:
                continue  # nobody is heard, so nobody's silence means anything
            now = time.monotonic()
            for node in [node for node, seen in self._peers.items() if now - seen > PEER_TTL_S]:
                log.info("peer_forgotten", peer=node)
                self._forget(node)
            self._send(EVERYBODY, _Beat())

    def _forget(self, node: str) -> None:
        """Expect nothing more from a node, no answers either."""
        if self._peers.pop(node, None) is None:
            return
        for called, waiting in self._calls.values():
            if called == node and not waiting.done():
                waiting.set_exception(TimeoutError(f"node {node} is gone"))
        if self._listener is not None:
            self._listener.forgotten(node)

    # --- Reading ---

    async def _read(self) -> None:
        delay = RECONNECT_S[0]
        while True:
            pubsub = self._redis.pubsub()
            try:
                self._is_sharded = await self._offers_shards()
                await self._hear(pubsub, [EVERYBODY, PREFIX + "node:" + self.node])
                self._orders.clear()  # those that come from here on are carried out once the bus is up
                for names in _batches(sorted(self._channels)):
                    await self._hear_channels(pubsub, names)
                self._came_up(pubsub)
                delay = RECONNECT_S[0]
                while True:
                    message = await pubsub.get_message(timeout=None)
                    if message is not None:
                        self._take(message)
            except (RedisError, OSError) as error:
                log.warning("bus_lost", error=type(error).__name__)
            finally:
                self._went_down()
                await _close(pubsub)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects
            delay = min(delay * 2, RECONNECT_S[1])

    async def _offers_shards(self) -> bool:
        try:
            await self._redis.spublish(PREFIX + "probe", b"")
        except ResponseError as error:
            log.info("bus_not_sharded", why=str(error))
            return False
        return True

    def _came_up(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub
        self.is_up = True
        self._has_orders.set()
        now = time.monotonic()
        # The others may need the longest pause between two tries until they are back too.
        self._peers = dict.fromkeys(self._peers, now + RECONNECT_S[1])
        self._certain_at = now + RECONNECT_S[1]
        self._metrics.bus_up.set(1)
        self._send(EVERYBODY, _Beat(is_new=True))
        for names in _batches(sorted(self._channels)):
            self._send(EVERYBODY, _Interest(names))
        if self._listener is not None:
            self._listener.reconnected()

    def _went_down(self) -> None:
        self._pubsub = None
        self.is_up = False
        self._metrics.bus_up.set(0)
        for channel, confirmed in self._confirmed.items():
            if confirmed.done():
                self._confirmed[channel] = asyncio.get_running_loop().create_future()
        self._early = set(self._channels)
        self._unanswered.clear()

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] in ("subscribe", "ssubscribe"):
            self._confirm(message["channel"].decode().removeprefix(PREFIX))
            return
        if message["type"] not in ("message", "smessage"):
            return
        data: bytes = message["data"]
        if data.startswith(self._tag):
            return  # an echo of our own
        size = 1 + data[0]
        try:
            message_of_peer = _decode(memoryview(data)[size:])
        except msgspec.DecodeError:
            log.warning("bus_message_unreadable")
            return
        try:
            self._dispatch(data[1:size].decode(), message_of_peer)
        except Exception:
            log.exception("bus_message_failed", kind=type(message_of_peer).__name__)

    def _confirm(self, channel: str) -> None:
        left = self._unanswered.pop(channel, 1) - 1
        if left:
            self._unanswered[channel] = left
        confirmed = self._confirmed.get(channel)
        if left or confirmed is None or channel in self._orders:
            return  # it was given up meanwhile, and perhaps wanted again: that has an answer of its own
        if not confirmed.done():
            confirmed.set_result(None)
        if channel in self._early:
            self._early.discard(channel)
            # Who is alone has missed nothing, unless another node turns out to live: then everything is compared.
            if not self.is_alone and self._listener is not None:
                self._listener.missed((channel,))

    def _find(self, node: str) -> None:
        log.info("peer_found", peer=node)
        if not self._peers and self._listener is not None:
            # Channels were opened without waiting, and this node may have spoken in that time.
            self._listener.missed(self._channels)

    def _dispatch(self, sender: str, message: _Message) -> None:  # noqa: C901 - one branch a kind of message
        listener = self._listener
        assert listener is not None, "a bus that runs has a listener"
        match message:
            case _Publish():
                listener.arrived(message.channel, message.publications)
            case _Interest():
                ours = listener.shared(message.channels)
                if ours and not message.is_answer:
                    self._send(PREFIX + "node:" + sender, _Interest(ours, is_answer=True))
            case _Beat():
                if message.is_last:
                    self._forget(sender)
                    return
                if sender not in self._peers:
                    self._find(sender)
                self._peers[sender] = time.monotonic()
                if message.is_new:
                    self._send(EVERYBODY, _Beat())
            case _Control():
                listener.control(message.name, message.value)
            case _Call():
                self._begin_call(sender, message)
            case _Answer():
                _, waiting = self._calls.get(message.number, (sender, None))
                if waiting is not None and not waiting.done():
                    waiting.set_result(message.payload)

    def _begin_call(self, sender: str, call: _Call) -> None:
        if self._serve is None or self._serving >= CALLS or self._tasks is None:
            self._send(PREFIX + "node:" + sender, _Answer(call.number, None))
            return
        self._serving += 1
        self._tasks.create_task(self._answer(sender, call))

    async def _answer(self, sender: str, call: _Call) -> None:
        assert self._serve is not None, "checked before the task began"
        payload: bytes | None = None
        try:
            payload = await self._serve(call.payload)
        except Exception:
            log.exception("bus_call_failed", peer=sender)
        finally:
            self._serving -= 1
        self._send(PREFIX + "node:" + sender, _Answer(call.number, payload))


def _batches(items: list[_Entry]) -> list[list[_Entry]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


async def _close(pubsub: PubSub) -> None:
    try:
        await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it without types
    except (RedisError, OSError):
        log.debug("bus_close_failed")

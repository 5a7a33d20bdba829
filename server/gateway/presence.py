"""Who is around: people who say so, shown to everybody who follows a presence channel, on every node.

The one scope is a room: `presence:room:<id>` is for whoever may follow `room:<id>`, and nobody else (people who share
a conversation, course or booking share a room). Nobody is shown who did not say `presence.set`; looking on alone
shows nothing. It says who is around, not who has a seat: that is the room's own channel.

Each node knows its own people; what it knows it keeps as one field of the scope's hash in Redis, and says to the
other nodes whenever it changes. Both are always all of it, so a message that was lost is made good by the next, and a
node's people vanish with the node. Nothing here is worth more than latency: without Redis each node shows its own.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server import errors
from server.gateway.bus import PREFIX as KEYS, Bus
from server.gateway.channel import Receiver
from server.gateway.connection import Connection
from server.gateway.hub import Hub
from server.gateway.protocol import (
    CommandError,
    PersonView,
    Position,
    PresenceDiff,
    PresenceState,
    Publication,
    SetPresence,
    encode,
    event_json,
)
from server.gateway.shares import ALIVE

log = structlog.get_logger()

PREFIX: Final = "presence:"
EVENT: Final = "presence.diff"
# What changes within this time is told together: nobody sees the difference, and a class that comes in at once costs
# each of its members some frames, not thirty.
CONFLATE_S = 0.25
# Who lost their socket is back within seconds, or gone; without this every bad network would flicker. Who says goodbye
# is gone at once.
GRACE_S = 10.0
# Every node repeats what it knows: what was lost with Redis, or on the way, is made good within this time.
REPEAT_S = 20.0
# Three repetitions missed, and nobody keeps the key.
KEPT_S = 60
# Reading and writing may be slow only for presence.
REDIS_S = 1.0

# Several devices of a person are one person, as the most telling of them says.
_RANK: Final[Mapping[PresenceState, int]] = {"busy": 3, "online": 2, "away": 1}

People = dict[str, PresenceState]


class _NodesPeople(msgspec.Struct, frozen=True):
    """What one node says to the others."""

    node: str
    people: People


_decode_people = msgspec.json.Decoder(People).decode
_decode_nodes_people = msgspec.json.Decoder(_NodesPeople).decode


def is_scope(channel: str) -> bool:
    """Return whether a presence channel is of a kind that exists."""
    return channel.startswith(PREFIX + "room:")


def watched(channel: str) -> str:
    """Return the channel that one must be allowed to follow in order to follow this one."""
    return channel.removeprefix(PREFIX)


class NoHistory:
    """The past of channels that keep none, as presence: whoever comes back is told that nothing was missed, and asks anew."""

    async def heads(self, channels: Sequence[str]) -> Mapping[str, Position]:
        """See `gateway.History`."""
        return dict.fromkeys(channels, Position("presence", 0))

    async def read(self, channel: str, *, after: int, limit: int) -> Sequence[Publication]:
        """See `gateway.History`."""
        del channel, after, limit
        return ()


class _Scope:
    """One presence channel with followers on this node."""

    __slots__ = (
        "channel", "followers", "here", "is_read", "leaving", "newcomers", "others", "shown", "told",
    )  # fmt: skip

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.followers: set[Receiver] = set()
        self.newcomers: set[Connection] = set()
        """Those who are owed all of it."""
        self.here: dict[str, dict[Connection, PresenceState]] = {}
        self.leaving: dict[str, tuple[float, PresenceState]] = {}
        """Until when who lost their last socket here is still shown."""
        self.others: dict[str, People] = {}
        """What other nodes said."""
        self.is_read = False
        """What other nodes had said before was read."""
        self.told: People | None = {}
        """What the other nodes know of this one; None: not certain."""
        self.shown: People = {}

    @property
    def key(self) -> str:
        return KEYS + self.channel

    @property
    def is_unfinished(self) -> bool:
        """Return whether there is something to do, though nobody here said anything."""
        return bool(self.leaving) or self.told is None or (bool(self.followers) and not self.is_read)

    def mine(self, now: float) -> People:
        """Return this node's people."""
        for user_id in [user_id for user_id, (until, _) in self.leaving.items() if until <= now]:
            del self.leaving[user_id]
        people = {user_id: state for user_id, (_, state) in self.leaving.items()}
        for user_id, devices in self.here.items():
            people[user_id] = max(devices.values(), key=_RANK.__getitem__)
        return people

    def everybody(self, mine: People) -> People:
        """Return the people of all nodes."""
        all_of_them = dict(mine)
        for people in self.others.values():
            for user_id, state in people.items():
                known = all_of_them.get(user_id)
                if known is None or _RANK[state] > _RANK[known]:
                    all_of_them[user_id] = state
        return all_of_them


class Presence:
    """The presence channels of one node."""

    def __init__(self, redis: Redis, *, node: str, bus: Bus, hub: Hub) -> None:
        self._redis = redis
        self._node = node
        self._bus = bus
        self._hub = hub
        self._scopes: dict[str, _Scope] = {}
        self._changed: set[_Scope] = set()
        self._loop = asyncio.get_running_loop()

    # --- From connections ---

    def say(self, connection: Connection, command: SetPresence) -> None:
        """Show somebody on a channel that this connection follows, or show them no more.

        Raises:
            CommandError: The connection does not follow it.
        """
        scope = self._scopes.get(command.ch)
        if scope is None or connection not in scope.followers:
            raise CommandError(errors.PERMISSION_DENIED, "this connection does not follow that channel")
        user_id = connection.user_id
        if command.state == "offline":
            self._remove(scope, connection, until=None)
        else:
            scope.here.setdefault(user_id, {})[connection] = command.state
            scope.leaving.pop(user_id, None)
        self._changed.add(scope)

    def followed(self, connection: Connection, channel: str) -> None:
        """Tell a connection whose subscription has begun who is around; a scope is kept while it has followers."""
        if not channel.startswith(PREFIX) or channel not in connection.memberships:
            return
        scope = self._scopes.get(channel)
        if scope is None:
            scope = self._scopes[channel] = _Scope(channel)
        scope.followers.add(connection)
        scope.newcomers.add(connection)
        self._changed.add(scope)

    def relieved(self, connection: Connection) -> None:
        """Tell a connection all of it again: its socket was full, and changes may have been dropped."""
        for channel in connection.memberships:
            scope = self._scopes.get(channel)
            if scope is not None and connection in scope.followers:
                scope.newcomers.add(connection)
                self._changed.add(scope)

    def left(self, receiver: Receiver, channel: str) -> None:
        """Forget a follower; without a goodbye it is still shown for a while."""
        scope = self._scopes.get(channel)
        if scope is None or receiver not in scope.followers:
            return
        assert isinstance(receiver, Connection), "whoever follows a scope is one"
        scope.followers.discard(receiver)
        scope.newcomers.discard(receiver)
        if not scope.followers:
            scope.others.clear()  # from now on the others are not heard
            scope.is_read = False
        self._remove(scope, receiver, until=self._loop.time() + GRACE_S if receiver.is_ended else None)
        self._changed.add(scope)

    @staticmethod
    def _remove(scope: _Scope, connection: Connection, *, until: float | None) -> None:
        user_id = connection.user_id
        devices = scope.here.get(user_id, {})
        state = devices.pop(connection, None)
        if state is None or devices:
            return
        del scope.here[user_id]
        if until is not None:
            scope.leaving[user_id] = (until, state)

    # --- From other nodes ---

    def arrived(self, channel: str, publications: Iterable[Publication]) -> None:
        """Take what another node says of its people."""
        scope = self._scopes.get(channel)
        if scope is None:
            return
        for publication in publications:
            said = _decode_nodes_people(publication.d)
            if self._bus.knows(said.node):
                scope.others[said.node] = said.people
            else:
                scope.is_read = False  # should it die now, nobody would say so: it is read once it is known
        self._changed.add(scope)

    def forgotten(self, node: str) -> None:
        """Let the people of a node that has ended be gone."""
        for scope in self._scopes.values():
            if scope.others.pop(node, None) is not None:
                self._changed.add(scope)

    def reconnected(self) -> None:
        """Say and read everything again: Redis may have lost it, and messages were missed."""
        for scope in self._scopes.values():
            scope.told, scope.is_read = None, False
            self._changed.add(scope)

    # --- Time ---

    async def run(self) -> None:
        """Tell followers and other nodes what changed, until cancelled."""
        repeat_at = self._loop.time() + REPEAT_S
        while True:
            await asyncio.sleep(CONFLATE_S)
            now = self._loop.time()
            if now >= repeat_at:
                repeat_at = now + REPEAT_S
                for scope in self._scopes.values():
                    scope.told = scope.told and None  # who has said nothing has nothing to repeat
            self._changed |= {scope for scope in self._scopes.values() if scope.is_unfinished}
            if self._changed:
                try:
                    await self._flush()
                except Exception:
                    log.exception("presence_failed")

    async def _flush(self) -> None:
        changed, self._changed = self._changed, set()
        await self._read([scope for scope in changed if scope.followers and not scope.is_read])
        now = self._loop.time()
        mine = {scope: scope.mine(now) for scope in changed}
        for scope in changed:
            self._show(scope, scope.everybody(mine[scope]))
        await self._tell({scope: people for scope, people in mine.items() if people != scope.told})
        for scope in changed:
            if not scope.followers and not scope.here and scope.told == {}:
                del self._scopes[scope.channel]

    def _show(self, scope: _Scope, everybody: People) -> None:
        """Tell this node's followers."""
        before, scope.shown = scope.shown, everybody
        ts = time.time_ns() // 1_000_000
        if scope.newcomers:
            full = encode(PresenceDiff(_views(everybody), (), full=True))
            json = event_json(scope.channel, Publication(None, EVENT, ts, full))
            for connection in scope.newcomers:
                connection.send(connection.codec.frame([json]), conflate=f"{scope.channel} full")
            scope.newcomers.clear()
        changed = {user_id: state for user_id, state in everybody.items() if before.get(user_id) != state}
        gone = tuple(user_id for user_id in before if user_id not in everybody)
        if changed or gone:
            diff = encode(PresenceDiff(_views(changed), gone))
            self._hub.deliver(scope.channel, [Publication(None, EVENT, ts, diff)])

    async def _tell(self, changes: Mapping[_Scope, People]) -> None:
        """Tell the other nodes, and keep it for those that come later: first kept, then told."""
        if not changes or not self._bus.is_up:
            return
        try:
            async with asyncio.timeout(REDIS_S), self._redis.pipeline(transaction=False) as pipeline:
                for scope, people in changes.items():
                    if people:
                        _ = pipeline.hset(scope.key, self._node, encode(people))
                        _ = pipeline.expire(scope.key, KEPT_S)
                    else:
                        _ = pipeline.hdel(scope.key, self._node)
                await pipeline.execute()
            is_kept = True
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("presence_not_kept", error=type(error).__name__)
            is_kept = False
        for scope, people in changes.items():
            said = encode(_NodesPeople(self._node, people))
            self._bus.publish(scope.channel, [Publication(None, EVENT, 0, said)])
            scope.told = people if is_kept else None

    async def _read(self, scopes: Sequence[_Scope]) -> None:
        """Read what the other nodes had said before somebody here followed."""
        if not scopes or not self._bus.is_up:
            return
        before = {scope: dict(scope.others) for scope in scopes}
        try:
            async with asyncio.timeout(REDIS_S):
                kept = await self._kept(scopes)
                strangers = {node for nodes in kept for node in nodes if not self._bus.knows(node)}
                alive = await self._alive(strangers - {self._node})
                await self._drop(scopes, kept, strangers - alive - {self._node})
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("presence_not_read", error=type(error).__name__)
            return
        for scope, nodes in zip(scopes, kept, strict=True):
            # A node that lives and was not heard of yet is read again, once it is known who would say that it died.
            scope.is_read = not (nodes.keys() & alive)
            for node, people in nodes.items():
                # What it said meanwhile is newer.
                if self._bus.knows(node) and scope.others.get(node) is before[scope].get(node):
                    scope.others[node] = people

    async def _kept(self, scopes: Sequence[_Scope]) -> list[dict[str, People]]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for scope in scopes:
                _ = pipeline.hgetall(scope.key)
            found = await pipeline.execute()
        return [
            {node.decode(): _decode_people(people) for node, people in fields.items()} for fields in found
        ]

    async def _drop(
        self, scopes: Sequence[_Scope], kept: Sequence[Mapping[str, People]], dead: set[str]
    ) -> None:
        """Take out what nodes that are gone have left."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for scope, nodes in zip(scopes, kept, strict=True):
                if nodes.keys() & dead:
                    _ = pipeline.hdel(scope.key, *(nodes.keys() & dead))
            await pipeline.execute()

    async def _alive(self, nodes: Iterable[str]) -> set[str]:
        asked = sorted(nodes)
        if not asked:
            return set()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for node in asked:
                _ = pipeline.exists(ALIVE + node)
            found = await pipeline.execute()
        return {node for node, is_alive in zip(asked, found, strict=True) if is_alive}


def _views(people: People) -> tuple[PersonView, ...]:
    return tuple(PersonView(user_id, state) for user_id, state in people.items())

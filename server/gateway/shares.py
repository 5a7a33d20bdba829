"""What one user's sockets share: how many they may be, and how fast they may ask; on this node and on the others.

A message costs one comparison in memory. Nodes tell each other of it through Redis in the background, and only of
users who have sockets on several nodes; without Redis every node counts for itself. A new socket costs one round trip,
shared with all others that come at the same time; where no other node lives nothing is asked, and nothing told.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.gateway.bus import LEAVE_S, PREFIX
from server.gateway.limits import Bucket, Limits

log = structlog.get_logger()

ALIVE = PREFIX + "alive:"
"""With a node's id: the key that is there while the node lives."""

# A user on two nodes may spend one burst on each within this time before the sum is known.
SYNC_S = 0.25
# A node that is gone keeps its users' places for this long; renewed three times as often.
ALIVE_S = 15
# Counting is no reason to keep a person waiting at the door.
ADMIT_S = 0.5
BATCH = 256

# Counts this node's sockets of a user, forgets nodes that are gone, and takes the last one back if they are too many.
ADMIT: Final = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], 86400)
local total, others = tonumber(ARGV[2]), 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= ARGV[1] then
    if redis.call('EXISTS', ARGV[4] .. all[i]) == 1 then
      total, others = total + tonumber(all[i + 1]), others + 1
    else
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
if total > tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] - 1)
  return {0, others}
end
return {1, others}
"""

# Adds what a node let through to the shared bucket (GCRA, as `limits.Bucket`); returns in how many ms it is full.
SPEND: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local full = math.max(tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0'), now) + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', full))
redis.call('PEXPIRE', KEYS[1], 120000)
return math.floor(full - now)
"""


class Share:
    """One user's sockets and buckets on this node."""

    __slots__ = ("_buckets", "_limits", "is_elsewhere", "sockets", "spent", "user_id")

    def __init__(self, user_id: str, limits: Limits) -> None:
        self.user_id = user_id
        self.sockets = 0
        self.is_elsewhere = False
        """Another node has sockets of this user too."""
        self.spent: dict[str, int] = {}
        """Tokens taken since the others were told, by bucket."""
        self._limits = limits
        self._buckets: dict[str, Bucket] = {}

    def take(self, op: str, now: float) -> tuple[str, float]:
        """Count one operation; return the bucket that refuses it and the seconds to wait, or ("", 0)."""
        if not self._limits.are_rates_on:
            return "", 0.0
        for name, rate in self._limits.rates_of(op):
            bucket = self._buckets.get(name)
            if bucket is None:
                bucket = self._buckets[name] = Bucket(rate)
            wait = bucket.take(now)
            if wait:
                return name, wait
            if self.is_elsewhere:
                self.spent[name] = self.spent.get(name, 0) + 1
        return "", 0.0

    def settle(self, name: str, full_at: float) -> None:
        """Learn when the shared bucket is full."""
        bucket = self._buckets[name]
        bucket.full_at = max(bucket.full_at, full_at)

    def step_ms(self, name: str) -> float:
        """Return how long one token of a bucket takes to grow."""
        return 1000 / self._buckets[name].rate.per_s


class Shares:
    """The users with sockets on this node."""

    def __init__(
        self,
        redis: Redis,
        *,
        node: str,
        limits: Limits,
        told_elsewhere: Callable[[str], None],
        is_alone: Callable[[], bool],
    ) -> None:
        self._redis = redis
        self._is_alone = is_alone
        self._node = node
        self._limits = limits
        self._told_elsewhere = told_elsewhere
        self._shares: dict[str, Share] = {}
        self._changed: set[str] = set()
        self._told: set[str] = set()
        """Users of whom Redis may have a count of this node."""
        self._asking: list[tuple[Share, asyncio.Future[bool]]] = []
        self._asked = asyncio.Event()

    async def admit(self, user_id: str) -> Share | None:
        """Count one more socket of a user; None if they are too many. Give each one back with `release`."""
        share = self._shares.get(user_id)
        if share is None:
            share = self._shares[user_id] = Share(user_id, self._limits)
        share.sockets += 1
        is_admitted = False
        try:
            is_admitted = share.sockets <= self._limits.connections and await self._admit_everywhere(share)
        finally:
            if not is_admitted:
                self.release(share)
        return share if is_admitted else None

    def release(self, share: Share) -> None:
        """Give a socket's place back."""
        share.sockets -= 1
        user_id = share.user_id
        if share.sockets == 0 and self._shares.get(user_id) is share:
            del self._shares[user_id]
            if user_id not in self._told:
                self._changed.discard(user_id)  # the others have never heard of them
                return
        self._changed.add(user_id)

    def note_elsewhere(self, user_id: str) -> None:
        """Note that another node has sockets of this user: from now on it hears what they spend here."""
        share = self._shares.get(user_id)
        if share is not None:
            share.is_elsewhere = True

    async def run(self) -> None:
        """Tell the other nodes what changed, and ask them, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_forever())
            tasks.create_task(self._ask_forever())

    async def _tell_forever(self) -> None:
        beats = 0
        while True:
            try:
                if beats % round(ALIVE_S / 3 / SYNC_S) == 0:
                    await self._redis.set(ALIVE + self._node, 1, ex=ALIVE_S)
                await self._tell_counts()
                await self._tell_spent()
            except (RedisError, OSError) as error:
                log.debug("shares_not_told", error=type(error).__name__)
            beats += 1
            await asyncio.sleep(SYNC_S)

    async def leave(self) -> None:
        """Give the places of this node's sockets back at once."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._redis.delete(ALIVE + self._node)
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("places_not_given_back", error=type(error).__name__)

    async def _admit_everywhere(self, share: Share) -> bool:
        if self._is_alone():
            self._changed.add(share.user_id)
            return True
        self._told.add(share.user_id)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asking.append((share, answer))
        self._asked.set()
        try:
            async with asyncio.timeout(ADMIT_S):
                return await answer
        except TimeoutError:
            log.warning("sockets_not_counted", error="TimeoutError")
            return True

    async def _ask_forever(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._asking:
                batch, self._asking = self._asking[:BATCH], self._asking[BATCH:]
                waiting = [(share, answer) for share, answer in batch if not answer.done()]
                try:
                    answers = await self._ask([share for share, _ in waiting])
                except (RedisError, OSError, TimeoutError) as error:
                    log.warning("sockets_not_counted", error=type(error).__name__)
                    answers = [(1, 0)] * len(waiting)
                for (share, answer), (is_admitted, others) in zip(waiting, answers, strict=True):
                    if others and is_admitted:
                        share.is_elsewhere = True
                        self._told_elsewhere(share.user_id)
                    if not answer.done():
                        answer.set_result(bool(is_admitted))

    async def _ask(self, shares: Sequence[Share]) -> Sequence[tuple[int, int]]:
        async with asyncio.timeout(ADMIT_S), self._redis.pipeline(transaction=False) as pipeline:
            for share in shares:
                key = PREFIX + "sockets:" + share.user_id
                arguments = (self._node, str(share.sockets), str(self._limits.connections), ALIVE)
                _ = pipeline.eval(ADMIT, 1, key, *arguments)
            found: list[tuple[int, int]] = await pipeline.execute()
            return found

    async def _tell_counts(self) -> None:
        if self._is_alone():
            return  # nobody asks; a node that comes is told of everybody before it has sockets
        while self._changed:
            users = [self._changed.pop() for _ in range(min(BATCH, len(self._changed)))]
            async with self._redis.pipeline(transaction=False) as pipeline:
                for user_id in users:
                    share = self._shares.get(user_id)
                    key = PREFIX + "sockets:" + user_id
                    if share is None:
                        self._told.discard(user_id)
                        _ = pipeline.hdel(key, self._node)
                    else:
                        self._told.add(user_id)
                        _ = pipeline.hset(key, self._node, str(share.sockets))
                await pipeline.execute()

    async def _tell_spent(self) -> None:
        told = [
            (share, name, count)
            for share in self._shares.values()
            if share.spent
            for name, count in share.spent.items()
        ]
        for start in range(0, len(told), BATCH):
            batch = told[start : start + BATCH]
            async with self._redis.pipeline(transaction=False) as pipeline:
                for share, name, count in batch:
                    share.spent.pop(name, None)
                    key = PREFIX + "spent:" + share.user_id
                    _ = pipeline.eval(SPEND, 1, key, name, str(count * share.step_ms(name)))
                answers = await pipeline.execute()
            now = asyncio.get_running_loop().time()
            for (share, name, _), full_in_ms in zip(batch, answers, strict=True):
                share.settle(name, now + full_in_ms / 1000)

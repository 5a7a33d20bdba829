"""How often one address may ask over HTTP (ED-06, B-03), counted in Valkey for all nodes together.

A window slides: at no moment have the last 60 seconds seen more than the rule allows. Each process counts for itself
too, so that a flood does not come through because Valkey is away.
"""

import asyncio
import ipaddress
import math
import time
from collections import OrderedDict, deque

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger()

# Valkey answers within a millisecond; a request must not wait longer for a counter than for its own work.
_VALKEY_TIMEOUT_S = 0.25
# Memory of the process's own counting: ten thousand addresses with sixty times each are some 10 MB.
_LOCAL_ADDRESSES = 10_000

# Requests are counted where they are decided, by the clock of Valkey alone. A refused one is not counted: who
# keeps asking is let in as soon as the window allows it.
_TAKE = """
local at = redis.call('TIME')
local now = at[1] * 1000 + math.floor(at[2] / 1000)
local most, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local used = redis.call('ZCARD', KEYS[1])
local allowed = 0
if used < most then
  redis.call('ZADD', KEYS[1], now, at[1] .. '.' .. at[2] .. '.' .. used)
  redis.call('PEXPIRE', KEYS[1], window)
  allowed, used = 1, used + 1
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
return {allowed, most - used, oldest + window - now}
"""


class Rule(msgspec.Struct, frozen=True):
    """So many requests in so many seconds."""

    name: str
    requests: int
    window_s: int = 60


class Verdict(msgspec.Struct, frozen=True):
    """Whether a request may pass, and what is left."""

    rule: Rule
    allowed: bool
    remaining: int
    reset_s: int
    """Until the next one is free again."""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that tell the client."""
        numbers = {"Limit": self.rule.requests, "Remaining": self.remaining, "Reset": self.reset_s}
        return [(f"x-ratelimit-{name}".lower().encode(), str(n).encode()) for name, n in numbers.items()]


# C-23: sixty a minute, and tighter where each request costs a hash or helps to guess (B-02).
GENERAL = Rule("general", 60)
TIGHTER = {
    "/api/v1/auth/register": Rule("register", 5),
    "/api/v1/auth/login": Rule("login", 10),
    "/api/v1/auth/refresh": Rule("refresh", 30),
    "/api/v1/auth/password/reset-request": Rule("reset", 3),
    "/api/v1/auth/password/reset-confirm": Rule("reset_confirm", 10),
}
# The rest (health, metrics, webhooks, pages) is asked by machines that must not be turned away, or is static.
_LIMITED = ("/api/", "/t/")
_UNLIMITED = ("/api/v1/dev/",)


def rules_of(path: str) -> tuple[Rule, ...]:
    """Return the rules for a path, the tightest first; none for what is not limited."""
    if not path.startswith(_LIMITED) or path.startswith(_UNLIMITED):
        return ()
    tighter = TIGHTER.get(path.rstrip("/"))
    return (GENERAL,) if tighter is None else (tighter, GENERAL)


class Limiter:
    """Counts requests by rule and address."""

    def __init__(self, redis: Redis) -> None:
        self._take = redis.register_script(_TAKE)
        self._local: OrderedDict[str, deque[float]] = OrderedDict()

    async def take(self, rules: tuple[Rule, ...], address: str | None) -> Verdict | None:
        """Count a request under each rule and return the first refusal, or what the tightest rule leaves."""
        tightest: Verdict | None = None
        for rule in rules:
            verdict = await self._verdict(rule, f"fourtalk:rate:{rule.name}:{_group(address)}")
            if not verdict.allowed:
                return verdict
            tightest = tightest or verdict
        return tightest

    async def _verdict(self, rule: Rule, key: str) -> Verdict:
        # Counted here first: what this process alone has seen is never more than what all have seen, so its refusal
        # is right without asking, and its count is there the moment Valkey is not.
        now = time.monotonic()
        times = self._times(rule, key, now)
        local = _verdict_of(rule, times, now)
        if not local.allowed:
            return local
        times.append(now)
        try:
            async with asyncio.timeout(_VALKEY_TIMEOUT_S):
                allowed, remaining, reset_ms = await self._take(
                    keys=[key], args=[rule.requests, rule.window_s * 1000]
                )
        except (RedisError, OSError) as error:
            log.warning("limits_counted_locally", error=type(error).__name__)
            return local
        if not allowed:
            times.remove(now)
        return Verdict(
            rule, allowed=bool(allowed), remaining=int(remaining), reset_s=_ceil_s(reset_ms / 1000)
        )

    def _times(self, rule: Rule, key: str, now: float) -> deque[float]:
        """Return when this process let requests pass in the rule's window."""
        times = self._local.setdefault(key, deque())
        self._local.move_to_end(key)
        if len(self._local) > _LOCAL_ADDRESSES:
            self._local.popitem(last=False)
        while times and times[0] <= now - rule.window_s:
            times.popleft()
        return times


def _verdict_of(rule: Rule, times: deque[float], now: float) -> Verdict:
    """Return the verdict about one more request."""
    oldest = times[0] if times else now
    left = rule.requests - len(times)
    return Verdict(
        rule, allowed=left > 0, remaining=max(0, left - 1), reset_s=_ceil_s(oldest + rule.window_s - now)
    )


def _group(address: str | None) -> str:
    """Return whom an address stands for: of IPv6 a household has a whole /64."""
    if address is None:
        return "unknown"
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)


def _ceil_s(seconds: float) -> int:
    return max(1, math.ceil(seconds))

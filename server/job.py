"""What a job gets and gives: the row types of `server/jobs.py`."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing.jobs import Claim
from server.http.health import Integrity

Time = Literal["business", "wall"]
"""Which time a job runs by and is given as now (DESIGN §4, Clocks)."""


class Means(msgspec.Struct, frozen=True):
    """What jobs work with."""

    sessions: async_sessionmaker[AsyncSession]
    integrity: Integrity


class Periodic(msgspec.Struct, frozen=True):
    """Work that is due once a period. It can be repeated at any moment, and finds all that became due meanwhile."""

    kind: str
    every: timedelta
    work: Callable[[Means, datetime], Awaitable[int]]
    """`async def work(means, now) -> count of what it did`."""
    clock: Time


class Once(msgspec.Struct, frozen=True):
    """Work that somebody asked for with `billing.jobs.enqueue`.

    It opens transactions of its own and calls `billing.jobs.finish` in the one of its effect; calls to the outside
    stand between transactions, never in one. A try that raises is made again later, and the last one is kept for
    people to look at.
    """

    kind: str
    work: Callable[[Means, Claim, datetime], Awaitable[None]]
    """`async def work(means, claim, now)`."""
    clock: Time


Job = Periodic | Once

"""Lock an address after five wrong passwords (B-02), whether it has an account or not."""

import asyncio
import hashlib
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from sqlalchemy import case, delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from server.errors import LimitedError
from server.features.accounts.models import LoginFailures

FAILURES_MAX = 5
LOCKED_FOR = timedelta(minutes=15)


# Locks that somebody holds or waits for, by address.
_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def turn(email: str) -> asyncio.Lock:
    """Return the lock under which the passwords of an address are tried, one after the other in this process.

    So the sixth guess of many at once meets the count of the first five, and no address fills the queue of hashes.
    """
    lock = _turns.get(email)
    if lock is None:
        lock = _turns[email] = asyncio.Lock()
    return lock


async def check(session: AsyncSession, email: str, *, wall: datetime) -> None:
    """Let an address try.

    Raises:
        LimitedError: It is locked.
    """
    failed = await session.get(LoginFailures, _digest(email), populate_existing=True)
    if failed is None or failed.failures < FAILURES_MAX:
        return
    left = failed.last_at + LOCKED_FOR - wall
    if left > timedelta():
        raise LimitedError(
            "Too many wrong passwords; try again later.", retry_after_s=max(1.0, left.total_seconds())
        )


async def count_failure(session: AsyncSession, email: str, *, wall: datetime) -> None:
    """Count a wrong password; failures older than the lock's length do not count any more."""
    fresh = case((LoginFailures.last_at <= wall - LOCKED_FOR, 1), else_=LoginFailures.failures + 1)
    await session.execute(
        insert(LoginFailures)
        .values(email_digest=_digest(email), failures=1, last_at=wall)
        .on_conflict_do_update(
            index_elements=[LoginFailures.email_digest], set_={"failures": fresh, "last_at": wall}
        )
    )


async def clear(session: AsyncSession, email: str) -> None:
    """Forget the failures of an address: its password was right."""
    await session.execute(delete(LoginFailures).where(LoginFailures.email_digest == _digest(email)))


async def forget(session: AsyncSession, *, before: datetime) -> None:
    """Delete the failures of before a moment."""
    await session.execute(delete(LoginFailures).where(LoginFailures.last_at < before))


def _digest(email: str) -> bytes:
    return hashlib.sha256(email.encode()).digest()

"""Engine and sessions of PostgreSQL, the only database (DESIGN decision 1)."""

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

# ED-28: a pool of 30. Twenty stay open; ten more serve bursts and are closed after them.
POOL_SIZE = 20
POOL_OVERFLOW = 10
# A command waits at most this long for a free connection before it answers "overloaded".
POOL_TIMEOUT_S = 3.0

# Limits of every transaction (billing.md 2.4): a lock or a statement that takes longer is a bug or an
# outage, and an answer "overloaded" is better than a queue that grows.
SERVER_SETTINGS = {
    "application_name": "fourtalk",
    "lock_timeout": "2s",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
}


def driver_url(url: str) -> str:
    """Return the URL with asyncpg's driver name; `postgresql://` and `postgres://` need none."""
    parsed = make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+asyncpg")
    return parsed.render_as_string(hide_password=False)


def create_engine(url: str, *, pool_size: int = POOL_SIZE) -> AsyncEngine:
    """Return an engine whose every connection carries the limits above."""
    return create_async_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=False,
        connect_args={"server_settings": SERVER_SETTINGS, "timeout": 5},
    )


def create_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Return the factory of sessions; objects stay readable after the commit."""
    return async_sessionmaker(engine, expire_on_commit=False)

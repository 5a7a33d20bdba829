"""Engine and sessions of PostgreSQL, the only database (DESIGN decision 1)."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from billing import jobs, outbox
from billing.crashpoints import crashpoint

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


def create_sessions(
    engine: AsyncEngine,
    *,
    node: UUID | None = None,
    recorded: Callable[[], None] | None = None,
    enqueued: Callable[[], None] | None = None,
) -> async_sessionmaker[AsyncSession]:
    """Return the factory of sessions; objects stay readable after the commit.

    Args:
        engine: Where they connect.
        node: Id of this process; events it records are relayed by it first.
        recorded: Called after each commit that recorded an event, so that the relay need not wait for its poll.
        enqueued: The same for work that was asked for, and the runner of the jobs.
    """

    class NodeSession(Session):
        """The session of this factory alone, so that its listener hears no other's commits."""

    def before_commit(_: Session) -> None:
        crashpoint("commit.unsent")

    def after_commit(session: Session) -> None:
        crashpoint("commit.answered")
        for mark, told in ((outbox.RECORDED, recorded), (jobs.ENQUEUED, enqueued)):
            if session.info.pop(mark, False) and told is not None:
                told()

    event.listen(NodeSession, "before_commit", before_commit)
    event.listen(NodeSession, "after_commit", after_commit)
    info = {} if node is None else {outbox.NODE: node}
    return async_sessionmaker(engine, expire_on_commit=False, info=info, sync_session_class=NodeSession)

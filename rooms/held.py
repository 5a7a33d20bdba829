"""A connection that is held: what asks the database all the time need not take one from the pool each time."""

from typing import Any

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

# What a call on the driver's connection raises when the connection, not the statement, is at fault.
LOST = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection ends while a statement begins
    SQLAlchemyError,
    OSError,
    TimeoutError,
)


class HeldConnection:
    """The driver's own connection, for one caller at a time. Outside a transaction: each statement is its own."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        engine = sessions.kw["bind"]
        assert isinstance(engine, AsyncEngine), "sessions of a process have an engine"
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self._raw: Any = None

    @property
    def is_new(self) -> bool:
        """Whether the next use connects anew."""
        return self._raw is None

    async def open(self) -> Any:
        """Return the driver's connection, a new one if the last was lost."""
        if self._raw is not None and self._raw.is_closed():
            await self.close()
        if self._connection is None:
            self._connection = await self._engine.connect()
            self._raw = (await self._connection.get_raw_connection()).driver_connection
        return self._raw

    async def close(self) -> None:
        """Let go of it; what is on its way over it is cut off."""
        connection, self._connection, self._raw = self._connection, None, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()

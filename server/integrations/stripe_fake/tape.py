"""The calls of test payments, kept in the database: every process that reads them has the same account at Stripe.

*Decision*: kept as calls and not as objects. The machine stays a pure function without a line about storage, several
processes agree by reading the same rows in the same order, and after a restart money here and there still matches.
It costs memory and a start that grow with the number of test payments, of which nobody makes a million.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Identity, select, text
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped, mapped_column

from server.integrations.stripe_fake.machine import Call
from server.models import Base

# Two processes that append at once must agree on who was first, and each must see all that came before.
_LOCK = text("select pg_advisory_xact_lock(hashtext('test_payment_call'))")


class TestPaymentCall(Base):
    """One call."""

    __tablename__ = "test_payment_call"
    __test__ = False  # pytest takes it for a test by its name

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)


class Tape:
    """Reads and appends calls for one machine."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._seen = 0

    async def read(self) -> Sequence[Call]:
        """Return the calls of other processes since the last time."""
        async with self._sessions() as session:
            rows = await self._new(session)
        if rows:
            self._seen = rows[-1].id
        return _calls(rows)

    async def append(self, call: Call) -> Sequence[Call]:
        """Add a call, and return those of other processes that came before it."""
        async with self._sessions.begin() as session:
            await session.execute(_LOCK)
            before = await self._new(session)
            added = insert(TestPaymentCall).values(data=msgspec.to_builtins(call))
            seen = await session.scalar(added.returning(TestPaymentCall.id))
        assert seen is not None, "it was just written"
        # Only now: had the commit failed, the others' calls would still have to be read.
        self._seen = seen
        return _calls(before)

    async def _new(self, session: AsyncSession) -> Sequence[TestPaymentCall]:
        query = select(TestPaymentCall).where(TestPaymentCall.id > self._seen).order_by(TestPaymentCall.id)
        return (await session.scalars(query)).all()


def _calls(rows: Sequence[TestPaymentCall]) -> Sequence[Call]:
    return [msgspec.convert(row.data, Call) for row in rows]

"""Answers kept by their idempotency key, in the transaction of the command (PROTOCOL 2)."""

import hashlib
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import DateTime, LargeBinary, SmallInteger, Text, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from server.errors import IdempotencyMismatchError
from server.models import Base

KEY_MAX = 255


class KeptAnswer(Base):
    """The first answer to a key; empty only inside the transaction that makes it."""

    __tablename__ = "idempotency"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the operation and the request."""
    status: Mapped[int | None] = mapped_column(SmallInteger)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    recorded_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), index=True
    )


class Answer(msgspec.Struct, frozen=True):
    """Status and JSON body of an answer."""

    status: int
    body: bytes


def digest_of(op: str, request: msgspec.Struct) -> bytes:
    """Return what two requests must have in common to be the same."""
    return hashlib.sha256(op.encode() + b"\0" + msgspec.json.encode(request, order="deterministic")).digest()


async def claim(session: AsyncSession, user_id: UUID, key: str, digest: bytes) -> Answer | None:
    """Take a key for this transaction, or return the answer that it already has.

    Waits while another transaction works under the same key; if that one fails, the key is free again.

    Raises:
        IdempotencyMismatchError: The key belongs to another request.
    """
    claimed = await session.scalar(
        insert(KeptAnswer)
        .values(user_id=user_id, key=key, digest=digest)
        .on_conflict_do_nothing()
        .returning(KeptAnswer.key)
    )
    if claimed is not None:
        return None
    found = await find(session, user_id, key, digest)
    assert found is not None, "who could not claim a key finds it"
    return found


async def find(session: AsyncSession, user_id: UUID, key: str, digest: bytes) -> Answer | None:
    """Return the answer that a key has.

    Raises:
        IdempotencyMismatchError: The key belongs to another request.
    """
    rows = await session.execute(
        select(KeptAnswer.digest, KeptAnswer.status, KeptAnswer.body).where(
            KeptAnswer.user_id == user_id, KeptAnswer.key == key
        )
    )
    row = rows.one_or_none()
    if row is None:
        return None
    kept, status, body = row
    if kept != digest:
        raise IdempotencyMismatchError("This idempotency key was used with another request.")
    assert status is not None, "a committed key has its answer"
    assert body is not None, "a committed key has its answer"
    return Answer(status, body)


async def keep(session: AsyncSession, user_id: UUID, key: str, answer: Answer) -> None:
    """Store the answer under the key that this transaction has claimed."""
    await session.execute(
        update(KeptAnswer)
        .where(KeptAnswer.user_id == user_id, KeptAnswer.key == key)
        .values(status=answer.status, body=answer.body)
    )


async def forget(session: AsyncSession, *, before: datetime) -> None:
    """Delete the answers recorded before a moment; a request under such a key is a new one."""
    await session.execute(delete(KeptAnswer).where(KeptAnswer.recorded_at < before))

"""The audit log: who did what to whom, and why. Written in the transaction of the deed, never changed (B-25)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Identity, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from server.context import Context
from server.models import Base


class AuditEntry(Base):
    """One administrative deed."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    actor_id: Mapped[UUID] = mapped_column(index=True)
    action: Mapped[str] = mapped_column(Text)
    """The command's operation, e.g. `admin.tutor.approve`."""
    target_id: Mapped[UUID] = mapped_column(index=True)
    before: Mapped[dict[str, Any]] = mapped_column(JSONB)
    after: Mapped[dict[str, Any]] = mapped_column(JSONB)
    reason: Mapped[str | None] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    """Business time."""
    recorded_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


def record(
    ctx: Context,
    action: str,
    target_id: UUID,
    *,
    before: dict[str, Any],
    after: dict[str, Any],
    reason: str | None = None,
    session: AsyncSession | None = None,
) -> None:
    """Note a deed of the caller's in the command's transaction; `before` and `after` hold what changed, as JSON values.

    A live command has no transaction: `session` is the one that it opened.
    """
    (session or ctx.session).add(
        AuditEntry(
            actor_id=ctx.user.user_id,
            action=action,
            target_id=target_id,
            before=before,
            after=after,
            reason=reason,
            at=ctx.now,
        )
    )

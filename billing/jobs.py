"""Work that follows a commit: a row in the transaction that asks for it, gone in the transaction of its effect.

It stands in the lowest package so that every package may use it; `server/jobs.py` runs what is due.
"""

from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from billing.errors import LeaseLostError
from billing.models import JobRow


class Claim(msgspec.Struct, frozen=True):
    """Work that somebody has taken: whoever finishes it shows the lease."""

    id: int
    kind: str
    key: str
    payload: msgspec.Raw
    """JSON of what was enqueued."""
    run_at: datetime
    tries: int
    """With this one."""
    lease: UUID


async def enqueue(
    session: AsyncSession, kind: str, payload: msgspec.Struct, *, key: str, run_at: datetime
) -> None:
    """Ask for work in the session's transaction.

    Args:
        session: Commits the work together with what asks for it.
        kind: A row of the table in `server/jobs.py`.
        payload: What the work needs to know; readable as JSON.
        key: Work of this kind and key that waits already is not asked for again.
        run_at: Not before, on the kind's own clock.
    """
    data = msgspec.to_builtins(payload)
    await session.execute(
        insert(JobRow)
        .values(kind=kind, key=key, payload=data, run_at=run_at)
        .on_conflict_do_nothing(index_elements=[JobRow.kind, JobRow.key])
    )


async def finish(session: AsyncSession, claim: Claim) -> None:
    """Take the work off the list, in the transaction of its effect: both are committed, or neither.

    Raises:
        LeaseLostError: It took too long and somebody else has taken it; nothing of this transaction may stay.
    """
    gone = await session.scalar(
        delete(JobRow).where(JobRow.id == claim.id, JobRow.lease == claim.lease).returning(JobRow.id)
    )
    if gone is None:
        raise LeaseLostError(claim.kind, claim.key)

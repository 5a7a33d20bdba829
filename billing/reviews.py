"""Late evidence that contradicts what became of a hold, for people to look at.

A review opens when `settlement.reconsider` may not adjust by itself, and moves no money: who wants to give something back
does so (`refunds.give_back`), and closes the review with a word about it. Evidence that says something else again opens it
anew; evidence that agrees with the settlement takes it away.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import Select, case, delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from billing.errors import ReasonTooShortError, ReviewClosedError, ReviewNotFoundError
from billing.models import REASON_LEAST, Hold, Review, Settlement
from billing.money import Money

log = structlog.get_logger()


class ReviewView(msgspec.Struct, frozen=True, kw_only=True):
    """One review, as administrators see it."""

    id: UUID
    hold_id: UUID
    lesson_id: UUID
    """The lesson that the evidence is about."""
    student_id: UUID
    tutor_id: UUID
    amount: Money
    settled: Money | None
    """What the student has back by now; None while the hold is open, since the lesson went back to its package."""
    by_evidence: Money
    """What the late evidence would leave the student."""
    opened_at: datetime
    closed_at: datetime | None
    notes: str | None
    """The word with which it was closed."""


async def note(
    session: AsyncSession, hold: Hold, lesson_id: UUID, to_student: int, *, facts_version: int, now: datetime
) -> None:
    """Open a review; one that people closed stays closed where the evidence says the same as before."""
    row = upsert(Review).values(
        hold_id=hold.id,
        lesson_id=lesson_id,
        facts_version=facts_version,
        to_student=to_student,
        opened_at=now,
    )
    says_the_same = Review.to_student == row.excluded.to_student
    kept = {
        column.name: case((says_the_same, column), else_=other)
        for column, other in (
            (Review.__table__.c.opened_at, row.excluded.opened_at),
            (Review.__table__.c.closed_at, None),
            (Review.__table__.c.closed_by, None),
            (Review.__table__.c.notes, None),
        )
    }
    said = {"facts_version": row.excluded.facts_version, "to_student": row.excluded.to_student}
    await session.execute(
        row.on_conflict_do_update(index_elements=[Review.hold_id, Review.lesson_id], set_=said | kept)
    )
    log.warning("late_evidence_for_review", hold_id=str(hold.id), lesson_id=str(lesson_id))


async def forget(session: AsyncSession, hold: Hold, lesson_id: UUID) -> None:
    """Take a review away whose evidence agrees with the settlement again."""
    await session.execute(delete(Review).where(Review.hold_id == hold.id, Review.lesson_id == lesson_id))


async def close(
    session: AsyncSession, review_id: UUID, *, admin_id: UUID, notes: str, now: datetime
) -> ReviewView:
    """End a review: somebody has looked, and says what came of it.

    Raises:
        ReasonTooShortError: The notes say nothing.
        ReviewClosedError: Somebody else was faster.
        ReviewNotFoundError: There is none, or its evidence agrees by now.
    """
    if len(notes.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
    found = select(Review).where(Review.id == review_id).with_for_update(key_share=True)
    row = (await session.scalars(found.execution_options(populate_existing=True))).one_or_none()
    if row is None:
        raise ReviewNotFoundError
    if row.closed_at is not None:
        raise ReviewClosedError
    row.closed_at, row.closed_by, row.notes = now, admin_id, notes
    await session.flush()
    return _view(*(await session.execute(_views().where(Review.id == review_id))).one())


async def find(
    session: AsyncSession, *, is_open: bool, limit: int, before: tuple[datetime, UUID] | None
) -> Sequence[ReviewView]:
    """Return reviews that are open or closed, the newest first.

    Args:
        session: Only read.
        is_open: Whether those that wait for somebody, or those that were closed.
        limit: At most so many.
        before: Only those that come after the one opened then, with this id.
    """
    query = _views().order_by(Review.opened_at.desc(), Review.id.desc()).limit(limit)
    query = query.where(Review.closed_at.is_(None) if is_open else Review.closed_at.is_not(None))
    if before is not None:
        query = query.where(tuple_(Review.opened_at, Review.id) < tuple_(*before))
    return [_view(*row) for row in await session.execute(query)]


def _views() -> Select[Review, Hold, int | None]:
    """Ask for reviews, each with its hold and what the student has back by now."""
    back = (
        select(Settlement.to_student)
        .where(Settlement.hold_id == Review.hold_id)
        .order_by(Settlement.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    return select(Review, Hold, back).join(Hold, Hold.id == Review.hold_id)


def _view(row: Review, hold: Hold, back: int | None) -> ReviewView:
    return ReviewView(
        id=row.id,
        hold_id=row.hold_id,
        lesson_id=row.lesson_id,
        student_id=hold.student_id,
        tutor_id=hold.tutor_id,
        amount=Money(hold.amount, hold.currency),
        settled=None if back is None else Money(back, hold.currency),
        by_evidence=Money(row.to_student, hold.currency),
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        notes=row.notes,
    )

"""What a process of before migration 0026 does beside newer ones: one threshold measures the tutor for all holds."""

from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger, packages, policy, releases, settlement
from billing.facts import LessonFacts
from billing.ledger import Order
from billing.models import Due, FactsRow, Hold, HoldId, HoldStatus, JournalKind, PresenceRow, SourceKind
from billing.releases import Release

FIRST = 1


async def due(session: AsyncSession, known: LessonFacts, *, now: datetime) -> None:
    """Freeze a lesson, in columns that were there then."""
    await ledger.lock_lessons(session, [known.lesson_id], shared=False)
    if await session.get(FactsRow, (known.lesson_id, FIRST)) is None:
        await tell(session, known, FIRST, now=now)
        await session.execute(insert(Due).values(lesson_id=known.lesson_id, due_at=now))


async def tell(session: AsyncSession, known: LessonFacts, version: int, *, now: datetime) -> None:
    """Write facts, frozen or late ones."""
    terms = await policy.current(session, known.ended_at)
    plain = {
        name: getattr(known, name)
        for name in ("lesson_id", "tutor_id", "planned_s", "total_s", "tutor_attended_s", "tutor_absent")
    }
    await session.execute(
        insert(FactsRow).values(
            version=version,
            absence_percent=terms.attendance_percent,
            cancelled=known.cancelled,
            ended_at=known.ended_at,
            evidence=known.evidence,
            digest=known.digest,
            recorded_at=now,
            **plain,
        )
    )
    for student_id, presence in known.students.items():
        await session.execute(
            insert(PresenceRow).values(
                lesson_id=known.lesson_id,
                version=version,
                student_id=student_id,
                attended_s=presence.attended_s,
                intervals=msgspec.to_builtins(presence.intervals),
                confidence=presence.confidence,
            )
        )


async def settle(
    session: AsyncSession, lesson_id: UUID, *, now: datetime
) -> tuple[tuple[HoldId, ...], tuple[HoldId, ...]] | None:
    """Settle a lesson as its facts say of all of it; None if it is not due any more."""
    gone = delete(Due).where(Due.lesson_id == lesson_id).returning(Due.lesson_id)
    if await session.scalar(gone) is None:
        return None
    facts = await session.get_one(FactsRow, (lesson_id, FIRST))
    rows = select(PresenceRow).where(PresenceRow.lesson_id == lesson_id, PresenceRow.version == FIRST)
    attended = {row.student_id: row.attended_s for row in await session.scalars(rows)}
    if facts.tutor_absent or facts.cancelled:
        await packages.return_lesson(session, lesson_id, now=now)
    held = select(Hold).where(Hold.lesson_id == lesson_id, Hold.status == HoldStatus.HELD)
    holds = (await session.scalars(held.order_by(Hold.id).with_for_update(key_share=True))).all()
    if not holds:
        return (), ()
    terms = await policy.versions(session, {hold.policy_version for hold in holds})
    decided = [
        Release(
            hold,
            settlement.judge(
                hold,
                terms[hold.policy_version].attendance_percent,
                attended_s=attended.get(hold.student_id, 0),
                tutor_attended_s=facts.tutor_attended_s,
                total_s=facts.total_s,
                tutor_absent=facts.tutor_absent,
                cancelled=facts.cancelled,
                by_outcome=hold.source_kind == SourceKind.BOOKING,
            ),
            releases.risk_until(terms[hold.policy_version], hold, now),
        )
        for hold in holds
    ]
    order = Order(
        kind=JournalKind.SETTLEMENT,
        scope="settle",
        key=str(lesson_id),
        request=lesson_id,
        actor=settlement.ACTOR,
        reason=None,
        ref_type="lesson",
        ref_id=lesson_id,
        at=now,
    )
    return await releases.settle(session, decided, order, reason=None, facts_version=FIRST)

"""What people see of holds: one with everything that decided it, and lists for students, tutors and admins."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from sqlalchemy import and_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from billing import policy
from billing.errors import HoldNotFoundError
from billing.facts import Interval, percent, required_s
from billing.models import (
    Cause,
    FactsRow,
    Hold,
    HoldId,
    HoldStatus,
    OwnerId,
    PresenceRow,
    Settlement,
    SourceKind,
)
from billing.money import Money
from billing.policy import Policy

SettledBy = Literal["student", "tutor", "admin", "system"]
"""Who decided where the money went; what attendance decides, the system does."""


class Attendance(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that a settlement looked at."""

    scheduled_s: int
    total_s: int
    """What the student was measured against: scheduled, or less when the tutor ended early."""
    attended_s: int
    percent: int
    required_s: int
    threshold_percent: int
    intervals: tuple[Interval, ...]
    confidence: str
    tutor_attended_s: int
    tutor_required_s: int


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed after the settlement; the three parts replace the former ones."""

    cause: Cause
    tutor_share: Money
    platform_share: Money
    refunded: Money
    reason: str | None
    attendance: Attendance | None
    at: datetime


class HoldView(msgspec.Struct, frozen=True, kw_only=True):
    """A hold, with everything that explains it. Shares are what really moved at the settlement, 0 before."""

    id: HoldId
    student_id: OwnerId
    tutor_id: OwnerId
    lesson_id: UUID | None
    source_kind: SourceKind
    source_id: UUID
    slice_no: int
    status: HoldStatus
    amount: Money
    tutor_bps: int
    attribution: str
    tutor_share: Money
    platform_share: Money
    refunded: Money
    cause: Cause | None
    settled_by: SettledBy | None
    reason: str | None
    adjustments: tuple[Adjustment, ...]
    policy: Policy
    attendance: Attendance | None
    placed_at: datetime
    settled_at: datetime | None


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which holds a list shows; what is not named does not matter."""

    student_id: OwnerId | None = None
    tutor_id: OwnerId | None = None
    party_id: OwnerId | None = None
    """Student or tutor of the hold."""
    lesson_ids: tuple[UUID, ...] | None = None
    source_ids: tuple[UUID, ...] | None = None
    status: HoldStatus | None = None


async def view(session: AsyncSession, hold_id: UUID) -> HoldView:
    """Return one hold.

    Raises:
        HoldNotFoundError: No hold has this id.
    """
    hold = await session.get(Hold, hold_id, populate_existing=True)
    if hold is None:
        raise HoldNotFoundError(hold_id)
    return (await _views(session, [hold]))[0]


async def find(
    session: AsyncSession, wanted: Filter, *, limit: int, before: UUID | None = None
) -> Sequence[HoldView]:
    """Return holds, newest first.

    Args:
        session: Only read.
        wanted: Which holds.
        limit: At most so many.
        before: Id of the last hold that was seen; an unknown one gives an empty list.
    """
    query = select(Hold).order_by(Hold.placed_at.desc(), Hold.id.desc()).limit(limit)
    if wanted.student_id is not None:
        query = query.where(Hold.student_id == wanted.student_id)
    if wanted.tutor_id is not None:
        query = query.where(Hold.tutor_id == wanted.tutor_id)
    if wanted.party_id is not None:
        query = query.where((Hold.student_id == wanted.party_id) | (Hold.tutor_id == wanted.party_id))
    if wanted.lesson_ids is not None:
        query = query.where(Hold.lesson_id.in_(wanted.lesson_ids))
    if wanted.source_ids is not None:
        query = query.where(Hold.source_id.in_(wanted.source_ids))
    if wanted.status is not None:
        query = query.where(Hold.status == wanted.status)
    if before is not None:
        last = select(Hold.placed_at, Hold.id).where(Hold.id == before).scalar_subquery()
        query = query.where(tuple_(Hold.placed_at, Hold.id) < last)
    holds = (await session.scalars(query.execution_options(populate_existing=True))).all()
    return await _views(session, holds)


async def _views(session: AsyncSession, holds: Sequence[Hold]) -> list[HoldView]:
    """Load what belongs to these holds, in one query each."""
    terms = await policy.versions(session, {hold.policy_version for hold in holds})
    rows = await session.execute(
        select(Settlement, FactsRow, PresenceRow)
        .join(Hold, Hold.id == Settlement.hold_id)
        .outerjoin(
            FactsRow,
            and_(FactsRow.lesson_id == Settlement.lesson_id, FactsRow.version == Settlement.facts_version),
        )
        .outerjoin(
            PresenceRow,
            and_(
                PresenceRow.lesson_id == Settlement.lesson_id,
                PresenceRow.version == Settlement.facts_version,
                PresenceRow.student_id == Hold.student_id,
            ),
        )
        .where(Settlement.hold_id.in_([hold.id for hold in holds]))
        .order_by(Settlement.hold_id, Settlement.number)
    )
    settled: dict[UUID, list[tuple[Settlement, Attendance | None]]] = {}
    for settlement, facts, presence in rows:
        settled.setdefault(settlement.hold_id, []).append(
            (settlement, _attendance(settlement, facts, presence))
        )
    return [_view(hold, terms[hold.policy_version], settled.get(hold.id, [])) for hold in holds]


def _view(hold: Hold, terms: Policy, settled: Sequence[tuple[Settlement, Attendance | None]]) -> HoldView:
    settlement, attendance = settled[0] if settled else (None, None)
    return HoldView(
        id=HoldId(hold.id),
        student_id=OwnerId(hold.student_id),
        tutor_id=OwnerId(hold.tutor_id),
        lesson_id=hold.lesson_id,
        source_kind=SourceKind(hold.source_kind),
        source_id=hold.source_id,
        slice_no=hold.slice_no,
        status=HoldStatus(hold.status),
        amount=Money(hold.amount, hold.currency),
        tutor_bps=hold.tutor_bps,
        attribution=hold.attribution,
        tutor_share=Money(settlement.to_tutor if settlement else 0, hold.currency),
        platform_share=Money(settlement.to_platform if settlement else 0, hold.currency),
        refunded=Money(settlement.to_student if settlement else 0, hold.currency),
        cause=Cause(settlement.cause) if settlement else None,
        settled_by=_settled_by(hold, settlement.actor) if settlement else None,
        reason=settlement.reason if settlement else None,
        adjustments=tuple(_adjustment(hold, row, seen) for row, seen in settled[1:]),
        policy=terms,
        attendance=attendance,
        placed_at=hold.placed_at,
        settled_at=settlement.settled_at if settlement else None,
    )


def _settled_by(hold: Hold, actor: str) -> SettledBy:
    if actor.startswith("admin:"):
        return "admin"
    parties: dict[str, SettledBy] = {f"user:{hold.student_id}": "student", f"user:{hold.tutor_id}": "tutor"}
    return parties.get(actor, "system")


def _adjustment(hold: Hold, row: Settlement, attendance: Attendance | None) -> Adjustment:
    return Adjustment(
        cause=Cause(row.cause),
        tutor_share=Money(row.to_tutor, hold.currency),
        platform_share=Money(row.to_platform, hold.currency),
        refunded=Money(row.to_student, hold.currency),
        reason=row.reason,
        attendance=attendance,
        at=row.settled_at,
    )


def _attendance(
    settlement: Settlement, facts: FactsRow | None, presence: PresenceRow | None
) -> Attendance | None:
    if facts is None:
        return None
    assert settlement.threshold_percent is not None, "facts decided it, so it has a threshold"
    attended_s = presence.attended_s if presence else 0
    return Attendance(
        scheduled_s=facts.planned_s,
        total_s=facts.total_s,
        attended_s=attended_s,
        percent=percent(attended_s, facts.total_s),
        required_s=required_s(facts.total_s, settlement.threshold_percent),
        threshold_percent=settlement.threshold_percent,
        intervals=msgspec.convert(presence.intervals, tuple[Interval, ...]) if presence else (),
        confidence=presence.confidence if presence else "none",
        tutor_attended_s=facts.tutor_attended_s,
        tutor_required_s=required_s(facts.planned_s, facts.tutor_percent(settlement.threshold_percent)),
    )

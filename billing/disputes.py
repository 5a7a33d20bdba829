"""Disputes of people: a student does not agree with how a hold was settled, and an administrator decides.

    none ──► open ──► resolved_upheld | resolved_refunded

While it is open, what there is of the tutor's share is frozen. Lock order: dispute → hold → accounts.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Select, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from billing import divisions, ledger, maturity, outbox, payment_moves, policy, refunds
from billing.errors import (
    AlreadyDisputedError,
    DisputeNotFoundError,
    DisputeStateError,
    DisputeTooLateError,
    HoldNotFoundError,
    HoldNotSettledError,
    NothingToDisputeError,
    ReasonTooShortError,
)
from billing.messages import DisputeOpened, DisputeResolved
from billing.models import (
    DISPUTE_ARROWS,
    REASON_LEAST,
    Cause,
    Dispute,
    DisputeReason,
    DisputeStatus,
    Hold,
    HoldId,
    OwnerId,
    Settlement,
)
from billing.money import Money

# Of a dispute that we open ourselves.
SYSTEM = "system:evidence"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody says is wrong."""

    reason: DisputeReason
    words: str
    """10 to 2,000 characters."""
    student_id: OwnerId | None
    """Who says so; None for ourselves, where evidence contradicts a settlement."""


class DisputeView(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as its parties and administrators see it."""

    id: UUID
    hold_id: UUID
    student_id: UUID
    tutor_id: UUID
    opened_by: str
    """`student` or `system`."""
    reason: DisputeReason
    text: str
    status: DisputeStatus
    amount: Money
    """What was paid."""
    rest: Money
    """What can still be given back of it."""
    refunded: Money | None
    """What this dispute gave back."""
    notes: str | None
    opened_at: datetime
    resolved_at: datetime | None


def step(status: DisputeStatus | None, to: DisputeStatus) -> DisputeStatus:
    """Return the next status of a dispute, or of none yet. Pure.

    Raises:
        DisputeStateError: There is no such arrow.
    """
    allowed = frozenset({DisputeStatus.OPEN}) if status is None else DISPUTE_ARROWS.get(status, frozenset())
    if to not in allowed:
        raise DisputeStateError(status or "not open")
    return to


async def begin(session: AsyncSession, hold_id: UUID, claim: Claim, *, now: datetime) -> Dispute:
    """Open a dispute about a settled hold, and freeze what there is of the tutor's share.

    Raises:
        HoldNotFoundError: There is no such hold, or it is somebody else's.
        HoldNotSettledError: It is still held.
        AlreadyDisputedError: It was disputed before.
        DisputeTooLateError: It was settled too long ago.
        NothingToDisputeError: Everything was given back already.
    """
    assert (claim.reason is DisputeReason.CONTRADICTION) == (claim.student_id is None), (
        "people have reasons of theirs"
    )
    hold = await divisions.locked(session, hold_id)
    if claim.student_id not in (None, hold.student_id):
        raise HoldNotFoundError(hold_id)
    latest = await divisions.newest(session, hold_id)
    if latest is None:
        raise HoldNotSettledError(hold_id)
    known = await session.scalar(select(Dispute.id).where(Dispute.hold_id == hold_id))
    if known is not None:
        raise AlreadyDisputedError(known)
    if latest.to_student == hold.amount:
        raise NothingToDisputeError
    first = await session.get_one(Settlement, (hold_id, 0))
    terms = (await policy.versions(session, [hold.policy_version]))[hold.policy_version]
    until = first.settled_at + timedelta(days=terms.dispute_days)
    if now >= until:
        raise DisputeTooLateError(until)
    dispute_id = uuid.uuid4()
    frozen = await maturity.freeze(session, hold_id, by=dispute_id, only_pending=False, now=now)
    assert frozen is not None, "only what must be pending may be left alone"
    row = Dispute(
        id=dispute_id,
        hold_id=hold_id,
        ruling=latest.number,
        opened_by=SYSTEM if claim.student_id is None else f"user:{claim.student_id}",
        reason=claim.reason,
        words=claim.words,
        frozen=frozen.amount,
        status=step(None, DisputeStatus.OPEN),
        opened_at=now,
    )
    session.add(row)
    await session.flush()
    told = DisputeOpened(
        dispute_id=dispute_id,
        hold_id=HoldId(hold_id),
        student_id=OwnerId(hold.student_id),
        tutor_id=OwnerId(hold.tutor_id),
        reason=claim.reason,
        frozen=frozen,
    )
    outbox.record(session, told, at=now)
    return row


async def uphold(
    session: AsyncSession, dispute_id: UUID, *, admin_id: UUID, notes: str, now: datetime
) -> Dispute:
    """Leave everything as it was settled; the tutor's share is free again.

    Raises:
        DisputeNotFoundError: There is none.
        DisputeStateError: It is decided.
        ReasonTooShortError: The notes have fewer than ten characters.
    """
    if len(notes.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
    row, hold = await _locked(session, dispute_id)
    status = step(DisputeStatus(row.status), DisputeStatus.UPHELD)
    await maturity.thaw(session, hold.id, by=row.id, now=now)
    await _end(session, row, hold, status, refunded=None, admin_id=admin_id, notes=notes, now=now)
    return row


async def refund(
    session: AsyncSession,
    dispute_id: UUID,
    amount: Money | None,
    *,
    admin_id: UUID,
    notes: str,
    now: datetime,
) -> Dispute:
    """Give money back to the student, all that is left where no amount is named; what stays the tutor's is free again.

    Raises:
        DisputeNotFoundError: There is none.
        DisputeStateError: It is decided.
        ReasonTooShortError: The notes have fewer than ten characters.
        RefundTooLargeError: More than is left of the hold.
    """
    row, hold = await _locked(session, dispute_id)
    status = step(DisputeStatus(row.status), DisputeStatus.REFUNDED)
    # Before the first journal: the second one touches the same accounts.
    await ledger.locked(session, refunds.accounts_of(hold))
    given = await payment_moves.give_back(
        session,
        hold.id,
        amount=amount,
        cause=Cause.DISPUTE,
        actor=f"admin:{admin_id}",
        reason=notes,
        key=f"dispute:{row.id}",
        now=now,
    )
    await maturity.thaw(session, hold.id, by=row.id, now=now)
    await _end(session, row, hold, status, refunded=given.amount, admin_id=admin_id, notes=notes, now=now)
    return row


async def view(session: AsyncSession, dispute_id: UUID) -> DisputeView:
    """Return one dispute.

    Raises:
        DisputeNotFoundError: There is none.
    """
    found = (await session.execute(_views().where(Dispute.id == dispute_id))).one_or_none()
    if found is None:
        raise DisputeNotFoundError
    return _view(*found)


async def find(
    session: AsyncSession,
    *,
    party_id: OwnerId | None,
    hold_id: UUID | None = None,
    status: DisputeStatus | None,
    limit: int,
    before: tuple[datetime, UUID] | None,
) -> Sequence[DisputeView]:
    """Return disputes, the newest first.

    Args:
        session: Only read.
        party_id: Only of holds in which this person is student or tutor; None for everybody's.
        hold_id: Only of this hold.
        status: Only these.
        limit: At most so many.
        before: Only those that come after the one opened then, with this id.
    """
    query = _views().order_by(Dispute.opened_at.desc(), Dispute.id.desc()).limit(limit)
    if party_id is not None:
        query = query.where(or_(Hold.student_id == party_id, Hold.tutor_id == party_id))
    if hold_id is not None:
        query = query.where(Dispute.hold_id == hold_id)
    if status is not None:
        query = query.where(Dispute.status == status)
    if before is not None:
        query = query.where(tuple_(Dispute.opened_at, Dispute.id) < tuple_(*before))
    return [_view(*row) for row in await session.execute(query)]


async def _locked(session: AsyncSession, dispute_id: UUID) -> tuple[Dispute, Hold]:
    row = await session.get(Dispute, dispute_id, with_for_update={"key_share": True}, populate_existing=True)
    if row is None:
        raise DisputeNotFoundError
    await payment_moves.of_hold(session, row.hold_id)
    return row, await divisions.locked(session, row.hold_id)


async def _end(
    session: AsyncSession,
    row: Dispute,
    hold: Hold,
    status: DisputeStatus,
    *,
    refunded: Money | None,
    admin_id: UUID,
    notes: str,
    now: datetime,
) -> None:
    row.status, row.resolved_by, row.notes, row.resolved_at = status, admin_id, notes, now
    row.refunded = None if refunded is None else refunded.amount
    await session.flush()
    told = DisputeResolved(
        dispute_id=row.id,
        hold_id=HoldId(hold.id),
        student_id=OwnerId(hold.student_id),
        tutor_id=OwnerId(hold.tutor_id),
        reason=DisputeReason(row.reason),
        status=status,
        refunded=refunded or Money(0, hold.currency),
        notes=notes,
    )
    outbox.record(session, told, at=now)


def _views() -> Select[Dispute, Hold, int]:
    """Ask for disputes, each with its hold and what the student has back by now."""
    back = (
        select(Settlement.to_student)
        .where(Settlement.hold_id == Dispute.hold_id)
        .order_by(Settlement.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    return select(Dispute, Hold, back).join(Hold, Hold.id == Dispute.hold_id)


def _view(row: Dispute, hold: Hold, back: int) -> DisputeView:
    return DisputeView(
        id=row.id,
        hold_id=hold.id,
        student_id=hold.student_id,
        tutor_id=hold.tutor_id,
        opened_by="system" if row.opened_by == SYSTEM else "student",
        reason=DisputeReason(row.reason),
        text=row.words,
        status=DisputeStatus(row.status),
        amount=Money(hold.amount, hold.currency),
        rest=Money(hold.amount - back, hold.currency),
        refunded=None if row.refunded is None else Money(row.refunded, hold.currency),
        notes=row.notes,
        opened_at=row.opened_at,
        resolved_at=row.resolved_at,
    )

"""Packages of lessons: offered, bought, taken one by one, given back, and what becomes of the rest (B-09).

A package is paid from the wallet and becomes a hold for each of its lessons, without a lesson yet. Who takes one gives
its hold the lesson; the database counts. All of a package happens under the lock of its row, after the lock of the lesson.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import case, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import facts, holds, jobs, ledger, lifetime, money, outbox, policy, releases
from billing.crashpoints import crashpoint
from billing.errors import (
    HoldNotHeldError,
    LessonNotTakenError,
    LessonOverError,
    OptionNotFoundError,
    PackageExhaustedError,
    PackageNotFoundError,
    PackageOverError,
    PackageRefundError,
    ReasonTooShortError,
)
from billing.holds import NewHold
from billing.ledger import Order
from billing.messages import (
    PackageBought,
    PackageEnding,
    PackageExpired,
    PackageLessonReturned,
    PackageRefunded,
)
from billing.models import (
    REASON_LEAST,
    Cause,
    FactsRow,
    Hold,
    HoldId,
    HoldStatus,
    JournalKind,
    OwnerId,
    Package,
    PackageExpiry,
    PackageOption,
    PackageReturn,
    PackageStatus,
    Settlement,
    SourceKind,
)
from billing.money import Money
from billing.payment_moves import FROZEN
from billing.policy import Policy
from billing.releases import Release

# Kind of the job that reminds of an end, and then ends.
JOB = "package_due"
ACTOR = "system:packages"

# Who opened a checkout before the end and confirms it a little later still gets the lesson; for so long the rest is
# not settled. Shorter than this people are cut off while they type, longer only keeps money waiting.
EXPIRY_GRACE = timedelta(minutes=15)


class Due(msgspec.Struct, frozen=True):
    """Payload of the job."""

    package_id: UUID


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What an option costs now, and what is frozen with it."""

    option_id: UUID
    tutor_id: OwnerId
    title: str
    minutes: int
    sessions: int
    price: Money
    validity_days: int | None
    is_rolling: bool
    tutor_bps: int
    terms: Policy


async def offer(session: AsyncSession, option_id: UUID, *, now: datetime) -> Offer:
    """Return what somebody who buys this option now would get.

    Raises:
        OptionNotFoundError: There is no such option, or its tutor has hidden it.
    """
    # Whoever changes the option waits for the purchase that saw it.
    option = await session.scalar(
        select(PackageOption)
        .where(PackageOption.id == option_id, PackageOption.hidden_at.is_(None))
        .with_for_update(read=True)
        .execution_options(populate_existing=True)
    )
    if option is None:
        raise OptionNotFoundError
    terms = await policy.current(session, now)
    tutor_id = OwnerId(option.tutor_id)
    earned = await lifetime.net(
        session, tutor_id, everything=terms.tiers_count_everything, currency=option.currency
    )
    return Offer(
        option_id=option.id,
        tutor_id=tutor_id,
        title=option.title,
        minutes=option.minutes,
        sessions=option.sessions,
        price=Money(option.price, option.currency),
        validity_days=option.validity_days,
        is_rolling=option.is_rolling,
        tutor_bps=policy.tutor_bps(terms, SourceKind.PACKAGE_SLICE, policy.TIER, lifetime=earned),
        terms=terms,
    )


async def buy(
    session: AsyncSession, wanted: Offer, *, package_id: UUID, student_id: OwnerId, now: datetime
) -> Package:
    """Move the price from the wallet into a hold for each lesson; equal slices, remainder cents to the last ones.

    Raises:
        InsufficientFundsError: The wallet has too little; says how much is missing.
    """
    new = [
        NewHold(
            id=HoldId(uuid4()),
            lesson_id=None,
            slice_no=number,
            tutor_id=wanted.tutor_id,
            money=Money(amount, wanted.price.currency),
            tutor_bps=wanted.tutor_bps,
            attribution=policy.TIER,
            policy_version=wanted.terms.version,
            source_kind=SourceKind.PACKAGE_SLICE,
            source_id=package_id,
        )
        for number, amount in enumerate(money.slices(wanted.price.amount, wanted.sessions), start=1)
    ]
    await holds.place(session, holds=new, student_id=student_id, key=str(package_id), now=now)
    days = wanted.validity_days
    package = Package(
        id=package_id,
        option_id=wanted.option_id,
        student_id=student_id,
        tutor_id=wanted.tutor_id,
        title=wanted.title,
        minutes=wanted.minutes,
        price=wanted.price.amount,
        currency=wanted.price.currency,
        purchased=wanted.sessions,
        validity_days=days,
        is_rolling=wanted.is_rolling,
        tutor_bps=wanted.tutor_bps,
        attribution=policy.TIER,
        policy_version=wanted.terms.version,
        bought_at=now,
        expires_at=None if days is None else now + timedelta(days=days),
    )
    session.add(package)
    await session.flush()
    await _plan(session, package, wanted.terms)
    bought = PackageBought(**_facts(package), price=wanted.price, sessions=package.purchased)
    outbox.record(session, bought, at=now)
    return package


async def use(
    session: AsyncSession, package_id: UUID, lesson_id: UUID, *, opened_at: datetime, now: datetime
) -> HoldId:
    """Take one lesson of a package; return the hold that pays for it.

    Args:
        session: Commits it.
        package_id: Whose lesson.
        lesson_id: The lesson that is paid for.
        opened_at: When the student began to ask for it: a package that ends meanwhile is still honoured.
        now: Business time.

    Raises:
        PackageNotFoundError: There is none.
        PackageOverError: It has expired, or its rest was given back.
        PackageExhaustedError: All its lessons are taken.
        AlreadyHeldError: The student has an open hold for this lesson.
        LessonOverError: The lesson is over.
    """
    await ledger.lock_lessons(session, [lesson_id], shared=True)
    package = await locked(session, package_id)
    if package.status == PackageStatus.EXHAUSTED:
        raise PackageExhaustedError
    if package.status != PackageStatus.ACTIVE:
        raise PackageOverError(package.status)
    if package.expires_at is not None and (
        opened_at >= package.expires_at or now >= package.expires_at + EXPIRY_GRACE
    ):
        raise PackageOverError(PackageStatus.EXPIRED)
    hold_id = await holds.take(session, package_id, lesson_id)
    await session.refresh(package)
    await _roll(session, package, now)
    return hold_id


async def give_back(session: AsyncSession, package_id: UUID, lesson_id: UUID, *, now: datetime) -> bool:
    """Put the lesson that was taken back into its package; return False where that would help nobody.

    That is when the package has expired, was given back, or the hold of this lesson is settled: then the caller refunds
    the hold, if it is still held, as any other.

    Raises:
        PackageNotFoundError: There is none.
        LessonOverError: The lesson is over: who came decides.
    """
    await ledger.lock_lessons(session, [lesson_id], shared=True)
    return await _take_back(session, await locked(session, package_id), lesson_id, now) is not None


async def forfeit(
    session: AsyncSession, package_id: UUID, lesson_id: UUID, *, actor: str, reason: str, now: datetime
) -> HoldId:
    """Pay the tutor for the lesson that was taken, for its student cancelled too late (B-08a); return its hold.

    It goes whole, by the split, with the risk window of a lesson that was given, and to its package it stays taken,
    whatever has become of the package. Again is harmless: it gives the same hold and moves nothing.

    Args:
        session: Commits all or nothing.
        package_id: Whose lesson.
        lesson_id: Which; the caller sees to it that it is not held any more.
        actor: Who cancelled.
        reason: Shown to both parties; an administrator needs ten characters.
        now: Business time.

    Raises:
        ReasonTooShortError: An administrator gave fewer.
        PackageNotFoundError: There is no such package.
        LessonNotTakenError: The package does not pay for this lesson.
        HoldNotHeldError: Its money is settled otherwise.
        LessonOverError: The lesson is over: who came decides.
    """
    if actor.startswith("admin:") and len(reason.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
    await ledger.lock_lessons(session, [lesson_id], shared=True)
    package = await locked(session, package_id)
    hold = await _paying(session, package, lesson_id)
    if hold.status != HoldStatus.HELD:
        settled = await session.get_one(Settlement, (hold.id, 0))
        if settled.cause == Cause.FORFEITED:
            return HoldId(hold.id)
        raise HoldNotHeldError(hold.id, hold.status)
    if await session.get(FactsRow, (lesson_id, FROZEN)) is not None:
        raise LessonOverError
    decision = facts.paid(hold.amount, hold.tutor_bps, Cause.FORFEITED)
    order = Order(
        kind=JournalKind.SETTLEMENT,
        scope="forfeit",
        # A hold is forfeited once.
        key=str(hold.id),
        request=(package.id, lesson_id),
        actor=actor,
        reason=reason,
        ref_type="hold",
        ref_id=hold.id,
        at=now,
    )
    until = releases.risk_until(await _terms(session, package), hold, now)
    await releases.settle(session, [Release(hold, decision, until)], order, reason=reason, facts_version=None)
    crashpoint("package.forfeited")
    return HoldId(hold.id)


async def return_lesson(session: AsyncSession, lesson_id: UUID, *, now: datetime) -> None:
    """Put a lesson that nobody gave back into the packages that pay for it, where that helps; its facts are frozen.

    It helps nobody where the tutor is soon paid for what is not taken: that money goes back to the student (C-07).
    Called before its holds are locked: packages come first.
    """
    taken = select(Hold.source_id).where(
        Hold.lesson_id == lesson_id,
        Hold.source_kind == SourceKind.PACKAGE_SLICE,
        Hold.status == HoldStatus.HELD,
    )
    found = await session.scalars(
        select(Package)
        .where(Package.id.in_(taken))
        .order_by(Package.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    for package in found.all():
        terms = await _terms(session, package)
        if _is_soon_released(package, terms, now):
            continue
        hold_id = await _take_back(session, package, lesson_id, now)
        if hold_id is not None:
            row = PackageReturn(lesson_id=lesson_id, hold_id=hold_id, is_by_outcome=True, returned_at=now)
            session.add(row)
            returned = PackageLessonReturned(
                **_facts(package), lesson_id=lesson_id, remaining=package.remaining
            )
            outbox.record(session, returned, at=now)
            await session.flush()
            crashpoint("settlement.returned")


async def returned(session: AsyncSession, lesson_id: UUID) -> Sequence[tuple[Hold, bool]]:
    """Return the holds that `return_lesson` put back, each with whether who came decided that.

    What is read of the holds here never changes.
    """
    rows = await session.execute(
        select(Hold, PackageReturn.is_by_outcome)
        .join(PackageReturn, PackageReturn.hold_id == Hold.id)
        .where(PackageReturn.lesson_id == lesson_id)
        .order_by(Hold.id)
    )
    return [(hold, is_by_outcome) for hold, is_by_outcome in rows]


async def refund_rest(
    session: AsyncSession, package_id: UUID, *, actor: str, reason: str, now: datetime
) -> Package:
    """Give the money of all lessons that nobody took back to the student; the package is over.

    An administrator always may; the student within the days of the terms under which they bought.

    Raises:
        ReasonTooShortError: An administrator gave fewer than ten characters.
        PackageNotFoundError: There is none.
        PackageOverError: It is over already.
        PackageExhaustedError: There is no rest.
        PackageRefundError: The student asks too late.
    """
    package = await locked(session, package_id)
    if package.status == PackageStatus.EXHAUSTED:
        raise PackageExhaustedError
    if package.status != PackageStatus.ACTIVE:
        raise PackageOverError(package.status)
    is_admin = actor.startswith("admin:")
    if not is_admin:
        terms = await _terms(session, package)
        until = package.bought_at + timedelta(days=terms.package_refund_days)
        if now >= until:
            raise PackageRefundError(until)
    rest = await _rest(session, package)
    await holds.refund(
        session,
        [hold.id for hold in rest],
        cause=Cause.ADMIN if is_admin else Cause.CANCELLED,
        actor=actor,
        reason=reason,
        key=f"package:{package.id}",
        now=now,
    )
    package.status = PackageStatus.REFUNDED
    package.ended_at = now
    await session.flush()
    refunded = PackageRefunded(
        **_facts(package), amount=_worth(rest, package), lessons=len(rest), reason=reason
    )
    outbox.record(session, refunded, at=now)
    return package


async def refund_taken(
    session: AsyncSession, package_id: UUID, hold_id: UUID, *, actor: str, reason: str, now: datetime
) -> None:
    """Give the money of one lesson that was taken back for an administrator; to its package it stays taken.

    Raises:
        ReasonTooShortError: Fewer than ten characters.
        PackageNotFoundError: There is no such package.
        LessonNotTakenError: Nobody took it.
        HoldNotHeldError: Its money is settled.
    """
    # A slice gets its lesson and loses it under this lock only, and is settled under it.
    await locked(session, package_id)
    hold = await session.get_one(Hold, hold_id, populate_existing=True)
    if hold.status != HoldStatus.HELD:
        # The refund has one key, by which a second one of the same administrator would seem to be done.
        raise HoldNotHeldError(hold_id, hold.status)
    if hold.lesson_id is None:
        raise LessonNotTakenError(package_id)
    key = f"taken:{hold_id}"
    await holds.refund(session, [hold_id], cause=Cause.ADMIN, actor=actor, reason=reason, key=key, now=now)


async def run(sessions: async_sessionmaker[AsyncSession], claim: jobs.Claim, *, now: datetime) -> None:
    """Job: remind of the end that comes, or end."""
    package_id = msgspec.json.decode(claim.payload, type=Due).package_id
    async with sessions.begin() as session:
        await due(session, package_id, now=now)
        await jobs.finish(session, claim)


async def due(session: AsyncSession, package_id: UUID, *, now: datetime) -> None:
    """Do to a package what its time asks for; nothing, if that has been done.

    Raises:
        PackageNotFoundError: There is none.
    """
    package = await locked(session, package_id)
    if package.status != PackageStatus.ACTIVE or package.expires_at is None:
        return
    terms = await _terms(session, package)
    if now >= package.expires_at + EXPIRY_GRACE:
        await _expire(session, package, terms, now)
        return
    warn_at = _warn_at(package, terms)
    if warn_at is not None and now >= warn_at:
        package.warned_at = now
        ending = PackageEnding(**_facts(package), expires_at=package.expires_at, remaining=package.remaining)
        outbox.record(session, ending, at=now)
    await _plan(session, package, terms)


async def locked(session: AsyncSession, package_id: UUID) -> Package:
    """Return a package that stays as it is until the end of the transaction, but for what this one does.

    Raises:
        PackageNotFoundError: There is none.
    """
    package = await session.scalar(
        select(Package)
        .where(Package.id == package_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if package is None:
        raise PackageNotFoundError
    return package


async def _paying(session: AsyncSession, package: Package, lesson_id: UUID) -> Hold:
    """Return the slice of a locked package that pays for a lesson, locked; the one that is held, if one is.

    Raises:
        LessonNotTakenError: None does, or did.
    """
    hold = await session.scalar(
        select(Hold)
        .where(
            Hold.source_id == package.id,
            Hold.source_kind == SourceKind.PACKAGE_SLICE,
            Hold.lesson_id == lesson_id,
        )
        # Of a lesson whose money an administrator gave back, another slice may have been taken.
        .order_by(case((Hold.status == HoldStatus.HELD, 0), else_=1), Hold.slice_no.desc())
        .limit(1)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if hold is None:
        raise LessonNotTakenError(package.id)
    return hold


async def _take_back(
    session: AsyncSession, package: Package, lesson_id: UUID, now: datetime
) -> HoldId | None:
    """Put a lesson back into its locked package, unless the package is over or the lesson's hold is settled."""
    is_over = package.expires_at is not None and now >= package.expires_at
    if is_over or package.status not in (PackageStatus.ACTIVE, PackageStatus.EXHAUSTED):
        return None
    hold_id = await holds.put_back(session, package.id, lesson_id)
    if hold_id is not None:
        await session.refresh(package)
        await _plan(session, package, await _terms(session, package))
    return hold_id


def _is_soon_released(package: Package, terms: Policy, now: datetime) -> bool:
    """Return whether the rest goes to the tutor before the student has the days of a warning to take it."""
    if package.expires_at is None:
        return False
    warning = timedelta(days=terms.package_warning_days)
    return terms.package_expiry is PackageExpiry.RELEASE and package.expires_at - now <= warning


async def _expire(session: AsyncSession, package: Package, terms: Policy, now: datetime) -> None:
    """Settle what nobody took as the terms of the package say."""
    rest = await _rest(session, package)
    is_released = terms.package_expiry is PackageExpiry.RELEASE
    if is_released:
        await _release(session, package, rest, terms, now)
    else:
        await holds.refund(
            session,
            [hold.id for hold in rest],
            cause=Cause.EXPIRED,
            actor=ACTOR,
            reason="the package expired",
            key=f"package:{package.id}",
            now=now,
        )
    package.status = PackageStatus.EXPIRED
    package.ended_at = now
    await session.flush()
    expired = PackageExpired(
        **_facts(package), amount=_worth(rest, package), lessons=len(rest), is_released=is_released
    )
    outbox.record(session, expired, at=now)


async def _release(
    session: AsyncSession, package: Package, rest: Sequence[Hold], terms: Policy, now: datetime
) -> None:
    """Pay slices out by their split, all in one journal, with the risk window of a lesson that was given."""
    if not rest:
        return
    paid = [
        Release(
            hold,
            facts.paid(hold.amount, hold.tutor_bps, Cause.EXPIRED),
            releases.risk_until(terms, hold, now),
        )
        for hold in rest
    ]
    order = Order(
        kind=JournalKind.EXPIRY,
        scope="package",
        key=f"package:{package.id}",
        request=[hold.id for hold in rest],
        actor=ACTOR,
        reason=None,
        ref_type="package",
        ref_id=package.id,
        at=now,
    )
    await releases.settle(session, paid, order, reason=None, facts_version=None)


async def _rest(session: AsyncSession, package: Package) -> Sequence[Hold]:
    """Return the slices that nobody took, locked."""
    rows = await session.scalars(
        select(Hold)
        .where(
            Hold.source_id == package.id,
            Hold.source_kind == SourceKind.PACKAGE_SLICE,
            Hold.lesson_id.is_(None),
            Hold.status == HoldStatus.HELD,
        )
        .order_by(Hold.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return rows.all()


async def _roll(session: AsyncSession, package: Package, now: datetime) -> None:
    """Give a rolling package its whole validity again, if that is longer than what it has."""
    if not package.is_rolling or package.expires_at is None or package.validity_days is None:
        return
    rolled = now + timedelta(days=package.validity_days)
    if rolled > package.expires_at:
        package.expires_at = rolled
        package.warned_at = None
        await session.flush()
        await _plan(session, package, await _terms(session, package))


async def _plan(session: AsyncSession, package: Package, terms: Policy) -> None:
    """Have the job look at the package when something is due; an earlier look finds nothing and plans anew."""
    if package.expires_at is None:
        return
    run_at = _warn_at(package, terms) or package.expires_at + EXPIRY_GRACE
    await jobs.enqueue(session, JOB, Due(package.id), key=str(package.id), run_at=run_at)


def _warn_at(package: Package, terms: Policy) -> datetime | None:
    """Return when to remind of this end; None where that was done, or the package is shorter than its warning."""
    assert package.expires_at is not None, "only what ends is warned of"
    assert package.validity_days is not None, "what ends has a validity"
    if package.warned_at is not None or not 0 < terms.package_warning_days < package.validity_days:
        return None
    return package.expires_at - timedelta(days=terms.package_warning_days)


async def _terms(session: AsyncSession, package: Package) -> Policy:
    return (await policy.versions(session, [package.policy_version]))[package.policy_version]


def _worth(rest: Sequence[Hold], package: Package) -> Money:
    return Money(sum(hold.amount for hold in rest), package.currency)


def _facts(package: Package) -> dict[str, Any]:
    return {
        "package_id": package.id,
        "student_id": OwnerId(package.student_id),
        "tutor_id": OwnerId(package.tutor_id),
        "title": package.title,
    }

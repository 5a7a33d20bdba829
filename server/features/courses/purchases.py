"""Buying: quote, confirm, cancel, and the lists of it (B-15)."""

from uuid import UUID, uuid4

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import holds, money, outbox, wallet
from billing.holds import NewHold
from billing.models import REASON_LEAST, Cause, HoldId, OwnerId, SourceKind
from billing.money import Money
from server import audit, pages, texts
from server.context import Command, Context
from server.errors import ConflictError, ForbiddenError, NotFoundError
from server.features.accounts.models import user_of
from server.features.courses import life, models, offers, quotes, rules, views
from server.features.courses.messages import (
    CancelPurchase,
    ChangedPurchase,
    ConfirmPurchase,
    GetPurchase,
    ListPurchases,
    PlacesEnded,
    PurchasePage,
    PurchaseView,
    Quote,
    QuotePurchase,
)
from server.features.courses.models import Course, CourseSession, Place, Purchase
from server.features.courses.offers import Offer
from server.features.courses.rules import PurchaseKind, PurchaseStatus, SessionStatus


async def quote_purchase(ctx: Context, command: QuotePurchase) -> Quote:
    """Say what a full course, or one session, costs the caller now; nothing is charged (F4-13, F4-14).

    Raises:
        ForbiddenError: The caller runs the platform (C-28).
        ConflictError: It is not for sale, full, over, or the caller has it already.
    """
    user_id = _buyer(ctx)
    course = await models.course_of(ctx.session, command.course_id)
    offer = await offers.make(ctx.session, course, command.session_id, student_id=user_id, now=ctx.now)
    balance = (await wallet.balances(ctx.session, OwnerId(user_id), offer.currency)).balance
    buyer = await user_of(ctx.session, user_id)
    token = quotes.sign(
        ctx.parts.settings.secret_key,
        user_id=user_id,
        course_id=course.id,
        session_id=command.session_id,
        terms=offer.terms,
        wall=ctx.parts.clock.wall(),
    )
    return Quote(
        quote_token=token,
        expires_in_s=int(quotes.LIFETIME.total_seconds()),
        kind=offer.kind,
        price=Money(offer.price, offer.currency),
        balance=balance,
        returned_first=Money(offer.returned, offer.currency),
        shortfall=Money(max(0, offer.price - offer.returned - balance.amount), offer.currency),
        seats_left=offer.seats_left,
        refund_rule=texts.fill(
            texts.REFUND_RULES[offer.kind], buyer.locale, percent=offer.attendance_percent
        ).body,
        split=offer.split,
        sessions=len(offer.numbers),
    )


async def confirm_purchase(ctx: Context, command: ConfirmPurchase) -> ChangedPurchase:
    """Buy what was quoted: place, money and purchase in one transaction (F4-15 to F4-18).

    Raises:
        ForbiddenError: The caller runs the platform (C-28).
        ConflictError: The quote is used, expired or somebody else's; the terms changed; nothing is left.
        BadRequestError: The quote is none of ours.
        InsufficientFundsError: Says what is missing.
    """
    session, user_id = ctx.session, _buyer(ctx)
    claims = quotes.read(
        ctx.parts.settings.secret_key,
        command.quote_token,
        user_id=user_id,
        wall=ctx.parts.clock.wall(),
    )
    # Whoever sells, changes or cancels this course waits here until this purchase is committed.
    course = await models.course_of(session, claims.course_id, lock=True)
    if await session.get(Purchase, claims.jti) is not None:
        raise ConflictError("This quote was used already.", code="quote_used")
    offer = await offers.make(session, course, claims.session_id, student_id=user_id, now=ctx.now)
    if offer.terms != claims.terms:
        raise ConflictError(
            "Price or terms have changed since the quote; ask for another one.",
            code="quote_changed",
            price=Money(offer.price, offer.currency),
        )
    for replaced in offer.replaces:
        single = await session.get_one(Purchase, replaced)
        await _give_back(ctx, single, await _returnable(ctx, single), reason="replaced by the full course")
    purchase = await _add_purchase(ctx, course, claims, offer)
    return await _changed(session, purchase)


async def cancel_purchase(ctx: Context, command: CancelPurchase) -> ChangedPurchase:
    """Give back what has not begun; a place whose money is settled already stays as it is (F4-70).

    Raises:
        ConflictError: It is not active, or everything in it has begun.
    """
    session, principal = ctx.session, ctx.user
    course_id = (await _purchase_of(ctx, command.purchase_id)).course_id
    await models.course_of(session, course_id, lock=True)
    purchase = await session.get_one(Purchase, command.purchase_id, populate_existing=True)
    reason = command.reason
    if principal.user_id != purchase.student_id and reason is None:
        raise ForbiddenError(f"Say why in at least {REASON_LEAST} characters.")
    rules.move(rules.PURCHASE_ARROWS, PurchaseStatus(purchase.status), PurchaseStatus.CANCELLED)
    places = await _returnable(ctx, purchase)
    if not places:
        raise ConflictError("Everything in this purchase has begun.", code="session_not_open")
    await _give_back(ctx, purchase, places, reason=reason or "cancelled by the student")
    if principal.user_id != purchase.student_id:
        audit.record(
            ctx,
            "purchase.cancel",
            purchase.id,
            before={"status": PurchaseStatus.ACTIVE},
            after={"status": PurchaseStatus.CANCELLED},
            reason=reason,
        )
    return await _changed(session, purchase)


async def refund_place(ctx: Context, hold_id: HoldId, *, reason: str) -> None:
    """Give one place back for an administrator, also while its session is on; the purchase ends with its last one.

    Raises:
        ConflictError: Its money is settled.
    """
    session = ctx.session
    course_id = (await session.get_one(Place, hold_id)).course_id
    await models.course_of(session, course_id, lock=True)
    place = await session.get_one(Place, hold_id, populate_existing=True)
    if not place.live:
        # The refund of a place has one key, by which a second one of the same administrator would seem to be done.
        raise ConflictError("The money of this place went back in this moment.", code="hold_not_held")
    purchase = await session.get_one(Purchase, place.purchase_id, populate_existing=True)
    await _end_places(ctx, purchase, [place], cause=Cause.ADMIN, reason=reason)
    await life.cancel_emptied(session, [place], reason=reason, at=ctx.now)


async def check_begun(ctx: Context, hold_id: HoldId) -> None:
    """Refuse to pay a place out whose session has not begun: what is still ahead may be cancelled.

    Raises:
        ConflictError: It has not begun, or has no date yet.
    """
    place = await ctx.session.get_one(Place, hold_id)
    await models.course_of(ctx.session, place.course_id, lock=True)
    status = await ctx.session.scalar(
        select(CourseSession.status).where(
            CourseSession.course_id == place.course_id, CourseSession.number == place.number
        )
    )
    if status not in (SessionStatus.IN_PROGRESS, SessionStatus.COMPLETED):
        raise ConflictError("The session has not begun.", code="session_not_begun")


async def get_purchase(ctx: Context, command: GetPurchase) -> PurchaseView:
    """Return one of the caller's purchases; an administrator may see any."""
    purchase = await _purchase_of(ctx, command.purchase_id)
    (view,) = await views.purchase_views(ctx.session, [purchase])
    return view


async def list_purchases(ctx: Context, command: ListPurchases) -> PurchasePage:
    """Return the caller's purchases, newest first; all of them for an administrator."""
    query = select(Purchase)
    if not ctx.user.is_admin:
        query = query.where(Purchase.student_id == ctx.user.user_id)
    if command.status is not None:
        query = query.where(Purchase.status == command.status)
    shown, more = await pages.read(ctx.session, query, Purchase.created_at, Purchase.id, command)
    return PurchasePage(tuple(await views.purchase_views(ctx.session, shown)), more)


def _buyer(ctx: Context) -> UUID:
    """Return who buys: students, and tutors from each other."""
    if ctx.user.is_admin:
        raise ForbiddenError("Who runs the platform does not buy on it.")
    return ctx.user.user_id


async def _purchase_of(ctx: Context, purchase_id: UUID) -> Purchase:
    """Return a purchase that the caller may know of."""
    purchase = await ctx.session.get(Purchase, purchase_id)
    if purchase is None or not (ctx.user.is_admin or purchase.student_id == ctx.user.user_id):
        raise NotFoundError("There is no such purchase.")
    return purchase


async def _returnable(ctx: Context, purchase: Purchase) -> list[Place]:
    """Return the places whose session has not begun, or has no date yet."""
    rows = await ctx.session.execute(
        select(Place, CourseSession)
        .outerjoin(
            CourseSession,
            (CourseSession.course_id == Place.course_id) & (CourseSession.number == Place.number),
        )
        .where(Place.purchase_id == purchase.id, Place.live)
        .order_by(Place.hold_id)
    )
    return [
        place
        for place, lesson in rows
        if lesson is None or rules.is_open(SessionStatus(lesson.status), lesson.starts_at, now=ctx.now)
    ]


async def _give_back(ctx: Context, purchase: Purchase, places: list[Place], *, reason: str) -> None:
    await _end_places(ctx, purchase, places, cause=Cause.CANCELLED, reason=reason)
    purchase.status = PurchaseStatus.CANCELLED
    purchase.ended_at = ctx.now
    purchase.reason = reason
    await ctx.session.flush()


async def _end_places(
    ctx: Context, purchase: Purchase, places: list[Place], *, cause: Cause, reason: str
) -> None:
    """Give places back with their money; whoever is in there is put out.

    Raises:
        ConflictError: The money of all of them is settled.
    """
    who = "admin" if ctx.user.user_id != purchase.student_id else "user"
    returned = await life.give_back(
        ctx.session, places, actor=f"{who}:{ctx.user.user_id}", reason=reason, at=ctx.now, cause=cause
    )
    if not returned:
        raise ConflictError("The money of this purchase is settled.", code="hold_not_held")
    ended = PlacesEnded(
        course_id=purchase.course_id,
        student_id=purchase.student_id,
        numbers=tuple(place.number for place in places),
        reason=reason,
    )
    outbox.record(ctx.session, ended, at=ctx.now)


async def _add_purchase(ctx: Context, course: Course, claims: quotes.QuoteClaims, offer: Offer) -> Purchase:
    """Write the purchase, its holds (one for each session) and its places."""
    session = ctx.session
    purchase = Purchase(
        id=claims.jti,
        kind=offer.kind,
        course_id=course.id,
        session_id=claims.session_id,
        student_id=ctx.user.user_id,
        tutor_id=course.tutor_id,
        amount=offer.price,
        currency=offer.currency,
        tutor_bps=offer.split.tutor_bps,
        attribution=offer.split.attribution,
        policy_version=offer.split.policy_version,
        status=PurchaseStatus.ACTIVE,
        created_at=ctx.now,
    )
    session.add(purchase)
    await session.flush()
    rooms = {row.number: row.room_id for row in await models.sessions_of(session, course.id)}
    is_full = offer.kind is PurchaseKind.FULL_COURSE
    new = [
        NewHold(
            id=HoldId(uuid4()),
            lesson_id=rooms.get(number),
            tutor_id=OwnerId(course.tutor_id),
            money=Money(amount, offer.currency),
            tutor_bps=offer.split.tutor_bps,
            attribution=offer.split.attribution,
            policy_version=offer.split.policy_version,
            source_kind=SourceKind.COURSE_SLICE if is_full else SourceKind.COURSE_SESSION,
            source_id=purchase.id,
            slice_no=number,
        )
        for number, amount in zip(offer.numbers, money.slices(offer.price, len(offer.numbers)), strict=True)
    ]
    await holds.place(
        session, holds=new, student_id=OwnerId(ctx.user.user_id), key=str(purchase.id), now=ctx.now
    )
    seats = await _free_seats(session, course, offer.numbers)
    session.add_all(
        Place(
            hold_id=hold.id,
            purchase_id=purchase.id,
            course_id=course.id,
            number=number,
            student_id=purchase.student_id,
            seat_no=seats[number],
            max_students=course.max_students,
        )
        for number, hold in zip(offer.numbers, new, strict=True)
    )
    await session.flush()
    return purchase


async def _free_seats(session: AsyncSession, course: Course, numbers: tuple[int, ...]) -> dict[int, int]:
    """Return the lowest free seat in each of these sessions; the course is locked, so it stays free."""
    rows = await session.execute(
        select(Place.number, func.array_agg(Place.seat_no).label("seats"))
        .where(Place.course_id == course.id, Place.number.in_(numbers), Place.live)
        .group_by(Place.number)
    )
    taken = {row.number: set(row.seats) for row in rows}
    seats = range(1, course.max_students + 1)
    return {
        number: next(seat for seat in seats if seat not in taken.get(number, set())) for number in numbers
    }


async def _changed(session: AsyncSession, purchase: Purchase) -> ChangedPurchase:
    (view,) = await views.purchase_views(session, [purchase])
    balances = await wallet.balances(session, OwnerId(purchase.student_id), purchase.currency)
    return ChangedPurchase(**msgspec.structs.asdict(view), balance=balances.balance)


COMMANDS = (
    Command("purchase.quote", QuotePurchase, quote_purchase, method="POST", path="/purchases/quote"),
    Command(
        "purchase.confirm",
        ConfirmPurchase,
        confirm_purchase,
        method="POST",
        path="/purchases",
        status=201,
        idempotent=True,
    ),
    Command(
        "purchase.cancel",
        CancelPurchase,
        cancel_purchase,
        method="POST",
        path="/purchases/{purchase_id}/cancel",
        idempotent=True,
    ),
    Command("purchase.list", ListPurchases, list_purchases, method="GET", path="/purchases"),
    Command("purchase.get", GetPurchase, get_purchase, method="GET", path="/purchases/{purchase_id}"),
)

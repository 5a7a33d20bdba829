"""Asking for a lesson: what it costs, the request with what pays for it, and its card (B-07)."""

from uuid import UUID, uuid4

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError

from billing import card_payments, lifetime, packages, payments, policy, wallet
from billing.errors import PackageNotFoundError
from billing.models import (
    OwnerId,
    Package,
    PackageStatus,
    Payment,
    PaymentMethod,
    PaymentState,
    SourceKind,
    violated,
)
from billing.money import Money
from billing.payment_moves import Booking as Payable
from billing.policy import Policy
from server import texts
from server.context import Command, Context
from server.errors import BadRequestError, ConflictError, FieldError, ForbiddenError, NotFoundError
from server.features.accounts.models import User, is_approved_tutor, user_of
from server.features.bookings import access, life, models, rules, views
from server.features.bookings.messages import (
    BookingQuote,
    BookingView,
    CardAsked,
    PayBooking,
    QuoteBooking,
    RequestBooking,
    UsablePackage,
)
from server.features.bookings.models import Booking
from server.features.bookings.rules import BookingStatus, Party
from server.features.tutors.models import TutorProfile

CURRENCY = "USD"


async def quote_booking(ctx: Context, command: QuoteBooking) -> BookingQuote:
    """Say what a lesson costs the caller now, and which of their packages would pay for it; nothing is charged.

    Raises:
        NotFoundError: There is no such tutor, or they have no price.
    """
    tutor, rate = await _tutor(ctx, command.tutor_id)
    student = await user_of(ctx.session, ctx.user.user_id)
    terms = await policy.current(ctx.session, ctx.now)
    price = Money(rules.price(rate, command.minutes), CURRENCY)
    balance = (await wallet.balances(ctx.session, OwnerId(student.id), CURRENCY)).balance
    usable = await ctx.session.scalars(
        select(Package)
        .where(
            Package.student_id == student.id,
            Package.tutor_id == tutor.id,
            Package.status == PackageStatus.ACTIVE,
            or_(Package.expires_at.is_(None), Package.expires_at > ctx.now),
        )
        .order_by(Package.expires_at.nulls_last(), Package.id)
    )
    rule = texts.fill(
        texts.BOOKING_RULE, student.locale, hours=terms.free_cancel_hours, percent=terms.late_cancel_percent
    )
    return BookingQuote(
        tutor_id=tutor.id,
        tutor_name=tutor.name,
        minutes=command.minutes,
        hourly_rate=Money(rate, CURRENCY),
        price=price,
        balance=balance,
        shortfall=Money(max(0, price.amount - balance.amount), CURRENCY),
        packages=tuple(
            UsablePackage(
                id=one.id,
                title=one.title,
                minutes=one.minutes,
                remaining=one.remaining,
                expires_at=one.expires_at,
            )
            for one in usable
        ),
        cancel_rule=rule.body,
    )


async def request_booking(ctx: Context, command: RequestBooking) -> BookingView:
    """Ask for a lesson: its price is put aside, or a lesson of a package taken, in the same transaction.

    Raises:
        BadRequestError: The time lies not within the next year, or the ways to pay contradict each other.
        NotFoundError: There is no such tutor, or they have no price.
        PackageNotFoundError: The caller has no such package of this tutor.
        ConflictError: The tutor's price is another now, or one of the two has a lesson at that time.
        InsufficientFundsError: Says what is missing.
        BillingError: The package is used up or over.
    """
    student = await user_of(ctx.session, ctx.user.user_id)
    terms = await policy.current(ctx.session, ctx.now)
    row = await (_of_package if command.package_id else _of_money)(ctx, command, student, terms)
    ctx.session.add(row)
    await _flush(ctx)
    if row.package_id is not None:
        await packages.use(ctx.session, row.package_id, row.id, opened_at=ctx.now, now=ctx.now)
    else:
        await _open_payment(ctx, command, row, terms)
    await life.request(ctx.session, row, access.deed(ctx, Party.STUDENT))
    return await views.view(ctx.session, row, viewer=ctx.user.user_id)


async def pay_booking(ctx: Context, command: PayBooking) -> CardAsked:
    """Bring the card of an own booking to where the caller is asked for it; nothing is charged before the lesson.

    Raises:
        NotFoundError: The caller has no such booking.
        ConflictError: No card pays for it.
        StripeAwayError: The payment provider does not answer; the same call goes on from here later.
    """
    async with ctx.parts.sessions() as session:
        row = await models.find(session, command.booking_id)
        payment = None if row is None or row.package_id else await payments.get(session, row.id)
    if row is None or row.student_id != ctx.user.user_id:
        raise NotFoundError("There is no such booking.")
    if payment is None or payment.method != PaymentMethod.CARD:
        raise ConflictError("No card pays for this booking.", code="not_by_card")
    assert ctx.parts.payments is not None, "a server has Stripe or test payments"
    asked = await card_payments.start(ctx.parts.sessions, ctx.parts.payments, row.id, now=ctx.now)
    return CardAsked(
        booking_id=row.id,
        state=PaymentState(asked.payment.state),
        client_secret=asked.client_secret,
        is_setup=asked.is_setup,
        failure=asked.failure,
        test=not ctx.parts.payments.is_live,
    )


async def _tutor(ctx: Context, tutor_id: UUID) -> tuple[User, int]:
    """Return a tutor who may teach, and their rate.

    Raises:
        NotFoundError: There is no such tutor, or they have no price.
    """
    if not await is_approved_tutor(ctx.session, tutor_id):
        raise NotFoundError("There is no such tutor.")
    rate = await ctx.session.scalar(select(TutorProfile.hourly_rate).where(TutorProfile.user_id == tutor_id))
    if rate is None:
        raise NotFoundError("This tutor has no price for lessons.")
    return await user_of(ctx.session, tutor_id), rate


async def _of_money(ctx: Context, command: RequestBooking, student: User, terms: Policy) -> Booking:
    tutor, rate = await _tutor(ctx, command.tutor_id)
    if command.minutes is None:
        raise BadRequestError("Say how long.", (FieldError("minutes", "This field is required."),))
    if command.card is not None and command.pay_with != "card":
        raise BadRequestError(
            "A saved card goes with paying by card.", (FieldError("card", "Only with `card`."),)
        )
    if command.pay_with == "card" and command.card is None:
        await _require_few_unpaid(ctx, student.id)
    price = rules.price(rate, command.minutes)
    if command.price is not None and command.price.amount != price:
        raise ConflictError("The price is another now.", code="price_changed", price=Money(price, CURRENCY))
    return _row(ctx, command, student, tutor, terms, minutes=command.minutes, rate=rate, price=price)


async def _of_package(ctx: Context, command: RequestBooking, student: User, terms: Policy) -> Booking:
    package = await ctx.session.get(Package, command.package_id)
    if package is None or (package.student_id, package.tutor_id) != (student.id, command.tutor_id):
        raise PackageNotFoundError
    others = (
        ("price", command.price is not None),
        ("card", command.card is not None),
        ("pay_with", command.pay_with != "wallet"),
    )
    wrong = [FieldError(name, "A package pays instead.") for name, is_given in others if is_given]
    if command.minutes not in (None, package.minutes):
        wrong.append(FieldError("minutes", f"A lesson of this package has {package.minutes} minutes."))
    if wrong:
        raise BadRequestError("A package pays for this.", tuple(wrong))
    if rules.ends_before(package, command.starts_at, now=ctx.now):
        raise ConflictError("The package ends before this lesson.", code="package_ends_before")
    if not await is_approved_tutor(ctx.session, command.tutor_id):
        raise ForbiddenError("This tutor does not teach at the moment.")
    tutor = await user_of(ctx.session, package.tutor_id)
    return _row(ctx, command, student, tutor, terms, minutes=package.minutes, rate=None, price=0)


def _row(
    ctx: Context,
    command: RequestBooking,
    student: User,
    tutor: User,
    terms: Policy,
    *,
    minutes: int,
    rate: int | None,
    price: int,
) -> Booking:
    starts_at, ends_at = rules.window(command.starts_at, minutes, now=ctx.now)
    return Booking(
        id=uuid4(),
        student_id=student.id,
        tutor_id=tutor.id,
        package_id=command.package_id,
        hourly_rate=rate,
        price=price,
        currency=CURRENCY,
        policy_version=terms.version,
        starts_at=starts_at,
        ends_at=ends_at,
        topic=command.topic.strip(),
        notes=command.notes.strip(),
        student_timezone=student.timezone,
        tutor_timezone=tutor.timezone,
        status=BookingStatus.REQUESTED,
        requested_at=ctx.now,
        answer_by=rules.answer_by(ctx.now, starts_at),
        version=1,
    )


async def _require_few_unpaid(ctx: Context, student_id: UUID) -> None:
    """Refuse who takes tutors' time by cards and gives none: a request costs nothing until there is one.

    Raises:
        ConflictError: Too many requests wait for a card.
    """
    # Requests at once come one after the other, so that each counts those before it.
    await user_of(ctx.session, student_id, lock=True)
    waiting = (
        select(func.count())
        .select_from(Booking)
        .join(Payment, Payment.id == Booking.id)
        .where(
            Booking.student_id == student_id,
            Booking.status.in_(rules.LIVE),
            Payment.method == PaymentMethod.CARD,
            Payment.state == PaymentState.PENDING,
            Payment.card.is_(None),
        )
    )
    if (await ctx.session.scalar(waiting) or 0) >= rules.UNPAID_MOST:
        raise ConflictError("Other requests wait for your card first.", code="card_missing")


async def _open_payment(ctx: Context, command: RequestBooking, row: Booking, terms: Policy) -> None:
    tutor_id = OwnerId(row.tutor_id)
    earned = await lifetime.net(
        ctx.session, tutor_id, everything=terms.tiers_count_everything, currency=row.currency
    )
    payable = Payable(
        id=row.id,
        lesson_id=row.id,
        student_id=OwnerId(row.student_id),
        tutor_id=tutor_id,
        money=Money(row.price, row.currency),
        tutor_bps=policy.tutor_bps(terms, SourceKind.BOOKING, policy.TIER, lifetime=earned),
        attribution=policy.TIER,
        policy_version=terms.version,
        starts_at=row.starts_at,
    )
    method = PaymentMethod.CARD if command.pay_with == "card" else PaymentMethod.WALLET
    await payments.open_payment(ctx.session, payable, method=method, card=command.card, now=ctx.now)


async def _flush(ctx: Context) -> None:
    """Write a booking, and say in words what the database refuses."""
    try:
        await ctx.session.flush()
    except IntegrityError as error:
        match violated(error):
            case "ex_tutor_time_tutor_id":
                raise ConflictError(
                    "The tutor teaches at that time already.", code="slot_no_longer_available"
                ) from error
            case "ex_booking_student_id":
                raise ConflictError(
                    "You have a lesson at that time already.", code="student_is_busy"
                ) from error
            case _:
                raise


COMMANDS = (
    Command(
        "booking.quote", QuoteBooking, quote_booking, guard="student", method="POST", path="/bookings/quote"
    ),
    Command(
        "booking.request",
        RequestBooking,
        request_booking,
        guard="student",
        method="POST",
        path="/bookings",
        status=201,
        idempotent=True,
    ),
    Command(
        "booking.pay",
        PayBooking,
        pay_booking,
        guard="student",
        method="POST",
        path="/bookings/{booking_id}/pay",
        live=True,
    ),
)

"""The commands of packages (B-09)."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from msgspec import UNSET
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import packages, policy, wallet
from billing.errors import OptionNotFoundError, PackageNotFoundError
from billing.models import (
    Hold,
    HoldStatus,
    OwnerId,
    Package,
    PackageOption,
    PackageStatus,
    Settlement,
)
from billing.money import Money
from billing.packages import Offer
from server import audit, pages, texts
from server.context import Command, Context
from server.errors import BadRequestError, ConflictError, FieldError, ForbiddenError, NotFoundError
from server.features.accounts.models import TEACHES, User, is_approved_tutor, names_of, user_of
from server.features.packages.messages import (
    BrowseOptions,
    BuyPackage,
    CreateOption,
    GetPackage,
    HideOption,
    ListOptions,
    ListPackages,
    OfferedOption,
    OptionList,
    OptionPage,
    OptionView,
    PackagePage,
    PackageQuote,
    PackageSummary,
    PackageView,
    QuotePackage,
    RefundPackage,
    Slice,
    UpdateOption,
)

CHANGEABLE = (
    "title",
    "description",
    "minutes",
    "sessions",
    "price",
    "validity_days",
    "is_rolling",
    "is_popular",
    "position",
)
# One screen of offers, with room to spare.
OPTIONS_MOST = 100


async def create_option(ctx: Context, command: CreateOption) -> OptionView:
    """Offer lessons at a price.

    Raises:
        BadRequestError: The price is too low, or a package that never ends is to be rolling.
        ConflictError: The tutor has a hundred offers.
    """
    values = {name: _stored(getattr(command, name)) for name in CHANGEABLE}
    await _check(ctx, values)
    count = select(func.count()).where(PackageOption.tutor_id == ctx.user.user_id)
    if (await ctx.session.scalar(count) or 0) >= OPTIONS_MOST:
        raise ConflictError("Nobody offers more than a hundred packages.", code="too_many_options")
    option = PackageOption(
        id=uuid4(),
        tutor_id=ctx.user.user_id,
        currency=command.price.currency,
        created_at=ctx.now,
        updated_at=ctx.now,
        **values,
    )
    ctx.session.add(option)
    await ctx.session.flush()
    return _option(option)


async def update_option(ctx: Context, command: UpdateOption) -> OptionView:
    """Change an offer; packages that are sold keep what they were sold with.

    Raises:
        OptionNotFoundError: The caller has no such offer.
        BadRequestError: The price is too low, or a package that never ends is to be rolling.
    """
    option = await _own_option(ctx, command.option_id)
    changes = {name: _stored(value) for name in CHANGEABLE if (value := getattr(command, name)) is not UNSET}
    await _check(ctx, {name: getattr(option, name) for name in CHANGEABLE} | changes)
    for name, value in changes.items():
        setattr(option, name, value)
    option.updated_at = ctx.now
    await ctx.session.flush()
    return _option(option)


async def hide_option(ctx: Context, command: HideOption) -> OptionView:
    """Take an offer off sale, or put it back.

    Raises:
        OptionNotFoundError: The caller has no such offer.
    """
    option = await _own_option(ctx, command.option_id)
    option.hidden_at = (option.hidden_at or ctx.now) if command.hidden else None
    await ctx.session.flush()
    return _option(option)


async def list_options(ctx: Context, command: ListOptions) -> OptionList:
    """Return what a tutor offers, in the tutor's own order.

    Raises:
        NotFoundError: There is no such tutor.
    """
    if not await is_approved_tutor(ctx.session, command.tutor_id):
        raise NotFoundError("There is no such tutor.")
    query = select(PackageOption).where(PackageOption.tutor_id == command.tutor_id)
    if ctx.principal is None or ctx.principal.user_id != command.tutor_id:
        query = query.where(PackageOption.hidden_at.is_(None))
    rows = await ctx.session.scalars(
        query.order_by(PackageOption.position, PackageOption.id).limit(OPTIONS_MOST)
    )
    return OptionList(tuple(_option(row) for row in rows))


async def browse_options(ctx: Context, command: BrowseOptions) -> OptionPage:
    """Return what tutors offer who may teach, the newest first."""
    query = (
        select(PackageOption, User.first_name, User.last_name)
        .join(User, User.id == PackageOption.tutor_id)
        .where(PackageOption.hidden_at.is_(None), *TEACHES)
    )
    shown, more = await pages.read_joined(
        ctx.session, query, PackageOption.created_at, PackageOption.id, command
    )
    return OptionPage(
        tuple(
            OfferedOption(**msgspec.structs.asdict(_option(row)), tutor_name=f"{first} {last_}")
            for row, first, last_ in shown
        ),
        more,
    )


async def quote_package(ctx: Context, command: QuotePackage) -> PackageQuote:
    """Say what a package costs the caller now; nothing is charged.

    Raises:
        OptionNotFoundError: Nobody offers it.
        ForbiddenError: The caller runs the platform.
        ConflictError: It is the caller's own, or not on sale.
    """
    offer = await _offer(ctx, command.option_id)
    buyer = await user_of(ctx.session, ctx.user.user_id)
    balance = (await wallet.balances(ctx.session, OwnerId(buyer.id), offer.price.currency)).balance
    rule = texts.fill(
        texts.PACKAGE_RULES[offer.terms.package_expiry], buyer.locale, days=offer.terms.package_refund_days
    )
    return PackageQuote(
        option_id=offer.option_id,
        terms=_digest(offer),
        price=offer.price,
        balance=balance,
        shortfall=Money(max(0, offer.price.amount - balance.amount), offer.price.currency),
        sessions=offer.sessions,
        minutes=offer.minutes,
        validity_days=offer.validity_days,
        is_rolling=offer.is_rolling,
        on_expiry=offer.terms.package_expiry,
        refund_days=offer.terms.package_refund_days,
        refund_rule=rule.body,
    )


async def buy_package(ctx: Context, command: BuyPackage) -> PackageView:
    """Buy what was quoted: one hold for each lesson, all in one transaction.

    Raises:
        OptionNotFoundError: Nobody offers it.
        ForbiddenError: The caller runs the platform.
        ConflictError: It is the caller's own, not on sale, or something has changed since the quote.
        InsufficientFundsError: Says what is missing.
    """
    offer = await _offer(ctx, command.option_id)
    if _digest(offer) != command.terms:
        raise ConflictError(
            "Price or terms have changed since the quote; ask for another one.",
            code="quote_changed",
            price=offer.price,
        )
    package = await packages.buy(
        ctx.session, offer, package_id=uuid4(), student_id=OwnerId(ctx.user.user_id), now=ctx.now
    )
    return await _view(ctx.session, package)


async def list_packages(ctx: Context, command: ListPackages) -> PackagePage:
    """Return the packages that the caller bought or sold, newest first; all of them for an administrator."""
    query = select(Package)
    if not ctx.user.is_admin:
        user_id = ctx.user.user_id
        query = query.where(or_(Package.student_id == user_id, Package.tutor_id == user_id))
    if command.status is not None:
        query = query.where(Package.status == command.status)
    shown, more = await pages.read(ctx.session, query, Package.bought_at, Package.id, command)
    return PackagePage(tuple(await _summaries(ctx.session, shown)), more)


async def get_package(ctx: Context, command: GetPackage) -> PackageView:
    """Return one package with its lessons, to its parties and administrators.

    Raises:
        PackageNotFoundError: There is none that the caller may know of.
    """
    return await _view(ctx.session, await _package(ctx, command.package_id))


async def refund_package(ctx: Context, command: RefundPackage) -> PackageView:
    """Give back what is unused; the lessons that were taken stay as they are.

    Raises:
        PackageNotFoundError: There is none that the caller may know of.
        ForbiddenError: The caller is its tutor, or an administrator without a reason.
        PackageOverError: It is over already.
        PackageExhaustedError: Nothing of it is left.
        PackageRefundError: The student asks too late.
    """
    package = await _package(ctx, command.package_id)
    is_student = ctx.user.user_id == package.student_id
    if not (is_student or ctx.user.is_admin):
        raise ForbiddenError("Only its student or an administrator gives a package back.")
    if not is_student and command.reason is None:
        raise ForbiddenError("Say why.")
    who = "user" if is_student else "admin"
    refunded = await packages.refund_rest(
        ctx.session,
        package.id,
        actor=f"{who}:{ctx.user.user_id}",
        reason=command.reason or "given back by the student",
        now=ctx.now,
    )
    if not is_student:
        audit.record(
            ctx,
            "package.refund",
            package.id,
            before={"status": PackageStatus.ACTIVE},
            after={"status": refunded.status, "remaining": refunded.remaining},
            reason=command.reason,
        )
    return await _view(ctx.session, refunded)


async def _offer(ctx: Context, option_id: UUID) -> Offer:
    """Return what the caller would buy."""
    if ctx.user.is_admin:
        raise ForbiddenError("Who runs the platform does not buy on it.")
    offer = await packages.offer(ctx.session, option_id, now=ctx.now)
    if offer.tutor_id == ctx.user.user_id:
        raise ConflictError("Nobody buys their own package.", code="own_package")
    if not await is_approved_tutor(ctx.session, offer.tutor_id):
        raise ConflictError("The package is not on sale at the moment.", code="not_on_sale")
    return offer


def _digest(offer: Offer) -> str:
    """Return what names an offer: everything that a purchase freezes."""
    shown = msgspec.json.encode(
        (
            offer.option_id,
            offer.title,
            offer.minutes,
            offer.sessions,
            offer.price,
            offer.validity_days,
            offer.is_rolling,
            offer.tutor_bps,
            offer.terms.version,
        )
    )
    return hashlib.sha256(shown).hexdigest()


async def _own_option(ctx: Context, option_id: UUID) -> PackageOption:
    option = await ctx.session.scalar(
        select(PackageOption)
        .where(PackageOption.id == option_id, PackageOption.tutor_id == ctx.user.user_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if option is None:
        raise OptionNotFoundError
    return option


async def _check(ctx: Context, values: dict[str, Any]) -> None:
    """Refuse what no option can be."""
    least = max((await policy.current(ctx.session, ctx.now)).min_price, values["sessions"])
    wrong = []
    if values["price"] < least:
        wrong.append(FieldError("price", f"must be at least {least} minor units"))
    if values["is_rolling"] and values["validity_days"] is None:
        wrong.append(FieldError("validity_days", "a rolling package needs it"))
    if wrong:
        raise BadRequestError("The offer is not valid.", tuple(wrong))


async def _package(ctx: Context, package_id: UUID) -> Package:
    package = await ctx.session.get(Package, package_id)
    parties = () if package is None else (package.student_id, package.tutor_id)
    if package is None or not (ctx.user.is_admin or ctx.user.user_id in parties):
        raise PackageNotFoundError
    return package


async def _view(session: AsyncSession, package: Package) -> PackageView:
    [summary] = await _summaries(session, [package])
    terms = (await policy.versions(session, [package.policy_version]))[package.policy_version]
    return PackageView(
        **msgspec.structs.asdict(summary),
        tutor_bps=package.tutor_bps,
        policy_version=package.policy_version,
        on_expiry=terms.package_expiry,
        refundable_until=package.bought_at + timedelta(days=terms.package_refund_days),
        slices=tuple(await _slices(session, package)),
    )


async def _summaries(session: AsyncSession, found: Sequence[Package]) -> list[PackageSummary]:
    names = await names_of(session, {row.student_id for row in found} | {row.tutor_id for row in found})
    return [
        PackageSummary(
            id=row.id,
            option_id=row.option_id,
            title=row.title,
            minutes=row.minutes,
            student_id=row.student_id,
            student_name=names[row.student_id],
            tutor_id=row.tutor_id,
            tutor_name=names[row.tutor_id],
            price=Money(row.price, row.currency),
            purchased=row.purchased,
            used=row.used,
            remaining=row.remaining,
            status=PackageStatus(row.status),
            is_rolling=row.is_rolling,
            bought_at=row.bought_at,
            expires_at=row.expires_at,
            ends_soon=row.status == PackageStatus.ACTIVE and row.warned_at is not None,
            ended_at=row.ended_at,
        )
        for row in found
    ]


async def _slices(session: AsyncSession, package: Package) -> list[Slice]:
    newest = (
        select(Settlement.to_student)
        .where(Settlement.hold_id == Hold.id)
        .order_by(Settlement.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = await session.execute(
        select(Hold, func.coalesce(newest, 0)).where(Hold.source_id == package.id).order_by(Hold.slice_no)
    )
    return [
        Slice(
            hold_id=hold.id,
            number=hold.slice_no,
            lesson_id=hold.lesson_id,
            amount=Money(hold.amount, hold.currency),
            status=HoldStatus(hold.status),
            refunded=Money(refunded, hold.currency),
        )
        for hold, refunded in rows
    ]


def _option(row: PackageOption) -> OptionView:
    return OptionView(
        id=row.id,
        tutor_id=row.tutor_id,
        title=row.title,
        description=row.description,
        minutes=row.minutes,
        sessions=row.sessions,
        price=Money(row.price, row.currency),
        per_session=Money(row.price // row.sessions, row.currency),
        validity_days=row.validity_days,
        is_rolling=row.is_rolling,
        is_popular=row.is_popular,
        position=row.position,
        is_hidden=row.hidden_at is not None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _stored(value: Any) -> Any:
    """Return what a column holds for a request's value: of a price, its minor units."""
    return getattr(value, "amount", value)


COMMANDS = (
    Command(
        "package_option.create",
        CreateOption,
        create_option,
        guard="approved_tutor",
        method="POST",
        path="/package-options",
        status=201,
    ),
    Command(
        "package_option.update",
        UpdateOption,
        update_option,
        guard="tutor",
        method="PATCH",
        path="/package-options/{option_id}",
    ),
    Command(
        "package_option.hide",
        HideOption,
        hide_option,
        guard="tutor",
        method="POST",
        path="/package-options/{option_id}/hide",
    ),
    Command(
        "package_option.list",
        ListOptions,
        list_options,
        guard="public",
        method="GET",
        path="/tutors/{tutor_id}/package-options",
    ),
    Command(
        "package_option.browse",
        BrowseOptions,
        browse_options,
        guard="public",
        method="GET",
        path="/package-options",
    ),
    Command("package.quote", QuotePackage, quote_package, method="POST", path="/packages/quote"),
    Command(
        "package.buy",
        BuyPackage,
        buy_package,
        method="POST",
        path="/packages",
        status=201,
        idempotent=True,
    ),
    Command("package.list", ListPackages, list_packages, method="GET", path="/packages"),
    Command("package.get", GetPackage, get_package, method="GET", path="/packages/{package_id}"),
    Command(
        "package.refund",
        RefundPackage,
        refund_package,
        method="POST",
        path="/packages/{package_id}/refund",
        idempotent=True,
    ),
)

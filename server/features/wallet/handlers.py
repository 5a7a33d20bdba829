"""The commands of wallets and holds (B-11, B-12)."""

import hashlib
from collections.abc import Sequence
from typing import cast
from uuid import UUID

import msgspec
from sqlalchemy import select

from billing import (
    explanation,
    hold_views,
    packages,
    payment_moves,
    payments,
    policy,
    releases,
    reversal,
    wallet,
)
from billing.errors import HoldNotFoundError, PaymentStateError, SecondPersonError
from billing.hold_views import Filter, HoldView
from billing.models import Cause, Hold, HoldId, HoldStatus, OwnerId, PaymentReason, SourceKind
from billing.money import Money
from rooms import receipts
from rooms.models import Room
from rooms.receipts import Signed
from server import audit, pages, texts
from server.context import Command, Context, Role
from server.errors import BadRequestError, ConflictError, FieldError, ForbiddenError
from server.features.accounts.models import user_of
from server.features.courses import purchases
from server.features.wallet.messages import (
    Adjusted,
    AdjustWallet,
    Earnings,
    EntryPage,
    EntryView,
    GetHold,
    GetReceipt,
    GetReceiptKey,
    GetWallet,
    GiveGoodwill,
    GoodwillView,
    HoldDetail,
    HoldPage,
    HoldRefund,
    HoldRelease,
    ListEntries,
    ListHolds,
    ReceiptKey,
    Reference,
    RefundHold,
    ReleaseHold,
    ReversedView,
    ReverseJournal,
    WalletView,
)
from server.texts import Locale

# The two halves of an entry's cursor are 64-bit ids.
INTEGER_MOST = 2**63 - 1


async def get_wallet(ctx: Context, _: GetWallet) -> WalletView:
    """Return what the caller has."""
    has = await wallet.balances(ctx.session, OwnerId(ctx.user.user_id))
    return WalletView(has.balance, has.held, Earnings(has.earnings_pending, has.earnings_available))


async def list_entries(ctx: Context, command: ListEntries) -> EntryPage:
    """Return what moved the caller's money, newest first, each with its reason and reference (F4-57)."""
    if any(int(part) > INTEGER_MOST for part in (command.cursor or "0").split("-")):
        raise BadRequestError("The cursor is not valid.", (FieldError("cursor", "is none of this list's"),))
    locale = await _locale(ctx)
    entries = await wallet.entries(
        ctx.session, OwnerId(ctx.user.user_id), limit=command.limit + 1, before=command.cursor
    )
    shown, more = pages.cut(entries, command.limit, lambda entry: entry.cursor)
    items = tuple(
        EntryView(
            id=entry.cursor,
            account=entry.account,
            kind=entry.kind,
            amount=entry.amount,
            reason=entry.reason or texts.fill(texts.ENTRIES[entry.kind], locale).body,
            reference=Reference(entry.ref_type, entry.ref_id),
            at=entry.at,
        )
        for entry in shown
    )
    return EntryPage(items, more)


async def adjust_wallet(ctx: Context, command: AdjustWallet) -> Adjusted:
    """Give somebody credit or take it, with a reason that both the ledger and the audit log keep.

    Raises:
        SecondPersonError: It is the caller's own wallet.
        InsufficientFundsError: The wallet has less than is to be taken.
    """
    assert ctx.key is not None, "the edge refuses an adjustment without a key"
    _refuse_own(ctx, command.user_id)
    await user_of(ctx.session, command.user_id)
    owner, money = OwnerId(command.user_id), Money(command.money.amount, command.money.currency)
    before = (await wallet.balances(ctx.session, owner)).balance
    journal_id = await wallet.adjust(
        ctx.session,
        owner,
        money,
        actor=f"admin:{ctx.user.user_id}",
        reason=command.reason,
        key=ctx.key,
        now=ctx.now,
    )
    after = (await wallet.balances(ctx.session, owner)).balance
    audit.record(
        ctx,
        "wallet.adjust",
        command.user_id,
        before={"balance": before.amount},
        after={"balance": after.amount},
        reason=command.reason,
    )
    return Adjusted(str(journal_id), command.user_id, money, command.reason, after)


async def give_goodwill(ctx: Context, command: GiveGoodwill) -> GoodwillView:
    """Give somebody credit for trouble that they had; above what an administrator may, the owner must (B-08f).

    Raises:
        SecondPersonError: It is the caller's own wallet.
        ForbiddenError: It is too much for an administrator.
    """
    assert ctx.key is not None, "the edge refuses a gift without a key"
    _refuse_own(ctx, command.user_id)
    money = Money(command.money.amount, command.money.currency)
    terms = await policy.current(ctx.session, ctx.now)
    if money.amount > terms.goodwill_most:
        most = Money(terms.goodwill_most, money.currency)
        message = f"No more than {most} can be given at once."
        raise BadRequestError(message, (FieldError("amount", message),))
    if money.amount > terms.goodwill_admin_most and ctx.user.role is not Role.OWNER:
        most = Money(terms.goodwill_admin_most, money.currency)
        raise ForbiddenError(f"Above {most} the owner must decide.", most=most)
    await user_of(ctx.session, command.user_id)
    owner = OwnerId(command.user_id)
    before = (await wallet.balances(ctx.session, owner)).balance
    journal_id = await wallet.give(
        ctx.session,
        owner,
        money,
        why=command.why,
        actor=f"admin:{ctx.user.user_id}",
        reason=command.reason,
        key=ctx.key,
        now=ctx.now,
    )
    after = (await wallet.balances(ctx.session, owner)).balance
    audit.record(
        ctx,
        "wallet.goodwill",
        command.user_id,
        before={"balance": before.amount},
        after={"balance": after.amount, "why": command.why},
        reason=command.reason,
    )
    return GoodwillView(str(journal_id), command.user_id, money, command.why, after)


def _refuse_own(ctx: Context, user_id: UUID) -> None:
    """Let nobody decide about money of their own, the owner neither."""
    if user_id == ctx.user.user_id:
        raise SecondPersonError


async def refund_hold(ctx: Context, command: RefundHold) -> HoldRefund:
    """Give money of a hold back: all of one that is held, a part or the rest of one that was released.

    What a held one pays for ends with it. Both parties are told (B-12).

    Raises:
        HoldNotFoundError: There is no such hold.
        ConflictError: A part of what is still held was asked for, or it was settled in this moment.
        LessonNotTakenError: It is a lesson of a package that nobody took; that goes back with the rest.
        PaymentStateError: It is of a booking whose end was decided in this moment.
        RefundTooLargeError: More than is left.
    """
    assert ctx.key is not None, "the edge refuses a refund without a key"
    before = await hold_views.view(ctx.session, HoldId(command.hold_id))
    asked = None if command.money is None else Money(command.money.amount, command.money.currency)
    if before.status is HoldStatus.HELD and asked in (None, before.amount):
        given = await _refund_held(ctx, before, command.reason)
    elif before.status is HoldStatus.HELD:
        raise ConflictError("What is still held goes back whole.", code="hold_not_settled")
    else:
        given = await _refund_released(ctx, before, asked, command.reason)
    audit.record(
        ctx,
        "hold.refund",
        command.hold_id,
        before={"status": before.status, "rest": given.rest.amount + given.refunded.amount},
        after={"rest": given.rest.amount},
        reason=command.reason,
    )
    return given


async def _refund_held(ctx: Context, hold: HoldView, reason: str) -> HoldRefund:
    """Give a hold back in the way of what it pays for: place, lesson of a package, or booking."""
    actor = f"admin:{ctx.user.user_id}"
    match hold.source_kind:
        case SourceKind.COURSE_SESSION | SourceKind.COURSE_SLICE:
            await purchases.refund_place(ctx, hold.id, reason=reason)
        case SourceKind.PACKAGE_SLICE:
            await packages.refund_taken(
                ctx.session, hold.source_id, hold.id, actor=actor, reason=reason, now=ctx.now
            )
        case SourceKind.BOOKING:
            why = PaymentReason.CANCELLED
            payment = await payment_moves.locked(ctx.session, hold.source_id)
            if payment.verdict is not None:
                # To let go twice is harmless, but only one of two who do has done it.
                raise PaymentStateError(payment.state, payment.verdict)
            await payments.void(
                ctx.session, hold.source_id, reason=why, actor=actor, words=reason, now=ctx.now
            )
    nothing = Money(0, hold.amount.currency)
    return HoldRefund(hold.id, hold.amount, from_tutor=nothing, owed=nothing, rest=nothing)


async def _refund_released(ctx: Context, hold: HoldView, asked: Money | None, reason: str) -> HoldRefund:
    assert ctx.key is not None, "the edge refuses a refund without a key"
    given = await payment_moves.give_back(
        ctx.session,
        hold.id,
        amount=asked,
        cause=Cause.REFUND,
        actor=f"admin:{ctx.user.user_id}",
        reason=reason,
        # Refunds have keys of their own, too: what a client makes up must be none of them, whatever its length.
        key=f"asked:{hashlib.sha256(ctx.key.encode()).hexdigest()}",
        now=ctx.now,
    )
    return HoldRefund(hold.id, given.amount, given.from_tutor, given.owed, given.rest)


async def release_hold(ctx: Context, command: ReleaseHold) -> HoldRelease:
    """Pay out what is held for a session that has begun, or a part of it, by the split (B-12, C-04); both are told.

    Bookings end by their payment, lessons of packages by who came.

    Raises:
        HoldNotFoundError: There is no such hold.
        ConflictError: It is of no course, or its session has not begun.
        HoldNotHeldError: It is settled.
    """
    hold = await hold_views.view(ctx.session, HoldId(command.hold_id))
    if hold.source_kind not in (SourceKind.COURSE_SESSION, SourceKind.COURSE_SLICE):
        raise ConflictError("Only sessions of courses are paid out by hand.", code="not_of_a_course")
    await purchases.check_begun(ctx, hold.id)
    done = await releases.by_hand(
        ctx.session,
        hold.id,
        percent=command.percent,
        actor=f"admin:{ctx.user.user_id}",
        reason=command.reason,
        now=ctx.now,
    )
    audit.record(
        ctx,
        "hold.release",
        command.hold_id,
        before={"status": HoldStatus.HELD},
        after={"percent": command.percent, "refunded": done.to_student},
        reason=command.reason,
    )
    tutor, platform, student = (
        Money(part, hold.amount.currency) for part in (done.to_tutor, done.to_platform, done.to_student)
    )
    return HoldRelease(hold.id, tutor, platform, student)


async def reverse_journal(ctx: Context, command: ReverseJournal) -> ReversedView:
    """Undo a whole journal, with a reason that both the ledger and the audit log keep.

    Raises:
        JournalNotFoundError: There is none.
        NotReversibleError: It has a way back of its own.
        AlreadyReversedError: It was undone before.
        InsufficientFundsError: The money is not where it went any more.
    """
    assert ctx.key is not None, "the edge refuses a reversal without a key"
    done = await reversal.reverse(
        ctx.session,
        # Nineteen digits may pass 64 bits, and no journal has those.
        min(int(command.journal_id), INTEGER_MOST),
        actor=f"admin:{ctx.user.user_id}",
        reason=command.reason,
        key=ctx.key,
        now=ctx.now,
    )
    audit.record(
        ctx,
        "ledger.reverse",
        done.ref_id,
        before={"journal": command.journal_id, "kind": done.kind},
        after={"journal": str(done.journal_id)},
        reason=command.reason,
    )
    return ReversedView(
        id=str(done.journal_id),
        reverses=command.journal_id,
        kind=done.kind,
        reference=Reference(done.ref_type, done.ref_id),
        reason=command.reason,
    )


async def list_holds(ctx: Context, command: ListHolds) -> HoldPage:
    """Return the caller's holds, as student and as tutor, newest first; all of them for an administrator."""
    party = None if ctx.user.is_admin else OwnerId(ctx.user.user_id)
    found = await hold_views.find(
        ctx.session,
        Filter(party_id=party, status=command.status),
        limit=command.limit + 1,
        before=command.cursor,
    )
    shown, more = pages.cut(found, command.limit, lambda hold: hold.id)
    return HoldPage(await _details(ctx, shown), more)


async def get_hold(ctx: Context, command: GetHold) -> HoldDetail:
    """Return one hold with everything that decided it, to its parties and administrators.

    Raises:
        HoldNotFoundError: There is none that the caller may know of.
    """
    await _check_party(ctx, command.hold_id)
    view = await hold_views.view(ctx.session, HoldId(command.hold_id))
    return (await _details(ctx, [view]))[0]


async def get_receipt(ctx: Context, command: GetReceipt) -> Signed:
    """Return the signed receipt of a settled hold, to its parties and administrators.

    Its bytes are what is signed: kept as they are, `fourtalk receipt verify` proves them.

    Raises:
        HoldNotFoundError: There is none that the caller may know of.
        NotSettledError: It is still held.
    """
    await _check_party(ctx, command.hold_id)
    receipt = await receipts.build(ctx.session, command.hold_id)
    return receipts.sign(receipt, receipts.signing_key(ctx.parts.settings.secret_key))


async def get_receipt_key(ctx: Context, _: GetReceiptKey) -> ReceiptKey:
    """Return the key that receipts are signed with, to be named when one is verified."""
    key = receipts.signing_key(ctx.parts.settings.secret_key)
    return ReceiptKey("ed25519", receipts.public_key(key))


async def _check_party(ctx: Context, hold_id: UUID) -> None:
    """Refuse strangers before anything is looked up for them: a foreign hold is to them what no hold is.

    Raises:
        HoldNotFoundError: There is none that the caller may know of.
    """
    hold = await ctx.session.get(Hold, hold_id)
    if hold is None or not (ctx.user.is_admin or ctx.user.user_id in (hold.student_id, hold.tutor_id)):
        raise HoldNotFoundError(hold_id)


async def _locale(ctx: Context) -> Locale:
    return cast("Locale", (await user_of(ctx.session, ctx.user.user_id)).locale)


async def _details(ctx: Context, views: Sequence[HoldView]) -> tuple[HoldDetail, ...]:
    locale = await _locale(ctx)
    lessons = select(Room.id, Room.title).where(Room.id.in_({view.lesson_id for view in views} - {None}))
    titles = {row.id: row.title for row in await ctx.session.execute(lessons)}
    return tuple(
        HoldDetail(
            **msgspec.structs.asdict(view),
            title=None if view.lesson_id is None else titles.get(view.lesson_id),
            explanation=explanation.explain(view, locale),
        )
        for view in views
    )


COMMANDS = (
    Command("wallet.get", GetWallet, get_wallet, method="GET", path="/wallet"),
    Command("wallet.entries", ListEntries, list_entries, method="GET", path="/wallet/entries"),
    Command(
        "wallet.adjust",
        AdjustWallet,
        adjust_wallet,
        guard="admin",
        method="POST",
        path="/admin/wallet-adjustments",
        idempotent=True,
    ),
    Command(
        "wallet.goodwill",
        GiveGoodwill,
        give_goodwill,
        guard="admin",
        method="POST",
        path="/admin/goodwill",
        idempotent=True,
    ),
    Command(
        "hold.refund",
        RefundHold,
        refund_hold,
        guard="admin",
        method="POST",
        path="/admin/holds/{hold_id}/refund",
        idempotent=True,
    ),
    Command(
        "hold.release",
        ReleaseHold,
        release_hold,
        guard="admin",
        method="POST",
        path="/admin/holds/{hold_id}/release",
        idempotent=True,
    ),
    Command(
        "ledger.reverse",
        ReverseJournal,
        reverse_journal,
        guard="admin",
        method="POST",
        path="/admin/journals/{journal_id}/reverse",
        idempotent=True,
    ),
    Command("hold.list", ListHolds, list_holds, method="GET", path="/holds"),
    Command("hold.get", GetHold, get_hold, method="GET", path="/holds/{hold_id}"),
    Command("hold.receipt", GetReceipt, get_receipt, method="GET", path="/holds/{hold_id}/receipt"),
    Command(
        "receipt.key", GetReceiptKey, get_receipt_key, guard="public", method="GET", path="/receipts/key"
    ),
)

"""The commands of earnings and withdrawals (B-11, B-13). Every look at bank data and every deed is audited."""

from datetime import date, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from billing import earnings, lifetime, payout_accounts, policy, withdrawals
from billing.errors import NoPayoutAccountError, WithdrawalNotFoundError
from billing.models import OwnerId, PayoutAccount, PayoutMethod, Withdrawal, WithdrawalStatus
from billing.money import Money
from billing.payout_accounts import BankData
from billing.stripe_api import StripeApi
from billing.vault import Vault
from server import audit, pages
from server.context import Command, Context
from server.download import Csv
from server.errors import BadRequestError, FieldError, NotFoundError
from server.features.accounts.models import user_of
from server.features.earnings import export
from server.features.earnings.messages import (
    ApproveWithdrawal,
    BankAccountView,
    CompleteWithdrawal,
    EarningsView,
    ExportWithdrawals,
    GetEarnings,
    GetPayoutAccount,
    GetStripeAccount,
    HoldWithdrawal,
    LetWithdrawalGo,
    ListAllWithdrawals,
    ListWithdrawals,
    Onboarding,
    OnboardPayouts,
    PayoutAccountView,
    RejectWithdrawal,
    RequestWithdrawal,
    RetryWithdrawal,
    RevealBankAccount,
    SetBankAccount,
    SpendEarnings,
    Spent,
    StripeAccountView,
    WithdrawalPage,
    WithdrawalView,
)

# A year of days, or ten of months: more is no screen of anybody's.
DAYS_MOST = 366
MONTHS_MOST_DAYS = 3_653
# What is shown without being asked for a time.
DAYS_SHOWN = 30
# A tutor who withdraws every day has so many in a decade.
EXPORT_MOST = 5_000


async def get_earnings(ctx: Context, command: GetEarnings) -> EarningsView:
    """Return what the caller earned by day or month of their own calendar, and where it is now (ED-112)."""
    tutor_id = OwnerId(ctx.user.user_id)
    zone = (await user_of(ctx.session, tutor_id)).timezone
    since, until = _span(command, ctx.now.astimezone(ZoneInfo(zone)).date())
    after = until + timedelta(days=1)
    terms = await policy.current(ctx.session, ctx.now)
    periods = await earnings.periods(
        ctx.session, tutor_id, by=command.by, zone=zone, since=since, until=after
    )
    shares = await earnings.shares(ctx.session, tutor_id, zone=zone, since=since, until=after)
    return EarningsView(
        standing=await earnings.standing(ctx.session, tutor_id),
        since=since,
        until=until,
        timezone=zone,
        periods=tuple(periods),
        shares=tuple(shares),
        tier=await lifetime.progress(ctx.session, tutor_id, terms),
        withdrawal_least=Money(terms.withdrawal_least),
    )


async def spend_earnings(ctx: Context, command: SpendEarnings) -> Spent:
    """Make earnings the caller's own credit.

    Raises:
        InsufficientFundsError: There are not so many.
    """
    assert ctx.key is not None, "the edge refuses this without a key"
    tutor_id, money = OwnerId(ctx.user.user_id), Money(command.amount.amount, command.amount.currency)
    journal_id = await withdrawals.spend(ctx.session, tutor_id, money, key=ctx.key, now=ctx.now)
    return Spent(str(journal_id), money, await earnings.standing(ctx.session, tutor_id))


async def get_payout_account(ctx: Context, _: GetPayoutAccount) -> PayoutAccountView:
    """Return where the caller's money goes.

    Raises:
        NoPayoutAccountError: They did not say so.
    """
    return _account(await payout_accounts.current(ctx.session, OwnerId(ctx.user.user_id)))


async def set_bank_account(ctx: Context, command: SetBankAccount) -> PayoutAccountView:
    """Have the caller's money go to a bank account; a change is paid to only some days later."""
    bank = BankData(**msgspec.structs.asdict(command))
    row = await payout_accounts.set_bank(
        ctx.session, OwnerId(ctx.user.user_id), bank, vault=_vault(ctx), now=ctx.now
    )
    audit.record(
        ctx, "payout_account.set_bank", row.id, before={}, after={"method": row.method, "last4": row.last4}
    )
    return _account(row)


async def onboard_payouts(ctx: Context, command: OnboardPayouts) -> Onboarding:
    """Have the caller's money go to them by Stripe, and return where they tell Stripe who they are.

    Raises:
        StripeError: Stripe is away, or refuses.
    """
    async with ctx.parts.sessions.begin() as session:
        email = (await user_of(session, ctx.user.user_id)).email
        audit.record(
            ctx,
            "payout_account.onboard",
            ctx.user.user_id,
            before={},
            after={"method": PayoutMethod.STRIPE, "country": command.country},
            session=session,
        )
    url = await payout_accounts.onboard(
        ctx.parts.sessions,
        _payments(ctx),
        OwnerId(ctx.user.user_id),
        country=command.country,
        email=email,
        return_url=f"{ctx.parts.settings.public_url}/teach/earnings?stripe=returned",
        now=ctx.now,
    )
    return Onboarding(url, test=not _payments(ctx).is_live)


async def get_stripe_account(ctx: Context, _: GetStripeAccount) -> StripeAccountView:
    """Ask Stripe how far the caller's account there is.

    Raises:
        NoPayoutAccountError: Their money does not go there.
        StripeError: Stripe is away.
    """
    async with ctx.parts.sessions() as session:
        row = await payout_accounts.current(session, OwnerId(ctx.user.user_id))
    if row.stripe_account is None:
        raise NoPayoutAccountError
    account = await _payments(ctx).retrieve_account(row.stripe_account)
    return StripeAccountView(
        may_receive=account.may_receive,
        may_pay_out=account.may_pay_out,
        wanted=account.wanted,
        test=not _payments(ctx).is_live,
    )


async def request_withdrawal(ctx: Context, command: RequestWithdrawal) -> WithdrawalView:
    """Ask for earnings, and reserve them.

    Raises:
        WithdrawalTooSmallError: Less than the terms allow.
        NoPayoutAccountError: The caller did not say where the money is to go.
        PayoutAccountFrozenError: That was changed lately.
        InsufficientFundsError: There are not so many earnings.
    """
    assert ctx.key is not None, "the edge refuses this without a key"
    row = await withdrawals.request(
        ctx.session,
        OwnerId(ctx.user.user_id),
        Money(command.amount.amount, command.amount.currency),
        note=command.note,
        key=ctx.key,
        now=ctx.now,
    )
    return await _view(ctx, row)


async def list_withdrawals(ctx: Context, command: ListWithdrawals) -> WithdrawalPage:
    """Return the caller's withdrawals, newest first."""
    return await _page(
        ctx, OwnerId(ctx.user.user_id), command.status, limit=command.limit, cursor=command.cursor
    )


async def list_all_withdrawals(ctx: Context, command: ListAllWithdrawals) -> WithdrawalPage:
    """Return everybody's withdrawals, newest first."""
    tutor_id = None if command.tutor_id is None else OwnerId(command.tutor_id)
    return await _page(ctx, tutor_id, command.status, limit=command.limit, cursor=command.cursor)


async def export_withdrawals(ctx: Context, command: ExportWithdrawals) -> Csv:
    """Return the caller's withdrawals as a CSV file."""
    rows = await earnings.withdrawals(
        ctx.session, tutor_id=OwnerId(ctx.user.user_id), status=command.status, limit=EXPORT_MOST
    )
    return Csv("withdrawals.csv", export.table(rows))


async def reveal_bank_account(ctx: Context, command: RevealBankAccount) -> BankAccountView:
    """Return the bank data that a withdrawal goes to, and write down who asked for it and why.

    Raises:
        WithdrawalNotFoundError: There is none.
        NotFoundError: It does not go to a bank.
        SealBrokenError: The data was sealed under another secret.
    """
    row = await ctx.session.get(Withdrawal, command.withdrawal_id)
    if row is None:
        raise WithdrawalNotFoundError
    account = await ctx.session.get_one(PayoutAccount, row.payout_account)
    if account.sealed is None:
        raise NotFoundError("This withdrawal goes by Stripe.")
    bank = payout_accounts.open_bank(account, vault=_vault(ctx))
    audit.record(
        ctx,
        "admin.withdrawal.reveal",
        row.id,
        before={},
        after={"payout_account": str(account.id), "last4": account.last4},
        reason=command.reason,
    )
    return BankAccountView(**msgspec.structs.asdict(bank))


async def approve_withdrawal(ctx: Context, command: ApproveWithdrawal) -> WithdrawalView:
    """Say yes; a large withdrawal needs a second administrator who says yes too.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is not pending.
        WithdrawalHeldError: Somebody stopped it.
        SecondPersonError: The caller has said yes before, or is its tutor.
    """
    row = await withdrawals.approve(
        ctx.session, command.withdrawal_id, admin_id=ctx.user.user_id, now=ctx.now
    )
    return await _done(ctx, row, "approve", before=WithdrawalStatus.PENDING)


async def reject_withdrawal(ctx: Context, command: RejectWithdrawal) -> WithdrawalView:
    """Say no, and give the money back.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is over.
        PayoutUnderWayError: Stripe may have sent the money.
    """
    before = await _status(ctx, command.withdrawal_id)
    row = await withdrawals.reject(
        ctx.session,
        command.withdrawal_id,
        admin_id=ctx.user.user_id,
        answer=command.answer,
        now=ctx.now,
    )
    return await _done(ctx, row, "reject", before=before, reason=command.answer)


async def hold_withdrawal(ctx: Context, command: HoldWithdrawal) -> WithdrawalView:
    """Stop a withdrawal for a while.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is over.
        WithdrawalHeldError: Somebody stopped it before.
    """
    row = await withdrawals.hold(
        ctx.session, command.withdrawal_id, admin_id=ctx.user.user_id, reason=command.reason
    )
    return await _done(ctx, row, "hold", before=row.status, reason=command.reason)


async def let_withdrawal_go(ctx: Context, command: LetWithdrawalGo) -> WithdrawalView:
    """Let a withdrawal that was held go on.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is not held.
    """
    row = await withdrawals.let_go(ctx.session, command.withdrawal_id, now=ctx.now)
    return await _done(ctx, row, "let_go", before=row.status)


async def complete_withdrawal(ctx: Context, command: CompleteWithdrawal) -> WithdrawalView:
    """Write down that the bank transfer was made.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is not being processed, or goes by Stripe.
        WithdrawalHeldError: Somebody stopped it.
    """
    reason = f"Bank transfer {command.reference}"
    row = await withdrawals.complete(
        ctx.session,
        command.withdrawal_id,
        reference=command.reference,
        actor=f"admin:{ctx.user.user_id}",
        reason=reason,
        now=ctx.now,
    )
    return await _done(ctx, row, "complete", before=WithdrawalStatus.PROCESSING, reason=reason)


async def retry_withdrawal(ctx: Context, command: RetryWithdrawal) -> WithdrawalView:
    """Try to pay out by Stripe again what failed.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is not being processed, or goes to a bank.
        WithdrawalHeldError: Somebody stopped it.
        PayoutUnderWayError: The last try is not over.
    """
    row = await withdrawals.retry(ctx.session, command.withdrawal_id, now=ctx.now)
    return await _done(ctx, row, "retry", before=row.status)


def _span(command: GetEarnings, today: date) -> tuple[date, date]:
    """Return the first and the last day to show.

    Raises:
        BadRequestError: The last is before the first, or too far away from it.
    """
    until = command.until or today
    default = until - timedelta(days=DAYS_SHOWN)
    if command.by == "month":
        # The month after this one, a year ago.
        whole = until.year * 12 + until.month - 12
        default = date(whole // 12, whole % 12 + 1, 1)
    since = command.since or default
    most = DAYS_MOST if command.by == "day" else MONTHS_MOST_DAYS
    if not timedelta() <= until - since <= timedelta(days=most):
        raise BadRequestError(
            "That is no span of time to show.", (FieldError("since", f"at most {most} days"),)
        )
    return since, until


async def _page(
    ctx: Context,
    tutor_id: OwnerId | None,
    status: WithdrawalStatus | None,
    *,
    limit: int,
    cursor: str | None,
) -> WithdrawalPage:
    before = None if cursor is None else pages.position(cursor)
    found = await earnings.withdrawals(
        ctx.session, tutor_id=tutor_id, status=status, limit=limit + 1, before=before
    )
    shown, more = pages.cut(found, limit, lambda one: pages.cursor_after(one.requested_at, one.id))
    return WithdrawalPage(tuple(_shown(ctx, one) for one in shown), more)


async def _status(ctx: Context, withdrawal_id: UUID) -> str | None:
    row = await ctx.session.get(Withdrawal, withdrawal_id)
    return None if row is None else row.status


async def _done(
    ctx: Context, row: Withdrawal, deed: str, *, before: str | None, reason: str | None = None
) -> WithdrawalView:
    """Write down what an administrator did to a withdrawal, and show it."""
    audit.record(
        ctx,
        f"admin.withdrawal.{deed}",
        row.id,
        before={"status": before},
        after={"status": row.status, "held": row.held_by is not None},
        reason=reason,
    )
    return await _view(ctx, row)


async def _view(ctx: Context, row: Withdrawal) -> WithdrawalView:
    account = await ctx.session.get_one(PayoutAccount, row.payout_account)
    return _shown(ctx, earnings.view(row, account.last4))


def _shown(ctx: Context, found: earnings.WithdrawalView) -> WithdrawalView:
    """Say of a withdrawal whether it moves money; what goes to a bank is sent by people."""
    is_test = found.method is PayoutMethod.STRIPE and not _payments(ctx).is_live
    return WithdrawalView(**msgspec.structs.asdict(found), test=is_test)


def _payments(ctx: Context) -> StripeApi:
    assert ctx.parts.payments is not None, "whoever serves has a way to pay"
    return ctx.parts.payments


def _account(row: PayoutAccount) -> PayoutAccountView:
    return PayoutAccountView(
        method=PayoutMethod(row.method),
        last4=row.last4,
        created_at=row.created_at,
        usable_from=row.usable_from,
    )


def _vault(ctx: Context) -> Vault:
    return Vault(ctx.parts.settings.secret_key)


ADMIN = "/admin/withdrawals/{withdrawal_id}"
COMMANDS = (
    Command("earnings.get", GetEarnings, get_earnings, guard="tutor", method="GET", path="/earnings"),
    Command(
        "earnings.spend",
        SpendEarnings,
        spend_earnings,
        guard="tutor",
        method="POST",
        path="/earnings/credit",
        idempotent=True,
    ),
    Command(
        "payout_account.get",
        GetPayoutAccount,
        get_payout_account,
        guard="tutor",
        method="GET",
        path="/payout-account",
    ),
    Command(
        "payout_account.set_bank",
        SetBankAccount,
        set_bank_account,
        guard="approved_tutor",
        method="POST",
        path="/payout-account/bank",
        idempotent=True,
    ),
    Command(
        "payout_account.onboard",
        OnboardPayouts,
        onboard_payouts,
        guard="approved_tutor",
        method="POST",
        path="/payout-account/stripe",
        live=True,
    ),
    Command(
        "payout_account.stripe",
        GetStripeAccount,
        get_stripe_account,
        guard="tutor",
        method="GET",
        path="/payout-account/stripe",
        live=True,
    ),
    Command(
        "withdrawal.request",
        RequestWithdrawal,
        request_withdrawal,
        guard="approved_tutor",
        method="POST",
        path="/withdrawals",
        status=201,
        idempotent=True,
    ),
    Command(
        "withdrawal.list",
        ListWithdrawals,
        list_withdrawals,
        guard="tutor",
        method="GET",
        path="/withdrawals",
    ),
    Command(
        "withdrawal.export",
        ExportWithdrawals,
        export_withdrawals,
        guard="tutor",
        method="GET",
        path="/withdrawals/export",
        on_socket=False,
    ),
    Command(
        "admin.withdrawal.list",
        ListAllWithdrawals,
        list_all_withdrawals,
        guard="admin",
        method="GET",
        path="/admin/withdrawals",
    ),
    Command(
        "admin.withdrawal.reveal",
        RevealBankAccount,
        reveal_bank_account,
        guard="admin",
        # Answers of other methods may be kept under a key, and this one must be kept nowhere.
        method="GET",
        path=f"{ADMIN}/bank-account",
    ),
    *(
        Command(
            f"admin.withdrawal.{deed}",
            request,
            handler,
            guard="admin",
            method="POST",
            path=f"{ADMIN}/{path}",
            idempotent=True,
        )
        for deed, path, request, handler in (
            ("approve", "approve", ApproveWithdrawal, approve_withdrawal),
            ("reject", "reject", RejectWithdrawal, reject_withdrawal),
            ("hold", "hold", HoldWithdrawal, hold_withdrawal),
            ("let_go", "let-go", LetWithdrawalGo, let_withdrawal_go),
            ("complete", "complete", CompleteWithdrawal, complete_withdrawal),
            ("retry", "retry", RetryWithdrawal, retry_withdrawal),
        )
    ),
)

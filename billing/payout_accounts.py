"""Where a tutor's money goes: a bank account whose data is sealed, or an account at Stripe.

A change is a new row that cannot be paid to for a while, so that whoever took over an account gains nothing by it
before its owner, who is told, has noticed.
"""

import uuid
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import outbox, policy
from billing.errors import NoPayoutAccountError
from billing.messages import PayoutAccountChanged
from billing.models import OwnerId, PayoutAccount, PayoutMethod
from billing.stripe_api import StripeApi
from billing.vault import Vault


class BankData(msgspec.Struct, frozen=True, kw_only=True):
    """What a bank transfer needs to know."""

    bank_name: str
    account_number: str
    account_holder: str
    branch: str | None = None
    swift: str | None = None

    @property
    def last4(self) -> str:
        """Return all that is shown of the number, however it was grouped."""
        return "".join(filter(str.isalnum, self.account_number))[-4:]


async def current(session: AsyncSession, tutor_id: OwnerId) -> PayoutAccount:
    """Return where a tutor's money goes now.

    Raises:
        NoPayoutAccountError: They did not say so.
    """
    row = await session.scalar(
        select(PayoutAccount).where(PayoutAccount.tutor_id == tutor_id, PayoutAccount.replaced_at.is_(None))
    )
    if row is None:
        raise NoPayoutAccountError
    return row


async def set_bank(
    session: AsyncSession, tutor_id: OwnerId, bank: BankData, *, vault: Vault, now: datetime
) -> PayoutAccount:
    """Have a tutor's money go to a bank account from now on."""
    row_id = uuid.uuid4()
    sealed = vault.seal(msgspec.json.encode(bank), row_id=row_id)
    return await _replace(
        session,
        PayoutAccount(
            id=row_id, tutor_id=tutor_id, method=PayoutMethod.BANK, sealed=sealed, last4=bank.last4
        ),
        now=now,
    )


def open_bank(row: PayoutAccount, *, vault: Vault) -> BankData:
    """Return the bank data in clear; whoever asks is written down by the caller.

    Raises:
        SealBrokenError: It was sealed under another secret.
    """
    assert row.sealed is not None, "a bank account is sealed"
    return msgspec.json.decode(vault.open(row.sealed, row_id=row.id), type=BankData)


async def onboard(
    sessions: async_sessionmaker[AsyncSession],
    api: StripeApi,
    tutor_id: OwnerId,
    *,
    country: str,
    email: str,
    return_url: str,
    now: datetime,
) -> str:
    """Have a tutor's money go to their account at Stripe, and return where they tell Stripe who they are.

    The account is written down before Stripe hears of it and made once, however often this is asked.

    Raises:
        StripeError: Stripe is away, or refuses.
    """
    async with sessions.begin() as session:
        row = await _stripe_row(session, tutor_id, now=now)
    account = row.stripe_account
    if account is None:
        made = await api.create_account(
            # With the country: who finds out that it was the wrong one must not be refused for a day.
            tutor_id,
            country=country,
            email=email,
            key=f"payout_account:{row.id}:create:{country}",
        )
        async with sessions.begin() as session:
            await _alone(session, tutor_id)
            kept = await session.get_one(PayoutAccount, row.id)
            # Two windows may have asked for two countries: the first counts.
            account = kept.stripe_account = kept.stripe_account or made.id
    # Addresses work once and for some minutes, so each is made anew.
    return await api.onboarding_link(
        account, refresh_url=return_url, return_url=return_url, key=f"payout_account:{uuid.uuid4()}:link"
    )


async def _stripe_row(session: AsyncSession, tutor_id: OwnerId, *, now: datetime) -> PayoutAccount:
    await _alone(session, tutor_id)
    try:
        row = await current(session, tutor_id)
    except NoPayoutAccountError:
        row = None
    if row is not None and row.method == PayoutMethod.STRIPE:
        return row
    made = PayoutAccount(id=uuid.uuid4(), tutor_id=tutor_id, method=PayoutMethod.STRIPE)
    return await _replace(session, made, now=now)


async def _replace(session: AsyncSession, row: PayoutAccount, *, now: datetime) -> PayoutAccount:
    tutor_id = OwnerId(row.tutor_id)
    await _alone(session, tutor_id)
    terms = await policy.current(session, now)
    replaced = await session.execute(
        update(PayoutAccount)
        .where(PayoutAccount.tutor_id == tutor_id, PayoutAccount.replaced_at.is_(None))
        .values(replaced_at=now)
        .returning(PayoutAccount.id)
    )
    is_change = replaced.first() is not None
    row.created_at = now
    row.usable_from = now + timedelta(hours=terms.payout_freeze_hours) if is_change else now
    session.add(row)
    await session.flush()
    outbox.record(session, PayoutAccountChanged(tutor_id=tutor_id, usable_from=row.usable_from), at=now)
    return row


async def _alone(session: AsyncSession, tutor_id: UUID) -> None:
    """Let two changes of one tutor follow each other."""
    await session.execute(_LOCK, {"key": f"payout_account:{tutor_id}"})


_LOCK = text("select pg_advisory_xact_lock(hashtextextended(:key, 0))")

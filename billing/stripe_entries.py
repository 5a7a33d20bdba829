"""Which journal tells of which movement of our balance at Stripe: one each, both ways, by constraint.

Whoever posts a journal that touches the account `stripe` calls `record` in the same transaction.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger
from billing.ledger import AccountKey, Leg, Order
from billing.models import PLATFORM, AccountKind, StripeEntry
from billing.money import Money
from billing.stripe_objects import BalanceTransaction


def at_stripe(currency: str) -> AccountKey:
    """Name the account of our money at Stripe."""
    return AccountKey(AccountKind.STRIPE, PLATFORM, currency)


async def post(
    session: AsyncSession, order: Order, movement: BalanceTransaction, *, other: AccountKey
) -> int | None:
    """Post what a movement did and record it; return the journal, or None if it was posted before.

    Money that came is debited from `stripe` and credited to `other`, money that left the other way round, and the fee
    is our expense, all in one journal: then -`stripe` is Stripe's own balance.

    Raises:
        InsufficientFundsError: The other account would fall below zero.
    """
    currency = movement.currency.upper()
    stripe, expense = at_stripe(currency), AccountKey(AccountKind.PLATFORM_EXPENSE, PLATFORM, currency)
    ids = await ledger.accounts(session, (stripe, expense, other))
    legs = [
        _leg(ids[stripe], ids[other], Money(movement.amount, currency)),
        _leg(ids[expense], ids[stripe], Money(movement.fee, currency)),
    ]
    posted = await ledger.post(session, order, [leg for leg in legs if leg is not None])
    if posted.replayed:
        return None
    record(session, posted.journal_id, movement)
    return posted.journal_id


def record(session: AsyncSession, journal_id: int, movement: BalanceTransaction) -> None:
    """Write down that this journal tells of this movement."""
    session.add(
        StripeEntry(
            id=movement.id,
            journal_id=journal_id,
            source=movement.source or "",
            category=movement.reporting_category,
            amount=movement.amount,
            fee=movement.fee,
            currency=movement.currency.upper(),
            at=movement.at,
        )
    )


def _leg(debit: int, credit: int, money: Money) -> Leg | None:
    """Return the leg of a signed amount."""
    if money.amount == 0:
        return None
    if money.amount < 0:
        return Leg(credit, debit, Money(-money.amount, money.currency))
    return Leg(debit, credit, money)

"""Money into a wallet: a durable intent, Stripe's Checkout or a saved card, credit once the payment is there.

    created ──► pending ──► succeeded | failed | expired

The intent is a row before Stripe hears of it, so whatever dies in between leaves something to go on from. What happens
after that is never taken from a message: a webhook, the payer's return, the deadline and the reconciliation all do the
same, they fetch the session and the payment and apply what these say (`apply`). An end is final at Stripe before it is
final here: a session that is expired cannot be paid, and a payment that is canceled cannot succeed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import jobs, outbox, policy, stripe_entries
from billing.crashpoints import crashpoint
from billing.errors import (
    CardDeclinedError,
    IdempotencyMismatchError,
    InvalidKeyError,
    MethodNotFoundError,
    PaymentMismatchError,
    StripeAwayError,
    StripeRefusedError,
    TopUpNotFoundError,
    TopUpRangeError,
    UnsettledPaymentError,
)
from billing.ledger import KEY_MOST, AccountKey, Order
from billing.messages import TopUpFailed, TopUpSucceeded, WalletChanged
from billing.models import (
    AccountKind,
    JournalKind,
    OwnerId,
    StripeCustomer,
    TopUp,
    TopUpStatus,
    TopUpWay,
)
from billing.money import Money
from billing.stripe_api import StripeApi
from billing.stripe_objects import Checkout, Method, Payment

Sessions = async_sessionmaker[AsyncSession]

# Stripe allows 30 minutes to 24 hours. An hour is enough to find a card, and whoever comes later wants a new page.
OPEN_FOR = timedelta(hours=1)
# After its time Stripe closes a session by itself; until then its own event may be on the way.
GRACE = timedelta(minutes=2)
# A bank debit is decided within days; a card at once.
LOOK_AGAIN = timedelta(hours=6)
# Stripe keeps keys for 24 hours at least: before that a call is repeated, after it is looked for first.
KEYS_HOLD = timedelta(hours=20)

# Metadata of what we make at Stripe.
TAG, OWNER_TAG = "top_up", "owner"
# Kind of the job that ends what nobody has paid.
DUE_JOB = "top_up_due"
ENDS = (TopUpStatus.SUCCEEDED, TopUpStatus.FAILED, TopUpStatus.EXPIRED)


class DueTopUp(msgspec.Struct, frozen=True):
    """Payload of the job that ends a top-up."""

    top_up_id: UUID


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for."""

    owner_id: OwnerId
    money: Money
    way: TopUpWay
    method_id: str | None = None
    key: str
    """The same key asks for the same top-up again."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Where a top-up stands, and what the payer does next."""

    top_up: TopUp
    url: str | None = None
    """Stripe's page, or the bank's question."""
    client_secret: str | None = None
    """For Stripe's form in our page."""


async def create(session: AsyncSession, wish: Wish, *, now: datetime) -> TopUp:
    """Write down what somebody wants, once for each key, with the job that ends it.

    Raises:
        InvalidKeyError: The key is empty or too long.
        TopUpRangeError: Less or more than the policy allows.
        IdempotencyMismatchError: The key was used for something else.
    """
    if not 1 <= len(wish.key) <= KEY_MOST or "\0" in wish.key:
        raise InvalidKeyError
    terms = await policy.current(session, now)
    currency = wish.money.currency
    if currency != "USD" or not terms.top_up_least <= wish.money.amount <= terms.top_up_most:
        raise TopUpRangeError(Money(terms.top_up_least), Money(terms.top_up_most))
    values = {
        "id": uuid4(),
        "owner_id": wish.owner_id,
        "key": wish.key,
        "amount": wish.money.amount,
        "currency": currency,
        "way": wish.way,
        "method_id": wish.method_id,
        "created_at": now,
        "expires_at": now + OPEN_FOR,
    }
    made: TopUp | None = await session.scalar(
        insert(TopUp).values(values).on_conflict_do_nothing().returning(TopUp)
    )
    if made is not None:
        due = DueTopUp(made.id)
        await jobs.enqueue(session, DUE_JOB, due, key=str(made.id), run_at=made.expires_at + GRACE)
        return made
    known: TopUp = (
        await session.scalars(select(TopUp).where(TopUp.owner_id == wish.owner_id, TopUp.key == wish.key))
    ).one()
    asked = (wish.money.amount, currency, wish.way.value, wish.method_id)
    if (known.amount, known.currency, known.way, known.method_id) != asked:
        raise IdempotencyMismatchError
    return known


async def get(session: AsyncSession, owner_id: OwnerId, top_up_id: UUID) -> TopUp:
    """Return one of somebody's top-ups.

    Raises:
        TopUpNotFoundError: They have none with this id.
    """
    found = await session.get(TopUp, top_up_id)
    if found is None or found.owner_id != owner_id:
        raise TopUpNotFoundError
    return found


async def find(
    session: AsyncSession, owner_id: OwnerId, *, limit: int, before: UUID | None = None
) -> Sequence[TopUp]:
    """Return somebody's top-ups, newest first, or those before the one named."""
    place = tuple_(TopUp.created_at, TopUp.id)
    query = select(TopUp).where(TopUp.owner_id == owner_id).order_by(TopUp.created_at.desc(), TopUp.id.desc())
    if before is not None:
        query = query.where(
            place < select(TopUp.created_at, TopUp.id).where(TopUp.id == before).scalar_subquery()
        )
    return (await session.scalars(query.limit(limit))).all()


# The steps at Stripe, each between two transactions -----------------------------------------------------------------


async def advance(
    sessions: Sessions, api: StripeApi, top_up_id: UUID, *, return_url: str, now: datetime
) -> Step:
    """Bring a top-up to where the payer is asked, or further; doing it again does it once.

    Raises:
        CardDeclinedError: The saved card was declined; the top-up has failed.
        MethodNotFoundError: The saved card is not theirs.
        StripeAwayError: Stripe does not answer; the same call goes on from here later.
        StripeRefusedError: Stripe will not do this.
    """
    async with sessions() as session:
        row = await session.get_one(TopUp, top_up_id)
    if row.status in ENDS:
        return Step(top_up=row)
    if row.status == TopUpStatus.PENDING:
        return await refresh(sessions, api, top_up_id, now=now)
    crashpoint("top_up.unsent")
    key = f"top_up:{row.id}:customer:{row.attempt}"
    try:
        customer = await customer_of(sessions, api, OwnerId(row.owner_id), key=key, now=now)
        if row.way == TopUpWay.SAVED:
            return await _charge(sessions, api, row, customer, return_url=return_url, now=now)
        checkout = await _open(api, row, customer, return_url=return_url, now=now)
        crashpoint("top_up.answered")
    except StripeAwayError as error:
        if error.answered:
            # Stripe keeps this answer under the key: the next try looks first, and then takes another.
            await _note_attempt(sessions, row)
        raise
    return await _settle(sessions, api, top_up_id, checkout=checkout, payment=None, now=now)


async def refresh(sessions: Sessions, api: StripeApi, top_up_id: UUID, *, now: datetime) -> Step:
    """Ask Stripe how a top-up stands and apply it: on the payer's return, whether or not a webhook came.

    Raises:
        StripeAwayError: Stripe does not answer.
        UnsettledPaymentError: It is paid, and on Stripe's balance in a moment.
    """
    async with sessions() as session:
        row = await session.get_one(TopUp, top_up_id)
    if row.status in ENDS or (row.checkout_id is None and row.payment_id is None):
        return Step(top_up=row)
    checkout = None if row.checkout_id is None else await api.retrieve_checkout(row.checkout_id)
    payment = None if row.payment_id is None else await api.retrieve_payment(row.payment_id)
    return await _settle(sessions, api, top_up_id, checkout=checkout, payment=payment, now=now)


async def end(sessions: Sessions, api: StripeApi, claim: jobs.Claim, *, now: datetime) -> None:
    """Job: end what nobody has paid in time, first at Stripe and then here.

    Raises:
        StripeAwayError: Stripe does not answer; the job is tried again.
    """
    top_up_id = msgspec.json.decode(claim.payload, type=DueTopUp).top_up_id
    async with sessions() as session:
        row = await session.get_one(TopUp, top_up_id)
    if row.status == TopUpStatus.CREATED:
        await _find(sessions, api, row, now=now)
    row = (await refresh(sessions, api, top_up_id, now=now)).top_up
    if row.status == TopUpStatus.PENDING:
        await _close(api, row, tries=claim.tries)
        crashpoint("top_up.closed")
        row = (await refresh(sessions, api, top_up_id, now=now)).top_up
    async with sessions.begin() as session:
        row = await _locked(session, top_up_id)
        if row.status == TopUpStatus.CREATED:
            # Looked for and not there: Stripe never heard of it, and nobody has an address to pay at.
            _finish(session, row, TopUpStatus.EXPIRED, now=now)
        elif row.status == TopUpStatus.PENDING:
            again = DueTopUp(top_up_id)
            await jobs.enqueue(session, DUE_JOB, again, key=claim.key, run_at=now + LOOK_AGAIN)
        await jobs.finish(session, claim)


async def customer_of(
    sessions: Sessions, api: StripeApi, owner_id: OwnerId, *, key: str, now: datetime
) -> str:
    """Return where somebody's saved cards are, made on first use.

    A customer that was made and not stored is made again under another key: the first has no cards, nobody misses it.
    """
    async with sessions() as session:
        known = await session.get(StripeCustomer, owner_id)
    if known is not None:
        return known.customer_id
    made = await api.create_customer(owner_id, key=key)
    async with sessions.begin() as session:
        values = {"owner_id": owner_id, "customer_id": made.id, "created_at": now}
        await session.execute(insert(StripeCustomer).values(values).on_conflict_do_nothing())
        return (await session.get_one(StripeCustomer, owner_id)).customer_id


async def methods(sessions: Sessions, api: StripeApi, owner_id: OwnerId) -> Sequence[Method]:
    """Return somebody's saved cards."""
    async with sessions() as session:
        known = await session.get(StripeCustomer, owner_id)
    return () if known is None else await api.list_methods(known.customer_id)


async def remove_method(
    sessions: Sessions, api: StripeApi, owner_id: OwnerId, method_id: str, *, now: datetime
) -> None:
    """Forget one of somebody's saved cards.

    Raises:
        MethodNotFoundError: They have no such card.
    """
    async with sessions() as session:
        known = await session.get(StripeCustomer, owner_id)
    if known is None:
        raise MethodNotFoundError
    await _require_method(api, known.customer_id, method_id)
    # Twice does no harm, and a new key each minute does not keep an answer of 500 for a day.
    await api.detach_method(method_id, key=f"detach:{method_id}:{now:%Y%m%d%H%M}")


# What Stripe's objects do to the row --------------------------------------------------------------------------------


async def apply(
    session: AsyncSession,
    top_up_id: UUID,
    *,
    checkout: Checkout | None,
    payment: Payment | None,
    declined: str | None = None,
    now: datetime,
) -> TopUp:
    """Apply what Stripe's objects say, whatever was known before; the same again changes nothing.

    Args:
        session: Commits all or nothing.
        top_up_id: Which.
        checkout: Its session at Stripe, if it has one.
        payment: Its payment there.
        declined: Why the card was declined, where the payment itself does not say so.
        now: Business time.

    Raises:
        PaymentMismatchError: They are not what was asked for.
        UnsettledPaymentError: Paid, but not on Stripe's balance yet.
    """
    row = await _locked(session, top_up_id)
    if row.status in ENDS:
        if payment is not None and payment.id != row.payment_id and payment.status == "succeeded":
            raise PaymentMismatchError(payment.id, "top-up, which is over")
        return row
    if checkout is not None:
        _require(row.checkout_id in (None, checkout.id), checkout.id, "top-up, which has another session")
        row.checkout_id = checkout.id
    if payment is not None:
        _require(row.payment_id in (None, payment.id), payment.id, "top-up, which has another payment")
        _require(payment.tagged(OWNER_TAG) == row.owner_id, payment.id, "owner")
        row.payment_id = payment.id
    if payment is not None and payment.status == "succeeded":
        await _credit(session, row, payment, now=now)
    elif checkout is not None and checkout.status == "expired":
        _finish(session, row, TopUpStatus.EXPIRED, now=now)
    elif payment is not None and payment.status == "canceled" and row.way == TopUpWay.SAVED:
        error = payment.last_payment_error
        row.reason = declined if error is None else error.decline_code or error.code
        _finish(session, row, TopUpStatus.FAILED, now=now)
    elif row.checkout_id is not None or row.payment_id is not None:
        row.status = TopUpStatus.PENDING
    await session.flush()
    return row


async def _credit(session: AsyncSession, row: TopUp, payment: Payment, *, now: datetime) -> None:
    _require(payment.received == Money(row.amount, row.currency), payment.id, "amount")
    movement = None if payment.latest_charge is None else payment.latest_charge.balance_transaction
    if movement is None:
        raise UnsettledPaymentError(payment.id)
    order = Order(
        kind=JournalKind.TOP_UP,
        scope="stripe",
        key=f"top_up:{payment.id}",
        request=(row.id, row.owner_id, row.amount, row.currency),
        actor=f"user:{row.owner_id}",
        reason=None,
        ref_type="top_up",
        ref_id=row.id,
        at=now,
    )
    wallet = AccountKey(AccountKind.WALLET, row.owner_id, row.currency)
    row.journal_id = await stripe_entries.post(session, order, movement, other=wallet)
    assert row.journal_id is not None, "whoever holds the row posts first"
    row.status, row.ended_at = TopUpStatus.SUCCEEDED, now
    crashpoint("top_up.credited")
    money = Money(row.amount, row.currency)
    owner_id = OwnerId(row.owner_id)
    outbox.record(session, TopUpSucceeded(top_up_id=row.id, owner_id=owner_id, amount=money), at=now)
    outbox.record(session, WalletChanged(owner_id, row.currency), at=now)


def _finish(session: AsyncSession, row: TopUp, status: TopUpStatus, *, now: datetime) -> None:
    row.status, row.ended_at = status, now
    told = TopUpFailed(
        top_up_id=row.id,
        owner_id=OwnerId(row.owner_id),
        amount=Money(row.amount, row.currency),
        status=status,
        reason=row.reason,
    )
    outbox.record(session, told, at=now)


async def _locked(session: AsyncSession, top_up_id: UUID) -> TopUp:
    row = await session.get(TopUp, top_up_id, with_for_update={"key_share": True}, populate_existing=True)
    if row is None:
        raise TopUpNotFoundError
    return row


def _require(holds: object, id_: str, what: str) -> None:
    if not holds:
        raise PaymentMismatchError(id_, what)


# Calls --------------------------------------------------------------------------------------------------------------


async def _settle(
    sessions: Sessions,
    api: StripeApi,
    top_up_id: UUID,
    *,
    checkout: Checkout | None,
    payment: Payment | None,
    now: datetime,
) -> Step:
    """Apply a session and its payment, and say what the payer does next."""
    if payment is None and checkout is not None and checkout.payment_intent is not None:
        payment = await api.retrieve_payment(checkout.payment_intent)
    if checkout is None and payment is not None and payment.status == "requires_payment_method":
        # A saved card that was declined, or whose owner the bank did not believe; another card is another top-up.
        payment = await api.cancel_payment(payment.id, key=f"top_up:{top_up_id}:cancel:0")
    async with sessions.begin() as session:
        row = await apply(session, top_up_id, checkout=checkout, payment=payment, now=now)
    if row.status in ENDS:
        return Step(top_up=row)
    if checkout is not None:
        return Step(top_up=row, url=checkout.url, client_secret=checkout.client_secret)
    if payment is not None:
        return Step(top_up=row, url=payment.redirect_url, client_secret=payment.client_secret)
    return Step(top_up=row)


async def _open(api: StripeApi, row: TopUp, customer: str, *, return_url: str, now: datetime) -> Checkout:
    if row.attempt > 0 or now - row.created_at > KEYS_HOLD:
        found = await api.find_checkout(customer, tag=TAG, value=row.id, since=row.created_at - OPEN_FOR)
        if found is not None:
            return found
    return await api.create_checkout(
        Money(row.amount, row.currency),
        name="Credit",
        customer=customer,
        tags=_tags(row),
        expires_at=row.expires_at,
        return_url=return_url,
        hosted=row.way == TopUpWay.HOSTED,
        key=f"top_up:{row.id}:checkout:{row.attempt}",
    )


async def _charge(
    sessions: Sessions, api: StripeApi, row: TopUp, customer: str, *, return_url: str, now: datetime
) -> Step:
    assert row.method_id is not None, "a constraint says so"
    if row.attempt > 0 or now - row.created_at > KEYS_HOLD:
        found = await _find_payment(api, row, now=now)
        if found is not None:
            return await _settle(sessions, api, row.id, checkout=None, payment=found, now=now)
    else:
        await _require_method(api, customer, row.method_id)
    try:
        payment = await api.create_payment(
            Money(row.amount, row.currency),
            customer=customer,
            method=row.method_id,
            tags=_tags(row),
            return_url=return_url,
            capture=True,
            key=f"top_up:{row.id}:payment:{row.attempt}",
        )
        crashpoint("top_up.charged")
    except CardDeclinedError as error:
        # The payment waits for another card; it is ended, so that none can be charged for it later.
        if error.payment_id is not None:
            payment = await api.cancel_payment(error.payment_id, key=f"top_up:{row.id}:cancel:0")
            why = error.decline_code or error.stripe_code
            async with sessions.begin() as session:
                await apply(session, row.id, checkout=None, payment=payment, declined=why, now=now)
        raise
    return await _settle(sessions, api, row.id, checkout=None, payment=payment, now=now)


async def _find(sessions: Sessions, api: StripeApi, row: TopUp, *, now: datetime) -> None:
    """Look whether Stripe knows of a top-up whose call was never answered, and go on from there."""
    async with sessions() as session:
        customer = await session.get(StripeCustomer, row.owner_id)
    if customer is None:
        return
    if row.way == TopUpWay.SAVED:
        payment = await _find_payment(api, row, now=now)
        if payment is not None:
            await _settle(sessions, api, row.id, checkout=None, payment=payment, now=now)
        return
    since = row.created_at - OPEN_FOR
    checkout = await api.find_checkout(customer.customer_id, tag=TAG, value=row.id, since=since)
    if checkout is not None:
        await _settle(sessions, api, row.id, checkout=checkout, payment=None, now=now)


async def _find_payment(api: StripeApi, row: TopUp, *, now: datetime) -> Payment | None:
    async for payment in api.list_payments(row.created_at - OPEN_FOR, now + OPEN_FOR):
        if payment.tagged(TAG) == row.id:
            return payment
    return None


async def _close(api: StripeApi, row: TopUp, *, tries: int) -> None:
    """Make sure that nobody can pay any more; who is paying at this moment is faster, and Stripe refuses us.

    Closing twice does no harm, so each try has a key of its own: an answer of 500 is not kept for the next.
    """
    try:
        if row.checkout_id is not None:
            await api.expire_checkout(row.checkout_id, key=f"top_up:{row.id}:expire:{tries}")
        elif row.payment_id is not None:
            await api.cancel_payment(row.payment_id, key=f"top_up:{row.id}:cancel:{tries}")
    except StripeRefusedError:
        # It is complete, or a bank is working on it: the next look says which.
        return


async def _note_attempt(sessions: Sessions, row: TopUp) -> None:
    async with sessions.begin() as session:
        known = await _locked(session, row.id)
        if known.attempt == row.attempt and known.status == TopUpStatus.CREATED:
            known.attempt += 1


async def _require_method(api: StripeApi, customer: str, method_id: str) -> None:
    try:
        method = await api.retrieve_method(method_id)
    except StripeRefusedError:
        raise MethodNotFoundError from None
    if method.customer != customer:
        raise MethodNotFoundError


def _tags(row: TopUp) -> dict[str, str]:
    return {TAG: str(row.id), OWNER_TAG: str(row.owner_id)}

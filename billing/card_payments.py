"""The card of a booking's payment, at Stripe: made ready, authorised, captured or released.

    wanted ──► asked ──► authorized ──► captured
       └─────────┴────────────┴───────► cancelled

An authorisation is a row before Stripe hears of it. Each step is one call with a key of the row, and a transaction that
applies what came of it; whoever comes after a crash goes on from the row. Stripe's payment is never taken from a
message: a webhook, the student's return and the job all do the same, they fetch it and `apply` what it says. What is
next follows from the rows alone (`payment_states.next_card_step`), so none of them needs to have been seen.

Captured money comes into the wallet and goes into the booking's hold in the same transaction; where it is decided how
the payment ends, the hold is settled in it too. A payment whose card brings nothing is let go when the lesson starts.
"""

from collections.abc import Awaitable, Mapping
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import jobs, ledger, outbox, payment_moves, payment_states, stripe_entries, top_ups
from billing.crashpoints import Point, crashpoint
from billing.errors import (
    CardDeclinedError,
    PaymentMismatchError,
    PaymentNotFoundError,
    StripeAwayError,
    StripeRefusedError,
    UnsettledPaymentError,
)
from billing.ledger import AccountKey, Order
from billing.messages import AuthorizationNeeded, WalletChanged
from billing.models import (
    PLATFORM,
    AccountKind,
    AuthorizationStatus,
    CardAuthorization,
    JournalKind,
    OwnerId,
    Payment,
    PaymentMethod,
    PaymentReason,
    PaymentState,
)
from billing.money import Money
from billing.payment_moves import CARD_JOB, CardDue
from billing.payment_states import LIVE, CardStep, next_card_step
from billing.stripe_api import StripeApi
from billing.stripe_objects import Payment as StripePayment, Setup, tagged

Sessions = async_sessionmaker[AsyncSession]

JOB = CARD_JOB
# Metadata of what we make at Stripe.
TAG, AUTHORIZATION_TAG, OWNER_TAG = "booking_payment", "card_authorization", "owner"

# Stripe keeps keys for 24 hours at least: before that a call is repeated, after it is looked for first.
KEYS_HOLD = timedelta(hours=20)
# Where Stripe does not say when an authorisation ends, the shortest there is (Visa, without the customer).
SHORTEST = timedelta(days=4, hours=18)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Where the card of a payment stands, and what the student does next."""

    payment: Payment
    client_secret: str | None = None
    """For Stripe's form, or the bank's question."""
    is_setup: bool = False
    """The secret is of a SetupIntent: nothing is authorised yet."""
    failure: str | None = None
    """Stripe's code of why the card was not taken; another one may be given."""


class _Refused(msgspec.Struct, frozen=True):
    """Stripe will not do this."""

    code: str


class _Unknown(msgspec.Struct, frozen=True):
    """Stripe has never heard of it."""


_Outcome = StripePayment | _Refused | _Unknown


# The student is there -----------------------------------------------------------------------------------------------


async def start(sessions: Sessions, api: StripeApi, payment_id: UUID, *, now: datetime) -> Asked:
    """Bring a card to where its owner is asked, or further; doing it again does it once.

    Raises:
        PaymentNotFoundError: There is none.
        StripeAwayError: Stripe does not answer; the same call goes on from here later.
        StripeRefusedError: Stripe will not do this.
    """
    row, newest = await _read(sessions, payment_id)
    assert row.method == PaymentMethod.CARD, "a wallet is not asked"
    if row.state not in payment_states.UNDECIDED or row.verdict is not None or row.hold_id is not None:
        return Asked(payment=row)
    if newest is None:
        return await _set_up(sessions, api, row, now=now)
    if newest.intent is not None:
        await _heard(sessions, await api.retrieve_payment(newest.intent), now=now)
    elif newest.status == AuthorizationStatus.WANTED:
        await _begin(sessions, newest.id, now=now)
        row, newest = await _read(sessions, payment_id)
        # Let go meanwhile, it has not begun; and the job may have been faster.
        if newest is not None and newest.began_at is not None and newest.status == AuthorizationStatus.WANTED:
            await _create_and_apply(sessions, api, row, newest, now=now)
    row, newest = await _read(sessions, payment_id)
    if newest is None or newest.intent is None or newest.status != AuthorizationStatus.ASKED:
        return Asked(payment=row, failure=None if newest is None else newest.failure)
    asked = await api.retrieve_payment(newest.intent)
    return Asked(payment=row, client_secret=asked.client_secret, failure=newest.failure)


async def _set_up(sessions: Sessions, api: StripeApi, row: Payment, *, now: datetime) -> Asked:
    """Have a card made ready that is authorised when its owner is not there."""
    if row.setup_id is None:
        customer = await _customer(sessions, api, row, now=now)
        # A second one does no harm, so the key may change: an answer of 500 is not kept for a day.
        key = f"booking_payment:{row.id}:setup:{now:%Y%m%d%H%M}"
        try:
            setup = await api.create_setup(customer, method=row.card, tags=_tags(row, None), key=key)
        except CardDeclinedError as error:
            return Asked(payment=row, failure=error.decline_code or error.stripe_code)
    else:
        setup = await api.retrieve_setup(row.setup_id)
    crashpoint("card.set_up")
    async with sessions.begin() as session:
        row = await apply_setup(session, row.id, setup, now=now)
    assert row.setup_id is not None, "the first one stays"
    if row.setup_id != setup.id:
        # Whoever asked at the same time was faster; a card that is given to this one would not be heard of.
        setup = await api.retrieve_setup(row.setup_id)
    secret = None if setup.status == "succeeded" else setup.client_secret
    return Asked(payment=row, client_secret=secret, is_setup=secret is not None)


# By itself ----------------------------------------------------------------------------------------------------------


async def run(sessions: Sessions, api: StripeApi, claim: jobs.Claim, *, now: datetime) -> None:
    """Job: carry a card on as far as it goes now.

    Raises:
        StripeAwayError: Stripe does not answer; the job comes again, with the same keys.
        UnsettledPaymentError: It is captured, and on Stripe's balance in a moment.
        PaymentMismatchError: Stripe refused a step, and its payment does not say why; somebody must look.
    """
    payment_id = msgspec.json.decode(claim.payload, type=CardDue).payment_id
    row, newest = await _read(sessions, payment_id)
    if newest is not None and newest.intent is not None and newest.status in LIVE:
        # Read before anything is asked for: an answer may have been lost, or the bank has let go.
        await _heard(sessions, await api.retrieve_payment(newest.intent), now=now)
    elif newest is not None and payment_states.may_come_late(row, newest):
        await _release_late(api, newest, tries=claim.tries, now=now)
    asked: set[tuple[CardStep, UUID]] = set()
    while True:
        async with sessions.begin() as session:
            row, newest = await _both(session, payment_id)
            step, until = next_card_step(row, newest, now)
            if step in (CardStep.WAIT, CardStep.NOTHING):
                await jobs.finish(session, claim)
                if until is not None:
                    await payment_moves.look(session, payment_id, at=until)
                return
            if await _here(session, row, newest, step, now):
                continue
        assert newest is not None, "these steps are of an authorisation"
        if (step, newest.id) in asked:
            # Stripe keeps a refusal under its key, and it may have been of this moment.
            await _take_another_key(sessions, newest.id)
            raise PaymentMismatchError(newest.intent or str(newest.id), f"state after {step}")
        asked.add((step, newest.id))
        if step is CardStep.CREATE:
            await _create_and_apply(sessions, api, row, newest, now=now)
        else:
            ask = _capture if step is CardStep.CAPTURE else _cancel
            outcome = await _asking(sessions, newest, ask(api, row, newest, now))
            crashpoint(_DONE[step])
            await _apply_outcome(sessions, newest.id, outcome, now=now)


# Stripe has done it, and nobody has written it down.
_DONE: Mapping[CardStep, Point] = {
    CardStep.CREATE: "card.authorized",
    CardStep.CAPTURE: "card.captured",
    CardStep.CANCEL: "card.released",
}


async def _here(
    session: AsyncSession, row: Payment, newest: CardAuthorization | None, step: CardStep, now: datetime
) -> bool:
    """Take a step that asks nobody; return whether it was one."""
    match step:
        case CardStep.BEGIN:
            assert newest is not None, "this step is of an authorisation"
            newest.began_at = now
        case CardStep.DROP:
            assert newest is not None, "this step is of an authorisation"
            newest.status, newest.ended_at = AuthorizationStatus.CANCELLED, now
        case CardStep.TRY:
            session.add(
                CardAuthorization(
                    id=uuid4(),
                    payment_id=row.id,
                    number=1 if newest is None else newest.number + 1,
                    card=row.card,
                    off_session=True,
                    status=AuthorizationStatus.WANTED,
                    opened_at=now,
                )
            )
            crashpoint("card.wanted")
        case CardStep.LOSE:
            await payment_moves.give_up(session, row, now=now)
            crashpoint("card.given_up")
        case CardStep.CREATE | CardStep.CAPTURE | CardStep.CANCEL | CardStep.WAIT | CardStep.NOTHING:
            return False
    return True


# What Stripe's objects do to the rows -------------------------------------------------------------------------------


async def apply(session: AsyncSession, found: StripePayment, *, now: datetime) -> None:
    """Apply what Stripe's payment says, whatever was known before; the same again changes nothing.

    Raises:
        PaymentMismatchError: It is not what was asked for.
        UnsettledPaymentError: Captured, but not on Stripe's balance yet.
    """
    authorization_id = tagged(found.metadata, AUTHORIZATION_TAG)
    known = None if authorization_id is None else await session.get(CardAuthorization, authorization_id)
    if known is None:
        raise PaymentMismatchError(found.id, "authorisation, which is none of ours")
    row = await _locked(session, known.payment_id)
    newest = await session.get_one(CardAuthorization, known.id, populate_existing=True)
    _require(newest.intent in (None, found.id), found.id, "authorisation, which has another payment")
    _require(tagged(found.metadata, OWNER_TAG) == row.student_id, found.id, "owner")
    _require((found.amount, found.currency.upper()) == (row.amount, row.currency), found.id, "amount")
    if payment_states.may_come_late(row, newest):
        # Its job lets go of it.
        await payment_moves.look(session, row.id, at=now)
        return
    if newest.status not in LIVE:
        # What is cancelled at Stripe stays so: it was read before somebody else cancelled it, unless it says more.
        is_older = newest.status == AuthorizationStatus.CAPTURED or found.status != "succeeded"
        _require(is_older, found.id, "authorisation, which is over")
        return
    if newest.began_at is None:
        newest.began_at = now
    newest.intent = found.id
    if found.payment_method is not None:
        row.card = found.payment_method
    match found.status:
        case "succeeded":
            await _book(session, row, newest, found, now)
        case "canceled":
            newest.status, newest.ended_at = AuthorizationStatus.CANCELLED, now
        case "requires_capture":
            await _authorized(session, row, newest, found, now)
        case _:
            _asked(session, row, newest, found, now)
    await session.flush()


async def apply_setup(session: AsyncSession, payment_id: UUID, setup: Setup, *, now: datetime) -> Payment:
    """Apply what Stripe says of a card that is made ready; the same again changes nothing."""
    row = await payment_moves.locked(session, payment_id)
    if row.setup_id is None:
        row.setup_id = setup.id
    if setup.status == "succeeded" and setup.payment_method is not None and row.setup_id == setup.id:
        row.card = setup.payment_method
        await payment_moves.look(session, row.id, at=now)
    await session.flush()
    return row


async def hear(session: AsyncSession, found: StripePayment, *, now: datetime) -> None:
    """Apply a payment that a message named, and have the card carried on.

    Raises:
        PaymentMismatchError: It is not what was asked for.
        UnsettledPaymentError: Captured, but not on Stripe's balance yet.
    """
    await apply(session, found, now=now)
    payment_id = tagged(found.metadata, TAG)
    assert payment_id is not None, "whoever has our authorisation has its payment"
    await payment_moves.look(session, payment_id, at=now)


async def _authorized(
    session: AsyncSession, row: Payment, newest: CardAuthorization, found: StripePayment, now: datetime
) -> None:
    details = None if found.latest_charge is None else found.latest_charge.payment_method_details
    until = None if details is None or details.card is None else details.card.capture_before
    newest.status, newest.failure = AuthorizationStatus.AUTHORIZED, None
    newest.capture_before = now + SHORTEST if until is None else datetime.fromtimestamp(until, now.tzinfo)
    await session.flush()
    await payment_moves.reserved(session, row, now=now)


def _asked(
    session: AsyncSession, row: Payment, newest: CardAuthorization, found: StripePayment, now: datetime
) -> None:
    error = found.last_payment_error
    is_new = newest.status == AuthorizationStatus.WANTED
    newest.status = AuthorizationStatus.ASKED
    newest.failure = None if error is None else error.decline_code or error.code
    if is_new and newest.off_session and row.verdict is None:
        # Nobody was there to be asked.
        needed = AuthorizationNeeded(
            **payment_moves.told(row, PaymentReason.CARD_FAILED), until=row.starts_at
        )
        outbox.record(session, needed, at=now)


async def _book(
    session: AsyncSession, row: Payment, newest: CardAuthorization, found: StripePayment, now: datetime
) -> None:
    """Bring captured money into the wallet, and from there to where it belongs."""
    _require(found.received == Money(row.amount, row.currency), found.id, "amount")
    movement = None if found.latest_charge is None else found.latest_charge.balance_transaction
    if movement is None:
        raise UnsettledPaymentError(found.id)
    expense = AccountKey(AccountKind.PLATFORM_EXPENSE, PLATFORM, row.currency)
    await payment_moves.lock_accounts(session, row, stripe_entries.at_stripe(row.currency), expense)
    order = Order(
        kind=JournalKind.TOP_UP,
        scope="stripe",
        key=f"card_authorization:{found.id}",
        request=(row.id, newest.id, row.amount, row.currency),
        actor=f"user:{row.student_id}",
        reason=None,
        ref_type="booking",
        ref_id=row.id,
        at=now,
    )
    wallet = AccountKey(AccountKind.WALLET, row.student_id, row.currency)
    journal_id = await stripe_entries.post(session, order, movement, other=wallet)
    assert journal_id is not None, "whoever holds the payment posts first"
    newest.journal_id = journal_id
    newest.status, newest.ended_at = AuthorizationStatus.CAPTURED, now
    await session.flush()
    outbox.record(session, WalletChanged(OwnerId(row.student_id), row.currency), at=now)
    if row.state == PaymentState.VOIDED:
        await payment_moves.send_back(session, row, now=now)
    else:
        await payment_moves.take_in(session, row, now=now)
    crashpoint("card.booked")


# Calls --------------------------------------------------------------------------------------------------------------


async def _create_and_apply(
    sessions: Sessions, api: StripeApi, row: Payment, newest: CardAuthorization, *, now: datetime
) -> None:
    customer = await _customer(sessions, api, row, now=now)
    crashpoint("card.unsent")
    outcome = await _asking(sessions, newest, _create(api, row, newest, customer, now))
    crashpoint(_DONE[CardStep.CREATE])
    await _apply_outcome(sessions, newest.id, outcome, now=now)


async def _create(
    api: StripeApi, row: Payment, newest: CardAuthorization, customer: str, now: datetime
) -> _Outcome:
    assert newest.began_at is not None, "an authorisation begins before Stripe hears of it"
    if newest.broken > 0 or now - newest.began_at > KEYS_HOLD:
        found = await _find(api, newest, now)
        if found is not None:
            return found
    try:
        return await api.create_payment(
            Money(row.amount, row.currency),
            customer=customer,
            method=newest.card,
            tags=_tags(row, newest),
            capture=False,
            off_session=newest.off_session,
            key=f"card_authorization:{newest.id}:create:{newest.broken}",
        )
    except CardDeclinedError as error:
        if error.payment_id is None:
            return _Refused(error.decline_code or error.stripe_code)
        # It waits for another card, or for the answer to the bank's question.
        return await api.retrieve_payment(error.payment_id)
    except StripeRefusedError as error:
        return _Refused(error.stripe_code)


async def _capture(api: StripeApi, row: Payment, newest: CardAuthorization, _: datetime) -> _Outcome:
    assert newest.intent is not None, "what is authorised is known"
    try:
        key = f"card_authorization:{newest.id}:capture:{newest.broken}"
        return await api.capture_payment(newest.intent, row.amount, key=key)
    except StripeRefusedError:
        # It is captured already, or the bank has let go.
        return await api.retrieve_payment(newest.intent)


async def _cancel(api: StripeApi, _: Payment, newest: CardAuthorization, now: datetime) -> _Outcome:
    intent = newest.intent
    if intent is None:
        found = await _find(api, newest, now)
        if found is None:
            return _Unknown()
        intent = found.id
    try:
        return await api.cancel_payment(intent, key=f"card_authorization:{newest.id}:cancel:{newest.broken}")
    except StripeRefusedError:
        # It is over already: captured, or let go.
        return await api.retrieve_payment(intent)


async def _release_late(api: StripeApi, newest: CardAuthorization, *, tries: int, now: datetime) -> None:
    """Let go of what Stripe had not heard of when it was looked for: the call was on its way."""
    found = await _find(api, newest, now)
    if found is not None and found.status != "canceled":
        # The row is over and counts no keys that broke.
        await api.cancel_payment(found.id, key=f"card_authorization:{newest.id}:late:{tries}")
        crashpoint("card.released")


async def _find(api: StripeApi, newest: CardAuthorization, now: datetime) -> StripePayment | None:
    assert newest.began_at is not None, "an authorisation begins before Stripe hears of it"
    hour = timedelta(hours=1)
    async for one in api.list_payments(newest.began_at - hour, now + hour):
        if tagged(one.metadata, AUTHORIZATION_TAG) == newest.id:
            return one
    return None


async def _asking(sessions: Sessions, newest: CardAuthorization, asks: Awaitable[_Outcome]) -> _Outcome:
    """Ask Stripe; where it broke and has answered, it may have done it or not: the next try takes another key."""
    try:
        return await asks
    except StripeAwayError as error:
        if error.answered:
            await _take_another_key(sessions, newest.id)
        raise


async def _take_another_key(sessions: Sessions, authorization_id: UUID) -> None:
    """Have the next try look first, and ask under another key."""
    async with sessions.begin() as session:
        row = await session.get_one(
            CardAuthorization, authorization_id, with_for_update={"key_share": True}, populate_existing=True
        )
        if row.status in LIVE:
            row.broken += 1


async def _apply_outcome(
    sessions: Sessions, authorization_id: UUID, outcome: _Outcome, *, now: datetime
) -> None:
    if isinstance(outcome, StripePayment):
        await _heard(sessions, outcome, now=now)
        return
    async with sessions.begin() as session:
        known = await session.get_one(CardAuthorization, authorization_id)
        _, newest = await _both(session, known.payment_id)
        if (
            newest is not None
            and newest.id == authorization_id
            and newest.status == AuthorizationStatus.WANTED
        ):
            newest.status, newest.ended_at = AuthorizationStatus.CANCELLED, now
            newest.failure = outcome.code if isinstance(outcome, _Refused) else None


async def _heard(sessions: Sessions, found: StripePayment, *, now: datetime) -> None:
    crashpoint("card.looked")
    async with sessions.begin() as session:
        await apply(session, found, now=now)


async def _begin(sessions: Sessions, authorization_id: UUID, *, now: datetime) -> None:
    """Write down that Stripe may know of an authorisation from now on."""
    async with sessions.begin() as session:
        known = await session.get_one(CardAuthorization, authorization_id)
        row, newest = await _both(session, known.payment_id)
        if newest is not None and next_card_step(row, newest, now)[0] is CardStep.BEGIN:
            newest.began_at = now


async def _customer(sessions: Sessions, api: StripeApi, row: Payment, *, now: datetime) -> str:
    # A customer that was made and not stored has no cards, so each minute may make another.
    key = f"booking_payment:{row.id}:customer:{now:%Y%m%d%H%M}"
    return await top_ups.customer_of(sessions, api, OwnerId(row.student_id), key=key, now=now)


async def _read(sessions: Sessions, payment_id: UUID) -> tuple[Payment, CardAuthorization | None]:
    async with sessions() as session:
        row = await session.get(Payment, payment_id)
        if row is None:
            raise PaymentNotFoundError
        return row, await _newest(session, payment_id)


async def _both(session: AsyncSession, payment_id: UUID) -> tuple[Payment, CardAuthorization | None]:
    """Return a payment, locked, and its newest authorisation, as they are now."""
    row = await payment_moves.locked(session, payment_id)
    return row, await _newest(session, payment_id)


async def _newest(session: AsyncSession, payment_id: UUID) -> CardAuthorization | None:
    return await session.scalar(
        select(CardAuthorization)
        .where(CardAuthorization.payment_id == payment_id)
        .order_by(CardAuthorization.number.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    )


async def _locked(session: AsyncSession, payment_id: UUID) -> Payment:
    """Lock a payment, and its lesson first: money may be held for it."""
    lesson_id = await session.scalar(select(Payment.lesson_id).where(Payment.id == payment_id))
    assert lesson_id is not None, "a payment is never deleted"
    await ledger.lock_lessons(session, [lesson_id], shared=True)
    return await payment_moves.locked(session, payment_id)


def _require(holds: object, id_: str, what: str) -> None:
    if not holds:
        raise PaymentMismatchError(id_, what)


def _tags(row: Payment, newest: CardAuthorization | None) -> dict[str, str]:
    tags = {TAG: str(row.id), OWNER_TAG: str(row.student_id)}
    return tags if newest is None else tags | {AUTHORIZATION_TAG: str(newest.id)}

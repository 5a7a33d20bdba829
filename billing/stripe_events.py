"""TABLE: Stripe's event type → what is fetched and applied. A row in the inbox first, then a job, then the object.

An event only says that something may have changed. Its function fetches the object and returns what to do in the
transaction that finishes the job; so order, repetition and age of events change nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import msgspec
import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import card_disputes, card_payments, card_refunds, jobs, payouts, top_ups
from billing.crashpoints import crashpoint
from billing.errors import InvalidEventError, StripeRefusedError
from billing.models import FindingOutcome, PayoutAccount, StripeEvent, StripeFinding
from billing.stripe_api import StripeApi
from billing.stripe_objects import tagged
from billing.stripe_webhooks import Event

log = structlog.get_logger()

# Stripe's word for what it does not have.
MISSING = "resource_missing"
# Kind of the job that handles one event.
JOB = "stripe_event"

Effect = Callable[[AsyncSession, datetime], Awaitable[object]]
Handler = Callable[[StripeApi, StripeEvent], Awaitable[Effect | None]]
"""`async def handle(api, event) -> effect`: fetches, and returns what to do in the job's transaction."""


class Told(msgspec.Struct, frozen=True):
    """Payload of the job."""

    event_id: str


async def checkout_changed(api: StripeApi, event: StripeEvent) -> Effect | None:
    """Apply a Checkout Session and its payment."""
    assert event.object_id is not None, "a snapshot event has an object"
    checkout = await api.retrieve_checkout(event.object_id)
    top_up_id = tagged(checkout.metadata, top_ups.TAG)
    if top_up_id is None:
        return None
    payment = None if checkout.payment_intent is None else await api.retrieve_payment(checkout.payment_intent)
    return lambda session, now: top_ups.apply(session, top_up_id, checkout=checkout, payment=payment, now=now)


async def payment_changed(api: StripeApi, event: StripeEvent) -> Effect | None:
    """Apply a payment to whatever it was for."""
    assert event.object_id is not None, "a snapshot event has an object"
    payment = await api.retrieve_payment(event.object_id)
    if payment.tagged(card_payments.AUTHORIZATION_TAG) is not None:
        return lambda session, now: card_payments.hear(session, payment, now=now)
    top_up_id = payment.tagged(top_ups.TAG)
    if top_up_id is None:
        return None
    return lambda session, now: top_ups.apply(session, top_up_id, checkout=None, payment=payment, now=now)


async def setup_changed(api: StripeApi, event: StripeEvent) -> Effect | None:
    """Apply a card that is made ready to the booking that it is for."""
    assert event.object_id is not None, "a snapshot event has an object"
    setup = await api.retrieve_setup(event.object_id)
    payment_id = tagged(setup.metadata, card_payments.TAG)
    if payment_id is None:
        return None
    return lambda session, now: card_payments.apply_setup(session, payment_id, setup, now=now)


async def refund_changed(api: StripeApi, event: StripeEvent) -> Effect | None:
    """Apply a refund to the one that was asked for; one that somebody made at Stripe by hand is for people."""
    assert event.object_id is not None, "a snapshot event has an object"
    refund = await api.retrieve_refund(event.object_id)
    refund_id = tagged(refund.metadata, card_refunds.TAG)
    if refund_id is None:
        return None
    return lambda session, now: card_refunds.apply(session, refund_id, refund, now=now)


async def payout_changed(api: StripeApi, event: StripeEvent) -> Effect | None:
    """Have the attempt that a tutor's payout belongs to carried on; its job fetches what it needs."""
    assert event.object_id is not None, "a snapshot event has an object"
    payout = await api.retrieve_payout(event.object_id, account=event.account)
    attempt_id = tagged(payout.metadata, payouts.TAG)
    if attempt_id is None:
        return None
    return lambda session, now: payouts.look(session, attempt_id, now=now)


async def dispute_changed(api: StripeApi, event: StripeEvent) -> Effect | None:
    """Apply a bank's dispute; the payment first, of which perhaps nobody told us yet."""
    assert event.object_id is not None, "a snapshot event has an object"
    dispute = await api.retrieve_dispute(event.object_id)
    if dispute.payment_intent is None:
        return None
    payment = await api.retrieve_payment(dispute.payment_intent)
    if payment.tagged(top_ups.OWNER_TAG) is None:
        return None
    top_up_id = payment.tagged(top_ups.TAG)

    async def effect(session: AsyncSession, now: datetime) -> None:
        if top_up_id is not None:
            await top_ups.apply(session, top_up_id, checkout=None, payment=payment, now=now)
        await card_disputes.apply(session, dispute, now=now)

    return effect


TABLE: Mapping[str, Handler] = {
    "checkout.session.completed": checkout_changed,
    "checkout.session.async_payment_succeeded": checkout_changed,
    "checkout.session.async_payment_failed": checkout_changed,
    "checkout.session.expired": checkout_changed,
    "payment_intent.processing": payment_changed,
    "payment_intent.requires_action": payment_changed,
    "payment_intent.amount_capturable_updated": payment_changed,
    "payment_intent.succeeded": payment_changed,
    "payment_intent.payment_failed": payment_changed,
    "payment_intent.canceled": payment_changed,
    "setup_intent.succeeded": setup_changed,
    "setup_intent.setup_failed": setup_changed,
    "refund.created": refund_changed,
    "refund.updated": refund_changed,
    "refund.failed": refund_changed,
    "charge.refund.updated": refund_changed,
    "payout.paid": payout_changed,
    "payout.failed": payout_changed,
    "payout.canceled": payout_changed,
    "charge.dispute.created": dispute_changed,
    "charge.dispute.updated": dispute_changed,
    "charge.dispute.closed": dispute_changed,
    "charge.dispute.funds_withdrawn": dispute_changed,
    "charge.dispute.funds_reinstated": dispute_changed,
}


async def receive(session: AsyncSession, event: Event, *, now: datetime) -> None:
    """Store an event and the job that handles it; one that comes again and is not handled yet is tried again at once.

    An event of an account that is none of ours says nothing to us.

    Raises:
        InvalidEventError: It names no object although its type has one.
    """
    if event.type in TABLE and not event.object_id:
        raise InvalidEventError("it names no object")
    if event.account is not None:
        ours = select(PayoutAccount.id).where(PayoutAccount.stripe_account == event.account)
        if await session.scalar(ours) is None:
            # Refused, it would come again for days, until Stripe gives the whole address up.
            log.warning("stripe_event_of_others", event_id=event.id, type=event.type, account=event.account)
            return
    values = {
        "id": event.id,
        "type": event.type,
        "object_id": event.object_id,
        "account": event.account,
        "digest": event.digest,
        "created_at": event.created_at,
    }
    query = insert(StripeEvent).values(values)
    # Written anew where it waits, so that one statement says whether there is something to do.
    waits = query.on_conflict_do_update(
        index_elements=[StripeEvent.id],
        set_={"digest": query.excluded.digest},
        where=StripeEvent.handled_at.is_(None),
    ).returning(StripeEvent.id)
    if await session.scalar(waits) is not None:
        await jobs.enqueue(session, JOB, Told(event.id), key=event.id, run_at=now)
    crashpoint("webhook.stored")


async def forget(session: AsyncSession, *, before: datetime) -> None:
    """Delete events that were handled and came before this moment; Stripe sends none again that is so old."""
    await session.execute(
        delete(StripeEvent).where(StripeEvent.handled_at.is_not(None), StripeEvent.received_at < before)
    )


async def handle(
    sessions: async_sessionmaker[AsyncSession],
    api: StripeApi,
    claim: jobs.Claim,
    *,
    now: datetime,
    table: Mapping[str, Handler] = TABLE,
) -> None:
    """Job: fetch what an event is about, and apply it with the end of the job.

    What Stripe does not have will not be there next time either: it is written down, and the event is handled.

    Raises:
        BillingError: Stripe is away, or what it says does not fit; the job is tried again.
    """
    event_id = msgspec.json.decode(claim.payload, type=Told).event_id
    async with sessions() as session:
        event = await session.get_one(StripeEvent, event_id)
    handler = table.get(event.type)
    effect: Effect | None = None
    if handler is not None and event.handled_at is None:
        try:
            effect = await handler(api, event)
        except StripeRefusedError as error:
            if error.stripe_code != MISSING:
                raise
            effect = _missing(event)
    crashpoint("webhook.fetched")
    async with sessions.begin() as session:
        if effect is not None:
            await effect(session, now)
        crashpoint("webhook.applied")
        handled = update(StripeEvent).where(StripeEvent.id == event_id, StripeEvent.handled_at.is_(None))
        await session.execute(handled.values(handled_at=now))
        await jobs.finish(session, claim)


def _missing(event: StripeEvent) -> Effect:
    """Return what writes down that Stripe told of something it does not have.

    Closed from the start: nothing waits for it, and money that moved is found by the reconciliation.
    """
    log.warning("stripe_object_missing", event_id=event.id, type=event.type, object_id=event.object_id)
    finding = insert(StripeFinding).values(subject=f"event:{event.id}", outcome=FindingOutcome.MISSING_THERE)
    detail = {"type": event.type, "object": event.object_id, "account": event.account}

    async def effect(session: AsyncSession, now: datetime) -> None:
        await session.execute(
            finding.values(detail=detail, found_at=now, solved_at=now).on_conflict_do_nothing()
        )

    return effect

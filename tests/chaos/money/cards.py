"""People whose bookings are paid by card, and one whose bank asks for the money back."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from uuid import UUID

import msgspec
from sqlalchemy import select

from billing import card_disputes, card_payments, card_refunds, payment_states, payments, top_ups
from billing.models import (
    CardAuthorization,
    CardRefund,
    Payment,
    PaymentMethod,
    PaymentReason,
    SourceKind,
    TopUp,
)
from billing.money import Money, split
from billing.payment_moves import Booking, Wish
from tests.chaos.money.life import BPS, PLANNED_S, PRICE, TOP_UP, Life, Plan, facts, name, new_hold

SOON, FAR, LATER = timedelta(days=1), timedelta(days=20), timedelta(days=5)
HOUR = timedelta(hours=1)
# Of the price of the lesson that was given.
BACK = 1_000


# Near lessons -------------------------------------------------------------------------------------------------------


async def booking(life: Life) -> None:
    """One lesson is given, and part of its price goes back; one is let go; one has a card that brings nothing."""
    await _given(life)
    await _let_go(life)
    await _unpaid(life)


async def _given(life: Life) -> None:
    row = await _book(life, "given", SOON, card="4242")
    now = await life.hand.reaches(row.starts_at)
    known = facts(row.lesson_id, life.tutor, {name(life.plan, "student"): PLANNED_S})
    await life.end(known, now=now)
    await life.settle(row.lesson_id, now=now)
    await _carry(life, row)
    wish = Wish(
        amount=Money(BACK),
        to_card=True,
        reason=PaymentReason.GOODWILL,
        words="It began too late.",
        key=life.key("back"),
    )
    async with life.sessions.begin() as session:
        await payments.refund(session, row.id, wish, actor="admin:chaos", now=now)
    refund = await _send_back(life, row)
    # What was told of all this comes last.
    await life.hear(str(row.id), str(refund.id))
    await _carry(life, row)
    await life.mature([await _hold(life, row)], now=now)


async def _let_go(life: Life) -> None:
    row = await _book(life, "let go", SOON, card=None)
    [authorization] = await _authorizations(life, row)
    await life.hand.act(f"/payments/{authorization.intent}/confirm", card="4242")
    # Whatever Stripe did and nobody wrote down is told before anybody asks.
    await life.hear(str(row.id))
    await _carry(life, row)
    await _void(life, row)
    await life.hear(str(row.id))
    await _carry(life, row)


async def _unpaid(life: Life) -> None:
    row = await _book(life, "unpaid", SOON, card="9995")
    await life.hand.reaches(row.starts_at)
    await _carry(life, row)
    await life.hear(str(row.id))
    await _carry(life, row)


# Far lessons --------------------------------------------------------------------------------------------------------


async def far(life: Life) -> None:
    """Two lessons outlive their authorisations: one is authorised anew, one is captured in time; no money is earned."""
    await _renewed(life)
    await _kept(life)


async def _renewed(life: Life) -> None:
    """The card is made ready, authorised before the lesson, lost while we are away, and authorised again.

    Then the tutor does not come, and the bank does not take the price back: it is in the wallet.
    """
    row = await _book(life, "renewed", FAR, card=None)
    await life.hand.act(f"/setups/{row.setup_id}/finish")
    await life.hear(str(row.id))
    await life.hand.reaches(row.opened_at + FAR - payment_states.AHEAD)
    await _carry(life, row)
    await _move(life, row, FAR + LATER)
    [first, *_] = await _authorizations(life, row)
    assert first.capture_before is not None
    await life.hand.reaches(first.capture_before + HOUR)
    await _carry(life, row)
    row = await _read(life, row.id)
    now = await life.hand.reaches(row.starts_at)
    nobody = facts(row.lesson_id, life.tutor, {name(life.plan, "student"): PLANNED_S})
    nobody = msgspec.structs.replace(nobody, tutor_attended_s=0, tutor_absent=True)
    await life.end(nobody, now=now)
    await life.settle(row.lesson_id, now=now)
    await _carry(life, row)
    refund = await _send_back(life, row)
    await life.hand.act(f"/refunds/{refund.refund}/fail")
    await life.hear(str(row.id), str(refund.id))
    await _carry(life, row)
    await life.mature([await _hold(life, row)], now=now)


async def _kept(life: Life) -> None:
    """The money is taken before the authorisation is lost, and sent back when the lesson is let go."""
    row = await _book(life, "kept", SOON, card="4242")
    await _move(life, row, FAR)
    [authorization] = await _authorizations(life, row)
    assert authorization.capture_before is not None
    await life.hand.reaches(authorization.capture_before - payment_states.KEEP)
    await _carry(life, row)
    await _void(life, row)
    refund = await _send_back(life, row)
    await life.hear(str(row.id), str(refund.id))
    await _carry(life, row)


# What they do -------------------------------------------------------------------------------------------------------


async def _book(life: Life, what: str, starts_in: timedelta, *, card: str | None) -> Payment:
    """Open a payment, bring its card as far as its owner does, and have the tutor agree."""
    student, api, now = name(life.plan, "student"), life.hand.api, await life.hand.passes()
    saved = None
    if card is not None:
        customer = await top_ups.customer_of(
            life.sessions, api, student, key=life.key(f"customer:{what}"), now=now
        )
        saved = (await life.hand.act(f"/customers/{customer}/save", card=card))["id"]
    wanted = Booking(
        id=name(life.plan, what),
        lesson_id=name(life.plan, f"lesson:{what}"),
        student_id=student,
        tutor_id=life.tutor,
        money=Money(PRICE),
        tutor_bps=BPS,
        attribution="platform",
        policy_version=1,
        starts_at=now + starts_in,
    )
    async with life.sessions.begin() as session:
        await payments.open_payment(session, wanted, method=PaymentMethod.CARD, card=saved, now=now)
    await card_payments.start(life.sessions, api, wanted.id, now=now)
    async with life.sessions.begin() as session:
        await payments.authorize(session, wanted.id, actor=f"user:{life.tutor}", now=now)
    return await _read(life, wanted.id)


async def _move(life: Life, row: Payment, starts_in: timedelta) -> None:
    """Have the lesson so long after its payment was opened."""
    if row.verdict is None:
        async with life.sessions.begin() as session:
            await payments.move(
                session, row.id, starts_at=row.opened_at + starts_in, now=await life.hand.passes()
            )


async def _void(life: Life, row: Payment) -> None:
    async with life.sessions.begin() as session:
        await payments.void(
            session,
            row.id,
            reason=PaymentReason.TUTOR_CANCEL,
            actor=f"user:{life.tutor}",
            now=await life.hand.passes(),
        )


async def _carry(life: Life, row: Payment) -> None:
    """Carry its card on, as far as it goes now."""
    now = await life.hand.passes()
    await life.do_jobs(
        card_payments.JOB,
        [str(row.id)],
        now,
        lambda claim: card_payments.run(life.sessions, life.hand.api, claim, now=now),
    )


async def _send_back(life: Life, row: Payment) -> CardRefund:
    """Send the one refund of a payment to its card; whoever comes back may hear of it before they ask again."""
    refund, now = await _refund(life, row), await life.hand.passes()
    await life.hear(str(refund.id))
    await life.do_jobs(
        card_refunds.JOB,
        [str(refund.id)],
        now,
        lambda claim: card_refunds.run(life.sessions, life.hand.api, claim, now=now),
    )
    return await _refund(life, row)


async def _refund(life: Life, row: Payment) -> CardRefund:
    async with life.sessions() as session:
        return (await session.scalars(select(CardRefund).where(CardRefund.payment_id == row.id))).one()


async def _read(life: Life, payment_id: UUID) -> Payment:
    async with life.sessions() as session:
        return await payments.get(session, payment_id)


async def _hold(life: Life, row: Payment) -> UUID:
    hold_id = (await _read(life, row.id)).hold_id
    assert hold_id is not None
    return hold_id


async def _authorizations(life: Life, row: Payment) -> list[CardAuthorization]:
    query = select(CardAuthorization).where(CardAuthorization.payment_id == row.id)
    async with life.sessions() as session:
        return list(await session.scalars(query.order_by(CardAuthorization.number)))


# Banks that ask for it back -----------------------------------------------------------------------------------------


async def disputed(life: Life) -> None:
    """Of one payment we hear first by its dispute, which is won; another one is lost when its money is spent."""
    payer, lesson = name(life.plan, "payer"), name(life.plan, "lesson")
    early = await life.top_up(payer, "early")
    won = await _complain(life, await _pay(life, early))
    await life.hear(won)
    await life.hand.act(f"/disputes/{won}/decide", won=True)
    await life.hear(won)
    await life.hear(str(early.id))

    late = await life.top_up(payer, "late")
    payment = await _pay(life, late)
    await life.hear(str(late.id))
    now = await life.hand.passes()
    wanted = new_hold(life, payer, lesson, SourceKind.BOOKING, 1)
    [hold_id] = await life.buy(payer, [wanted], now=now)
    await life.end(facts(lesson, life.tutor, {payer: PLANNED_S}), now=now)
    await life.settle(lesson, now=now)
    lost = await _complain(life, payment)
    await life.hear(lost)
    await life.hand.act(f"/disputes/{lost}/decide", won=False)
    # Nobody tells how it ended, and we look; then somebody does.
    await card_disputes.look(life.sessions, life.hand.api, now=now)
    await life.hear(lost)
    await life.mature([hold_id], now=now)


async def _pay(life: Life, top_up: TopUp) -> str:
    """Pay on the page, and return Stripe's payment; nobody tells us."""
    assert top_up.checkout_id is not None
    await life.hand.act(f"/checkout/{top_up.checkout_id}/pay", card="4242")
    paid = (await life.hand.api.retrieve_checkout(top_up.checkout_id)).payment_intent
    assert paid is not None
    return paid


async def _complain(life: Life, payment: str) -> str:
    """Have the payer's bank ask for a payment, once, and return the dispute."""
    for one in await life.hand.events(payment):
        event = msgspec.json.decode(one.body)
        if event["type"] == "charge.dispute.created":
            return str(event["data"]["object"]["id"])
    return str((await life.hand.act(f"/payments/{payment}/dispute"))["id"])


LIVES: Mapping[str, Callable[[Life], Awaitable[None]]] = {
    "booking": booking,
    "far": far,
    "disputed": disputed,
}


def outcome(plan: Plan) -> dict[tuple[str, UUID], int]:
    """Return what everybody must have in the end, by kind of account and owner."""
    student, payer, tutor = name(plan, "student"), name(plan, "payer"), name(plan, "tutor")
    match plan.kind:
        case "booking":
            earned = split(PRICE - BACK, BPS)[0]
            return {("earnings", tutor): earned, ("wallet", student): 0, ("card_refund", student): 0}
        case "far":
            return {("wallet", student): PRICE, ("card_refund", student): 0, ("earnings", tutor): 0}
        case _:
            # What the wallet had left went to the bank, and the rest of it came out of the lesson.
            rest = 2 * TOP_UP - PRICE
            earned = split(PRICE - (TOP_UP - rest), BPS)[0]
            return {("wallet", payer): 0, ("earnings", tutor): earned, ("earnings_pending", tutor): 0}

"""A booking paid by card: authorised in time, captured once, released or sent back, wherever somebody dies."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from billing import (
    card_disputes,
    card_payments,
    card_refunds,
    checks,
    maturity,
    payments,
    reconciliation,
)
from billing.card_payments import Asked
from billing.errors import (
    InsufficientFundsError,
    NotByCardError,
    PaymentMismatchError,
    PaymentStateError,
    StripeAwayError,
    UnsettledPaymentError,
)
from billing.messages import CardRefundFailed
from billing.models import CardRefund, JobRow, PaymentMethod, PaymentReason, PaymentState, StripeEvent
from billing.payment_moves import Wish
from billing.stripe_objects import BalanceTransaction, Dispute, Refund
from server.integrations.stripe_fake.disputes import FEE as DISPUTE_FEE
from server.integrations.stripe_fake.fake import Fault
from tests.billing.booker import FAR, PRICE, SOON, WORDS, Booker
from tests.billing.payments import api_of
from tests.billing.world import PLANNED_S, Sessions, balance, blocked, events, fund, usd, violations

FEE = PRICE * 29 // 1000 + 30
TUTOR, PLATFORM = 3_000, 7_000
PAID = {"earnings_pending": TUTOR, "platform_revenue": PLATFORM, "stripe": FEE - PRICE}
BACK = {"stripe": FEE}
PENDING, AUTHORIZED, CAPTURED, VOIDED = "PENDING", "AUTHORIZED", "CAPTURED", "VOIDED"
REFUNDED = "REFUNDED"
# Longer than Stripe keeps a key.
FORGOTTEN = timedelta(hours=30)
RISK = timedelta(days=7)
BACK_TO_CARD = 4_000


@pytest.fixture
def booker(sessions: Sessions) -> Booker:
    return Booker(sessions)


async def agreed(booker: Booker) -> UUID:
    payment_id = await booker.by_card()
    await booker.accept(payment_id)
    return payment_id


async def captured(booker: Booker, card: str = "4242") -> UUID:
    payment_id = await booker.by_card(card)
    await booker.accept(payment_id)
    booker.passes(SOON)
    await booker.ends(payment_id)
    await booker.run()
    return payment_id


# The plain course ---------------------------------------------------------------------------------------------------


async def test_a_card_is_authorised_at_once_and_no_money_moves(booker: Booker) -> None:
    payment_id = await booker.by_card()
    requested = await booker.way(payment_id)

    await booker.accept(payment_id)

    [authorization] = await booker.authorizations()
    assert requested == [PENDING]
    assert await booker.way(payment_id) == [PENDING, AUTHORIZED]
    assert (authorization.status, authorization.off_session) == ("authorized", False)
    assert authorization.capture_before == booker.now + timedelta(days=7)
    assert await booker.balances() == {}
    await booker.checked()


async def test_the_end_of_the_lesson_captures_the_card_and_settles_in_one_or_releases_it(
    booker: Booker,
) -> None:
    ends: tuple[tuple[int, int, list[str], str, dict[str, int]], ...] = (
        (PLANNED_S, PLANNED_S, [CAPTURED], "succeeded", PAID),
        # Taken and sent back to the card: our fee is all that is left of it.
        (PLANNED_S, 0, [CAPTURED, REFUNDED], "succeeded", BACK),
        (0, 0, [VOIDED], "canceled", {}),
    )
    sum_: Counter[str] = Counter()
    for student_s, tutor_s, end, status, moved in ends:
        payment_id = await agreed(booker)
        await booker.ends(payment_id, student_s=student_s, tutor_s=tutor_s)

        await booker.run()
        await booker.ends(payment_id, student_s=student_s, tutor_s=tutor_s)
        await booker.run()

        assert await booker.way(payment_id) == [PENDING, AUTHORIZED, *end]
        assert booker.at_stripe()[-1]["status"] == status
        sum_.update(moved)
        assert await booker.balances() == sum_
    assert len(booker.at_stripe()) == len(ends)
    assert [one.status for one in await booker.refunds()] == ["sent"]
    await booker.checked()


async def test_a_late_cancellation_is_captured_without_a_lesson_and_long_after_it_too(
    booker: Booker,
) -> None:
    payment_id = await agreed(booker)
    await booker.capture(payment_id)
    with pytest.raises(PaymentStateError):
        await booker.void(payment_id)
    booker.passes(SOON)
    await booker.ends(payment_id, student_s=0, tutor_s=0)

    await booker.run()

    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, CAPTURED]
    assert await booker.balances() == PAID
    await booker.checked()


async def test_what_is_let_go_releases_the_card(booker: Booker) -> None:
    payment_id = await agreed(booker)

    await booker.void(payment_id)
    await booker.run()

    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, VOIDED]
    assert [one.status for one in await booker.authorizations()] == ["cancelled"]
    assert [one["status"] for one in booker.at_stripe()] == ["canceled"]
    await booker.checked()


async def test_the_student_gives_a_card_another_one_or_an_answer_to_their_bank(booker: Booker) -> None:
    cards = (None, "confirm", None), ("9995", "confirm", "insufficient_funds"), ("3220", "authenticate", None)
    for card, answer, failure in cards:
        payment_id = await booker.by_card(card)
        await booker.accept(payment_id)
        asked = await booker.start(payment_id)
        intent = booker.at_stripe()[-1]
        before = await booker.state(payment_id)

        await booker.fake.act(f"/payments/{intent['id']}/{answer}")
        await booker.hear()

        row, after = await booker.row(payment_id), await booker.start(payment_id)
        assert (asked.client_secret, asked.failure) == (intent["client_secret"], failure)
        assert (before, row.state) == (PENDING, AUTHORIZED)
        assert (row.card, after.client_secret, after.failure) == (intent["payment_method"], None, None)
    await booker.checked()


async def test_a_card_that_brings_nothing_lets_the_payment_go_when_the_lesson_starts(booker: Booker) -> None:
    payment_id = await booker.by_card("9995")
    await booker.accept(payment_id)
    await booker.run()
    booker.passes(SOON)

    await booker.run()

    row = await booker.row(payment_id)
    assert (row.state, row.verdict_reason) == (VOIDED, PaymentReason.CARD_FAILED)
    assert [one["status"] for one in booker.at_stripe()] == ["canceled"]
    assert "payment.voided" in await events(booker.sessions)
    await booker.checked()


# Far ahead ----------------------------------------------------------------------------------------------------------


async def test_a_card_that_stripe_refuses_says_why(booker: Booker) -> None:
    stolen = await Booker(booker.sessions, fake=booker.fake).save_card("4242")
    payment_id = await booker.open(method=PaymentMethod.CARD, card=stolen)

    asked = await booker.start(payment_id)

    assert (asked.client_secret, asked.failure) == (None, "payment_method_invalid")
    assert [one.status for one in await booker.authorizations()] == ["cancelled"]


async def test_a_far_lesson_makes_the_card_ready_and_authorises_it_two_days_before(booker: Booker) -> None:
    payment_id = await booker.by_card(starts_in=FAR)
    await booker.accept(payment_id)
    await booker.run()
    ready = (await booker.row(payment_id)).card, booker.at_stripe(), await booker.state(payment_id)
    booker.passes(FAR - timedelta(hours=48))

    await booker.run()

    [authorization] = await booker.authorizations()
    assert ready[0] is not None
    assert ready[1:] == ([], PaymentState.PENDING)
    assert await booker.way(payment_id) == [PENDING, AUTHORIZED]
    assert authorization.off_session
    assert authorization.capture_before == booker.now + timedelta(days=4, hours=18)
    booker.passes(timedelta(hours=50))
    await booker.ends(payment_id)
    await booker.run()
    assert await booker.balances() == PAID
    await booker.checked()


async def test_a_far_lessons_card_may_be_given_in_stripes_form_and_may_be_declined(booker: Booker) -> None:
    payment_id = await booker.by_card(None, starts_in=FAR)
    asked = await booker.start(payment_id)
    setup = (await booker.row(payment_id)).setup_id
    booking, saved = booker.booking(starts_in=FAR), await booker.save_card("9995")
    declined = await booker.open(booking, method=PaymentMethod.CARD, card=saved)

    await booker.fake.act(f"/setups/{setup}/finish")
    await booker.hear()

    assert (asked.is_setup, asked.client_secret is None) == (True, False)
    assert (await booker.row(payment_id)).card is not None
    assert (await booker.start(payment_id)).client_secret is None
    assert (await booker.start(declined)).failure == "insufficient_funds"


async def test_a_bank_that_asks_while_nobody_is_there_has_the_student_told(booker: Booker) -> None:
    payment_id = await booker.by_card("3220", starts_in=FAR)
    await booker.fake.act(f"/setups/{(await booker.row(payment_id)).setup_id}/finish")
    await booker.accept(payment_id)
    booker.passes(FAR - timedelta(hours=48))
    await booker.run()
    told = await events(booker.sessions)
    asked = await booker.start(payment_id)
    [intent] = booker.at_stripe()

    await booker.fake.act(f"/payments/{intent['id']}/confirm", card="4242")
    await booker.hear()

    assert told.count("payment.authorization_needed") == 1
    assert asked.client_secret == intent["client_secret"]
    assert await booker.way(payment_id) == [PENDING, AUTHORIZED]
    await booker.checked()


async def test_a_lesson_that_is_moved_is_authorised_for_its_new_time(booker: Booker) -> None:
    payment_id = await booker.by_card(starts_in=FAR)
    await booker.accept(payment_id)
    async with booker.sessions.begin() as session:
        await payments.move(session, payment_id, starts_at=booker.now + timedelta(days=2), now=booker.now)

    await booker.run()

    assert await booker.way(payment_id) == [PENDING, AUTHORIZED]


# Authorisations that end --------------------------------------------------------------------------------------------


async def test_before_an_authorisation_is_lost_the_money_is_taken_into_escrow(booker: Booker) -> None:
    """Lessons that were moved far beyond it: held like money of a wallet, and settled or sent back like it."""
    held, let_go = await agreed(booker), await agreed(booker)
    for payment_id in (held, let_go):
        async with booker.sessions.begin() as session:
            await payments.move(session, payment_id, starts_at=booker.now + FAR, now=booker.now)
    booker.passes(timedelta(days=6, hours=12))

    await booker.run()
    escrowed = (await booker.state(held), await booker.balances())
    await booker.void(let_go)
    await booker.run()
    booker.passes(FAR)
    await booker.ends(held)

    assert escrowed == (PaymentState.AUTHORIZED, {"escrow": 2 * PRICE, "stripe": 2 * (FEE - PRICE)})
    assert await booker.way(held) == [PENDING, AUTHORIZED, CAPTURED]
    assert await booker.way(let_go) == [PENDING, AUTHORIZED, VOIDED]
    assert await booker.balances() == PAID | {"stripe": 2 * FEE - PRICE}
    await booker.checked()


async def test_an_authorisation_that_ended_while_we_were_away_is_renewed(booker: Booker) -> None:
    payment_id = await booker.by_card(starts_in=timedelta(days=6))
    await booker.accept(payment_id)
    async with booker.sessions.begin() as session:
        await payments.move(session, payment_id, starts_at=booker.now + timedelta(days=9), now=booker.now)
    booker.passes(timedelta(days=8))

    await booker.run()

    assert [one.status for one in await booker.authorizations()] == ["cancelled", "authorized"]
    assert await booker.state(payment_id) is PaymentState.AUTHORIZED
    booker.passes(timedelta(days=1))
    await booker.ends(payment_id)
    await booker.run()
    assert await booker.balances() == PAID
    await booker.checked()


async def test_an_authorisation_that_ended_before_the_capture_is_tried_again_and_else_given_up(
    booker: Booker,
) -> None:
    payment_id = await booker.by_card("3220")
    [intent] = booker.at_stripe()
    await booker.fake.act(f"/payments/{intent['id']}/authenticate")
    await booker.accept(payment_id)
    await booker.start(payment_id)
    booker.passes(SOON)
    await booker.ends(payment_id)
    booker.passes(timedelta(days=8))

    await booker.run()

    # The bank asks for the student, who is not there any more.
    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, VOIDED]
    assert {one["status"] for one in booker.at_stripe()} == {"canceled"}
    assert await booker.balances() == {}
    await booker.checked()


# Whoever dies -------------------------------------------------------------------------------------------------------

LOST: tuple[Fault, ...] = ("lose_request", "lose_response", "break")


async def test_an_answer_that_was_lost_makes_one_authorisation(booker: Booker) -> None:
    saved = await booker.save_card("4242")
    for fault in LOST:
        payment_id = await booker.open(method=PaymentMethod.CARD, card=saved)
        booker.breaks(":create:", fault)
        with pytest.raises(StripeAwayError):
            await booker.start(payment_id)
        [wanted] = await booker.authorizations(payment_id)
        booker.passes(timedelta(minutes=5))

        await booker.run()

        [authorization] = await booker.authorizations(payment_id)
        assert (wanted.status, authorization.status, authorization.id) == ("wanted", "authorized", wanted.id)
    assert len(booker.at_stripe()) == len(LOST)
    await booker.checked()


async def test_after_a_day_what_was_made_is_found_instead_of_made_again(booker: Booker) -> None:
    booker.breaks(":create:", "lose_response")
    with pytest.raises(StripeAwayError):
        await booker.by_card(starts_in=timedelta(days=3))
    booker.passes(FORGOTTEN)

    await booker.run()

    assert [one.status for one in await booker.authorizations()] == ["authorized"]
    assert len(booker.at_stripe()) == 1


async def test_a_capture_whose_answer_was_lost_is_booked_once(booker: Booker) -> None:
    for fault in LOST:
        payment_id = await agreed(booker)
        await booker.ends(payment_id)
        booker.breaks("/capture", fault)
        with pytest.raises(StripeAwayError):
            await booker.run()
        await booker.dies()

        await booker.run()

        assert await booker.way(payment_id) == [PENDING, AUTHORIZED, CAPTURED]
    assert await booker.balances() == {kind: amount * len(LOST) for kind, amount in PAID.items()}
    await booker.checked()


async def test_a_release_whose_answer_was_lost_is_made_once(booker: Booker) -> None:
    for fault in LOST:
        payment_id = await agreed(booker)
        await booker.void(payment_id)
        booker.breaks("/cancel", fault)
        with pytest.raises(StripeAwayError):
            await booker.run()
        await booker.dies()

        await booker.run()

        assert [one.status for one in await booker.authorizations(payment_id)] == ["cancelled"]
    await booker.checked()


async def test_what_is_let_go_is_found_and_released_or_stripe_never_heard_of_it(booker: Booker) -> None:
    saved = await booker.save_card("4242")
    made, lost, unheard = [await booker.open(method=PaymentMethod.CARD, card=saved) for _ in range(3)]
    faults: tuple[tuple[UUID, Fault], ...] = ((made, "lose_response"), (lost, "lose_request"))
    for payment_id, fault in faults:
        booker.breaks(":create:", fault)
        with pytest.raises(StripeAwayError):
            await booker.start(payment_id)

    for payment_id in (made, lost, unheard):
        await booker.void(payment_id, PaymentReason.WITHDRAWN)
    await booker.run()

    assert [one["status"] for one in booker.at_stripe()] == ["canceled"]
    assert [one.status for one in await booker.authorizations()] == ["cancelled"] * 3
    await booker.checked()


async def test_the_students_browser_and_the_job_ask_at_once(booker: Booker) -> None:
    booking = booker.booking()
    saved = await booker.save_card("4242")
    await booker.open(booking, method=PaymentMethod.CARD, card=saved)
    booker.passes(timedelta(minutes=2))

    await asyncio.gather(
        booker.start(booking.id), booker.start(booking.id), booker.run(), return_exceptions=True
    )
    await booker.dies()
    await booker.run()

    assert len(booker.at_stripe()) == 1
    assert [one.status for one in await booker.authorizations()] == ["authorized"]


async def test_evidence_that_comes_before_the_card_is_captured_is_for_people(booker: Booker) -> None:
    payment_id = await agreed(booker)
    booker.passes(SOON)
    await booker.ends(payment_id)
    await booker.hears_late(payment_id, student_s=PLANNED_S, tutor_s=0)

    await booker.run()

    async with booker.sessions() as session:
        noted = await session.scalar(text("select to_student from hold_review"))
    assert (noted, await booker.state(payment_id)) == (PRICE, PaymentState.CAPTURED)
    await booker.checked()


async def test_stripes_events_in_any_number_change_nothing_more(booker: Booker) -> None:
    payment_id = await agreed(booker)
    booker.passes(SOON)
    await booker.ends(payment_id)
    await booker.run()

    await booker.hear()
    booker.told = 0
    await booker.hear()

    assert await booker.balances() == PAID
    await booker.checked()


async def test_a_capture_that_only_stripe_knows_of_is_told_or_found(booker: Booker) -> None:
    """Somebody captured at Stripe by hand: an event brings the money in, or the reconciliation does."""
    told = await agreed(booker)
    await booker.api.capture_payment(booker.at_stripe()[-1]["id"], PRICE, key="told")
    await booker.hear()
    await agreed(booker)
    await booker.api.capture_payment(booker.at_stripe()[-1]["id"], PRICE, key="not told")
    booker.passes(timedelta(minutes=15))

    report = await reconciliation.run(booker.sessions, booker.api, now=booker.now)

    assert (report.repaired, report.findings) == (1, ())
    assert await booker.state(told) is PaymentState.AUTHORIZED
    assert await booker.balances() == {"escrow": 2 * PRICE, "stripe": 2 * (FEE - PRICE)}
    await booker.checked()


async def test_a_payment_that_differs_moves_nothing(booker: Booker) -> None:
    payment_id = await agreed(booker)
    [intent] = booker.at_stripe()
    found = await booker.api.retrieve_payment(intent["id"])

    async def what_differs(**change: object) -> str:
        async with booker.sessions() as session:
            with pytest.raises(PaymentMismatchError) as refused:
                await card_payments.apply(session, msgspec.structs.replace(found, **change), now=booker.now)
        return refused.value.what

    assert await what_differs(amount=1) == "amount"
    assert await what_differs(currency="eur") == "amount"
    assert await what_differs(status="succeeded", amount_received=PRICE - 1) == "amount"
    assert await what_differs(metadata={**found.metadata, "owner": "x"}) == "owner"
    assert await what_differs(metadata={}) == "authorisation, which is none of ours"
    assert await what_differs(id="pi_other") == "authorisation, which has another payment"
    await booker.checked()
    await booker.void(payment_id)
    await booker.run()
    paid = {"status": "succeeded", "amount_received": PRICE}
    assert await what_differs(**paid) == "authorisation, which is over"
    await booker.checked()


async def test_a_capture_that_stripe_refuses_without_a_reason_is_for_people(booker: Booker) -> None:
    payment_id = await agreed(booker)
    await booker.capture(payment_id)
    [intent] = booker.at_stripe()
    intent["amount_capturable"] = PRICE - 1

    with pytest.raises(PaymentMismatchError, match="state after capture"):
        await booker.run()

    intent["amount_capturable"] = PRICE
    await booker.dies()
    await booker.run()
    assert await booker.state(payment_id) is PaymentState.CAPTURED
    await booker.checked()


async def test_a_capture_waits_for_its_movement(booker: Booker) -> None:
    payment_id = await agreed(booker)
    await booker.capture(payment_id)
    [intent] = booker.at_stripe()
    found = await booker.api.capture_payment(intent["id"], PRICE, key="by hand")
    assert found.latest_charge is not None
    charge = msgspec.structs.replace(found.latest_charge, balance_transaction=None)
    early = msgspec.structs.replace(found, latest_charge=charge)

    async with booker.sessions() as session:
        with pytest.raises(UnsettledPaymentError):
            await card_payments.apply(session, early, now=booker.now)
    before = await booker.balances()
    await booker.run()

    assert before == {}
    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, CAPTURED]
    await booker.checked()


async def test_what_others_do_at_stripe_is_heard_and_changes_nothing(booker: Booker) -> None:
    """People with access to the account, or another product that shares it."""
    card = await booker.save_card("4242")
    customer = booker.fake.objects[card]["customer"]
    paid = {"customer": customer, "method": card, "tags": {}, "capture": True}
    refunded, disputed = [
        (await booker.api.create_payment(usd(PRICE), key=key, **paid)).id for key in ("one", "another")
    ]
    await booker.api.create_setup(customer, method=card, tags={}, key="ready")
    await booker.api.create_refund(refunded, PRICE, tags={}, key="back")
    await booker.fake.act(f"/payments/{disputed}/dispute")
    page = await booker.api.create_checkout(
        usd(PRICE),
        name="Something else",
        customer=customer,
        tags={},
        expires_at=booker.now + timedelta(hours=1),
        return_url="http://elsewhere.test",
        hosted=True,
        key="page",
    )
    await booker.api.expire_checkout(page.id, key="over")

    await booker.hear()

    async with booker.sessions() as session:
        heard = (await session.execute(select(StripeEvent.type, StripeEvent.handled_at))).all()
        assert not (await session.scalars(select(JobRow.kind))).all()
    assert {row.type for row in heard if row.handled_at is not None} >= {
        "payment_intent.succeeded",
        "setup_intent.succeeded",
        "refund.created",
        "charge.dispute.created",
        "checkout.session.expired",
    }
    assert all(row.handled_at is not None for row in heard)
    assert await booker.balances() == {}


# Races --------------------------------------------------------------------------------------------------------------


async def test_capture_and_void_at_once_end_it_one_way(booker: Booker) -> None:
    for _ in range(3):
        payment_id = await agreed(booker)

        found = await asyncio.gather(
            booker.capture(payment_id), booker.void(payment_id), booker.run(), return_exceptions=True
        )
        await booker.dies()
        await booker.run()

        kept = found[0] is None
        assert (kept, found[1] is None) in ((True, False), (False, True))
        assert (await booker.way(payment_id))[-1] == (CAPTURED if kept else VOIDED)
    await booker.checked()


async def test_a_capture_under_way_when_the_payment_is_let_go_is_sent_back(booker: Booker) -> None:
    """Taken into escrow at the last moment, and let go before that was written down."""
    payment_id = await agreed(booker)
    [authorization] = await booker.authorizations()
    await booker.api.capture_payment(authorization.intent or "", PRICE, key="in flight")
    await booker.void(payment_id)

    await booker.run()

    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, VOIDED]
    assert [one.status for one in await booker.refunds()] == ["sent"]
    assert await booker.balances() == BACK
    await booker.checked()


async def test_two_workers_capture_once(booker: Booker) -> None:
    payment_id = await agreed(booker)
    booker.passes(SOON)
    await booker.ends(payment_id)
    [claim] = await booker.claim(card_payments.JOB)

    await asyncio.gather(booker.do(claim), booker.do(claim), return_exceptions=True)
    await booker.dies()
    await booker.run()

    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, CAPTURED]
    assert await booker.balances() == PAID
    await booker.checked()


@pytest.mark.parametrize("is_answered", [True, False], ids=["the answer comes", "an event tells"])
async def test_a_card_that_is_authorised_after_its_payment_was_let_go_is_released(
    booker: Booker, *, is_answered: bool
) -> None:
    """The call that makes it is on its way while the job looks for it, and Stripe has not heard of it yet."""
    arrives, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST" and scope["path"] == "/v1/payment_intents":
            arrives.set()
            await goes_on.wait()
            if not is_answered:
                booker.breaks(":create:", "lose_response")
        await booker.fake(scope, receive, send)

    payment_id = await booker.open(method=PaymentMethod.CARD, card=await booker.save_card("4242"))
    fast, booker.api = booker.api, api_of(slow)
    async with asyncio.TaskGroup() as tasks:
        starting = tasks.create_task(ended(booker.start(payment_id)))
        await arrives.wait()
        booker.api = fast
        await booker.void(payment_id, PaymentReason.WITHDRAWN)
        await booker.run()
        goes_on.set()
    [intent] = booker.at_stripe()
    assert intent["status"] == "requires_capture"

    if is_answered:
        asked = starting.result()
        assert isinstance(asked, Asked)
        assert (asked.payment.state, asked.client_secret) == (VOIDED, None)
    else:
        assert isinstance(starting.result(), StripeAwayError)
        await booker.receive()
    await booker.run()

    assert intent["status"] == "canceled"
    assert [one.status for one in await booker.authorizations()] == ["cancelled"]
    await booker.hear()
    await booker.checked()


async def ended(asks: Awaitable[Asked]) -> Asked | StripeAwayError:
    try:
        return await asks
    except StripeAwayError as error:
        return error


async def test_a_card_is_made_ready_once_by_who_asks_twice(booker: Booker) -> None:
    """At the turn of a minute, which is in the key: whichever form is filled in, the card is known."""
    payment_id = await booker.open(booker.booking(starts_in=FAR), method=PaymentMethod.CARD)
    await booker.save_card("4242")
    later = booker.now + timedelta(minutes=1)

    asked = await asyncio.gather(
        *(card_payments.start(booker.sessions, booker.api, payment_id, now=at) for at in (booker.now, later))
    )

    known = (await booker.row(payment_id)).setup_id
    [secret] = [one["client_secret"] for one in booker.at_stripe("setup_intent") if one["id"] == known]
    assert [one.client_secret for one in asked] == [secret] * 2


# Back to the card ---------------------------------------------------------------------------------------------------


async def test_parts_go_back_to_the_card_each_once_and_no_more_than_came_from_it(booker: Booker) -> None:
    payment_id = await captured(booker)

    made = await asyncio.gather(*(booker.refund(payment_id, 4_000, key="a", to_card=True) for _ in range(4)))
    await booker.refund(payment_id, 1_000, key="b")
    await booker.refund(payment_id, key="c", to_card=True)
    await booker.run()

    assert len({one.id for one in made}) == 1
    assert [(one.amount, one.status) for one in await booker.refunds()] == [(4_000, "sent"), (5_000, "sent")]
    assert [one["amount"] for one in booker.at_stripe("refund")] == [4_000, 5_000]
    assert await balance(booker.sessions, booker.student) == 1_000
    assert await booker.state(payment_id) is PaymentState.REFUNDED
    await booker.checked()


async def test_a_refund_whose_answer_was_lost_is_made_once(booker: Booker) -> None:
    for fault in LOST:
        payment_id = await captured(booker)
        await booker.refund(payment_id, to_card=True)
        booker.breaks("/refunds", fault)
        with pytest.raises(StripeAwayError):
            await booker.run()
        await booker.dies()
        booker.passes(FORGOTTEN)

        await booker.run()
    assert [one["amount"] for one in booker.at_stripe("refund")] == [PRICE] * len(LOST)
    assert await booker.balances() == {"stripe": FEE * len(LOST)}
    await booker.checked()


async def test_a_refund_that_stripe_told_of_first_is_booked_once(booker: Booker) -> None:
    payment_id = await captured(booker)
    await booker.hear()
    await booker.refund(payment_id, to_card=True)
    booker.breaks("/refunds", "lose_response")
    [claim] = await booker.claim(card_refunds.JOB)
    with pytest.raises(StripeAwayError):
        await booker.do(claim)

    await booker.hear()
    sent = [one.status for one in await booker.refunds()]
    await booker.dies()
    await booker.run()

    assert sent == ["sent"]
    assert await booker.balances() == BACK
    await booker.checked()


async def test_a_refund_that_the_bank_does_not_take_is_in_the_wallet(booker: Booker) -> None:
    payment_id = await captured(booker, "5126")
    await booker.refund(payment_id, to_card=True)
    await booker.run()
    heard = len(booker.fake.events)
    booker.passes(timedelta(days=1, minutes=30))

    # Nobody told: the reconciliation sees the movement, and has the refund looked at.
    found = await reconciliation.run(booker.sessions, booker.api, now=booker.now)
    await booker.run()
    again = await reconciliation.run(booker.sessions, booker.api, now=booker.now)
    booker.told = heard
    await booker.hear()

    assert [one.outcome for one in found.findings] == ["missing_here"]
    assert again.findings == ()
    assert [(one.status, one.failure) for one in await booker.refunds()] == [("failed", "unknown")]
    assert await balance(booker.sessions, booker.student) == PRICE
    assert await failures(booker) == [(PRICE, None)]
    assert await booker.state(payment_id) is PaymentState.REFUNDED
    await booker.checked()


async def test_a_refund_that_stripe_refuses_never_left(booker: Booker) -> None:
    payment_id = await captured(booker)
    [intent] = booker.at_stripe()
    await booker.fake.act(f"/payments/{intent['id']}/dispute")
    await booker.refund(payment_id, to_card=True)

    await booker.run()

    assert [(one.status, one.failure) for one in await booker.refunds()] == [("failed", "charge_disputed")]
    assert await balance(booker.sessions, booker.student) == PRICE


async def test_a_refund_that_is_given_up_before_it_left_never_left(booker: Booker) -> None:
    payment_id = await captured(booker)
    await booker.refund(payment_id, to_card=True)
    [asked] = await booker.refunds()
    found = Refund(
        id="re_1",
        status="canceled",
        amount=PRICE,
        currency="usd",
        created=0,
        charge=None,
        payment_intent=None,
        balance_transaction=None,
        metadata={},
    )

    async with booker.sessions.begin() as session:
        await card_refunds.apply(session, asked.id, found, now=booker.now)
    await booker.run()

    assert [(one.status, one.failure) for one in await booker.refunds()] == [("failed", "canceled")]
    assert await balance(booker.sessions, booker.student) == PRICE
    assert await failures(booker) == [(PRICE, None)]
    await booker.checked()


async def test_a_refund_that_differs_moves_nothing_and_one_that_failed_waits_for_its_money(
    booker: Booker,
) -> None:
    payment_id = await captured(booker)
    await booker.refund(payment_id, to_card=True)
    await booker.run()
    [sent] = await booker.refunds()
    found = await booker.api.retrieve_refund(sent.refund or "")

    async def hears(**change: object) -> str:
        async with booker.sessions.begin() as session:
            await card_refunds.apply(
                session, sent.id, msgspec.structs.replace(found, **change), now=booker.now
            )
        [row] = await booker.refunds()
        return row.status

    for other in ({"amount": PRICE - 1}, {"currency": "eur"}, {"id": "re_other"}):
        with pytest.raises(PaymentMismatchError):
            await hears(**other)
    assert await hears(status="failed") == "sent"
    assert await balance(booker.sessions, booker.student) == 0
    assert await hears(status="failed", failure_balance_transaction="txn_back") == "failed"
    assert await balance(booker.sessions, booker.student) == PRICE
    assert await violations(booker.sessions) == []


async def test_a_loss_waits_for_a_refund_that_is_on_its_way_to_the_card(booker: Booker) -> None:
    """Stripe will refuse it. Borne by us before it is back, the payer would have the price twice."""
    payment_id = await captured(booker)
    [intent] = booker.at_stripe()
    dispute = (await booker.fake.act(f"/payments/{intent['id']}/dispute")).body["id"]
    async with booker.sessions.begin() as session:
        await card_disputes.apply(session, await booker.api.retrieve_dispute(dispute), now=booker.now)
    await booker.refund(payment_id, to_card=True)
    await booker.fake.act(f"/disputes/{dispute}/decide", won=False)

    async with booker.sessions() as session:
        with pytest.raises(UnsettledPaymentError):
            await card_disputes.apply(session, await booker.api.retrieve_dispute(dispute), now=booker.now)
    looked_at = await card_disputes.look(booker.sessions, booker.api, now=booker.now)
    await booker.run()
    await card_disputes.look(booker.sessions, booker.api, now=booker.now)

    assert looked_at == 1
    assert [one.status for one in await booker.refunds()] == ["failed"]
    assert await booker.balances() == {"stripe": FEE + DISPUTE_FEE}
    await booker.checked()


class Told:
    """A captured payment of which some was refunded, and what Stripe says of it next, in whatever order."""

    def __init__(self, booker: Booker, payment_id: UUID) -> None:
        [charge] = booker.at_stripe("charge")
        self.booker, self.payment_id, self.charge = booker, payment_id, charge["id"]

    def movement(self, name: str, amount: int) -> BalanceTransaction:
        created = int(self.booker.now.timestamp())
        return BalanceTransaction(
            id=f"txn_{name}",
            amount=amount,
            fee=0,
            net=amount,
            currency="usd",
            created=created,
            available_on=created,
            status="available",
            type="adjustment",
            reporting_category="dispute",
            source="dp_1",
        )

    def dispute(self, status: str, amount: int = PRICE) -> Dispute:
        taken = [self.movement("taken", -amount)]
        return Dispute(
            id="dp_1",
            status=status,
            amount=amount,
            currency="usd",
            created=int(self.booker.now.timestamp()),
            reason="fraudulent",
            charge=self.charge,
            payment_intent=None,
            balance_transactions=[*taken, self.movement("given", amount)] if status == "won" else taken,
            metadata={},
        )

    async def moved(self, session: AsyncSession) -> dict[str, int]:
        """Sums by kind of account, without our balance at Stripe and what the capture cost."""
        query = "select kind, sum(balance)::bigint from ledger_account group by kind"
        found: dict[str, int] = dict((await session.execute(text(query))).all())
        found["platform_expense"] += FEE
        return {kind: amount for kind, amount in found.items() if amount and kind != "stripe"}

    async def asked(self, session: AsyncSession, amount: int = BACK_TO_CARD, *, key: str = "k") -> None:
        wish = Wish(amount=usd(amount), to_card=True, reason=PaymentReason.GOODWILL, words=WORDS, key=key)
        await payments.refund(session, self.payment_id, wish, actor="admin:1", now=self.booker.now)

    async def answered(self, session: AsyncSession, status: str, *, of: int = BACK_TO_CARD) -> None:
        """What Stripe says of the refund of this amount; it has moved nothing unless it was sent before it failed."""
        row = (await session.scalars(select(CardRefund).where(CardRefund.amount == of))).one()
        is_sent = status == "succeeded" or row.refund is not None
        found = Refund(
            id=f"re_{of}",
            status=status,
            amount=of,
            currency="usd",
            created=int(self.booker.now.timestamp()),
            charge=self.charge,
            payment_intent=None,
            balance_transaction=f"txn_out_{of}" if is_sent else None,
            failure_balance_transaction=f"txn_back_{of}" if is_sent and status == "failed" else None,
            metadata={},
        )
        await card_refunds.apply(session, row.id, found, now=self.booker.now)


SENT_THEN_FAILED = ("asked", "succeeded", "failed")
REFUSED = ("asked", "failed")
# Those that these orders could break; all others cost more than they would find here.
WATCHED = (
    "card_refund_is_reserved",
    "disputed_at_stripe",
    "frozen_is_disputed",
    "payment_follows_hold",
    "stripe_is_told",
)


@pytest.mark.parametrize(
    ("end", "matured", "left"),
    [
        # What was refunded is the payer's, and the rest is divided.
        ("won", False, {"wallet": 4_000, "earnings_pending": 1_800, "platform_revenue": 4_200}),
        # The payer has everything from their bank: nobody else has anything, or we bear what the tutor keeps.
        ("lost", False, {}),
        ("lost", True, {"earnings": 1_800, "platform_revenue": 4_200, "platform_expense": -6_000}),
    ],
)
async def test_a_refund_that_fails_and_a_dispute_end_the_same_in_every_order(
    booker: Booker, end: str, matured: bool, left: dict[str, int]
) -> None:
    payment_id = await captured(booker)
    told = Told(booker, payment_id)
    if matured:
        booker.passes(RISK)
        async with booker.sessions.begin() as session:
            await maturity.mature(session, await booker.hold(payment_id), now=booker.now)
    ends: dict[tuple[str, ...], dict[str, int]] = {}
    broken: set[str] = set()
    watched = [check for check in checks.CHECKS if check.name in WATCHED]

    async def step(session: AsyncSession, name: str, way: tuple[str, ...]) -> None:
        if name == "asked":
            await told.asked(session)
        elif name in ("succeeded", "failed"):
            await told.answered(session, name)
        # At each step somebody looks: what is lost waits for a refund that is asked for.
        dispute = end if end in way else "needs_response" if "opened" in way else None
        if dispute is not None:
            with contextlib.suppress(UnsettledPaymentError):
                async with session.begin_nested():
                    await card_disputes.apply(session, told.dispute(dispute), now=booker.now)

    async def walk(session: AsyncSession, way: tuple[str, ...], *sides: tuple[str, ...]) -> None:
        """Go on in every order; what orders begin with is done once for all of them, and undone behind them."""
        if not any(sides):
            ends[way] = await told.moved(session)
            if way[-1] == "failed":
                broken.update(violation.name for violation in await checks.run(session, watched))
        for side in sides:
            if not side:
                continue
            if side[0] == "asked" and end == "lost" and end in way and not matured:
                # The loss has given the whole lesson back already.
                continue
            savepoint = await session.begin_nested()
            await step(session, side[0], (*way, side[0]))
            later = (side[1:] if one is side else one for one in sides)
            await walk(session, (*way, side[0]), *later)
            await savepoint.rollback()
            session.expire_all()

    async with booker.sessions() as session:
        for refund in (SENT_THEN_FAILED, REFUSED):
            await walk(session, (), refund, ("opened", end))

    assert {way: has for way, has in ends.items() if has != left} == {}
    assert broken == set()
    assert len(ends) == (14 if (end, matured) == ("lost", False) else 16)


async def failures(booker: Booker) -> list[tuple[int, int | None]]:
    """What students are told of refunds that failed: what is in the wallet, and what their bank had given them."""
    query = text("select data from outbox where type = 'card_refund.failed' order by id")
    async with booker.sessions() as session:
        told = [msgspec.convert(data, CardRefundFailed) for data in await session.scalars(query)]
    return [(one.refunded.amount, one.kept.amount if one.kept else None) for one in told]


async def test_what_failed_refunds_bring_back_is_ours_only_as_far_as_we_bore_the_loss(booker: Booker) -> None:
    payment_id = await captured(booker)
    told = Told(booker, payment_id)
    async with booker.sessions.begin() as session:
        for amount in (4_000, 3_000):
            await told.asked(session, amount, key=str(amount))
            await told.answered(session, "succeeded", of=amount)
        # The lesson bears 3,000 of it, and we 5,000.
        await card_disputes.apply(session, told.dispute("lost", 8_000), now=booker.now)
        lost = await told.moved(session)

    found = []
    for amount in (4_000, 3_000):
        async with booker.sessions.begin() as session:
            await told.answered(session, "failed", of=amount)
            found.append(await told.moved(session))

    assert lost == {"platform_expense": -5_000}
    assert found == [{"platform_expense": -1_000}, {"wallet": 2_000}]
    assert await failures(booker) == [(0, 4_000), (2_000, 1_000)]
    assert await violations(booker.sessions) == []


async def test_a_refund_that_fails_while_its_payment_is_lost_waits_for_what_we_bear(booker: Booker) -> None:
    told = Told(booker, await captured(booker))
    async with booker.sessions.begin() as session:
        await told.asked(session)
        await told.answered(session, "succeeded")

    async with booker.sessions() as first, booker.sessions() as second, asyncio.TaskGroup() as tasks:
        await card_disputes.apply(first, told.dispute("lost"), now=booker.now)
        failing = tasks.create_task(told.answered(second, "failed"))
        await blocked(booker.sessions)
        await first.commit()
        await failing
        await second.commit()

    async with booker.sessions() as session:
        assert await told.moved(session) == {}
    assert await violations(booker.sessions) == []


async def test_what_was_spent_meanwhile_cannot_go_back_to_the_card(booker: Booker) -> None:
    payment_id = await captured(booker)
    await booker.refund(payment_id, to_card=True)
    await booker.run()
    async with booker.sessions.begin() as session:
        row = await payments.get(session, payment_id)
        with pytest.raises(NotByCardError):
            await card_refunds.ask(session, row, 1, key="more", now=booker.now)
    other = await captured(booker)
    await fund(booker.sessions, booker.student, 0 + PRICE)
    await booker.open()

    async with booker.sessions.begin() as session:
        row = await payments.get(session, other)
        with pytest.raises(InsufficientFundsError) as refused:
            await card_refunds.ask(session, row, 500, key="spent", now=booker.now)
    assert refused.value.shortfall == usd(500)


async def test_nobody_rewrites_what_was_at_stripe(booker: Booker) -> None:
    payment_id = await captured(booker)
    await booker.refund(payment_id, to_card=True)
    await booker.run()

    for statement in (
        "update card_authorization set intent = 'pi_other'",
        "update card_authorization set status = 'authorized'",
        "update card_refund set amount = 1",
        "update card_refund set status = 'asked'",
        "delete from card_refund",
    ):
        async with booker.sessions() as session:
            with pytest.raises(DBAPIError):
                await session.execute(text(statement))

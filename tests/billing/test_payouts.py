"""Payouts by Stripe: whatever dies, is lost or refused, the money is sent once, or back and still reserved."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from billing import payouts, reconciliation
from billing.errors import PayoutUnderWayError, StripeAwayError, StripeRefusedError
from billing.models import AccountKind, AttemptStatus
from billing.money import Money
from billing.payouts import JOB
from server.integrations.stripe_fake.machine import Call
from tests.billing.earner import Earner
from tests.billing.world import Sessions, events, violations

WHERE = (AccountKind.EARNINGS, AccountKind.WITHDRAWAL, AccountKind.STRIPE)
ARRIVED = timedelta(days=2)
# Longer than Stripe keeps a key.
FORGOTTEN = timedelta(hours=30)


@pytest.fixture
async def earner(sessions: Sessions) -> Earner:
    """A tutor with earnings, an account at Stripe, and as much money of ours there."""
    made = Earner(sessions)
    await made.teach(9_000)
    await made.set_stripe()
    await made.put_at_stripe(100_000)
    return made


async def approved(earner: Earner, amount: int = 4_000) -> UUID:
    asked = await earner.ask(amount)
    await earner.approve(asked)
    return asked


async def status(earner: Earner, number: int = 1) -> AttemptStatus:
    return AttemptStatus((await earner.attempts())[number - 1].status)


async def test_a_payout_goes_by_the_tutors_account_to_their_bank(earner: Earner) -> None:
    asked = await approved(earner)
    await earner.run(JOB)
    on_its_way = (await status(earner), await earner.has(*WHERE))

    earner.passes(ARRIVED)
    await earner.run(JOB)

    row = await earner.withdrawal(asked)
    [attempt] = await earner.attempts()
    assert on_its_way == (AttemptStatus.SUBMITTED, [5_000, 0, -96_000])
    assert (row.status, row.reference, attempt.status) == ("completed", attempt.payout, "paid")
    assert (await earner.at_stripe(), await earner.at_stripe(earner.account)) == (96_000, 0)
    assert await violations(earner.sessions) == []


async def test_stripes_books_say_the_same(earner: Earner) -> None:
    await approved(earner)
    await earner.run(JOB)
    await earner.fail_payout()
    earner.passes(payouts.LOOK_EVERY)
    await earner.run(JOB)

    report = await reconciliation.run(earner.sessions, earner.api, now=earner.now)

    # What was put there, the transfer, and its reversal.
    assert (report.matched, report.findings) == (3, ())


async def test_what_the_bank_does_not_take_comes_back_and_stays_reserved(earner: Earner) -> None:
    asked = await approved(earner)
    await earner.run(JOB)

    await earner.fail_payout()
    earner.passes(payouts.LOOK_EVERY)
    await earner.run(JOB)

    [attempt] = await earner.attempts()
    assert (attempt.status, attempt.failure) == ("failed", "account_closed")
    assert (await earner.withdrawal(asked)).status == "processing"
    assert await earner.has(*WHERE) == [5_000, 4_000, -100_000]
    assert await earner.at_stripe() == 100_000
    assert "payout.failed" in await events(earner.sessions)
    assert await violations(earner.sessions) == []


async def test_a_webhook_says_when_to_look(earner: Earner) -> None:
    await approved(earner)
    await earner.run(JOB)
    await earner.fail_payout()
    await earner.run(JOB)
    unheard = await status(earner)

    await earner.hear("payout.failed")
    await earner.run(JOB)

    assert (unheard, await status(earner)) == (AttemptStatus.SUBMITTED, AttemptStatus.FAILED)


async def test_what_stripe_does_not_give_back_is_looked_at_by_people(earner: Earner) -> None:
    """The tutor took the money off their own account at Stripe before it could come back."""
    asked = await approved(earner)
    await earner.run(JOB)
    await earner.fail_payout()
    await earner.api.create_payout(earner.account, Money(4_000), tags={}, key="by the tutor")
    earner.passes(payouts.LOOK_EVERY)

    with pytest.raises(StripeRefusedError):
        await earner.run(JOB)

    with pytest.raises(PayoutUnderWayError):
        await earner.reject(asked)
    assert await earner.has(*WHERE) == [5_000, 0, -96_000]
    assert await violations(earner.sessions) == []


async def test_what_failed_is_tried_again_or_given_back(earner: Earner) -> None:
    first, second = await approved(earner), await approved(earner, 2_000)
    await earner.fake.act(f"/accounts/{earner.account}/onboard", status="restricted")
    await earner.run(JOB)
    failed = [attempt.failure for attempt in await earner.attempts()]
    await earner.fake.act(f"/accounts/{earner.account}/onboard")

    await earner.retry(first)
    await earner.reject(second)
    await earner.run(JOB)
    earner.passes(ARRIVED)
    await earner.run(JOB)

    assert failed == ["insufficient_capabilities_for_transfer"] * 2
    ends = [(await earner.withdrawal(one)).status for one in (first, second)]
    assert ends == ["completed", "rejected"]
    assert await earner.has(*WHERE) == [5_000, 0, -96_000]
    assert await violations(earner.sessions) == []


async def test_a_payout_that_was_begun_is_not_rejected_and_not_tried_twice(earner: Earner) -> None:
    asked = await approved(earner)
    await earner.run(JOB)

    for deed in (earner.reject, earner.retry):
        with pytest.raises(PayoutUnderWayError):
            await deed(asked)


async def test_what_is_held_or_rejected_before_stripe_hears_of_it_is_never_begun(earner: Earner) -> None:
    held, rejected = await approved(earner), await approved(earner, 2_000)
    await earner.hold(held)
    await earner.reject(rejected)
    await earner.run(JOB)
    calls = len(earner.fake.calls)
    statuses = {one.withdrawal_id: one.status for one in await earner.attempts()}

    await earner.let_go(held)
    await earner.run(JOB)

    assert statuses == {held: "submitted", rejected: "cancelled"}
    assert len(earner.fake.calls) > calls
    assert await earner.has(*WHERE) == [5_000, 0, -96_000]


STEPS = ("/v1/transfers", "/v1/payouts")


@pytest.mark.parametrize("fault", ["lose_request", "lose_response", "break"])
@pytest.mark.parametrize("waits", [timedelta(minutes=1), FORGOTTEN], ids=["soon", "after the keys are gone"])
async def test_a_call_that_is_lost_is_made_once(earner: Earner, fault: str, waits: timedelta) -> None:
    asked = await approved(earner)
    broken: set[str] = set()

    def break_once(call: Call) -> str:
        if call.method == "POST" and call.path in STEPS and call.path not in broken:
            broken.add(call.path)
            return fault
        return "none"

    earner.fake.fault = break_once  # type: ignore[assignment]  # the words are those of the type
    for _ in range(2 * len(STEPS)):
        try:
            await earner.run(JOB)
        except StripeAwayError:
            earner.passes(waits)
            await earner.end_leases()
    earner.passes(ARRIVED)
    await earner.run(JOB)

    assert broken == set(STEPS)
    assert (await earner.withdrawal(asked)).status == "completed"
    assert (await earner.at_stripe(), await earner.at_stripe(earner.account)) == (96_000, 0)
    assert await earner.has(*WHERE) == [5_000, 0, -96_000]
    assert await violations(earner.sessions) == []


@pytest.mark.parametrize("fault", ["lose_request", "lose_response", "break"])
async def test_money_comes_back_once_though_the_answer_was_lost(earner: Earner, fault: str) -> None:
    """After an answer of 500 what was given back is looked for, and the next try goes under another key."""
    asked = await approved(earner)
    await earner.run(JOB)
    await earner.fail_payout()
    earner.passes(payouts.LOOK_EVERY)
    [attempt] = await earner.attempts()
    broken: list[Call] = []

    def break_once(call: Call) -> str:
        if (
            call.method == "POST"
            and call.path == f"/v1/transfers/{attempt.transfer}/reversals"
            and not broken
        ):
            broken.append(call)
            return fault
        return "none"

    earner.fake.fault = break_once  # type: ignore[assignment]  # the words are those of the type
    with pytest.raises(StripeAwayError):
        await earner.run(JOB)
    await earner.end_leases()
    await earner.run(JOB)

    [attempt] = await earner.attempts()
    assert (attempt.status, attempt.broken) == ("failed", int(fault == "break"))
    assert len([one for one in earner.fake.objects.values() if one["object"] == "transfer_reversal"]) == 1
    assert (await earner.at_stripe(), await earner.at_stripe(earner.account)) == (100_000, 0)
    await earner.reject(asked)
    assert await earner.has(*WHERE) == [9_000, 0, -100_000]
    assert await violations(earner.sessions) == []


async def test_two_workers_send_the_money_once(earner: Earner) -> None:
    await approved(earner)
    [slow] = await earner.claim(JOB)
    await earner.end_leases()
    [fast] = await earner.claim(JOB)

    await asyncio.gather(
        *(payouts.run(earner.sessions, earner.api, claim, now=earner.now) for claim in (slow, fast)),
        return_exceptions=True,
    )

    assert (await earner.at_stripe(), await earner.has(*WHERE)) == (96_000, [5_000, 0, -96_000])
    assert [attempt.status for attempt in await earner.attempts()] == ["submitted"]
    assert await violations(earner.sessions) == []


async def test_an_account_at_stripe_is_made_once(earner: Earner) -> None:
    first = earner.account

    assert await earner.set_stripe() == first

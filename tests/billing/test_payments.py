"""A booking's payment from a wallet: opened, agreed, and ended once, whoever asks how often and how many at once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from billing import holds, ledger, maturity, payment_moves, payments
from billing.errors import (
    AlreadyHeldError,
    IdempotencyMismatchError,
    InsufficientFundsError,
    InvalidAmountError,
    LessonOverError,
    NotByCardError,
    PaymentNotFoundError,
    PaymentStateError,
    RefundTooLargeError,
)
from billing.explanation import explain
from billing.models import AccountKind, Cause, HoldStatus, PaymentMethod, PaymentReason, PaymentState
from billing.payment_moves import Wish
from tests.billing.booker import PRICE, WORDS, Booker, followed
from tests.billing.world import (
    PLANNED_S,
    Sessions,
    balance,
    earnings,
    events,
    fund,
    refusals,
    usd,
    violations,
)

TUTOR, PLATFORM = 3_000, 7_000
PENDING, AUTHORIZED, CAPTURED, VOIDED = "PENDING", "AUTHORIZED", "CAPTURED", "VOIDED"
PART, REFUNDED = "PARTIALLY_REFUNDED", "REFUNDED"


@pytest.fixture
def booker(sessions: Sessions) -> Booker:
    return Booker(sessions)


async def agreed(booker: Booker) -> UUID:
    payment_id = await booker.by_wallet()
    await booker.accept(payment_id)
    return payment_id


async def captured(booker: Booker) -> UUID:
    payment_id = await agreed(booker)
    await booker.ends(payment_id)
    return payment_id


# Opening ------------------------------------------------------------------------------------------------------------


async def test_a_request_holds_the_money_at_once(booker: Booker) -> None:
    payment_id = await booker.by_wallet()

    assert await booker.way(payment_id) == [PENDING]
    assert await booker.balances() == {"escrow": PRICE}
    assert await events(booker.sessions) == ["wallet.changed", "hold.placed", "wallet.changed"]
    await booker.checked()


async def test_a_booking_is_opened_once(booker: Booker) -> None:
    await fund(booker.sessions, booker.student, 2 * PRICE)
    booking = booker.booking()

    ids = await asyncio.gather(*(booker.open(booking) for _ in range(5)))

    assert set(ids) == {booking.id}
    assert await balance(booker.sessions, booker.student) == PRICE
    for other in (
        msgspec.structs.replace(booking, money=usd(1)),
        msgspec.structs.replace(booking, tutor_bps=1),
        msgspec.structs.replace(booking, lesson_id=uuid4()),
    ):
        with pytest.raises(IdempotencyMismatchError):
            await booker.open(other)
    with pytest.raises(IdempotencyMismatchError):
        await booker.open(booking, method=PaymentMethod.CARD)


async def test_nothing_is_opened_without_money_or_for_a_lesson_that_is_over(booker: Booker) -> None:
    booking = booker.booking()
    with pytest.raises(InsufficientFundsError) as refused:
        await booker.open(booking)
    with pytest.raises(InvalidAmountError):
        await booker.open(msgspec.structs.replace(booking, money=usd(0)))
    assert refused.value.shortfall == usd(PRICE)
    over = await captured(booker)
    lesson_id = (await booker.row(over)).lesson_id
    await fund(booker.sessions, booker.student, PRICE)

    for method in PaymentMethod:
        late = msgspec.structs.replace(booker.booking(), lesson_id=lesson_id)
        with pytest.raises(LessonOverError):
            await booker.open(late, method=method)
    await fund(booker.sessions, booker.student, 2 * PRICE)
    booked = booker.booking()
    await booker.open(booked)
    with pytest.raises(AlreadyHeldError):
        await booker.open(msgspec.structs.replace(booked, id=uuid4()))
    with pytest.raises(PaymentNotFoundError):
        await booker.row(booking.id)
    with pytest.raises(PaymentNotFoundError):
        await booker.accept(booking.id)


# Agreeing and ending ------------------------------------------------------------------------------------------------


async def test_accepting_twice_is_harmless(booker: Booker) -> None:
    payment_id = await agreed(booker)

    await booker.accept(payment_id)

    row = await booker.row(payment_id)
    assert (row.authorized, row.captured, row.refunded) == (PRICE, 0, 0)
    assert await booker.way(payment_id) == [PENDING, AUTHORIZED]
    assert (await events(booker.sessions)).count("payment.authorized") == 1


# Seconds of student and tutor → how it ends, and what of it goes to tutor, platform and student.
MATRIX: list[tuple[int, int, PaymentReason, list[str], tuple[int, int, int]]] = [
    (PLANNED_S, PLANNED_S, PaymentReason.COMPLETED, [CAPTURED], (TUTOR, PLATFORM, 0)),
    # Twenty percent are nothing to a booking: a second is there.
    (1, 1, PaymentReason.COMPLETED, [CAPTURED], (TUTOR, PLATFORM, 0)),
    (0, PLANNED_S, PaymentReason.NO_SHOW_STUDENT, [CAPTURED], (TUTOR, PLATFORM, 0)),
    (PLANNED_S, 0, PaymentReason.NO_SHOW_TUTOR, [CAPTURED, REFUNDED], (0, 0, PRICE)),
    (0, 0, PaymentReason.NOT_HELD, [VOIDED], (0, 0, PRICE)),
]


async def test_who_came_ends_the_payment_with_the_lesson(booker: Booker) -> None:
    for student_s, tutor_s, reason, end, parts in MATRIX:
        payment_id = await agreed(booker)

        await booker.ends(payment_id, student_s=student_s, tutor_s=tutor_s)
        await booker.ends(payment_id, student_s=student_s, tutor_s=tutor_s)

        row = await booker.row(payment_id)
        assert await booker.way(payment_id) == [PENDING, AUTHORIZED, *end]
        assert row.verdict_reason == reason
        assert (row.captured, row.refunded) == (PRICE * (CAPTURED in end), PRICE * (REFUNDED in end))
        view = await booker.view(payment_id)
        assert (view.tutor_share.amount, view.platform_share.amount, view.refunded.amount) == parts
        assert view.cause is Cause.OUTCOME
    told = [name for name in await events(booker.sessions) if name.startswith("payment.")]
    assert told == [f"payment.{state.lower()}" for _, _, _, end, _ in MATRIX for state in (AUTHORIZED, *end)]
    await booker.checked()


async def test_the_split_is_explained_by_who_came(booker: Booker) -> None:
    said = set()
    for student_s, tutor_s in ((1, 1), (0, 1), (1, 0), (0, 0)):
        payment_id = await agreed(booker)
        await booker.ends(payment_id, student_s=student_s, tutor_s=tutor_s)
        view = await booker.view(payment_id)
        said |= {explain(view), explain(view, "vi")}

    assert len(said) == 8
    assert any("the tutor did not come. So 100.00 USD went back to the student." in words for words in said)


async def test_a_lesson_that_was_cancelled_lets_the_payment_go(booker: Booker) -> None:
    payment_id = await agreed(booker)

    await booker.ends(payment_id, cancelled=True)

    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, VOIDED]
    assert await booker.balances() == {"wallet": PRICE}
    await booker.checked()


async def test_who_came_had_agreed(booker: Booker) -> None:
    """Nobody pressed a button, and both came: the history has no gap all the same."""
    payment_id, nobody = await booker.by_wallet(), await booker.by_wallet()

    await booker.ends(payment_id)
    await booker.ends(nobody, student_s=0, tutor_s=0)

    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, CAPTURED]
    assert await booker.way(nobody) == [PENDING, VOIDED]
    await booker.checked()


async def test_what_is_let_go_is_back_whole_and_once(booker: Booker) -> None:
    for agreement in ([], [AUTHORIZED]):
        payment_id = await (agreed(booker) if agreement else booker.by_wallet())

        await booker.void(payment_id)
        await booker.void(payment_id, PaymentReason.DECLINED)
        await booker.ends(payment_id)

        row = await booker.row(payment_id)
        assert (row.verdict_reason, row.captured) == (PaymentReason.TUTOR_CANCEL, 0)
        assert await booker.way(payment_id) == [PENDING, *agreement, VOIDED]
    assert await booker.balances() == {"wallet": 2 * PRICE}
    await booker.checked()


async def test_who_cancels_late_pays_and_the_lesson_that_ends_changes_nothing(booker: Booker) -> None:
    payment_id = await agreed(booker)

    await booker.capture(payment_id)
    await booker.capture(payment_id)
    await booker.ends(payment_id, student_s=0, tutor_s=0)

    view = await booker.view(payment_id)
    assert view.cause is Cause.FORFEITED
    assert "cancelled too late" in explain(view)
    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, CAPTURED]
    assert await booker.balances() == {"earnings_pending": TUTOR, "platform_revenue": PLATFORM}
    await booker.checked()


async def test_a_tutor_reported_absent_is_captured_and_refunded_in_one(booker: Booker) -> None:
    payment_id = await agreed(booker)

    await booker.return_whole(payment_id)
    await booker.return_whole(payment_id)

    row = await booker.row(payment_id)
    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, CAPTURED, REFUNDED]
    assert (row.captured, row.refunded) == (PRICE, PRICE)
    assert await balance(booker.sessions, booker.student) == PRICE
    await booker.checked()


async def test_an_end_is_an_end(booker: Booker) -> None:
    acts: dict[str, Callable[[UUID], Awaitable[object]]] = {
        "accept": booker.accept,
        "capture": booker.capture,
        "void": booker.void,
        "return": booker.return_whole,
        "refund": booker.refund,
    }
    voided, returned, paid = await booker.by_wallet(), await agreed(booker), await captured(booker)
    # What is not agreed cannot be captured.
    for name in ("capture", "return", "refund"):
        with pytest.raises(PaymentStateError):
            await acts[name](voided)
    await booker.void(voided)
    await booker.return_whole(returned)
    refused = []

    for name, act in acts.items():
        for payment_id in (voided, returned, paid):
            try:
                await act(payment_id)
            except PaymentStateError as error:
                refused.append((name, error.state))

    assert sorted(refused) == sorted(
        [
            ("accept", VOIDED),
            ("capture", VOIDED),
            ("capture", REFUNDED),
            ("void", REFUNDED),
            ("void", CAPTURED),
            ("return", VOIDED),
            ("return", CAPTURED),
            ("refund", VOIDED),
            ("refund", REFUNDED),
        ]
    )
    await booker.checked()


async def test_an_administrator_says_why(booker: Booker) -> None:
    payment_id = await agreed(booker)
    told: dict[str, Any] = {"actor": "admin:1", "words": "no", "now": booker.now}
    codes = await refusals(
        booker.sessions,
        partial(payments.void, payment_id=payment_id, reason=PaymentReason.CANCELLED, **told),
        partial(payments.capture, payment_id=payment_id, reason=PaymentReason.STUDENT_CANCEL_LATE, **told),
        partial(payments.return_whole, payment_id=payment_id, **told),
    )
    async with booker.sessions.begin() as session:
        await payments.void(
            session, payment_id, reason=PaymentReason.CANCELLED, actor="admin:1", words=WORDS, now=booker.now
        )

    view = await booker.view(payment_id)
    assert codes == ["reason_too_short"] * 3
    assert (view.settled_by, view.cause, view.reason) == ("admin", Cause.ADMIN, WORDS)


async def test_a_lesson_may_be_moved_until_it_is_decided(booker: Booker) -> None:
    payment_id = await agreed(booker)
    later = booker.now + timedelta(days=3)

    async with booker.sessions.begin() as session:
        await payments.move(session, payment_id, starts_at=later, now=booker.now)

    assert (await booker.row(payment_id)).starts_at == later
    await booker.void(payment_id)
    async with booker.sessions() as session:
        with pytest.raises(PaymentStateError):
            await payments.move(session, payment_id, starts_at=booker.now, now=booker.now)


# Refunds ------------------------------------------------------------------------------------------------------------


async def test_a_part_goes_back_and_then_the_rest(booker: Booker) -> None:
    payment_id = await captured(booker)

    await booker.refund(payment_id, 3_333, key="a")
    await booker.refund(payment_id, 1, key="b")
    part = await booker.row(payment_id)
    rest = await booker.refund(payment_id, key="c")

    assert (part.state, part.refunded, rest.amount) == (PART, 3_334, PRICE - 3_334)
    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, CAPTURED, PART, REFUNDED]
    assert await booker.balances() == {"wallet": PRICE}
    assert (await events(booker.sessions)).count("payment.refunded") == 3
    await booker.checked()


async def test_the_same_refund_is_given_once(booker: Booker) -> None:
    payment_id = await captured(booker)
    first = await booker.refund(payment_id, 100)

    again = await booker.refund(payment_id, 100)

    assert again.id == first.id
    assert await balance(booker.sessions, booker.student) == 100
    for amount, reason in (
        (99, PaymentReason.GOODWILL),
        (None, PaymentReason.GOODWILL),
        (100, PaymentReason.OTHER),
    ):
        with pytest.raises(IdempotencyMismatchError):
            await booker.refund(payment_id, amount, reason=reason)


async def test_no_more_is_refunded_than_was_captured(booker: Booker) -> None:
    payment_id = await captured(booker)
    await booker.refund(payment_id, PRICE - 1)

    with pytest.raises(RefundTooLargeError) as refused:
        await booker.refund(payment_id, 2, key="more")
    with pytest.raises(NotByCardError):
        await booker.refund(payment_id, 1, key="card", to_card=True)
    wish = Wish(amount=usd(1), reason=PaymentReason.GOODWILL, words=WORDS, key="k2")
    wishes = (
        msgspec.structs.replace(wish, amount=usd(2)),
        msgspec.structs.replace(wish, amount=usd(0)),
        msgspec.structs.replace(wish, key=""),
        msgspec.structs.replace(wish, words="no"),
    )
    codes = await refusals(
        booker.sessions,
        *(
            partial(payments.refund, payment_id=payment_id, wish=one, actor="admin:1", now=booker.now)
            for one in wishes
        ),
    )
    await booker.refund(payment_id, 1, key="last")

    assert codes == ["refund_too_large", "invalid_amount", "invalid_idempotency_key", "reason_too_short"]
    assert refused.value.rest == usd(1)
    assert await booker.state(payment_id) is PaymentState.REFUNDED
    await booker.checked()


async def test_a_payment_follows_whoever_gives_its_hold_back(booker: Booker) -> None:
    """Somebody refunds past the payment: it catches up, and the check has seen it meanwhile."""
    held = await agreed(booker)
    async with booker.sessions.begin() as session:
        await holds.refund(
            session,
            [await booker.hold(held)],
            cause=Cause.ADMIN,
            actor="admin:1",
            reason=WORDS,
            key="k",
            now=booker.now,
        )
    seen = await violations(booker.sessions)

    await booker.ends(held)
    async with booker.sessions.begin() as session:
        await followed(session, held, booker.now)

    assert seen == ["payment_follows_hold"]
    assert await booker.way(held) == [PENDING, AUTHORIZED, VOIDED]
    await booker.checked()


# Late evidence ------------------------------------------------------------------------------------------------------


async def test_late_evidence_that_the_tutor_never_came_refunds_within_the_risk_window(booker: Booker) -> None:
    payment_id = await captured(booker)

    heard = await booker.hears_late(payment_id, student_s=PLANNED_S, tutor_s=0)

    assert heard.adjusted == (await booker.hold(payment_id),)
    assert await booker.way(payment_id) == [PENDING, AUTHORIZED, CAPTURED, REFUNDED]
    assert await booker.balances() == {"wallet": PRICE}
    await booker.checked()


async def test_late_evidence_for_the_tutor_is_for_people(booker: Booker) -> None:
    """What is back stays back: no arrow leads out of an end."""
    voided, returned = await agreed(booker), await agreed(booker)
    await booker.ends(voided, student_s=0, tutor_s=0)
    await booker.ends(returned, tutor_s=0)

    heard = [await booker.hears_late(one, student_s=1, tutor_s=1) for one in (voided, returned)]

    assert [one.to_review for one in heard] == [(await booker.hold(one),) for one in (voided, returned)]
    assert await booker.way(voided) == [PENDING, AUTHORIZED, VOIDED]
    assert await booker.balances() == {"wallet": 2 * PRICE}
    await booker.checked()


async def test_what_people_refunded_is_not_judged_again(booker: Booker) -> None:
    payment_id = await captured(booker)
    await booker.refund(payment_id, 1_000)

    heard = await booker.hears_late(payment_id, student_s=PLANNED_S, tutor_s=0)

    assert (heard.adjusted, heard.to_review) == ((), ())
    assert await booker.state(payment_id) is PaymentState.PARTIALLY_REFUNDED
    await booker.checked()


async def test_the_tutors_share_matures_as_ever(booker: Booker) -> None:
    payment_id = await captured(booker)
    booker.passes(timedelta(days=7))

    async with booker.sessions.begin() as session:
        await maturity.mature(session, await booker.hold(payment_id), now=booker.now)

    assert await earnings(booker.sessions, booker.tutor) == TUTOR
    await booker.checked()


# Races: many connections at once, one wins --------------------------------------------------------------------------


async def outcomes(*acts: Awaitable[object]) -> list[str]:
    found = await asyncio.gather(*acts, return_exceptions=True)
    return ["done" if not isinstance(one, BaseException) else type(one).__name__ for one in found]


async def test_of_two_ends_at_once_one_wins(booker: Booker) -> None:
    for other in (booker.capture, booker.ends) * 3:
        payment_id = await agreed(booker)

        found = await outcomes(other(payment_id), booker.void(payment_id))

        end = (await booker.way(payment_id))[2:]
        # A lesson that ends after a cancellation finds nothing to do.
        assert found[0] == "done" if other == booker.ends else found.count("done") == 1
        assert end == ([VOIDED] if found[1] == "done" else [CAPTURED])
    await booker.checked()


async def test_accepting_many_times_at_once_and_declining_is_at_most_one_step_each(booker: Booker) -> None:
    for _ in range(3):
        payment_id = await booker.by_wallet()

        found = await outcomes(
            *(booker.accept(payment_id) for _ in range(4)), booker.void(payment_id, PaymentReason.DECLINED)
        )

        # Accepted first, it may still be let go; let go first, it cannot be accepted.
        assert found[-1] == "done"
        assert set(found[:-1]) <= {"done", "PaymentStateError"}
        assert await booker.way(payment_id) in ([PENDING, AUTHORIZED, VOIDED], [PENDING, VOIDED])
    await booker.checked()


async def test_refunds_at_once_never_pass_the_whole(booker: Booker) -> None:
    rest, parts, one = [await captured(booker) for _ in range(3)]

    rests = await outcomes(*(booker.refund(rest, key=key) for key in "abcd"))
    halves = await outcomes(*(booker.refund(parts, 4_000, key=key) for key in "abcd"))
    same = await asyncio.gather(*(booker.refund(one, 1_000) for _ in range(4)))

    assert sorted(rests) == [*["PaymentStateError"] * 3, "done"]
    assert sorted(halves) == [*["RefundTooLargeError"] * 2, "done", "done"]
    assert len({made.id for made in same}) == 1
    assert await balance(booker.sessions, booker.student) == PRICE + 8_000 + 1_000
    await booker.checked()


# What the database refuses, whoever writes --------------------------------------------------------------------------


async def test_nobody_rewrites_a_payment(booker: Booker) -> None:
    payment_id = await captured(booker)
    await booker.refund(payment_id, 1_000)
    refused = (
        ("state = 'CAPTURED', refunded = 1000", "ck_payment_amounts_fit_state"),
        ("state = 'REFUNDED', refunded = captured", "fk_payment_id_seq_state"),
        ("refunded = captured + 1", "ck_payment_amounts"),
        ("state = 'PENDING', seq = 1", "never changes"),
        ("refunded = 999", "never changes"),
        ("amount = 1", "never changes"),
        ("verdict = 'void'", "never changes"),
        ("hold_id = null", "never changes"),
    )

    for change, name in refused:
        async with booker.sessions() as session:
            with pytest.raises(DBAPIError, match=name):
                await session.execute(text(f"update payment set {change}"))


async def test_a_hold_for_a_lesson_that_is_over_is_settled_at_once_or_not_placed(booker: Booker) -> None:
    """The one way around the closed door is checked when the transaction ends."""
    payment_id = await captured(booker)
    hold = """
        insert into hold (id, student_id, tutor_id, lesson_id, source_kind, source_id, slice_no, amount, currency,
          tutor_bps, attribution, policy_version, wallet_account, escrow_account, placed_at, place_journal)
        select gen_random_uuid(), student_id, tutor_id, lesson_id, source_kind, :id, 1, amount, currency, tutor_bps,
          attribution, policy_version, wallet_account, escrow_account, placed_at, place_journal from hold
    """
    other = str(uuid4())
    async with booker.sessions() as session:
        with pytest.raises(DBAPIError, match="LESSON_OVER"):
            await session.execute(text(hold), {"id": other})
    async with booker.sessions() as session:
        await session.execute(text("select set_config('billing.settling', :id, true)"), {"id": other})
        await session.execute(text(hold), {"id": other})
        with pytest.raises(DBAPIError, match="LESSON_OVER"):
            await session.commit()

    async with booker.sessions() as session:
        assert await session.scalar(text("select count(*) from hold")) == 1
        status = await session.scalar(text("select status from hold"))
    assert (status, await booker.state(payment_id)) == (HoldStatus.RELEASED, PaymentState.CAPTURED)


async def test_money_of_a_payment_goes_through_these_accounts(booker: Booker) -> None:
    """A share is frozen by its hold, so before there is one nothing of it can be."""
    payment_id = await booker.by_wallet()
    held = await booker.row(payment_id)
    hold_id = held.hold_id
    student = {(AccountKind.WALLET, held.student_id), (AccountKind.CARD_REFUND, held.student_id)}
    tutor = {
        (kind, held.tutor_id)
        for kind in (AccountKind.EARNINGS_PENDING, AccountKind.EARNINGS, AccountKind.TUTOR_DEBT)
    }
    ours = ledger.revenue(held.lesson_id, held.currency)
    every = student | tutor | {(AccountKind.ESCROW, held.lesson_id), (ours.kind, ours.owner_id)}

    held.hold_id = None
    assert {(key.kind, key.owner_id) for key in payment_moves.accounts_of(held)} == every
    held.hold_id = hold_id
    assert {(key.kind, key.owner_id) for key in payment_moves.accounts_of(held)} == every | {
        (AccountKind.FROZEN, hold_id)
    }

"""Bookings and packages whose lessons are held in rooms, to the last cent, by the functions of billing alone.

The same stories over HTTP and sockets are told in tests/journeys/test_bookings.py.
"""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from billing import disputes, hold_views
from billing.disputes import Claim
from billing.errors import NothingToDisputeError, PaymentStateError
from billing.explanation import explain
from billing.models import Cause, Dispute, DisputeReason, HoldId, OwnerId, PaymentReason
from rooms import messages as m, receipts
from rooms.messages import Identity
from tests.billing.booker import PRICE, WORDS, Booker
from tests.billing.seller import Seller
from tests.billing.world import Sessions, balance, fund, usd, violations
from tests.rooms.kit import ANN, HOST, MINUTE, T0, Clock, create, lesson, registry, socket

STARTS = T0 + 60 * MINUTE
KEY = receipts.signing_key("a secret of at least 32 characters")
STUDENT, TUTOR = OwnerId(UUID(ANN)), OwnerId(UUID(HOST))
TUTORS, OURS = 3_000, 7_000
AGREED = ["PENDING", "AUTHORIZED"]


@pytest.fixture
def clock() -> Clock:
    return Clock(T0)


@pytest.fixture
def booker(sessions: Sessions) -> Booker:
    booker = Booker(sessions)
    booker.student, booker.tutor, booker.now = STUDENT, TUTOR, T0
    return booker


async def book(booker: Booker, clock: Clock) -> UUID:
    """Have the student ask for a lesson that has a room, and the tutor agree; return the payment."""
    room_id = await create(booker.sessions, lesson(), clock)
    await fund(booker.sessions, booker.student, PRICE)
    booking = msgspec.structs.replace(booker.booking(), lesson_id=room_id, starts_at=STARTS)
    payment_id = await booker.open(booking)
    await booker.accept(payment_id)
    return payment_id


async def give_lesson(sessions: Sessions, clock: Clock, room_id: UUID, *people: Identity) -> None:
    """Let the hour of a lesson pass, with these people in its room from the first minute to the last."""
    async with registry(sessions, clock) as rooms:
        clock.move_to(STARTS)
        for who in people:
            role: m.Role = "tutor" if who == HOST else "student"
            await rooms.ask(room_id, m.Join(who, "Name", role, socket(f"{who}/1")))
        clock.move_to(STARTS + 60 * MINUTE)
        await rooms.run_due(STARTS + 70 * MINUTE)
    clock.move_to(STARTS + 70 * MINUTE)


async def proven(sessions: Sessions, hold_id: HoldId) -> tuple[list[tuple[Cause, int, int, int]], str]:
    """Return the rulings of a hold as its receipt proves them, and how it is explained."""
    async with sessions() as session:
        file = msgspec.json.encode(receipts.sign(await receipts.build(session, hold_id), KEY))
        view = await hold_views.view(session, hold_id)
    rulings = receipts.verify(file, pinned=receipts.public_key(KEY)).receipt.rulings
    middle = len(file) // 2
    with pytest.raises(receipts.ReceiptError):
        receipts.verify(file[:middle] + bytes([file[middle] ^ 1]) + file[middle + 1 :])
    return [(one.cause, one.to_tutor, one.to_platform, one.to_student) for one in rulings], explain(view)


def sells(sessions: Sessions) -> Seller:
    seller = Seller(sessions)
    seller.student, seller.tutor, seller.now = STUDENT, TUTOR, T0
    return seller


async def dispute(booker: Booker, payment_id: UUID) -> Dispute:
    claim = Claim(
        reason=DisputeReason.TECHNICAL_ISSUES, words="My line was cut off.", student_id=booker.student
    )
    async with booker.sessions.begin() as session:
        return await disputes.begin(session, await booker.hold(payment_id), claim, now=booker.now)


async def test_tutor_who_does_not_come_gets_nothing_and_nothing_is_left_to_dispute(
    booker: Booker, clock: Clock
) -> None:
    """Story 9, its first half."""
    payment_id = await book(booker, clock)

    await give_lesson(booker.sessions, clock, (await booker.row(payment_id)).lesson_id, ANN)

    assert await booker.way(payment_id) == [*AGREED, "CAPTURED", "REFUNDED"]
    assert (await booker.row(payment_id)).verdict_reason == PaymentReason.NO_SHOW_TUTOR
    assert await booker.balances() == {"wallet": PRICE}
    rulings, words = await proven(booker.sessions, await booker.hold(payment_id))
    assert rulings == [(Cause.OUTCOME, 0, 0, PRICE)]
    assert "the tutor did not come. So 100.00 USD went back to the student." in words
    with pytest.raises(NothingToDisputeError):
        await dispute(booker, payment_id)
    await booker.checked()


async def test_student_who_does_not_come_pays_disputes_and_gets_half_back_and_then_the_rest(
    booker: Booker, clock: Clock
) -> None:
    """Story 9, its second half."""
    payment_id = await book(booker, clock)
    await give_lesson(booker.sessions, clock, (await booker.row(payment_id)).lesson_id, HOST)
    booker.now, hold_id = clock.now(), await booker.hold(payment_id)
    assert (await booker.row(payment_id)).verdict_reason == PaymentReason.NO_SHOW_STUDENT
    paid = (Cause.OUTCOME, TUTORS, OURS, 0)
    rulings, words = await proven(booker.sessions, hold_id)
    assert rulings == [paid]
    assert "the student did not come. So it was: 30.00 USD to the tutor" in words

    opened = await dispute(booker, payment_id)
    disputed = await booker.balances()
    async with booker.sessions.begin() as session:
        await disputes.refund(
            session, opened.id, usd(PRICE // 2), admin_id=UUID(int=1), notes=WORDS, now=booker.now
        )
    half, half_proven = await booker.row(payment_id), await proven(booker.sessions, hold_id)
    await booker.refund(payment_id)

    assert disputed == {"frozen": TUTORS, "platform_revenue": OURS}
    assert (half.state, half.refunded) == ("PARTIALLY_REFUNDED", PRICE // 2)
    halved = (Cause.DISPUTE, TUTORS // 2, OURS // 2, PRICE // 2)
    assert half_proven[0] == [paid, halved]
    assert await booker.way(payment_id) == [*AGREED, "CAPTURED", "PARTIALLY_REFUNDED", "REFUNDED"]
    assert await booker.balances() == {"wallet": PRICE}
    rulings, words = await proven(booker.sessions, hold_id)
    assert rulings == [paid, halved, (Cause.REFUND, 0, 0, PRICE)]
    assert "The decision of a dispute changed this" in words
    assert "A refund changed this" in words
    await booker.checked()


async def test_request_that_nobody_answers_for_a_day_leaves_the_money_free(booker: Booker) -> None:
    """Story 10, whatever it was to be paid with."""
    by_wallet, by_card = await booker.by_wallet(), await booker.by_card()
    bound = await booker.balances()
    booker.passes(timedelta(hours=24))

    for payment_id in (by_wallet, by_card):
        await booker.void(payment_id, PaymentReason.EXPIRED)
    await booker.run()

    assert bound == {"escrow": PRICE}
    assert await booker.balances() == {"wallet": PRICE}
    assert [one["status"] for one in booker.at_stripe()] == ["canceled"]
    rulings, words = await proven(booker.sessions, await booker.hold(by_wallet))
    assert rulings == [(Cause.CANCELLED, 0, 0, PRICE)]
    assert "100.00 USD went back to the student" in words
    for payment_id in (by_wallet, by_card):
        assert await booker.way(payment_id) == ["PENDING", "VOIDED"]
        assert (await booker.row(payment_id)).verdict_reason == PaymentReason.EXPIRED
        with pytest.raises(PaymentStateError):
            await booker.accept(payment_id)
    await booker.checked()


async def test_package_of_five_of_which_one_is_used_gives_the_rest_back(
    sessions: Sessions, clock: Clock
) -> None:
    """Story 11."""
    seller = sells(sessions)
    package_id = await seller.sell(lessons=5, price=10_001)
    room_id = await create(sessions, lesson(), clock)
    used = await seller.use(package_id, room_id)
    await give_lesson(sessions, clock, room_id, HOST, ANN)
    seller.now = clock.now()

    await seller.refund(package_id)

    assert await seller.counts(package_id) == ("refunded", 5, 1, 4)
    slices = [HoldId(hold.id) for hold in await seller.slices(package_id)]
    assert slices[0] == used
    proofs = [await proven(sessions, hold_id) for hold_id in slices]
    assert [rulings for rulings, _ in proofs] == [
        [(Cause.OUTCOME, 1_600, 400, 0)],
        *[[(Cause.CANCELLED, 0, 0, amount)] for amount in (2_000, 2_000, 2_000, 2_001)],
    ]
    assert "Both came" in proofs[0][1]
    assert await violations(sessions) == []


async def test_student_who_does_not_come_pays_with_the_lesson_of_their_package(
    sessions: Sessions, clock: Clock
) -> None:
    """Story 9, paid from a package: who stays away gets no money back."""
    seller = sells(sessions)
    package_id, room_id = await seller.sell(lessons=1, price=PRICE), await create(sessions, lesson(), clock)
    hold_id = await seller.use(package_id, room_id)

    await give_lesson(sessions, clock, room_id, HOST)

    rulings, words = await proven(sessions, hold_id)
    assert rulings == [(Cause.OUTCOME, 8_000, 2_000, 0)]
    assert "the student did not come. So it was: 80.00 USD to the tutor" in words
    assert await seller.counts(package_id) == ("exhausted", 1, 1, 0)
    assert (await seller.pending(), await balance(sessions, STUDENT)) == (8_000, 0)
    assert await violations(sessions) == []


async def test_lesson_to_which_no_tutor_comes_is_back_in_its_package(
    sessions: Sessions, clock: Clock
) -> None:
    seller = sells(sessions)
    package_id, room_id = await seller.sell(lessons=1, price=PRICE), await create(sessions, lesson(), clock)
    hold_id = await seller.use(package_id, room_id)

    await give_lesson(sessions, clock, room_id, ANN)

    assert await seller.counts(package_id) == ("active", 1, 0, 1)
    assert (await seller.view(hold_id)).lesson_id is None
    assert (await seller.pending(), await balance(sessions, STUDENT)) == (0, 0)
    assert await violations(sessions) == []


async def test_lesson_of_a_package_that_is_cancelled_too_late_is_proven_without_evidence(
    sessions: Sessions, clock: Clock
) -> None:
    seller = sells(sessions)
    package_id, room_id = await seller.sell(lessons=1, price=PRICE), await create(sessions, lesson(), clock)
    hold_id = await seller.use(package_id, room_id)

    await seller.forfeit(package_id, room_id)
    await give_lesson(sessions, clock, room_id)

    rulings, words = await proven(sessions, hold_id)
    assert rulings == [(Cause.FORFEITED, 8_000, 2_000, 0)]
    assert "The student cancelled the lesson too late" in words
    assert await violations(sessions) == []

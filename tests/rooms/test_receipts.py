"""Receipts prove a settlement to who has nothing but the file, and refuse whatever differs."""

import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import holds
from billing.models import Cause, Hold, OwnerId, SourceKind
from billing.policy import Changes
from rooms import finish, journal, messages as m, receipts
from rooms.errors import NotSettledError
from rooms.messages import Identity
from rooms.receipts import Receipt, ReceiptError, Ruling
from tests.billing.seller import Seller, enact
from tests.billing.world import NOW, buy, fund, new_hold, violations
from tests.rooms.kit import ANN, BEN, HOST, MINUTE, T0, Clock, create, lesson, registry, socket

Sessions = async_sessionmaker[AsyncSession]
STARTS = T0 + 60 * MINUTE
KEY = receipts.signing_key("a secret of at least 32 characters")
OTHER_KEY = receipts.signing_key("another secret of 32 characters!!")
PRICE = 3_333


@pytest.fixture
def clock() -> Clock:
    return Clock(STARTS)


class Settled(msgspec.Struct, frozen=True):
    """Holds of a lesson of 60 minutes: Ann was there for 40, Ben for 5."""

    room_id: UUID
    ann: UUID
    ben: UUID


@pytest.fixture
async def settled(sessions: Sessions, clock: Clock) -> AsyncIterator[Settled]:
    terms = await enact(sessions, Changes(course_risk_days=7), at=T0)
    room_id = await create(sessions, lesson(evidence="socket"), clock)
    bought = {}
    for who in (ANN, BEN):
        student = OwnerId(UUID(who))
        await fund(sessions, student, PRICE)
        wanted = new_hold(
            PRICE, lesson_id=room_id, tutor_id=OwnerId(UUID(HOST)), policy_version=terms.version
        )
        [bought[who]] = await buy(sessions, student, wanted)
    async with registry(sessions, clock) as rooms:
        for who in (HOST, ANN, BEN):
            await rooms.ask(room_id, join(who))
        clock.move_to(STARTS + 5 * MINUTE)
        await rooms.ask(room_id, m.Leave(BEN))
        clock.move_to(STARTS + 40 * MINUTE)
        await rooms.ask(room_id, m.Leave(ANN))
        clock.move_to(STARTS + 60 * MINUTE)
        await rooms.ask(room_id, m.EndLesson(HOST))
        await rooms.run_due(STARTS + 62 * MINUTE)
        await rooms._quiet(rooms._actors[room_id])
        yield Settled(room_id, bought[ANN], bought[BEN])


def join(who: Identity) -> m.Join:
    return m.Join(who, "Name", "tutor" if who == HOST else "student", socket(f"{who}/1"))


async def receipt_of(sessions: Sessions, hold_id: UUID) -> Receipt:
    async with sessions() as session:
        return await receipts.build(session, hold_id)


def written(receipt: Receipt) -> bytes:
    return msgspec.json.encode(receipts.sign(receipt, KEY))


def changed(ruling: Ruling, **fields: object) -> Ruling:
    return msgspec.structs.replace(ruling, **fields)


async def test_a_receipt_proves_who_was_there_and_where_the_money_went(
    sessions: Sessions, settled: Settled
) -> None:
    released = receipts.verify(
        written(await receipt_of(sessions, settled.ann)), pinned=receipts.public_key(KEY)
    )
    refunded = receipts.verify(written(await receipt_of(sessions, settled.ben)))

    assert (released.is_pinned, refunded.is_pinned) == (True, False)
    assert (released.newest.to_tutor, released.newest.to_platform, released.newest.to_student) == (
        999,
        2_334,
        0,
    )
    assert released.newest.measured is not None
    # Real time passes beside the clock that is moved.
    assert 2_370 <= released.newest.measured.attended_s <= 2_400
    assert (refunded.newest.to_student, refunded.newest.cause) == (PRICE, Cause.ATTENDANCE)


async def test_a_receipt_names_nobody_but_its_two_parties(sessions: Sessions, settled: Settled) -> None:
    data = written(await receipt_of(sessions, settled.ann))

    assert str(ANN).encode() in data
    assert str(HOST).encode() in data
    assert str(BEN).encode() not in data


async def test_no_byte_of_a_receipt_can_differ(sessions: Sessions, settled: Settled) -> None:
    data = written(await receipt_of(sessions, settled.ann))

    survivors = [
        (place, bit) for place in range(len(data)) for bit in (1, 32) if is_proven(flipped(data, place, bit))
    ]

    assert survivors == []
    assert not any(is_proven(other) for other in (data + b"\n", b" " + data, data[:-1], b"", b"[]", b"\xff"))


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


def is_proven(data: bytes) -> bool:
    try:
        receipts.verify(data)
    except ReceiptError:
        return False
    return True


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_bytes_that_are_no_receipt_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(ReceiptError, match="proves nothing"):
        receipts.verify(data)


async def test_even_our_own_signature_does_not_make_a_wrong_sum_right(
    sessions: Sessions, settled: Settled
) -> None:
    good = await receipt_of(sessions, settled.ann)
    [ruling] = good.rulings
    assert good.window is not None
    assert ruling.measured is not None
    replace = msgspec.structs.replace
    lies = {
        "the division": [
            replace(good, rulings=(changed(ruling, to_tutor=1_000, to_platform=2_333),)),
            replace(good, rulings=(changed(ruling, to_tutor=0, to_platform=0, to_student=PRICE),)),
            replace(good, tutor_bps=7_000),
        ],
        "the attendance": [
            replace(good, evidence=good.evidence[:-1]),
            replace(good, evidence=()),
            replace(good, window=replace(good.window, ends_at=good.window.ends_at + 60 * MINUTE)),
            replace(good, rulings=(changed(ruling, measured=replace(ruling.measured, attended_s=3_600)),)),
        ],
        "the cause": [replace(good, rulings=(changed(ruling, cause=Cause.TUTOR_ABSENT),))],
        "without a window": [replace(good, window=None)],
        "shows none": [replace(good, rulings=(changed(ruling, measured=None),))],
        "numbered": [replace(good, rulings=()), replace(good, rulings=(changed(ruling, number=1),))],
        "given back whole": [replace(good, rulings=(changed(ruling, cause=Cause.CANCELLED, measured=None),))],
        "more is given back": [
            replace(
                good,
                rulings=(changed(ruling, cause=Cause.ADMIN, measured=None, to_student=PRICE + 1),),
            )
        ],
        "price or the split": [replace(good, amount=0), replace(good, tutor_bps=10_001)],
        "version 3": [replace(good, version=3)],
    }
    for why, receipts_ in lies.items():
        for lie in receipts_:
            with pytest.raises(ReceiptError, match=why):
                receipts.verify(written(lie))


async def test_a_key_that_is_named_must_be_the_one_that_signed(sessions: Sessions, settled: Settled) -> None:
    signed = receipts.sign(await receipt_of(sessions, settled.ann), OTHER_KEY)
    borrowed = msgspec.structs.replace(signed, key=receipts.public_key(KEY))
    short = msgspec.structs.replace(signed, key=base64.b64encode(b"short").decode())
    loose = msgspec.structs.replace(signed, signature=signed.signature[:-3] + "B==")

    with pytest.raises(ReceiptError, match="another key"):
        receipts.verify(msgspec.json.encode(signed), pinned=receipts.public_key(KEY))
    for forged, why in ((borrowed, "signature"), (short, "signature"), (loose, "base64|signature")):
        with pytest.raises(ReceiptError, match=why):
            receipts.verify(msgspec.json.encode(forged))


async def hears_of_a_tablet(sessions: Sessions, room_id: UUID, who: Identity) -> None:
    """It turns out late that somebody was there for the first half of the lesson."""
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into evidence (room_id, kind, at, until, identity, session, generation, source, reason)"
                " values (:room, 'stay', :at, :until, :who, 'tablet', 1, 'socket', 'left')"
            ),
            {"room": room_id, "at": STARTS, "until": STARTS + 30 * MINUTE, "who": who},
        )
        state = await journal.load(session, room_id)
        await finish.reconsider(session, state, now=STARTS + 90 * MINUTE)


async def test_late_evidence_is_a_further_ruling_with_its_own_proof(
    sessions: Sessions, settled: Settled
) -> None:
    await hears_of_a_tablet(sessions, settled.room_id, BEN)

    proven = receipts.verify(written(await receipt_of(sessions, settled.ben)))

    first, second = proven.receipt.rulings
    assert (first.to_student, second.to_student) == (PRICE, 0)
    assert (second.cause, second.measured and second.measured.attended_s) == (Cause.ADJUSTMENT, 1_800)
    earlier = tuple(w for w in proven.receipt.evidence if w.session != "tablet")
    forgetful = msgspec.structs.replace(proven.receipt, evidence=earlier)
    with pytest.raises(ReceiptError, match="attendance"):
        receipts.verify(written(forgetful))


@pytest.mark.parametrize(("version", "percent"), [(1, 60), (2, 20)])
async def test_a_further_ruling_measures_the_tutor_as_the_first_one_did(
    sessions: Sessions, clock: Clock, version: int, percent: int
) -> None:
    """Where one threshold measured the tutor for everybody, late evidence does not bring another one."""
    terms = await enact(sessions, Changes(course_risk_days=7), at=T0)
    room_id, student = await create(sessions, lesson(evidence="socket"), clock), OwnerId(UUID(ANN))
    await fund(sessions, student, PRICE)
    wanted = new_hold(PRICE, lesson_id=room_id, tutor_id=OwnerId(UUID(HOST)), policy_version=terms.version)
    [hold_id] = await buy(sessions, student, wanted)
    await enact(sessions, Changes(attendance_percent=60), at=STARTS)
    async with registry(sessions, clock) as rooms:
        for who in (HOST, ANN):
            await rooms.ask(room_id, join(who))
        clock.move_to(STARTS + 5 * MINUTE)
        await rooms.ask(room_id, m.Leave(ANN))
        clock.move_to(STARTS + 60 * MINUTE)
        await rooms.ask(room_id, m.EndLesson(HOST))
        await rooms.run_due(STARTS + 62 * MINUTE)
        await rooms._quiet(rooms._actors[room_id])
    async with sessions.begin() as session:
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(text("update lesson_facts set is_by_hold = :by_hold"), {"by_hold": version > 1})

    await hears_of_a_tablet(sessions, room_id, ANN)

    proven = receipts.verify(written(await receipt_of(sessions, hold_id)))
    first, second = (one.measured for one in proven.receipt.rulings)
    assert first is not None
    assert second is not None
    assert (proven.receipt.version, proven.newest.cause, proven.newest.to_student) == (
        version,
        Cause.ADJUSTMENT,
        0,
    )
    assert [one.tutor_threshold_percent for one in (first, second)] == [percent, percent]
    assert await violations(sessions) == []


async def test_what_was_given_back_by_hand_is_proven_by_its_division(sessions: Sessions) -> None:
    student = OwnerId(uuid4())
    await fund(sessions, student, PRICE)
    [hold_id] = await buy(sessions, student, new_hold(PRICE))
    with pytest.raises(NotSettledError):
        await receipt_of(sessions, hold_id)
    async with sessions.begin() as session:
        await holds.refund(
            session,
            [hold_id],
            cause=Cause.CANCELLED,
            actor=f"user:{student}",
            reason="Changed my mind.",
            key="k",
            now=NOW,
        )

    proven = receipts.verify(written(await receipt_of(sessions, hold_id)))

    assert (proven.newest.to_student, proven.newest.measured, proven.receipt.window) == (PRICE, None, None)


async def test_a_lesson_of_a_package_is_proven_by_the_rule_that_settled_it(
    sessions: Sessions, clock: Clock
) -> None:
    """Who came decides it now; what attendance decided once, and its corrections, are proven by attendance."""
    seller = Seller(sessions)
    seller.student, seller.tutor = OwnerId(UUID(ANN)), OwnerId(UUID(HOST))
    package_id = await seller.sell(lessons=1, price=PRICE)
    hold_id = await seller.use(package_id, await create(sessions, lesson(evidence="socket"), clock))
    await give(sessions, clock, hold_id, ann_for=5 * MINUTE)
    good = await receipt_of(sessions, hold_id)
    [ruling] = good.rulings
    assert ruling.measured is not None
    refund = {"to_tutor": 0, "to_platform": 0, "to_student": PRICE}
    missed = changed(ruling, cause=Cause.ATTENDANCE, **refund)
    corrected = changed(ruling, number=1, cause=Cause.ADJUSTMENT)
    lies: dict[str, list[tuple[Ruling, ...]]] = {
        "the division": [
            (changed(ruling, **refund),),
            (changed(missed, to_tutor=2_666, to_platform=667, to_student=0),),
            (missed, corrected),
            (ruling, changed(corrected, **refund)),
        ],
        "the cause": [(changed(missed, cause=Cause.TUTOR_ABSENT),)],
    }

    proven = receipts.verify(written(good))

    assert (proven.newest.cause, proven.newest.to_tutor, proven.newest.to_student) == (
        Cause.OUTCOME,
        2_666,
        0,
    )
    for once in ((missed,), (missed, changed(corrected, **refund))):
        receipts.verify(written(msgspec.structs.replace(good, rulings=once)))
    for why, forgeries in lies.items():
        for rulings in forgeries:
            with pytest.raises(ReceiptError, match=why):
                receipts.verify(written(msgspec.structs.replace(good, rulings=rulings)))
    booking = msgspec.structs.replace(good, source_kind=SourceKind.BOOKING, rulings=(missed,))
    with pytest.raises(ReceiptError, match="the cause"):
        receipts.verify(written(booking))


async def give(sessions: Sessions, clock: Clock, hold_id: UUID, *, ann_for: timedelta) -> None:
    """Hold the hour of a hold's lesson, with the tutor in it and Ann for some time."""
    async with sessions() as session:
        room_id = (await session.get_one(Hold, hold_id)).lesson_id
    assert room_id is not None
    async with registry(sessions, clock) as rooms:
        for who in (HOST, ANN):
            await rooms.ask(room_id, join(who))
        clock.move_to(STARTS + ann_for)
        await rooms.ask(room_id, m.Leave(ANN))
        clock.move_to(STARTS + 60 * MINUTE)
        await rooms.ask(room_id, m.EndLesson(HOST))
        await rooms.run_due(STARTS + 62 * MINUTE)
        await rooms._quiet(rooms._actors[room_id])


async def test_the_tutor_is_measured_by_the_terms_of_the_sale(sessions: Sessions, clock: Clock) -> None:
    """A receipt from when one threshold measured the tutor for everybody is still proven by its own rule."""
    room_id, student = await create(sessions, lesson(evidence="socket"), clock), OwnerId(UUID(ANN))
    await fund(sessions, student, PRICE)
    [hold_id] = await buy(sessions, student, new_hold(PRICE, lesson_id=room_id, tutor_id=OwnerId(UUID(HOST))))
    await enact(sessions, Changes(attendance_percent=60), at=STARTS)
    async with registry(sessions, clock) as rooms:
        for who in (HOST, ANN):
            await rooms.ask(room_id, join(who))
        clock.move_to(STARTS + 20 * MINUTE)
        await rooms.ask(room_id, m.Leave(HOST))
        clock.move_to(STARTS + 60 * MINUTE)
        await rooms.ask(room_id, m.EndLesson(HOST))
        await rooms.run_due(STARTS + 62 * MINUTE)
        await rooms._quiet(rooms._actors[room_id])
    good = await receipt_of(sessions, hold_id)
    assert await violations(sessions) == []
    async with sessions.begin() as session:
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(text("update lesson_facts set is_by_hold = false"))
    once = await receipt_of(sessions, hold_id)

    proven = receipts.verify(written(good))

    measured = proven.newest.measured
    assert measured is not None
    assert (proven.newest.cause, proven.newest.to_student) == (Cause.ATTENDANCE, 0)
    assert (measured.tutor_threshold_percent, measured.tutor_required_s) == (20, 720)
    by_all = msgspec.structs.replace(measured, tutor_threshold_percent=60, tutor_required_s=2_160)
    refund = changed(
        good.rulings[0],
        cause=Cause.TUTOR_ABSENT,
        to_tutor=0,
        to_platform=0,
        to_student=PRICE,
        measured=by_all,
    )
    assert (good.version, once.version, once.rulings[0].measured) == (2, 1, by_all)
    receipts.verify(written(msgspec.structs.replace(once, rulings=(refund,))))
    with pytest.raises(ReceiptError, match="attendance"):
        receipts.verify(written(msgspec.structs.replace(good, rulings=(refund,))))

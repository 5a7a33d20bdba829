"""Disputes of people: who may, when, once; what is frozen; and how they end."""

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta
from itertools import product
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from billing import disputes, maturity, settlement
from billing.disputes import Claim
from billing.errors import (
    AlreadyDisputedError,
    BillingError,
    DisputeStateError,
    DisputeTooLateError,
    HoldNotFoundError,
    HoldNotSettledError,
    NothingToDisputeError,
)
from billing.ledger import AccountKey
from billing.models import AccountKind, DisputeReason, DisputeStatus, OwnerId, SourceKind
from billing.money import Money
from tests.billing.earner import EXPENSE, RISK, Earner
from tests.billing.test_refunds import sell
from tests.billing.world import (
    PLANNED_S,
    Deed,
    Sessions,
    buy,
    events,
    facts,
    fund,
    new_hold,
    owner,
    refusals,
    violations,
)

OPEN, UPHELD, REFUNDED = DisputeStatus
WHERE = (
    AccountKind.WALLET,
    AccountKind.EARNINGS_PENDING,
    AccountKind.EARNINGS,
    AccountKind.TUTOR_DEBT,
    AccountKind.FROZEN,
    AccountKind.PLATFORM_REVENUE,
)
NOTES = "Otherwise."


@pytest.fixture
def earner(sessions: Sessions) -> Earner:
    return Earner(sessions)


async def doubt(earner: Earner, hold_id: UUID) -> UUID:
    """Have us dispute it."""
    claim = Claim(reason=DisputeReason.CONTRADICTION, words="Both were reported absent.", student_id=None)
    async with earner.sessions.begin() as session:
        return (await disputes.begin(session, hold_id, claim, now=earner.now)).id


def upheld(earner: Earner, dispute_id: UUID, notes: str = NOTES) -> Deed:
    return lambda session: disputes.uphold(
        session, dispute_id, admin_id=earner.admin, notes=notes, now=earner.now
    )


def refunded(earner: Earner, dispute_id: UUID, amount: int | None = None, notes: str = NOTES) -> Deed:
    money = None if amount is None else Money(amount)
    return lambda session: disputes.refund(
        session, dispute_id, money, admin_id=earner.admin, notes=notes, now=earner.now
    )


async def uphold(earner: Earner, dispute_id: UUID) -> None:
    async with earner.sessions.begin() as session:
        await upheld(earner, dispute_id)(session)


async def refund(earner: Earner, dispute_id: UUID, amount: int | None = None) -> None:
    async with earner.sessions.begin() as session:
        await refunded(earner, dispute_id, amount)(session)


async def refused(deed: Awaitable[object]) -> type[BillingError] | None:
    try:
        await deed
    except BillingError as error:
        return type(error)
    return None


async def view(earner: Earner, dispute_id: UUID) -> disputes.DisputeView:
    async with earner.sessions() as session:
        return await disputes.view(session, dispute_id)


def test_a_dispute_goes_along_its_arrows_and_no_other_way() -> None:
    allowed = set()
    for old, new in product((None, *DisputeStatus), DisputeStatus):
        try:
            assert disputes.step(old, new) is new
        except DisputeStateError:
            continue
        allowed.add((old, new))

    assert allowed == {(None, OPEN), (OPEN, UPHELD), (OPEN, REFUNDED)}


async def test_the_database_knows_no_other_way_either(earner: Earner) -> None:
    hold_id = await sell(earner)
    dispute_id = await earner.dispute(hold_id)
    await uphold(earner, dispute_id)
    whole = "resolved_by = gen_random_uuid(), notes = 'Long enough.', resolved_at = now()"
    from_open = {UPHELD: whole, REFUNDED: f"{whole}, refunded = 1"}
    moves = []

    other = await earner.dispute(await sell(earner))
    for there, to in product((dispute_id, other), DisputeStatus):
        change = (
            f"update dispute set status = '{to}', {from_open.get(to, 'notes = null')} where id = '{there}'"
        )
        async with earner.sessions() as session:
            try:
                await session.execute(text(change))
            except DBAPIError:
                continue
        moves.append((UPHELD if there == dispute_id else OPEN, to))
    async with earner.sessions() as session:
        with pytest.raises(DBAPIError, match="DISPUTE_GUARD"):
            await session.execute(text("insert into dispute select * from dispute where status <> 'open'"))

    assert moves == [(OPEN, OPEN), (OPEN, UPHELD), (OPEN, REFUNDED)]


async def test_a_dispute_freezes_the_share_at_risk_and_upheld_frees_it(earner: Earner) -> None:
    hold_id, _ = await sell(earner), await sell(earner)
    dispute_id = await earner.dispute(hold_id)
    earner.passes(RISK)
    await earner.run(maturity.JOB)
    frozen = await earner.has(*WHERE)
    sound = await violations(earner.sessions)

    await uphold(earner, dispute_id)
    await earner.run(maturity.JOB)

    found = await view(earner, dispute_id)
    assert frozen == [0, 0, 7_000, 0, 7_000, 6_000]
    assert await earner.has(*WHERE) == [0, 0, 14_000, 0, 0, 6_000]
    assert (found.status, found.notes, found.refunded, found.rest) == (UPHELD, NOTES, None, Money(10_000))
    assert [*sound, *await violations(earner.sessions)] == []


async def test_a_dispute_of_what_matured_freezes_what_is_there(earner: Earner) -> None:
    hold_id = await sell(earner, kind=SourceKind.COURSE_SESSION)
    await earner.move(AccountKey(AccountKind.EARNINGS, earner.tutor, "USD"), EXPENSE, 5_000)

    dispute_id = await earner.dispute(hold_id)
    frozen = await earner.has(*WHERE)
    await refund(earner, dispute_id)

    assert frozen == [0, 0, 0, 0, 2_000, 3_000]
    assert await earner.has(*WHERE) == [10_000, 0, 0, -5_000, 0, 0]
    assert await violations(earner.sessions) == []


async def test_a_part_goes_back_by_the_split_and_the_rest_is_free(earner: Earner) -> None:
    hold_id = await sell(earner)
    dispute_id = await earner.dispute(hold_id)

    await refund(earner, dispute_id, 4_000)

    found = await view(earner, dispute_id)
    assert await earner.has(*WHERE) == [4_000, 4_200, 0, 0, 0, 1_800]
    assert (found.status, found.refunded, found.rest) == (REFUNDED, Money(4_000), Money(6_000))
    assert (await events(earner.sessions))[-1] == "dispute.resolved"
    assert await violations(earner.sessions) == []


async def test_student_absent_tutor_paid_half_back_then_the_rest(earner: Earner) -> None:
    """F.4 story 9: the dispute gives half back, an administrator the rest, months later, when it is paid out."""
    hold_id = await sell(earner)
    dispute_id = await earner.dispute(hold_id)
    await refund(earner, dispute_id, 5_000)
    half = await earner.has(*WHERE)
    earner.passes(RISK)
    await earner.run(maturity.JOB)
    await earner.set_bank()
    withdrawal = await earner.ask(3_500)
    await earner.approve(withdrawal)
    await earner.complete(withdrawal)
    earner.passes(timedelta(days=90))

    await earner.give_back(hold_id)

    assert half == [5_000, 3_500, 0, 0, 0, 1_500]
    assert await earner.has(*WHERE) == [10_000, 0, 0, -3_500, 0, 0]
    assert (await view(earner, dispute_id)).rest == Money(0)
    assert await violations(earner.sessions) == []


async def test_a_hold_is_disputed_once_by_its_student_in_time(earner: Earner) -> None:
    student = owner()
    await fund(earner.sessions, student, 100)
    [held] = await buy(earner.sessions, student, new_hold(100, lesson_id=uuid4(), tutor_id=earner.tutor))
    hold_id, late, given, missed = (
        await sell(earner),
        await sell(earner),
        await sell(earner),
        await sell(earner, attended=False),
    )
    await earner.give_back(given)
    await earner.dispute(hold_id)

    with pytest.raises(HoldNotSettledError) as early:
        await earner.dispute(held)
    assert early.value.hold_id == held
    refusals = [
        await refused(earner.dispute(hold_id)),
        await refused(earner.dispute(late, owner())),
        await refused(earner.dispute(late, earner.tutor)),
        await refused(earner.dispute(uuid4(), owner())),
        await refused(earner.dispute(held)),
        await refused(earner.dispute(given)),
        await refused(earner.dispute(missed)),
    ]
    earner.passes(timedelta(days=30))
    refusals.append(await refused(earner.dispute(late)))
    earner.passes(-timedelta(seconds=1))
    in_time = await refused(earner.dispute(late))

    assert refusals == [
        AlreadyDisputedError,
        HoldNotFoundError,
        HoldNotFoundError,
        HoldNotFoundError,
        HoldNotSettledError,
        NothingToDisputeError,
        NothingToDisputeError,
        DisputeTooLateError,
    ]
    assert in_time is None
    assert await violations(earner.sessions) == []


async def test_we_open_one_ourselves_where_evidence_contradicts(earner: Earner) -> None:
    dispute_id = await doubt(earner, await sell(earner))

    found = await view(earner, dispute_id)

    assert (found.opened_by, found.reason, found.status) == ("system", DisputeReason.CONTRADICTION, OPEN)
    assert await earner.has(AccountKind.FROZEN) == [7_000]


async def test_a_decision_needs_notes_a_dispute_and_no_more_than_is_left(earner: Earner) -> None:
    hold_id = await sell(earner)
    dispute_id = await earner.dispute(hold_id)
    await earner.give_back(hold_id, 6_000)

    codes = await refusals(
        earner.sessions,
        upheld(earner, dispute_id, notes="no"),
        refunded(earner, dispute_id, notes="no"),
        upheld(earner, uuid4()),
        refunded(earner, uuid4()),
        refunded(earner, dispute_id, 4_001),
    )
    await refund(earner, dispute_id, 4_000)
    again = [await refused(uphold(earner, dispute_id)), await refused(refund(earner, dispute_id))]

    assert codes == ["reason_too_short"] * 2 + ["dispute_not_found"] * 2 + ["refund_too_large"]
    assert again == [DisputeStateError, DisputeStateError]
    assert await earner.has(*WHERE) == [10_000, 0, 0, 0, 0, 0]
    assert await violations(earner.sessions) == []


async def test_late_evidence_leaves_a_disputed_hold_to_people(earner: Earner) -> None:
    hold_id = await sell(earner)
    await earner.dispute(hold_id)
    lesson, student = await earner.lesson_of(hold_id)

    late = facts(lesson, {student: PLANNED_S}, tutor_id=earner.tutor, tutor_attended_s=0)
    async with earner.sessions.begin() as session:
        found = await settlement.reconsider(session, late, now=earner.now)

    assert (found.adjusted, found.to_review) == ((), (hold_id,))
    assert await violations(earner.sessions) == []


async def test_disputes_are_listed_for_their_parties_newest_first(earner: Earner) -> None:
    made = []
    for _ in range(3):
        made.append(await earner.dispute(await sell(earner)))
        earner.passes(timedelta(minutes=1))
    await uphold(earner, made[0])
    first = await view(earner, made[1])

    async def found(
        party_id: OwnerId | None = None,
        hold_id: UUID | None = None,
        status: DisputeStatus | None = None,
        before: tuple[datetime, UUID] | None = None,
    ) -> list[UUID]:
        async with earner.sessions() as session:
            rows = await disputes.find(
                session, party_id=party_id, hold_id=hold_id, status=status, limit=9, before=before
            )
        return [one.id for one in rows]

    assert await found() == await found(earner.tutor) == made[::-1]
    assert await found(OwnerId(first.student_id)) == [made[1]]
    assert await found(owner()) == []
    assert await found(hold_id=first.hold_id) == [made[1]]
    assert await found(status=OPEN) == [made[2], made[1]]
    assert await found(before=(first.opened_at, first.id)) == [made[0]]


# Races ---------------------------------------------------------------------------------------------------------------


async def test_a_dispute_is_decided_once(earner: Earner) -> None:
    for _ in range(3):
        hold_id = await sell(earner, 1_000)
        dispute_id = await earner.dispute(hold_id)

        done = await asyncio.gather(
            *(refused(deed(earner, dispute_id)) for deed in (uphold, refund, uphold, refund))
        )

        assert sorted(done, key=str) == [*[DisputeStateError] * 3, None]
        assert await violations(earner.sessions) == []


async def test_a_hold_is_disputed_once_however_often_at_once(earner: Earner) -> None:
    hold_id = await sell(earner)

    done = await asyncio.gather(*(refused(earner.dispute(hold_id)) for _ in range(4)))

    assert sorted(done, key=str) == [*[AlreadyDisputedError] * 3, None]
    assert await violations(earner.sessions) == []


async def test_a_dispute_waits_for_the_settlement_or_comes_too_early(earner: Earner) -> None:
    for _ in range(4):
        student, lesson = owner(), uuid4()
        await fund(earner.sessions, student, 1_000)
        hold = new_hold(1_000, lesson_id=lesson, tutor_id=earner.tutor, source_kind=SourceKind.BOOKING)
        [hold_id] = await buy(earner.sessions, student, hold)
        async with earner.sessions.begin() as session:
            await settlement.due(
                session, facts(lesson, {student: 5_400}, tutor_id=earner.tutor), now=earner.now
            )

        async def settle(lesson: UUID = lesson) -> None:
            async with earner.sessions.begin() as session:
                await settlement.settle(session, lesson, now=earner.now)

        _, too_early = await asyncio.gather(settle(), refused(earner.dispute(hold_id)))

        assert too_early in (None, HoldNotSettledError)
    assert await violations(earner.sessions) == []


async def test_a_dispute_and_a_refund_of_one_hold_both_count(earner: Earner) -> None:
    for _ in range(4):
        hold_id = await sell(earner, 1_000)
        _, too_late = await asyncio.gather(earner.give_back(hold_id), refused(earner.dispute(hold_id)))
        assert too_late in (None, NothingToDisputeError)

    assert (await earner.has(*WHERE))[:5] == [4_000, 0, 0, 0, 0]
    assert await violations(earner.sessions) == []

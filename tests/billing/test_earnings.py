"""What a tutor is shown of their money: where it is, what brought it, and what left."""

from datetime import date, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from billing import earnings
from billing.earnings import Brought, Period, Share, Standing, WithdrawalView
from billing.models import OwnerId, PayoutMethod, SourceKind, WithdrawalStatus
from billing.money import Money
from tests.billing.earner import NOTE, Earner
from tests.billing.world import NOW, PLANNED_S, Sessions, buy, end, facts, fund, new_hold, owner, usd

SPAN: dict[str, Any] = {"zone": "UTC", "since": date(2026, 3, 1), "until": date(2026, 3, 2)}
LATER = timedelta(minutes=1)


@pytest.fixture
def earner(sessions: Sessions) -> Earner:
    return Earner(sessions)


async def sell(earner: Earner, amount: int, *, student: OwnerId | None = None) -> tuple[OwnerId, OwnerId]:
    """Have a student pay for a lesson, of which three tenths are the tutor's, and return student and lesson."""
    student, lesson = student or owner(), owner()
    await fund(earner.sessions, student, amount)
    await buy(earner.sessions, student, new_hold(amount, lesson_id=lesson, tutor_id=earner.tutor))
    return student, lesson


async def test_every_cent_of_a_tutor_is_in_the_place_where_it_is_shown(earner: Earner) -> None:
    await earner.teach(10_000)
    await earner.teach(900, kind=SourceKind.BOOKING)
    await earner.dispute(await earner.teach(2_000))
    await sell(earner, 700)
    await earner.set_bank()
    await earner.ask(3_000)
    paid = await earner.ask(1_500)
    await earner.approve(paid)
    await earner.complete(paid)
    await earner.owe_beside(400)

    async with earner.sessions() as session:
        shown = await earnings.standing(session, earner.tutor)
        in_euros = await earnings.standing(session, earner.tutor, "EUR")
        of_another = await earnings.standing(session, owner())

    assert shown == Standing(
        held=usd(700),
        pending=usd(900),
        disputed=usd(2_000),
        available=usd(5_100),
        owed=usd(400),
        reserved=usd(3_000),
        withdrawn=usd(1_500),
    )
    assert in_euros == Standing(**dict.fromkeys(Standing.__struct_fields__, Money(0, "EUR")))
    assert of_another == Standing(**dict.fromkeys(Standing.__struct_fields__, usd(0)))


async def test_who_owes_more_than_they_earned_has_nothing_to_withdraw(earner: Earner) -> None:
    await earner.owe_beside(400)

    async with earner.sessions() as session:
        shown = await earnings.standing(session, earner.tutor)

    assert (shown.available, shown.owed) == (usd(0), usd(400))


async def test_what_lessons_brought_is_divided_as_their_holds_are(earner: Earner) -> None:
    came, lesson = await sell(earner, 1_000)
    await end(earner.sessions, facts(lesson, {came: PLANNED_S}, tutor_id=earner.tutor))
    missed, lesson = await sell(earner, 500)
    await end(
        earner.sessions,
        facts(lesson, {missed: PLANNED_S}, tutor_id=earner.tutor, tutor_attended_s=0),
    )
    await sell(earner, 700, student=came)
    await earner.teach(900, kind=SourceKind.BOOKING)

    async with earner.sessions() as session:
        days = await earnings.periods(session, earner.tutor, by="day", **SPAN)
        shares = await earnings.shares(session, earner.tutor, **SPAN)
        of_other_days = await earnings.shares(
            session, earner.tutor, **SPAN | {"since": date(2026, 2, 1), "until": date(2026, 3, 1)}
        )
        in_euros = await earnings.shares(session, earner.tutor, **SPAN, currency="EUR")
        brought = await earnings.brought(
            session, earner.tutor, attribution="platform", students=[came, missed, owner()]
        )
        by_referral = await earnings.brought(session, earner.tutor, attribution="referral")

    course: dict[str, Any] = {
        "gross": usd(1_000),
        "fee": usd(700),
        "net": usd(300),
        "refunded": usd(500),
        "lessons": 1,
    }
    assert days == [
        Period(
            begins=date(2026, 3, 1),
            gross=usd(1_900),
            fee=usd(700),
            net=usd(1_200),
            refunded=usd(500),
            lessons=2,
        )
    ]
    assert shares == [
        Share(
            source_kind=SourceKind.BOOKING,
            attribution="platform",
            tutor_bps=10_000,
            gross=usd(900),
            fee=usd(0),
            net=usd(900),
            refunded=usd(0),
            lessons=1,
        ),
        Share(source_kind=SourceKind.COURSE_SESSION, attribution="platform", tutor_bps=3_000, **course),
    ]
    assert of_other_days == in_euros == []
    assert by_referral == {}
    assert brought == {
        came: Brought(sold=usd(1_700), earned=usd(300), platform=usd(700), held=usd(700), refunded=usd(0)),
        missed: Brought(sold=usd(500), earned=usd(0), platform=usd(0), held=usd(0), refunded=usd(500)),
    }
    assert earnings.added(brought.values()) == Brought(
        sold=usd(2_200), earned=usd(300), platform=usd(700), held=usd(700), refunded=usd(500)
    )


async def test_withdrawals_say_how_far_they_are_the_newest_first(earner: Earner) -> None:
    # By the terms, whatever is above a thousand needs two people.
    await earner.teach(200_000)
    await earner.set_bank()
    much = await earner.ask(100_001, note="For the rent")
    await earner.approve(much)
    earner.passes(LATER)
    odd = await earner.ask(1_000)
    await earner.hold(odd)
    earner.passes(LATER)
    refused = await earner.ask(2_000)
    await earner.reject(refused)

    async with earner.sessions() as session:
        found = await earnings.withdrawals(session, tutor_id=earner.tutor, limit=9)
        two = await earnings.withdrawals(session, limit=2)
        older = await earnings.withdrawals(session, limit=9, before=(found[1].requested_at, found[1].id))
        waiting = await earnings.withdrawals(session, status=WithdrawalStatus.PENDING, limit=9)
        of_another = await earnings.withdrawals(session, tutor_id=owner(), limit=9)

    asked = WithdrawalView(
        id=odd,
        tutor_id=earner.tutor,
        amount=usd(1_000),
        status=WithdrawalStatus.PENDING,
        method=PayoutMethod.BANK,
        account_last4="7890",
        note=None,
        is_held=False,
        held_reason=None,
        approvals=0,
        approvals_needed=1,
        answer=None,
        reference=None,
        requested_at=NOW + LATER,
        ended_at=None,
    )
    assert found == [
        replace(
            asked,
            id=refused,
            amount=usd(2_000),
            status=WithdrawalStatus.REJECTED,
            answer=NOTE,
            requested_at=NOW + 2 * LATER,
            ended_at=NOW + 2 * LATER,
        ),
        replace(asked, is_held=True, held_reason="Looks odd."),
        replace(
            asked,
            id=much,
            amount=usd(100_001),
            note="For the rent",
            approvals=1,
            approvals_needed=2,
            requested_at=NOW,
        ),
    ]
    assert two == found[:2]
    assert older == found[2:]
    assert waiting == found[1:]
    assert of_another == []

"""A period judged again: by its own terms nothing differs, and by others exactly what the rules say."""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import select

from billing import back_test, holds, policy, settlement
from billing.back_test import Report
from billing.facts import is_by_outcome
from billing.models import Cause, FactsRow, Hold, OwnerId, PackageExpiry, PresenceRow, Settlement, SourceKind
from billing.money import split
from billing.policy import REFERRAL, TIER, TIERED, Policy, Tier
from tests.billing.seller import Seller
from tests.billing.test_policy_enact import terms
from tests.billing.world import NOW, PLANNED_S, Sessions, buy, end, facts, fund, new_hold, owner, usd

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def database_url(module_database: str) -> str:
    return module_database


async def run(sessions: Sessions, candidate: Policy, *, at: datetime = NOW) -> Report:
    """Judge the days after a moment; each test has days of its own."""
    async with sessions() as session:
        return await back_test.run(session, candidate, since=at, until=at + 9 * DAY)


async def lesson(
    sessions: Sessions,
    tutor: OwnerId,
    attended_s: int,
    *,
    amount: int = 10_000,
    kind: SourceKind = SourceKind.COURSE_SESSION,
    attribution: str = "platform",
    bps: int = 3_000,
    tutor_attended_s: int = PLANNED_S,
    cancelled: bool = False,
    at: datetime = NOW,
) -> UUID:
    """Sell a lesson and hold it an hour later."""
    student, lesson_id = owner(), uuid4()
    await fund(sessions, student, amount)
    hold = new_hold(amount, lesson_id=lesson_id, tutor_id=tutor, tutor_bps=bps, source_kind=kind)
    hold = msgspec.structs.replace(hold, attribution=attribution)
    async with sessions.begin() as session:
        [hold_id] = await holds.place(session, holds=[hold], student_id=student, key=str(lesson_id), now=at)
    known = facts(
        lesson_id,
        {student: attended_s},
        tutor_id=tutor,
        tutor_attended_s=tutor_attended_s,
        cancelled=cancelled,
    )
    await end(sessions, known, now=at + HOUR)
    return hold_id


async def lived(sessions: Sessions, chance: random.Random) -> None:
    """Two tutors who sell everything there is, under the first terms."""
    tutors = [owner(), owner()]
    for tutor in tutors:
        earned = 0
        for number in range(7):
            kind, attribution = chance.choice(
                [
                    (SourceKind.COURSE_SESSION, "platform"),
                    (SourceKind.COURSE_SESSION, REFERRAL),
                    (SourceKind.BOOKING, TIER),
                    (SourceKind.PACKAGE_SLICE, TIER),
                ]
            )
            amount = chance.choice([1, 99, 3_333, 60_000])
            bps = policy.tutor_bps(terms(), kind, attribution, lifetime=earned)
            attended_s = chance.choice([0, 1_079, 1_080, 2_699, 2_700, PLANNED_S])
            tutor_attended_s = chance.choice([0, 1_080, PLANNED_S, PLANNED_S, PLANNED_S])
            await lesson(
                sessions,
                tutor,
                attended_s,
                amount=amount,
                kind=kind,
                attribution=attribution,
                bps=bps,
                tutor_attended_s=tutor_attended_s,
                cancelled=chance.random() < 0.1,
                at=NOW + 2 * number * HOUR,
            )
            async with sessions() as session:
                newest = await session.scalar(
                    select(Settlement)
                    .join(Hold, Hold.id == Settlement.hold_id)
                    .order_by(Settlement.journal_id.desc())
                    .limit(1)
                )
            assert newest is not None
            earned += newest.to_tutor if kind in TIERED else 0


async def by_hand(sessions: Sessions, candidate: Policy) -> Mapping[UUID, tuple[int, int, int]]:
    """Judge every hold again as the settlement does, one by one: to tutor, platform and student, by tutor."""
    sums: dict[UUID, tuple[int, int, int]] = {}
    async with sessions() as session:
        rows = await session.execute(
            select(Settlement, Hold, FactsRow)
            .join(Hold, Hold.id == Settlement.hold_id)
            .join(FactsRow, FactsRow.lesson_id == Settlement.lesson_id)
            .where(Settlement.settled_at < NOW + 9 * DAY)
            .order_by(Settlement.journal_id)
        )
        earned: dict[UUID, int] = {}
        for settled, hold, known in rows.all():
            presence = await session.get(PresenceRow, (hold.lesson_id, 1, hold.student_id))
            bps = policy.tutor_bps(
                candidate,
                SourceKind(hold.source_kind),
                hold.attribution,
                lifetime=earned.get(hold.tutor_id, 0),
            )
            absent_s = candidate.attendance_percent * known.planned_s
            judged = Hold(amount=hold.amount, tutor_bps=bps, source_kind=hold.source_kind)
            decision = settlement.judge(
                judged,
                candidate.attendance_percent,
                by_outcome=is_by_outcome(SourceKind(hold.source_kind), Cause(settled.cause)),
                attended_s=presence.attended_s if presence else 0,
                tutor_attended_s=known.tutor_attended_s,
                total_s=known.total_s,
                tutor_absent=known.tutor_attended_s * 100 < absent_s,
                cancelled=known.cancelled,
            )
            if candidate.tiers_count_everything or hold.source_kind in TIERED:
                earned[hold.tutor_id] = earned.get(hold.tutor_id, 0) + settled.to_tutor
            before = sums.get(hold.tutor_id, (0, 0, 0))
            parts = (decision.to_tutor, decision.to_platform, decision.to_student)
            sums[hold.tutor_id] = tuple(a + b for a, b in zip(before, parts, strict=True))  # type: ignore[assignment]
    return sums


async def test_an_empty_period_has_nothing_to_judge(sessions: Sessions) -> None:
    report = await run(sessions, terms(), at=NOW - 99 * DAY)

    assert (report.holds, report.changed, report.tutors) == (0, 0, ())
    assert report.was == report.would_be
    assert report.was.to_tutors == usd(0)


async def test_a_period_is_judged_as_its_settlements_would_have_been(sessions: Sessions, full: bool) -> None:
    chance = random.Random(3)
    await lived(sessions, chance)

    own = await run(sessions, terms())

    assert (own.holds, own.changed, own.tutors) == (14, 0, ())
    assert own.was == own.would_be
    for _ in range(200 if full else 5):
        candidate = terms(
            attendance_percent=chance.choice([0, 10, 50, 100]),
            course_platform_bps=chance.choice([0, 3_333, 10_000]),
            course_referral_bps=chance.choice([0, 6_999, 10_000]),
            booking_tiers=(Tier(0, 3_333), Tier(chance.choice([1, 50_000]), 100)),
            tiers_count_everything=chance.random() < 0.5,
        )
        report = await run(sessions, candidate)
        expected = await by_hand(sessions, candidate)
        would_be = report.would_be
        parts = (would_be.to_tutors, would_be.to_platform, would_be.to_students)
        assert [part.amount for part in parts] == [sum(part) for part in zip(*expected.values(), strict=True)]
        for one in report.tutors:
            assert one.would_be.amount == expected[one.tutor_id][0]
            assert one.change.amount == one.would_be.amount - one.was.amount != 0
        assert would_be.released + would_be.refunded == report.holds
        assert report.was == own.was
        assert sum(part.amount for part in parts) == sum(
            part.amount for part in (own.was.to_tutors, own.was.to_platform, own.was.to_students)
        )


async def test_a_higher_threshold_gives_back_what_was_barely_attended(sessions: Sessions) -> None:
    tutor, other = owner(), owner()
    at = NOW + 20 * DAY
    await lesson(sessions, tutor, PLANNED_S // 4, at=at)
    await lesson(sessions, other, PLANNED_S, at=at)

    report = await run(sessions, terms(attendance_percent=50), at=at)

    assert (report.holds, report.changed) == (2, 1)
    assert (report.was.released, report.would_be.released, report.would_be.refunded) == (2, 1, 1)
    assert [(one.tutor_id, one.was, one.would_be, one.change) for one in report.tutors] == [
        (tutor, usd(3_000), usd(0), usd(-3_000))
    ]
    assert report.would_be.to_students == usd(10_000)


async def test_what_people_decided_stays_but_for_the_split(sessions: Sessions) -> None:
    tutor, student, at = owner(), owner(), NOW + 40 * DAY
    await fund(sessions, student, 1_000)
    [given_back] = await buy(sessions, student, new_hold(1_000, lesson_id=uuid4(), tutor_id=tutor))
    async with sessions.begin() as session:
        await holds.refund(
            session, [given_back], cause=Cause.CANCELLED, actor="user:1", reason="ill", key="1", now=at
        )
    await lesson(sessions, tutor, 0, cancelled=True, at=at)

    report = await run(sessions, terms(attendance_percent=0, course_platform_bps=10_000), at=at)

    assert (report.holds, report.changed, report.would_be.refunded) == (2, 0, 2)


async def test_lessons_of_packages_that_nobody_took_go_where_the_other_terms_say(sessions: Sessions) -> None:
    seller = Seller(sessions)
    seller.now = at = NOW + 60 * DAY
    await seller.sell(lessons=2, price=1_000, validity_days=1)
    await seller.passes(2 * DAY)

    report = await run(sessions, terms(package_expiry=PackageExpiry.REFUND), at=at)

    assert (report.holds, report.changed) == (2, 2)
    assert (report.was.to_tutors, report.would_be.to_tutors) == (usd(800), usd(0))
    assert report.would_be.to_students == usd(1_000)
    assert split(500, 8_000) == (400, 100)


async def test_lessons_of_packages_are_judged_again_by_the_rule_that_settled_them(sessions: Sessions) -> None:
    """Attendance is measured anew; who came stays, corrected or not."""
    seller = Seller(sessions)
    seller.now = at = NOW + 100 * DAY
    package_id, once, missed, corrected, late = await seller.sell(price=50_000), *(uuid4() for _ in range(4))
    for lesson_id in (once, missed, corrected, late):
        await seller.use(package_id, lesson_id)
    await seller.taught_once(once, attended_s=PLANNED_S // 4)
    await seller.teach(missed, attended_s=0, tutor_attended_s=1)
    await seller.teach(corrected)
    await seller.hears_late(corrected, attended_s=PLANNED_S, tutor_attended_s=0)
    await seller.hears_late(corrected, attended_s=0, tutor_attended_s=1)
    await seller.forfeit(package_id, late)

    own = await run(sessions, terms(), at=at)
    report = await run(sessions, terms(attendance_percent=50), at=at)

    assert (own.holds, own.changed, own.was.to_tutors) == (4, 0, usd(4 * 8_000))
    assert (report.changed, report.would_be.refunded) == (1, 1)
    assert report.would_be.to_tutors == usd(3 * 8_000)


async def test_only_the_period_counts(sessions: Sessions) -> None:
    at = NOW + 80 * DAY
    await lesson(sessions, owner(), PLANNED_S, at=at)

    async with sessions() as session:
        before = await back_test.run(session, terms(), since=at - DAY, until=at + HOUR)
        during = await back_test.run(session, terms(), since=at + HOUR, until=at + DAY)

    assert (before.holds, during.holds) == (0, 1)

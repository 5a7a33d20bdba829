"""New terms: what they may be, from when they hold, and that nothing older feels them."""

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, strategies as st
from msgspec import UNSET
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from billing import back_test, lifetime, policy, settlement
from billing.errors import (
    PolicyFarError,
    PolicyInvalidError,
    PolicyMovedError,
    PolicyOrderError,
    PolicyPastError,
    Problem,
)
from billing.facts import LessonFacts
from billing.hold_views import view
from billing.models import Cause, PackageExpiry, SourceKind
from billing.money import BPS_WHOLE, Money, split
from billing.policy import RANGES, Changes, Policy, Tier
from billing.settlement import Reconsidered
from tests.billing import older
from tests.billing.seller import Seller, enact
from tests.billing.world import (
    FIRST_TERMS,
    NOW,
    PLANNED_S,
    Sessions,
    balance,
    buy,
    end,
    facts,
    fund,
    new_hold,
    owner,
    refusals,
    violations,
)

REASON = "New terms."


async def make(
    sessions: Sessions,
    changes: Changes,
    *,
    base: int = 1,
    at: datetime = NOW,
    reason: str = REASON,
    replace_planned: bool = False,
    now: datetime = NOW,
) -> policy.Enacted:
    async with sessions.begin() as session:
        return await policy.enact(
            session,
            changes,
            base_version=base,
            effective_from=at,
            actor=f"admin:{uuid4()}",
            reason=reason,
            replace_planned=replace_planned,
            now=now,
        )


def terms(**fields: object) -> Policy:
    return msgspec.structs.replace(FIRST_TERMS, **fields)


def wrong(changes: Changes) -> list[Problem]:
    with pytest.raises(PolicyInvalidError) as error:
        policy.amended(terms(), changes)
    assert error.value.errors == error.value.problems
    return list(error.value.problems)


def test_every_term_can_be_changed_and_every_number_has_its_range() -> None:
    fields = {field.name for field in msgspec.structs.fields(Policy)} - {"version"}
    others = {"booking_tiers", "tiers_count_everything", "package_expiry"}

    assert {field.name for field in msgspec.structs.fields(Changes)} == fields
    assert RANGES.keys() == fields - others


@pytest.mark.parametrize("field", RANGES)
def test_a_number_out_of_its_range_is_refused_by_its_own_code(field: str) -> None:
    least, most = RANGES[field]
    refusal = Problem(field, f"{field}_out_of_range", f"must be from {least} to {most}")

    for value in (least - 1, least, most, most + 1):
        found = list(policy.problems(msgspec.structs.asdict(terms(**{field: value}))))
        assert (refusal in found) is (value in (least - 1, most + 1))


COUNT = Problem("booking_tiers", "booking_tiers_count_out_of_range", "must be from 1 to 20 tiers")
FEE = Problem("booking_tiers", "booking_tiers_fee_out_of_range", "a fee must be from 0 to 10000")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        (Changes(booking_tiers=()), COUNT),
        (Changes(booking_tiers=tuple(Tier(step, 1) for step in range(21))), COUNT),
        (
            Changes(booking_tiers=(Tier(1, 1),)),
            Problem("booking_tiers", "booking_tiers_not_from_zero", "the first tier must begin at 0"),
        ),
        (
            Changes(booking_tiers=(Tier(0, 1), Tier(0, 1))),
            Problem(
                "booking_tiers", "booking_tiers_not_ascending", "each tier must begin above the one before it"
            ),
        ),
        (
            Changes(booking_tiers=(Tier(0, 1), Tier(10**11 + 1, 1))),
            Problem(
                "booking_tiers", "booking_tiers_out_of_range", "a tier must begin at 100000000000 at most"
            ),
        ),
        (Changes(booking_tiers=(Tier(0, 10_001),)), FEE),
        (Changes(booking_tiers=(Tier(0, -1),)), FEE),
        (
            Changes(package_expiry="keep"),
            Problem("package_expiry", "package_expiry_unknown", "must be release or refund"),
        ),
        (
            Changes(top_up_least=1_000_001),
            Problem("top_up_least", "top_up_range_empty", "must not be above top_up_most"),
        ),
        (
            Changes(goodwill_most=4_999),
            Problem("goodwill_admin_most", "goodwill_range_empty", "must not be above goodwill_most"),
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_own_code(changes: Changes, refusal: Problem) -> None:
    assert wrong(changes) == [refusal]


@pytest.mark.parametrize(
    "changes",
    [
        Changes(booking_tiers=tuple(Tier(step, step) for step in range(20))),
        Changes(booking_tiers=(Tier(0, BPS_WHOLE), Tier(10**11, 0))),
        Changes(top_up_least=1_000_000),
        Changes(goodwill_most=5_000),
    ],
)
def test_what_is_just_possible_is_taken(changes: Changes) -> None:
    assert policy.amended(terms(), changes).version == 2


def test_everything_that_is_wrong_is_named_at_once() -> None:
    found = wrong(Changes(min_price=0, package_expiry="", attendance_percent=101))

    assert [problem.code for problem in found] == [
        "attendance_percent_out_of_range",
        "min_price_out_of_range",
        "package_expiry_unknown",
    ]


async def test_new_terms_hold_from_their_moment_on(sessions: Sessions) -> None:
    later = NOW + timedelta(days=1)

    made = await make(sessions, Changes(course_platform_bps=4_000, package_expiry="refund"), at=later)

    async with sessions() as session:
        before = await policy.current(session, later - timedelta(microseconds=1))
        after = await policy.in_force(session, later)
        history = await policy.history(session, limit=9)
        newest = await policy.history(session, limit=1)
        older = await policy.history(session, limit=9, before=2)
    assert (before.version, before.course_platform_bps) == (1, 3_000)
    assert after == made
    assert made.policy == msgspec.structs.replace(
        before, version=2, course_platform_bps=4_000, package_expiry=PackageExpiry.REFUND
    )
    assert [(one.policy.version, one.reason) for one in history] == [
        (2, REASON),
        (1, "The terms at the start."),
    ]
    assert (newest, older) == (history[:1], history[1:])


async def test_what_cannot_be_made_is_refused_and_leaves_nothing(sessions: Sessions) -> None:
    other = Changes(min_price=200)
    tick = timedelta(microseconds=1)

    told: dict[str, Any] = {"base_version": 1, "effective_from": NOW, "actor": "admin:1", "now": NOW}
    codes = await refusals(
        sessions,
        partial(policy.enact, changes=other, reason="  short  ", **told),
        partial(policy.enact, changes=Changes(min_price=100), reason=REASON, **told),
        partial(policy.enact, changes=Changes(), reason=REASON, **told),
        partial(policy.enact, changes=Changes(min_price=0), reason=REASON, **told),
    )
    with pytest.raises(PolicyPastError) as past:
        await make(sessions, other, at=NOW - tick)
    with pytest.raises(PolicyMovedError) as moved:
        await make(sessions, other, base=2)

    assert codes == ["reason_too_short", "policy_unchanged", "policy_unchanged", "policy_invalid"]
    assert (past.value.facts, moved.value.facts) == ({"now": NOW}, {"newest": 1})
    async with sessions() as session:
        assert (await policy.newest(session)).version == 1


async def test_terms_that_are_planned_are_not_overtaken_but_may_be_corrected(sessions: Sessions) -> None:
    planned = NOW + timedelta(days=9)
    await make(sessions, Changes(min_price=200), at=planned)

    with pytest.raises(PolicyOrderError) as error:
        await make(sessions, Changes(min_price=300), base=2, at=planned - timedelta(seconds=1))
    await make(sessions, Changes(min_price=300), base=2, at=planned)

    with pytest.raises(DBAPIError, match="POLICY_ORDER"):
        async with sessions.begin() as session:
            await session.execute(
                text(
                    "insert into policy (version, effective_from, course_platform_bps, course_referral_bps,"
                    " attendance_percent, min_price, course_risk_days, booking_risk_days, actor, reason)"
                    " values (4, :at, 1, 1, 1, 1, 1, 1, 'admin:1', 'Sooner than that.')"
                ),
                {"at": NOW},
            )

    assert error.value.planned == planned
    async with sessions() as session:
        assert (await policy.current(session, planned)).min_price == 300
        assert (await policy.current(session, NOW)).min_price == 100


async def test_terms_that_are_planned_can_be_replaced_before_they_begin_and_stay_in_the_history(
    sessions: Sessions,
) -> None:
    day = timedelta(days=1)
    await make(sessions, Changes(min_price=200), at=NOW + 30 * day)
    await make(sessions, Changes(min_price=300), base=2, at=NOW + 40 * day)

    sooner = await make(sessions, Changes(), base=3, at=NOW + 35 * day, replace_planned=True)

    async with sessions() as session:
        prices = [
            (await policy.current(session, NOW + days * day)).min_price for days in (0, 30, 35, 40, 366)
        ]
        changes = [await policy.next_change(session, NOW + days * day) for days in (0, 30, 35)]
        history = await policy.history(session, limit=9)
    assert prices == [100, 200, 300, 300, 300]
    assert changes == [NOW + 30 * day, sooner.effective_from, None]
    assert [(one.policy.version, one.is_replaced) for one in history] == [
        (4, False),
        (3, True),
        (2, False),
        (1, False),
    ]


async def test_nobody_plans_terms_for_later_than_in_a_year(sessions: Sessions) -> None:
    year, tick = timedelta(days=366), timedelta(microseconds=1)

    with pytest.raises(PolicyFarError) as error:
        await make(sessions, Changes(min_price=200), at=NOW + year + tick)
    await make(sessions, Changes(min_price=200), at=NOW + year)

    assert error.value.facts == {"until": NOW + year}


async def test_of_two_who_change_the_same_version_one_does(sessions: Sessions) -> None:
    made = await asyncio.gather(
        *(make(sessions, Changes(min_price=price)) for price in (200, 300, 400)), return_exceptions=True
    )

    assert sum(isinstance(one, policy.Enacted) for one in made) == 1
    assert sum(isinstance(one, PolicyMovedError) for one in made) == 2


async def test_story_12_an_old_hold_keeps_the_old_split_and_threshold(sessions: Sessions) -> None:
    student, lesson = owner(), uuid4()
    await fund(sessions, student, 10_000)
    [old] = await buy(sessions, student, new_hold(10_000, lesson_id=lesson))
    await enact(sessions, Changes(course_platform_bps=9_000, attendance_percent=90))

    await end(sessions, facts(lesson, {student: PLANNED_S // 4}))

    async with sessions() as session:
        shown = await view(session, old)
    assert (shown.tutor_share, shown.platform_share) == (Money(3_000), Money(7_000))
    assert (shown.policy.version, shown.policy.course_platform_bps) == (1, 3_000)


async def test_of_one_lesson_each_sale_measures_the_tutor_by_its_own_terms(sessions: Sessions) -> None:
    student, newer, tutor, lesson = owner(), owner(), owner(), uuid4()
    for one in (student, newer):
        await fund(sessions, one, 10_000)
    [old] = await buy(sessions, student, new_hold(10_000, lesson_id=lesson, tutor_id=tutor))
    made = await enact(sessions, Changes(attendance_percent=60))
    wanted = new_hold(10_000, lesson_id=lesson, tutor_id=tutor, policy_version=made.version)
    [new] = await buy(sessions, newer, wanted)
    # 40 of 90 minutes, which 20 % are less than, and 60 % more.
    known = facts(lesson, {student: 2_400, newer: PLANNED_S}, tutor_id=tutor, tutor_attended_s=2_400)
    known = msgspec.structs.replace(known, tutor_absent=True)

    await end(sessions, known)

    async with sessions() as session:
        before, after = await view(session, old), await view(session, new)
        again = await back_test.run(session, terms(), since=NOW, until=NOW + timedelta(days=1))
    assert (before.cause, before.tutor_share, before.refunded) == (Cause.ATTENDANCE, Money(3_000), Money(0))
    assert (after.cause, after.refunded) == (Cause.TUTOR_ABSENT, Money(10_000))
    assert before.attendance is not None
    assert after.attendance is not None
    assert (before.attendance.tutor_required_s, after.attendance.tutor_required_s) == (1_080, 3_240)
    assert (again.would_be.released, again.changed) == (2, 1)
    assert await violations(sessions) == []

    # What comes late changes the sale that it says something else of, and no other.
    late = facts(lesson, {student: 2_400, newer: PLANNED_S}, tutor_id=tutor, tutor_attended_s=PLANNED_S - 1)
    async with sessions.begin() as session:
        heard = await settlement.reconsider(session, late, now=NOW)
    assert (*heard.adjusted, *heard.to_review) == (new,)
    assert await violations(sessions) == []


async def test_late_evidence_keeps_the_rule_by_which_an_older_process_froze_a_lesson(
    sessions: Sessions,
) -> None:
    """Its one threshold took the lesson back from this sale; a second more of the student says nothing of the tutor."""
    student, tutor, lesson = owner(), owner(), uuid4()
    await fund(sessions, student, 10_000)
    [hold] = await buy(sessions, student, new_hold(10_000, lesson_id=lesson, tutor_id=tutor))
    await enact(sessions, Changes(attendance_percent=60))
    # 40 of 90 minutes: enough by the terms of the sale, too little by those at the lesson's end.
    known = facts(lesson, {student: 2_400}, tutor_id=tutor, tutor_attended_s=2_400)
    known = msgspec.structs.replace(known, tutor_absent=True)
    async with sessions.begin() as session:
        await older.due(session, known, now=NOW)
        await settlement.settle(session, lesson, now=NOW)

    heard = []
    for tutor_s, is_absent in ((2_400, True), (3_239, True), (3_240, False)):
        late = facts(lesson, {student: 2_401}, tutor_id=tutor, tutor_attended_s=tutor_s)
        async with sessions.begin() as session:
            heard.append(
                await settlement.reconsider(
                    session, msgspec.structs.replace(late, tutor_absent=is_absent), now=NOW
                )
            )
        assert await violations(sessions) == []

    async with sessions() as session:
        shown = await view(session, hold)
        told = await session.scalars(text("select is_by_hold from lesson_facts order by version"))
        assert told.all() == [False] * 4
    assert heard == [Reconsidered(), Reconsidered(), Reconsidered(to_review=(hold,))]
    assert shown.cause is Cause.TUTOR_ABSENT
    assert shown.attendance is not None
    assert shown.attendance.tutor_required_s == 3_240


async def test_late_evidence_is_judged_by_each_sale_whoever_heard_some_before(sessions: Sessions) -> None:
    """An older process told of late evidence by its own rule; a newer one, of the same, by what was frozen."""
    student, tutor, lesson = owner(), owner(), uuid4()
    await fund(sessions, student, 10_000)
    [hold] = await buy(sessions, student, new_hold(10_000, lesson_id=lesson, tutor_id=tutor))
    await enact(sessions, Changes(attendance_percent=60))

    def told(student_s: int) -> LessonFacts:
        known = facts(lesson, {student: student_s}, tutor_id=tutor, tutor_attended_s=2_400)
        return msgspec.structs.replace(known, tutor_absent=True)

    await end(sessions, told(2_400))
    async with sessions.begin() as session:
        await older.tell(session, told(2_401), 2, now=NOW)
        heard = await settlement.reconsider(session, told(2_401), now=NOW)
        again = await settlement.reconsider(session, told(2_401), now=NOW)

    assert heard == again == Reconsidered()
    assert await balance(sessions, student) == 0
    async with sessions() as session:
        rows = await session.scalars(text("select is_by_hold from lesson_facts order by version"))
        assert rows.all() == [True, False, True]
        assert (await view(session, hold)).cause is Cause.ATTENDANCE
    assert await violations(sessions) == []


async def test_by_other_terms_what_nobody_took_goes_back(sessions: Sessions) -> None:
    seller = Seller(sessions)
    await enact(sessions, Changes(package_expiry="refund"))
    package_id = await seller.sell(lessons=3, price=1_000, validity_days=30)

    await seller.passes(timedelta(days=31))

    assert (await seller.package(package_id)).status == "expired"
    assert await balance(sessions, seller.student) == 1_000
    async with sessions() as session:
        shown = [await view(session, hold.id) for hold in await seller.slices(package_id)]
    assert {(one.status, one.cause) for one in shown} == {("refunded", "expired")}
    assert await violations(sessions) == []


async def test_other_terms_end_no_package_that_was_bought_before_them(sessions: Sessions) -> None:
    seller = Seller(sessions)
    package_id = await seller.sell(lessons=1, price=1_000, validity_days=30)
    await enact(
        sessions,
        Changes(package_expiry="refund", package_refund_days=0, package_warning_days=0),
        at=NOW + timedelta(days=1),
    )

    await seller.passes(timedelta(days=31))

    assert (await seller.told(package_id)).count("package.ending") == 1
    assert [hold.status for hold in await seller.slices(package_id)] == ["released"]


# --- Tiers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("earned", "fee", "above"),
    [
        (-5, 2_000, (100_000, 100_005, 1_500)),
        (0, 2_000, (100_000, 100_000, 1_500)),
        (99_999, 2_000, (100_000, 1, 1_500)),
        (100_000, 1_500, (500_000, 400_000, 1_000)),
        (499_999, 1_500, (500_000, 1, 1_000)),
        (500_000, 1_000, None),
        (10**12, 1_000, None),
    ],
)
def test_the_tier_follows_the_lifetime_earnings(
    earned: int, fee: int, above: tuple[int, int, int] | None
) -> None:
    next_from, missing, next_fee = above or (None, None, None)

    assert lifetime.standing(terms(), earned) == lifetime.Progress(
        earned=Money(earned),
        fee_bps=fee,
        next_from=None if next_from is None else Money(next_from),
        missing=None if missing is None else Money(missing),
        next_fee_bps=next_fee,
    )
    for kind in (SourceKind.BOOKING, SourceKind.PACKAGE_SLICE):
        for attribution in (policy.TIER, policy.REFERRAL):
            assert policy.tutor_bps(terms(), kind, attribution, lifetime=earned) == BPS_WHOLE - fee


def test_a_tier_may_begin_with_the_first_cent() -> None:
    steep = terms(booking_tiers=(Tier(0, 2_000), Tier(1, 1_000)))

    assert [lifetime.standing(steep, earned).next_from for earned in (0, 1)] == [Money(1), None]


def test_a_course_is_split_by_who_brought_the_student_whatever_the_tier() -> None:
    for kind in (SourceKind.COURSE_SESSION, SourceKind.COURSE_SLICE):
        shares = [policy.tutor_bps(terms(), kind, who, lifetime=10**9) for who in ("platform", "referral")]

        assert shares == [3_000, 7_000]


TIERS = st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, BPS_WHOLE)), max_size=6).map(
    lambda steps: (Tier(0, 2_000), *(Tier(begins, fee) for begins, fee in sorted(dict(steps).items())))
)


@given(tiers=TIERS, earned=st.integers(-1_000, 2 * 10**9), amount=st.integers(1, 10_000_000))
def test_every_tier_divides_every_amount_without_losing_a_cent(
    tiers: tuple[Tier, ...], earned: int, amount: int
) -> None:
    assert not list(policy.problems(msgspec.structs.asdict(terms(booking_tiers=tiers))))
    share = policy.tutor_bps(terms(booking_tiers=tiers), SourceKind.BOOKING, policy.TIER, lifetime=earned)

    tutor, platform = split(amount, share)

    [*_, reached] = [tier for tier in tiers if tier.from_earned <= max(earned, 0)]
    assert share == BPS_WHOLE - reached.fee_bps
    assert tutor + platform == amount
    assert 0 <= amount * share - tutor * BPS_WHOLE < BPS_WHOLE


@given(st.integers(0, BPS_WHOLE), st.integers(0, BPS_WHOLE))
def test_what_is_absent_stays(platform: int, referral: int) -> None:
    changes = Changes(course_platform_bps=platform, course_referral_bps=referral)
    if (platform, referral) == (3_000, 7_000):
        return

    after = policy.amended(terms(), changes)

    assert changes.min_price is UNSET
    assert after == terms(version=2, course_platform_bps=platform, course_referral_bps=referral)


async def test_lifetime_counts_what_tiers_are_for_and_what_was_not_given_back(sessions: Sessions) -> None:
    tutor = owner()
    for kind, attended_s in (
        (SourceKind.BOOKING, PLANNED_S),
        (SourceKind.BOOKING, 0),
        (SourceKind.COURSE_SESSION, PLANNED_S),
    ):
        student, lesson = owner(), uuid4()
        await fund(sessions, student, 1_000)
        await buy(
            sessions,
            student,
            new_hold(1_000, lesson_id=lesson, tutor_id=tutor, tutor_bps=8_000, source_kind=kind),
        )
        known = facts(lesson, {student: attended_s}, tutor_id=tutor, tutor_attended_s=attended_s)
        await end(sessions, known)

    async with sessions() as session:
        tiered = await lifetime.net(session, tutor, everything=False)
        everything = await lifetime.net(session, tutor, everything=True)
        nobody = await lifetime.net(session, owner(), everything=True)
        progress = await lifetime.progress(session, tutor, terms(tiers_count_everything=True))

    assert (tiered, everything, nobody) == (800, 1_600, 0)
    assert (progress.earned, progress.missing) == (Money(1_600), Money(98_400))

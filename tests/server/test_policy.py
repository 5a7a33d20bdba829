"""The terms as everybody reads them and the owner makes them."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select

from billing.models import PackageExpiry
from billing.policy import Policy, Tier
from server.audit import AuditEntry
from server.context import Principal, Role
from server.errors import ForbiddenError
from server.features.policy import words
from tests.billing.test_policy_enact import terms
from tests.server.school import START, School
from tests.server.stage import Stage

REASON = "Because of the season."

# Another value for each field of the terms.
OTHERS: dict[str, Any] = {
    "booking_tiers": (Tier(0, 3_333),),
    "tiers_count_everything": True,
    "package_expiry": PackageExpiry.REFUND,
}


async def owner_of(stage: Stage) -> Principal:
    [owner] = await stage.people(1, Role.OWNER)
    return owner


async def change(stage: Stage, owner: Principal, *, base: int = 1, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = await stage.do(
        "policy.set", owner, base_version=base, changes=changes, reason=REASON
    )
    return made


def said(of: Policy) -> dict[str, tuple[str, str]]:
    return {rule.name: (rule.en, rule.vi) for rule in words.rules(of)}


def test_every_term_is_said_in_both_languages_by_the_value_that_the_code_uses() -> None:
    fields = [field.name for field in msgspec.structs.fields(Policy) if field.name != "version"]
    before = said(terms())

    assert list(before) == fields
    for name in fields:
        other = OTHERS[name] if name in OTHERS else getattr(terms(), name) + 1
        after = said(terms(**{name: other}))
        assert {rule for rule in fields if after[rule] != before[rule]} == {name}
        assert all(ours != theirs for ours, theirs in zip(after[name], before[name], strict=True))


@pytest.mark.parametrize(
    ("bps", "english", "vietnamese"),
    [(0, "0 %", "0 %"), (3_000, "30 %", "30 %"), (3_333, "33.33 %", "33,33 %"), (1_250, "12.5 %", "12,5 %")],
)
def test_shares_are_written_as_people_write_them(bps: int, english: str, vietnamese: str) -> None:
    assert (words.percent(bps, "en"), words.percent(bps, "vi")) == (english, vietnamese)


async def test_everybody_reads_the_terms_in_force(stage: Stage) -> None:
    owner = await owner_of(stage)
    later = stage.parts.clock.now() + timedelta(days=1)
    await stage.do(
        "policy.set",
        owner,
        base_version=1,
        changes={"course_platform_bps": 4_000},
        reason=REASON,
        effective_from=later,
    )

    before = await stage.do("policy.get", None)
    stage.parts.clock.pin(later)
    after = await stage.do("policy.get", None)

    assert (before["terms"]["version"], after["terms"]["version"]) == (1, 2)
    assert before["next_change_at"] == after["effective_from"]
    assert after["next_change_at"] is None
    rules = {rule["name"]: rule for rule in after["rules"]}
    assert after["terms"]["course_platform_bps"] == 4_000
    assert rules["course_platform_bps"]["en"].endswith("the tutor gets 40 %.")
    assert rules["course_platform_bps"]["vi"].endswith("gia sư nhận 40 %.")
    assert rules["booking_tiers"]["en"].endswith(
        "20 % from 0.00 USD on; 15 % from 1,000.00 USD on; 10 % from 5,000.00 USD on."
    )


async def test_only_the_owner_makes_terms_and_it_is_written_down(stage: Stage) -> None:
    owner = await owner_of(stage)
    [admin] = await stage.people(1, Role.ADMIN)
    with pytest.raises(ForbiddenError):
        await change(stage, admin, min_price=200)
    with pytest.raises(ForbiddenError):
        await stage.do("policy.preview", admin, changes={"min_price": 200})

    made = await change(stage, owner, min_price=200, booking_tiers=[{"from_earned": 0, "fee_bps": 1_000}])

    listed = (await stage.do("policy.list", admin, limit=1))["items"]
    older = await stage.do("policy.list", admin, limit=1, cursor=2)
    assert listed == [made]
    assert (made["made_by"], made["made_by_name"], made["reason"]) == (
        str(owner.user_id),
        f"Minted {owner.user_id.hex[:8]}",
        REASON,
    )
    assert [(one["made_by"], one["terms"]["version"]) for one in older["items"]] == [(None, 1)]
    async with stage.parts.sessions() as session:
        [entry] = (await session.scalars(select(AuditEntry).where(AuditEntry.action == "policy.set"))).all()
    assert (entry.actor_id, entry.target_id, entry.reason) == (owner.user_id, UUID(int=2), REASON)
    assert entry.before["min_price"] == 100
    assert entry.after["min_price"] == 200
    assert entry.after.keys() == {"version", "min_price", "booking_tiers", "effective_from"}


async def test_bad_terms_are_refused_field_by_field(school: School) -> None:
    owner = await school.world.person(Role.OWNER)
    body = {"base_version": 1, "reason": REASON, "changes": {"min_price": 0, "late_cancel_percent": 101}}

    answers = [
        await school.ask("POST", path, owner, body) for path in ("/admin/policy", "/admin/policy/preview")
    ]

    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (400, "policy_invalid")
        assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [
            ("min_price", "min_price_out_of_range"),
            ("late_cancel_percent", "late_cancel_percent_out_of_range"),
        ]
    wanted = {"base_version": 1, "reason": REASON, "changes": {"min_price": 200}}
    for fields, status, code in (
        ({"base_version": 2}, 409, "policy_moved"),
        ({"changes": {"min_price": 100}}, 409, "policy_unchanged"),
        ({"reason": "too short"}, 400, "bad_request"),
        ({"effective_from": START - timedelta(seconds=1)}, 400, "policy_effective_from_past"),
    ):
        refused = await school.ask("POST", "/admin/policy", owner, wanted | fields)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    for since in (START + timedelta(days=1), START - timedelta(days=367)):
        period = {"changes": {"min_price": 200}, "since": since}
        nonsense = await school.ask("POST", "/admin/policy/preview", owner, period)
        assert (nonsense.status_code, nonsense.json()["errors"][0]["field"]) == (400, "since")
    assert (await school.do("GET", "/policy", None))["terms"]["version"] == 1


async def test_a_preview_says_what_the_last_month_would_have_been_and_changes_nothing(school: School) -> None:
    owner = await school.world.person(Role.OWNER)
    course = await school.course(sessions=1)
    came, left = await school.students(2)
    for student in (came, left):
        await school.buy(student, course, course["sessions"][0])
    await school.hold_lesson(
        course["sessions"][0], {came.id: timedelta(minutes=90), left.id: timedelta(minutes=30)}
    )
    changes = {"attendance_percent": 50, "course_platform_bps": 5_000}
    # What is settled in this very moment belongs to the next period.
    school.at(school.world.parts.clock.now() + timedelta(minutes=1))

    preview = await school.do("POST", "/admin/policy/preview", owner, {"changes": changes})
    empty = await school.do(
        "POST", "/admin/policy/preview", owner, {"changes": changes, "until": START - timedelta(days=1)}
    )

    report = preview["report"]
    assert (preview["base_version"], preview["terms"]["attendance_percent"]) == (1, 50)
    assert preview["under_newest"] == report["was"]
    assert (report["was"]["released"], report["was"]["to_tutors"]["amount"]) == (2, 6_000)
    assert (report["would_be"]["released"], report["would_be"]["to_tutors"]["amount"]) == (1, 5_000)
    assert report["would_be"]["to_students"]["amount"] == 10_000
    [tutor] = report["tutors"]
    assert (tutor["tutor_id"], tutor["change"]["amount"]) == (str(school.tutor.id), -1_000)
    assert empty["report"]["holds"] == 0
    assert (await school.do("GET", "/policy", None))["terms"]["version"] == 1


async def test_story_12_the_owner_changes_the_split_and_only_new_purchases_feel_it(school: School) -> None:
    owner = await school.world.person(Role.OWNER)
    course = await school.course(sessions=2)
    first, second = course["sessions"]
    (student,) = await school.students(1)
    old = await school.buy(student, course, first)
    quote = await school.quote(student, course, second)

    await school.do(
        "POST",
        "/admin/policy",
        owner,
        {
            "base_version": 1,
            "reason": REASON,
            "changes": {"course_platform_bps": 4_000, "attendance_percent": 100},
        },
    )

    stale = await school.ask("POST", "/purchases", student, {"quote_token": quote["quote_token"]})
    new = await school.buy(student, course, second)
    rule = (await school.quote((await school.students(1))[0], course, second))["refund_rule"]
    assert (stale.status_code, stale.json()["code"]) == (409, "quote_changed")
    assert "less than 100 % of it" in rule
    assert [(one["split"]["tutor_bps"], one["split"]["policy_version"]) for one in (old, new)] == [
        (3_000, 1),
        (4_000, 2),
    ]
    for session in (first, second):
        await school.hold_lesson(session, {student.id: timedelta(minutes=90)})
    shares = [
        (await school.do("GET", f"/holds/{one['holds'][0]['id']}", student))["tutor_share"]["amount"]
        for one in (old, new)
    ]
    assert shares == [3_000, 4_000]
    assert await school.violations() == []

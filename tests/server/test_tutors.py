"""Tutors' profiles: what an application needs, who reads it, and what an answer makes of it."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update

from server.context import Principal, Role
from server.errors import NotFoundError
from server.features.accounts.models import TutorStatus, User, user_of
from server.features.tutors import rules
from server.features.tutors.models import TutorProfile
from server.features.tutors.rules import ProfileIncompleteError, ProfileWaitsError
from tests.server.stage import Stage

REASON = "We would like to read more of your lessons."
WHOLE: dict[str, Any] = {
    "title": "Spanish for journeys",
    "description": "I have taught for years. " * 20,
    "subjects": [" conversation ", "Grammar", "grammar"],
    "languages": ["es", "en"],
    "hourly_rate": {"amount": 2_500, "currency": "USD"},
    "experience_years": 7,
    "is_adult": True,
}


@pytest.fixture
def database_url(module_database: str) -> str:
    return module_database


async def told_of(stage: Stage, admin: Principal, tutor: Principal) -> list[dict[str, Any]]:
    """Return what an administrator was told of one of the tutors of this database."""
    async with stage.parts.sessions() as session:
        name = (await user_of(session, tutor.user_id)).name
    items = (await stage.do("notification.list", admin))["items"]
    return [one for one in items if one["data"] == {"name": name}]


async def newcomer(stage: Stage) -> Principal:
    """Return a tutor who has written nothing yet."""
    [tutor] = await stage.people(1, Role.TUTOR)
    async with stage.parts.sessions.begin() as session:
        await session.execute(
            update(User).where(User.id == tutor.user_id).values(tutor_status=TutorStatus.INCOMPLETE)
        )
    return tutor


async def test_application_waits_and_administrators_are_told_and_can_read_it(stage: Stage) -> None:
    tutor, [admin] = await newcomer(stage), await stage.people(1, Role.ADMIN)
    await stage.do("tutor_profile.update", tutor, **WHOLE)

    sent = await stage.do("tutor_profile.submit", tutor)

    await stage.relay.flush()
    assert (sent["status"], sent["missing"], sent["subjects"]) == ("pending", [], ["conversation", "Grammar"])
    [told] = await told_of(stage, admin, tutor)
    assert (told["type"], told["link"]) == ("tutor_applied", "/admin/tutors")
    assert await stage.do("admin.tutor.profile", admin, user_id=tutor.user_id) == sent
    listed = (await stage.do("admin.user.list", admin, tutor_status="pending"))["items"]
    assert str(tutor.user_id) in {one["id"] for one in listed}


async def test_application_that_lacks_something_is_refused_and_names_it(stage: Stage) -> None:
    tutor = await newcomer(stage)
    begun = await stage.do("tutor_profile.update", tutor, title="Span", languages=["es"], is_adult=True)

    with pytest.raises(ProfileIncompleteError) as refused:
        await stage.do("tutor_profile.submit", tutor)

    missing = ["title", "description", "subjects", "hourly_rate"]
    assert begun["missing"] == missing
    assert (refused.value.code, refused.value.facts) == ("profile_incomplete", {"missing": missing})
    assert (await stage.do("tutor_profile.get", tutor))["status"] == "incomplete"


async def test_what_is_being_read_is_not_changed_and_not_sent_twice(stage: Stage) -> None:
    tutor, [admin] = await newcomer(stage), await stage.people(1, Role.ADMIN)
    await stage.do("tutor_profile.update", tutor, **WHOLE)
    sent = await stage.do("tutor_profile.submit", tutor)

    with pytest.raises(ProfileWaitsError):
        await stage.do("tutor_profile.update", tutor, title="Something else")

    assert await stage.do("tutor_profile.submit", tutor) == sent
    await stage.relay.flush()
    assert len(await told_of(stage, admin, tutor)) == 1


async def test_refused_tutor_reads_why_changes_and_sends_again(stage: Stage) -> None:
    tutor, [admin] = await newcomer(stage), await stage.people(1, Role.ADMIN)
    await stage.do("tutor_profile.update", tutor, **WHOLE)
    await stage.do("tutor_profile.submit", tutor)
    await stage.do("admin.tutor.reject", admin, user_id=tutor.user_id, reason=REASON)
    await stage.relay.flush()

    refused = await stage.do("tutor_profile.get", tutor)
    await stage.do("tutor_profile.update", tutor, description="More of my lessons. " * 30)
    again = await stage.do("tutor_profile.submit", tutor)

    assert (refused["status"], refused["answer"]) == ("rejected", REASON)
    assert (again["status"], again["answer"]) == ("pending", None)


async def test_refusal_of_who_wrote_nothing_is_kept_for_them(stage: Stage) -> None:
    tutor, [admin] = await newcomer(stage), await stage.people(1, Role.ADMIN)

    await stage.do("admin.tutor.reject", admin, user_id=tutor.user_id, reason=REASON)
    await stage.relay.flush()

    assert (await stage.do("tutor_profile.get", tutor))["answer"] == REASON


async def test_approved_tutor_takes_nothing_away_that_approval_needed(stage: Stage) -> None:
    tutor, [admin] = await newcomer(stage), await stage.people(1, Role.ADMIN)
    await stage.do("tutor_profile.update", tutor, **WHOLE | {"subjects": []})
    # An administrator may approve whom they know, whatever the profile lacks (DESIGN 4).
    await stage.do("admin.tutor.approve", admin, user_id=tutor.user_id)

    changed = await stage.do("tutor_profile.update", tutor, title="Spanish at home")
    with pytest.raises(ProfileIncompleteError) as refused:
        await stage.do("tutor_profile.update", tutor, hourly_rate=None)

    assert (changed["status"], changed["title"]) == ("approved", "Spanish at home")
    assert refused.value.facts == {"missing": ["hourly_rate"]}
    assert (await stage.do("tutor_profile.submit", tutor))["status"] == "approved"


async def test_only_tutors_have_a_profile(stage: Stage) -> None:
    [student], [admin] = await stage.people(1), await stage.people(1, Role.ADMIN)

    for user_id in (student.user_id, uuid4()):
        with pytest.raises(NotFoundError):
            await stage.do("admin.tutor.profile", admin, user_id=user_id)


@pytest.mark.parametrize(
    ("part", "short"),
    [
        ("title", "x" * (rules.TITLE_LEAST - 1)),
        ("description", "x" * (rules.DESCRIPTION_LEAST - 1)),
        ("subjects", []),
        ("languages", []),
        ("hourly_rate", None),
        ("is_adult", False),
    ],
)
def test_each_part_is_needed(part: str, short: object) -> None:
    whole = {
        "title": "x" * rules.TITLE_LEAST,
        "description": "x" * rules.DESCRIPTION_LEAST,
        "subjects": ["a"],
        "languages": ["es"],
        "hourly_rate": 500,
        "is_adult": True,
    }

    assert rules.missing(TutorProfile(**whole)) == ()
    assert rules.missing(TutorProfile(**whole | {part: short})) == (part,)


async def test_tutors_are_found_by_what_they_teach_however_it_is_written(stage: Stage) -> None:
    tutor, [student] = await newcomer(stage), await stage.people(1)
    await stage.do("tutor_profile.update", tutor, **WHOLE | {"subjects": ["Old Norse"], "languages": ["is"]})
    async with stage.parts.sessions.begin() as session:
        await session.execute(
            update(User).where(User.id == tutor.user_id).values(tutor_status=TutorStatus.APPROVED)
        )

    async def found(**filters: Any) -> list[str]:
        return [one["id"] for one in (await stage.do("tutor.list", student, **filters))["items"]]

    assert await found(subject=" old NORSE ") == [str(tutor.user_id)]
    assert await found(language="is") == [str(tutor.user_id)]
    assert await found(subject="old norse", language="is") == [str(tutor.user_id)]
    assert await found(subject="Norse") == await found(subject="old norse", language="en") == []

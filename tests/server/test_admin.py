"""What administrators see of the machinery, and do about it."""

from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import select

from billing import jobs
from billing.errors import JobNotFoundError
from server import runner
from server.audit import AuditEntry
from server.context import Role
from server.errors import ForbiddenError
from tests.server.stage import Stage

NOW = datetime(2030, 1, 7, 12, tzinfo=UTC)


class Errand(msgspec.Struct, frozen=True):
    """Nothing to know."""


async def ask(stage: Stage, key: str) -> None:
    async with stage.parts.sessions.begin() as session:
        await jobs.enqueue(session, "errand", Errand(), key=key, run_at=NOW)


async def give_up(stage: Stage) -> None:
    """Have what is due given up."""
    async with stage.parts.sessions.begin() as session:
        for claim in await jobs.claim(session, [(["errand"], NOW)], limit=9, lease=runner.LEASE):
            await jobs.give_up(session, claim, error="no luck", now=NOW)


async def test_work_that_was_given_up_is_found_and_tried_anew_with_a_reason(stage: Stage) -> None:
    [admin] = await stage.people(1, Role.ADMIN)
    await ask(stage, "broken")
    await give_up(stage)
    await ask(stage, "waits")
    why = "The vendor is back again."

    found = (await stage.do("job.list", admin, state="dead"))["items"]
    await stage.do("job.retry", admin, job_id=found[0]["id"], reason=why)

    waiting = (await stage.do("job.list", admin, state="waiting"))["items"]
    async with stage.parts.sessions() as session:
        entry = (await session.scalars(select(AuditEntry).where(AuditEntry.action == "job.retry"))).one()
    assert [(job["key"], job["error"]) for job in found] == [("broken", "no luck")]
    assert {job["key"] for job in waiting} == {"broken", "waits"}
    assert (entry.reason, entry.before["error"]) == (why, "no luck")


async def test_jobs_come_in_pages(stage: Stage) -> None:
    [admin] = await stage.people(1, Role.ADMIN)
    for key in "abc":
        await ask(stage, key)

    first = await stage.do("job.list", admin, limit=2)
    second = await stage.do("job.list", admin, limit=2, cursor=first["next_cursor"])

    assert [job["key"] for job in first["items"] + second["items"]] == ["c", "b", "a"]
    assert second["next_cursor"] is None


async def test_only_what_was_given_up_is_revived(stage: Stage) -> None:
    [admin] = await stage.people(1, Role.ADMIN)
    await ask(stage, "waits")

    [job] = (await stage.do("job.list", admin))["items"]
    for job_id in (job["id"], uuid4()):
        with pytest.raises(JobNotFoundError):
            await stage.do("job.retry", admin, job_id=job_id, reason="Just to be sure.")


@pytest.mark.parametrize("role", [Role.STUDENT, Role.TUTOR])
async def test_the_machinery_is_for_administrators(stage: Stage, role: Role) -> None:
    [person] = await stage.people(1, role)

    with pytest.raises(ForbiddenError):
        await stage.do("job.list", person)

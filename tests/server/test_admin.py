"""What administrators see of the machinery, and do about it."""

import base64
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import select

from billing import jobs
from billing.errors import JobNotFoundError
from billing.models import StripeEvent
from server import runner
from server.audit import AuditEntry
from server.context import Principal, Role
from server.errors import BadRequestError, ForbiddenError, NotFoundError
from tests.server.plans import planned, recorded
from tests.server.stage import Connection, Stage

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

    for op, fields in (
        ("job.list", {}),
        ("admin.room.list", {}),
        ("admin.room.journal", {"room_id": uuid4()}),
        ("admin.webhook.list", {"provider": "stripe"}),
    ):
        with pytest.raises(ForbiddenError):
            await stage.do(op, person, **fields)


# --- Rooms ------------------------------------------------------------------------------------------------


async def open_talk(stage: Stage, host: Principal, title: str = "Films") -> Any:
    return await stage.do("talk.create", host, title=title, language="en")


async def test_live_map_shows_open_rooms_with_their_people_and_what_falls_due(stage: Stage) -> None:
    [admin] = await stage.people(1, Role.ADMIN)
    host, guest = await stage.people(2)
    talk = await open_talk(stage, host)
    await stage.do("room.join", host, room_id=talk["room_id"], connection=Connection())
    await stage.do("room.join", guest, room_id=talk["room_id"], connection=Connection())
    over = await open_talk(stage, guest, "Over")
    await stage.do("talk.close", guest, talk_id=over["id"])

    [room] = (await stage.do("admin.room.list", admin))["items"]
    [closed] = (await stage.do("admin.room.list", admin, state="closed"))["items"]

    assert (room["title"], room["kind"], room["state"], room["cap"]) == ("Films", "talk", "live", 4)
    assert [(seat["name"], seat["no"], seat["state"]) for seat in room["seats"]] == [
        (host.name, 1, "connected"),
        (guest.name, 2, "connected"),
    ]
    assert (closed["title"], closed["seats"]) == ("Over", [])


async def test_live_map_shows_evidence_and_the_times_of_a_lesson(stage: Stage) -> None:
    sold = await stage.sell_lesson()
    stage.parts.clock.pin(sold.starts_at)
    await stage.do("room.join", sold.tutor, room_id=sold.room_id, connection=Connection())

    [room] = (await stage.do("admin.room.list", sold.admin))["items"]

    assert (room["kind"], room["owner_id"]) == ("course_session", str(sold.tutor.user_id))
    assert datetime.fromisoformat(room["starts_at"]) == sold.starts_at
    assert room["evidence"]["count"] == 1
    assert room["timers"], "it will end by itself"
    assert room["settled"] is False


async def test_journal_is_walked_page_by_page_and_says_who_did_what(stage: Stage) -> None:
    [admin] = await stage.people(1, Role.ADMIN)
    [host] = await stage.people(1)
    talk = await open_talk(stage, host)
    await stage.do("room.join", host, room_id=talk["room_id"], connection=Connection())
    await stage.do("chat.send", host, room_id=talk["room_id"], text="Hello", key="a-key")
    wrong = await stage.do("chat.send", host, room_id=talk["room_id"], text="Oh no")
    await stage.do("chat.delete", host, room_id=talk["room_id"], message_id=wrong["message"]["id"])

    first = await stage.do("admin.room.journal", admin, room_id=talk["room_id"], limit=2)
    second = await stage.do("admin.room.journal", admin, room_id=talk["room_id"], cursor=first["next_cursor"])
    steps = first["items"] + second["items"]

    assert [step["seq"] for step in steps] == list(range(1, first["room"]["events"] + 1))
    assert second["next_cursor"] is None
    assert steps[0]["type"] == "room_created"
    said = [step for step in steps if step["type"] == "message_created"]
    assert [(step["actor"], step["facts"]["text"]) for step in said] == [
        (str(host.user_id), "Hello"),
        (str(host.user_id), ""),
    ]
    assert not any({"key", "digest"} & step["facts"].keys() for step in steps)


async def test_journal_of_a_closed_room_stays_readable_and_of_none_is_not_found(stage: Stage) -> None:
    [admin] = await stage.people(1, Role.ADMIN)
    [host] = await stage.people(1)
    talk = await open_talk(stage, host)
    await stage.do("talk.close", host, talk_id=talk["id"])

    page = await stage.do("admin.room.journal", admin, room_id=talk["room_id"])

    assert page["room"]["state"] == "closed"
    assert "room_closed" in [step["type"] for step in page["items"]]
    with pytest.raises(NotFoundError):
        await stage.do("admin.room.journal", admin, room_id=uuid4())


# --- Webhooks ---------------------------------------------------------------------------------------------


async def test_inbox_shows_deliveries_in_pages_and_which_of_them_wait(stage: Stage) -> None:
    [admin] = await stage.people(1, Role.ADMIN)
    async with stage.parts.sessions.begin() as session:
        for name, handled_at in (("evt_a", NOW), ("evt_b", None), ("evt_c", NOW)):
            event = StripeEvent(
                id=name,
                type="payout.paid",
                object_id="po_1",
                digest=bytes(32),
                created_at=NOW,
                handled_at=handled_at,
            )
            session.add(event)
            await session.flush()

    first = await stage.do("admin.webhook.list", admin, provider="stripe", limit=2)
    rest = await stage.do("admin.webhook.list", admin, provider="stripe", cursor=first["next_cursor"])
    waiting = await stage.do("admin.webhook.list", admin, provider="stripe", waiting=True)
    media = await stage.do("admin.webhook.list", admin, provider="livekit")

    assert [one["id"] for one in first["items"] + rest["items"]] == ["evt_c", "evt_b", "evt_a"]
    assert [(one["id"], one["about"]) for one in waiting["items"]] == [("evt_b", "po_1")]
    assert (media["items"], rest["next_cursor"]) == ([], None)
    a_zero = base64.urlsafe_b64encode(b'["2026-03-01T12:00:00Z","evt\\u0000"]').decode()
    too_early = base64.urlsafe_b64encode(b'["0001-01-01T00:00:00+23:59","evt"]').decode()
    for cursor in ("nonsense", a_zero, too_early):
        with pytest.raises(BadRequestError):
            await stage.do("admin.webhook.list", admin, provider="stripe", cursor=cursor)


# --- Plans ------------------------------------------------------------------------------------------------


async def test_a_list_of_what_there_ever_was_comes_from_an_index_in_its_order(stage: Stage) -> None:
    [admin] = await stage.people(1, Role.ADMIN)
    engine = stage.parts.sessions.kw["bind"]
    lists: list[tuple[str, dict[str, Any]]] = [
        ("admin.webhook.list", {"provider": "livekit"}),
        ("admin.webhook.list", {"provider": "livekit", "waiting": True}),
        ("admin.webhook.list", {"provider": "stripe"}),
        ("admin.webhook.list", {"provider": "stripe", "waiting": True}),
        ("admin.room.list", {}),
        ("admin.room.list", {"state": "closed"}),
    ]

    steps = []
    for name, wish in lists:
        with recorded(engine) as asked:
            await stage.do(name, admin, **wish)
        pages = [one for one in asked if "LIMIT" in one.statement]
        steps.append(
            {step["Node Type"] async for step in planned(engine, pages, avoiding=("seqscan", "sort"))}
        )

    assert all("Limit" in found for found in steps)
    assert not set().union(*steps) & {"Seq Scan", "Bitmap Heap Scan", "Sort", "Incremental Sort"}

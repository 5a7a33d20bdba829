"""Rows of work as administrators see them."""

from datetime import timedelta
from uuid import UUID

import msgspec
from msgspec.structs import replace

from billing import jobs
from billing.jobs import JobView
from tests.billing.world import NOW, Sessions

LEASE = timedelta(hours=1)
EVERY = timedelta(minutes=5)


class Errand(msgspec.Struct, frozen=True):
    """Nothing to know."""


async def enqueue(sessions: Sessions, key: str) -> None:
    async with sessions.begin() as session:
        await jobs.enqueue(session, "errand", Errand(), key=key, run_at=NOW)


async def claim(sessions: Sessions, kind: str, *, lease: timedelta = LEASE) -> jobs.Claim:
    async with sessions.begin() as session:
        [claimed] = await jobs.claim(session, [((kind,), NOW)], limit=9, lease=lease)
    return claimed


async def test_what_a_dead_worker_had_taken_waits(sessions: Sessions) -> None:
    await enqueue(sessions, "lost")
    await claim(sessions, "errand", lease=-LEASE)

    async with sessions() as session:
        [lost] = await jobs.find(session, state="waiting", limit=9, before=None)
        running = await jobs.find(session, state="running", limit=9, before=None)

    assert (lost.key, lost.state, running) == ("lost", "waiting", [])


async def test_work_that_is_asked_for_again_while_it_is_done_waits_as_if_new(sessions: Sessions) -> None:
    await enqueue(sessions, "twice")
    failed = await claim(sessions, "errand")
    async with sessions.begin() as session:
        await jobs.put_off(session, failed, error="no luck", run_at=NOW)
    done = await claim(sessions, "errand")
    await enqueue(sessions, "twice")
    async with sessions.begin() as session:
        await jobs.finish(session, done)

    async with sessions() as session:
        [again] = await jobs.find(session, state=None, limit=9, before=None)

    assert done.tries == 2
    assert (again.state, again.tries, again.error) == ("waiting", 0, None)


async def test_a_row_shows_what_became_of_it(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await jobs.plan(session, {"sweep": (EVERY, NOW)})
    swept = await claim(sessions, "sweep")
    await enqueue(sessions, "broken")
    broken = await claim(sessions, "errand")
    async with sessions.begin() as session:
        await jobs.repeat(session, swept, run_at=NOW + EVERY, now=NOW, duration_ms=12, count=3)
        await jobs.give_up(session, broken, error="no luck", now=NOW)
    await enqueue(sessions, "taken")
    taken = await claim(sessions, "errand")
    await enqueue(sessions, "waits")

    async with sessions() as session:
        found = await jobs.find(session, state=None, limit=9, before=None)
        two = await jobs.find(session, state=None, limit=2, before=None)
        older = await jobs.find(session, state=None, limit=9, before=UUID(int=taken.id))
        by_state = {
            state: [one.key for one in await jobs.find(session, state=state, limit=9, before=None)]
            for state in ("dead", "running", "waiting")
        }

    waits = JobView(
        id=found[0].id,
        kind="errand",
        key="waits",
        state="waiting",
        run_at=NOW,
        tries=0,
        error=None,
        dead_at=None,
        every_s=None,
        last_run_at=None,
        last_duration_ms=None,
        last_count=None,
    )
    assert found == [
        waits,
        replace(waits, id=UUID(int=taken.id), key="taken", state="running", tries=1),
        replace(
            waits, id=UUID(int=broken.id), key="broken", state="dead", tries=1, error="no luck", dead_at=NOW
        ),
        replace(
            waits,
            id=UUID(int=swept.id),
            kind="sweep",
            key=swept.key,
            run_at=NOW + EVERY,
            every_s=300,
            last_run_at=NOW,
            last_duration_ms=12,
            last_count=3,
        ),
    ]
    assert (two, older) == (found[:2], found[2:])
    assert by_state == {"dead": ["broken"], "running": ["taken"], "waiting": ["waits", swept.key]}

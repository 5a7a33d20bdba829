"""The lobby, histories, links and the looks of a node among a million talks: found by indexes, never by walking over all.

The short form fills a twentieth of that, which is enough for the planner to show what it would do.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from rooms import ownership
from server.context import Principal, Role
from tests.conftest import FIGURES
from tests.server.plans import Asked, planned, recorded
from tests.server.stage import Stage

TALKS, TALKS_FULL = 50_000, 1_000_000
# A table that is read from end to end by one of these questions would cost seconds in production.
BIG = {"talk", "room", "room_owner", "room_event", "room_timer", "media_event", "talk_stay", "outbox"}
HOSTS = 1_000

# A third is closed, a fifth of the open ones is full, one of ten is private; one of two hundred has people inside.
FILL = (
    """
    insert into users (id, email, first_name, last_name, role, timezone, locale, version, created_at)
    select md5('host' || n)::uuid, 'host' || n || '@example.org', 'Host', n::text, 'student', 'UTC', 'en', 1, now()
    from generate_series(1, {hosts}) n
    """,
    """
    insert into room_node (id, address, renewed_at, expires_at)
    values (md5('node')::uuid, '', now(), now() + interval '1 hour')
    """,
    """
    insert into room (id, kind, title, epoch, state, cap, seated, owner, host, created_at, updated_at)
    select md5('room' || n)::uuid, 'talk', 'Talk ' || n, 'e', case when n % 3 = 0 then 'closed' else 'live' end, 4,
        case when n % 3 = 0 then 0 when n % 5 = 0 then 4 when n % 200 = 1 then 2 else 0 end,
        md5('host' || n % {hosts})::uuid::text, md5('host' || n % {hosts})::uuid::text,
        now() - n * interval '1 second', now()
    from generate_series(1, {talks}) n
    """,
    """
    insert into room_owner (room_id, node_id, fence)
    select md5('room' || n)::uuid, case when n % 3 <> 0 and (n % 5 = 0 or n % 200 = 1) then md5('node')::uuid end, 1
    from generate_series(1, {talks}) n
    """,
    """
    insert into room_event (room_id, seq, off, fence, type, data, at)
    select md5('room' || n)::uuid, 1, 1, 0, 'room.created', '{{}}', now() from generate_series(1, {talks}) n
    """,
    """
    insert into room_timer (room_id, name, due_at, clock)
    select md5('room' || n)::uuid, 'unjoined', now() + interval '1 year' + n * interval '1 second', 'business'
    from generate_series(1, {talks}) n where n % 3 <> 0
    """,
    """
    insert into media_event (event_id, room_id, generation, room_name, type, counted, created_at, body, received_at, read_at)
    select 'EV_' || n, md5('room' || n)::uuid, 1, 'r', 'room_started', true, now(), '{{}}', now(), now()
    from generate_series(1, {talks}) n
    """,
    """
    insert into talk (id, room_id, code, host_id, description, language, level, topic, region, is_public, created_at,
        closed_at)
    select md5('talk' || n)::uuid, md5('room' || n)::uuid, lpad(to_hex(n), 10, 'x'),
        md5('host' || (n % {hosts} + 1))::uuid, '', (array['en', 'vi', 'es', 'fr', 'De'])[n % 5 + 1],
        (array['A1', 'A2', 'B1', 'B2', 'C1', 'C2'])[n % 7 + 1], 'topic ' || n % 50,
        (array['VN', 'US', 'DE', null])[n % 4 + 1], n % 10 <> 0, now() - n * interval '1 second',
        case when n % 3 = 0 then now() end
    from generate_series(1, {talks}) n
    """,
    """
    insert into talk_stay (talk_id, seat_generation, user_id, taken_at, joined_at, left_at)
    select md5('talk' || n)::uuid, 1, md5('host' || (n % {hosts} + 1))::uuid, now(), now(), now()
    from generate_series(1, {talks}) n
    """,
)

Sessions = async_sessionmaker[AsyncSession]


async def walked(engine: AsyncEngine, asked: Sequence[Asked]) -> set[str]:
    """Return the big tables that the plans of these questions read from end to end."""
    nodes = [node async for node in planned(engine, asked)]
    return {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"} & BIG


@pytest.mark.timeout(900)
async def test_nothing_that_is_asked_often_walks_over_all_talks(
    stage: Stage, full: bool, record_property: Callable[[str, object], None]
) -> None:
    talks = TALKS_FULL if full else TALKS
    engine = stage.parts.sessions.kw["bind"]
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("set statement_timeout = 0"))
        await connection.execute(text("set synchronous_commit = off"))
        for statement in FILL:
            await connection.exec_driver_sql(statement.format(talks=talks, hosts=HOSTS))
        await connection.execute(text("vacuum analyze"))
    host = Principal(await _host(stage.parts.sessions), Role.STUDENT, "Host 1", 1)
    admin = Principal(host.user_id, Role.ADMIN, "Admin", 1)
    first = await stage.do("talk.list", None, limit=100)

    async def look(about: Callable[[AsyncSession], Awaitable[object]]) -> None:
        async with stage.parts.sessions() as session:
            await about(session)

    now = stage.parts.clock.now()
    questions: dict[str, Callable[[], Awaitable[object]]] = {
        "lobby": lambda: stage.do("talk.list", None),
        "lobby, second page": lambda: stage.do("talk.list", None, cursor=first["next_cursor"]),
        "nearby": lambda: stage.do("talk.list", None, nearby=True, region="VN"),
        "language": lambda: stage.do("talk.list", None, language="vi"),
        "level": lambda: stage.do("talk.list", None, level="B2"),
        "topic": lambda: stage.do("talk.list", None, topic="Topic 7"),
        "nearby, language": lambda: stage.do("talk.list", None, nearby=True, region="US", language="de"),
        "language, level": lambda: stage.do("talk.list", None, language="en", level="C2"),
        "all four": lambda: stage.do(
            "talk.list", None, region="US", language="vi", level="B2", topic="topic 1"
        ),
        "language of nobody": lambda: stage.do("talk.list", None, language="eo"),
        "link": lambda: stage.do("talk.get", None, talk_id="xxxxxxxxab"),
        "history": lambda: stage.do("talk.history", host),
        "history of all": lambda: stage.do("talk.history", admin),
        "abandoned": lambda: look(
            lambda session: ownership.abandoned(session, now=now, wall=stage.parts.clock.wall())
        ),
        "news": lambda: look(lambda session: ownership.with_news(session, uuid4())),
    }
    took: dict[str, float] = {}
    walks: dict[str, set[str]] = {}
    for name, ask in questions.items():
        with recorded(engine) as asked:
            await ask()
        walks[name] = await walked(engine, asked)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            await ask()
            times.append(time.perf_counter() - began)
        took[name] = sorted(times)[2] * 1000

    listed = ", ".join(f"{name} {ms:.1f}" for name, ms in took.items())
    record_property(FIGURES, f"{talks:,} talks, ms (median of 5): {listed}")
    assert {name: tables for name, tables in walks.items() if tables} == {}
    assert len(first["items"]) == 100


async def _host(sessions: Sessions) -> UUID:
    async with sessions() as session:
        found = await session.scalar(text("select md5('host1')::uuid"))
    assert found is not None
    return UUID(str(found))

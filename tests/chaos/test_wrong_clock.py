"""One of two nodes has a clock that is five minutes wrong: it says so, and no deadline is wrong for it."""

import asyncio
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.client import RefusedError, Town, town
from tests.chaos.pair import pair
from tests.chaos.server import Account, Server, running

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

AHEAD_S, BEHIND_S = 300, -300
# The lease of a node that died, looked at every 2 s.
ADOPTED_S = 12.0
# DESIGN §4: the grace of a seat, begun anew when another node adopts the room.
GRACE_S = 30.0
# What a busy machine may be late. It is never early, but by what two clocks are read apart.
LATE_S, EARLY_S = 10.0, 1.0
# A lesson ends by itself so long after its time; the node starts that much before.
OVERTIME = timedelta(minutes=5)
BEFORE_S = 30.0
LOOK_S = 0.1
TOKEN_S = 10
TOKEN_EXPIRED = 4201


@pytest.fixture(scope="session")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Mapping[str, str]]:
    """Makes the environment of a process whose clock is so many seconds wrong."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler makes the library that shifts a clock")
    library = tmp_path_factory.mktemp("clock") / "wrong_clock.so"
    source = Path(__file__).with_name("wrong_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    return lambda shift_s: {"LD_PRELOAD": str(library), "CLOCK_SHIFT_S": str(shift_s)}


WrongClock = Callable[[int], Mapping[str, str]]


@pytest.mark.parametrize("shift_s", [BEHIND_S, AHEAD_S])
async def test_tokens_and_seats_last_as_long_as_elsewhere(
    tmp_path: Path,
    database_url: str,
    redis_url: str,
    wrong_clock: WrongClock,
    record_property: Callable[[str, object], None],
    shift_s: int,
    *,
    full: bool,
) -> None:
    if not full:
        pytest.skip("the grace is waited for in the long form")
    clocks: list[Mapping[str, str]] = [wrong_clock(shift_s), {}]
    async with pair(tmp_path, database_url, [redis_url] * 2, environments=clocks) as both:
        wrong, right = both.nodes
        host, guest, witness = both.people
        for maker, other in ((wrong, right), (right, wrong)):
            await _log_in_at_one_and_go_to_the_other(both.of, maker, other)
        await _a_token_lasts_as_long_as_it_says(both.of, wrong)
        await both.say(guest, "the lease holds")
        owner, fence = await both.owner()
        assert fence == 1, "no node was taken for dead"

        # The grace begins by the wrong clock and ends by the right one.
        guest.go()
        gone_at = time.monotonic()
        while "grace" not in _states(witness.events[f"room:{both.room_id}"], guest.user_id):
            assert time.monotonic() < gone_at + LATE_S, "its grace has not begun"
            await asyncio.sleep(LOOK_S)
        await wrong.kill()
        host.base = right.base
        while await _has_seat(right, both.room_id, guest.user_id):
            assert time.monotonic() < gone_at + ADOPTED_S + GRACE_S + 2 * LATE_S, "its seat is kept for ever"
            await asyncio.sleep(LOOK_S)
        freed_s = time.monotonic() - gone_at

        assert freed_s > GRACE_S - EARLY_S
        assert (await both.owner())[0] != owner
        assert await right.violations() == []
        record_property(
            "figures",
            f"clock of the owner {shift_s:+} s: a seat was freed {freed_s:.1f} s after its last socket",
        )


@pytest.mark.parametrize("shift_s", [AHEAD_S, BEHIND_S])
async def test_a_lesson_ends_in_time(
    tmp_path: Path,
    database_url: str,
    redis_url: str,
    wrong_clock: WrongClock,
    record_property: Callable[[str, object], None],
    shift_s: int,
    *,
    full: bool,
) -> None:
    if not full and shift_s == BEHIND_S:
        pytest.skip("the other direction is in the long form")
    right = Server(tmp_path / "right", database_url=database_url, redis_url=redis_url)
    wrong = Server(
        tmp_path / "wrong",
        database_url=database_url,
        redis_url=redis_url,
        environment=wrong_clock(shift_s),
    )
    async with town() as of:
        async with running(right):
            (tutor,) = await right.mint(1, role="tutor")
            room_id, ends_at = await _lesson(of, right, tutor)
        # Business time is the same for all nodes; nobody but them says what time it is.
        ahead = ends_at + OVERTIME - timedelta(seconds=BEFORE_S) - datetime.now(UTC)
        await right.query("insert into clock_offset (id, ahead) values (1, $1)", ahead)

        def late_s() -> float:
            return (datetime.now(UTC) + ahead - ends_at - OVERTIME).total_seconds()

        async with running(wrong):
            # On a busy machine the start alone may take longer than that.
            latest_s = max(late_s(), 0.0) + LATE_S
            state = "open"
            while state not in ("closing", "closed"):
                assert late_s() < latest_s, "the lesson does not end"
                await asyncio.sleep(LOOK_S)
                room = await of.call(wrong.base, tutor, "GET", f"/rooms/{room_id}")
                state = room["state"]
            ended_s = late_s()

    assert ended_s > -EARLY_S
    record_property("figures", f"clock of one node {shift_s:+} s: the lesson ended {ended_s:+.1f} s late")


async def test_a_wrong_clock_is_an_alarm(
    tmp_path: Path, database_url: str, redis_url: str, wrong_clock: WrongClock
) -> None:
    server = Server(
        tmp_path / "wrong",
        database_url=database_url,
        redis_url=redis_url,
        environment=wrong_clock(AHEAD_S),
    )
    async with running(server), town() as of:
        ready, metrics = "", ""
        end = time.monotonic() + 2 * LATE_S
        while not ("degraded" in ready and server.logged("clock_skewed") and _skew_s(metrics) != 0):
            assert time.monotonic() < end, (ready, metrics)
            await asyncio.sleep(LOOK_S)
            ready = await _text(of, server, "/health/ready")
            metrics = await _text(of, server, "/metrics")

    assert '"clock"' in ready
    assert abs(abs(_skew_s(metrics)) - AHEAD_S) < EARLY_S


async def _log_in_at_one_and_go_to_the_other(of: Town, maker: Server, other: Server) -> None:
    nobody = Account("", "")
    body = {
        "email": f"{uuid.uuid4()}@example.org",
        "password": "Wrong-Clock-1",
        "first_name": "Ada",
        "last_name": "Byron",
        "role": "student",
        "timezone": "UTC",
    }
    registered = await of.call(maker.base, nobody, "POST", "/auth/register", body)
    token = {"refresh_token": registered["refresh_token"]}
    for account in (registered, await of.call(other.base, nobody, "POST", "/auth/refresh", token)):
        for node in (maker, other):
            person = Account(registered["user"]["id"], account["access_token"])
            assert (await of.call(node.base, person, "GET", "/me"))["id"] == person.user_id
            socket = of.client(node.base, person)
            await socket.connect()
            await socket.ask("ping")
            await socket.hang_up()
            assert socket.advice == []


async def _a_token_lasts_as_long_as_it_says(of: Town, node: Server) -> None:
    (person,) = await node.mint(1, ttl_s=TOKEN_S)
    made_at = time.monotonic()
    socket = of.client(node.base, person)
    await socket.connect()
    code = HTTPStatus.OK
    while code == HTTPStatus.OK:
        try:
            await of.call(node.base, person, "GET", "/me")
        except RefusedError as refusal:
            code = HTTPStatus(refusal.code)
        assert time.monotonic() < made_at + TOKEN_S + LATE_S, "it holds for ever"
        await asyncio.sleep(LOOK_S)
    held_s = time.monotonic() - made_at
    async with asyncio.timeout(LATE_S):
        await socket.lost.wait()

    assert code == HTTPStatus.UNAUTHORIZED
    assert held_s > TOKEN_S - EARLY_S - 1, "its end is a whole second"
    assert socket.close_codes == [TOKEN_EXPIRED]


async def _lesson(of: Town, server: Server, tutor: Account) -> tuple[str, datetime]:
    """Make a course with one session and return its room, and when it ends."""
    course = await of.call(
        server.base,
        tutor,
        "POST",
        "/courses",
        {
            "title": "On time",
            "description": "What a minute is, and for whom.",
            "language": "en",
            "level": "B1",
            "category": "languages",
            "duration_hours": 1,
            "total_sessions": 1,
            "price_type": "per_session",
            "price_per_session": {"amount": 1_000, "currency": "USD"},
        },
    )
    starts_at = (datetime.now(UTC) + timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
    session = await of.call(
        server.base,
        tutor,
        "POST",
        f"/courses/{course['id']}/sessions",
        {
            "number": 1,
            "title": "The only one",
            "starts_at": starts_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_minutes": 60,
        },
    )
    await of.call(server.base, tutor, "POST", f"/courses/{course['id']}/publish")
    return session["room_id"], starts_at + timedelta(hours=1)


def _states(events: list[dict[str, Any]], user_id: str) -> list[str]:
    return [event["d"].get("state", "") for event in events if event["d"].get("user_id") == user_id]


async def _has_seat(server: Server, room_id: str, user_id: str) -> bool:
    rows = await server.query(
        "select 1 from room_seat where room_id = $1::text::uuid and identity = $2", room_id, user_id
    )
    return rows != []


async def _text(of: Town, server: Server, path: str) -> str:
    async with of.session.get(server.base + path) as answer:
        return await answer.text()


def _skew_s(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith("fourtalk_clock_skew_s")]
    return float(lines[0].split()[-1]) if lines else 0.0

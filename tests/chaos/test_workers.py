"""Several processes behind one port: they share what comes, one that dies is replaced, and they end together."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos.client import Client, Town, town
from tests.chaos.server import Server, running

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

WORKERS = 3
SOCKETS = 60
# A fair hash leaves a worker without a tenth of the sockets once in 300,000 times.
FAIR_SHARE = SOCKETS // 10
SOON_S = 30.0


async def until(is_so: Callable[[], object], within_s: float = SOON_S) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@asynccontextmanager
async def crowd(of: Town, server: Server, count: int) -> AsyncIterator[list[Client]]:
    """People who are connected, and gone at the end."""
    people = [of.client(server.base, account) for account in await server.mint(count)]
    few = asyncio.Semaphore(8)  # a busy machine would refuse some of sixty at once

    async def connect(person: Client) -> None:
        async with few:
            await person.connect()

    await asyncio.gather(*map(connect, people))
    yield people
    for person in people:
        await person.hang_up()


async def numbers(of: Town, server: Server) -> dict[str, float]:
    """The page of Prometheus, whichever worker answers."""
    async with of.session.get(f"{server.base}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


async def owner_of(server: Server, room_id: str) -> tuple[str, int]:
    (row,) = await server.query(
        "select node_id::text as node, fence from room_owner where room_id = $1::text::uuid", room_id
    )
    return row["node"], row["fence"]


async def test_workers_share_a_port_and_one_that_dies_is_replaced(
    tmp_path: Path, database_url: str, redis_url: str, record_property: Callable[[str, object], None]
) -> None:
    server = Server(tmp_path, database_url=database_url, redis_url=redis_url, workers=WORKERS)
    async with running(server), town() as of:
        before = server.workers()
        async with crowd(of, server, SOCKETS) as people:
            shown = [await numbers(of, server) for _ in range(6)]
            assert {page["fourtalk_connections"] for page in shown} == {SOCKETS}, "each answers for all"
            assert {page["fourtalk_bus_up"] for page in shown} == {1.0}
            victim = _busiest(before)
            four = [of.client(server.base, account) for account in await server.mint(4)]
            room_id = await of.open_talk(server.base, four[0].account)
            for person in four:
                person.rooms.append(room_id)
                person.come()
                await person.say(room_id, "hello")
            owner, fence = await owner_of(server, room_id)

            os.kill(victim, signal.SIGKILL)
            died_at = time.monotonic()
            await until(lambda: sum(person.lost.is_set() for person in people) >= FAIR_SHARE)
            for person in four:
                await person.say(room_id, "who has died?")
            took_s = time.monotonic() - died_at

            await until(lambda: len(server.workers()) == WORKERS)
            assert len(server.workers() & before) == WORKERS - 1
            heir, new_fence = await owner_of(server, room_id)
            assert (heir, new_fence) == (owner, fence) or new_fence > fence
            living = len(four) + sum(not person.lost.is_set() for person in people)
            shown = [await numbers(of, server) for _ in range(3)]
            assert {page["fourtalk_connections"] for page in shown} == {living}, "the dead one's are gone"
            assert [person.faults for person in four] == [[], [], [], []]
        assert [(entry["event"], entry["pid"]) for entry in server.errors()] == [("worker_died", victim)]
        assert await server.violations() == []
        assert await server.stop() == 0
    record_property("figures", f"a worker died, four people talked on within {took_s:.2f} s")


def _busiest(workers: set[int]) -> int:
    """The worker with the most sockets; each has its share of them."""
    open_files = {pid: len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in workers}
    most = max(open_files, key=lambda pid: open_files[pid])
    assert open_files[most] - min(open_files.values()) < SOCKETS - FAIR_SHARE
    return most


async def test_no_worker_outlives_its_parent_and_its_rooms_are_free_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path, workers=2)
    async with running(server), town() as of:
        (account,) = await server.mint(1)
        host = of.client(server.base, account)
        await host.connect()
        room_id = await of.open_talk(server.base, account)
        await host.join(room_id)
        owner, fence = await owner_of(server, room_id)
        workers = server.workers()

        await server.kill()
        await until(lambda: not any(map(lives, workers)))
        await server.start()

        await host.connect()
        await host.join(room_id)
        heir, new_fence = await owner_of(server, room_id)
        assert heir != owner
        assert new_fence > fence
        assert server.errors() == []


async def test_a_second_signal_waits_for_nobody(tmp_path: Path, database_url: str, redis_url: str) -> None:
    server = Server(tmp_path, database_url=database_url, redis_url=redis_url, workers=2)
    async with running(server):
        one, other = server.workers()
        os.kill(one, signal.SIGSTOP)
        server.ask_to_end()
        await until(lambda: not lives(other))
        assert lives(one), "who was asked to end in good order gets the time for it"

        assert await server.stop() == 0

        assert not lives(one)


async def test_a_second_signal_cuts_the_drain_of_one_process_short(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    server = Server(tmp_path, database_url=database_url, redis_url=redis_url)
    async with running(server), town() as of, crowd(of, server, SOCKETS) as people:
        server.ask_to_end()
        await until(lambda: any(person.lost.is_set() for person in people))
        left = sum(not person.lost.is_set() for person in people)

        assert await server.stop() == 0

    assert left > SOCKETS // 2, "the drain had only begun"
    assert server.errors() == []

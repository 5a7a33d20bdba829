"""Everybody wants the same four seats, through two server processes, in the same moment."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.client import ROOM_FULL, Body, Client, LostError, RefusedError, Town, town
from tests.chaos.server import Account, Server, running

pytestmark = [pytest.mark.journey, pytest.mark.timeout(3600)]

CAP = 4
# PROTOCOL 3 and DESIGN §4: a seat is free this long after its last socket is gone; and some time for it to happen.
GRACE_S, MARGIN_S = 30.0, 6.0
LOOK_S = 0.02


class Watch:
    """The most people that anybody saw seated in one room at once: by events, by snapshots, in the table."""

    def __init__(self, room_id: str) -> None:
        self.room_id = room_id
        self.most = 0
        self._seen: dict[int, set[str]] = {}

    def heard_by(self, number: int, snapshot: Body) -> None:
        """Begin with what an observer sees first."""
        self._seen[number] = {person["user_id"] for person in snapshot["participants"]}
        self._count(len(self._seen[number]))

    def event(self, number: int, event: Body) -> None:
        """Take what an observer hears."""
        seen = self._seen.get(number)
        if seen is None or event["ch"] != f"room:{self.room_id}":
            return
        if event["ev"] == "participant.joined":
            seen.add(event["d"]["user_id"])
        elif event["ev"] in ("participant.left", "participant.kicked"):
            seen.discard(event["d"]["user_id"])
        self._count(len(seen))

    async def look(self, servers: list[Server], of: Town, account: Account) -> None:
        """Look at the table and at the snapshots of both servers, again and again."""
        while True:
            (row,) = await servers[0].query(
                "select count(*) as seats from room_seat where room_id = $1::text::uuid", self.room_id
            )
            self._count(row["seats"])
            for server in servers:
                # A server that is busy seating people may have no time to show the room.
                with contextlib.suppress(RefusedError, LostError):
                    room = await of.call(server.base, account, "GET", f"/rooms/{self.room_id}")
                    self._count(len(room["participants"]))
            await asyncio.sleep(LOOK_S)

    def _count(self, seated: int) -> None:
        self.most = max(self.most, seated)


async def test_a_talk_never_seats_more_than_four(
    tmp_path: Path,
    database_url: str,
    redis_url: str,
    record_property: Callable[[str, object], None],
    *,
    full: bool,
) -> None:
    people, rounds = (1000, 200) if full else (100, 1)
    servers = [
        Server(tmp_path / name, database_url=database_url, redis_url=redis_url) for name in ("one", "two")
    ]
    async with running(*servers), town() as of:
        accounts = await servers[0].mint(people + 2)
        crowd = [of.client(servers[number % 2].base, account) for number, account in enumerate(accounts)]
        for client in crowd:
            await client.connect()
        observers, crowd = crowd[:2], crowd[2:]
        began = time.monotonic()
        answered = 0
        winners: list[Client] = []
        room_id = ""
        for number in range(rounds):
            host = crowd[number % people]
            room_id = await of.open_talk(servers[number % 2].base, host.account)

            winners, most, asked = await _storm(of, servers, room_id, crowd, observers)

            answered += asked
            assert most <= CAP, f"round {number}: {most} were seated at once"
            assert len(winners) == CAP, f"round {number}: {len(winners)} got a seat"
            assert host in winners, "the host has a seat from the beginning"
            assert await _seated(servers[0], room_id) == {client.user_id for client in winners}
            if number < rounds - 1:
                await asyncio.gather(*(client.leave(room_id) for client in winners))
                assert await _seated(servers[0], room_id) == set()
        took_s = time.monotonic() - began
        record_property("figures", f"{rounds} rounds, {answered} joins in {took_s:.1f} s, never over {CAP}")

        for client in winners:
            client.cut()
        await asyncio.sleep(GRACE_S + MARGIN_S)

        assert await _seated(servers[0], room_id) == set(), "nobody's ghost keeps a seat"
        for server in servers:
            snapshot = await of.call(server.base, observers[0].account, "GET", f"/rooms/{room_id}")
            assert snapshot["participants"] == []
        assert await servers[0].violations() == []
    assert [
        fault for client in (*crowd, *observers) for fault in client.faults if "control" not in fault
    ] == []
    assert [error for server in servers for error in server.errors()] == []


async def _storm(
    of: Town, servers: list[Server], room_id: str, crowd: list[Client], observers: list[Client]
) -> tuple[list[Client], int, int]:
    """Let everybody ask at once; return who got a seat, the most seen seated, and how often it was asked."""
    watch = Watch(room_id)
    for number, observer in enumerate(observers):
        observer.on_event = lambda event, number=number: watch.event(number, event)  # type: ignore[misc]  # bound now
        await observer.follow(f"room:{room_id}")
        watch.heard_by(number, await of.call(observer.base, observer.account, "GET", f"/rooms/{room_id}"))
    answers: Counter[str] = Counter()

    async def want(client: Client) -> bool:
        while True:
            answers["asked"] += 1
            try:
                await client.join(room_id)
            except RefusedError as refusal:
                if refusal.code == ROOM_FULL:
                    return False
                if not refusal.is_retryable:
                    raise
                await asyncio.sleep(0.2)
            else:
                return True

    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(watch.look(servers, of, observers[0].account))
        got = await asyncio.gather(*(want(client) for client in crowd))
        looking.cancel()
    for observer in observers:
        await observer.ask("unsubscribe", {}, ch=f"room:{room_id}")
        del observer.places[f"room:{room_id}"]
    return [client for client, seated in zip(crowd, got, strict=True) if seated], watch.most, answers["asked"]


async def _seated(server: Server, room_id: str) -> set[str]:
    rows = await server.query("select identity from room_seat where room_id = $1::text::uuid", room_id)
    return {row["identity"] for row in rows}

"""PostgreSQL and Valkey go away and come back while people sit in rooms: sockets stay, and then it goes on."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos.backends import Backends
from tests.chaos.client import OVERLOADED, UNAVAILABLE, UNKNOWN_OUTCOME, Client, RefusedError, town
from tests.chaos.server import Server, running

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

LOOK_S = 0.05
# The server tries the database again after at most 2 s; the rest is for a busy machine.
BACK_S = 15.0


class Talk:
    """Two people in a room of one server."""

    def __init__(self, server: Server, room_id: str, people: list[Client]) -> None:
        self.server = server
        self.room_id = room_id
        self.people = people
        self.said: list[str] = []

    async def say(self, text: str) -> int | None:
        """Say something; return the number of the refusal, None when it was taken."""
        try:
            await self.people[0].ask("chat.send", {"text": text}, ch=f"room:{self.room_id}", key=text)
        except RefusedError as refusal:
            return refusal.code
        self.said.append(text)
        return None

    async def goes_on(self) -> float:
        """Say things until one is taken; return the seconds that took."""
        began = time.monotonic()
        number = 0
        while await self.say(f"are you there {began} {number}") is not None:
            number += 1
            assert time.monotonic() < began + BACK_S, "it does not go on"
            await asyncio.sleep(LOOK_S)
        return time.monotonic() - began

    async def check(self) -> None:
        """See that nobody lost the socket or an event."""
        room = f"room:{self.room_id}"
        (row,) = await self.server.query("select max(off) as head from room_event")
        end = time.monotonic() + BACK_S
        for person in self.people:
            while person.places[room].off < row["head"]:
                assert time.monotonic() < end, "an event is missing"
                await asyncio.sleep(LOOK_S)
            texts = [event["d"]["text"] for event in person.events[room] if event["ev"] == "message.created"]
            assert len(texts) == len(set(texts))
            assert set(self.said) <= set(texts)
            assert person.connects == 1, "the socket stayed open"
            assert not person.lost.is_set(), "the socket stayed open"
            assert person.faults == []


@asynccontextmanager
async def _talk(folder: Path, backends: Backends) -> AsyncIterator[Talk]:
    server = Server(folder / "server", database_url=backends.database_url, redis_url=backends.redis_url)
    async with running(server), town() as of:
        accounts = await server.mint(2)
        people = [of.client(server.base, account) for account in accounts]
        room_id = await of.open_talk(server.base, accounts[0])
        for person in people:
            await person.connect()
            await person.join(room_id)
        talk = Talk(server, room_id, people)
        assert await talk.say("hello") is None
        yield talk
        await talk.check()
    assert server.errors() == [], "an outage is expected, so nobody has to look"


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_without_a_database_commands_are_refused_and_sockets_stay(
    tmp_path: Path,
    backends: Backends,
    record_property: Callable[[str, object], None],
    sig: signal.Signals,
    *,
    full: bool,
) -> None:
    away_s = 25.0 if full else 3.0
    async with _talk(tmp_path, backends) as talk, town() as of:
        await backends.stop_postgres(sig)

        codes: list[int | None] = []
        statuses: list[int] = []
        end = time.monotonic() + away_s
        while time.monotonic() < end:
            codes.append(await talk.say(f"into the void {len(codes)}"))
            with pytest.raises(RefusedError) as refused:
                await of.call(talk.server.base, talk.people[0].account, "GET", "/wallet")
            statuses.append(refused.value.code)
            await asyncio.sleep(LOOK_S)
        await backends.start_postgres()
        back_s = await talk.goes_on()

        assert set(codes) <= {OVERLOADED, UNKNOWN_OUTCOME}
        assert set(statuses) == {UNAVAILABLE}
        record_property(
            "figures", f"away {away_s:.0f} s, {len(codes)} commands refused, back after {back_s:.2f} s"
        )


async def test_without_valkey_one_node_refuses_nothing(
    tmp_path: Path, backends: Backends, record_property: Callable[[str, object], None], *, full: bool
) -> None:
    away_s = 25.0 if full else 3.0
    async with _talk(tmp_path, backends) as talk, town() as of:
        await backends.kill_valkey()

        answers: list[int | None] = []
        slowest = 0.0
        end = time.monotonic() + away_s
        while time.monotonic() < end:
            asked_at = time.monotonic()
            answers.append(await talk.say(f"without Valkey {len(answers)}"))
            await of.call(talk.server.base, talk.people[0].account, "GET", "/wallet")
            slowest = max(slowest, time.monotonic() - asked_at)
            await asyncio.sleep(LOOK_S)
        newcomer = of.client(talk.server.base, (await talk.server.mint(1))[0])
        await newcomer.connect()
        await newcomer.join(talk.room_id)
        await backends.start_valkey()
        await talk.goes_on()

        assert set(answers) == {None}
        record_property(
            "figures", f"away {away_s:.0f} s, {len(answers)} commands taken, the slowest in {slowest:.2f} s"
        )

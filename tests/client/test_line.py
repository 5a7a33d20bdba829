"""The client library against the real server: sockets are cut and the server dies while people talk."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from tests.chaos.client import town
from tests.chaos.server import Server, running
from tests.client import node
from tests.client.line import Line

pytestmark = [pytest.mark.journey, pytest.mark.timeout(1200)]

SEATS = 4
# A person says five things a second: as much as the server's limit of `chat.send` allows.
SAY_EVERY_MS = 200
CUTS_A_SECOND = 12
# Settling is a matter of the last reconnect; the rest is for a busy machine.
SETTLE_S = 60.0


End = Literal["killed", "stopped"]


class Plan(msgspec.Struct, frozen=True):
    """What is done to the line and the server while people talk."""

    cuts: int
    ends: tuple[End, ...]
    """How the server ends, before it starts anew and is frozen for a while."""
    frozen_s: float
    """The server's sleep."""
    tab_frozen_ms: int


# A start costs seconds, so that one of the two ways to end has to do, by chance.
SHORT = Plan(cuts=20, ends=(random.choice(["killed", "stopped"]),), frozen_s=0.3, tab_frozen_ms=300)
# Longer than clients wait for a sign of life (35 s), and than the worker waits for a tab (20 s).
LONG = Plan(cuts=1_000, ends=("killed", "stopped"), frozen_s=40.0, tab_frozen_ms=25_000)


class Party:
    """The Node process in which everybody talks."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None, "it was asked for"
        assert process.stdout is not None, "it was asked for"
        self._stdin, self._stdout = process.stdin, process.stdout

    @classmethod
    @asynccontextmanager
    async def of(cls, plan: dict[str, Any]) -> AsyncIterator["Party"]:
        """Run it, and return once everybody talks."""
        process = await asyncio.create_subprocess_exec(
            *(node.node(), Path(__file__).with_name("party.ts"), msgspec.json.encode(plan).decode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=node.environment(),
            limit=2**26,  # the last line is everything that was heard
        )
        party = cls(process)
        try:
            assert await party.hear() == "talking"
            yield party
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def hear(self) -> str:
        """Return the next thing that it says."""
        async with asyncio.timeout(SETTLE_S):
            return (await self._stdout.readline()).decode().strip()

    def tell(self, word: object) -> None:
        """Say what is wanted next."""
        self._stdin.write(f"{word}\n".encode())


async def test_nothing_is_lost_repeated_or_reordered_whatever_happens_to_the_line(
    tmp_path: Path,
    database_url: str,
    redis_url: str,
    record_property: Callable[[str, object], None],
    *,
    full: bool,
) -> None:
    plan = LONG if full else SHORT
    server = Server(tmp_path / "data", database_url=database_url, redis_url=redis_url)
    async with running(server), town() as of:
        accounts = await server.mint(SEATS)
        room_id = await of.open_talk(server.base, accounts[1])
        async with (
            Line.to(server.port) as line,
            Party.of(
                {
                    "url": f"ws://127.0.0.1:{line.port}/ws",
                    "base": server.base,
                    "room_id": room_id,
                    "tokens": [account.access_token for account in accounts],
                    "every_ms": SAY_EVERY_MS,
                    "frozen_ms": plan.tab_frozen_ms,
                }
            ) as party,
        ):
            began = time.monotonic()
            await _break(line, server, plan)

            party.tell("enough")
            assert await party.hear() == "silent"
            head = len(await _journal(server, room_id))
            party.tell(head)
            heard = msgspec.json.decode(await party.hear())
        journal = await _journal(server, room_id)
        took_s = time.monotonic() - began

        everybody = heard["all"]
        record_property(
            "figures",
            f"{line.cuts} cuts, server {' '.join(plan.ends)} in {took_s:.0f} s: {len(heard['answered'])} said, "
            f"{sum(len(one['events']) for one in everybody)} events heard by {len(everybody)} listeners, "
            f"{heard['connections']} connections, ends {heard['codes']}",
        )
        assert heard["failed"] == []
        texts = Counter(text for text in journal.values() if text is not None and text != "the end")
        assert {text: count for text, count in texts.items() if count > 1} == {}, "nothing is said twice"
        assert texts.keys() == set(heard["answered"]), "what was answered is there, and nothing else"
        for speaker in range(SEATS):
            said = [int(text.split()[1]) for text in texts if text.split()[0] == str(speaker)]
            assert said == list(range(1, len(said) + 1)), "in the order in which it was said"
        for one in everybody:
            _check(one, journal, head)
        assert await server.violations() == []


async def _break(line: Line, server: Server, plan: Plan) -> None:
    """Cut, and let the server die, leave and sleep, all at random moments."""

    async def cut() -> None:
        while line.cuts < plan.cuts:
            line.cut()
            await asyncio.sleep(random.expovariate(CUTS_A_SECOND))

    async with asyncio.TaskGroup() as tasks:
        cutting = tasks.create_task(cut())
        for end in plan.ends:
            await asyncio.sleep(random.uniform(0.3, 0.6))
            if end == "killed":
                await server.kill()
            else:
                assert await server.stop() == 0
            await server.start()
            await asyncio.sleep(random.uniform(0.3, 0.6))
            server.freeze()
            await asyncio.sleep(plan.frozen_s)
            server.thaw()
        await cutting


async def _journal(server: Server, room_id: str) -> dict[int, str | None]:
    """Return what the room's channel has published: the text by offset, None for what is no message."""
    rows = await server.query(
        "select off, data from room_event where room_id = $1::text::uuid and off is not null order by off",
        room_id,
    )
    journal = {row["off"]: msgspec.json.decode(row["data"]).get("text") for row in rows}
    assert list(journal) == list(range(1, len(journal) + 1)), "the journal has no gap"
    return journal


def _check(one: dict[str, Any], journal: dict[int, str | None], head: int) -> None:
    """Compare what one listener heard with the journal, event by event."""
    name = one["name"]
    if "passing" in name and not one["snapshots"]:
        return  # it went before it had seen anything
    assert (one["resets"], one["ends"]) == (0, []), name
    assert len(one["snapshots"]) == 1, name
    (start,) = one["snapshots"]
    offs = [off for off, _ in one["events"]]
    assert offs == list(range(start + 1, start + 1 + len(offs))), name
    assert [text for _, text in one["events"]] == [journal[off] for off in offs], name
    assert "passing" in name or start + len(offs) >= head, f"{name} has everything"

"""A room and its people on two nodes that share a database and a Valkey, and what must hold for them in the end."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.chaos.client import HISTORY_PAGE, Body, Client, Town, town
from tests.chaos.server import Server, running

ARRIVES_S = 15.0
# Nodes compare what they have with the journal every 30 s at most: by then everything that was lost on the way is there.
SETTLES_S = 40.0
LOOK_S = 0.005


class Pair:
    """Two nodes, a room, and its people: the host on one node, the guests on the other; see `put_owner_first`."""

    def __init__(self, nodes: list[Server], of: Town, room_id: str, first_id: str) -> None:
        self.nodes = nodes
        self._first_id = first_id
        self.of = of
        self.room_id = room_id
        self.people: list[Client] = []
        self.said: list[str] = []

    async def say(self, person: Client, text: str) -> float:
        """Say something, repeating it until it was taken; return the seconds that took."""
        began = time.monotonic()
        await person.say(self.room_id, text)
        self.said.append(text)
        return time.monotonic() - began

    async def heard(self, person: Client, text: str) -> None:
        """Wait until somebody has heard something."""
        end = time.monotonic() + ARRIVES_S
        while text not in self._texts_of(person):
            assert time.monotonic() < end, f"{text!r} did not arrive"
            await asyncio.sleep(LOOK_S)

    async def owner(self) -> tuple[str, int]:
        """Return which node runs the room, and its fence."""
        (row,) = await self.nodes[0].query(
            "select node_id::text as node, fence from room_owner where room_id = $1::text::uuid",
            self.room_id,
        )
        return row["node"], row["fence"]

    async def put_owner_first(self) -> None:
        """Swap the nodes, and the first two people, if the room runs on the second: a busy machine may come to that."""
        if (await self.owner())[0] != self._first_id:
            self.nodes.reverse()
            self.people[:2] = self.people[1::-1]

    async def bring(self, person: Client) -> None:
        """Seat somebody else, who stays."""
        person.rooms.append(self.room_id)
        person.come()
        await person.online.wait()
        self.people.append(person)

    async def last_published(self) -> int:
        """Return the number of the newest row in the outbox."""
        (row,) = await self.nodes[0].query("select coalesce(max(id), 0) as id from outbox")
        return int(row["id"])

    async def published_by(self, node_id: str, *, after: int) -> list[Body]:
        """Return what a node wants shown of the room since a row; rows stand for two seconds."""
        rows = await self.nodes[0].query(
            "select data from outbox where node = $1::text::uuid and id > $2 and data->>'room_id' = $3",
            node_id,
            after,
            self.room_id,
        )
        return [row["data"] for row in rows]

    async def move(self, person: Client, node: Server) -> None:
        """Send somebody through another node."""
        person.base = node.base
        person.cut()
        await person.lost.wait()
        await person.online.wait()

    async def check(self) -> None:
        """See that there is one history, and that everybody has it."""
        rows = await self.nodes[0].query(
            "select seq, off, fence from room_event where room_id = $1::text::uuid order by seq",
            self.room_id,
        )
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        offs = [row["off"] for row in rows if row["off"] is not None]
        assert offs == list(range(1, len(offs) + 1))
        fences = [row["fence"] for row in rows]
        assert fences == sorted(fences), "who has lost the room writes nothing into it any more"
        for person in self.people:
            await self._until_has(person, offs[-1])
        assert Counter(self._texts_of(self.people[0])) == Counter(self.said), "each once, and nothing else"
        committed = await self._committed()
        assert len(committed) == len(offs)
        for person in self.people:
            # Who came later has heard what was said since.
            heard = self._texts_of(person)
            everything = self._texts_of(self.people[0])
            assert heard == everything[len(everything) - len(heard) :]
            assert person.faults == []
            assert len(set(person.seats[self.room_id])) == 1, "everybody kept the seat"
            shown = person.events[f"room:{self.room_id}"]
            assert shown == committed[shown[0]["off"] - 1 :], "what was shown is what was committed"
        seats = await self.nodes[0].query(
            "select identity, seat_no from room_seat where room_id = $1::text::uuid", self.room_id
        )
        assert {row["identity"]: row["seat_no"] for row in seats} == {
            person.user_id: person.seats[self.room_id][-1] for person in self.people
        }

    async def _until_has(self, person: Client, off: int) -> None:
        end = time.monotonic() + SETTLES_S
        while person.places[f"room:{self.room_id}"].off < off:
            assert time.monotonic() < end, f"event {off} did not arrive"
            await asyncio.sleep(LOOK_S)

    async def _committed(self) -> list[Body]:
        """Return the whole channel as the server reads it from the journal."""
        reader, ch = self.people[0], f"room:{self.room_id}"
        events: list[Body] = []
        has_more = True
        while has_more:
            since = {"epoch": reader.places[ch].epoch, "off": len(events)}
            page = await reader.ask("history", {"since": since, "limit": HISTORY_PAGE}, ch=ch)
            events += page["events"]
            has_more = page["more"]
        return events

    def _texts_of(self, person: Client) -> list[str]:
        events = person.events[f"room:{self.room_id}"]
        return [event["d"]["text"] for event in events if event["ev"] == "message.created"]


@asynccontextmanager
async def pair(
    folder: Path,
    database_url: str,
    redis_urls: Sequence[str],
    *,
    environments: Sequence[Mapping[str, str]] = ({}, {}),
) -> AsyncIterator[Pair]:
    """Yield two nodes and three people in one room; each node has its own way to Valkey and its environment."""
    nodes = [
        Server(folder / name, database_url=database_url, redis_url=redis_url, environment=environment)
        for name, redis_url, environment in zip(("one", "two"), redis_urls, environments, strict=True)
    ]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(nodes[0]))
        (first,) = await nodes[0].query("select id::text as id from room_node")
        await stack.enter_async_context(running(nodes[1]))
        of = await stack.enter_async_context(town())
        accounts = await nodes[0].mint(3)
        people = [of.client(nodes[min(number, 1)].base, account) for number, account in enumerate(accounts)]
        room_id = await of.open_talk(nodes[0].base, accounts[0])
        both = Pair(nodes, of, room_id, first["id"])
        for person in people:
            await both.bring(person)
        yield both
    errors = [error for node in nodes for error in node.errors()]
    # Somebody has to look at a wrong clock, and a test has made it so.
    assert [error for error in errors if error["event"] != "clock_skewed"] == []


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value that so large a part of them does not exceed."""
    return sorted(values)[min(len(values) - 1, math.ceil(len(values) * part) - 1)]

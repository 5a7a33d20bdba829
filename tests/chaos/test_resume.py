"""Sockets are cut and the server is killed while people talk: everybody has every event once and in order."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest
from redis.asyncio import Redis

from tests.chaos.client import AGAIN_S, Body, Client, LostError, RefusedError, Town, town
from tests.chaos.server import Account, Server, running

pytestmark = [pytest.mark.journey, pytest.mark.timeout(1800)]

ROOMS, SEATS = 4, 4
# About 200 events a second in all: what is said, and what comes to the people's own channels.
VOICES = 3
"""So many things a person says side by side, so that the pace does not hang on how fast the answers come."""
SAY_EVERY_S = 0.27
CREDIT_EVERY_S = 0.1
# Who sleeps for so many events has to read pages when waking up, and is still within the 1,000 that are kept.
SLEEP_EVENTS = 350
CUTS_A_SECOND = 6
# After a start people have some seconds to talk before it is killed again.
TALK_S = 2.0
SETTLE_S = 30.0


class Plan(msgspec.Struct, frozen=True):
    """How much is done to the server and its people."""

    cuts: int
    kills: int


class Party:
    """Rooms full of people who talk, and an admin who sends them money."""

    def __init__(self, of: Town, server: Server, admin: Account, people: list[Client]) -> None:
        self.said: list[str] = []
        """Every text that was answered, each of its own."""
        self.credits: Counter[str] = Counter()
        """How often each person was given a cent."""
        self.people = people
        self.is_over = False
        self._of = of
        self._server = server
        self._admin = admin

    async def talk(self, person: Client, voice: int) -> None:
        """Say one thing after the other."""
        number = 0
        while not self.is_over:
            number += 1
            text = f"{person.user_id} {voice} {number}"
            await person.say(person.rooms[0], text)
            self.said.append(text)
            await asyncio.sleep(SAY_EVERY_S * random.uniform(0.5, 1.5))

    async def sleep(self, sleeper: Client) -> None:
        """Follow all rooms, and be away until there is more to read than one page."""
        awake = self.people[0]
        while not self._has_ended():
            asleep_at = awake.places[f"room:{awake.rooms[0]}"].off
            while awake.places[f"room:{awake.rooms[0]}"].off < asleep_at + SLEEP_EVENTS:
                await asyncio.sleep(AGAIN_S)
                if self._has_ended():
                    return
            try:
                await sleeper.connect()
                await asyncio.sleep(AGAIN_S)
                await sleeper.hang_up()
            except (LostError, aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(AGAIN_S)

    def _has_ended(self) -> bool:
        return self.is_over

    async def credit(self) -> None:
        """Give cents, each under a key, until the server says that it was done."""
        number = 0
        while not self.is_over:
            number += 1
            person = random.choice(self.people)
            body = {
                "user_id": person.user_id,
                "money": {"amount": 1, "currency": "USD"},
                "reason": "a cent for the chaos",
            }
            await self._give(body, key=f"credit {number}")
            self.credits[person.user_id] += 1
            await asyncio.sleep(CREDIT_EVERY_S)

    async def _give(self, body: Body, *, key: str) -> None:
        while True:
            try:
                await self._of.call(
                    self._server.base, self._admin, "POST", "/admin/wallet-adjustments", body, key=key
                )
            except LostError:
                await asyncio.sleep(AGAIN_S)
            except RefusedError as refusal:
                if not refusal.is_retryable:
                    raise
                await asyncio.sleep(AGAIN_S)
            else:
                return


async def test_every_event_arrives_once_and_in_order_whatever_dies(
    tmp_path: Path, record_property: Callable[[str, object], None], *, full: bool
) -> None:
    plan = Plan(cuts=300, kills=20) if full else Plan(cuts=20, kills=1)
    server = Server(tmp_path / "data")
    async with running(server), town() as of:
        party = await _party(of, server)
        sleeper = of.client(server.base, (await server.mint(1))[0])
        await sleeper.connect()
        for person in party.people[::SEATS]:
            await sleeper.follow(f"room:{person.rooms[0]}")
        await sleeper.hang_up()
        began, down_s = time.monotonic(), 0.0
        async with asyncio.TaskGroup() as tasks:
            for person in party.people:
                for voice in range(VOICES):
                    tasks.create_task(party.talk(person, voice))
            tasks.create_task(party.sleep(sleeper))
            tasks.create_task(party.credit())
            cutting = tasks.create_task(_cut(party.people, plan.cuts))
            for number in range(plan.kills):
                await asyncio.sleep(TALK_S * random.uniform(0.5, 1.5))
                if number == plan.kills // 2:
                    await _flush_valkey(server)
                    await asyncio.sleep(1)
                down_at = time.monotonic()
                await server.kill()
                await server.start()
                down_s += time.monotonic() - down_at
            await cutting
            await asyncio.sleep(TALK_S)
            party.is_over = True
        up_s = time.monotonic() - began - down_s

        heads = await _heads(server)
        sleeper.come()
        everybody = [*party.people, sleeper]
        await _until_all_have(everybody, heads)

        events = sum(heads[ch] for ch in _channels(party.people))
        record_property(
            "figures",
            f"{plan.cuts} cuts, {plan.kills} kills, {events} events in {up_s:.0f} s of service "
            f"({events / up_s:.0f}/s), "
            f"{len(party.said)} texts and {party.credits.total()} credits answered, "
            f"{sum(p.connects for p in everybody)} connects, "
            f"{sum(p.repeated for p in everybody)} events came twice and were dropped, "
            f"{sum(p.paged for p in everybody)} pages read",
        )
        assert [fault for person in everybody for fault in person.faults] == []
        await _check_rooms(server, party)
        for person in party.people[::SEATS]:
            room = f"room:{person.rooms[0]}"
            # It followed a little later than those who sit there.
            assert sleeper.events[room] == person.events[room][-len(sleeper.events[room]) :]
        await _check_wallets(of, server, party)
        for person in party.people:
            assert len(set(person.seats[person.rooms[0]])) == 1, "everybody kept the seat"
        assert await server.violations() == []
    assert server.errors() == []


async def _party(of: Town, server: Server) -> Party:
    accounts = await server.mint(ROOMS * SEATS)
    (admin,) = await server.mint(1, role="admin")
    people = [of.client(server.base, account) for account in accounts]
    for number in range(ROOMS):
        table = people[number * SEATS : (number + 1) * SEATS]
        room_id = await of.open_talk(server.base, table[0].account)
        for person in table:
            person.rooms.append(room_id)
            person.come()
            await person.online.wait()
    return Party(of, server, admin, people)


async def _cut(people: list[Client], cuts: int) -> None:
    for _ in range(cuts):
        person = random.choice(people)
        await person.online.wait()
        person.cut()
        await asyncio.sleep(random.expovariate(CUTS_A_SECOND))


async def _flush_valkey(server: Server) -> None:
    async with Redis.from_url(server.redis_url) as redis:
        await redis.flushall()


async def _heads(server: Server) -> dict[str, int]:
    rooms = await server.query(
        "select 'room:' || room_id as channel, max(off) as off from room_event group by room_id"
    )
    own = await server.query("select channel, off from channel_head")
    return {row["channel"]: row["off"] for row in (*rooms, *own)}


def _channels(people: list[Client]) -> set[str]:
    return {ch for person in people for ch in person.places}


async def _until_all_have(people: list[Client], heads: dict[str, int]) -> None:
    """Wait until everybody is where the channels are, which is at most one check of heads later."""
    end = time.monotonic() + SETTLE_S
    while late := [
        f"{person.user_id} has {place.off} of {heads[ch]} of {ch}"
        for person in people
        for ch, place in person.places.items()
        if place.off < heads[ch]
    ]:
        assert time.monotonic() < end, late
        await asyncio.sleep(0.2)


async def _check_rooms(server: Server, party: Party) -> None:
    """Compare what each person has with the journal, event by event."""
    for person in party.people:
        (room_id,) = person.rooms
        rows = await server.query(
            "select off, data from room_event where room_id = $1::text::uuid and off is not null order by off",
            room_id,
        )
        stored = {row["off"]: msgspec.json.decode(row["data"]) for row in rows}
        assert sorted(stored) == list(range(1, len(stored) + 1)), "the journal has no gap"
        heard = person.events[f"room:{room_id}"]
        assert [event["off"] for event in heard] == list(range(heard[0]["off"], len(stored) + 1))
        for event in heard:
            if event["ev"] == "message.created":
                assert event["d"]["text"] == stored[event["off"]]["text"]
    texts = Counter(
        event["d"]["text"]
        for person in party.people[::SEATS]
        for event in person.events[f"room:{person.rooms[0]}"]
        if event["ev"] == "message.created"
    )
    assert {text: count for text, count in texts.items() if count != 1} == {}, "nothing was said twice"
    assert texts.keys() == set(party.said), "what was answered is there, and nothing else"


async def _check_wallets(of: Town, server: Server, party: Party) -> None:
    """Compare what each person heard about the own wallet with what the wallet is."""
    for person in party.people:
        own = person.events[f"user:{person.user_id}"]
        assert [event["off"] for event in own] == list(range(1, len(own) + 1))
        told = [event["d"]["balance"]["amount"] for event in own if event["ev"] == "wallet.updated"]
        wallet = await of.call(server.base, person.account, "GET", "/wallet")
        assert wallet["balance"]["amount"] == party.credits[person.user_id]
        if told:
            assert len(told) >= party.credits[person.user_id], "every change was told"
            assert told[-1] == party.credits[person.user_id]

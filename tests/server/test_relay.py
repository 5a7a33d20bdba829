"""The relay: every committed event gets its reactions once, and is shown once, whatever dies in between."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import outbox
from billing.models import Outbox
from rooms import journal
from rooms.messages import Identity, RoomKind, RoomPublished, RoomSpec, Span
from server import relay as relay_module
from server.gateway.models import StoredPublication
from server.gateway.protocol import Publication
from server.reaction import Happened, Occasion, Post, to_user
from server.relay import Relay
from server.upkeep import RelayFailure

Sessions = async_sessionmaker[AsyncSession]


class Said(msgspec.Struct, frozen=True, tag="test.said"):
    """Somebody said a word to somebody."""

    to: str
    word: str


Step = Literal["reaction", "push", "delete", "none"]
STEPS = get_args(Step)


class Crash(BaseException):
    """The process dies here."""


class Node:
    """One node's relay and what it showed."""

    def __init__(self, sessions: Sessions, *, after: Callable[[Said], Awaitable[None]] | None = None) -> None:
        self.id = uuid4()
        self.shown: list[tuple[str, int | None, str]] = []
        self.together: list[list[str]] = []
        self.has_shown = asyncio.Event()
        self.ahead = timedelta()
        self.poison: set[str] = set()
        self.poison_together: set[str] = set()
        self.echoed: set[str] = set()
        self.crash_in_push = False
        self.crash_after_push = False
        self._sessions = sessions
        self.relay = Relay(
            sessions,
            node=self.id,
            publish=self._publish,
            reactions={Said: (self._react,)},
            together={Said: (self._react_together,)},
            after={Said: after} if after else {},
            wall=lambda: datetime.now(UTC) + self.ahead,
        )

    async def say(self, *words: str, to: str = "ann") -> None:
        async with self._sessions.begin() as session:
            session.info[outbox.NODE] = self.id
            for word in words:
                outbox.record(session, Said(to, word), at=datetime.now(UTC))

    def die_in(self, step: Step) -> None:
        """Let the process die in its next reaction, push, or deletion."""

        async def die(*_: object) -> Sequence[Post]:
            raise Crash

        match step:
            case "reaction":
                self.relay._reactions[Said] = (self._react, die)
            case "push":
                self.crash_in_push = True
            case "delete":
                self.crash_after_push = True
            case "none":
                pass

    async def _react_together(
        self, session: AsyncSession, happened: Sequence[Happened]
    ) -> Sequence[Sequence[Post]]:
        words = [event.word for _, event in happened]
        if set(words) & self.poison_together:
            raise ValueError(words)
        self.together.append(words)
        return [
            [to_user(event.to, "echoed", {"word": event.word})] if event.word in self.echoed else []
            for _, event in happened
        ]

    async def _react(self, occasion: Occasion, event: Said) -> Sequence[Post]:
        if event.word in self.poison:
            raise ValueError(event.word)
        return [to_user(event.to, "said", {"word": event.word})]

    def _publish(self, channel: str, found: Sequence[Publication]) -> None:
        if self.crash_in_push:
            raise Crash
        for one in found:
            data: Any = msgspec.json.decode(one.d)
            self.shown.append((channel, one.off, data.get("word", one.ev)))
        self.has_shown.set()
        if self.crash_after_push:
            raise Crash


async def waiting(sessions: Sessions) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(Outbox)) or 0


async def grow_old(sessions: Sessions) -> None:
    """Let the database's time pass for everything in the outbox."""
    async with sessions.begin() as session:
        await session.execute(update(Outbox).values(recorded_at=Outbox.recorded_at - timedelta(minutes=1)))


async def stored(sessions: Sessions) -> list[tuple[str, int]]:
    async with sessions() as session:
        query = select(StoredPublication.channel, StoredPublication.off).order_by(
            StoredPublication.channel, StoredPublication.off
        )
        return [(channel, off) for channel, off in await session.execute(query)]


async def test_events_are_shown_in_order_and_forgotten(sessions: Sessions) -> None:
    node = Node(sessions)
    await node.say("one", "two")
    await node.say("three", to="bob")

    await node.relay.flush()

    assert node.shown == [("user:ann", 1, "one"), ("user:ann", 2, "two"), ("user:bob", 1, "three")]
    assert await waiting(sessions) == 0


async def test_event_without_reactions_is_forgotten(sessions: Sessions) -> None:
    class Unheard(msgspec.Struct, tag="test.unheard"):
        pass

    node = Node(sessions)
    async with sessions.begin() as session:
        outbox.record(session, Unheard(), at=datetime.now(UTC))

    await node.relay.flush()

    assert await waiting(sessions) == 0


async def test_what_another_node_has_just_recorded_is_left_to_it(sessions: Sessions) -> None:
    first, second = Node(sessions), Node(sessions)
    await first.say("hello")

    await second.relay.flush()
    too_early = list(second.shown)
    await grow_old(sessions)
    await second.relay.flush()

    assert too_early == []
    assert second.shown == [("user:ann", 1, "hello")]


async def test_crash_before_the_reactions_commit_leaves_nothing_behind(sessions: Sessions) -> None:
    first, second = Node(sessions), Node(sessions)
    await first.say("hello")

    async def die(*_: object) -> Sequence[Post]:
        raise Crash

    first.relay._reactions[Said] = (first._react, die)
    with pytest.raises(Crash):
        await first.relay.flush()
    before = await stored(sessions)
    await grow_old(sessions)
    await second.relay.flush()

    assert before == []
    assert second.shown == [("user:ann", 1, "hello")]
    assert await stored(sessions) == [("user:ann", 1)]


async def test_crash_between_commit_and_push_is_shown_by_another_with_the_same_offsets(
    sessions: Sessions,
) -> None:
    first, second = Node(sessions), Node(sessions)
    await first.say("one", "two")
    first.crash_in_push = True
    with pytest.raises(Crash):
        await first.relay.flush()

    second.ahead = timedelta(seconds=5)
    await second.relay.flush()
    await second.relay.sweep()

    assert second.shown == [("user:ann", 1, "one"), ("user:ann", 2, "two")]
    assert await stored(sessions) == [("user:ann", 1), ("user:ann", 2)]
    assert await waiting(sessions) == 0


async def test_poison_event_keeps_nobody_and_is_parked_after_ten_tries(sessions: Sessions) -> None:
    node = Node(sessions)
    node.poison.add("bad")
    await node.say("good", "bad", "better")

    await node.relay.flush()
    at_once = list(node.shown)
    for _ in range(relay_module.TRIES):
        node.ahead += timedelta(hours=1)
        await node.relay.flush()

    async with sessions() as session:
        failure = (await session.scalars(select(RelayFailure))).one()
    assert [word for _, _, word in at_once] == ["good", "better"]
    assert (failure.tries, failure.retry_at) == (relay_module.TRIES, None)
    assert await waiting(sessions) == 1


async def test_what_answers_many_events_at_once_hears_them_together_and_first(sessions: Sessions) -> None:
    node = Node(sessions)
    await node.say("one", "two")
    await node.say("three", to="bob")

    await node.relay.flush()

    assert node.together == [["one", "two", "three"]]


async def test_what_is_shown_together_stands_behind_what_its_own_event_shows(sessions: Sessions) -> None:
    node = Node(sessions)
    node.echoed = {"two", "three"}
    await node.say("one", "two", "three")

    await node.relay.flush()

    async with sessions() as session:
        stored = await session.execute(
            select(StoredPublication.ev, StoredPublication.d).order_by(StoredPublication.off)
        )
        shown = [(ev, msgspec.json.decode(bytes(d))["word"]) for ev, d in stored]
    assert shown == [
        ("said", "one"),
        ("said", "two"),
        ("echoed", "two"),
        ("said", "three"),
        ("echoed", "three"),
    ]


async def test_one_event_that_cannot_be_answered_together_keeps_nobody(sessions: Sessions) -> None:
    node = Node(sessions)
    node.poison_together.add("bad")
    await node.say("good", "bad", "better")

    await node.relay.flush()

    assert node.together == [["good"], ["better"]]
    assert [word for _, _, word in node.shown] == ["good", "better"]
    assert await waiting(sessions) == 1


async def test_event_that_leaves_nothing_to_show_goes_with_the_commit_of_its_reactions(
    sessions: Sessions,
) -> None:
    class Counted(msgspec.Struct, frozen=True, tag="test.counted"):
        pass

    counted: list[int] = []

    async def count(session: AsyncSession, happened: Sequence[Happened]) -> Sequence[Sequence[Post]]:
        counted.append(len(happened))
        return [()] * len(happened)

    node = Node(sessions)
    node.crash_in_push = True  # a relay that got there would die
    relay = Relay(
        sessions,
        node=node.id,
        publish=node._publish,
        reactions={},
        together={Counted: (count,)},
        after={},
        wall=lambda: datetime.now(UTC),
    )
    async with sessions.begin() as session:
        for _ in range(3):
            outbox.record(session, Counted(), at=datetime.now(UTC))

    await relay.turn()

    assert counted == [3]
    assert await waiting(sessions) == 0


async def test_failed_event_waits_for_its_time_and_succeeds(sessions: Sessions) -> None:
    node = Node(sessions)
    node.poison.add("later")
    await node.say("later")
    await node.relay.flush()
    node.poison.clear()

    await node.relay.flush()
    too_early = list(node.shown)
    node.ahead = timedelta(seconds=2)
    await node.relay.flush()

    assert too_early == []
    assert node.shown == [("user:ann", 1, "later")]
    assert await waiting(sessions) == 0


async def test_what_follows_outside_comes_after_and_is_tried_until_it_is_done(sessions: Sessions) -> None:
    followed: list[str] = []

    async def follow(event: Said) -> None:
        followed.append(event.word)
        if len(followed) < 3:
            raise ValueError("the outside is away")

    node = Node(sessions, after=follow)
    await node.say("hello")

    await node.relay.flush()
    await node.relay.sweep()
    at_once = (list(followed), await waiting(sessions))
    for seconds in (3, 6, 60):
        node.ahead = timedelta(seconds=seconds)
        await node.relay.sweep()

    assert at_once == (["hello"], 1)
    assert followed == ["hello"] * 3
    assert await waiting(sessions) == 0
    assert len(set(node.shown)) == 1
    async with sessions() as session:
        assert (await session.scalars(select(RelayFailure))).all() == []


async def test_public_events_of_a_dead_owner_are_shown_from_the_journal(sessions: Sessions) -> None:
    room_id, dead, node = uuid4(), Node(sessions), Node(sessions)
    now = datetime.now(UTC)
    spec = RoomSpec(room_id, RoomKind.TALK, "Tea", 4, Identity(str(uuid4())), "Ann", "socket")
    async with sessions.begin() as session:
        session.info[outbox.NODE] = dead.id
        await journal.create(session, spec, now=now, wall=now)

    await node.relay.sweep()
    too_early = list(node.shown)
    await grow_old(sessions)
    await node.relay.sweep()

    assert too_early == []
    assert next((channel, off) for channel, off, _ in node.shown) == (f"room:{room_id}", 1)
    async with sessions() as session:
        left = await session.scalars(select(Outbox).where(Outbox.type == RoomPublished.__struct_config__.tag))
        assert left.all() == []


async def test_own_public_events_are_not_shown_twice(sessions: Sessions) -> None:
    node = Node(sessions)
    async with sessions.begin() as session:
        session.info[outbox.NODE] = node.id
        outbox.record(session, RoomPublished((Span(UUID(int=1), 1, 3),)), at=datetime.now(UTC))
    await grow_old(sessions)

    await node.relay.sweep()

    assert node.shown == []
    assert await waiting(sessions) == 0


async def test_two_relays_show_everything_once_and_without_gaps(sessions: Sessions) -> None:
    first, second = Node(sessions), Node(sessions)
    for number in range(30):
        await first.say(f"word {number}", to=("ann", "bob")[number % 2])
    await grow_old(sessions)

    await asyncio.gather(first.relay.flush(), second.relay.flush())

    shown = sorted((channel, off or 0) for channel, off, _ in first.shown + second.shown)
    assert shown == [(f"user:{name}", off) for name in ("ann", "bob") for off in range(1, 16)]
    assert await waiting(sessions) == 0


async def test_loop_hears_of_a_commit(sessions: Sessions) -> None:
    node = Node(sessions)
    loop = asyncio.get_running_loop().create_task(node.relay.run())
    try:
        await node.say("hello")
        node.relay.wake()
        async with asyncio.timeout(5):
            await node.has_shown.wait()
    finally:
        loop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loop

    assert node.shown == [("user:ann", 1, "hello")]


@pytest.mark.parametrize("seed", range(12))
async def test_any_row_of_crashes_shows_every_event_under_one_offset(sessions: Sessions, seed: int) -> None:
    """Nodes die at chosen steps, one after another; the last one lives."""
    chance = random.Random(seed)
    shown: list[tuple[str, int | None, str]] = []
    said = 0
    steps: list[Step] = [*chance.choices(STEPS, k=5), "none"]
    for minute, step in enumerate(steps):
        node = Node(sessions)
        node.ahead = timedelta(minutes=minute)
        for _ in range(chance.randrange(4)):
            await node.say(f"word {said}", to=chance.choice(["ann", "bob"]))
            said += 1
        await grow_old(sessions)
        node.die_in(step)
        with contextlib.suppress(Crash):
            await node.relay.flush()
            await node.relay.sweep()
        shown += node.shown

    offsets: dict[str, set[int | None]] = {}
    for channel, off, _ in shown:
        offsets.setdefault(channel, set()).add(off)
    words = {(channel, off, word) for channel, off, word in shown}
    assert len({word for _, _, word in words}) == len(words) == said
    assert all(found == set(range(1, len(found) + 1)) for found in offsets.values())
    assert await waiting(sessions) == 0

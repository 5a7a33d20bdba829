"""One process of the product without sockets and HTTP: it can be stopped, killed and started again on the same data."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import msgspec
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import outbox
from billing.checks import Proof, Violation
from rooms import ownership
from rooms.media import Media
from rooms.messages import PublicEvent
from rooms.ownership import Leases
from rooms.registry import Registry
from server import checks, config, jobs, reactions
from server.bridge import ROOM, RoomHistory, publications
from server.context import Parts
from server.gateway.history import TableHistory
from server.gateway.metrics import Metrics
from server.gateway.protocol import Publication
from server.http.health import Integrity
from server.integrations.geo import Locator
from server.job import Means
from server.reads import Reads
from server.relay import Relay
from server.runner import Runner
from server.travel import Traveller
from server.webhooks.livekit import livekit_route
from tests.server.stage import Stage
from tests.simulation.clock import HandClock
from tests.simulation.media import KEY, SECRET

Sessions = async_sessionmaker[AsyncSession]

# Between two steps the loop stands still, for as long as Hypothesis thinks. Nothing may run out meanwhile, and
# nothing may run by itself: the machine decides when a node looks around.
LEASES = Leases(beat_s=3600, ttl_s=7200, pause_s=7000, scan_s=3600)

# A turn takes some milliseconds; only what fails and is tried again takes so long, also on a busy machine.
AT_REST_S = 15

SAID = ("message.created", "message.updated")


class Crash(Exception):  # noqa: N818  (it is no error of the product)
    """The process dies here."""


class Channels:
    """Everything that was published with an offset, as all the receivers together saw it."""

    def __init__(self, sessions: Sessions, reads: Reads) -> None:
        self.shown: dict[str, dict[int, Publication]] = {}
        self.news: set[str] = set()
        self.contradictions: list[tuple[str, Publication, Publication]] = []
        self._checked: dict[str, int] = {}
        # What the database says counts, whatever a room has in memory.
        nowhere = cast(Registry, SimpleNamespace(here=lambda _: None))
        self._rooms, self._people = RoomHistory(sessions, reads, nowhere), TableHistory(sessions, reads)

    def publish(self, channel: str, posts: Sequence[Publication]) -> None:
        for post in posts:
            if post.off is None:
                continue
            first = self.shown.setdefault(channel, {}).setdefault(post.off, post)
            self.news.add(channel)
            if post not in (first, without_text(first)):
                self.contradictions.append((channel, first, post))

    async def check(self, *, from_the_start: bool = False) -> None:
        """What somebody reads who comes back is what the others saw, with no offset missing or told twice."""
        assert self.contradictions == []
        for channel in sorted(self.shown if from_the_start else self.news):
            shown = self.shown[channel]
            # What happened before anybody could have listened, a room's opening, is published to nobody.
            after = min(shown) - 1 if from_the_start else self._checked.get(channel, min(shown) - 1)
            history = self._rooms if channel.startswith(ROOM) else self._people
            read = await history.read(channel, after=after, limit=100_000)
            assert [post.off for post in read] == list(range(after + 1, max(shown) + 1)), channel
            gone = {_message_id(post) for post in shown.values() if post.ev == "message.deleted"}
            for post in read:
                told = shown.get(post.off or 0)
                is_gone = told is not None and told.ev in SAID and _message_id(told) in gone
                assert post == (without_text(told) if told is not None and is_gone else told), channel
            assert (await history.heads([channel]))[channel].off == max(shown), channel
            self._checked[channel] = max(shown)
        self.news.clear()


def without_text(post: Publication) -> Publication:
    """Return what is left of something said once it is deleted; of anything else, all."""
    if post.ev not in SAID:
        return post
    said = msgspec.json.decode(post.d, type=dict[str, Any])
    return Publication(post.off, post.ev, post.ts, msgspec.json.encode(said | {"text": ""}))


def _message_id(post: Publication) -> str:
    return str(msgspec.json.decode(post.d, type=dict[str, Any])["id"])


class Node:
    """A process. `start` it; then either `stop` or `crash` it."""

    def __init__(
        self, sessions: Sessions, clock: HandClock, channels: Channels, media: Media | None, folder: Path
    ) -> None:
        environ = {"DATABASE_URL": "postgresql://unused", "REDIS_URL": "redis://unused", "RATE_LIMITS": "off"}
        if media is not None:
            environ |= {
                "LIVEKIT_URL": "http://media.example",
                "LIVEKIT_API_KEY": KEY,
                "LIVEKIT_API_SECRET": SECRET,
            }
        self.sessions = sessions
        self.clock = clock
        self.rooms = Registry(
            sessions,
            now=clock.now,
            wall=clock.wall,
            publish=self._publish_room,
            media=media,
            leases=LEASES,
            rest_after_s=0,
        )
        sessions.configure(info={outbox.NODE: self.rooms.node_id})
        self._channels = channels
        settings = config.from_env(environ, data_dir=folder)
        self.parts = Parts(
            settings,
            clock,
            sessions,
            Reads(sessions),
            Redis.from_url("redis://unused"),
            self.rooms,
            Locator(None),
            channels.publish,
        )
        self.relay = Relay(
            sessions,
            node=self.rooms.node_id,
            publish=channels.publish,
            reactions=reactions.TABLE,
            together=reactions.TOGETHER,
            after={},
            wall=clock.wall,
        )
        self.violations: Sequence[Violation] = ()
        metrics = Metrics(CollectorRegistry())
        integrity = Integrity(self._look, sessions=sessions, clock=clock, metrics=metrics)
        self.jobs = Runner(Means(sessions, integrity), jobs.TABLE, clock=clock, metrics=metrics)
        self.traveller = Traveller(self.parts, self.relay, self.jobs)
        self.stage = Stage(self.parts, self.relay, [])
        self._route: Any = livekit_route(sessions, clock, keys={KEY: SECRET}, tell=self.rooms.tell)
        self._is_up = asyncio.Event()
        self._is_ended = asyncio.Event()
        self._is_crash = False
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        # The registry begins and ends in one task, whichever step that falls into.
        self._life = asyncio.get_running_loop().create_task(self._live())
        await self._is_up.wait()
        await self.jobs.prepare()

    async def stop(self) -> None:
        """End in good order: every room is handed over."""
        await self._end()

    async def crash(self) -> None:
        """Die at once; whatever is under way is never finished by this process."""
        self._is_crash = True
        try:
            await self._end()
        except* Crash:
            pass  # it came through the task group of the look-ups
        # Two seconds later, by the database's clock, every commit that was on its way has come through or has not,
        # and what is left in the outbox is anybody's.
        while await self._is_database_busy():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.001)
        async with self.sessions.begin() as session:
            for table in ("outbox", "media_event"):
                await session.execute(
                    text(f"update {table} set recorded_at = recorded_at - interval '3 seconds'")
                )

    async def _is_database_busy(self) -> bool:
        others = text(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and backend_type = 'client backend' and state <> 'idle'"
        )
        async with self.sessions() as session:
            return bool(await session.scalar(others))

    async def receive(self, body: bytes, signature: str) -> None:
        """Take a delivery of the media server."""
        scope = {"type": "http", "method": "POST", "headers": [(b"authorization", signature.encode())]}

        async def take() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def answer(_message: dict[str, Any]) -> None:
            """Nobody reads it: a refusal is raised."""

        await self._route.fn(scope=scope, receive=take, send=answer)

    async def look_around(self) -> None:
        """Adopt what nobody runs, let rest what nobody uses, and finish what a dead process left unpublished."""
        await self.rooms._watch()
        await self.quiet()
        await self.relay.sweep()

    async def tick(self) -> None:
        """Notice what has fallen due."""
        await self.rooms._tick()
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until no room has mail, a turn or an effect under way."""
        try:
            async with asyncio.timeout(AT_REST_S):
                while True:
                    busy = [actor for actor in self.rooms._actors.values() if not actor.is_idle]
                    if self.rooms._running:
                        await asyncio.wait(self.rooms._running)
                    elif busy:
                        await asyncio.gather(*(actor.idle() for actor in busy))
                    else:
                        return
        except TimeoutError:
            raise AssertionError("something is tried again and again") from None

    async def _look(self, session: AsyncSession) -> Proof:
        """Do what the hourly job does, and keep what its log entry does not say."""
        proof = await checks.prove(session)
        self.violations = proof.violations
        return proof

    async def _live(self) -> None:
        # It holds the lock of the data dir, so whoever had the rooms before is dead (DESIGN §4, Numbers).
        async with self.sessions.begin() as session:
            await ownership.outlive(session, None)
        async with self.parts.reads.running(), self.rooms:
            self._is_up.set()
            await self._is_ended.wait()
            if self._is_crash:
                raise Crash

    async def _end(self) -> None:
        assert self._life is not None, "it was started"
        self._is_ended.set()
        await self._life

    def _publish_room(self, room_id: UUID, events: Sequence[PublicEvent]) -> None:
        self._channels.publish(f"{ROOM}{room_id}", publications(events))

"""Builds every object and joins them: the only place that knows all."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.types import ControllerRouterHandler
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms.media import LiveKitMedia
from rooms.messages import PublicEvent
from rooms.registry import Registry
from server import bridge, checks, commands, db, jobs, reactions, skew, travel
from server.clock import Clock
from server.config import Settings
from server.context import Parts
from server.features.accounts.messages import AccountChanged
from server.features.accounts.tokens import Authenticator
from server.features.bookings import errands as booking_errands
from server.features.courses import errands
from server.features.talks.lobby import Lobby
from server.gateway.gateway import Gateway
from server.gateway.history import TableHistory
from server.gateway.limits import Limits
from server.gateway.metrics import Metrics
from server.gateway.presence import NoHistory
from server.gateway.socket import with_sockets
from server.http import contract, door, health, problem, share, test_payments
from server.http.edge import ASGIApp, Edge
from server.http.limits import Limiter
from server.integrations.email import Mailer
from server.integrations.geo import Locator, client_address
from server.job import Means
from server.payments import open_payments
from server.reads import Reads
from server.relay import Relay
from server.runner import Runner
from server.web.site import Site
from server.webhooks.livekit import livekit_route
from server.webhooks.stripe import stripe_route

# Half of what commands have: a turn is one short transaction, and 64 messages share it. With fewer, a slow statement of
# one room is felt by the others; more is more than PostgreSQL's 100 connections have for two processes.
STEADY_POOL_SIZE = 10
# Objects made at the start live as long as the process: the collector need not look at them again, and the rest is
# so much that its oldest generation is worth a look only rarely (realtime.md 5.6).
GC_THRESHOLDS = (10_000, 20, 50)


class Application(msgspec.Struct, frozen=True):
    """What the process runs: the ASGI application, and the way to end it in good order."""

    asgi: ASGIApp
    gateway: Gateway
    rooms: Registry
    health: health.Health

    async def drain(self) -> None:
        """Send the sockets elsewhere; the rooms are handed over when the context of `running` ends."""
        await self.gateway.drain()


@asynccontextmanager
async def running(
    settings: Settings, *, node: UUID, predecessor: UUID | None, time_travel: bool, own_media: bool
) -> AsyncIterator[Application]:
    """Build everything, run what runs by itself, and yield the application.

    Args:
        settings: With every address filled in.
        node: Id of this process.
        predecessor: A process that was seen to end, if this one takes its place.
        time_travel: Business time may be moved over HTTP.
        own_media: The media server was started by us and runs on wall time, whatever business time says.
    """
    assert settings.database_url is not None, "the caller has filled it in"
    assert settings.redis_url is not None, "the caller has filled it in"
    async with AsyncExitStack() as stack:

        def wake() -> None:
            relay.wake()

        def wake_runner() -> None:
            runner.wake()

        sessions = _sessions(stack, settings.database_url, node, wake, wake_runner)
        # Connections of their own for what must go on when a thousand commands wait for one: leases, turns, the relay, and
        # who somebody is.
        steady = _sessions(stack, settings.database_url, node, wake, wake_runner, pool_size=STEADY_POOL_SIZE)
        metrics = Metrics()
        clock, drift = await _clock(sessions, steady, metrics)
        redis = _redis(stack, settings.redis_url)
        locator = stack.enter_context(Locator(settings.geoip_db))

        def shift() -> timedelta:
            return clock.offset if own_media else timedelta()

        def publish(room_id: UUID, events: Sequence[PublicEvent]) -> None:
            gateway.publish(f"{bridge.ROOM}{room_id}", bridge.publications(events))

        async def forward(node: UUID, _room_id: UUID, payload: bytes) -> bytes:
            return await bridge.forward(gateway.bus, node, payload)

        media = await _media(stack, settings, shift)

        rooms = Registry(
            steady,
            now=clock.now,
            wall=clock.wall,
            publish=publish,
            recorded=wake,
            forward=forward,
            media=media,
            node_id=node,
            predecessor=predecessor,
        )
        reads = Reads(steady)
        await stack.enter_async_context(reads.running())
        authenticator = Authenticator(secret=settings.secret_key, reads=reads, redis=redis, wall=clock.wall)
        payments = await stack.enter_async_context(open_payments(settings, steady, clock))
        parts = Parts(
            settings,
            clock,
            sessions,
            reads,
            redis,
            rooms,
            locator,
            lambda channel, posts: gateway.publish(channel, posts),  # noqa: PLW0108 - made below
            payments.api,
        )
        gateway = Gateway(
            node=str(node),
            redis=redis,
            doors=bridge.Doors(authenticator, parts),
            seats=bridge.Seats(rooms, clock),
            histories={
                "user:": TableHistory(sessions, reads),
                bridge.ROOM: bridge.RoomHistory(sessions, reads, rooms),
                bridge.LOBBY: NoHistory(),
            },
            rows=[row for row in commands.TABLE if row.on_socket],
            execute=bridge.executor(parts, authenticator),
            asks=bridge.asks(parts, commands.TABLE),
            origins=settings.allowed_origins,
            limits=Limits(are_rates_on=settings.rate_limits),
            metrics=metrics,
            wall=clock.wall,
        )
        gateway.bus.serve(rooms.handle_forwarded)
        lobby = Lobby(steady, settings, gateway.publish, clock.wall)
        relay = Relay(
            steady,
            node=node,
            publish=gateway.publish,
            reactions=reactions.TABLE,
            together=reactions.joined((reactions.TOGETHER, lobby.hears)),
            after={
                AccountChanged: lambda changed: gateway.recheck(changed.user_id),
                **errands.table(sessions, reads, rooms),
                **booking_errands.table(rooms),
            },
            wall=clock.wall,
        )
        integrity = health.Integrity(checks.prove, sessions=sessions, clock=clock, metrics=metrics)
        state = health.Health(
            settings,
            health.probes(sessions, redis, {"clock": drift.probe, **_media_probe(media)}),
            is_draining=lambda: gateway.is_draining,
        )
        runner = Runner(
            Means(steady, integrity),
            (
                *jobs.TABLE,
                *jobs.of_payments(payments.api),
                *jobs.of_mail(_mailer(settings, clock), settings.public_url),
            ),
            clock=clock,
            metrics=metrics,
        )
        await stack.enter_async_context(gateway.running())
        await stack.enter_async_context(_forever(relay.run(), runner.run(), drift.run(), lobby.run()))
        # Entered last, so left first: what rooms say while they are handed over is still relayed.
        await stack.enter_async_context(rooms)
        routes: list[ControllerRouterHandler] = [
            *_door_routes(parts, authenticator),
            livekit_route(sessions, clock, keys=_keys(settings), tell=rooms.tell, shift=shift),
            stripe_route(sessions, clock, secrets=payments.secrets, is_live=payments.api.is_live),
            *test_payments.routes(payments.fake),
            *health.routes(state, integrity),
            *(travel.routes(parts, relay, runner) if time_travel else ()),
        ]
        _spare_the_collector()
        asgi = payments.tells(
            with_sockets(
                Edge(await _with_pages(routes, settings), settings=settings, limiter=Limiter(redis)),
                gateway,
                address_of=lambda scope: client_address(scope, settings.trusted_proxies),
            )
        )
        yield Application(asgi, gateway, rooms, state)


def _door_routes(parts: Parts, authenticator: Authenticator) -> Sequence[HTTPRouteHandler]:
    """Return what people and programs may ask over HTTP: the commands, share pages and the contract."""
    of_commands = door.routes(commands.TABLE, parts, authenticate=authenticator.authenticate)
    return [*of_commands, *share.routes(parts), *contract.routes()]


async def _with_pages(routes: Sequence[ControllerRouterHandler], settings: Settings) -> Site:
    """Return the API with the browser client in front of it."""
    api = Litestar(
        route_handlers=routes,
        exception_handlers={Exception: problem.answer},
        openapi_config=None,
        logging_config=None,
    )
    site = Site(api, settings)
    await site.look()
    return site


def _spare_the_collector() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _media_probe(media: LiveKitMedia | None) -> Mapping[str, health.Probe]:
    if media is None:
        return {}

    async def ask_media() -> None:
        await media.poll("readiness")

    return {"media": ask_media}


def _sessions(
    stack: AsyncExitStack,
    url: str,
    node: UUID,
    recorded: Callable[[], None],
    enqueued: Callable[[], None],
    *,
    pool_size: int = db.POOL_SIZE,
) -> async_sessionmaker[AsyncSession]:
    """Return sessions with a pool of their own, which ends with `stack`."""
    engine = db.create_engine(url, pool_size=pool_size)
    stack.push_async_callback(engine.dispose)
    return db.create_sessions(engine, node=node, recorded=recorded, enqueued=enqueued)


def _redis(stack: AsyncExitStack, url: str) -> Redis:
    # Without a time-out of its own: redis-py's swallows cancellation on Python 3.11.
    redis = Redis.from_url(url, socket_timeout=None)
    stack.push_async_callback(redis.aclose)
    return redis


async def _clock(
    sessions: async_sessionmaker[AsyncSession], steady: async_sessionmaker[AsyncSession], metrics: Metrics
) -> tuple[Clock, skew.Skew]:
    """Return the clock as the database says, and what keeps it right."""
    clock = Clock()
    await travel.load(sessions, clock)
    drift = skew.Skew(steady, clock, metrics=metrics)
    await drift.measure()
    return clock, drift


async def _media(
    stack: AsyncExitStack, settings: Settings, shift: Callable[[], timedelta]
) -> LiveKitMedia | None:
    livekit = settings.livekit
    if livekit.url is None or livekit.api_key is None or livekit.api_secret is None:
        return None
    return await stack.enter_async_context(
        LiveKitMedia(livekit.url, livekit.api_key, livekit.api_secret, shift=shift)
    )


def _mailer(settings: Settings, clock: Clock) -> Mailer:
    return Mailer(settings.mail, folder=settings.data_dir / "mails", wall=clock.wall)


def _keys(settings: Settings) -> dict[str, str]:
    """Return the keys whose webhooks are believed."""
    key, secret = settings.livekit.api_key, settings.livekit.api_secret
    return {} if key is None or secret is None else {key: secret}


@asynccontextmanager
async def _forever(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run loops beside the block; they end with it, and it ends when one of them breaks."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in started:
                task.cancel()

"""Whoever dies at a booking, and wherever: what was decided is done once, by whoever comes after."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, get_args
from uuid import UUID

import msgspec
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from billing import crashpoints
from billing.crashpoints import Point
from rooms.messages import LessonEnded, RoomStatus
from server import db
from server.clock import Clock
from server.config import Settings
from server.features.bookings.messages import BookingChanged
from server.reaction import Post
from tests.server.desk import DAY, FUNDS, HOUR, MINUTE, NOON, WHY, Body, Desk, moment
from tests.server.stage import Killed, Stage, dying, open_stage

Node = Callable[[], AbstractAsyncContextManager[Stage]]


@pytest.fixture
async def desk(stage: Stage) -> Desk:
    return await Desk.open(stage)


# While it runs the reactions, or with these committed and nothing shown or done outside.
Death = Literal["in a reaction", "before it is shown"]
DEATHS: tuple[Death, ...] = get_args(Death)


@pytest.fixture
def node(settings: Settings, engine: AsyncEngine, redis: Redis, clock: Clock, tmp_path: Path) -> Node:
    """A node that starts now; what others have left is old enough for it to take care of."""
    minutes = itertools.count()

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Stage]:
        sessions = db.create_sessions(engine)
        async with sessions.begin() as session:
            await session.execute(text("update outbox set recorded_at = recorded_at - interval '1 minute'"))
        async with open_stage(settings, sessions, redis, clock, tmp_path) as stage:
            # Of reactions that are committed the wall clock says how old they are.
            ahead = next(minutes) * MINUTE
            stage.relay._wall = lambda: clock.wall() + ahead
            yield stage

    return opened


async def relay_dies(stage: Stage, event: type[msgspec.Struct], death: Death) -> None:
    """Have the relay of a node die at the next event of a kind."""

    async def die(*_: object) -> Sequence[Post]:
        raise Killed

    def dies(*_: object) -> None:
        raise Killed

    match death:
        case "in a reaction":
            stage.relay._reactions[event] = (*stage.relay._reactions[event], die)
        case "before it is shown":
            stage.relay._publish = dies
    with pytest.raises(Killed):
        await stage.relay.flush()


async def take_over(desk: Desk, stage: Stage) -> Desk:
    """Return the desk at a node that has taken over from a dead one, and told everything twice."""
    for _ in range(2):
        await stage.relay.sweep()
        await stage.relay.flush()
    return desk.at_another(stage)


async def room_of(desk: Desk, booking: Body) -> RoomStatus:
    return (await desk.stage.parts.rooms.snapshot(UUID(booking["id"]))).state


@pytest.mark.parametrize(
    ("death", "has_begun"), [(DEATHS[0], True), (DEATHS[1], False)], ids=["begun", "not begun"]
)
async def test_the_room_of_a_cancelled_lesson_is_closed_by_whoever_comes_after(
    node: Node, death: Death, *, has_begun: bool
) -> None:
    async with node() as stage:
        desk = await Desk.open(stage)
        agreed = await desk.agreed(NOON + HOUR)
        if has_begun:
            await desk.go_to(NOON + HOUR)
            await desk.join(agreed, desk.student)
        await desk.run()
        with pytest.raises(Killed):
            await dying(stage).do("booking.cancel", desk.admin, booking_id=agreed["id"], reason=WHY)
        await relay_dies(stage, BookingChanged, death)
        assert await room_of(desk, agreed) is (RoomStatus.LIVE if has_begun else RoomStatus.OPEN)

    async with node() as stage:
        desk = await take_over(desk, stage)

        assert await room_of(desk, agreed) is (RoomStatus.CLOSING if has_begun else RoomStatus.CLOSED)
        await desk.go_to(moment(agreed["ends_at"]) + 10 * MINUTE)
        assert await room_of(desk, agreed) is RoomStatus.CLOSED
        after = await desk.get(agreed)
        assert (after["status"], after["cancelled_by"]) == ("cancelled", "admin")
        for person in (desk.student, desk.tutor):
            assert (await desk.told(person)).count("booking_cancelled") == 1
        assert await desk.balance() == FUNDS
        await desk.checked()


@pytest.mark.parametrize("death", DEATHS)
async def test_a_lesson_that_is_over_is_judged_once_by_whoever_comes_after(node: Node, death: Death) -> None:
    async with node() as stage:
        desk = await Desk.open(stage)
        agreed = await desk.agreed(NOON + HOUR)
        await desk.go_to(NOON + HOUR)
        await desk.join(agreed, desk.student)
        await desk.run()
        for over in (NOON + 2 * HOUR - MINUTE, NOON + 2 * HOUR + 10 * MINUTE):
            await stage.parts.rooms.run_due(over)
            desk.at(over)
        assert await room_of(desk, agreed) is RoomStatus.CLOSED
        await relay_dies(stage, LessonEnded, death)
        before = await desk.get(agreed)
        assert before["status"] == ("active" if death == "in a reaction" else "ended")

    async with node() as stage:
        desk = await take_over(desk, stage)

        after = await desk.get(agreed)
        assert (after["status"], after["outcome"], after["version"]) == ("ended", "no_show_tutor", 4)
        assert after["payment"]["state"] == "REFUNDED"
        assert after["has_strike"]
        told = Counter(await desk.told(desk.student) + await desk.told(desk.tutor))
        assert told["booking_no_show_tutor"] == 2
        assert await desk.balance() == FUNDS
        await desk.checked()


async def test_two_nodes_that_tell_of_the_same_bookings_tell_each_change_once(node: Node) -> None:
    """Each takes some of what a dead one left: its version says which change of a booking is the newer one."""
    async with node() as stage:
        desk = await Desk.open(stage)
        asked = [await desk.ask(NOON + number * DAY) for number in range(1, 5)]
        await desk.accept(asked[0])
        await desk.cancel(await desk.accept(asked[1]))
        await desk.do("booking.decline", desk.tutor, booking_id=asked[2]["id"])
        await desk.cancel(asked[3])

    async with node() as first, node() as second:
        await asyncio.gather(first.relay.flush(), second.relay.flush())
        for stage in (first, second):
            await take_over(desk, stage)

        last_versions = [2, 3, 2, 2]
        changes = {
            (one["id"], n) for one, last in zip(asked, last_versions, strict=True) for n in range(1, last + 1)
        }
        for person in (desk.student, desk.tutor):
            shown = [one for stage in (first, second) for one in stage.seen(f"user:{person.user_id}")]
            # Who hears of an offset again knows it.
            heard = {one.off: one for one in shown}
            assert set(heard) == set(range(1, len(heard) + 1))
            told = [one.data for one in heard.values() if one.ev == "booking.updated"]
            assert sorted((one["booking_id"], one["version"]) for one in told) == sorted(changes)
        at_first = desk.at_another(first)
        assert Counter(await at_first.told(desk.tutor)) == {
            "booking_requested": 4,
            "booking_cancelled": 1,
            "booking_withdrawn": 1,
        }
        assert Counter(await at_first.told(desk.student)) == {"booking_accepted": 2, "booking_declined": 1}
        await at_first.checked()


# Every named point ----------------------------------------------------------------------------------------------------


async def agree(desk: Desk, booking: Body) -> None:
    """The tutor agrees, if they have not."""
    if (await desk.get(booking))["status"] == "requested":
        await desk.accept(booking)


async def cancelled_late(desk: Desk, card: str) -> Body:
    """A lesson that a card pays for, agreed and cancelled an hour before it."""
    wanted = desk.wanted(NOON + HOUR, pay_with="card", card=card)
    asked = await desk.do("booking.request", desk.student, key="by card", **wanted)
    await desk.do("booking.pay", desk.student, booking_id=asked["id"])
    await agree(desk, asked)
    await desk.cancel(asked)
    await desk.run()
    return await desk.get(asked)


async def called_off(desk: Desk, _: str) -> Body:
    """A lesson that a wallet pays for, agreed and called off by its tutor too late; and one that is declined."""
    wanted = {name: desk.wanted(NOON + hours * HOUR) for name, hours in (("this", 3), ("that", 5))}
    asked = {
        name: await desk.do("booking.request", desk.student, key=name, **wanted[name]) for name in wanted
    }
    await agree(desk, asked["this"])
    await desk.cancel(asked["this"], desk.tutor)
    await desk.do("booking.decline", desk.tutor, booking_id=asked["that"]["id"])
    await desk.run()
    return await desk.get(asked["this"])


Life = Callable[[Desk, str], Awaitable[Body]]
LIVES: dict[Life, tuple[str, str]] = {
    cancelled_late: ("student", "CAPTURED"),
    called_off: ("tutor", "VOIDED"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("life", LIVES)
async def test_no_crash_at_a_named_point_changes_what_becomes_of_a_booking(
    desk: Desk, life: Life, *, full: bool
) -> None:
    """Who died is followed by somebody who does all of it again, and dies at the next point."""
    card = await desk.save_card()
    # The long form dies each time that anybody comes to a point, the short one the first time.
    mortal = Mortal(every_time=full)

    while (after := await mortal.live(life(desk, card))) is None:
        async with desk.stage.parts.sessions.begin() as session:
            await session.execute(text("update job set lease = null, leased_until = null"))

    assert mortal.died_at >= {"payment.opened", "payment.decided", "commit.unsent", "commit.answered"}
    by, paid = LIVES[life]
    assert (after["status"], after["cancelled_by"]) == ("cancelled", by)
    assert after["payment"]["state"] == paid
    assert after["has_strike"] is (by == "tutor")
    assert await room_of(desk, after) is RoomStatus.CLOSED
    assert await desk.balance() == FUNDS
    told = Counter(await desk.told(desk.student) + await desk.told(desk.tutor))
    assert (told["booking_accepted"], told["booking_cancelled"] + told["booking_cancelled_late"]) == (1, 1)
    await desk.checked()


class Mortal:
    """Somebody who dies at one point after the other, at each once, or each time of coming there once."""

    def __init__(self, *, every_time: bool) -> None:
        self._every_time = every_time
        self._deaths: set[tuple[Point, int]] = set()

    @property
    def died_at(self) -> set[Point]:
        return {point for point, _ in self._deaths}

    async def live(self, life: Awaitable[Body]) -> Body | None:
        """Return what came of it, None if they died."""
        came, mine = Counter[Point](), asyncio.current_task()

        def dies(point: Point) -> None:
            # Rooms have tasks of their own, which die with their process in tests/chaos.
            if asyncio.current_task() is not mine:
                return
            came[point] += 1
            place = (point, came[point] if self._every_time else 1)
            if place not in self._deaths:
                self._deaths.add(place)
                raise Killed

        crashpoints.arm(dies)
        try:
            return await life
        except Killed:
            return None
        finally:
            crashpoints.arm(None)

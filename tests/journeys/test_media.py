"""Stories 1 to 3 once more, with a media server whose signed webhooks come doubled, late and out of order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.integrations.media_fake import MediaFake, rough
from server.ports import free_port
from tests.journeys import school
from tests.journeys.people import Person, RefusedError, Town, story
from tests.journeys.product import MEDIA_KEY, MEDIA_SECRET, Product
from tests.journeys.school import PRICE

pytestmark = pytest.mark.journey


class Ahead:
    """The server's business time, as the media server's clock must show it too."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def set(self, now: datetime) -> None:
        self._offset = now - datetime.now(UTC)


@contextlib.asynccontextmanager
async def filmed(folder: Path) -> AsyncIterator[tuple[Town, MediaFake, Ahead]]:
    """Run a server whose rooms are held on a media server behind a rough network."""
    port, clock = free_port(), Ahead()
    webhooks = f"http://127.0.0.1:{port}/webhooks/livekit"
    media = MediaFake(key=MEDIA_KEY, secret=MEDIA_SECRET, webhook_url=webhooks, now=clock.now)
    async with media:
        media.fate = rough(11, doubled=0.5, late=0.5)
        with Product(folder, environment={"LIVEKIT_URL": media.url}, port=port) as product:
            async with story(product) as town:
                yield town, media, clock


@pytest.mark.timeout(120)
async def test_money_follows_the_media_servers_webhooks(tmp_path: Path) -> None:
    async with filmed(tmp_path) as (town, media, clock):
        admin = await town.admin()
        lesson = await school.offer(town, admin)
        code = await school.referral_code(lesson.tutor)
        platform, missed = await town.register("Pham"), await town.register("Minh")
        referred = await town.register("Rosa", referral_code=code)
        students = (platform, referred, missed)
        bought = [await school.sell(lesson, admin, student) for student in students]
        room = f"ft_{lesson.room_id}_1"
        clock.set(await town.go_to(lesson.minute(-5)))
        for person in (lesson.tutor, *students):
            await person.connect()
            joined = await person.join(lesson.room_id)
            assert joined["seat"]["state"] == "joining"
            assert joined["media"].keys() == {"provider", "url", "token"}
            assert joined["media"]["provider"] == "livekit"
            media.join(room, person.id, person.name)
            await lesson.tutor.saw("participant.updated", user_id=person.id, state="connected")

        async def leave(person: Person, minute: float) -> None:
            clock.set(await town.go_to(lesson.minute(minute)))
            media.leave(room, person.id)
            await media.settled()

        await leave(missed, 15)
        await leave(referred, 80)
        media.leave(room, platform.id)
        await leave(lesson.tutor, 90)
        await town.go_to(lesson.ends_at + timedelta(minutes=8))

        holds = [
            await school.settled(student, purchase)
            for student, purchase in zip(students, bought, strict=True)
        ]
        assert [one["status"] for one in holds] == ["released", "released", "refunded"]
        shares = ("tutor_share", "platform_share", "refunded")
        assert [tuple(one[name]["amount"] for name in shares) for one in holds] == [
            (3_000, 7_000, 0),
            (7_000, 3_000, 0),
            (0, 0, PRICE),
        ]
        assert [one["attendance"]["percent"] for one in holds] == [88, 88, 16]
        assert all("webhook" in one["attendance"]["intervals"][0]["sources"] for one in holds)
        assert await lesson.tutor.wallet() == (0, 0, 10_000)


@pytest.mark.timeout(120)
async def test_own_socket_makes_no_time_where_a_media_server_is(tmp_path: Path) -> None:
    """The student is on the socket all the time and never in the media room."""
    async with filmed(tmp_path) as (town, media, clock):
        admin, student = await town.admin(), await town.register("Silent")
        lesson = await school.offer(town, admin)
        bought = await school.sell(lesson, admin, student)
        clock.set(await town.go_to(lesson.minute(-5)))
        for person in (lesson.tutor, student):
            await person.connect()
            await person.join(lesson.room_id)
        media.join(f"ft_{lesson.room_id}_1", lesson.tutor.id)
        await media.settled()
        for minute in (30, 60, 90):
            clock.set(await town.go_to(lesson.minute(minute)))
        media.leave(f"ft_{lesson.room_id}_1", lesson.tutor.id)
        await media.settled()

        await town.go_to(lesson.ends_at + timedelta(minutes=8))

        hold = await school.settled(student, bought)
        assert (hold["status"], hold["cause"]) == ("refunded", "attendance")
        assert hold["attendance"]["attended_s"] == 0


@pytest.mark.timeout(120)
async def test_five_devices_of_one_person_enter_one_after_the_other(tmp_path: Path) -> None:
    async with filmed(tmp_path) as (town, media, _):
        (host,) = await town.mint()
        await host.connect()
        made = await host.ask("talk.create", {"title": "Devices", "language": "en"})
        room_id, entering, most = made["room_id"], 0, 0
        waits: list[tuple[int, int]] = []

        async def come() -> None:
            nonlocal entering, most
            device = await host.connect()
            while True:
                try:
                    await device.ask("room.join", {"room_id": room_id})
                    break
                except RefusedError as refused:
                    waits.append((refused.code, refused.err["retry_after_ms"]))
                    await asyncio.sleep(0.1)
            entering += 1
            most = max(most, entering)
            await asyncio.sleep(0.1)
            entering -= 1
            media.join(f"ft_{room_id}_1", host.id, host.name)

        await asyncio.gather(*(come() for _ in range(5)))

        assert most == 1
        assert set(waits) == {(130, 1_000)}

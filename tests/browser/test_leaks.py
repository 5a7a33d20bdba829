"""A room that stays open: what comes and goes in it leaves nothing behind in its pages (`--full`, for `--minutes`)."""

import asyncio
import re
import time
from functools import partial

import pytest
from playwright.async_api import CDPSession, Page, expect

from tests.browser.conftest import Enter
from tests.browser.figures import Figures, slope
from tests.browser.test_talk import member, say, start
from tests.journeys.people import Person, town
from tests.journeys.product import Product

# What the browser counts of a page once its garbage is collected. Were one of them left each time that somebody comes,
# goes or opens a panel, the slope would be one a round.
COUNTED = ("Nodes", "JSEventListeners", "Documents", "RTCPeerConnections", "AudioHandlers")
MOST_EACH_ROUND = 0.2
# What was said stays to be read: some lines a round, with their ids below 8 KB. One connection to somebody holds more.
MOST_BYTES_EACH_ROUND = 16_000
# Code is compiled and caches fill in the first rounds, the driver's too; they say nothing of those that follow.
WARM = 15
# Whether the picture of the one who has a camera moves.
MOVES = """async () => {
    const tile = [...document.querySelectorAll(".tile")].find(({ textContent }) => textContent.includes("Binh Tran"));
    const video = tile?.querySelector("video:not(.dark)");
    const seen = video?.currentTime;
    await new Promise(done => setTimeout(done, 100));
    return video !== undefined && video !== null && video.videoWidth > 100 && video.currentTime > seen;
}"""
# People come and go a hundred times in half an hour, and the machine rests between.
EVERY_S = 18.0


class Watched:
    """A page whose browser is asked what it holds."""

    def __init__(self, name: str, page: Page, devtools: CDPSession) -> None:
        self.name = name
        self.page = page
        self.seen: list[dict[str, float]] = []
        self._devtools = devtools

    @classmethod
    async def of(cls, name: str, page: Page) -> "Watched":
        """Watch a page."""
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Performance.enable")
        return cls(name, page, devtools)

    async def look(self) -> None:
        """Note what is left once the garbage is collected."""
        # What one collection finalises may be all that held something else.
        for _ in range(3):
            await self._devtools.send("HeapProfiler.collectGarbage")
        answer = await self._devtools.send("Performance.getMetrics")
        self.seen.append({one["name"]: one["value"] for one in answer["metrics"]})

    def growth(self, metric: str) -> float:
        """Return by how much a number grows with each round."""
        return slope([(no, seen[metric]) for no, seen in enumerate(self.seen) if no >= WARM])


@pytest.mark.timeout(7_200)
async def test_room_that_stays_open_keeps_nothing_of_who_came_and_went(
    figures: Figures, enter: Enter, product: Product, minutes: float
) -> None:
    an, link = await start(enter, "An")
    binh = await member(enter, "Binh", link)
    watched = [await Watched.of("who stays", an), await Watched.of("who comes and goes", binh)]
    room_id = an.url.rsplit("/", 1)[-1]
    until = time.monotonic() + minutes * 60

    async with town(product) as people:
        while time.monotonic() < until or len(watched[0].seen) < WARM + 3:
            begun = time.monotonic()
            # Somebody new each time, who would be remembered.
            [chi] = await people.mint(1)
            await chi.connect()
            await come_talk_and_go(an, binh, chi, room_id, round_no=len(watched[0].seen))
            for one in watched:
                await one.look()
            await chi.device.socket.close()
            await asyncio.sleep(min(EVERY_S, max(0.0, until - time.monotonic())) - (time.monotonic() - begun))

    rounds = len(watched[0].seen)
    figures.add("a room left open", "min", [minutes])
    figures.add("comings and goings in it", "rounds", [rounds])
    grown = []
    for one in watched:
        for metric in COUNTED:
            figures.add(f"{one.name}: {metric}", "", [seen[metric] for seen in one.seen])
            grown += [f"{one.name}: {metric}"] * (one.growth(metric) > MOST_EACH_ROUND)
        figures.add(f"{one.name}: heap", "MB", [seen["JSHeapUsedSize"] / 1e6 for seen in one.seen])
        figures.add(f"{one.name}: heap grows each round", "KB", [one.growth("JSHeapUsedSize") / 1e3])
        grown += [f"{one.name}: heap"] * (one.growth("JSHeapUsedSize") > MOST_BYTES_EACH_ROUND)
    assert grown == [], figures.table()


async def come_talk_and_go(an: Page, binh: Page, chi: Person, room_id: str, *, round_no: int) -> None:
    """Have one come with camera and microphone and one without, let all do what can be done, and both go."""
    button = partial(an.get_by_role, "button")
    await binh.get_by_role("button", name=re.compile("^(Join|Come back)$")).click()
    await chi.join(room_id)
    for page in (an, binh):
        await expect(page.get_by_role("figure")).to_have_count(3)
    await sees_moving_one(an)

    await button(name=re.compile("^Chat")).click()
    for no in range(5):
        await chi.ask("chat.send", {"text": f"Line {no} of round {round_no}."}, ch=f"room:{room_id}")
    await say(an, f"An in round {round_no}")
    for line in (f"Line 4 of round {round_no}.", f"An in round {round_no}"):
        await expect(an.get_by_role("log").get_by_text(line, exact=True)).to_have_count(1)
    await an.keyboard.press("Escape")
    for name in ("Invite", "More"):
        await button(name=name, exact=True).click()
        await expect(an.get_by_role("dialog")).to_be_visible()
        await an.keyboard.press("Escape")
        await expect(an.get_by_role("dialog")).to_have_count(0)
    await button(name="More", exact=True).click()
    await button(name="👏").click()
    await expect(binh.locator(".reaction")).to_have_text("👏")
    for name in ("Microphone", "Camera"):
        await binh.get_by_role("button", name=name, exact=True).click()
    await expect(an.get_by_role("figure", name="Binh Tran, muted")).to_be_visible()
    for name in ("Microphone", "Camera"):
        await binh.get_by_role("button", name=name, exact=True).click()
    await sees_moving_one(an)

    await chi.leave(room_id)
    await binh.get_by_role("button", name="Leave", exact=True).click()
    await expect(binh.get_by_role("heading", name="You have left")).to_be_visible()
    await expect(an.get_by_role("figure")).to_have_count(1)
    await expect(an.locator(".reaction")).to_have_count(0)


async def sees_moving_one(page: Page) -> None:
    """Wait for the picture of the one with a camera."""
    await page.wait_for_function(MOVES, polling=250)

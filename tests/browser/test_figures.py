"""How quick and how heavy the client is, in one table (`--full`); what is asserted of it is not time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser.conftest import Enter, launch
from tests.browser.figures import Figures
from tests.browser.test_talk import member, start
from tests.browser.test_talk_livekit import livekit_bin, with_media
from tests.journeys import school
from tests.journeys.people import town
from tests.journeys.product import Product
from tests.web.test_client import FIRST_PAGE_BYTES

__all__ = ["livekit_bin", "with_media"]

ROUNDS = 20
LOADS = 7
# What Chromium's own audits call slow 4G and a phone of the middle.
SLOW_4G = {
    "offline": False,
    "latency": 150,
    "downloadThroughput": 1_600_000 / 8,
    "uploadThroughput": 750_000 / 8,
}
SLOWER = 4
# The browser calls a task long above 50 ms; what is above keeps a press waiting.
LONG_MS = 50

# From the press to the first picture of the other that is put on the screen.
PRESSED = """addEventListener("click", ({ target, timeStamp }) => {
    if (target.closest?.("button")?.matches(".primary") !== true) return;
    const look = () => {
        const video = document.querySelector(".people video:not(.mirrored)");
        if (video === null) requestAnimationFrame(look);
        else video.requestVideoFrameCallback((now) => { window.firstFrame = now - timeStamp; });
    };
    look();
}, true)"""
# Ready is a page with its heading, and with everything it has to fetch.
LOADED = """(() => {
    window.long = [];
    new PerformanceObserver((found) => {
        for (const { duration } of found.getEntries()) window.long.push(duration);
    }).observe({ type: "longtask", buffered: true });
    const look = () => {
        const isReady = document.querySelector("main h1") !== null && document.querySelector(".skeleton") === null;
        if (isReady) requestAnimationFrame((now) => { window.ready = now; });
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
})()"""
WEIGHT = """() => {
    const [page] = performance.getEntriesByType("navigation");
    const all = performance.getEntriesByType("resource");
    const sum = (entries) => entries.reduce((bytes, { transferSize }) => bytes + transferSize, 0);
    return {
        ready: window.ready,
        painted: performance.getEntriesByName("first-contentful-paint")[0].startTime,
        all: page.transferSize + sum(all),
        script: sum(all.filter(({ name }) => name.endsWith(".js"))),
        longest: Math.max(0, ...window.long),
        blocked: window.long.reduce((ms, duration) => ms + duration - 50, 0),
        tasks: window.long.length,
    };
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser(browser: Browser) -> AsyncIterator[Browser]:
    """One whose cameras give twenty pictures a second, as cameras do."""
    keen = await launch(browser.browser_type, "--use-fake-device-for-media-stream=fps=20")
    yield keen
    await keen.close()


@pytest.mark.timeout(900)
async def test_first_picture_from_browser_to_browser(figures: Figures, enter: Enter) -> None:
    _, link = await start(enter, "An")
    figures.add("press to first picture, browser to browser", "ms", await first_pictures(enter, link))


@pytest.mark.timeout(900)
async def test_first_picture_through_a_media_server(
    figures: Figures, enter: Enter, with_media: Product
) -> None:
    _, link = await start(enter, "An", base_url=with_media.base)
    found = await first_pictures(enter, link, base_url=with_media.base)
    figures.add("press to first picture, through LiveKit", "ms", found)


async def first_pictures(enter: Enter, link: str, **options: Any) -> list[float]:
    """Have somebody come into a talk again and again, each time from a page that is new and has opened its devices."""
    binh = await member(enter, "Binh", link, script=PRESSED, **options)
    found = []
    for _ in range(ROUNDS):
        await binh.goto(link)
        await binh.wait_for_function("() => document.querySelector('.lobby video')?.videoWidth > 100")
        await binh.get_by_role("button", name="Join", exact=True).click()
        await binh.wait_for_function("() => window.firstFrame !== undefined")
        found.append(await binh.evaluate("window.firstFrame"))
        await binh.get_by_role("button", name="Leave", exact=True).click()
        await binh.get_by_role("heading", name="You have left").wait_for()
    return found


@pytest.mark.timeout(900)
async def test_pages_on_a_slow_phone(figures: Figures, enter: Enter, product: Product) -> None:
    async with town(product) as people:
        admin = await people.admin()
        lesson = await school.offer(people, admin)
        [host] = await people.mint(1)
        talk = await host.call("POST", "/api/v1/talks", {"title": "Four at a table", "language": "en"})
        # A worker would bring what it has kept.
        guest = partial(enter, "/login", service_workers="block")
        someone = partial(member, enter, "Binh", service_workers="block")

        front = await loads(guest, "/")
        course = await loads(guest, f"/courses/{lesson.course_id}")
        room = await loads(someone, f"/rooms/{talk['room_id']}")

    for name, found in (("front page", front), ("course", course), ("room", room)):
        for what, key, unit in (
            ("first paint", "painted", "ms"),
            ("ready", "ready", "ms"),
            ("bytes", "all", "B"),
            ("bytes of script", "script", "B"),
            ("long tasks", "tasks", ""),
            ("longest task", "longest", "ms"),
            (f"above {LONG_MS} ms, together", "blocked", "ms"),
        ):
            figures.add(f"{name}, slow phone: {what}", unit, [one[key] for one in found])
    assert max(one["script"] for one in front) <= FIRST_PAGE_BYTES


async def loads(someone: Callable[[], Awaitable[Page]], path: str) -> list[dict[str, float]]:
    """Load a page in one new browser after the other, with nothing kept, on a slow processor and a slow line."""
    found = []
    for _ in range(LOADS):
        before = await someone()
        page = await before.context.new_page()
        await before.close()
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Network.enable")
        await devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
        await devtools.send("Network.emulateNetworkConditions", SLOW_4G)
        await devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        await page.add_init_script(LOADED)
        await page.goto(path)
        await page.wait_for_function("() => window.ready !== undefined")
        found.append(await page.evaluate(WEIGHT))
        await page.context.close()
    return found

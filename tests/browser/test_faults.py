"""What happens to people in a talk: the line is cut, the machine sleeps, a device is pulled out, they come twice."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import ELSEWHERE, Enter, launch
from tests.browser.test_talk import PASSWORD, SMALL, arrive, come, member, say, sees_moving, start
from tests.client.line import Line
from tests.journeys.people import town
from tests.journeys.product import Product

# Its clock can be set ahead, by which the page tells whether its access token still holds.
CLOCK = "window.ahead = 0; { const now = Date.now; Date.now = () => now() + window.ahead; }"
# Longer than an access token holds.
LONGER_MS = 31 * 60_000
# Devices as the test says: `broken.video = "NotReadableError"` is a camera that another program has.
DEVICES = """window.broken = {};
{
    const media = navigator.mediaDevices;
    const real = { ask: media.getUserMedia.bind(media), list: media.enumerateDevices.bind(media) };
    media.getUserMedia = async (asked) => {
        for (const kind of Object.keys(asked)) if (broken[kind]) throw new DOMException("", broken[kind]);
        return real.ask(asked);
    };
    media.enumerateDevices = async () => (await real.list()).filter(({ kind }) => !broken[kind.replace("input", "")]);
}"""
# As if it were pulled out: its track ends by itself, and the browser says that devices have changed.
PULL_OUT = """async () => {
    broken.video = "NotFoundError";
    const track = document.querySelector("video.mirrored").srcObject.getVideoTracks()[0];
    track.stop();
    track.dispatchEvent(new Event("ended"));
    navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
}"""
PUT_IN = """() => {
    delete broken.video;
    navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
}"""
AWAY = "No connection. We keep trying."
# Nobody tells the browser that the line is back: an attempt that hangs may take 15 s to give up, and the next one comes after
# up to 30 s; each of them a second time where the token has to be renewed first.
BACK_MS = 100_000


@asynccontextmanager
async def line_to(product: Product) -> AsyncIterator[Line]:
    """Have a line that can be cut lead to the server, for whoever is `ELSEWHERE`."""
    async with Line.to(product.port, at=(ELSEWHERE, product.port)) as line:
        yield line


def through_line(product: Product, link: str) -> dict[str, str]:
    """Return where a link leads through the line, as what `come` takes."""
    base = product.base.replace("127.0.0.1", ELSEWHERE)
    return {"link": link.replace(product.base, base), "base_url": base}


async def open_chats(*pages: Page) -> None:
    for page in pages:
        await page.get_by_role("button", name=re.compile("^Chat")).click()


async def hears_once(page: Page, *texts: str) -> None:
    for text in texts:
        await expect(page.get_by_role("log").get_by_text(text, exact=True)).to_have_count(1)


@pytest.mark.timeout(1_500)
async def test_line_is_cut_while_a_token_runs_out_and_nothing_is_lost(
    enter: Enter, product: Product, full: bool
) -> None:
    async with line_to(product) as line:
        an, link = await start(enter, "An")
        binh = await come(enter, "Binh", script=CLOCK, **through_line(product, link))
        await open_chats(an, binh)
        said = []
        for cut_s in (5, 60, 600) if full else (3,):
            await sees_moving(an, 1)
            await binh.evaluate("by => { window.ahead += by; }", LONGER_MS)
            line.fall()
            await expect(binh.get_by_text(AWAY)).to_be_visible()
            for page, name in ((an, "An"), (binh, "Binh")):
                await say(page, f"{name}, cut for {cut_s} s")
                said.append(f"{name}, cut for {cut_s} s")
            await expect(binh.get_by_text("sending…")).to_be_visible()
            await sees_moving(binh, 1)
            # The fault itself.
            await asyncio.sleep(cut_s)
            line.is_down = False

            await expect(binh.get_by_text(AWAY)).to_have_count(0, timeout=BACK_MS)
            for page in (an, binh):
                await expect(page.get_by_text(AWAY)).to_have_count(0)
                await hears_once(page, *said)
                await expect(page.get_by_text("sending…")).to_have_count(0)
                await expect(page.get_by_text("2 of 4 seats taken")).to_be_visible()
        for page in (an, binh):
            await sees_moving(page, 1)


async def test_who_is_away_for_too_long_is_told_that_others_have_the_seat(
    enter: Enter, product: Product, full: bool
) -> None:
    if not full:
        pytest.skip("a seat is kept for half a minute: --full")
    async with line_to(product) as line, town(product) as people:
        host, *guests, late = await people.mint(4)
        talk = await host.call("POST", "/api/v1/talks", {"title": "Four at a table", "language": "en"})
        binh = await come(enter, "Binh", **through_line(product, talk["share_link"]))
        await expect(binh.get_by_role("figure", name=re.compile("^Binh Tran, you"))).to_be_visible()
        for person in (host, *guests, late):
            await person.connect()
        for person in (host, *guests):
            await person.join(talk["room_id"])

        line.fall()
        await host.device.saw("participant.left", reason="expired", within_s=90)
        await late.join(talk["room_id"])
        line.is_down = False

        await expect(binh.get_by_role("heading", name="You were away for too long")).to_be_visible()
        await binh.get_by_role("button", name="Come back").click()
        await expect(binh.get_by_role("button", name="Wait for a seat")).to_be_visible()


async def test_talk_is_taken_over_by_a_second_device_and_back(enter: Enter) -> None:
    an, link = await start(enter, "An")
    email = await an.locator(".who .faint").text_content()
    phone = await enter("/login", viewport=SMALL)
    tokens = await phone.request.post("/api/v1/auth/login", data={"email": email, "password": PASSWORD})
    await arrive(phone, link, tokens)

    for joins, here, elsewhere in (("Join", phone, an), ("Go on here", an, phone)):
        await here.get_by_role("button", name=joins, exact=True).click()
        told = elsewhere.get_by_role("heading", name="You are in this talk in another window")
        await expect(told).to_be_visible()
        await expect(here.get_by_role("figure", name=re.compile("^An Tran, you"))).to_be_visible()
        await expect(here.get_by_text("1 of 4 seats taken")).to_be_visible()
        # Both saw the talk end there, and it has not.
        await expect(here.get_by_role("heading", name=re.compile("another window"))).to_have_count(0)


async def test_talk_goes_on_with_a_camera_that_is_taken_then_pulled_out(enter: Enter) -> None:
    an, link = await start(enter, "An")
    script = f"{DEVICES} broken.video = 'NotReadableError';"
    binh = await come(enter, "Binh", link, script=script)
    seen_by_an = an.get_by_role("figure", name="Binh Tran").locator("video")

    await expect(binh.get_by_text("Another program uses the camera.")).to_be_visible()
    await sees_moving(binh, 1)
    await expect(seen_by_an).to_have_class(re.compile("dark"))
    await binh.evaluate("delete broken.video")
    await binh.get_by_role("button", name="Try again").click()
    await sees_moving(an, 1)
    await binh.evaluate(PULL_OUT)
    await expect(binh.get_by_text("No camera was found.")).to_be_visible()
    await expect(seen_by_an).to_have_class(re.compile("dark"))
    await sees_moving(binh, 1)
    await binh.evaluate(PUT_IN)

    await expect(binh.get_by_text("No camera was found.")).to_have_count(0)
    await expect(seen_by_an).not_to_have_class(re.compile("dark"))
    await sees_moving(an, 1)


@pytest.mark.timeout(900)
async def test_talk_is_there_again_when_the_machine_wakes_up(
    enter: Enter, browser: Browser, full: bool
) -> None:
    if not full:
        pytest.skip("sleeping takes minutes: --full")
    laptop = await launch(browser.browser_type)
    an, link = await start(enter, "An")
    binh = await come(enter, "Binh", link, using=laptop)
    await open_chats(an, binh)
    said = []
    # The server finds out after 35 s at most, and keeps the seat for 30 s more: back in time, and too late.
    for asleep_s in (45, 120):
        await sees_moving(an, 1)
        async with sleeping(laptop):
            said.append(f"asleep for {asleep_s} s")
            await say(an, said[-1])
            await expect(an.locator(".tile.away")).to_have_count(1)
            await asyncio.sleep(asleep_s)

        for page in (an, binh):
            await hears_once(page, *said)
            await expect(page.get_by_text("2 of 4 seats taken")).to_be_visible()
            await sees_moving(page, 1)
            await expect(page.get_by_text(AWAY)).to_have_count(0)
    await laptop.close()


@asynccontextmanager
async def sleeping(browser: Browser) -> AsyncIterator[None]:
    """Stop all processes of a browser, as a laptop does whose lid is shut."""
    devtools = await browser.new_browser_cdp_session()
    found = await devtools.send("SystemInfo.getProcessInfo")
    processes = [one["id"] for one in found["processInfo"]]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@pytest.mark.timeout(600)
async def test_five_browsers_at_once(enter: Enter, browser: Browser, full: bool) -> None:
    if not full:
        pytest.skip("five browsers take both cores: --full")
    browsers = [await launch(browser.browser_type) for _ in range(5)]
    an, link = await start(enter, "An", using=browsers[0])
    seated = [an]
    for name, using in zip(("Binh", "Chi", "Dung"), browsers[1:4], strict=True):
        seated.append(await come(enter, name, link, using=using))
    em = await member(enter, "Em", link, using=browsers[4])
    await em.get_by_role("button", name="Wait for a seat").click()

    await expect(em.get_by_text("You are the next in line.")).to_be_visible()
    for page in seated:
        await sees_moving(page, 3)
    await seated[1].get_by_role("button", name="Leave", exact=True).click()
    await em.get_by_role("button", name="Take the seat").click()
    await seated[1].get_by_role("button", name="Come back").click()
    await expect(seated[1].get_by_role("button", name="Wait for a seat")).to_be_visible()
    for page in (seated[0], *seated[2:], em):
        await sees_moving(page, 3)
    for one in browsers:
        await one.close()

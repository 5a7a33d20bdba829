"""Four people meet by a link and see each other; a fifth waits for a seat; the server goes away in mid talk."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Enter
from tests.browser.test_entrance import PASSWORD, register
from tests.journeys.people import story
from tests.journeys.product import Product

# Whether the pictures of so many others move: a picture's clock stands still when nothing comes.
MOVING = """async wanted => {
    const others = () => [...document.querySelectorAll(".people video:not(.mirrored)")];
    const seen = others().map(video => video.currentTime);
    if (seen.length !== wanted) return false;
    await new Promise(done => setTimeout(done, 100));
    return others().every((video, place) => video.videoWidth > 100 && video.currentTime > seen[place]);
}"""


async def sees_moving(page: Page, others: int) -> None:
    await page.wait_for_function(MOVING, arg=others, polling=200)


async def test_two(enter: Enter, product: Product) -> None:
    an = await enter("/register")
    await register(an, "an-talks@example.org")
    await an.get_by_role("button", name="Start a talk").click()
    await expect(an.get_by_role("dialog", name="Invite people")).to_be_visible()
    link = await an.get_by_label("Link", exact=True).input_value()
    await an.keyboard.press("Escape")
    binh = await enter("/register")
    await register(binh, "binh-talks@example.org")
    await binh.goto(link)
    await binh.get_by_role("button", name="Join", exact=True).click()
    await sees_moving(binh, 1)
    await sees_moving(an, 1)
    await an.screenshot(path="/tmp/talk-shots/two-an.png")
    await binh.screenshot(path="/tmp/talk-shots/two-binh.png")

"""A real server, the client as it is in the sources, and a real Chromium with several people in it."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from server.web import build
from tests.journeys.product import Product

Enter = Callable[..., Awaitable[Page]]

# Taken out of the environment: for the product an unknown FOURTALK_ variable is an error.
CHROMIUM = os.environ.pop("FOURTALK_CHROMIUM", None) or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# Nothing of the browser's own traffic, and cameras that need no device. Five pictures a second are enough to see that they
# move; four people who send each other twenty keep two cores busy.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--no-first-run",
    "--use-fake-device-for-media-stream=fps=5",
    "--use-fake-ui-for-media-stream",
]
# Playwright's 5 s are too few where two cores also run a server, a database, three more people's video and the other tests.
PATIENCE_MS = 40_000
expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for all: the browser, which is started once, belongs to it; the first one also waits for the client."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory, in_ci: bool) -> Iterator[Product]:
    """The server, with the client of the sources as they are now."""
    if CHROMIUM is None:
        assert not in_ci, "there is no Chromium"
        pytest.skip("no Chromium: apt-get install chromium, or name one with FOURTALK_CHROMIUM")
    try:
        build.build()
    except build.NotBuiltError as error:
        if in_ci:
            raise
        pytest.skip(f"the client cannot be made here: {error}")
    with Product(tmp_path_factory.mktemp("browser")) as product:
        yield product


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(product: Product) -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def enter(browser: Browser, product: Product) -> AsyncIterator[Enter]:
    """`await enter("/login")` is somebody with a browser of their own; what it complains about fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    async def enter(path: str = "/", **options: Any) -> Page:
        context = await browser.new_context(**{"base_url": product.base, "locale": "en-GB"} | options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda said: complaints.append(said.text) if _is_complaint(said.text) else None)
        await page.goto(path)
        return page

    yield enter
    for context in contexts:
        await context.close()
    assert complaints == []


def _is_complaint(said: str) -> bool:
    return "Content Security Policy" in said or "Permissions policy" in said

"""A real server, the client as it is in the sources, and a real Chromium with several people in it."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, BrowserType, Page, async_playwright, expect

from server.ports import free_port
from server.web import build
from tests.browser.figures import Figures
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
# Where people are whose line can be cut: another address of this machine, which browsers trust as they do the first.
ELSEWHERE = "127.0.0.2"
expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One loop for all: the browser, which is started once, belongs to it; the first one also waits for the client."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            if item.get_closest_marker("timeout") is None:
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
    port = free_port()
    origins = ",".join(f"http://{host}:{port}" for host in ("127.0.0.1", ELSEWHERE))
    environment = {"FOURTALK_ALLOWED_ORIGINS": origins}
    with Product(tmp_path_factory.mktemp("browser"), environment=environment, port=port) as product:
        yield product


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(product: Product) -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        browser = await launch(driver.chromium)
        yield browser
        await browser.close()


async def launch(kind: BrowserType, *flags: str) -> Browser:
    """Start one more Chromium; of two flags with one name the later counts."""
    return await kind.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])


@pytest_asyncio.fixture(loop_scope="session")
async def enter(browser: Browser, product: Product) -> AsyncIterator[Enter]:
    """`await enter("/login")` is somebody with a browser of their own; what it complains about fails the test.

    Their browsers are one process with a profile each, unless another one is named by `using`.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    async def enter(path: str = "/", *, using: Browser = browser, **options: Any) -> Page:
        context = await using.new_context(**{"base_url": product.base, "locale": "en-GB"} | options)
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


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest, full: bool) -> Iterator[Figures]:
    """What is measured, in the long form; shown and written at the end."""
    if not full or CHROMIUM is None:
        pytest.skip("figures are of the long form: --full")
    figures = Figures()
    yield figures
    path: Path = request.config.getoption("--figures")
    version = subprocess.run([CHROMIUM, "--version"], stdout=subprocess.PIPE, text=True, check=True)
    figures.write(path, browser=version.stdout.strip())
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and figures.rows:
        terminal.write_line(f"\n\n{figures.table()}\n\n{path}")


@pytest.fixture(scope="session")
def minutes(request: pytest.FixtureRequest) -> float:
    """How long a room is kept open."""
    asked: float = request.config.getoption("--minutes")
    return asked


def _is_complaint(said: str) -> bool:
    return "Content Security Policy" in said or "Permissions policy" in said

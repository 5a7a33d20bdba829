"""What holds on every page, for everybody: nothing that axe finds, in light and in dark, on a phone."""

import re
from pathlib import Path

import msgspec
import pytest
from playwright.async_api import Page, expect

from server.web import build
from tests.browser.conftest import Enter
from tests.browser.test_admin import log_in_as_admin
from tests.browser.test_entrance import register
from tests.browser.test_learning import log_in
from tests.browser.test_talk import start
from tests.journeys import school
from tests.journeys.people import story, town
from tests.journeys.product import Product

AXE = build.WEB / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 360, "height": 740}
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]


# A phone, a tablet, a desk.
SIZES = {360: 740, 768: 1024, 1440: 900}
ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Axe(msgspec.Struct, frozen=True):
    """What looks at a page."""

    script: str
    screens: Path | None
    """Where pictures go, if they were asked for."""


@pytest.fixture(scope="module")
def axe(request: pytest.FixtureRequest, in_ci: bool) -> Axe:
    if not AXE.is_file() and not in_ci:
        pytest.skip("no axe: uv run python -m server.web.build --check")
    screens: Path | None = request.config.getoption("--screens")
    if screens is not None:
        screens.mkdir(parents=True, exist_ok=True)
    return Axe(AXE.read_text(), screens)


async def findings(page: Page, axe: Axe, path: str) -> list[str]:
    await page.goto(path)
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    return await findings_here(page, axe, path)


async def findings_here(page: Page, axe: Axe, path: str) -> list[str]:
    # Not as a script tag, which the page's own policy refuses.
    await page.evaluate(axe.script)
    found = []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        result = await page.evaluate("rules => axe.run({ runOnly: rules })", RULES)
        found += [
            f"{path} {scheme}: {one['id']} {node['html'][:120]} {node['any'][0]['message'] if node['any'] else ''}"
            for one in result["violations"]
            for node in one["nodes"]
        ]
        if axe.screens is not None:
            await take_pictures(page, axe.screens, f"{path} {scheme}")
    return found


async def take_pictures(page: Page, folder: Path, name: str) -> None:
    """Picture a page at each width, under its address; the first page is called `start`."""
    before = page.viewport_size
    stem = re.sub(r"\W+", "-", ID.sub("one", f"start{name}" if name.startswith("/ ") else name)).strip("-")
    for width, height in SIZES.items():
        await page.set_viewport_size({"width": width, "height": height})
        await page.screenshot(path=folder / f"{stem}-{width}.png", full_page=True)
    if before is not None:
        await page.set_viewport_size(before)


async def test_axe_finds_nothing(enter: Enter, product: Product, axe: Axe) -> None:
    page = await enter("/", viewport=PHONE)
    async with story(product) as town:
        [host] = await town.mint(1)
        talk = await host.call(
            "POST", "/api/v1/talks", {"title": "Coffee and verbs", "language": "en", "level": "B1"}
        )

        found = [
            line
            for path in ("/", "/login", "/register", "/nowhere", f"/t/{talk['code']}")
            for line in await findings(page, axe, path)
        ]
        await page.goto("/register")
        await register(page, "gia@example.org")
        found += [
            line
            for path in ("/", "/settings", "/notifications", f"/rooms/{talk['room_id']}")
            for line in await findings(page, axe, path)
        ]

    assert found == []


async def test_axe_finds_nothing_in_a_call(enter: Enter, axe: Axe) -> None:
    page, _ = await start(enter, "An")

    found = await findings_here(page, axe, "call")
    for button, open_part in (("Invite", "Invite people"), ("More", "More")):
        await page.get_by_role("button", name=button).click()
        await expect(page.get_by_role("dialog", name=open_part)).to_be_visible()
        found += await findings_here(page, axe, button)
        await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Chat").click()
    found += await findings_here(page, axe, "chat")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Leave").click()
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    found += await findings_here(page, axe, "after the call")

    assert found == []


async def test_axe_finds_nothing_where_lessons_are_sold_and_paid(
    enter: Enter, product: Product, axe: Axe
) -> None:
    async with story(product) as town:
        admin, student = await town.admin(), await town.register("Lan")
        lesson = await school.offer(town, admin)
        bought = await school.sell(lesson, admin, student)
        await school.attend(town, lesson, {student: 80})
        await school.over(town, lesson)
        hold = bought["holds"][0]["id"]
        pages = {
            student: ("/courses", f"/courses/{lesson.course_id}", "/learning", "/wallet", f"/holds/{hold}"),
            lesson.tutor: ("/teach/courses", f"/teach/courses/{lesson.course_id}", "/teach/earnings"),
        }
        found = []
        for person, paths in pages.items():
            page = await enter(f"/login?next={paths[0]}", viewport=PHONE)
            await log_in(page, person.email)
            await page.wait_for_url(product.base + paths[0])
            for path in paths:
                found += await findings(page, axe, path)
                assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path

    assert found == []


async def test_axe_finds_nothing_where_operators_work(enter: Enter, product: Product, axe: Axe) -> None:
    page = await enter("/login?next=/admin", viewport=PHONE)
    async with town(product) as found:
        await log_in_as_admin(page, found, "owner")
        await expect(page.get_by_role("heading", name="Operate")).to_be_visible()
        [host] = await found.mint(1)
        talk = await host.call("POST", "/api/v1/talks", {"title": "Tea", "language": "en"})

        paths = (
            "/admin/live",
            f"/admin/live/{talk['room_id']}",
            "/admin/users",
            "/admin/money",
            "/admin/policy",
        )
        lines = [line for path in paths for line in await findings(page, axe, path)]

    assert lines == []


@pytest.mark.parametrize("width", [320, 1440])
async def test_nothing_is_wider_than_the_window(enter: Enter, width: int) -> None:
    page = await enter("/register", viewport={"width": width, "height": 700})
    for path in ("/", "/login", "/register"):
        await page.goto(path)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()

        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path

"""What holds on every page, for everybody: nothing that axe finds, in light and in dark, on a phone."""

import re
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from playwright.async_api import Page, ViewportSize, expect

from server.web import build
from tests.browser import keyboard
from tests.browser.conftest import Enter
from tests.browser.test_admin import log_in_as_admin
from tests.browser.test_entrance import register
from tests.browser.test_learning import log_in
from tests.journeys import lessons, school
from tests.journeys.people import PASSWORD, Person, town
from tests.journeys.product import Product

AXE = build.WEB / "node_modules" / "axe-core" / "axe.min.js"
# The narrowest screen on which nothing may have to be scrolled sideways (WCAG 1.4.10).
PHONE: ViewportSize = {"width": 320, "height": 640}
DESK: ViewportSize = {"width": 1440, "height": 900}
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
Scheme = Literal["light", "dark"]
BOTH: tuple[Scheme, ...] = ("light", "dark")

# The page before stays until the next one has come; its heading tells them apart.
WALK = """path => {
    if (location.pathname === path) return;
    document.querySelector("h1")?.setAttribute("data-left", "");
    history.pushState(null, "", path);
    dispatchEvent(new PopStateEvent("popstate"));
}"""

# Of what is well it need not say where it stands.
RUN = "rules => axe.run({ runOnly: rules, resultTypes: ['violations'] })"

# Whether the browser would ask before the window is closed.
IS_HELD = "!dispatchEvent(new Event('beforeunload', { cancelable: true }))"

# Whether all that stands beside the picture of a lesson is to be seen.
IS_WHOLE = (
    "(({ scrollHeight, clientHeight }) => scrollHeight <= clientHeight)(document.querySelector('.lesson'))"
)

# Pages put together from several answers, and how much of what they show may move when one comes: what Web Vitals call good.
STILL = {"/learning", "/wallet", "/teach/earnings"}
MOVED_MOST = 0.1
WATCH = """() => {
    let sum = 0;
    const add = entries => entries.forEach(({ value }) => (sum += value));
    const observer = new PerformanceObserver(list => add(list.getEntries()));
    observer.observe({ type: "layout-shift" });
    window.moved = () => {
        add(observer.takeRecords());
        observer.disconnect();
        return sum;
    };
}"""

# A phone, a tablet, a desk.
SIZES = {360: 740, 768: 1024, 1440: 900}
ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Axe(msgspec.Struct, frozen=True):
    """What looks at a page."""

    script: str
    screens: Path | None
    """Where pictures go, if they were asked for."""
    schemes: tuple[Scheme, ...]
    """In which every page is shown; with none each language has its own."""


@pytest.fixture(scope="module")
def axe(request: pytest.FixtureRequest, in_ci: bool, full: bool) -> Axe:
    if not AXE.is_file() and not in_ci:
        pytest.skip("no axe: uv run python -m server.web.build --check")
    screens: Path | None = request.config.getoption("--screens")
    if screens is not None:
        screens.mkdir(parents=True, exist_ok=True)
    return Axe(AXE.read_text(), screens, BOTH if full or screens else ())


async def walk(page: Page, path: str) -> None:
    """Go to another page as a link does, without loading everything anew, and wait until it has all it shows."""
    await page.evaluate(WALK, path)
    await expect(page.locator("h1:not([data-left])")).to_be_visible()
    await expect(page.locator(".skeleton")).to_have_count(0)
    assert page.url.endswith(path), "nobody was sent elsewhere"


async def tour(page: Page, axe: Axe, *paths: str) -> list[str]:
    """Walk through pages and return what axe finds on each of them.

    English pages are light and Vietnamese ones dark: no colour depends on the language, and nothing but colours on the scheme.
    """
    found = []
    for scheme in await schemes_of(page, axe):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for path in paths:
            await page.evaluate(WATCH)
            await walk(page, path)
            moved = await page.evaluate("moved()")
            if path in STILL and moved > MOVED_MOST:
                found.append(f"{path}: what was there already moved by {moved:.2f}")
            found += await findings(page, axe, f"{path} {scheme}")
    return found


async def schemes_of(page: Page, axe: Axe) -> tuple[Scheme, ...]:
    is_english = await page.get_attribute("html", "lang") == "en"
    return axe.schemes or ("light" if is_english else "dark",)


async def findings_here(page: Page, axe: Axe, name: str) -> list[str]:
    """Return what axe finds on the page as it is; which language has which scheme is as in `tour`."""
    found = []
    for scheme in await schemes_of(page, axe):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found += await findings(page, axe, f"{name} {scheme}")
    return found


async def findings(page: Page, axe: Axe, name: str) -> list[str]:
    """Return what axe finds, and whether the page has to be scrolled sideways."""
    # Not as a script tag, which the page's own policy refuses.
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(axe.script)
    name = f"{name} {await page.get_attribute('html', 'lang')}"
    result = await page.evaluate(RUN, RULES)
    if axe.screens is not None:
        await take_pictures(page, axe.screens, name)
    found = [
        f"{name}: {one['id']} {node['html'][:120]} {node['any'][0]['message'] if node['any'] else ''}"
        for one in result["violations"]
        for node in one["nodes"]
    ]
    return found + await too_wide(page, name)


async def too_wide(page: Page, name: str) -> list[str]:
    wanted, has = await page.evaluate("[innerWidth, document.documentElement.scrollWidth]")
    return [f"{name}: {has} px wide in {wanted}"] if has > wanted else []


async def take_pictures(page: Page, folder: Path, name: str) -> None:
    """Picture a page at each width, under its address; the first page is called `start`."""
    before = page.viewport_size
    stem = re.sub(r"\W+", "-", ID.sub("one", f"start{name}" if name.startswith("/ ") else name)).strip("-")
    for width, height in SIZES.items():
        await page.set_viewport_size({"width": width, "height": height})
        # A window as high as the page: what is pinned to the window reaches down to its end.
        whole = await page.evaluate("document.documentElement.scrollHeight")
        await page.set_viewport_size({"width": width, "height": max(height, whole)})
        await page.screenshot(path=folder / f"{stem}-{width}.png")
    if before is not None:
        await page.set_viewport_size(before)


async def speak_vietnamese(page: Page) -> None:
    """Change the language of who is logged in."""
    await walk(page, "/settings")
    await page.get_by_label("Language").select_option("vi")
    await page.get_by_role("button", name="Save").first.click()
    await expect(page.get_by_role("heading", name="Cài đặt", level=1)).to_be_visible()


async def in_both_languages(page: Page, axe: Axe, *paths: str) -> list[str]:
    found = await tour(page, axe, *paths)
    await speak_vietnamese(page)
    return found + await tour(page, axe, *paths)


async def test_axe_finds_nothing(enter: Enter, product: Product, axe: Axe) -> None:
    page = await enter("/", viewport=PHONE)
    async with town(product) as people:
        tutor = await lessons.tutor_of(people, await people.admin(), "Thao")
        await lessons.introduce(tutor)
        [host] = await people.mint(1)
        talk = await host.call(
            "POST", "/api/v1/talks", {"title": "Coffee and verbs", "language": "en", "level": "B1"}
        )
        public = (
            "/",
            "/scan",
            "/login",
            "/register",
            "/forgot",
            "/reset",
            "/nowhere",
            f"/t/{talk['code']}",
            "/courses",
            "/tutors",
            f"/tutors/{tutor.id}",
        )

        found = await tour(page, axe, *public)
        await page.get_by_role("button", name="Tiếng Việt").click()
        found += await tour(page, axe, *public)
        await page.get_by_role("button", name="English").click()
        await page.set_viewport_size(DESK)
        for path in public:
            await walk(page, path)
            found += await too_wide(page, path)
        await page.set_viewport_size(PHONE)
        await walk(page, "/register")
        await register(page, "gia@example.org")
        found += await in_both_languages(
            page, axe, "/", "/settings", "/notifications", f"/rooms/{talk['room_id']}"
        )

    assert found == []


async def test_talk_is_found_and_led_by_keyboard_and_axe_finds_nothing_in_it(
    enter: Enter, product: Product, axe: Axe
) -> None:
    page = await enter("/login", viewport=PHONE)
    button = partial(page.get_by_role, "button")
    async with town(product) as people:
        an = await people.register("An")
        await an.call("POST", "/api/v1/talks", {"title": "Keys and doors", "language": "en"})
        await keyboard.type_in(page.get_by_label("E-mail"), an.email)
        await keyboard.type_in(page.get_by_label("Password"), PASSWORD)
        await page.keyboard.press("Enter")
        await keyboard.press(page.get_by_role("link", name="Join “Keys and doors”"))
        await keyboard.press(button(name="Join", exact=True))
        await expect(page.get_by_role("figure", name=re.compile("^An Tester, you"))).to_be_visible()
        await keyboard.keeps_focus(page)

        found = await findings_here(page, axe, "call")
        await keyboard.press(button(name="Microphone"), "Space")
        await expect(button(name="Microphone")).to_have_attribute("aria-pressed", "false")
        await expect(page.get_by_role("figure", name="An Tester, you, host, muted")).to_be_visible()
        for name, open_part in (("Invite", "Invite people"), ("More", "More")):
            await keyboard.press(button(name=name))
            await expect(page.get_by_role("dialog", name=open_part)).to_be_visible()
            found += await findings_here(page, axe, name)
            await keyboard.shut(page)
            await expect(button(name=name)).to_be_focused()
        await keyboard.press(button(name="Chat"))
        await expect(page.get_by_role("textbox", name="Message")).to_be_focused()
        await page.keyboard.insert_text("Is anybody here?")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("log").get_by_text("Is anybody here?")).to_be_visible()
        found += await findings_here(page, axe, "chat")
        await page.keyboard.press("Escape")
        await expect(button(name="Chat")).to_be_focused()
        await keyboard.press(button(name="Leave"), "Space")
        await expect(page.get_by_role("heading", name="You have left")).to_be_visible()
        await keyboard.keeps_focus(page)
        found += await findings_here(page, axe, "after the call")
        own = await an.call("POST", "/api/v1/talks", {"title": "Cà phê sáng", "language": "vi"})
        await speak_vietnamese(page)
        found += await call_in_vietnamese(page, axe, f"/rooms/{own['room_id']}")

    assert found == []


async def call_in_vietnamese(page: Page, axe: Axe, room: str) -> list[str]:
    """Return what axe finds in the call of a host, its sheets, and after its end."""
    button = partial(page.get_by_role, "button")
    await walk(page, room)
    await button(name="Vào phòng").click()
    await expect(page.get_by_role("figure", name=re.compile("^An Tester, bạn"))).to_be_visible()
    found = await findings_here(page, axe, "call")
    for name, open_part in (("Mời", "Mời mọi người"), ("Thêm", "Thêm")):
        await button(name=name, exact=True).click()
        await expect(page.get_by_role("dialog", name=open_part)).to_be_visible()
        await expect(page.locator(".skeleton")).to_have_count(0)
        found += await findings_here(page, axe, name)
        await keyboard.shut(page)
    await button(name="Trò chuyện").click()
    found += await findings_here(page, axe, "chat")
    await page.keyboard.press("Escape")
    await button(name="Thêm", exact=True).click()
    await button(name="Kết thúc cho mọi người").click()
    await expect(page.get_by_role("dialog", name="Kết thúc cuộc trò chuyện")).to_be_visible()
    found += await findings_here(page, axe, "end for everybody")
    await button(name="Kết thúc cho mọi người").click()
    await expect(page.get_by_role("heading", name="Cuộc trò chuyện đã kết thúc")).to_be_visible()
    return found + await findings_here(page, axe, "after the end")


async def test_axe_finds_nothing_where_lessons_are_sold_held_and_paid(
    enter: Enter, product: Product, axe: Axe
) -> None:
    async def entered(person: Person) -> Page:
        page = await enter("/login?next=/settings", viewport=PHONE)
        await log_in(page, person.email)
        await page.wait_for_url(f"{product.base}/settings")
        return page

    async with town(product) as people:
        admin, student = await people.admin(), await people.register("Lan")
        lesson = await school.offer(people, admin)
        bought = await school.sell(lesson, admin, student)
        desk = await entered(lesson.tutor)
        found = await before_its_time(desk, axe, lesson.room_id)
        await people.go_to(lesson.minute(-5))
        for person in (lesson.tutor, student):
            await person.connect()
            await person.join(lesson.room_id)
        await people.go_to(lesson.minute(30))
        found += await end_and_think_better_of_it(desk, axe, lesson.room_id)
        await people.go_to(lesson.minute(80))
        await school.over(people, lesson)

        await expect(desk.get_by_role("heading", name="The lesson is over")).to_be_visible()
        await expect(desk.get_by_text("Its time is up.")).to_be_visible()
        assert not await desk.evaluate(IS_HELD)
        found += await in_both_languages(
            desk,
            axe,
            "/teach/courses",
            "/teach/courses/new",
            f"/teach/courses/{lesson.course_id}",
            "/teach/earnings",
            "/teach/profile",
            "/teach/packages",
        )
        await school.credit(admin, student)
        package = await school.buy_package(lesson.tutor, student)
        found += await in_both_languages(
            await entered(student),
            axe,
            f"/courses/{lesson.course_id}",
            "/learning",
            "/wallet",
            "/holds",
            "/packages",
            f"/packages/{package['id']}",
            f"/holds/{bought['holds'][0]['id']}",
        )

    assert found == []


async def before_its_time(page: Page, axe: Axe, room_id: str) -> list[str]:
    """Have a tutor stand before the door of a lesson of tomorrow."""
    await walk(page, f"/rooms/{room_id}")
    await expect(page.get_by_text(re.compile(r"^Opens in 23:\d\d:\d\d$"))).to_be_visible()
    await expect(page.get_by_role("button", name="Join", exact=True)).to_be_disabled()
    found = await findings_here(page, axe, "door of a lesson")
    await walk(page, "/settings")
    return found


async def end_and_think_better_of_it(page: Page, axe: Axe, room_id: str) -> list[str]:
    """Have a tutor come into their lesson, see what it would cost to end it, and neither end nor leave it."""
    await walk(page, f"/rooms/{room_id}")
    await page.get_by_role("button", name="Join", exact=True).click()
    await expect(page.get_by_role("row")).to_have_count(2)
    assert await page.evaluate(IS_WHOLE), (
        "nobody has to look for the button, or for what becomes of the money"
    )
    await page.get_by_role("button", name="End the lesson").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("listitem")).to_have_text("Lan Tester$100.00 paid out")
    await expect(dialog.get_by_role("definition")).to_have_text(["$30.00", "$70.00", "$0.00"])
    found = await findings_here(page, axe, "end of a lesson")
    await keyboard.shut(page)
    await expect(page.get_by_role("timer")).to_have_text(re.compile(r"^(\d\d:\d\d|1:00:00) left$"))
    assert await page.evaluate(IS_HELD)
    await page.go_back()
    await expect(page.get_by_role("dialog", name="Leave the lesson?")).to_be_visible()
    found += await findings_here(page, axe, "leaving a lesson")
    await keyboard.shut(page)
    await expect(page.get_by_role("figure", name=re.compile("^Thao Tester, you"))).to_be_visible()
    return found


async def test_lesson_is_asked_for_and_withdrawn_by_keyboard_and_axe_finds_nothing(
    enter: Enter, product: Product, axe: Axe
) -> None:
    async with town(product) as people:
        admin = await people.admin()
        tutor, student = (
            await lessons.tutor_of(people, admin, "Thao"),
            await lessons.student_of(people, admin, "Lan"),
        )
        await lessons.introduce(tutor)
        page = await enter("/login?next=/tutors", viewport=PHONE)
        await log_in(page, student.email)
        button = partial(page.get_by_role, "button")
        starts_at = await lessons.tomorrow(people)

        await keyboard.press(page.get_by_role("link", name="Thao Tester").first)
        begins = page.get_by_label("Begins")
        await keyboard.press(button(name="Ask for it"))
        await expect(begins).to_be_focused()
        await expect(begins).to_have_accessible_description("Please fill this in.")
        found = await findings_here(page, axe, "asking")
        await begins.fill(starts_at.strftime("%Y-%m-%dT%H:%M"))
        await keyboard.type_in(page.get_by_label("Topic"), "Six tones")
        await keyboard.press(button(name="Ask for it: $60.00"), "Space")
        await expect(page.get_by_role("heading", name="Six tones", level=1)).to_be_visible()
        booking = page.url.removeprefix(product.base)
        await keyboard.press(button(name="Withdraw"))
        await expect(page.get_by_role("dialog", name="Withdraw this request?")).to_be_visible()
        found += await findings_here(page, axe, "withdrawing")
        await keyboard.shut(page)
        await expect(button(name="Withdraw")).to_be_focused()
        desk = await enter("/login?next=/settings", viewport=PHONE)
        await log_in(desk, tutor.email)
        await desk.wait_for_url(f"{product.base}/settings")
        found += await tour(desk, axe, "/bookings", booking)
        await page.keyboard.press("Enter")
        await keyboard.type_in(page.get_by_label("Why"), "I am ill.")
        await keyboard.press(page.get_by_role("dialog").get_by_role("button", name="Withdraw"))
        await expect(page.get_by_role("heading", name="Withdrawn")).to_be_visible()
        await keyboard.keeps_focus(page)
        await speak_vietnamese(page)
        found += await tour(page, axe, f"/tutors/{tutor.id}", "/bookings", booking)

    assert found == []


async def test_axe_finds_nothing_where_operators_work(enter: Enter, product: Product, axe: Axe) -> None:
    page = await enter("/login?next=/admin", viewport=PHONE)
    async with town(product) as people:
        await people.register("Tam", role="tutor")
        await log_in_as_admin(page, people, "owner")
        await expect(page.get_by_role("heading", name="Operate")).to_be_visible()
        [host] = await people.mint(1)
        talk = await host.call("POST", "/api/v1/talks", {"title": "Tea", "language": "en"})
        pages = (
            "live",
            f"live/{talk['room_id']}",
            "tutors",
            "users",
            "withdrawals",
            "disputes",
            "reviews",
            "money",
        )

        found = await in_both_languages(
            page,
            axe,
            "/admin",
            *(f"/admin/{one}" for one in (*pages, "jobs", "webhooks", "policy", "revenue")),
        )

    assert found == []

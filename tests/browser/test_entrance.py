"""The way in: registering, logging in and out, the open talks, the own settings."""

import asyncio
import re

from playwright.async_api import Page, Route, expect

from tests.browser.conftest import Enter
from tests.journeys.people import story
from tests.journeys.product import Product

PASSWORD = "Correct-horse-7"


async def register(page: Page, email: str) -> None:
    await page.get_by_label("First name").fill("Binh")
    await page.get_by_label("Last name").fill("Tran")
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Create account").click()
    await expect(page.get_by_role("heading", name="Open talks")).to_be_visible()


async def test_somebody_registers_and_sees_a_talk_come_fill_and_go(enter: Enter, product: Product) -> None:
    page = await enter("/")
    await page.get_by_role("link", name="Create a free account").click()
    await register(page, "binh@example.org")

    async with story(product) as town:
        host, guest = await town.mint(2)
        made = await host.call(
            "POST", "/api/v1/talks", {"title": "Films without subtitles", "language": "es"}
        )
        talk = page.get_by_role("listitem").filter(has_text="Films without subtitles")
        await expect(talk).to_contain_text("3 seats free")
        await expect(talk).to_contain_text("Spanish")
        for person in (host, guest):
            await person.connect()
            await person.join(made["room_id"])
        await expect(talk).to_contain_text("2 seats free")
        await host.call("POST", f"/api/v1/talks/{made['id']}/close")
        await expect(talk).to_have_count(0)


# What a phone's browser has and this one lacks: it reads whatever the test holds before the camera.
READER = """window.BarcodeDetector = class {
    async detect(video) { return video.videoWidth > 0 ? [{ rawValue: window.shown ?? "https://elsewhere.example/t/x" }] : []; }
}"""


async def test_code_that_is_scanned_or_typed_leads_into_its_talk(enter: Enter, product: Product) -> None:
    page = await enter("/scan")
    async with story(product) as town:
        [host] = await town.mint(1)
        talk = await host.call("POST", "/api/v1/talks", {"title": "Bread", "language": "en"})
    invitation = re.compile(rf"/t/{talk['code']}$")

    await expect(page.get_by_text("This browser reads no codes itself.")).to_be_visible()
    await page.get_by_label("Link or code").fill(talk["code"])
    await page.get_by_role("button", name="Open").click()
    await expect(page).to_have_url(invitation)

    await page.add_init_script(READER)
    await page.goto("/scan")
    await expect(page.get_by_text("This leads to another place, not here.")).to_be_visible()
    await page.evaluate("link => { window.shown = link; }", f"{product.base}/t/{talk['code']}")
    await expect(page).to_have_url(invitation)
    await expect(page.locator("video")).to_have_count(0)


async def test_language_is_changed_in_the_settings_and_kept(enter: Enter) -> None:
    # What a worker fetches cannot be held up.
    page = await enter("/register", service_workers="block")
    await register(page, "an@example.org")
    line = asyncio.Event()

    async def hold(route: Route) -> None:
        await line.wait()
        await route.continue_()

    await page.route("**/assets/settings-*.js", hold)
    await page.get_by_role("link", name="Settings").click()
    await expect(page.get_by_role("progressbar")).to_be_visible()
    line.set()
    # The page before, which stays until this one is there, has a choice of languages too.
    await expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()
    await expect(page.get_by_role("progressbar")).to_have_count(0)

    await page.get_by_label("Language").select_option("vi")
    await page.get_by_label("Time zone").select_option("Asia/Tokyo")
    await page.get_by_role("button", name="Save").first.click()

    await expect(page.get_by_role("heading", name="Cài đặt", level=1)).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("heading", name="Cài đặt", level=1)).to_be_visible()
    assert await page.get_attribute("html", "lang") == "vi"
    await expect(page.get_by_label("Múi giờ")).to_have_value("Asia/Tokyo")


async def test_login_leads_back_to_where_it_was_asked_for(enter: Enter) -> None:
    page = await enter("/register")
    await register(page, "chi@example.org")
    await page.goto("/settings")
    await page.get_by_role("button", name="Log out", exact=True).click()
    await expect(page).to_have_url(re.compile(r"/login\?next=%2Fsettings$"))

    await page.get_by_label("E-mail").fill("chi@example.org")
    await page.get_by_label("Password").fill("wrong")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_have_text("E-mail or password is wrong.")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()

    await expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()


async def test_what_the_server_refuses_is_said_at_its_field(enter: Enter) -> None:
    page = await enter("/register", locale="vi-VN")
    await expect(page.get_by_role("textbox").first).to_have_accessible_name("Họ")
    await page.get_by_label("Tên", exact=True).fill("Dung")
    await page.get_by_label("Họ", exact=True).fill("Le")
    await page.get_by_label("E-mail").fill("nobody")
    await page.get_by_label("Mật khẩu").fill("weak-password")

    await page.get_by_role("button", name="Tạo tài khoản").click()

    email = page.get_by_label("E-mail")
    await expect(email).to_be_focused()
    await expect(email).to_have_accessible_description("Đây không phải là địa chỉ e-mail.")


async def test_tabs_that_come_back_together_stay_logged_in(enter: Enter) -> None:
    page = await enter("/register")
    await register(page, "em@example.org")
    others = [await page.context.new_page() for _ in range(2)]

    # All three refresh with the one cookie, whose second use would end the session.
    await asyncio.gather(*(tab.goto("/settings") for tab in (page, *others)))

    for tab in (page, *others):
        await expect(tab.get_by_role("heading", name="Settings", level=1)).to_be_visible()
    await others[0].get_by_role("button", name="Log out", exact=True).click()
    for tab in (page, *others):
        await expect(tab).to_have_url(re.compile("/login"))


async def test_page_that_is_loaded_again_before_it_came_stays_logged_in(enter: Enter) -> None:
    page = await enter("/register")
    await register(page, "giang@example.org")

    # The answer with the next cookie finds nobody, and the next page asks with the one before.
    for _ in range(6):
        async with page.expect_request("**/auth/refresh"):
            await page.goto("/settings", wait_until="commit")

    await expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()


async def test_address_of_nothing_says_so(enter: Enter, product: Product) -> None:
    page = await enter("/nowhere")

    await expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()


async def test_shell_can_be_installed_and_shows_what_was_seen_without_a_network(
    enter: Enter, product: Product
) -> None:
    page = await enter("/register")
    await page.evaluate("navigator.serviceWorker.ready")
    await register(page, "khoa@example.org")
    await page.get_by_role("link", name="Courses").click()
    await expect(page.get_by_role("heading", name="Courses", level=1)).to_be_visible()
    await page.get_by_role("link", name="Wallet").click()
    credit = page.get_by_role("definition").filter(has_text="$0.00").first
    await expect(credit).to_be_visible()
    browser = await page.context.new_cdp_session(page)
    manifest = await browser.send("Page.getAppManifest")
    assert (manifest["url"], manifest["errors"]) == (f"{product.base}/manifest.webmanifest", [])
    lacking = await browser.send("Page.getInstallabilityErrors")
    # A browser of a test is a private one, and those install nothing.
    assert [one["errorId"] for one in lacking["installabilityErrors"]] == ["in-incognito"]

    await page.context.set_offline(offline=True)
    await page.reload()

    await expect(credit).to_be_visible()
    note = page.get_by_text("No connection. We keep trying. You see this page as it was at")
    await expect(note).to_be_visible()
    # A page whose file was never here.
    await page.get_by_role("link", name="Settings").click()
    await expect(page.get_by_role("heading", name="This page did not come")).to_be_visible()

    await page.context.set_offline(offline=False)

    await expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()
    await expect(note).to_have_count(0)
    await page.get_by_role("button", name="Log out", exact=True).click()
    await expect(page).to_have_url(re.compile("/login"))
    await page.wait_for_function("async () => !(await caches.has('seen'))")

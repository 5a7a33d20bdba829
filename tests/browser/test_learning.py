"""A course from its first word to the money: made, found by its link, paid for, held, settled, proven."""

import asyncio
import re
from datetime import timedelta

from playwright.async_api import Page, expect

from rooms import receipts
from tests.browser import keyboard
from tests.browser.conftest import Enter
from tests.journeys import school
from tests.journeys.people import PASSWORD, Body, Person, Town, story, usd
from tests.journeys.product import Product

TITLE = "Vietnamese in an evening"


async def log_in(page: Page, email: str) -> None:
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()


async def offer(page: Page, town: Town) -> str:
    """Have a tutor make a course of one session that begins tomorrow, and return its id."""
    await page.get_by_role("link", name="New course").click()
    await page.get_by_label("Title").fill(TITLE)
    await page.get_by_label("What it is about").fill("Greetings, numbers, tea.")
    await page.get_by_label("Category").fill("languages")
    await page.get_by_label("Sessions in all").fill("1")
    await page.get_by_text("By the session").click()
    await page.get_by_label("Price of a session").fill("110")
    await page.get_by_role("button", name="Create the draft").click()

    await page.get_by_role("button", name="Publish").click()
    await expect(page.get_by_role("alert")).to_have_text("Give at least one session a date first.")
    await page.get_by_role("button", name="Add a session").click()
    starts_at = (await town.now() + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Title").fill("Evening 1")
    await dialog.get_by_label("Begins (UTC)").fill(starts_at)
    minutes = dialog.get_by_label("Minutes")
    await minutes.fill("5")
    await dialog.get_by_role("button", name="Save").click()
    await expect(minutes).to_have_attribute("aria-invalid", "true")
    await expect(minutes).to_have_accessible_description("From 15 to 480")
    await minutes.fill("90")
    await dialog.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("listitem").filter(has_text="Evening 1")).to_be_visible()
    await page.get_by_role("button", name="Publish").click()
    await expect(page.get_by_text("It is published.")).to_be_visible()
    return page.url.rsplit("/", 1)[-1]


async def come_by(page: Page, link: str, email: str) -> None:
    """Have somebody open a tutor's link and register; the code of the link came along."""
    await page.goto(link)
    await expect(page.get_by_text("You come on the invitation of Thao Tester.")).to_be_visible()
    course_id = link.partition("/courses/")[2].partition("?")[0]
    await page.goto(f"/register?next=/courses/{course_id}")
    await expect(page.get_by_label("Invitation code")).to_have_value(link.split("ref=")[1])
    await page.get_by_label("First name").fill("Rosa")
    await page.get_by_label("Last name").fill("Tran")
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Create account").click()
    await expect(page.get_by_role("heading", name=TITLE)).to_be_visible()


async def buy(page: Page, product: Product, tutor: Person, course_id: str) -> None:
    """Have a student without money, and without a mouse, buy the session.

    It gets cheaper while they pay money in, and the server is killed before they do, and as they press.
    """
    buy = page.get_by_role("button", name="Buy Evening 1")
    dialog = page.get_by_role("dialog")
    await keyboard.press(buy)
    await expect(dialog).to_contain_text("70 % to the tutor")
    await keyboard.shut(page)
    await expect(buy).to_be_focused()
    await page.keyboard.press("Enter")
    await keyboard.press(dialog.get_by_role("link", name="Top up $110.00"))
    await expect(page.get_by_label("Amount (USD)")).to_have_value("110.00")
    await expect(page.get_by_text("Your purchase lacks $110.00.")).to_be_in_viewport()
    await keyboard.press(page.get_by_role("button", name="Continue to the payment"))
    await page.wait_for_url("**/test-payments/**")
    await keyboard.press(page.get_by_role("link", name="Cancel"))
    await keyboard.press(page.get_by_role("link", name="Finish the payment"))
    await page.wait_for_url("**/test-payments/**")
    await asyncio.to_thread(product.kill)
    await asyncio.to_thread(product.start)
    await keyboard.press(page.get_by_role("button"), "Space")
    await keyboard.press(page.get_by_role("link", name="Back to your purchase"))
    await expect(dialog.get_by_role("button", name="Pay $110.00")).to_be_visible()
    await tutor.call("PATCH", f"/api/v1/courses/{course_id}", {"price_per_session": usd(10_000)})
    await keyboard.press(dialog.get_by_role("button", name="Pay $110.00"), "Space")
    await expect(dialog.get_by_role("alert")).to_contain_text("The offer has changed since you saw it.")
    await keyboard.to(dialog.get_by_role("button", name="Pay $100.00"))
    await asyncio.to_thread(product.kill)
    # Faster than anybody is, and than the button is drawn anew.
    await page.evaluate("for (let press = 0; press < 10; press++) document.activeElement.click()")
    await asyncio.to_thread(product.start)
    held = dialog.get_by_text("$100.00 are held until the lessons are over.")
    gave_up = dialog.get_by_role("alert")
    await expect(held.or_(gave_up)).to_be_visible()
    if await gave_up.is_visible():
        # A server that needs longer than a page waits.
        await keyboard.press(dialog.get_by_role("button", name="Pay $100.00"), "Space")
    await expect(held).to_be_visible()


async def signed_in(town: Town, email: str) -> Person:
    """Return somebody who registered in a browser as one who speaks the protocol."""
    answer = await town.send("POST", "/api/v1/auth/login", {"email": email, "password": PASSWORD})
    tokens: Body = answer.body
    return Person(town, user_id=tokens["user"]["id"], token=tokens["access_token"], email=email)


async def test_course_is_made_bought_and_held_and_its_receipt_proves_who_was_paid(
    enter: Enter, product: Product
) -> None:
    async with story(product) as town:
        tutor = await school.tutor_of(town, await town.admin())
        desk = await enter("/login?next=/teach/courses", timezone_id="UTC")
        await log_in(desk, tutor.email)
        course_id = await offer(desk, town)
        made = await tutor.call("GET", f"/api/v1/courses/{course_id}")
        page = await enter("/")
        await come_by(page, made["share_link"], "rosa@example.org")
        await buy(page, product, tutor, course_id)

        lesson = school.Lesson(tutor, made, made["sessions"][0])
        student = await signed_in(town, "rosa@example.org")
        assert len((await student.call("GET", "/api/v1/purchases"))["items"]) == 1
        await keyboard.press(page.get_by_role("dialog").get_by_role("link", name="Where the money is"))
        await expect(page.get_by_role("heading", name="Evening 1")).to_be_visible()
        await town.go_to(lesson.minute(-5))
        for person in (tutor, student):
            await person.connect()
            await person.join(lesson.room_id)
        await town.go_to(lesson.minute(15))
        await expect(page.get_by_text("more minutes, and this lesson counts")).to_be_visible()
        await town.go_to(lesson.minute(20))
        await expect(page.get_by_text("You have reached 20 %")).to_be_visible()
        await asyncio.to_thread(product.kill)
        await asyncio.to_thread(product.start)
        for person in (tutor, student):
            person.devices.clear()
            await person.connect()
            await person.join(lesson.room_id)
        await expect(page.get_by_text("You have reached 20 %")).to_be_visible()
        await town.go_to(lesson.minute(80))
        await student.leave(lesson.room_id)
        await school.over(town, lesson)

        await expect(page.get_by_text("Paid", exact=True)).to_be_visible()
        await expect(page.get_by_role("img", name=re.compile("88 percent"))).to_be_visible()
        await expect(page.get_by_role("definition").filter(has_text="$70.00")).to_be_visible()
        key = await page.get_by_label("Our public key", exact=True).text_content()
        async with page.expect_download() as saving:
            await page.get_by_role("button", name="Receipt (JSON)").click()
        file = await (await saving.value).path()
        ruling = receipts.verify(await asyncio.to_thread(file.read_bytes), pinned=key).receipt.rulings[-1]
        assert (ruling.to_tutor, ruling.to_platform, ruling.to_student) == (7_000, 3_000, 0)

        await desk.goto("/teach/earnings")
        await expect(desk.get_by_role("definition").filter(has_text="$70.00").first).to_be_visible()

        await keyboard.press(page.get_by_role("button", name="Dispute this lesson"))
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("What was it?").select_option("technical_issues")
        await dialog.get_by_label("What happened?").fill("The sound was away for most of the evening.")
        await dialog.get_by_role("button", name="Send").click()
        dispute = page.get_by_role("region", name="Dispute")
        await expect(dispute).to_contain_text("Somebody will look at it.")
        [opened] = (await student.call("GET", "/api/v1/disputes"))["items"]
        decision = {"decision": "upheld", "notes": "The recording of the room says otherwise."}
        admin = await town.admin()
        await admin.call("POST", f"/api/v1/admin/disputes/{opened['id']}/resolve", decision)
        await expect(dispute).to_contain_text(decision["notes"])

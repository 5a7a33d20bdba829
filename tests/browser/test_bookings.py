"""One-to-one lessons: asked for, agreed, held and paid; withdrawn, declined, called off late; and of a package."""

import re
from datetime import timedelta

from playwright.async_api import Page, expect

from tests.browser.conftest import Enter
from tests.browser.test_learning import log_in
from tests.journeys import lessons, school
from tests.journeys.people import Person, story
from tests.journeys.product import Product


async def entered(enter: Enter, product: Product, person: Person, path: str) -> Page:
    """Return a window in which somebody is logged in, whose clocks are those of the server."""
    page = await enter(f"/login?next={path}", timezone_id="UTC")
    await log_in(page, person.email)
    await page.wait_for_url(f"{product.base}{path}")
    return page


async def test_lesson_is_asked_for_agreed_held_and_paid(enter: Enter, product: Product) -> None:
    async with story(product) as town:
        tutor = await lessons.tutor_of(town, await town.admin(), "Thao")
        await lessons.introduce(tutor)
        student = await town.register("Mai")
        starts_at = await lessons.tomorrow(town)
        page = await entered(enter, product, student, "/tutors")
        desk = await entered(enter, product, tutor, "/notifications")

        # Found by what they teach, asked without the money for it.
        await page.get_by_label("Subject").fill("astrology")
        await expect(page.get_by_role("heading", name="No tutor found")).to_be_visible()
        await page.get_by_label("Subject").fill("Tones")
        await page.get_by_role("link", name="Thao Tester").first.click()
        await expect(page.get_by_role("heading", name="Tones for beginners")).to_be_visible()
        await page.get_by_label("Begins (UTC)").fill(starts_at.strftime("%Y-%m-%dT%H:%M"))
        await page.get_by_label("Length").select_option("30")
        await expect(page.get_by_role("link", name="Top up $30.00")).to_be_visible()
        await page.get_by_label("Length").select_option("60")
        await page.get_by_label("Topic").fill("Six tones")
        await page.get_by_label("Notes").fill("Slowly, please.")
        await page.get_by_role("link", name="Top up $60.00").click()
        await page.get_by_role("button", name="Continue to the payment").click()
        await page.wait_for_url("**/test-payments/**")
        await page.get_by_role("button").first.click()
        await page.get_by_role("link", name="Back to your purchase").click()
        await expect(page.get_by_label("Notes")).to_have_value("Slowly, please.")
        await page.get_by_role("button", name="Ask for it: $60.00").click()
        await expect(page.get_by_role("heading", name="Six tones", level=1)).to_be_visible()
        await expect(page.get_by_role("heading", name="Asked for")).to_be_visible()
        assert await student.wallet() == (0, lessons.PRICE, 0)

        # Whoever is asked is told, and the answer is seen at once.
        await desk.get_by_role("link", name="A lesson is asked for").click()
        await expect(desk.get_by_text("Slowly, please.")).to_be_visible()
        await expect(desk.get_by_role("timer")).to_have_text(re.compile("left to answer$"))
        await desk.get_by_role("button", name="Accept").click()
        for one in (desk, page):
            await expect(one.get_by_role("heading", name="Agreed")).to_be_visible()

        # Through the door of its room, and out of it when the tutor ends it.
        await town.go_to(starts_at - timedelta(minutes=5))
        for one in (page, desk):
            await one.get_by_role("link", name="To the lesson's room").click()
            await one.get_by_role("button", name="Join", exact=True).click()
        await expect(page.get_by_role("figure", name=re.compile("^Thao Tester"))).to_be_visible()
        await town.go_to(starts_at + timedelta(minutes=50))
        await expect(page.get_by_text("The tutor is paid for coming.")).to_be_visible()
        await desk.get_by_role("button", name="End the lesson").click()
        dialog = desk.get_by_role("dialog")
        await expect(dialog).to_contain_text("depends on who came, not on how long")
        await dialog.get_by_role("button", name="End the lesson").click()
        await expect(page.get_by_role("heading", name="The lesson is over")).to_be_visible()
        await town.go_to(starts_at + timedelta(minutes=70))

        for one in (page, desk):
            await one.get_by_role("link", name="What it means for the money").click()
            await expect(one.get_by_role("heading", name="Held", exact=True)).to_be_visible()
            paid = one.get_by_role("region", name="Money")
            await expect(paid.get_by_text("Paid", exact=True).first).to_be_visible()
            await expect(paid.get_by_role("definition").filter(has_text="$60.00")).to_have_count(2)
            await one.get_by_role("link", name="Where the money is, and why").click()
            await expect(one.get_by_role("definition").filter(has_text="$48.00")).to_be_visible()
        await expect(page.get_by_role("button", name="Dispute this lesson")).to_be_visible()
        assert await student.wallet() == (0, 0, 0)


async def test_lessons_are_withdrawn_declined_and_called_off_late(enter: Enter, product: Product) -> None:
    async with story(product) as town:
        admin = await town.admin()
        tutor = await lessons.tutor_of(town, admin, "Thao")
        student = await lessons.student_of(town, admin, "Mai", 4 * lessons.PRICE)
        soon = await lessons.tomorrow(town, days=0.5)
        asked = [await lessons.ask(student, tutor, soon + timedelta(hours=2 * place)) for place in range(4)]
        unwanted, refused, late, struck = (f"/bookings/{one['id']}" for one in asked)
        for one in asked[2:]:
            await tutor.call("POST", f"/api/v1/bookings/{one['id']}/accept", {})
        page = await entered(enter, product, student, "/bookings")
        desk = await entered(enter, product, tutor, refused)

        await expect(page.get_by_role("main").get_by_role("listitem")).to_have_count(4)
        await page.get_by_label("State").select_option("requested")
        await expect(page.get_by_role("main").get_by_role("listitem")).to_have_count(2)
        await page.get_by_role("link", name="Lesson with Thao Tester").last.click()
        await page.wait_for_url(f"**{unwanted}")
        await page.get_by_role("button", name="Withdraw").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("$60.00 are free again.")
        await dialog.get_by_role("button", name="Withdraw").click()
        await expect(page.get_by_role("heading", name="Withdrawn")).to_be_visible()

        await page.goto(refused)
        await desk.get_by_role("button", name="Decline").click()
        await desk.get_by_label("Why").fill("I am away that day.")
        await desk.get_by_role("dialog").get_by_role("button", name="Decline").click()
        await expect(page.get_by_role("heading", name="Declined")).to_be_visible()
        await expect(page.get_by_text("I am away that day.")).to_be_visible()
        assert await student.wallet() == (2 * lessons.PRICE, 2 * lessons.PRICE, 0)

        await page.goto(late)
        await page.get_by_role("button", name="Cancel the lesson").click()
        await expect(dialog).to_contain_text("Now all of $60.00 are the tutor's.")
        await dialog.get_by_role("button", name="Cancel the lesson").click()
        await expect(page.get_by_text("Cancelled by Mai Tester.")).to_be_visible()
        assert await student.wallet() == (2 * lessons.PRICE, lessons.PRICE, 0)

        await desk.goto(struck)
        await desk.get_by_role("button", name="Cancel the lesson").click()
        await expect(desk.get_by_role("dialog")).to_contain_text("it counts as a strike")
        await desk.get_by_role("dialog").get_by_role("button", name="Cancel the lesson").click()
        await expect(desk.get_by_text("It counts as a strike.", exact=True)).to_be_visible()
        assert await student.wallet() == (3 * lessons.PRICE, 0, 0)


async def test_lesson_of_a_package_is_asked_for_from_its_page_and_cancelled_by_an_administrator(
    enter: Enter, product: Product
) -> None:
    async with story(product) as town:
        admin = await town.admin()
        tutor = await lessons.tutor_of(town, admin, "Thao")
        student = await lessons.student_of(town, admin, "Mai", 2 * lessons.PRICE)
        package = await school.buy_package(tutor, student)
        starts_at = await lessons.tomorrow(town)
        page = await entered(enter, product, student, f"/packages/{package['id']}")
        [owner] = await town.mint(1, "owner")
        operator = await town.register("Chi")
        role = {"role": "admin", "reason": "Looks after the lessons."}
        await owner.call("POST", f"/api/v1/admin/users/{operator.id}/role", role)

        await page.get_by_role("link", name="Ask for a lesson").click()
        await expect(page.get_by_text("The lessons of this package have 60 minutes.")).to_be_visible()
        await page.get_by_label("Begins (UTC)").fill(starts_at.strftime("%Y-%m-%dT%H:%M"))
        await page.get_by_role("button", name="Ask for it: one lesson of the package").click()
        await expect(page.get_by_text("A lesson of a package")).to_be_visible()
        await page.wait_for_url("**/bookings/*")
        books = await entered(enter, product, operator, page.url.removeprefix(product.base))
        await books.get_by_role("button", name="Cancel the lesson").click()
        dialog = books.get_by_role("dialog")
        await dialog.get_by_label("Why").fill("Short")
        await dialog.get_by_role("button", name="Cancel the lesson").click()
        reason = dialog.get_by_label("Why")
        await expect(reason).to_have_accessible_description("At least ten characters; both sides read it.")
        await expect(reason).to_be_focused()
        await reason.fill("The tutor is ill, says a friend.")
        await dialog.get_by_role("button", name="Cancel the lesson").click()

        await expect(page.get_by_text("Cancelled by an administrator.")).to_be_visible()
        await page.get_by_role("link", name="To the package").click()
        await expect(page.get_by_text("3 of 3 left", exact=True)).to_be_visible()

        struck = await lessons.ask(student, tutor, await lessons.tomorrow(town, days=0.5), topic="Numbers")
        for deed in ("accept", "cancel"):
            await tutor.call("POST", f"/api/v1/bookings/{struck['id']}/{deed}", {})
        await books.get_by_role("link", name="All lessons").click()
        await books.get_by_role("link", name="Numbers").click()
        await expect(books.get_by_text("It counts as a strike.")).to_be_visible()
        await books.get_by_role("button", name="Lift the strike").click()
        await dialog.get_by_label("Why").fill("Their house was flooded.")
        await dialog.get_by_role("button", name="Lift the strike").click()
        await expect(books.get_by_role("button", name="Lift the strike")).to_have_count(0)
        await expect(books.get_by_text("It counts as a strike.")).to_have_count(0)

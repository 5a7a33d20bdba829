"""Lessons paid in advance: offered, bought, given back, and what it all brought; and a tutor's way to Stripe and back."""

import re

from playwright.async_api import Page, expect

from tests.browser.conftest import Enter
from tests.browser.test_learning import log_in
from tests.journeys import school
from tests.journeys.people import Person, story, usd
from tests.journeys.product import Product

TEN_TIMES = "button => { for (let i = 0; i < 10; i++) button.click(); }"


async def test_package_is_offered_bought_and_given_back_and_a_tutor_is_led_to_stripe(
    enter: Enter, product: Product
) -> None:
    async def entered(person: Person, path: str) -> Page:
        page = await enter(f"/login?next={path}")
        await log_in(page, person.email)
        await page.wait_for_url(f"{product.base}{path}")
        return page

    async with story(product) as people:
        admin = await people.admin()
        tutor, student = await school.tutor_of(people, admin), await people.register("Mai")
        desk, page = await entered(tutor, "/teach/packages"), await entered(student, "/packages")

        await desk.get_by_role("button", name="New package").click()
        dialog = desk.get_by_role("dialog")
        await dialog.get_by_label("Title").fill("Five evenings")
        await dialog.get_by_label("Lessons", exact=True).fill("5")
        await dialog.get_by_label("Price of all of them").fill("100")
        await dialog.get_by_label("Holds for so many days").fill("60")
        # Pressed again before it can be drawn as pressed: there is one offer, which the student's page finds below.
        await dialog.get_by_role("button", name="Save").evaluate(TEN_TIMES)
        await expect(desk.get_by_role("heading", name="Five evenings")).to_be_visible()

        await page.reload()
        await page.get_by_role("button", name="Buy “Five evenings”").click()
        buying = page.get_by_role("dialog")
        await expect(buying.get_by_role("link", name="Top up $100.00")).to_be_visible()
        await (
            buying.get_by_role("button", name="Close")
            .or_(buying.get_by_role("button", name="Cancel"))
            .click()
        )
        body = {"user_id": student.id, "money": usd(10_000), "reason": "money for the test"}
        await admin.call("POST", "/api/v1/admin/wallet-adjustments", body)
        await page.get_by_role("button", name="Buy “Five evenings”").click()
        await buying.get_by_role("button", name="Pay $100.00").click()
        await buying.get_by_role("link", name="To the package").click()
        await expect(page.get_by_text("5 of 5 left", exact=True)).to_be_visible()
        await expect(page.get_by_role("listitem").filter(has_text="not taken yet")).to_have_count(5)
        await page.get_by_role("button", name="Give back what is unused").click()
        await page.get_by_role("dialog").get_by_role("button", name="Give back what is unused").click()
        await expect(page.get_by_text("Given back", exact=True)).to_be_visible()
        await expect(desk.get_by_role("region", name="Sold").get_by_role("listitem")).to_have_count(1)

        await desk.goto("/teach/earnings")
        await expect(desk.get_by_role("link", name="Teaching")).to_have_attribute("aria-current", "page")
        await desk.get_by_role("button", name="Set the bank account").click()
        await dialog.get_by_text("Stripe", exact=True).click()
        await dialog.get_by_label("Country of your bank").select_option("DE")
        await dialog.get_by_role("button", name="Go on at Stripe").click()
        await desk.wait_for_url(re.compile("/test-payments/"))
        await desk.get_by_role("button", name="Confirm").click()
        await desk.wait_for_url(re.compile(r"/teach/earnings\?stripe=returned$"))
        await expect(desk.get_by_text("Stripe pays out to you.")).to_be_visible()

        [owner] = await people.mint(1, "owner")
        await owner.call(
            "POST",
            f"/api/v1/admin/users/{student.id}/role",
            {"role": "owner", "reason": "Looks at the books."},
        )
        books = await entered(student, "/admin/revenue")
        await expect(books.get_by_role("img", name=re.compile("Packages|Where the money"))).to_be_visible()
        row = books.get_by_role("row", name=re.compile("^Packages"))
        await expect(row.get_by_role("cell").last).to_have_text("$100.00")
        await books.get_by_text("month", exact=True).click()
        await books.get_by_label("From").fill("2020-01-01")
        await books.get_by_role("button", name="Show").click()
        await expect(books.get_by_role("cell", name="$100.00").first).to_be_visible()

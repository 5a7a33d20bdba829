"""What people do who mean no good or are too late: code for words, words without end, the last place bought by others."""

from datetime import timedelta

from playwright.async_api import expect

from tests.browser.conftest import Enter
from tests.browser.test_entrance import PASSWORD
from tests.browser.test_learning import signed_in
from tests.journeys import school
from tests.journeys.people import story
from tests.journeys.product import Product

# Run anywhere, either part is seen: by itself, and by the policy, whose complaints fail the test.
CODE = "<script>hurt = 1</script><img src=x onerror='hurt = 1'>"
UNHURT = "() => !('hurt' in window) && document.querySelectorAll('img[src=x]').length === 0"


async def test_code_is_shown_as_words_and_who_is_too_late_is_told_so(enter: Enter, product: Product) -> None:
    page = await enter("/register")
    async with story(product) as people:
        admin = await people.admin()
        tutor = await school.tutor_of(people, admin)
        made = await school.course(tutor, max_students=1, title=f"Course {CODE}", description=CODE)
        evening = await school.session(tutor, made, await people.now() + timedelta(days=1))
        await school.publish(tutor, made)

        # Somebody whose browser does not count for the page.
        name = page.get_by_label("First name")
        await name.evaluate("field => field.removeAttribute('maxlength')")
        await name.fill("A" * 3_000)
        await page.get_by_label("Last name").fill(CODE)
        await page.get_by_label("E-mail").fill("code@example.org")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Create account").click()
        await expect(name).to_be_focused()
        await expect(name).to_have_accessible_description("At most 100 characters, on one line.")
        await name.fill("Code")
        await page.get_by_role("button", name="Create account").click()
        await expect(page.get_by_role("banner").get_by_text(f"Code {CODE}")).to_be_visible()

        late = await signed_in(people, "code@example.org")
        await late.call("POST", "/api/v1/talks", {"title": CODE, "language": "en"})
        await page.get_by_role("link", name=f"Join “{CODE}”").click()
        await page.get_by_role("button", name="Join", exact=True).click()
        await expect(page.get_by_role("heading", name=CODE, level=1)).to_be_visible()
        await expect(page.get_by_role("figure", name=f"Code {CODE}, you, host")).to_be_visible()
        await page.get_by_role("button", name="Chat").click()
        await page.get_by_role("textbox", name="Message").fill(CODE)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("log").get_by_text(CODE)).to_be_visible()
        assert await page.evaluate(UNHURT)
        await page.get_by_role("button", name="Leave").click()

        rival = await people.register("Rival")
        for person in (late, rival):
            await school.credit(admin, person)
        await page.get_by_role("link", name="Courses").click()
        await page.get_by_role("link", name=f"Course {CODE}").click()
        await page.get_by_role("button", name="Buy Evening 1").click()
        pay = page.get_by_role("dialog").get_by_role("button", name="Pay $100.00")
        await expect(pay).to_be_visible()
        await school.buy(rival, made["id"], evening["id"])
        await pay.click()

        told = page.get_by_role("dialog").get_by_role("alert")
        await expect(told).to_have_text("The last place in this session is just gone. Nothing was charged.")
        await expect(pay).to_have_count(0)
        assert await page.evaluate(UNHURT)
        assert await late.wallet() == (school.PRICE, 0, 0)

        # The link to a session that is gone.
        await page.goto(f"/courses/{made['id']}?buy={made['id']}")
        await expect(page.get_by_role("dialog")).to_contain_text("This session is not there any more.")

"""Operators: approving, watching rooms live, walking through a journal, paying out; and what nobody else sees."""

import asyncio
import re

from playwright.async_api import Page, expect

from tests.browser.conftest import Enter
from tests.browser.test_entrance import PASSWORD, register
from tests.browser.test_learning import log_in
from tests.journeys import school
from tests.journeys.people import Town, eventually, story, town, usd
from tests.journeys.product import Product
from tests.journeys.test_money import taught


async def log_in_as_admin(page: Page, found: Town, role: str = "admin", *, locale: str = "en") -> None:
    [owner] = await found.mint(1, "owner")
    operator = await found.register("Operator")
    await operator.call("PATCH", "/api/v1/me", {"locale": locale})
    given = {"role": role, "reason": "Watches over the rooms."}
    await owner.call("POST", f"/api/v1/admin/users/{operator.id}/role", given)
    await page.get_by_label("E-mail").fill(operator.email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()


async def apply_to_teach(page: Page) -> None:
    """Fill in a tutor's profile, first without all that it needs."""
    await page.get_by_role("link", name="Apply for approval").click()
    needed = page.get_by_role("status").get_by_role("listitem")
    await expect(needed).to_have_count(6)
    await page.get_by_label("In one line").fill("Spanish for journeys")
    await page.get_by_label("Subjects").fill("conversation, grammar")
    await page.get_by_role("checkbox", name="Spanish").check()
    await page.get_by_label("An hour costs").fill("25")
    await page.get_by_label("Years of experience").fill("7")
    await page.get_by_role("button", name="Send for approval").click()
    description = page.get_by_label("About you and your lessons")
    await expect(description).to_be_focused()
    await expect(needed).to_have_count(2)
    await description.fill("I have taught for many years. " * 20)
    await page.get_by_role("checkbox", name="I am 18 or older.").check()
    await page.get_by_role("button", name="Send for approval").click()
    await expect(page.get_by_text("We are reading your application.")).to_be_visible()


async def test_operator_approves_a_tutor_and_watches_a_talk_live(enter: Enter, product: Product) -> None:
    tutor = await enter("/register")
    await tutor.get_by_text("teach", exact=True).click()
    await register(tutor, "thuy@example.org")
    await tutor.get_by_role("link", name="Teaching").click()
    await apply_to_teach(tutor)
    await tutor.get_by_role("link", name="To your courses").click()
    waits = tutor.get_by_text("You are waiting for approval.")
    new = tutor.get_by_role("link", name="New course")
    await expect(waits).to_be_visible()
    await expect(new).to_have_count(0)
    page = await enter("/login?next=/admin/tutors")
    async with town(product) as found:
        await log_in_as_admin(page, found)

    waiting = page.get_by_role("listitem").filter(has_text="thuy@example.org")
    await waiting.get_by_text("Profile", exact=True).click()
    await expect(waiting.get_by_text("$25.00 an hour · 7 years of experience")).to_be_visible()
    await waiting.get_by_role("button", name="Approve").click()
    away = page.get_by_text("No connection. We keep trying.")
    await asyncio.to_thread(product.kill)
    await expect(away).to_be_visible()
    await asyncio.to_thread(product.start)
    await expect(away).to_have_count(0)
    await page.get_by_role("dialog").get_by_role("button", name="Approve").click()

    await expect(waiting).to_have_count(0)
    await expect(waits).to_have_count(0)
    await expect(new).to_be_visible()
    await tutor.get_by_role("link", name="Notifications, 1 unread").click()
    told = tutor.get_by_role("main").get_by_role("listitem")
    await expect(told).to_have_count(1)
    await tutor.get_by_role("button", name="Mark all as read").click()
    await expect(tutor.get_by_role("link", name="Notifications", exact=True)).to_be_visible()

    await page.get_by_role("link", name="Live", exact=True).click()
    await expect(page.get_by_text("Every invariant holds")).to_be_visible()
    async with town(product) as found:
        host, guest = await found.mint(2)
        made = await host.call("POST", "/api/v1/talks", {"title": "Words for weather", "language": "en"})
        room = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="Words for weather"))
        await expect(room.get_by_role("list", name="1 of 4 seats taken")).to_be_visible()
        for person in (host, guest):
            await person.connect()
            await person.join(made["room_id"])
        await expect(room.get_by_role("list", name="2 of 4 seats taken")).to_be_visible()
        await expect(room.get_by_text("Live", exact=True)).to_be_visible()

        await room.get_by_role("link", name="Words for weather").click()
        await expect(page.get_by_role("heading", name="After the newest step")).to_be_visible()
        await guest.leave(made["room_id"])
        await expect(page.get_by_role("button", name=re.compile("left seat 2"))).to_be_visible()
        seats = page.get_by_role("region", name=re.compile("^After"))
        await expect(seats.get_by_role("list", name="1 of 4 seats taken")).to_be_visible()
        await page.get_by_role("button", name="One step back").click()
        await expect(seats.get_by_role("list", name="2 of 4 seats taken")).to_be_visible()


async def test_operator_looks_at_bank_data_and_pays_a_withdrawal(enter: Enter, product: Product) -> None:
    async with story(product) as found:
        lesson, _ = await taught(found, await found.admin(), await found.register("Nga"))
        bank = {"bank_name": "Bank of Letters", "account_number": "DE89 3704", "account_holder": "T"}
        await lesson.tutor.call("POST", "/api/v1/payout-account/bank", bank)
        await lesson.tutor.call("POST", "/api/v1/withdrawals", {"amount": usd(2_000)})
        page = await enter("/login?next=/admin/withdrawals")
        await log_in_as_admin(page, found)
        asked = page.get_by_role("listitem").filter(has_text=lesson.tutor.email)
        dialog = page.get_by_role("dialog")

        await asked.get_by_role("button", name="Show bank data").click()
        await dialog.get_by_role("button", name="Show bank data").click()
        await expect(dialog.get_by_label("Reason")).to_be_focused()
        await dialog.get_by_label("Reason").fill("To make the transfer.")
        await dialog.get_by_role("button", name="Show bank data").click()
        await expect(asked).to_contain_text("DE89 3704")
        await asked.get_by_role("button", name="Approve").click()
        await dialog.get_by_role("button", name="Approve").click()
        await expect(asked).to_have_count(0)
        await page.get_by_text("Processing", exact=True).click()
        await asked.get_by_role("button", name="Complete").click()
        await dialog.get_by_label("Reference of the transfer").fill("TT-7")
        await dialog.get_by_role("button", name="Complete").click()
        await expect(asked).to_have_count(0)

        [paid] = (await lesson.tutor.call("GET", "/api/v1/withdrawals"))["items"]
        assert (paid["status"], paid["reference"]) == ("completed", "TT-7")


async def test_operator_pays_a_half_out_and_the_tutor_sees_who_brought_it(
    enter: Enter, product: Product
) -> None:
    async with story(product) as found:
        admin = await found.admin()
        lesson = await school.offer(found, admin)
        code = await school.referral_code(lesson.tutor)
        student = await found.register("Binh", referral_code=code)
        bought = await school.sell(lesson, admin, student)
        page = await enter("/login?next=/admin/money")
        await log_in_as_admin(page, found)
        hold = page.get_by_role("listitem").filter(has_text=bought["holds"][0]["id"])
        dialog = page.get_by_role("dialog")

        await hold.get_by_role("button", name="Pay out").click()
        await dialog.get_by_label("Reason").fill("They agreed on a half.")
        await dialog.get_by_label("in percent").fill("half")
        await dialog.get_by_role("button", name="Pay out").click()
        await expect(dialog.get_by_label("in percent")).to_have_attribute("aria-invalid", "true")
        await dialog.get_by_label("in percent").fill("50")
        await dialog.get_by_role("button", name="Pay out").click()
        await expect(dialog.get_by_role("alert")).to_have_text("The session has not begun.")
        await found.go_to(lesson.minute(-5))
        await lesson.tutor.connect()
        await lesson.tutor.join(lesson.room_id)
        await found.go_to(lesson.minute(1))
        await eventually(lambda: begun(lesson), "the session has begun")
        await dialog.get_by_role("button", name="Pay out").click()

        await expect(hold.get_by_text("Released")).to_be_visible()
        desk = await enter("/login?next=/teach/earnings")
        await log_in(desk, lesson.tutor.email)
        came = desk.get_by_role("list", name="Who came, and what you earned").get_by_role("listitem")
        await expect(came).to_contain_text("Binh Tester")
        await expect(came.get_by_text("$35.00", exact=True)).to_be_visible()


async def begun(lesson: school.Lesson) -> bool:
    return await lesson.status() == "in_progress"


async def test_operators_pages_are_not_for_students(enter: Enter) -> None:
    page = await enter("/register")
    await register(page, "student@example.org")

    for path in ("/admin", "/admin/live", "/admin/policy"):
        await page.goto(path)
        await expect(page.get_by_role("heading", name="This is not yours to see")).to_be_visible()
    await expect(page.get_by_role("link", name="Operate")).to_have_count(0)

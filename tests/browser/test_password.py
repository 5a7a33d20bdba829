"""A forgotten password, from the login to the login: the mail is read where a server without SMTP writes it."""

import asyncio
import email
import re
from email.policy import default
from pathlib import Path

from playwright.async_api import expect

from tests.browser.conftest import Enter
from tests.browser.test_entrance import PASSWORD, register
from tests.journeys.people import eventually
from tests.journeys.product import Product

NEW = "Better-horse-8"
ADDRESS = "quen@example.org"


async def test_forgotten_password_is_set_anew_by_the_link_of_a_mail(enter: Enter, product: Product) -> None:
    await register(await enter("/register"), ADDRESS)
    page = await enter("/login")

    await page.get_by_role("link", name="Forgot your password?").click()
    # The login, too, has a field for an address.
    await expect(page.get_by_role("heading", name="A new password")).to_be_visible()
    await page.get_by_label("E-mail").fill(ADDRESS)
    await page.get_by_role("button", name="Send the link").click()
    await expect(page.get_by_text(f"If {ADDRESS} has an account here, a mail is on its way.")).to_be_visible()
    mails = product.folder / "data" / "mails"
    await eventually(lambda: asyncio.to_thread(link_in, mails), "the mail is written")
    link = await asyncio.to_thread(link_in, mails)
    assert link is not None
    await page.goto(link)
    await page.get_by_label("New password").fill("weak")
    await page.get_by_role("button", name="Set the password").click()
    await expect(page.get_by_label("New password")).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("New password").fill(NEW)
    await page.get_by_role("button", name="Set the password").click()

    await expect(page.get_by_text("Your password is set. Log in with it.")).to_be_visible()
    for password, seen in ((PASSWORD, "E-mail or password is wrong."), (NEW, "Open talks")):
        await page.get_by_label("E-mail").fill(ADDRESS)
        await page.get_by_label("Password").fill(password)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_text(seen)).to_be_visible()
    await page.goto(link)
    await expect(page.get_by_role("heading", name="This link does not hold any more")).to_be_visible()


def link_in(folder: Path) -> str | None:
    """Return the link of the mail to the address, None while there is none."""
    for path in folder.glob("*.eml"):
        mail = email.message_from_bytes(path.read_bytes(), policy=default)
        body = mail.get_body(("plain",))
        found = re.search(r"http\S+/reset#\S+", body.get_content() if body else "")
        if found is not None and str(mail["To"]) == ADDRESS:
            return found[0]
    return None

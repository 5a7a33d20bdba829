"""Four people meet by a link and see each other; a fifth waits for a seat; the server goes away in mid talk."""

import asyncio
import re
import uuid
from typing import Any

import pytest
from playwright.async_api import APIResponse, Page, expect

from tests.browser.conftest import Enter
from tests.journeys.people import town
from tests.journeys.product import Product

PASSWORD = "Correct-horse-7"
# A third of a phone's screen: what is painted costs more than what is sent.
SMALL = {"width": 400, "height": 480}
# Whether the pictures of so many others move.
MOVING = """async wanted => {
    const others = [...document.querySelectorAll(".people video:not(.mirrored)")];
    const seen = others.map(video => video.currentTime);
    await new Promise(done => setTimeout(done, 100));
    return others.length === wanted && others.every((video, place) => video.videoWidth > 100 && video.currentTime > seen[place]);
}"""

# As if the browser had been told never to give a camera or a microphone away.
BLOCKED = (
    "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); }"
)
# A reaction is there for some seconds only.
SHINES = """() => {
    window.shone = new Promise(done => new MutationObserver(() => {
        const shown = document.querySelector(".reaction");
        if (shown !== null) done(shown.textContent);
    }).observe(document.body, { childList: true, subtree: true }));
}"""


async def member(enter: Enter, name: str, path: str = "/", *, script: str = "", **options: Any) -> Page:
    """Return the page of somebody new who is logged in."""
    page = await enter("/login", viewport=SMALL, **options)
    await page.add_init_script(script)
    fields = {
        "email": f"{name}-{uuid.uuid4().hex[:8]}@example.org",
        "password": PASSWORD,
        "first_name": name,
        "last_name": "Tran",
        "role": "student",
    }
    await arrive(page, path, await page.request.post("/api/v1/auth/register", data=fields))
    return page


async def arrive(page: Page, path: str, tokens: APIResponse) -> None:
    """Open a page as who was logged in by a request; its cookie is the browser's."""
    user_id = (await tokens.json())["user"]["id"]
    await page.evaluate("id => localStorage.setItem('fourtalk.member', id)", user_id)
    await page.goto(path)


async def start(enter: Enter, name: str, **options: Any) -> tuple[Page, str]:
    """Return the page of somebody in a new talk of theirs, and its link."""
    page = await member(enter, name, **options)
    await page.get_by_role("button", name="Start a talk").click()
    link = await page.get_by_label("Link", exact=True).input_value()
    await page.keyboard.press("Escape")
    return page, link


async def come(enter: Enter, name: str, link: str, **options: Any) -> Page:
    """Return the page of somebody who has come in by a link."""
    page = await member(enter, name, link, **options)
    await page.get_by_role("button", name="Join", exact=True).click()
    return page


async def sees_moving(page: Page, others: int) -> None:
    await page.wait_for_function(MOVING, arg=others, polling=250)


async def say(page: Page, text: str) -> None:
    await page.get_by_role("textbox", name="Message").fill(text)
    await page.keyboard.press("Enter")


async def remove(host: Page, name: str, *, is_for_good: bool = False) -> None:
    await host.keyboard.press("?")
    await host.get_by_role("button", name=f"Remove {name}").click()
    if is_for_good:
        await host.get_by_label("They may not come back").check()
    await host.get_by_role("button", name="Remove", exact=True).click()


@pytest.mark.timeout(180)
async def test_four_meet_by_a_link_and_see_each_other(enter: Enter) -> None:
    an, link = await start(enter, "An")
    others = [await come(enter, name, link) for name in ("Binh", "Chi", "Dung")]
    for page in (an, *others):
        await sees_moving(page, 3)


async def test_fifth_waits_and_gets_the_seat_of_who_leaves(enter: Enter, product: Product) -> None:
    topic = "tables"
    async with town(product) as found:
        host, *guests = await found.mint(4)
        em = await member(enter, "Em")
        # A page is drawn anew once it is known who is at it.
        await expect(em.get_by_role("button", name="Join any")).to_be_enabled()
        await em.get_by_text("Near you").click()
        await expect(em.get_by_role("heading", name="We cannot tell where you are")).to_be_visible()
        await em.get_by_role("button", name="Show all talks").click()
        await em.get_by_label("Topic").fill(topic)
        await expect(em.get_by_role("heading", name="No talk is like that right now")).to_be_visible()
        await em.get_by_role("button", name="Join any").click()
        await expect(em.get_by_role("dialog").get_by_role("button", name="Start a talk")).to_be_visible()
        await em.keyboard.press("Escape")
        talk = await host.call(
            "POST", "/api/v1/talks", {"title": "Four at a table", "language": "en", "topic": topic}
        )
        await em.get_by_role("button", name="Join any").click()
        await expect(em.get_by_role("figure", name=re.compile("^Em Tran, you"))).to_be_visible()
        await em.get_by_role("button", name="Leave").click()
        await em.get_by_role("link", name="To the talks").click()
        for person in (host, *guests):
            await person.connect()
            await person.join(talk["room_id"])

        await em.get_by_label("Topic").fill(topic)
        await expect(em.get_by_role("heading", name="No talk is like that right now")).to_be_visible()
        await em.get_by_role("button", name="Join any").click()
        for _ in range(2):
            await expect(em.get_by_role("heading", name="Four at a table")).to_be_visible()
            await expect(em.get_by_text("You are the next in line.")).to_be_visible()
            await em.reload()
        await guests[0].leave(talk["room_id"])
        await expect(em.get_by_text("Your seat is ready")).to_be_visible()
        await em.reload()
        await em.get_by_role("button", name="Take the seat").click()

        await expect(em.get_by_role("figure", name=re.compile("^Em Tran, you"))).to_be_visible()
        await expect(em.get_by_role("figure")).to_have_count(4)
        await host.saw("participant.joined", name="Em Tran")


@pytest.mark.timeout(120)
async def test_talk_outlives_its_server(enter: Enter, product: Product) -> None:
    an, link = await start(enter, "An")
    binh = await come(enter, "Binh", link)
    await sees_moving(an, 1)
    for page in (an, binh):
        await page.get_by_role("button", name=re.compile("^Chat")).click()
    await say(an, "before")
    await expect(binh.get_by_role("log").get_by_text("before")).to_be_visible()

    await asyncio.to_thread(product.kill)
    await expect(binh.get_by_text("No connection. We keep trying.")).to_be_visible()
    await say(binh, "meanwhile")
    await expect(binh.get_by_text("sending…")).to_be_visible()
    await sees_moving(binh, 1)
    await asyncio.to_thread(product.start)

    await say(an, "after")
    for page in (an, binh):
        await expect(page.get_by_text("No connection. We keep trying.")).to_have_count(0)
        for text in ("before", "meanwhile", "after"):
            await expect(page.get_by_role("log").get_by_text(text)).to_have_count(1)
        await expect(page.get_by_text("2 of 4 seats taken")).to_be_visible()
        await expect(page.get_by_text("sending…")).to_have_count(0)
        await sees_moving(page, 1)

    await binh.reload()
    await binh.get_by_role("button", name="Join", exact=True).click()
    await binh.get_by_role("button", name=re.compile("^Chat")).click()
    for text in ("before", "meanwhile", "after"):
        await expect(binh.get_by_role("log").get_by_text(text)).to_have_count(1)
    for page in (an, binh):
        await sees_moving(page, 1)


async def test_somebody_without_devices_is_in_and_seen_and_the_host_puts_them_out(enter: Enter) -> None:
    an, link = await start(enter, "An")
    binh = await member(enter, "Binh", link, script=BLOCKED)
    await expect(binh.get_by_text("The camera is blocked.")).to_be_visible()
    await expect(binh.get_by_text("The microphone is blocked.")).to_be_visible()
    await expect(binh.get_by_text("Binh Tran (you)")).to_be_visible()
    await binh.keyboard.press("Enter")
    await sees_moving(binh, 1)
    await expect(an.get_by_role("figure", name="Binh Tran, muted", exact=True)).to_be_visible()

    await an.evaluate(SHINES)
    await binh.keyboard.press("h")
    await expect(an.get_by_role("figure", name="Binh Tran, muted, hand raised")).to_be_visible()
    await binh.keyboard.press("?")
    await binh.get_by_role("button", name="👏").click()
    assert await an.evaluate("window.shone") == "👏"
    await binh.get_by_role("button", name="Chat").click()
    await say(binh, "Good evening")
    await expect(an.get_by_role("button", name="Chat, 1 unread message")).to_be_visible()

    await an.keyboard.press("?")
    await an.get_by_role("button", name="Edit").click()
    await an.get_by_label("Title").fill("Verbs of motion")
    await an.get_by_label("Level").select_option("C1")
    await an.get_by_label("Topic").fill("verbs")
    await an.get_by_role("button", name="Save").click()
    await expect(binh.get_by_role("heading", name="Verbs of motion")).to_be_visible()
    found = await an.request.get("/api/v1/talks", params={"level": "C1", "topic": "verbs"})
    assert [talk["title"] for talk in (await found.json())["items"]] == ["Verbs of motion"]

    await remove(an, "Binh Tran")
    await expect(binh.get_by_role("heading", name="The host has removed you", exact=True)).to_be_visible()
    await binh.get_by_role("button", name="Come back").click()
    await remove(an, "Binh Tran", is_for_good=True)

    for _ in range(2):
        await expect(binh.get_by_role("heading", name="The host has removed you for good")).to_be_visible()
        await expect(binh.get_by_text("You cannot come back into this talk.")).to_be_visible()
        await expect(binh.get_by_role("main").get_by_role("button")).to_have_count(0)
        await binh.reload()
    await expect(an.get_by_role("figure", name=re.compile("Binh"))).to_have_count(0)
    await an.get_by_role("button", name="More").click()
    await an.get_by_role("button", name="End for everybody").click()
    await an.get_by_role("button", name="End for everybody").click()
    await expect(an.get_by_role("heading", name="The talk is over")).to_be_visible()

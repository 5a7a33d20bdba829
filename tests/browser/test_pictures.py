"""Pictures of the product: the README's, and those of every state of its pages in both languages (`--screens FOLDER`)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from playwright.async_api import Page, WebSocketRoute, expect

from server import seed
from server.ports import free_port
from tests.browser.conftest import Enter
from tests.browser.test_access import DESK, Axe, axe, findings_here
from tests.browser.test_admin import log_in_as_admin
from tests.browser.test_learning import log_in
from tests.browser.test_talk import SMALL, say
from tests.journeys import school
from tests.journeys.people import Person, Town, town
from tests.journeys.product import Product

__all__ = ["axe"]

# Hundreds of pictures, where they are asked for.
pytestmark = pytest.mark.timeout(1_800)

# A name as a server on the Internet has one.
PUBLIC_URL = "https://fourtalk.example"
# Somebody before a camera: a wall, shoulders, a head with hair, moving a little.
PORTRAIT = """({ wall, shirt, skin, hair }) => {
    const { mediaDevices } = navigator;
    const real = mediaDevices.getUserMedia.bind(mediaDevices);
    const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
    const pen = canvas.getContext("2d");
    const round = (colour, ...ellipse) => {
        pen.fillStyle = colour;
        pen.beginPath();
        pen.ellipse(...ellipse, 0, 0, 2 * Math.PI);
        pen.fill();
    };
    const draw = () => {
        const x = 320 + 4 * Math.sin(performance.now() / 700);
        const light = pen.createLinearGradient(0, 0, 640, 360);
        light.addColorStop(0, wall[0]);
        light.addColorStop(1, wall[1]);
        pen.fillStyle = light;
        pen.fillRect(0, 0, 640, 360);
        round(hair, x, 150, 84, 100);
        round(shirt, x, 390, 170, 130);
        pen.fillStyle = skin;
        pen.fillRect(x - 28, 210, 56, 70);
        round(skin, x, 165, 66, 84);
        round(hair, x, 98, 72, 40);
        for (const side of [-26, 26]) round("#2b2320", x + side, 165, 6, 7);
        pen.strokeStyle = "#7a3b30";
        pen.lineWidth = 5;
        pen.lineCap = "round";
        pen.beginPath();
        pen.arc(x, 192, 24, 0.2 * Math.PI, 0.8 * Math.PI);
        pen.stroke();
    };
    draw();
    setInterval(draw, 100);
    mediaDevices.getUserMedia = async (asked) => {
        const tracks = asked.audio ? (await real({ audio: asked.audio })).getTracks() : [];
        return new MediaStream([...tracks, ...(asked.video ? canvas.captureStream(10).getTracks() : [])]);
    };
}"""
LOOKS = {
    "minh": {"wall": ["#dfe8e4", "#a9c4b8"], "shirt": "#24594a", "skin": "#e0ac86", "hair": "#1f1b1a"},
    "rosa": {"wall": ["#f3e4d3", "#d6b48f"], "shirt": "#a5413a", "skin": "#c98d63", "hair": "#4a2a1b"},
    "ken": {"wall": ["#dde4f0", "#9fb1cf"], "shirt": "#2c3f66", "skin": "#ecc19c", "hair": "#141414"},
    "maria": {"wall": ["#efe6ee", "#c5aec3"], "shirt": "#5c4170", "skin": "#f0cdb0", "hair": "#6b4023"},
}


@pytest.fixture(scope="module")
def screens(request: pytest.FixtureRequest) -> Path:
    asked: Path | None = request.config.getoption("--screens")
    if asked is None:
        pytest.skip("nobody asked for pictures: --screens FOLDER")
    return asked


@pytest.fixture
def seeded(screens: Path, product: Product, tmp_path: Path) -> Iterator[Product]:
    """A server as `fourtalk seed` leaves it; it serves the client that `product` has made."""
    port = free_port()
    environment = {"PUBLIC_URL": PUBLIC_URL, "FOURTALK_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}"}
    with Product(tmp_path, environment=environment, port=port) as found:
        assert found.command("seed").returncode == 0
        yield found


async def test_pictures_of_the_readme(enter: Enter, seeded: Product, screens: Path) -> None:
    rosa = await inside(enter, seeded, "rosa")
    await expect(rosa.get_by_role("listitem").filter(has_text="Coffee and verbs")).to_be_visible()
    await rosa.screenshot(path=screens / "open-talks.png")

    async with town(seeded) as people:
        await rosa.get_by_role("link", name="Join “Coffee and verbs”").click()
        await join(rosa)
        others = [await inside(enter, seeded, name, viewport=SMALL) for name in ("minh", "ken")]
        for page in others:
            await page.goto(rosa.url)
            await join(page)
        await rosa.get_by_role("button", name=re.compile("^Chat")).click()
        await others[0].get_by_role("button", name=re.compile("^Chat")).click()
        for page, line in (
            (others[0], "How do you say cà phê sữa đá?"),
            (rosa, "Iced coffee with milk. I am having one now."),
            (others[0], "So: I am having, because it is right now?"),
            (rosa, "Exactly."),
        ):
            await say(page, line)
            await expect(rosa.get_by_role("log").get_by_text(line)).to_be_visible()
        await expect(rosa.locator(".tile video:not(.dark)")).to_have_count(3)
        await rosa.get_by_role("textbox", name="Message").evaluate("field => field.blur()")
        await rosa.screenshot(path=screens / "talk.png")

        desk = await inside(enter, seeded, "admin")
        await desk.goto(f"/admin/live/{rosa.url.rsplit('/', 1)[-1]}")
        await expect(desk.get_by_text("Ken Ito took seat").first).to_be_visible()
        await desk.screenshot(path=screens / "live-map.png")

        hold_id = await learn_and_pay(people)
        minh = others[0]
        await minh.goto(f"/holds/{hold_id}")
        await minh.set_viewport_size(DESK)
        await expect(minh.get_by_role("heading", name="Where it went")).to_be_visible()
        await minh.screenshot(path=screens / "proof.png")


async def inside(enter: Enter, product: Product, name: str, **options: object) -> Page:
    """Return the page of somebody of the seeded world."""
    page = await enter(
        "/login", base_url=product.base, **{"viewport": DESK, "color_scheme": "light"} | options
    )
    if name in LOOKS:
        await page.add_init_script(f"({PORTRAIT})({msgspec.json.encode(LOOKS[name]).decode()})")
    await page.goto("/login")
    await page.get_by_label("E-mail").fill(f"{name}@demo.example")
    await page.get_by_label("Password").fill(seed.PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Open talks")).to_be_visible()
    return page


async def join(page: Page) -> None:
    """Come into the call from its preview."""
    await page.get_by_role("button", name="Join", exact=True).click()
    await expect(page.get_by_role("figure", name=re.compile(", you"))).to_be_visible()


async def learn_and_pay(people: Town) -> str:
    """Have a student of the seeded world attend a session and return the hold of its money."""
    thao, minh = [await signed_in(people, name) for name in ("thao", "minh")]
    [course] = (await thao.call("GET", "/api/v1/courses"))["items"]
    sessions = await thao.call("GET", f"/api/v1/courses/{course['id']}/sessions")
    lesson = school.Lesson(thao, course, sessions["items"][0])
    bought = await school.buy(minh, lesson.course_id, lesson.session_id)
    await school.attend(people, lesson, {minh: 80})
    await school.over(people, lesson)
    return str(bought["holds"][0]["id"])


async def signed_in(people: Town, name: str) -> Person:
    email = f"{name}@demo.example"
    answer = await people.send("POST", "/api/v1/auth/login", {"email": email, "password": seed.PASSWORD})
    return Person(people, user_id=answer.body["user"]["id"], token=answer.body["access_token"], email=email)


State = Literal["loading", "error", "empty"]
# Without these there is no page that could ask for anything.
ANSWERED = {"connect", "ping", "refresh", "subscribe", "unsubscribe"}
# In each language, what it says to those whom a page is not for.
NO_ACCESS = {"en": "This is not yours to see", "vi": "Bạn không xem được trang này"}
# What stands there until it is known who is logged in, and which page they get.
FRAME_WAITS = re.compile("One moment…|Xin chờ một chút…")


@pytest.mark.parametrize("locale", NO_ACCESS)
async def test_pictures_of_every_state(
    enter: Enter, product: Product, screens: Path, axe: Axe, locale: str
) -> None:
    async with town(product) as people:
        admin = await people.admin()
        lesson = await school.offer(people, admin)
        lan = await people.register("Lan")
        for person in (lan, lesson.tutor):
            await person.call("PATCH", "/api/v1/me", {"locale": locale})
        [host] = await people.mint(1)
        talk = await host.call("POST", "/api/v1/talks", {"title": "Tea", "language": "en"})
        found = []
        for_student = ["/", "/courses", f"/courses/{lesson.course_id}", "/learning", "/wallet", "/holds"]
        for_student += ["/notifications", f"/rooms/{talk['room_id']}"]
        for state in ("loading", "error", "empty"):
            page = await hindered(enter, state)
            await log_in(page, lan.email)
            found += await states(page, axe, state, for_student)
            page = await hindered(enter, state)
            await log_in(page, lesson.tutor.email)
            found += await states(page, axe, state, ["/teach/courses", "/teach/earnings"])
            page = await hindered(enter, state)
            await log_in_as_admin(page, people, "owner", locale=locale)
            operated = ("live", "tutors", "withdrawals", "disputes", "reviews", "jobs", "webhooks")
            found += await states(page, axe, state, [f"/admin/{one}" for one in operated])

        page = await hindered(enter, "empty")
        await log_in(page, lan.email)
        await page.wait_for_url(lambda url: "/login" not in url)
        for path in ("/teach/courses", "/admin"):
            await page.goto(path)
            await expect(page.get_by_role("heading", name=NO_ACCESS[locale])).to_be_visible()
            found += await findings_here(page, axe, f"{path} no access")
    assert found == []


async def hindered(enter: Enter, state: State) -> Page:
    """Return a page to log in at, whose questions over the socket are answered as the state has it."""

    def connect(page_side: WebSocketRoute) -> None:
        server_side = page_side.connect_to_server()

        def hear(message: str | bytes) -> None:
            asked = msgspec.json.decode(message)
            if state == "empty" or asked.get("op", "ping") in ANSWERED:
                server_side.send(message)
            elif state == "error" and "id" in asked:
                error = {"code": 100, "name": "internal", "message": "internal error"}
                page_side.send(msgspec.json.encode({"id": asked["id"], "err": error}).decode())

        page_side.on_message(hear)

    page = await enter("/login", viewport=DESK)
    # What a worker asks for is not to be got at.
    await page.add_init_script("delete window.SharedWorker")
    await page.route_web_socket(re.compile("/ws$"), connect)
    await page.goto("/login")
    return page


async def states(page: Page, axe: Axe, state: State, paths: list[str]) -> list[str]:
    """Return what axe finds on pages that are in a state."""
    await page.wait_for_url(lambda url: "/login" not in url)
    found = []
    for path in paths:
        await page.goto(path)
        # A room does not give up: it asks again until it is answered.
        match "loading" if path.startswith("/rooms/") and state == "error" else state:
            case "loading":
                own = page.locator("main:has(h1)", has_not_text=FRAME_WAITS)
                await expect(own.locator(".skeleton").first).to_be_visible()
            case "error":
                await expect(page.locator(".state[role=alert]").first).to_be_visible()
            case "empty":
                await expect(page.locator("main:has(h1):not(:has(.skeleton))")).to_be_visible()
        found += await findings_here(page, axe, f"{path} {state}")
    return found

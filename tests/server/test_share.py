"""Share pages: what a link shows to somebody who has nothing but the link."""

from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar

from server.http import problem, share
from tests.server.stage import Stage
from tests.server.test_talks import TALK


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar(
        route_handlers=[*share.routes(stage.parts)],
        exception_handlers={Exception: problem.answer},
        openapi_config=None,
        logging_config=None,
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=cast(Any, app)), base_url="http://test"
    ) as client:
        yield client


async def test_link_of_a_talk_shows_what_it_is_and_its_picture(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    [host] = await stage.people(1)
    talk = await stage.do("talk.create", host, **TALK)

    page = await client.get(f"/t/{talk['code']}")
    picture = await client.get(f"/api/v1/talks/{talk['id']}/qr.svg")

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert (page.headers["cache-control"], page.headers["vary"]) == ("no-cache", "Accept, Accept-Language")
    assert "Coffee and verbs" in page.text
    assert "1 of 4 places" in page.text
    assert talk["code"] in page.text
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert picture.text == talk["qr_svg"]
    assert picture.text in page.text


async def test_what_people_wrote_is_escaped(stage: Stage, client: httpx.AsyncClient) -> None:
    [host] = await stage.people(1)
    title = "<script>alert('{seated}')</script>"
    talk = await stage.do("talk.create", host, **TALK | {"title": title})

    page = await client.get(f"/t/{talk['code']}")

    assert "<script" not in page.text
    assert "&lt;script&gt;alert(&#x27;{seated}&#x27;)" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_page_speaks_the_browsers_language(stage: Stage, client: httpx.AsyncClient) -> None:
    [host] = await stage.people(1)
    talk = await stage.do("talk.create", host, **TALK)

    page = await client.get(f"/t/{talk['code']}", headers={"Accept-Language": "vi-VN,vi;q=0.9,en;q=0.8"})

    assert '<html lang="vi">' in page.text
    assert "mời bạn" in page.text


async def test_link_of_a_closed_talk_says_so(stage: Stage, client: httpx.AsyncClient) -> None:
    [host] = await stage.people(1)
    talk = await stage.do("talk.create", host, **TALK)
    await stage.do("talk.close", host, talk_id=talk["id"])

    page = await client.get(f"/t/{talk['code']}")

    assert page.status_code == 200
    assert "This talk is over." in page.text


async def test_link_of_a_course_shows_it_once_it_is_published(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    lesson = await stage.sell_lesson(students=0)
    path = f"/courses/{lesson.course['id']}"

    shown = await client.get(path)
    await stage.do("course.unpublish", lesson.tutor, course_id=lesson.course["id"])
    hidden = await client.get(path)

    assert "Spanish from zero" in shown.text
    assert hidden.status_code == 404


async def test_tutors_own_link_keeps_its_code(stage: Stage, client: httpx.AsyncClient) -> None:
    lesson = await stage.sell_lesson(students=0)
    link = lesson.course["share_link"]
    code = link.partition("?ref=")[2]

    shown = await client.get(link.removeprefix(stage.parts.settings.public_url))
    forged = await client.get(f"/courses/{lesson.course['id']}?ref=<script>")

    assert code
    assert f"register with the code {code}" in shown.text
    assert "<svg" in shown.text
    assert "<script" not in forged.text


@pytest.mark.parametrize(
    "path",
    ["/t/aaaaaaaaaa", "/t/x", "/courses/x", "/courses/00000000-0000-0000-0000-000000000000"],
)
async def test_link_that_leads_nowhere_says_so(client: httpx.AsyncClient, path: str) -> None:
    page = await client.get(path)

    assert page.status_code == 404
    assert "leads nowhere" in page.text


@pytest.mark.parametrize(
    ("header", "locale"), [("", "en"), ("de", "en"), ("de, vi;q=0.5", "vi"), ("en-GB, vi", "en")]
)
def test_first_known_language_is_taken(header: str, locale: str) -> None:
    assert share.locale_of(header) == locale


async def test_a_tutors_invitation_says_whose_code_it_is_and_is_remembered(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    lesson = await stage.sell_lesson(students=0)
    own = (await stage.do("me.get", lesson.tutor))["referral_code"]
    of_course = lesson.course["share_link"].partition("?ref=")[2]

    page = await client.get(f"/r/{own.lower()}")
    course = await client.get(f"/courses/{lesson.course['id']}?ref={of_course}")
    plain = await client.get(f"/courses/{lesson.course['id']}")
    nobody = await client.get("/r/TEACHNOBODY1")

    assert f"Register with the code {own}" in page.text
    assert "<svg" in page.text
    assert f"fourtalk_referral={own};" in page.headers["set-cookie"]
    assert f"fourtalk_referral={of_course};" in course.headers["set-cookie"]
    assert "set-cookie" not in plain.headers
    assert nobody.status_code == 404

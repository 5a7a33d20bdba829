"""Pages behind share links, made here so that they work without the client: what it is, and the way in.

Everything that people wrote is escaped; the pages run no script.
"""

from collections.abc import Sequence
from html import escape
from typing import Any
from uuid import UUID

from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from rooms.messages import RoomStatus
from server import qr, texts
from server.context import Parts
from server.errors import NotFoundError
from server.features.accounts import cookies
from server.features.accounts.models import referrer_of, user_of
from server.features.accounts.rules import normal_code
from server.features.courses.models import codes_of, course_of
from server.features.courses.rules import Publication
from server.features.courses.views import share_link
from server.features.referrals.handlers import own_link
from server.features.talks import handlers as talks
from server.texts import Text

# Pages of ours: an own style, pictures of our own making, nothing else.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
)

_PAGE = """<!doctype html>
<html lang="{locale}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · fourtalk</title>
<meta property="og:title" content="{title}">
<meta property="og:description" content="{body}">
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 10vh auto; padding: 0 1rem; }}
svg {{ width: 12rem; height: 12rem; display: block; margin-top: 2rem; background: #fff; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{body}</p>
{picture}
</main>
</body>
</html>
"""


def routes(parts: Parts) -> Sequence[HTTPRouteHandler]:
    """Return the share pages of talks, courses and tutors, and the picture of a talk's link."""

    @get("/t/{code:str}", include_in_schema=False)
    async def show_talk(request: Request[Any, Any, Any], code: FromPath[str]) -> Response[str]:
        """Show what a talk's link leads to."""
        locale = locale_of(request.headers.get("accept-language", ""))
        try:
            async with parts.sessions() as session:
                talk = talks.view(await talks.talk_of(session, code), parts.settings)
        except NotFoundError:
            return _missing(locale)
        facts = {
            "title": talk.title,
            "host": talk.host.name,
            "seated": talk.seats.taken,
            "cap": talk.seats.total,
            "code": talk.code,
        }
        if talk.state in (RoomStatus.CLOSING, RoomStatus.CLOSED):
            return _page(texts.fill(texts.PAGES["talk_closed"], locale, **facts), locale)
        return _page(texts.fill(texts.PAGES["talk"], locale, **facts), locale, picture=talk.qr_svg)

    @get("/courses/{course_id:str}", include_in_schema=False)
    async def show_course(
        request: Request[Any, Any, Any], course_id: FromPath[str], ref: FromQuery[str | None] = None
    ) -> Response[str]:
        """Show what a course's link leads to; only what is published. The link's `ref` is remembered."""
        locale = locale_of(request.headers.get("accept-language", ""))
        try:
            async with parts.sessions() as session:
                course = await course_of(session, UUID(course_id))
                tutor = await user_of(session, course.tutor_id)
                codes = {tutor.referral_code, *(await codes_of(session, [course.id])).values()}
        except (NotFoundError, ValueError):
            return _missing(locale)
        if course.publication != Publication.PUBLISHED:
            return _missing(locale)
        text = texts.fill(
            texts.PAGES["course"],
            locale,
            title=course.title,
            tutor=tutor.name,
            language=course.language,
            level=course.level,
            sessions=course.total_sessions,
        )
        if ref is None or ref not in codes:
            return _page(text, locale)
        invited = texts.fill(texts.PAGES["course_by_tutor"], locale, code=ref, about=text.body)
        link = share_link(parts.settings.public_url, course.id, ref)
        page = _page(Text(text.title, invited.body), locale, picture=qr.svg(link))
        page.headers["set-cookie"] = cookies.referral_header(ref, parts.settings)
        return page

    @get("/r/{code:str}", include_in_schema=False)
    async def show_invitation(request: Request[Any, Any, Any], code: FromPath[str]) -> Response[str]:
        """Show whose code this is, and remember it."""
        return await _invitation(
            parts, normal_code(code), locale_of(request.headers.get("accept-language", ""))
        )

    @get("/api/v1/talks/{talk_id:str}/qr.svg", include_in_schema=False)
    async def show_code(talk_id: FromPath[str]) -> Response[str]:
        """Draw a talk's link."""
        async with parts.sessions() as session:
            talk, *_ = await talks.talk_of(session, talk_id)
        return Response(qr.svg(talks.share_link(talk, parts.settings)), media_type="image/svg+xml")

    return [show_talk, show_course, show_invitation, show_code]


async def _invitation(parts: Parts, code: str, locale: str) -> Response[str]:
    async with parts.sessions() as session:
        found = None if "\0" in code else await referrer_of(session, code)
        if found is None:
            return _missing(locale)
        tutor = await user_of(session, found[0])
    text = texts.fill(texts.PAGES["invitation"], locale, tutor=tutor.name, code=code)
    page = _page(text, locale, picture=qr.svg(own_link(parts.settings.public_url, code)))
    page.headers["set-cookie"] = cookies.referral_header(code, parts.settings)
    return page


def locale_of(accept_language: str) -> str:
    """Return the first of our languages that a browser names, English otherwise."""
    wanted = (part.split(";")[0].strip().lower()[:2] for part in accept_language.split(","))
    return next((language for language in wanted if language in texts.LOCALES), "en")


def _page(text: Text, locale: str, *, picture: str = "", status: int = 200) -> Response[str]:
    html = _PAGE.format(locale=locale, title=escape(text.title), body=escape(text.body), picture=picture)
    headers = {
        "content-security-policy": POLICY,
        "cache-control": "no-cache",
        # Who looks at it gets the client's page (server/web/site.py).
        "vary": "Accept, Accept-Language",
    }
    return Response(html, media_type=MediaType.HTML, status_code=status, headers=headers)


def _missing(locale: str) -> Response[str]:
    return _page(texts.fill(texts.PAGES["missing"], locale), locale, status=404)

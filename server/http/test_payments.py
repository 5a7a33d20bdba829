"""The pages of test payments: where Stripe would ask for a card, a bank for a word, and a tutor's account for papers."""

from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import parse_qs

from litestar import MediaType, Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from billing.money import Money
from server import texts
from server.http.share import locale_of
from server.integrations.stripe_fake.fake import StripeFake
from server.integrations.stripe_fake.machine import Object
from server.texts import Text

PREFIX = "/test-payments"
# A form that is sent to us and leads back to a page of ours; nothing else.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
BODY_MAX = 4 * 1024

_PAGE = """<!doctype html>
<html lang="{locale}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · fourtalk</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 10vh auto; padding: 0 1rem; }}
button {{ font: inherit; padding: .6rem 1.4rem; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{body}</p>
{inner}
</main>
</body>
</html>
"""


def routes(fake: StripeFake | None) -> Sequence[HTTPRouteHandler]:
    """Return the pages, or none where people pay with Stripe."""
    if fake is None:
        return ()

    @get(PREFIX + "/{name:path}", include_in_schema=False)
    async def show_test_payment(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[str]:
        """Show what is to be confirmed."""
        return await _page(fake, name.strip("/"), locale_of(request.headers.get("accept-language", "")))

    @post(PREFIX + "/{name:path}", include_in_schema=False, request_max_body_size=BODY_MAX)
    async def confirm_test_payment(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[str]:
        """Do what the page asked for, and go back to where the payer came from."""
        form = parse_qs((await request.body()).decode("ascii", "replace"))
        where = await _confirm(fake, name.strip("/"), save="save" in form)
        if where is None:
            return await _page(fake, name.strip("/"), locale_of(request.headers.get("accept-language", "")))
        return Response("", status_code=303, headers={"location": where})

    return [show_test_payment, confirm_test_payment]


async def _confirm(fake: StripeFake, name: str, *, save: bool) -> str | None:
    """Return where the browser goes then, None where nothing more is asked."""
    id_, _, what = name.partition("/")
    found = await fake.find(id_)
    match found and found["object"], what:
        case "checkout.session", "":
            answer = await fake.pay(id_, save=save)
            return (
                str(answer.body["success_url"] or answer.body["return_url"]) if answer.status == 200 else None
            )
        case "payment_intent", "3ds":
            await fake.act(f"/payments/{id_}/authenticate")
        case "v2.core.account", "onboarding":
            await fake.act(f"/accounts/{id_}/onboard")
            return fake.onboarded_at(id_)
        case _:
            return None
    return None


async def _page(fake: StripeFake, name: str, locale: str) -> Response[str]:
    id_, _, what = name.partition("/")
    found = await fake.find(id_)
    yes = texts.fill(texts.PAGES["test_yes"], locale)
    box = f'<p><label><input type="checkbox" name="save" value="true"> {escape(yes.body)}</label></p>'
    button = f"<button>{escape(yes.title)}</button>"
    no = texts.fill(texts.PAGES["test_no"], locale)
    match _open(found), what:
        case "checkout.session", "":
            assert found is not None, "it has a kind"
            amount = Money(found["amount_total"], found["currency"].upper())
            cancel = _link(found["cancel_url"], no.title)
            text = texts.fill(texts.PAGES["test_payment"], locale, amount=amount)
            return _html(text, locale, _form(box + button) + cancel)
        case "payment_intent", "3ds":
            return _html(texts.fill(texts.PAGES["test_question"], locale), locale, _form(button))
        case "v2.core.account", "onboarding":
            return _html(texts.fill(texts.PAGES["test_onboarding"], locale), locale, _form(button))
        case _:
            # Who goes back to it after the payment goes on from where the payment led.
            link = _link((found or {}).get("success_url") or "/", no.body)
            return _html(texts.fill(texts.PAGES["missing"], locale), locale, link, status=404)


def _open(found: Object | None) -> str | None:
    """Return the kind of what still waits for somebody."""
    if found is None:
        return None
    waits = {
        "checkout.session": found.get("status") == "open",
        "payment_intent": found.get("status") == "requires_action",
        "v2.core.account": True,
    }
    kind: str = found["object"]
    return kind if waits.get(kind) else None


def _form(inner: str) -> str:
    return f'<form method="post">{inner}</form>'


def _link(where: str | None, words: str) -> str:
    return "" if where is None else f'<p><a href="{escape(where)}">{escape(words)}</a></p>'


def _html(text: Text, locale: str, inner: str, *, status: int = 200) -> Response[str]:
    html = _PAGE.format(locale=locale, title=escape(text.title), body=escape(text.body), inner=inner)
    headers = {"content-security-policy": POLICY}
    return Response(html, media_type=MediaType.HTML, status_code=status, headers=headers)

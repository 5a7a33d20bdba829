"""Cookies for browsers: the refresh token (C-26), and the referral code that somebody came by (B-19).

No script can read them, and no other site can send them.
"""

import re
from collections.abc import Mapping

import msgspec

from server.config import Settings
from server.features.accounts.tokens import REFRESH_TTL

NAME = "fourtalk_refresh"
# The commands that answer with a refresh token, those that take one, and those that end it.
GIVES = frozenset({"auth.register", "auth.login", "auth.refresh", "me.update"})
TAKES = frozenset({"auth.refresh", "auth.logout"})
ENDS = frozenset({"auth.logout", "login.end_all"})

REFERRAL = "fourtalk_referral"
# Who looks at a link and makes up their mind within a month came by that link.
REFERRAL_TTL_S = 30 * 24 * 3600
_CODE = re.compile(r"(TEACH|COURSE_)[0-9A-Z]{8}")
_REGISTERS, _REFRESHES = "auth.register", "auth.refresh"


class _Answer(msgspec.Struct):
    refresh_token: str | None = None


def body_of(op: str, body: bytes, cookies: Mapping[str, str]) -> bytes:
    """Return the request's body; what is missing in it and has a cookie comes from there."""
    if op == _REGISTERS:
        return _with_referral(body, cookies.get(REFERRAL, ""))
    token = cookies.get(NAME) if op in TAKES and body.strip() in (b"", b"{}") else None
    if not token:
        return body
    return msgspec.json.encode({"refresh_token": token} | ({"from_cookie": True} if op == _REFRESHES else {}))


def header_of(op: str, body: bytes, settings: Settings) -> str | None:
    """Return the Set-Cookie header that goes with an answer, None for most."""
    if op in ENDS:
        return _header(NAME, "", 0, settings)
    if op in GIVES:
        token = msgspec.json.decode(body, type=_Answer).refresh_token
        if token is not None:
            return _header(NAME, token, int(REFRESH_TTL.total_seconds()), settings)
    return None


def referral_header(code: str, settings: Settings) -> str:
    """Return the Set-Cookie header that remembers a referral code until the registration."""
    return _header(REFERRAL, code, REFERRAL_TTL_S, settings)


def _with_referral(body: bytes, code: str) -> bytes:
    """Return a registration's body with the remembered code, unless it names one itself."""
    if not _CODE.fullmatch(code):
        return body
    try:
        asked = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # What is no JSON is refused by whoever decodes it.
        return body
    if not isinstance(asked, dict) or asked.get("referral_code") is not None:
        return body
    return msgspec.json.encode(asked | {"referral_code": code})


def _header(name: str, value: str, max_age_s: int, settings: Settings) -> str:
    # Without TLS (a demo on the own machine) a browser would drop a Secure cookie.
    secure = "; Secure" if settings.public_url.startswith("https:") else ""
    return f"{name}={value}; Max-Age={max_age_s}; Path=/api/v1/auth; HttpOnly; SameSite=Strict{secure}"

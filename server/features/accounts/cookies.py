"""The refresh token's cookie, for browsers (C-26): no script can read it, and no other site can send it."""

from collections.abc import Mapping

import msgspec

from server.config import Settings
from server.features.accounts.tokens import REFRESH_TTL

NAME = "fourtalk_refresh"
# The commands that answer with a refresh token, those that take one, and the one that ends it.
GIVES = frozenset({"auth.register", "auth.login", "auth.refresh", "me.update"})
TAKES = frozenset({"auth.refresh", "auth.logout"})
ENDS = frozenset({"auth.logout"})


class _Answer(msgspec.Struct):
    refresh_token: str | None = None


def body_of(op: str, body: bytes, cookies: Mapping[str, str]) -> bytes:
    """Return the request's body; where it is empty, the cookie stands in for it."""
    token = cookies.get(NAME) if op in TAKES and body.strip() in (b"", b"{}") else None
    return msgspec.json.encode({"refresh_token": token}) if token else body


def header_of(op: str, body: bytes, settings: Settings) -> str | None:
    """Return the Set-Cookie header that goes with an answer, None for most."""
    if op in ENDS:
        return _header("", 0, settings)
    if op in GIVES:
        token = msgspec.json.decode(body, type=_Answer).refresh_token
        if token is not None:
            return _header(token, int(REFRESH_TTL.total_seconds()), settings)
    return None


def _header(value: str, max_age_s: int, settings: Settings) -> str:
    # Without TLS (a demo on the own machine) a browser would drop a Secure cookie.
    secure = "; Secure" if settings.public_url.startswith("https:") else ""
    return f"{NAME}={value}; Max-Age={max_age_s}; Path=/api/v1/auth; HttpOnly; SameSite=Strict{secure}"

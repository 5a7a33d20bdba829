"""Quote tokens: what was shown before the confirmation, signed, so that nothing else can be confirmed."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import msgspec

from server.errors import BadRequestError, ConflictError

AUDIENCE = "quote"
ALGORITHM = "HS256"
# Long enough to read the terms and top up; a longer one only makes more quotes stale when prices change.
LIFETIME = timedelta(minutes=10)


class QuoteClaims(msgspec.Struct, frozen=True):
    """What a token says."""

    jti: UUID
    """Becomes the id of the purchase, so that a quote can be used once."""
    sub: UUID
    course_id: UUID
    session_id: UUID | None
    terms: str
    """Digest of everything the buyer was shown that counts."""


def sign(
    secret: str, *, user_id: UUID, course_id: UUID, session_id: UUID | None, terms: str, wall: datetime
) -> str:
    """Return a token for one purchase by one person."""
    claims = QuoteClaims(uuid4(), user_id, course_id, session_id, terms)
    payload: dict[str, Any] = msgspec.to_builtins(claims)
    return jwt.encode(
        payload | {"aud": AUDIENCE, "iat": wall, "exp": wall + LIFETIME}, secret, algorithm=ALGORITHM
    )


def read(secret: str, token: str, *, user_id: UUID, wall: datetime) -> QuoteClaims:
    """Return what a token says. It may come from a node whose clock is ahead of ours.

    Raises:
        BadRequestError: It is none of ours.
        ConflictError: It has expired, or belongs to somebody else.
    """
    try:
        payload = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            # Times are checked below, against the clock we were given.
            options={"require": ["exp", "jti", "sub", "aud"], "verify_exp": False, "verify_iat": False},
        )
        claims = msgspec.convert(payload, QuoteClaims)
    except (jwt.InvalidTokenError, msgspec.ValidationError):
        raise InvalidQuoteError("The quote is not one of ours.") from None
    if payload["exp"] <= wall.timestamp():
        raise ConflictError("The quote has expired; ask for another one.", code="quote_expired")
    if claims.sub != user_id:
        raise ConflictError("The quote was made for somebody else.", code="quote_foreign")
    return claims


class InvalidQuoteError(BadRequestError):
    """The quote token is forged or damaged."""

    code = "quote_invalid"

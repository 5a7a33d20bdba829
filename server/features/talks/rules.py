"""What is allowed with talks. Pure."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from server.errors import BadRequestError, FieldError

# Easy to read aloud and to type: no letter or digit that looks like another. Ten of them make 2^49 codes, and a
# guesser gets at most a few thousand requests an hour from one address.
CODE_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
CODE_LENGTH: Final = 10


def new_code() -> str:
    """Return a code for a talk's link that nobody can guess."""
    return "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))


def is_code(text: str) -> bool:
    """Return whether a text may be a talk's code."""
    return len(text) == CODE_LENGTH and set(text) <= set(CODE_ALPHABET)


def check_start(starts_at: datetime | None, *, now: datetime) -> None:
    """Refuse to announce a talk for the past.

    Raises:
        BadRequestError: The start does not lie in the future.
    """
    if starts_at is not None and starts_at <= now:
        raise BadRequestError(
            "A talk is announced for the future.", (FieldError("starts_at", "must be in the future"),)
        )


def minutes_inside(stays: Sequence[tuple[datetime, datetime]]) -> int:
    """Return the whole minutes of all stays together."""
    return sum((left - joined for joined, left in stays), timedelta()) // timedelta(minutes=1)

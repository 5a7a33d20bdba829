"""Pages of lists (PROTOCOL 2): `limit` and an opaque `cursor` in, `items` and `next_cursor` out."""

import base64
import binascii
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from server.errors import BadRequestError, FieldError

# F4-08: twenty fill a screen; a hundred are the most that one answer carries.
PAGE: Final = 20
Limit = Annotated[int, Meta(ge=1, le=100)]
Cursor = Annotated[str, Meta(min_length=1, max_length=200)]

T = TypeVar("T")


def cursor_after(*position: object) -> str:
    """Return the cursor that continues after a position: the values of the list's order in its last item."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def position_of(cursor: str, shape: type[T]) -> T:
    """Return the position that a cursor stands for; `shape` is a tuple type.

    Raises:
        BadRequestError: The cursor was not made by this list.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(text, type=shape)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise BadRequestError(
            "The cursor is not valid.", (FieldError("cursor", "is not one that this list gave"),)
        ) from None

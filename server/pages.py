"""Pages of a list, newest first: a cursor names the last row that was given (PROTOCOL 2)."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from server import request
from server.errors import BadRequestError, FieldError

# F4-08: twenty fill a screen; a hundred are the most that one answer carries.
PAGE: Final = 20
Limit = Annotated[int, Meta(ge=1, le=100)]
Cursor = Annotated[str, Meta(min_length=1, max_length=200)]

Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])


def page(
    query: Query,
    at: InstrumentedAttribute[datetime],
    row_id: InstrumentedAttribute[UUID],
    *,
    limit: int,
    cursor: str | None,
) -> Query:
    """Narrow a query to the rows after the cursor, and one more than asked for: it tells whether there are more.

    Raises:
        BadRequestError: The cursor is none of ours.
    """
    if cursor is not None:
        query = query.where(tuple_(at, row_id) < tuple_(*position(cursor)))
    return query.order_by(at.desc(), row_id.desc()).limit(limit + 1)


def cursor_after(at: datetime, row_id: UUID) -> str:
    """Return the cursor that continues after a row."""
    return base64.urlsafe_b64encode(msgspec.json.encode((at, row_id))).decode().rstrip("=")


def position(cursor: str) -> tuple[datetime, UUID]:
    """Return what a cursor names.

    Raises:
        BadRequestError: It is none of ours.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        at, row_id = msgspec.json.decode(raw, type=tuple[Annotated[datetime, Meta(tz=True)], UUID])
    except (binascii.Error, ValueError):
        raise invalid() from None
    if not request.is_in_range(at):
        raise invalid()
    return at, row_id


def invalid() -> BadRequestError:
    """Return the error of a cursor that is none of ours."""
    return BadRequestError(
        "The cursor is not valid.", (FieldError("cursor", "must come from a list's next_cursor"),)
    )

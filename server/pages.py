"""Pages of a list, newest first: a cursor names the last row that was given (PROTOCOL 2)."""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Protocol, TypeVar, TypeVarTuple
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy import Row, Select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from server import request
from server.errors import BadRequestError, FieldError

# F4-08: twenty fill a screen; a hundred are the most that one answer carries.
PAGE: Final = 20
Limit = Annotated[int, Meta(ge=1, le=100)]
Cursor = Annotated[str, Meta(min_length=1, max_length=200)]

Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])
Entity = TypeVar("Entity")
Columns = TypeVarTuple("Columns")
Found = TypeVar("Found")
Place = TypeVar("Place")


class Wanted(Protocol):
    """A command that asks for a page."""

    @property
    def limit(self) -> int:
        """How many rows at the most."""

    @property
    def cursor(self) -> str | None:
        """After which row; None for the first page."""


async def read(
    session: AsyncSession,
    query: Select[Entity],
    at: InstrumentedAttribute[datetime],
    row_id: InstrumentedAttribute[UUID],
    wanted: Wanted,
) -> tuple[Sequence[Entity], str | None]:
    """Return the rows of a page, and the cursor of the next one; None when there is none.

    Raises:
        BadRequestError: The cursor is none of ours.
    """
    rows, more = await read_joined(session, query, at, row_id, wanted)
    return [row[0] for row in rows], more


async def read_joined(
    session: AsyncSession,
    query: Select[Entity, *Columns],
    at: InstrumentedAttribute[datetime],
    row_id: InstrumentedAttribute[UUID],
    wanted: Wanted,
) -> tuple[Sequence[Row[Entity, *Columns]], str | None]:
    """Do the same where a row has more beside what is listed, which comes first.

    Raises:
        BadRequestError: The cursor is none of ours.
    """
    query = page(query, at, row_id, limit=wanted.limit, cursor=wanted.cursor)
    found = (await session.execute(query)).all()
    return cut(
        found, wanted.limit, lambda row: cursor_after(getattr(row[0], at.key), getattr(row[0], row_id.key))
    )


def cut(
    found: Sequence[Found], limit: int, place: Callable[[Found], Place]
) -> tuple[Sequence[Found], Place | None]:
    """Return what a page shows of rows of which one more than that was asked for, and the place where the next begins."""
    shown = found[:limit]
    return shown, place(shown[-1]) if len(found) > limit else None


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

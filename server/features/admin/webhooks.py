"""The inbox of webhooks, as administrators look at it."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Select, select, tuple_

from billing.models import StripeEvent
from rooms.models import MediaEvent
from server import pages, request
from server.context import Command, Context
from server.features.admin.messages import ListWebhooks, WebhookPage, WebhookView

# PostgreSQL has no text with a zero in it.
_Id = Annotated[str, Meta(pattern=r"^[^\0]+\Z")]
_Rows = Select[Any, Any, Any, Any, Any, Any]
"""Id, type, what it is about; when it was made, came, and was handled."""


async def list_webhooks(ctx: Context, command: ListWebhooks) -> WebhookPage:
    """Return what a provider told us, and what of it still waits to be taken in."""
    query = _media(command) if command.provider == "livekit" else _stripe(command)
    found = await ctx.session.execute(query.limit(command.limit + 1))
    shown, more = pages.cut([WebhookView(*tuple(row)) for row in found], command.limit, _cursor)
    return WebhookPage(tuple(shown), more)


def _media(command: ListWebhooks) -> _Rows:
    row = MediaEvent
    columns = (row.event_id, row.type, row.room_name, row.created_at, row.recorded_at, row.read_at)
    query = select(*columns).order_by(row.recorded_at.desc(), row.event_id.desc())
    if command.waiting:
        # What belongs to no room of ours is stored and never read.
        query = query.where(row.read_at.is_(None), row.room_id.is_not(None))
    if command.cursor is not None:
        query = query.where(tuple_(row.recorded_at, row.event_id) < tuple_(*_position(command.cursor)))
    return query


def _stripe(command: ListWebhooks) -> _Rows:
    row = StripeEvent
    columns = (row.id, row.type, row.object_id, row.created_at, row.received_at, row.handled_at)
    query = select(*columns).order_by(row.received_at.desc(), row.id.desc())
    if command.waiting:
        query = query.where(row.handled_at.is_(None))
    if command.cursor is not None:
        query = query.where(tuple_(row.received_at, row.id) < tuple_(*_position(command.cursor)))
    return query


def _cursor(last: WebhookView) -> str:
    """Return the cursor that continues after a delivery; providers' ids are no UUIDs, as `server.pages` wants them."""
    return base64.urlsafe_b64encode(msgspec.json.encode((last.received_at, last.id))).decode()


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
        at, event_id = msgspec.json.decode(raw, type=tuple[Annotated[datetime, Meta(tz=True)], _Id])
    except (binascii.Error, ValueError):
        raise pages.invalid() from None
    if not request.is_in_range(at):
        raise pages.invalid()
    return at, event_id


COMMANDS = (
    Command(
        "admin.webhook.list", ListWebhooks, list_webhooks, guard="admin", method="GET", path="/admin/webhooks"
    ),
)

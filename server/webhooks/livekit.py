"""POST /webhooks/livekit: verify, store once, tell the room that something is waiting.

LiveKit repeats a delivery for 15 s and then forgets it. So trouble of our own is always answered 503, which it
repeats, and never 4xx, which it takes for delivered; and the room reads the stored row, so a crash after the
answer loses nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import media
from rooms.messages import InboxChanged
from rooms.models import MediaEvent
from server.clock import Clock
from server.errors import OverloadedError

log = structlog.get_logger()

# A delivery that waits holds up everything else of its room at LiveKit, which drops what is older than 30 s.
STORE_TIMEOUT_S = 2.0


def livekit_route(
    sessions: async_sessionmaker[AsyncSession],
    clock: Clock,
    *,
    keys: Mapping[str, str],
    tell: Callable[[UUID, InboxChanged], None],
    shift: Callable[[], timedelta] = timedelta,
) -> HTTPRouteHandler:
    """Return the route. `keys` maps API keys to secrets; without any, every delivery is refused.

    `shift` is what turns LiveKit's timestamps into business time; see `rooms.media.LiveKitMedia`.
    """

    @post("/webhooks/livekit", status_code=200, request_max_body_size=media.WEBHOOK_BYTES_MAX)
    async def receive_livekit_webhook(request: Request[Any, Any, Any]) -> None:
        """Store one signed event of the media server."""
        authorization = request.headers.get("authorization", "")
        webhook = media.decode_webhook(await request.body(), authorization, keys, clock.wall())
        await _store(sessions, _row(webhook, clock, shift()))
        if webhook.room_id is not None:
            # Also for a repeat: the first delivery may have been stored just before a crash.
            tell(webhook.room_id, InboxChanged())

    return receive_livekit_webhook


def _row(webhook: media.Webhook, clock: Clock, shift: timedelta) -> dict[str, object]:
    received_at = clock.now()
    joined_at = webhook.joined_at
    return {
        "event_id": webhook.event_id,
        "room_id": webhook.room_id,
        "generation": webhook.generation,
        "room_name": webhook.room_name,
        "room_sid": webhook.room_sid,
        "type": webhook.type,
        "identity": webhook.identity,
        "participant_sid": webhook.participant_sid,
        "counted": webhook.counted,
        "created_at": webhook.time(received_at=received_at, shift=shift),
        "joined_at": None if joined_at is None else min(joined_at + shift, received_at),
        "reason": webhook.reason,
        "body": webhook.body,
        "received_at": received_at,
    }


async def _store(sessions: async_sessionmaker[AsyncSession], row: dict[str, object]) -> None:
    """Commit the row; the same event a second time changes nothing.

    Raises:
        OverloadedError: The database is away or too slow; LiveKit will send the event again.
    """
    statement = insert(MediaEvent).values(row).on_conflict_do_nothing(index_elements=["event_id"])
    try:
        async with asyncio.timeout(STORE_TIMEOUT_S), sessions.begin() as session:
            await session.execute(statement)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        log.warning("livekit_webhook_not_stored", type=row["type"], error=type(error).__name__)
        raise OverloadedError("The event could not be stored now.") from error

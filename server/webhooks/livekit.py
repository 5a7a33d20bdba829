"""POST /webhooks/livekit: verify, store once, tell the room that something is waiting.

LiveKit repeats a delivery for 15 s and then forgets it. So trouble of our own is always answered 503, which it
repeats, and never 4xx, which it takes for delivered; and the room reads the stored row, so a crash after the
answer loses nothing.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import media
from rooms.messages import InboxChanged
from server.clock import Clock
from server.webhooks.inbox import Inbox, Row


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
    inbox = Inbox(sessions, tell=tell)

    @post("/webhooks/livekit", status_code=200, request_max_body_size=media.WEBHOOK_BYTES_MAX)
    async def receive_livekit_webhook(request: Request[Any, Any, Any]) -> None:
        """Store one signed event of the media server."""
        authorization = request.headers.get("authorization", "")
        webhook = media.decode_webhook(await request.body(), authorization, keys, clock.wall())
        await inbox.store(_row(webhook, clock, shift()))

    return receive_livekit_webhook


def _row(webhook: media.Webhook, clock: Clock, shift: timedelta) -> Row:
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
        "body": msgspec.json.encode(webhook.body).decode(),
        "received_at": received_at,
    }

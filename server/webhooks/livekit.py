"""POST /webhooks/livekit: verify, store once, tell the room that something is waiting.

LiveKit repeats a delivery for 15 s and then forgets it. So trouble of our own is always answered 503, which it
repeats, and never 4xx, which it takes for delivered; and the room reads the stored row, so a crash after the
answer loses nothing.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from uuid import UUID

import msgspec
from litestar import asgi
from litestar.enums import HttpMethod, ScopeType
from litestar.exceptions import ClientException, MethodNotAllowedException
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import media
from rooms.inbox import Stored
from rooms.messages import InboxChanged
from server.clock import Clock
from server.webhooks.inbox import Inbox


def livekit_route(
    sessions: async_sessionmaker[AsyncSession],
    clock: Clock,
    *,
    keys: Mapping[str, str],
    tell: Callable[[UUID, InboxChanged], None],
    shift: Callable[[], timedelta] = timedelta,
) -> ASGIRouteHandler:
    """Return the route. `keys` maps API keys to secrets; without any, every delivery is refused.

    `shift` is what turns LiveKit's timestamps into business time; see `rooms.media.LiveKitMedia`.
    """
    inbox = Inbox(sessions, tell=tell)

    # Plain ASGI: of a request object, parameters and a response there is no use here, and they cost more than the rest.
    @asgi("/webhooks/livekit", copy_scope=False)
    async def receive_livekit_webhook(scope: Scope, receive: Receive, send: Send) -> None:
        """Store one signed event of the media server."""
        if scope["type"] != ScopeType.HTTP or scope["method"] != HttpMethod.POST:
            raise MethodNotAllowedException(headers={"Allow": "POST"})
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        raw = await _body(receive)
        webhook = media.decode_webhook(raw, authorization.decode("latin-1"), keys, clock.wall())
        await inbox.store(_stored(webhook, clock, shift()))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return receive_livekit_webhook


async def _body(receive: Receive) -> bytes:
    """Return the body of a request.

    Raises:
        ClientException: It is too large, or the client went away in the middle of it.
    """
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientException("The client went away.")
        size += len(message["body"])
        if size > media.WEBHOOK_BYTES_MAX:
            raise ClientException(status_code=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


def _stored(webhook: media.Webhook, clock: Clock, shift: timedelta) -> Stored:
    received_at = clock.now()
    joined_at = webhook.joined_at
    return Stored(
        event_id=webhook.event_id,
        room_id=webhook.room_id,
        generation=webhook.generation,
        room_name=webhook.room_name,
        room_sid=webhook.room_sid,
        type=webhook.type,
        identity=webhook.identity,
        participant_sid=webhook.participant_sid,
        counted=webhook.counted,
        created_at=webhook.time(received_at=received_at, shift=shift),
        joined_at=None if joined_at is None else min(joined_at + shift, received_at),
        reason=webhook.reason,
        received_at=received_at,
        body=msgspec.Raw(msgspec.json.encode(webhook.body)),
    )

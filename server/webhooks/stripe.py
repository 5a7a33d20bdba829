"""POST /webhooks/stripe: verified, stored once together with the job that handles it, and only then answered 200.

Trouble of our own is answered 503: Stripe sends it again, for three days. What a delivery says is never acted upon;
the job fetches the object (`billing/stripe_events.py`).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import stripe_events, stripe_webhooks
from billing.errors import InvalidEventError
from server.clock import Clock
from server.errors import OverloadedError

log = structlog.get_logger()

# Stripe waits longer, but what is not stored by then waits behind a lock or an outage, and is better sent again.
STORE_TIMEOUT_S = 3.0
AWAY = (SQLAlchemyError, OSError, TimeoutError)


def stripe_route(
    sessions: async_sessionmaker[AsyncSession], clock: Clock, *, secrets: Sequence[str], is_live: bool
) -> HTTPRouteHandler:
    """Return the route. Any of `secrets` may have signed; without any, every delivery is refused."""

    @post("/webhooks/stripe", status_code=200, request_max_body_size=stripe_webhooks.BYTES_MAX)
    async def receive_stripe_webhook(request: Request[Any, Any, Any]) -> None:
        """Store one signed event of Stripe."""
        body = await request.body()
        signature = request.headers.get("stripe-signature")
        event = stripe_webhooks.read(body, signature, secrets=secrets, wall=clock.wall())
        if event.is_live is not is_live:
            raise InvalidEventError("it is of Stripe's other mode")
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S), sessions.begin() as session:
                await stripe_events.receive(session, event, now=clock.now())
        except AWAY as error:
            log.warning("stripe_webhook_not_stored", type=event.type, error=type(error).__name__)
            raise OverloadedError("The event could not be stored now.") from error

    return receive_stripe_webhook

"""How people pay: Stripe, or without its key test payments, the same code against a Stripe of our own."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import httpx
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing.stripe_api import Access, StripeApi
from server.clock import Clock
from server.config import Settings
from server.http.edge import ASGIApp
from server.http.test_payments import PREFIX
from server.integrations.stripe_fake.fake import StripeFake
from server.integrations.stripe_fake.tape import Tape

# Of test payments, which are reached from inside this process alone.
TEST_KEY = "sk_test_payments"
TEST_URL = "http://payments.test"
# A connection is kept for what follows; Stripe closes idle ones after some minutes.
CONNECTIONS = httpx.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=60)


class Payments:
    """The way to pay of one process."""

    def __init__(self, api: StripeApi, secrets: tuple[str, ...], fake: StripeFake | None) -> None:
        self.api = api
        self.secrets = secrets
        """Who may have signed a webhook."""
        self.fake = fake
        """Test payments, where they are used."""
        self._client: httpx.AsyncClient | None = None

    def tells(self, asgi: ASGIApp) -> ASGIApp:
        """Have test payments send their webhooks to this application, past the network; return it."""
        if self.fake is None:
            return asgi
        client = httpx.AsyncClient(transport=httpx.ASGITransport(cast(Any, asgi)), base_url="http://fourtalk")

        async def send(body: bytes, headers: Mapping[str, str]) -> int:
            answer = await client.post("/webhooks/stripe", content=body, headers=dict(headers))
            return answer.status_code

        self._client = client
        self.fake.deliver_to(send)
        return asgi

    async def close(self) -> None:
        """Let go of the client of the webhooks."""
        if self._client is not None:
            await self._client.aclose()


@asynccontextmanager
async def open_payments(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], clock: Clock
) -> AsyncIterator[Payments]:
    """Yield the way to pay that the settings name."""
    async with AsyncExitStack() as stack:
        if settings.stripe.api_key is not None:
            http = await stack.enter_async_context(httpx.AsyncClient(limits=CONNECTIONS))
            api = StripeApi(Access(settings.stripe.api_key), http)
            yield Payments(api, settings.stripe.webhook_secrets, None)
            return
        own = "whsec_" + hashlib.sha256(b"test payments" + settings.secret_key.encode()).hexdigest()
        fake = StripeFake(
            key=TEST_KEY,
            secret=own,
            pages=f"{settings.public_url}{PREFIX}",
            now=clock.now,
            wall=clock.wall,
            tape=Tape(sessions),
        )
        http = await stack.enter_async_context(httpx.AsyncClient(transport=httpx.ASGITransport(fake)))
        payments = Payments(
            StripeApi(Access(TEST_KEY, TEST_URL), http), (*settings.stripe.webhook_secrets, own), fake
        )
        stack.push_async_callback(payments.close)
        await stack.enter_async_context(fake)
        yield payments

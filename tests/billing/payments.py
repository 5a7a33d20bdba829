"""People who pay: our side of Stripe, and a Stripe of our own on the other side."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import jobs, reconciliation, stripe_events, stripe_webhooks, top_ups
from billing.models import JobRow, OwnerId, StripeCustomer, TopUp, TopUpStatus, TopUpWay
from billing.money import Money
from billing.stripe_api import Access, StripeApi
from billing.stripe_gate import Gate
from billing.top_ups import Step, Wish
from server.integrations.stripe_fake.fake import StripeFake
from server.integrations.stripe_fake.machine import Object

Sessions = async_sessionmaker[AsyncSession]

KEY, SECRET = "sk_test_of_the_tests", "whsec_of_the_tests"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RETURN_URL = "http://fourtalk.test/wallet"


class Shop:
    """One server's money, without the server: top-ups, webhooks and jobs, each at the word of the test."""

    def __init__(self, sessions: Sessions, fake: StripeFake, api: StripeApi) -> None:
        self.sessions = sessions
        self.fake = fake
        self.api = api
        self.now = NOW
        self.told = 0
        """How many of the fake's events came here."""

    def passes(self, by: timedelta) -> None:
        self.now += by

    # What a payer does ------------------------------------------------------------------------------------------

    async def wish(
        self,
        owner_id: OwnerId,
        amount: int = 2_000,
        *,
        way: TopUpWay = TopUpWay.HOSTED,
        method_id: str | None = None,
        key: str | None = None,
    ) -> TopUp:
        asked = Wish(
            owner_id=owner_id, money=Money(amount), way=way, method_id=method_id, key=key or uuid4().hex
        )
        async with self.sessions.begin() as session:
            return await top_ups.create(session, asked, now=self.now)

    async def advance(self, top_up_id: UUID) -> Step:
        return await top_ups.advance(self.sessions, self.api, top_up_id, return_url=RETURN_URL, now=self.now)

    async def start(self, owner_id: OwnerId, amount: int = 2_000, **more: Any) -> Step:
        return await self.advance((await self.wish(owner_id, amount, **more)).id)

    async def refresh(self, top_up_id: UUID) -> Step:
        return await top_ups.refresh(self.sessions, self.api, top_up_id, now=self.now)

    async def save_card(self, owner_id: OwnerId, card: str = "4242") -> str:
        customer = await top_ups.customer_of(self.sessions, self.api, owner_id, key=uuid4().hex, now=self.now)
        return await self.fake.save_card(customer, card)

    # What the server does by itself -----------------------------------------------------------------------------

    def read(self, event: Object) -> stripe_webhooks.Event:
        body = msgspec.json.encode(event)
        wall = datetime.now(UTC)
        return stripe_webhooks.read(body, self.fake.sign(body, at=wall), secrets=[SECRET], wall=wall)

    async def receive(self, *events: Object) -> None:
        async with self.sessions.begin() as session:
            for event in events:
                await stripe_events.receive(session, self.read(event), now=self.now)

    async def tell_all(self) -> None:
        """Bring every event that did not come yet, and do what it asks for."""
        events = self.fake.events[self.told :]
        self.told = len(self.fake.events)
        await self.receive(*events)
        await self.run_jobs()

    async def run_jobs(self, kind: str = stripe_events.JOB) -> None:
        """Do what waits and is due; what fails stays."""
        for claim in await self.claim(kind):
            await self.do(claim)

    async def claim(self, kind: str) -> list[jobs.Claim]:
        async with self.sessions.begin() as session:
            return await jobs.claim(session, [((kind,), self.now)], limit=100, lease=timedelta(seconds=30))

    async def do(self, claim: jobs.Claim) -> None:
        if claim.kind == stripe_events.JOB:
            await stripe_events.handle(self.sessions, self.api, claim, now=self.now)
        else:
            await top_ups.end(self.sessions, self.api, claim, now=self.now)

    async def reconcile(self, **more: Any) -> reconciliation.Report:
        return await reconciliation.run(self.sessions, self.api, now=self.now, **more)

    # What is there ----------------------------------------------------------------------------------------------

    async def top_up(self, top_up_id: UUID) -> TopUp:
        async with self.sessions() as session:
            return await session.get_one(TopUp, top_up_id)

    async def status(self, top_up_id: UUID) -> TopUpStatus:
        return TopUpStatus((await self.top_up(top_up_id)).status)

    async def waiting(self) -> list[str]:
        async with self.sessions() as session:
            return list(await session.scalars(select(JobRow.kind).order_by(JobRow.kind)))

    async def balances(self) -> dict[str, int]:
        """Sums by kind of account."""
        query = text(
            "select kind, sum(balance)::bigint from ledger_account group by kind having sum(balance) <> 0"
        )
        async with self.sessions() as session:
            return dict((await session.execute(query)).all())

    async def forget_customers(self) -> None:
        async with self.sessions.begin() as session:
            await session.execute(delete(StripeCustomer))


def api_of(
    fake: Callable[[Any, Any, Any], Awaitable[None]], *, retries: int = 0, gate: Gate | None = None
) -> StripeApi:
    """Our side, without waiting for a turn: what the tests ask for is not limited."""
    http = httpx.AsyncClient(transport=httpx.ASGITransport(fake))
    return StripeApi(
        Access(KEY, "http://stripe.test"), http, retries=retries, gate=gate or Gate(per_second=1e6)
    )


@contextlib.asynccontextmanager
async def open_shop(sessions: Sessions) -> AsyncIterator[Shop]:
    fake = StripeFake(key=KEY, secret=SECRET, now=lambda: shop.now)
    shop = Shop(sessions, fake, api_of(fake))
    yield shop


async def collect(found: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in found]


Method = Callable[..., Awaitable[Any]]

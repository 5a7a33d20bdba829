"""The commands of top-ups (B-11). All that speak to Stripe are live: no transaction is open while it answers."""

import asyncio
from uuid import UUID

from redis.exceptions import RedisError

from billing import policy, top_ups
from billing.models import OwnerId, TopUp, TopUpStatus, TopUpWay
from billing.money import Money
from billing.stripe_api import StripeApi
from billing.top_ups import Step, Wish
from server import pages
from server.context import Command, Context
from server.errors import BadRequestError, FieldError
from server.features.top_ups.messages import (
    GetTopUp,
    ListMethods,
    ListTopUps,
    MethodList,
    MethodRemoved,
    MethodView,
    RemoveMethod,
    StartTopUp,
    TopUpPage,
    TopUpView,
)

# Who waits for a payment asks again and again; Stripe has 25 answers a second for all of them together.
_ASK_EVERY_MS = 1_000
# As long as Valkey needs at most; without it everybody may ask.
_VALKEY_TIMEOUT_S = 0.25


async def start_top_up(ctx: Context, command: StartTopUp) -> TopUpView:
    """Write down what the caller wants, and say where they pay; the same key goes on from where it was.

    Raises:
        TopUpRangeError: Too little or too much at once.
        CardDeclinedError: The saved card was declined.
        StripeAwayError: The payment provider does not answer; the same key may be tried again.
    """
    assert ctx.key is not None, "the edge refuses a top-up without a key"
    if (command.way is TopUpWay.SAVED) != (command.method_id is not None):
        raise BadRequestError(
            "A saved card goes with the way `saved`.", (FieldError("method_id", "Only with `saved`."),)
        )
    wish = Wish(
        owner_id=OwnerId(ctx.user.user_id),
        money=Money(command.amount.amount, command.amount.currency),
        way=command.way,
        method_id=command.method_id,
        key=ctx.key,
    )
    async with ctx.parts.sessions.begin() as session:
        wanted = await top_ups.create(session, wish, now=ctx.now)
    return_url = f"{ctx.parts.settings.public_url}/wallet?top_up={wanted.id}"
    step = await top_ups.advance(
        ctx.parts.sessions, _payments(ctx), wanted.id, return_url=return_url, now=ctx.now
    )
    return _view(step, ctx)


async def get_top_up(ctx: Context, command: GetTopUp) -> TopUpView:
    """Return how a top-up stands, having asked the payment provider: no webhook need have come.

    Raises:
        TopUpNotFoundError: The caller has none with this id.
    """
    async with ctx.parts.sessions() as session:
        found = await top_ups.get(session, OwnerId(ctx.user.user_id), command.top_up_id)
    if not await _is_time_to_ask(ctx, found.id):
        return _view(Step(top_up=found), ctx)
    return _view(await top_ups.refresh(ctx.parts.sessions, _payments(ctx), found.id, now=ctx.now), ctx)


async def list_top_ups(ctx: Context, command: ListTopUps) -> TopUpPage:
    """Return the caller's top-ups, newest first, and the terms of the next."""
    terms = await policy.current(ctx.session, ctx.now)
    found = await top_ups.find(
        ctx.session, OwnerId(ctx.user.user_id), limit=command.limit + 1, before=command.cursor
    )
    shown, more = pages.cut(found, command.limit, lambda row: row.id)
    return TopUpPage(
        items=tuple(_view(Step(top_up=row), ctx) for row in shown),
        next_cursor=more,
        least=Money(terms.top_up_least),
        most=Money(terms.top_up_most),
        test=not _payments(ctx).is_live,
    )


async def list_methods(ctx: Context, _: ListMethods) -> MethodList:
    """Return the caller's saved cards."""
    found = await top_ups.methods(ctx.parts.sessions, _payments(ctx), OwnerId(ctx.user.user_id))
    items = tuple(
        MethodView(
            id=one.id,
            brand=one.card.brand,
            last4=one.card.last4,
            exp_month=one.card.exp_month,
            exp_year=one.card.exp_year,
        )
        for one in found
        if one.card is not None
    )
    return MethodList(items=items, test=not _payments(ctx).is_live)


async def remove_method(ctx: Context, command: RemoveMethod) -> MethodRemoved:
    """Forget one of the caller's saved cards.

    Raises:
        MethodNotFoundError: The caller has no such card.
    """
    owner_id = OwnerId(ctx.user.user_id)
    await top_ups.remove_method(ctx.parts.sessions, _payments(ctx), owner_id, command.method_id, now=ctx.now)
    return MethodRemoved(command.method_id, test=not _payments(ctx).is_live)


async def _is_time_to_ask(ctx: Context, top_up_id: UUID) -> bool:
    """Return whether nobody has asked Stripe about this one within the last second, on any node."""
    try:
        async with asyncio.timeout(_VALKEY_TIMEOUT_S):
            return bool(await ctx.parts.redis.set(f"top_up_asked:{top_up_id}", 1, nx=True, px=_ASK_EVERY_MS))
    except (RedisError, OSError, TimeoutError):
        return True


def _payments(ctx: Context) -> StripeApi:
    assert ctx.parts.payments is not None, "a server has Stripe or test payments"
    return ctx.parts.payments


def _view(step: Step, ctx: Context) -> TopUpView:
    row: TopUp = step.top_up
    return TopUpView(
        id=row.id,
        amount=Money(row.amount, row.currency),
        way=TopUpWay(row.way),
        status=TopUpStatus(row.status),
        reason=row.reason,
        url=step.url,
        client_secret=step.client_secret,
        created_at=row.created_at,
        expires_at=row.expires_at,
        test=not _payments(ctx).is_live,
    )


COMMANDS = (
    Command(
        "top_up.start",
        StartTopUp,
        start_top_up,
        method="POST",
        path="/top-ups",
        status=201,
        idempotent=True,
        live=True,
    ),
    Command("top_up.list", ListTopUps, list_top_ups, method="GET", path="/top-ups"),
    Command("top_up.get", GetTopUp, get_top_up, method="GET", path="/top-ups/{top_up_id}", live=True),
    Command(
        "payment_method.list", ListMethods, list_methods, method="GET", path="/payment-methods", live=True
    ),
    Command(
        "payment_method.remove",
        RemoveMethod,
        remove_method,
        method="DELETE",
        path="/payment-methods/{method_id}",
        live=True,
    ),
)

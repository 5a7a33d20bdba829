"""Run one command of the table: guard, key, one transaction, answer. Both doors come through here.

The only commit of a command is here (STYLE, one commit at five edges). A live command has no transaction: it
speaks to a room's actor, or must not hold a connection while it waits for something slow, and opens short ones.
"""

import asyncio
import random

import msgspec
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from server import idempotency, outage
from server.context import Command, Context, Guard, Principal, Role
from server.download import Download
from server.errors import BadRequestError, ForbiddenError, UnauthenticatedError, UnknownOutcomeError
from server.features.accounts.models import is_approved_tutor
from server.request import check_values, in_utc

log = structlog.get_logger()

# billing.md §2.4: five tries. The pauses add up to 0.3 s on average, which outlasts the transaction in the way,
# and stay below what a person takes for a hang.
TRIES = 5
PAUSE_S = 0.04


class KeyRequiredError(BadRequestError):
    """The command moves money or takes a place, and came without an idempotency key."""

    code = "idempotency_key_required"

    def __init__(self) -> None:
        super().__init__("This needs an idempotency key.")


class Executed(msgspec.Struct, frozen=True):
    """The answer to a command."""

    status: int
    """HTTP status."""
    body: bytes
    """JSON, or the file."""
    replayed: bool = False
    """The first answer, given again because the key was known."""
    download: Download | None = None
    """The answer is this file."""


def check_guard(row: Command, principal: Principal | None) -> None:
    """Say whether somebody with this role may give the command at all (B-01: owner includes admin, nothing else).

    Being a party to something is the handler's question, and a tutor's approval the database's.

    Raises:
        UnauthenticatedError: Nobody is logged in.
        ForbiddenError: The role is another.
    """
    if row.guard == "public":
        return
    if principal is None:
        raise UnauthenticatedError("Log in first.")
    if not _allows(row.guard, principal):
        raise ForbiddenError(f"Only for: {row.guard.replace('_', ' ')}.")


def _allows(guard: Guard, principal: Principal) -> bool:
    match guard:
        case "public" | "user":
            return True
        case "student":
            return principal.role is Role.STUDENT
        case "tutor" | "approved_tutor":
            return principal.role is Role.TUTOR
        case "admin":
            return principal.is_admin
        case "owner":
            return principal.role is Role.OWNER


def check(row: Command, ctx: Context, request: msgspec.Struct) -> None:
    """Refuse what needs no look into the database to be refused.

    Raises:
        UnauthenticatedError: Nobody is logged in.
        ForbiddenError: The role is another.
        BadRequestError: The key is missing or too long, or a value is one that no column can hold.
    """
    check_guard(row, ctx.principal)
    if row.idempotent and not ctx.key:
        raise KeyRequiredError
    if ctx.key is not None and (len(ctx.key) > idempotency.KEY_MAX or "\0" in ctx.key):
        raise BadRequestError(f"An idempotency key has 1 to {idempotency.KEY_MAX} characters.")
    check_values(request)


async def execute(row: Command, ctx: Context, request: msgspec.Struct) -> Executed:
    """Run a command and return its answer; what it changed is committed.

    Raises:
        BadRequestError: The key is missing or too long, or a value is one that no column can hold.
        IdempotencyMismatchError: The key belongs to another request.
        OverloadedError: A part is away or busy; nothing happened.
        UnknownOutcomeError: The connection was lost in the commit; what was asked may have happened.
        Exception: What the handler refuses (each with `kind` and `code`), or a bug.
    """
    check(row, ctx, request)
    request = in_utc(request)
    if row.live:
        return await _run_live(row, ctx, request)
    executed = await _run_with_tries(row, ctx, request)
    if ctx.afterwards is not None:
        await ctx.afterwards()
    return executed


async def _run_live(row: Command, ctx: Context, request: msgspec.Struct) -> Executed:
    with outage.refused():
        if row.guard == "approved_tutor":
            async with ctx.parts.sessions() as session:
                await _check_approval(ctx, session)
        if row.idempotent:
            return await _run_live_once(row, ctx, request)
        return _executed(row, await row.handler(ctx, request))


async def _run_live_once(row: Command, ctx: Context, request: msgspec.Struct) -> Executed:
    """Run a live command under a key.

    Its answer cannot be kept in one transaction with what it does, so the handler makes itself safe to repeat under the
    key; here the first answer that was finished is the one that is given again.
    """
    assert ctx.key is not None, "the edge refuses such a command without a key"
    user_id, digest = ctx.user.user_id, idempotency.digest_of(row.op, request)
    async with ctx.parts.sessions() as session:
        first = await idempotency.find(session, user_id, ctx.key, digest)
    if first is not None:
        return Executed(first.status, first.body, replayed=True)
    executed = _executed(row, await row.handler(ctx, request))
    async with ctx.parts.sessions.begin() as session:
        first = await idempotency.claim(session, user_id, ctx.key, digest)
        if first is not None:
            return Executed(first.status, first.body, replayed=True)
        answer = idempotency.Answer(executed.status, executed.body)
        await idempotency.keep(session, user_id, ctx.key, answer)
    return executed


async def _run_with_tries(row: Command, ctx: Context, request: msgspec.Struct) -> Executed:
    may_have_happened = False
    with outage.refused():
        for attempt in range(1, TRIES + 1):
            try:
                return await _run_transaction(row, ctx, request)
            except UnknownOutcomeError:
                # Under somebody's key the next try finds the answer of this one, if it was committed.
                if ctx.key is None or ctx.principal is None or attempt == TRIES:
                    raise
                may_have_happened = True
            except (DBAPIError, OSError) as error:
                if outage.may_succeed_again(error) and attempt < TRIES:
                    log.info("command_retried", op=row.op, attempt=attempt, sqlstate=outage.state_of(error))
                elif may_have_happened:
                    raise UnknownOutcomeError from error
                else:
                    raise
            await asyncio.sleep(random.uniform(0, PAUSE_S * 2**attempt))  # noqa: S311
    raise AssertionError("the last try returns or raises")


async def _run_transaction(row: Command, ctx: Context, request: msgspec.Struct) -> Executed:
    # What only reads needs no key, and nobody's key is nobody's.
    key = None if row.method == "GET" or ctx.principal is None else ctx.key
    async with ctx.parts.sessions() as session:
        ctx.transaction = session
        try:
            if row.guard == "approved_tutor":
                await _check_approval(ctx, session)
            executed = (
                _executed(row, await row.handler(ctx, request))
                if key is None
                else await _run_once(row, ctx, request, key=key)
            )
        finally:
            ctx.transaction = None
        try:
            await session.commit()
        except (DBAPIError, OSError) as error:
            if outage.is_disconnect(error):
                raise UnknownOutcomeError from error
            raise
        return executed


async def _run_once(row: Command, ctx: Context, request: msgspec.Struct, *, key: str) -> Executed:
    """Run under a key: the same key and request give the first answer again, a failed command frees its key."""
    user_id = ctx.user.user_id
    first = await idempotency.claim(ctx.session, user_id, key, idempotency.digest_of(row.op, request))
    if first is not None:
        return Executed(first.status, first.body, replayed=True)
    executed = _executed(row, await row.handler(ctx, request))
    await idempotency.keep(ctx.session, user_id, key, idempotency.Answer(executed.status, executed.body))
    return executed


def _executed(row: Command, reply: msgspec.Struct) -> Executed:
    if isinstance(reply, Download):
        assert row.method == "GET", "a file is kept under no key"
        return Executed(row.status, reply.content, download=reply)
    return Executed(row.status, msgspec.json.encode(reply))


async def _check_approval(ctx: Context, session: AsyncSession) -> None:
    if not await is_approved_tutor(session, ctx.user.user_id):
        raise ForbiddenError("Only tutors who are approved may do this.")

"""A forgotten password (B-02): a link by mail that opens the account once, within an hour.

The request's answer and its work are the same whether the address has an account or not: it leaves a job, and only the
job looks. The link's secret is made by the job too, so that it is nowhere but in the mail; stored is its SHA-256.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import jobs, outbox
from billing.jobs import Claim
from server import mails
from server.context import Command, Context
from server.features.accounts import lockout, passwords, rules, tokens
from server.features.accounts.messages import (
    AccountChanged,
    ConfirmReset,
    PasswordIsSet,
    RequestReset,
    ResetHolds,
    ResetRequested,
    VerifyReset,
)
from server.features.accounts.models import PasswordReset, User, user_of
from server.features.accounts.rules import ResetLinkError
from server.integrations.email import Mail, Mailer, MailError, MailRefusedError

log = structlog.get_logger()

JOB = "mail_account"
# B-02. Also how old a request for a link may be when its mail is written at last: nobody waits for it any more.
TTL = timedelta(hours=1)
# Of one account at a time. A person needs one or two; more would be somebody filling a stranger's mailbox from many
# addresses.
LINKS_MOST = 5

Kind = Literal["password_reset", "password_changed"]


class Letter(msgspec.Struct, frozen=True):
    """A mail that somebody's account is owed: the job's payload."""

    kind: Kind
    email: str
    asked_at: datetime


async def request_reset(ctx: Context, command: RequestReset) -> ResetRequested:
    """Send a link to the account of an address, if it has one; the answer does not say."""
    await _owe(ctx.session, "password_reset", command.email.strip().lower(), wall=ctx.parts.clock.wall())
    return ResetRequested()


async def verify_reset(ctx: Context, command: VerifyReset) -> ResetHolds:
    """Say how long a link holds; it is not used up.

    Raises:
        ResetLinkError: It does not.
    """
    wall = ctx.parts.clock.wall()
    reset, _ = await _holder(ctx.session, command.token, wall=wall)
    return ResetHolds(max(1, int((reset.expires_at - wall).total_seconds())))


async def confirm_reset(ctx: Context, command: ConfirmReset) -> PasswordIsSet:
    """Set a new password by a link: every session ends, and every other link.

    Raises:
        ResetLinkError: The link does not hold.
        InvalidFieldError: The password breaks a rule.
    """
    rules.checked_password(command.password)
    wall = ctx.parts.clock.wall()
    async with ctx.parts.sessions() as session:
        # Before the hash, which is meant to be expensive.
        await _holder(session, command.token, wall=wall)
    password_hash = await passwords.hash_password(command.password)
    async with ctx.parts.sessions.begin() as session:
        _, user = await _holder(session, command.token, wall=wall, lock=True)
        # Asked again under the account's lock: of two at once one finds that the other has used it.
        if _digest(command.token) not in await end_links(session, user):
            raise ResetLinkError
        user.password_hash = password_hash
        user.version += 1
        await tokens.close_sessions(session, user.id, wall=wall)
        await lockout.clear(session, user.email)
        await tell_of_change(session, user, wall=wall)
        outbox.record(session, AccountChanged(user.id, user.version, "password"), at=ctx.now)
    return PasswordIsSet()


async def end_links(session: AsyncSession, user: User) -> list[bytes]:
    """End every link of an account, and that which is still to be sent; return the digests of those there were."""
    # First the mail: whoever writes it at this moment has stored its link after this, or never will.
    await jobs.call_off(session, JOB, key=_key("password_reset", user.email))
    query = delete(PasswordReset).where(PasswordReset.user_id == user.id).returning(PasswordReset.digest)
    return list(await session.scalars(query))


async def tell_of_change(session: AsyncSession, user: User, *, wall: datetime) -> None:
    """Have somebody told that their password is another, in case it was not them."""
    await _owe(session, "password_changed", user.email, wall=wall)


async def forget_links(session: AsyncSession, *, before: datetime) -> None:
    """Delete the links that ended before a moment."""
    await session.execute(delete(PasswordReset).where(PasswordReset.expires_at < before))


async def send_letter(
    sessions: async_sessionmaker[AsyncSession],
    mailer: Mailer,
    claim: Claim,
    *,
    public_url: str,
    wall: datetime,
) -> None:
    """Send what an account is owed: the work of a job.

    A process that dies between the server's yes and the end of the job sends it once more, with a link of its own; both
    links hold, and both mails have one Message-ID.

    Raises:
        MailError: It was not taken this time. Its link is none any more: the next try has another.
        LeaseLostError: Nobody is owed it any more, or somebody else sends it.
    """
    async with sessions.begin() as session:
        mail, digest = await _written(session, claim, public_url=public_url, wall=wall)
        if mail is None:
            await jobs.finish(session, claim)
            return
        await jobs.require(session, claim)
    try:
        await mailer.send(mail)
    except MailError as error:
        async with sessions.begin() as session:
            await session.execute(delete(PasswordReset).where(PasswordReset.digest == digest))
        if not isinstance(error, MailRefusedError):
            raise
        log.warning("mail_refused", mail=mail.id, reason=str(error))
    async with sessions.begin() as session:
        await jobs.finish(session, claim)


async def _owe(session: AsyncSession, kind: Kind, email: str, *, wall: datetime) -> None:
    await jobs.enqueue(session, JOB, Letter(kind, email, wall), key=_key(kind, email), run_at=wall)


def _key(kind: Kind, email: str) -> str:
    """Return the job's key: it names nobody, and a second request while the first waits is the same mail."""
    return f"{kind}:{hashlib.sha256(email.encode()).hexdigest()}"


async def _written(
    session: AsyncSession, claim: Claim, *, public_url: str, wall: datetime
) -> tuple[Mail | None, bytes | None]:
    """Return the mail, None where nobody is to get one, and what is stored of the link in it."""
    letter = msgspec.json.decode(claim.payload, type=Letter)
    if letter.kind == "password_reset" and wall - letter.asked_at > TTL:
        return None, None
    user = await session.scalar(select(User).where(User.email == letter.email))
    # Whose account no password opens has none to forget.
    if user is None or user.blocked_at is not None or user.password_hash is None:
        return None, None
    link, digest = f"{public_url}/forgot", None
    if letter.kind == "password_reset":
        token = await _new_token(session, user.id, wall=wall)
        if token is None:
            log.warning("reset_links_exhausted", user_id=str(user.id))
            return None, None
        # Behind a `#`, which browsers keep to themselves: it stands in no log and in no Referer.
        link, digest = f"{public_url}/reset#{token}", _digest(token)
    mail_id = f"account-{claim.id}-{claim.asked}"
    return mails.write(letter.kind, user.locale, id=mail_id, to=user.email, link=link), digest


async def _new_token(session: AsyncSession, user_id: UUID, *, wall: datetime) -> str | None:
    """Return the secret of a new link; None where too many hold already."""
    held = select(func.count()).where(PasswordReset.user_id == user_id, PasswordReset.expires_at > wall)
    if (await session.scalar(held) or 0) >= LINKS_MOST:
        return None
    token = secrets.token_urlsafe(32)
    session.add(PasswordReset(digest=_digest(token), user_id=user_id, expires_at=wall + TTL))
    return token


async def _holder(
    session: AsyncSession, token: str, *, wall: datetime, lock: bool = False
) -> tuple[PasswordReset, User]:
    """Return a link that holds, and whose it is."""
    reset = await session.get(PasswordReset, _digest(token))
    if reset is None or reset.expires_at <= wall:
        raise ResetLinkError
    user = await user_of(session, reset.user_id, lock=lock)
    if user.blocked_at is not None:
        raise ResetLinkError
    return reset, user


def _digest(token: str) -> bytes:
    """Return what is stored of a token: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode()).digest()


COMMANDS: tuple[Command, ...] = (
    Command(
        "auth.reset_request", RequestReset, request_reset, guard="public", method="POST",
        path="/auth/password/reset-request", on_socket=False,
    ),
    Command(
        "auth.reset_verify", VerifyReset, verify_reset, guard="public", method="POST",
        path="/auth/password/verify-token", on_socket=False,
    ),
    Command(
        "auth.reset_confirm", ConfirmReset, confirm_reset, guard="public", method="POST",
        path="/auth/password/reset-confirm", live=True, on_socket=False,
    ),
)  # fmt: skip

"""What people do with their own account: register, log in and out, read and change it."""

from typing import Any

from msgspec import UNSET
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import outbox
from server.context import Command, Context, Role
from server.errors import UnauthenticatedError
from server.features.accounts import lockout, password_reset, passwords, rules, tokens
from server.features.accounts.administration import COMMANDS as ADMINISTRATION
from server.features.accounts.messages import (
    Account,
    AccountChanged,
    EndLogins,
    GetMe,
    ListLogins,
    LoggedOut,
    LogIn,
    Logins,
    LoginView,
    LogOut,
    MakeTicket,
    Refresh,
    Register,
    Ticket,
    Tokens,
    UpdatedAccount,
    UpdateMe,
)
from server.features.accounts.models import TutorStatus, User, user_of
from server.features.accounts.registration import NewUser, add_user
from server.features.accounts.rules import AccountError, BlockedError, InvalidFieldError, LoginError


async def register(ctx: Context, command: Register) -> Tokens:
    """Make an account and log it in."""
    email = rules.normal_email(command.email)
    first_name = rules.checked_name("first_name", command.first_name)
    last_name = rules.checked_name("last_name", command.last_name)
    timezone = rules.checked_timezone(command.timezone)
    # Hashed whether the address is free or not: the time taken tells nothing.
    password_hash = await passwords.hash_password(rules.checked_password(command.password))
    new = NewUser(
        email=email,
        password_hash=password_hash,
        first_name=first_name,
        last_name=last_name,
        role=Role(command.role),
        timezone=timezone,
        locale=command.locale,
        referral_code=command.referral_code,
    )
    wall = ctx.parts.clock.wall()
    async with ctx.parts.sessions.begin() as session:
        user = await add_user(session, new, now=ctx.now)
        refresh_token = await tokens.open_session(session, user.id, wall=wall, address=ctx.address)
    return _tokens(ctx, user, refresh_token)


async def log_in(ctx: Context, command: LogIn) -> Tokens:
    """Open a session; five wrong passwords lock the address for a quarter of an hour."""
    email = command.email.strip().lower()
    async with lockout.turn(email):
        async with ctx.parts.sessions() as session:
            found = await session.scalar(select(User).where(User.email == email))
        await _try_password(ctx, email, found, command.password, wrong=LoginError())
    wall = ctx.parts.clock.wall()
    async with ctx.parts.sessions.begin() as session:
        # Asked again: while this password was hashed, others were wrong on another node, or this one was replaced.
        await lockout.check(session, email, wall=wall)
        user = await _unchanged(session, found, wrong=LoginError())
        if user.blocked_at is not None:
            raise BlockedError
        await lockout.clear(session, email)
        refresh_token = await tokens.open_session(session, user.id, wall=wall, address=ctx.address)
    return _tokens(ctx, user, refresh_token)


async def refresh(ctx: Context, command: Refresh) -> Tokens:
    """Exchange a refresh token for new tokens; the second use of one ends its session, but for a browser's at once."""
    if command.refresh_token is None:
        raise UnauthenticatedError("There is no refresh token, neither in the body nor in its cookie.")
    async with ctx.parts.sessions.begin() as session:
        refreshed = await tokens.rotate(
            session,
            command.refresh_token,
            secret=ctx.parts.settings.secret_key,
            may_repeat=command.from_cookie,
            wall=ctx.parts.clock.wall(),
        )
    # Outside of the transaction: the end of a stolen session has to be committed before it is told.
    if refreshed is None:
        raise UnauthenticatedError("This refresh token does not hold; log in again.")
    return _tokens(ctx, refreshed.user, refreshed.token)


async def log_out(ctx: Context, command: LogOut) -> LoggedOut:
    """End the session; its access token holds until it expires."""
    if command.refresh_token is not None:
        await tokens.close_session(ctx.session, command.refresh_token, wall=ctx.parts.clock.wall())
    return LoggedOut()


async def get_me(ctx: Context, _command: GetMe) -> Account:
    """Return the own account."""
    return _account(await user_of(ctx.session, ctx.user.user_id))


async def update_me(ctx: Context, command: UpdateMe) -> UpdatedAccount:
    """Change the own account; a new password ends every session and opens a new one."""
    changes = _checked_changes(command)
    if command.password is not UNSET:
        return await _change_password(ctx, command, changes, password=command.password)
    async with ctx.parts.sessions.begin() as session:
        user = await user_of(session, ctx.user.user_id, lock=True)
        _apply(user, changes)
    return _updated(user)


async def list_logins(ctx: Context, _command: ListLogins) -> Logins:
    """Return where the caller is logged in: the hundred logins that were used last."""
    found = await tokens.sessions_of(ctx.session, ctx.user.user_id, wall=ctx.parts.clock.wall())
    return Logins(
        tuple(
            LoginView(one.id, one.address, one.created_at, one.expires_at - tokens.REFRESH_TTL)
            for one in found
        )
    )


async def end_logins(ctx: Context, _command: EndLogins) -> LoggedOut:
    """Log the caller out everywhere."""
    user = await user_of(ctx.session, ctx.user.user_id, lock=True)
    user.version += 1
    await tokens.close_sessions(ctx.session, user.id, wall=ctx.parts.clock.wall())
    outbox.record(ctx.session, AccountChanged(user.id, user.version, "logged_out"), at=ctx.now)
    return LoggedOut()


async def make_ticket(ctx: Context, _command: MakeTicket) -> Ticket:
    """Return a ticket that connects one socket."""
    return Ticket(await tokens.make_ticket(ctx.parts.redis, ctx.user), tokens.TICKET_TTL_S)


async def _change_password(
    ctx: Context, command: UpdateMe, changes: dict[str, str | None], *, password: str
) -> UpdatedAccount:
    rules.checked_password(password)
    if command.current_password is UNSET:
        raise InvalidFieldError("current_password", "A new password needs the current one.")
    wrong = InvalidFieldError("current_password", "This is not the current password.")
    async with ctx.parts.sessions() as session:
        before = await user_of(session, ctx.user.user_id)
    async with lockout.turn(before.email):
        await _try_password(ctx, before.email, before, command.current_password, wrong=wrong)
    password_hash = await passwords.hash_password(password)
    wall = ctx.parts.clock.wall()
    async with ctx.parts.sessions.begin() as session:
        user = await _unchanged(session, before, wrong=wrong)
        _apply(user, changes)
        user.password_hash = password_hash
        user.version += 1
        await tokens.close_sessions(session, user.id, wall=wall)
        refresh_token = await tokens.open_session(session, user.id, wall=wall, address=ctx.address)
        await password_reset.end_links(session, user)
        await password_reset.tell_of_change(session, user, wall=wall)
        outbox.record(session, AccountChanged(user.id, user.version, "password"), at=ctx.now)
    return _updated(user, _tokens(ctx, user, refresh_token))


async def _try_password(
    ctx: Context, email: str, user: User | None, password: str, *, wrong: AccountError
) -> None:
    """Raise `wrong` for a wrong password, after it is counted. Takes as long for an address without an account."""
    wall = ctx.parts.clock.wall()
    async with ctx.parts.sessions() as session:
        await lockout.check(session, email, wall=wall)
    if not await passwords.is_password(password, user.password_hash if user else None):
        async with ctx.parts.sessions.begin() as session:
            await lockout.count_failure(session, email, wall=wall)
        raise wrong


async def _unchanged(session: AsyncSession, before: User | None, *, wrong: AccountError) -> User:
    """Return the account, locked, if its password is still the one that was tried."""
    assert before is not None, "no password opens an account that is not there"
    user = await user_of(session, before.id, lock=True)
    if user.password_hash != before.password_hash:
        raise wrong
    return user


def _checked_changes(command: UpdateMe) -> dict[str, str | None]:
    """Return the columns that change; what is absent stays."""
    changes: dict[str, str | None] = {}
    if command.first_name is not UNSET:
        changes["first_name"] = rules.checked_name("first_name", command.first_name)
    if command.last_name is not UNSET:
        changes["last_name"] = rules.checked_name("last_name", command.last_name)
    if command.timezone is not UNSET:
        changes["timezone"] = rules.checked_timezone(command.timezone)
    if command.locale is not UNSET:
        changes["locale"] = command.locale
    if command.region is not UNSET:
        changes["region"] = command.region
    return changes


def _apply(user: User, changes: dict[str, str | None]) -> None:
    for column, value in changes.items():
        setattr(user, column, value)


def _account(user: User) -> Account:
    return Account(**_fields(user))


def _updated(user: User, tokens: Tokens | None = None) -> UpdatedAccount:
    if tokens is None:
        return UpdatedAccount(**_fields(user))
    return UpdatedAccount(
        **_fields(user),
        access_token=tokens.access_token,
        expires_in_s=tokens.expires_in_s,
        refresh_token=tokens.refresh_token,
    )


def _fields(user: User) -> dict[str, Any]:
    is_tutor = user.role == Role.TUTOR
    return {
        "id": user.id,
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "role": Role(user.role),
        "timezone": user.timezone,
        "locale": user.locale,
        "created_at": user.created_at,
        "region": user.region,
        "tutor_status": TutorStatus(user.tutor_status) if is_tutor and user.tutor_status else None,
        "referral_code": user.referral_code if is_tutor else None,
    }


def _tokens(ctx: Context, user: User, refresh_token: str) -> Tokens:
    access_token = tokens.access_token(
        ctx.parts.settings.secret_key,
        user.id,
        role=user.role,
        version=user.version,
        wall=ctx.parts.clock.wall(),
    )
    return Tokens(
        user=_account(user),
        access_token=access_token,
        expires_in_s=int(tokens.ACCESS_TTL.total_seconds()),
        refresh_token=refresh_token,
    )


# Commands that hash a password, or must commit before they refuse, are live: they open short transactions of
# their own, because a connection that waits for a hash is one that nobody else can use.
COMMANDS: tuple[Command, ...] = (
    Command(
        "auth.register", Register, register, guard="public", method="POST", path="/auth/register", status=201,
        live=True, on_socket=False,
    ),
    Command(
        "auth.login", LogIn, log_in, guard="public", method="POST", path="/auth/login", live=True,
        on_socket=False,
    ),
    Command(
        "auth.refresh", Refresh, refresh, guard="public", method="POST", path="/auth/refresh", live=True,
        on_socket=False,
    ),
    Command(
        "auth.logout", LogOut, log_out, guard="public", method="POST", path="/auth/logout", on_socket=False,
    ),
    Command(
        "auth.ticket", MakeTicket, make_ticket, method="POST", path="/auth/ws-ticket", live=True,
        on_socket=False,
    ),
    *password_reset.COMMANDS,
    Command("me.get", GetMe, get_me, method="GET", path="/me"),
    Command("me.update", UpdateMe, update_me, method="PATCH", path="/me", live=True),
    Command("login.list", ListLogins, list_logins, method="GET", path="/me/logins"),
    Command("login.end_all", EndLogins, end_logins, method="POST", path="/me/logins/end"),
    *ADMINISTRATION,
)  # fmt: skip

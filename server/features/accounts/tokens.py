"""Access tokens (JWT, short, checked against the account), refresh tokens (opaque, rotating), and socket tickets.

RFC 9700 (OAuth security) §4.14 is the source of rotation with reuse detection.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import jwt
import msgspec
from redis.asyncio import Redis
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server import outage
from server.context import Principal, Role
from server.errors import TokenExpiredError, UnauthenticatedError
from server.features.accounts.models import LoginSession, RefreshToken, User
from server.reads import Lookup, Reads

# B-02: access for half an hour, a session for a week after its last use.
ACCESS_TTL = timedelta(minutes=30)
REFRESH_TTL = timedelta(days=7)
# A page that is loaded again while it refreshes asks twice with one token, and its browser has no other: the first
# answer went to the page that is gone. A slow phone's answer takes some seconds. In a longer time a thief would go
# unnoticed for longer, though never beyond the next refresh.
REPEAT_WITHIN = timedelta(seconds=10)
# PROTOCOL 2. A browser connects at once; a ticket in a log is worthless soon.
TICKET_TTL_S = 30

_ALGORITHM = "HS256"
_AUDIENCE = "access"
# DESIGN decision 16: a change reaches open sockets within a second. Half of it leaves the rest to the other half
# of the way; a longer time would need a sure message to every node, a shorter one is a query per request.
_CACHE_TTL_S = 0.5
# Of accounts and of tokens: about 2 MB and 6 MB. More people than this asking within half a second would outrun the
# database anyway.
_CACHE_SIZE = 10_000
# As of every list (F4-08); who has more logs out everywhere.
_SESSIONS_SHOWN = 100

_ACCOUNT = Lookup("""
    select a.no, u.first_name || ' ' || u.last_name, u.role, u.version, u.blocked_at is not null
    from unnest($1::uuid[]) with ordinality as a (id, no)
    join users u on u.id = a.id
""")


class Refreshed(msgspec.Struct, frozen=True):
    """A used refresh token's successor, and whose it is."""

    user: User
    token: str


class _Claims(msgspec.Struct, frozen=True):
    """What a token says."""

    sub: UUID
    ver: int
    exp: int


class _Checked(msgspec.Struct, frozen=True):
    """What the database said of an account, and until when that is believed (monotonic seconds)."""

    name: str
    role: Role
    version: int
    blocked: bool
    until: float


def access_token(
    secret: str, user_id: UUID, *, role: str, version: int, wall: datetime, ttl: timedelta = ACCESS_TTL
) -> str:
    """Return a signed access token."""
    claims = {
        "sub": str(user_id),
        "role": str(role),
        "ver": version,
        "aud": _AUDIENCE,
        "iat": int(wall.timestamp()),
        "exp": int((wall + ttl).timestamp()),
    }
    return jwt.encode(claims, secret, _ALGORITHM)


class Authenticator:
    """Says who holds an access token or a socket ticket; one per process."""

    def __init__(
        self,
        *,
        secret: str,
        reads: Reads,
        redis: Redis,
        wall: Callable[[], datetime],
    ) -> None:
        self._secret = secret
        self._wall = wall
        self._reads = reads
        self._redis = redis
        self._cache: OrderedDict[UUID, _Checked] = OrderedDict()
        self._signed: OrderedDict[str, _Claims] = OrderedDict()
        """Tokens whose signature was found right: it stays so, and most tokens are shown again and again."""

    async def authenticate(self, token: str) -> Principal:
        """Return who holds an access token; see `log_in`."""
        return (await self.log_in(token))[0]

    async def log_in(self, token: str) -> tuple[Principal, float]:
        """Return who holds an access token, as the account is now or was half a second ago, and when the token ends.

        The end is in seconds of the Unix epoch.

        Raises:
            TokenExpiredError: It held once.
            UnauthenticatedError: It is not ours, or older than a change of role, password or block.
            OverloadedError: The database is away.
        """
        claims = self._claims(token)
        return await self._principal(claims.sub, claims.ver), float(claims.exp)

    async def redeem(self, ticket: str) -> Principal:
        """Return for whom a socket ticket was made, once.

        Raises:
            UnauthenticatedError: It was redeemed before, is too old, or was never made.
        """
        with outage.refused():
            stored = await self._redis.getdel(_ticket_key(ticket))
        if stored is None:
            raise UnauthenticatedError("This ticket does not hold.")
        user_id, version = str(stored, "ascii").split() if isinstance(stored, bytes) else stored.split()
        return await self._principal(UUID(user_id), int(version))

    async def confirm(self, principal: Principal) -> Principal:
        """Return somebody as the account is now or was half a second ago.

        Raises:
            UnauthenticatedError: The account has changed since the token was made.
            OverloadedError: The database is away.
        """
        return await self._principal(principal.user_id, principal.version)

    async def review(self, principal: Principal) -> Principal | None:
        """Look at an account again: return it as it is now, None if an open connection of it has to end.

        Raises:
            OverloadedError: The database is away.
        """
        self.forget(principal.user_id)
        try:
            return await self._principal(principal.user_id, principal.version)
        except UnauthenticatedError:
            return None

    def forget(self, user_id: UUID) -> None:
        """Ask the database about this account next time: it has changed."""
        self._cache.pop(user_id, None)

    def _claims(self, token: str) -> _Claims:
        claims = self._signed.get(token)
        if claims is None:
            claims = self._signed[token] = self._verified(token)
            if len(self._signed) > _CACHE_SIZE:
                self._signed.popitem(last=False)
        if claims.exp <= self._wall().timestamp():
            raise TokenExpiredError("This access token has expired.")
        return claims

    def _verified(self, token: str) -> _Claims:
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                # The library would ask this machine's clock, which may be wrong.
                options={
                    "require": ["exp", "iat", "sub", "ver", "aud"],
                    "verify_iat": False,
                    "verify_exp": False,
                },
            )
            return _Claims(UUID(str(claims["sub"])), int(claims["ver"]), int(claims["exp"]))
        except (jwt.InvalidTokenError, UnicodeError, ValueError, RecursionError):
            raise UnauthenticatedError("This access token does not hold.") from None

    async def _principal(self, user_id: UUID, version: int) -> Principal:
        checked = self._cache.get(user_id)
        if checked is None or checked.until < time.monotonic():
            checked = await self._ask(user_id)
        if checked.blocked or checked.version != version:
            raise UnauthenticatedError("This access token does not hold any more; log in again.")
        return Principal(user_id, checked.role, checked.name, checked.version)

    async def _ask(self, user_id: UUID) -> _Checked:
        until = time.monotonic() + _CACHE_TTL_S
        with outage.refused():
            row = await self._reads.find(_ACCOUNT, user_id)
        if row is None:
            raise UnauthenticatedError("This access token does not hold.")
        _, name, role, version, is_blocked = row
        checked = _Checked(name, Role(role), version, is_blocked, until)
        self._cache[user_id] = checked
        self._cache.move_to_end(user_id)
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return checked


async def make_ticket(redis: Redis, principal: Principal) -> str:
    """Return a ticket that connects one socket of this person within half a minute."""
    ticket = secrets.token_urlsafe(32)
    await redis.set(_ticket_key(ticket), f"{principal.user_id} {principal.version}", ex=TICKET_TTL_S)
    return ticket


async def open_session(session: AsyncSession, user_id: UUID, *, wall: datetime, address: str | None) -> str:
    """Begin a login session and return its first refresh token."""
    login = LoginSession(
        id=uuid4(), user_id=user_id, address=address, created_at=wall, expires_at=wall + REFRESH_TTL
    )
    session.add(login)
    await session.flush()
    token = secrets.token_urlsafe(32)
    _keep_token(session, login.id, token)
    return token


async def rotate(
    session: AsyncSession, token: str, *, secret: str, may_repeat: bool, wall: datetime
) -> Refreshed | None:
    """Exchange a refresh token for its successor; who may repeat it gets the same one when asking again at once.

    None: it does not hold. If that is because it was used before, somebody has stolen it or its successor, so its
    whole session is revoked: the caller commits before it refuses.
    """
    found = await session.execute(
        select(LoginSession, RefreshToken)
        .join(RefreshToken, RefreshToken.session_id == LoginSession.id)
        .where(RefreshToken.digest == _digest(token))
        .with_for_update(key_share=True)
    )
    row = found.one_or_none()
    if row is None:
        return None
    login, used = row
    successor = _successor(secret, token)
    if used.used_at is not None and not (
        may_repeat and await _is_repeated(session, used.used_at, successor, wall=wall)
    ):
        login.revoked_at = login.revoked_at or wall
        return None
    user = await session.get_one(User, login.user_id)
    if login.revoked_at is not None or login.expires_at <= wall or user.blocked_at is not None:
        return None
    if used.used_at is None:
        used.used_at = wall
        login.expires_at = wall + REFRESH_TTL
        _keep_token(session, login.id, successor)
    return Refreshed(user, successor)


async def close_session(session: AsyncSession, token: str, *, wall: datetime) -> None:
    """End the session of a refresh token, new or used; an unknown token changes nothing."""
    of_token = select(RefreshToken.session_id).where(RefreshToken.digest == _digest(token)).scalar_subquery()
    await session.execute(
        update(LoginSession)
        .where(LoginSession.id == of_token, LoginSession.revoked_at.is_(None))
        .values(revoked_at=wall)
    )


async def sessions_of(session: AsyncSession, user_id: UUID, *, wall: datetime) -> Sequence[LoginSession]:
    """Return the sessions of a user that hold, the last used first, at most a hundred."""
    query = (
        select(LoginSession)
        .where(
            LoginSession.user_id == user_id, LoginSession.revoked_at.is_(None), LoginSession.expires_at > wall
        )
        .order_by(LoginSession.expires_at.desc(), LoginSession.id)
        .limit(_SESSIONS_SHOWN)
    )
    return (await session.scalars(query)).all()


async def close_sessions(session: AsyncSession, user_id: UUID, *, wall: datetime) -> None:
    """End every session of a user."""
    await session.execute(
        update(LoginSession)
        .where(LoginSession.user_id == user_id, LoginSession.revoked_at.is_(None))
        .values(revoked_at=wall)
    )


async def forget_sessions(session: AsyncSession, *, before: datetime) -> None:
    """Delete the sessions that ended before a moment, with their tokens."""
    await session.execute(delete(LoginSession).where(LoginSession.expires_at < before))


async def _is_repeated(session: AsyncSession, used_at: datetime, successor: str, *, wall: datetime) -> bool:
    """Return whether a used token was used just now, and nobody has gone on from it."""
    if wall - used_at > REPEAT_WITHIN:
        return False
    following = await session.get(RefreshToken, _digest(successor))
    return following is not None and following.used_at is None


def _successor(secret: str, token: str) -> str:
    """Return the token that follows this one: only we can tell, and no copy of it has to be kept to tell it twice."""
    mac = hmac.digest(secret.encode(), b"refresh token after " + token.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def _keep_token(session: AsyncSession, session_id: UUID, token: str) -> None:
    session.add(RefreshToken(digest=_digest(token), session_id=session_id))


def _digest(token: str) -> bytes:
    """Return what is stored of a token: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def _ticket_key(ticket: str) -> str:
    return f"fourtalk:ticket:{_digest(ticket).hex()}"

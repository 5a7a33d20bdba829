"""Make accounts: one from a registration or the command line, or many at once for load tests."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from billing import outbox
from server.clock import Clock
from server.config import Settings
from server.context import Role
from server.features.accounts import passwords, rules, tokens
from server.features.accounts.messages import UserRegistered
from server.features.accounts.models import TutorStatus, User, referrer_of
from server.features.accounts.rules import InvalidFieldError, RegistrationError

# One statement has at most 32,767 parameters, and an account has thirteen.
_MINT_ROWS = 1_000


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an account is made from; the values have passed the rules."""

    email: str
    password_hash: str
    first_name: str
    last_name: str
    role: Role
    timezone: str = "UTC"
    locale: str = "en"
    referral_code: str | None = None
    """Of the tutor who sent this person, or of a course of theirs."""
    approved: bool = False
    """A tutor who may teach at once."""


class Minted(msgspec.Struct, frozen=True):
    """One account for a load test, as `fourtalk user mint` prints it."""

    user_id: UUID
    email: str
    access_token: str


async def add_user(session: AsyncSession, new: NewUser, *, now: datetime) -> User:
    """Store an account and tell of it.

    Raises:
        RegistrationError: The address has an account.
        InvalidFieldError: The referral code is nobody's.
    """
    approved = new.role is Role.TUTOR and new.approved
    code = None if new.referral_code is None else rules.normal_code(new.referral_code)
    user = User(
        id=uuid4(),
        email=new.email,
        password_hash=new.password_hash,
        first_name=new.first_name,
        last_name=new.last_name,
        role=new.role,
        tutor_status=_first_status(new.role, approved=approved),
        referral_code=rules.new_referral_code() if approved else None,
        referred_by=None if code is None else await _referrer(session, code),
        referred_code=code,
        timezone=new.timezone,
        locale=new.locale,
    )
    session.add(user)
    try:
        await session.flush()
    except IntegrityError as error:
        raise RegistrationError from error
    outbox.record(session, UserRegistered(user.id, new.role, user.referred_by), at=now)
    return user


async def create_user(
    session: AsyncSession,
    *,
    email: str,
    password: str,
    role: Role,
    approved: bool = False,
    first_name: str | None = None,
    last_name: str | None = None,
    now: datetime,
) -> User:
    """Make an account of any role, for the command line and the demo world.

    Raises:
        AccountError: The e-mail address, the password or a name breaks a rule, or the address has an account.
    """
    new = NewUser(
        email=rules.normal_email(email),
        password_hash=await passwords.hash_password(rules.checked_password(password)),
        first_name=rules.checked_name("first_name", first_name or role.capitalize()),
        last_name=rules.checked_name("last_name", last_name or "Account"),
        role=role,
        approved=approved,
    )
    return await add_user(session, new, now=now)


async def mint(
    session: AsyncSession, *, count: int, role: Role, ttl_s: int, settings: Settings
) -> list[Minted]:
    """Make many accounts that no password opens, tutors approved, each with an access token.

    No events are recorded: nobody needs ten thousand welcomes.
    """
    ids = [uuid4() for _ in range(count)]
    for start in range(0, count, _MINT_ROWS):
        await session.execute(
            insert(User), [_minted_row(user_id, role) for user_id in ids[start : start + _MINT_ROWS]]
        )
    wall, ttl = Clock().wall(), timedelta(seconds=ttl_s)
    return [
        Minted(
            user_id,
            _minted_email(user_id),
            tokens.access_token(settings.secret_key, user_id, role=role, version=1, wall=wall, ttl=ttl),
        )
        for user_id in ids
    ]


def _first_status(role: Role, *, approved: bool) -> TutorStatus | None:
    if role is not Role.TUTOR:
        return None
    return TutorStatus.APPROVED if approved else TutorStatus.INCOMPLETE


async def _referrer(session: AsyncSession, code: str) -> UUID:
    found = await referrer_of(session, code)
    if found is None:
        raise InvalidFieldError("referral_code", "Nobody has this code.")
    return found[0]


def _minted_row(user_id: UUID, role: Role) -> dict[str, object]:
    return {
        "id": user_id,
        "email": _minted_email(user_id),
        "password_hash": None,
        "first_name": "Minted",
        "last_name": user_id.hex[:8],
        "role": role,
        "tutor_status": _first_status(role, approved=True),
        "referral_code": rules.new_referral_code() if role is Role.TUTOR else None,
        "timezone": "UTC",
        "locale": "en",
        "version": 1,
    }


def _minted_email(user_id: UUID) -> str:
    # RFC 2606: no mail to this domain ever arrives anywhere.
    return f"{user_id.hex}@minted.invalid"

"""What accounts are asked, what they answer, and what is told of them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.context import Role
from server.features.accounts.models import TutorStatus
from server.pages import PAGE, Cursor, Limit

Locale = Literal["en", "vi"]
Email = Annotated[str, Meta(max_length=254)]
Password = Annotated[str, Meta(min_length=8, max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Timezone = Annotated[str, Meta(min_length=1, max_length=64)]
Secret = Annotated[str, Meta(min_length=1, max_length=256)]
Reason = Annotated[str, Meta(min_length=10, max_length=500)]


class Register(msgspec.Struct, frozen=True):
    """Make an account; students and tutors only (D-01)."""

    email: Email
    password: Password
    first_name: Name
    last_name: Name
    role: Literal["student", "tutor"]
    timezone: Timezone = "UTC"
    locale: Locale = "en"
    referral_code: Annotated[str, Meta(max_length=64)] | None = None


class LogIn(msgspec.Struct, frozen=True):
    """Open a session with e-mail and password."""

    email: Email
    password: Annotated[str, Meta(min_length=1, max_length=128)]


class Refresh(msgspec.Struct, frozen=True):
    """Exchange a refresh token, from the body or its cookie, for new tokens."""

    refresh_token: Secret | None = None
    from_cookie: bool = False
    """Whether a browser sent it by itself; the server says so. A page that is loaded again asks twice with one token."""


class LogOut(msgspec.Struct, frozen=True):
    """End the session of a refresh token, from the body or its cookie."""

    refresh_token: Secret | None = None


class LoggedOut(msgspec.Struct, frozen=True):
    """The session is over, or was already."""


class RequestReset(msgspec.Struct, frozen=True):
    """Ask for a mail with a link that sets a new password."""

    email: Email


class ResetRequested(msgspec.Struct, frozen=True):
    """If the address has an account, a mail is on its way to it."""


class VerifyReset(msgspec.Struct, frozen=True):
    """Ask whether a link still holds; it is not used up by that."""

    token: Secret


class ResetHolds(msgspec.Struct, frozen=True):
    """It does, for so long."""

    expires_in_s: int


class ConfirmReset(msgspec.Struct, frozen=True):
    """Set a new password by a link, once."""

    token: Secret
    password: Password


class PasswordIsSet(msgspec.Struct, frozen=True):
    """The new password holds; every session has ended."""


class GetMe(msgspec.Struct, frozen=True):
    """Ask for the own account."""


class UpdateMe(msgspec.Struct, frozen=True):
    """Change the own account; what is absent stays. A new password needs the current one."""

    first_name: Name | UnsetType = UNSET
    last_name: Name | UnsetType = UNSET
    timezone: Timezone | UnsetType = UNSET
    locale: Locale | UnsetType = UNSET
    region: Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z")] | UnsetType | None = UNSET
    password: Password | UnsetType = UNSET
    current_password: Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType = UNSET


class ListLogins(msgspec.Struct, frozen=True):
    """Ask where the caller is logged in."""


class LoginView(msgspec.Struct, frozen=True):
    """One login that still holds."""

    id: UUID
    address: str | None
    """Where it was opened from."""
    created_at: datetime
    used_at: datetime
    """When it last got new tokens."""


class Logins(msgspec.Struct, frozen=True):
    """Every login that still holds, the last used first."""

    items: tuple[LoginView, ...]


class EndLogins(msgspec.Struct, frozen=True):
    """Log out everywhere, here too: every token ends, and every socket."""


class MakeTicket(msgspec.Struct, frozen=True):
    """Ask for a ticket that connects one socket."""


class Ticket(msgspec.Struct, frozen=True):
    """Opens one socket, once."""

    ticket: str
    expires_in_s: int


class Account(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The own account."""

    id: UUID
    email: str
    first_name: str
    last_name: str
    role: Role
    timezone: str
    locale: str
    created_at: datetime
    region: str | None = None
    tutor_status: TutorStatus | None = None
    referral_code: str | None = None
    """A tutor's, from the approval on."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What a login gives."""

    user: Account
    access_token: str
    expires_in_s: int
    refresh_token: str


class UpdatedAccount(Account, frozen=True, kw_only=True, omit_defaults=True):
    """The own account after a change. A new password ends every session and opens this one."""

    access_token: str | None = None
    expires_in_s: int | None = None
    refresh_token: str | None = None


class ApproveTutor(msgspec.Struct, frozen=True):
    """Let a tutor teach, from any state."""

    user_id: UUID


class RejectTutor(msgspec.Struct, frozen=True):
    """Refuse a tutor, who is told why."""

    user_id: UUID
    reason: Annotated[str, Meta(min_length=1, max_length=500)]


class ChangeRole(msgspec.Struct, frozen=True):
    """Give a user another role; admin and owner are the owner's to give and take."""

    user_id: UUID
    role: Role
    reason: Reason


class Block(msgspec.Struct, frozen=True):
    """Shut a user out."""

    user_id: UUID
    reason: Reason


class Unblock(msgspec.Struct, frozen=True):
    """Let a user in again."""

    user_id: UUID
    reason: Reason


class ManagedAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account as administrators see it."""

    id: UUID
    email: str
    first_name: str
    last_name: str
    role: Role
    tutor_status: TutorStatus | None
    referral_code: str | None
    blocked: bool
    created_at: datetime


class ListUsers(msgspec.Struct, frozen=True):
    """Look for accounts, newest first."""

    role: Role | None = None
    tutor_status: TutorStatus | None = None
    email: Email | None = None
    search: Annotated[str, Meta(max_length=100)] | None = None
    """How a name or an address begins."""
    limit: Limit = PAGE
    cursor: Cursor | None = None


class Users(msgspec.Struct, frozen=True):
    """A page of accounts."""

    items: list[ManagedAccount]
    next_cursor: str | None


class NameUsers(msgspec.Struct, frozen=True):
    """Ask who some people are, of whom a list has only the ids."""

    user_ids: Annotated[tuple[UUID, ...], Meta(max_length=200)]


class NamedUser(msgspec.Struct, frozen=True):
    """Who somebody is."""

    id: UUID
    name: str
    email: str


class NamedUsers(msgspec.Struct, frozen=True):
    """Those of them that there are."""

    items: tuple[NamedUser, ...]


# --- Domain events (outbox) ---------------------------------------------------------------------


class UserRegistered(msgspec.Struct, frozen=True, tag="user.registered"):
    """An account was made."""

    user_id: UUID
    role: Role
    referred_by: UUID | None


class TutorApproved(msgspec.Struct, frozen=True, tag="tutor.approved"):
    """A tutor may teach from now on."""

    user_id: UUID
    referral_code: str


class TutorRejected(msgspec.Struct, frozen=True, tag="tutor.rejected"):
    """A tutor was refused."""

    user_id: UUID
    reason: str


class AccountChanged(msgspec.Struct, frozen=True, tag="account.changed"):
    """What open connections rely on changed: they are checked again within a second."""

    user_id: UUID
    version: int
    """Access tokens with an older one do not hold any more."""
    change: Literal["role", "password", "blocked", "unblocked", "approved", "rejected", "logged_out"]

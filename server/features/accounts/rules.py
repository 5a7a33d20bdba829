"""Rules of accounts: what may be registered, who may change whom. Pure.

```
ServerError
└── AccountError             base of what accounts refuse
    ├── InvalidFieldError    a field breaks a rule that its type cannot say
    ├── RegistrationError    no account can be made from this (mostly: the address has one)
    ├── LoginError           e-mail or password is wrong; does not say which
    ├── ResetLinkError       a link by mail does not hold: unknown, used, replaced or too old
    ├── BlockedError         the account is shut out
    └── RightsError          the administrator may not do this to that account
```
"""

import functools
import re
import secrets
import zoneinfo

from server.context import Role
from server.errors import BadRequestError, ErrorKind, FieldError, ServerError

# B-02. Only printable ASCII: what two alphabets write alike would be two accounts.
_EMAIL = re.compile(r"[!-?A-~]+@(?:[a-z0-9-]+\.)+[a-z0-9-]*[a-z][a-z0-9-]*")
EMAIL_MAX = 254
PASSWORD_MIN, PASSWORD_MAX = 8, 128
NAME_MAX = 100
# Crockford's letters and digits: none looks like another, so a code can be read to somebody.
_CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_ADMINISTRATORS = (Role.ADMIN, Role.OWNER)


class AccountError(ServerError):
    """Base of what accounts refuse."""


class InvalidFieldError(BadRequestError, AccountError):
    """A field breaks a rule that its type cannot say."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", (FieldError(field, message),))


class RegistrationError(AccountError):
    """No account can be made from this; the words do not say that the address has one."""

    kind = ErrorKind.CONFLICT
    code = "registration_refused"

    def __init__(self) -> None:
        super().__init__("This account cannot be made. Log in if you have one, or use another address.")


class LoginError(AccountError):
    """E-mail or password is wrong; the words do not say which."""

    kind = ErrorKind.UNAUTHENTICATED
    code = "login_failed"

    def __init__(self) -> None:
        super().__init__("E-mail or password is wrong.")


class ResetLinkError(AccountError):
    """A link by mail does not hold; the words do not say why."""

    code = "reset_link_invalid"

    def __init__(self) -> None:
        super().__init__("This link does not hold any more; ask for a new one.")


class BlockedError(AccountError):
    """The account is shut out; only who knows its password learns that."""

    kind = ErrorKind.FORBIDDEN
    code = "account_blocked"

    def __init__(self) -> None:
        super().__init__("This account is blocked.")


class RightsError(AccountError):
    """The administrator may not do this to that account."""

    kind = ErrorKind.FORBIDDEN
    code = "permission_denied"


def normal_email(text: str) -> str:
    """Return an address as it is stored: trimmed and in lower case.

    Raises:
        InvalidFieldError: It is none.
    """
    email = text.strip().lower()
    if len(email) > EMAIL_MAX or not _EMAIL.fullmatch(email):
        raise InvalidFieldError("email", "This is not an e-mail address.")
    return email


def checked_name(field: str, text: str) -> str:
    """Return a name, trimmed.

    Raises:
        InvalidFieldError: Nothing is left, it is too long, or it has control characters.
    """
    name = text.strip()
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise InvalidFieldError(field, f"Expected 1 to {NAME_MAX} printable characters.")
    return name


def checked_password(text: str) -> str:
    """Return a password that is long enough and has all four classes of characters (C-25).

    Raises:
        InvalidFieldError: It is not.
    """
    classes = (str.isupper, str.islower, str.isdigit, lambda character: not character.isalnum())
    if not PASSWORD_MIN <= len(text) <= PASSWORD_MAX or not all(any(map(is_in, text)) for is_in in classes):
        raise InvalidFieldError(
            "password",
            f"Expected {PASSWORD_MIN} to {PASSWORD_MAX} characters with an upper-case and a lower-case letter, "
            "a digit and a special character.",
        )
    return text


def checked_timezone(text: str) -> str:
    """Return the name of a time zone.

    Raises:
        InvalidFieldError: The IANA database does not have it.
    """
    if text not in _timezones():
        raise InvalidFieldError("timezone", "This is no name of the IANA time zone database.")
    return text


# Files beside the zones that name none: what a machine was set to, and what it falls back to.
_NO_ZONES = frozenset({"localtime", "posixrules", "Factory"})


@functools.cache
def _timezones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - _NO_ZONES


def new_referral_code() -> str:
    """Return a tutor's code: `TEACH` and eight characters (B-19)."""
    return "TEACH" + _random_code()


def new_course_code() -> str:
    """Return a course's code: `COURSE_` and eight characters (B-14)."""
    return "COURSE_" + _random_code()


def normal_code(text: str) -> str:
    """Return a referral code as it is stored: trimmed and in upper case."""
    return text.strip().upper()


def _random_code() -> str:
    return "".join(secrets.choice(_CODE_ALPHABET) for _ in range(8))


def check_rights(*, actor: Role, target: Role, same: bool, last_owner: bool) -> None:
    """Say whether an administrator may change or shut out an account at all (B-01).

    Raises:
        RightsError: It is their own, or it administrates and they are no owner, or it is the last owner's.
    """
    if actor not in _ADMINISTRATORS:
        raise RightsError("Only administrators may do this.")
    if same:
        raise RightsError("Nobody may do this to their own account.")
    if target in _ADMINISTRATORS and actor is not Role.OWNER:
        raise RightsError("Only an owner may do this to an administrator.")
    if last_owner:
        raise RightsError("The last owner stays.")


def check_grant(*, actor: Role, role: Role) -> None:
    """Say whether an administrator may give this role.

    Raises:
        RightsError: It is an administrator's, and they are no owner.
    """
    if role in _ADMINISTRATORS and actor is not Role.OWNER:
        raise RightsError("Only an owner may make administrators.")

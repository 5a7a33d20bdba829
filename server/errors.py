"""The only map from a package's errors to HTTP statuses, socket errors and close codes.

Every error of billing, rooms and server carries `kind` (a closed set), `code` (stable, for programs), its own words
(`str(error)`) and, where they help the caller, `facts`. PROTOCOL 2 and 3 fix the numbers.
"""

from enum import StrEnum
from typing import Any

import msgspec


class ErrorKind(StrEnum):
    """What a caller can do about an error."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"


class ServerError(Exception):
    """Base of the server's own errors."""

    kind: str = ErrorKind.INVALID
    code: str = "bad_request"

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts


class FieldError(msgspec.Struct, frozen=True):
    """One field of a request that is wrong, and why."""

    field: str
    message: str


class BadRequestError(ServerError):
    """The request cannot be understood, or a field of it is wrong."""

    def __init__(self, message: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class UnauthenticatedError(ServerError):
    """No token, or one that does not hold."""

    kind = ErrorKind.UNAUTHENTICATED
    code = "unauthorized"


class TokenExpiredError(UnauthenticatedError):
    """The access token held once."""

    code = "token_expired"


class ForbiddenError(ServerError):
    """The caller may not do this."""

    kind = ErrorKind.FORBIDDEN
    code = "permission_denied"


class NotFoundError(ServerError):
    """There is no such thing, or none that the caller may know of."""

    kind = ErrorKind.NOT_FOUND
    code = "not_found"


class ConflictError(ServerError):
    """The state of the thing does not allow this."""

    kind = ErrorKind.CONFLICT
    code = "conflict"

    def __init__(self, message: str, *, code: str | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.code = code or type(self).code


class IdempotencyMismatchError(ServerError):
    """The same key came with another request."""

    code = "idempotency_mismatch"


class LimitedError(ServerError):
    """Too many requests; `retry_after_s` says when to come back."""

    kind = ErrorKind.LIMITED
    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, retry_after_ms=round(retry_after_s * 1000))
        self.retry_after_s = retry_after_s


class OverloadedError(ServerError):
    """A part that this needs is away or full; the same request may succeed in a moment."""

    kind = ErrorKind.UNAVAILABLE
    code = "overloaded"


class UnknownOutcomeError(ServerError):
    """The answer of the database to a commit was lost: what was asked may have happened."""

    kind = ErrorKind.UNAVAILABLE
    code = "timeout_unknown_outcome"

    def __init__(self) -> None:
        super().__init__("The connection was lost; what was asked may have happened.")


# PROTOCOL 2: one status per kind; the codes below differ from their kind.
STATUS_BY_KIND: dict[str, int] = {
    ErrorKind.INVALID: 400,
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.CONFLICT: 409,
    ErrorKind.LIMITED: 429,
    ErrorKind.UNAVAILABLE: 503,
}
STATUS_BY_CODE = {"idempotency_mismatch": 422}


class SocketError(msgspec.Struct, frozen=True):
    """One row of PROTOCOL 3's error table."""

    code: int
    name: str
    retryable: bool = False


INTERNAL = SocketError(100, "internal", retryable=True)
UNAUTHORIZED = SocketError(101, "unauthorized")
UNKNOWN_CHANNEL = SocketError(102, "unknown_channel")
PERMISSION_DENIED = SocketError(103, "permission_denied")
UNKNOWN_OP = SocketError(104, "unknown_op")
ALREADY_SUBSCRIBED = SocketError(105, "already_subscribed")
LIMIT_EXCEEDED = SocketError(106, "limit_exceeded")
BAD_REQUEST = SocketError(107, "bad_request")
NOT_AVAILABLE = SocketError(108, "not_available")
TOKEN_EXPIRED = SocketError(109, "token_expired")
TOO_MANY_REQUESTS = SocketError(111, "too_many_requests", retryable=True)
UNRECOVERABLE_POSITION = SocketError(112, "unrecoverable_position")
ROOM_FULL = SocketError(120, "room_full", retryable=True)
ROOM_CLOSED = SocketError(121, "room_closed")
BANNED = SocketError(122, "banned")
SEAT_EXPIRED = SocketError(123, "seat_expired", retryable=True)
CONFLICT = SocketError(124, "conflict")
IDEMPOTENCY_MISMATCH = SocketError(125, "idempotency_mismatch")
OVERLOADED = SocketError(130, "overloaded", retryable=True)
TIMEOUT_UNKNOWN_OUTCOME = SocketError(132, "timeout_unknown_outcome", retryable=True)

SOCKET_BY_KIND: dict[str, SocketError] = {
    ErrorKind.INVALID: BAD_REQUEST,
    ErrorKind.UNAUTHENTICATED: UNAUTHORIZED,
    ErrorKind.FORBIDDEN: PERMISSION_DENIED,
    ErrorKind.NOT_FOUND: NOT_AVAILABLE,
    ErrorKind.CONFLICT: CONFLICT,
    ErrorKind.LIMITED: TOO_MANY_REQUESTS,
    ErrorKind.UNAVAILABLE: OVERLOADED,
}
SOCKET_BY_CODE = {
    error.name: error
    for error in (
        UNKNOWN_CHANNEL, UNKNOWN_OP, ALREADY_SUBSCRIBED, LIMIT_EXCEEDED, NOT_AVAILABLE, TOKEN_EXPIRED,
        UNRECOVERABLE_POSITION, ROOM_FULL, ROOM_CLOSED, BANNED, SEAT_EXPIRED, IDEMPOTENCY_MISMATCH,
        TIMEOUT_UNKNOWN_OUTCOME,
    )
}  # fmt: skip


def status_of(error: Exception) -> int:
    """Return the HTTP status of a package's error; 500 for anything else."""
    code, kind = getattr(error, "code", None), getattr(error, "kind", None)
    return STATUS_BY_CODE.get(str(code)) or STATUS_BY_KIND.get(str(kind), 500)


def socket_error_of(error: Exception) -> SocketError:
    """Return the socket's error of a package's error; `internal` for anything else."""
    code, kind = getattr(error, "code", None), getattr(error, "kind", None)
    return SOCKET_BY_CODE.get(str(code)) or SOCKET_BY_KIND.get(str(kind), INTERNAL)

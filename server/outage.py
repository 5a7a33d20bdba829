"""What an error of PostgreSQL or Valkey means to the caller: try again, come back later, or a request that does not fit."""

import contextlib
from collections.abc import Iterator

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, IntegrityError, TimeoutError as PoolTimeoutError

from server.errors import BadRequestError, ConflictError, OverloadedError, ServerError

log = structlog.get_logger()

# PostgreSQL, appendix A: serialization_failure, deadlock_detected, lock_not_available. The same transaction may
# succeed at once.
_AGAIN = frozenset({"40001", "40P01", "55P03"})
# Classes: connection exception, insufficient resources, operator intervention (also a statement that took too
# long), and the end of a transaction that was idle for too long.
_AWAY = ("08", "53", "57", "25P03")
_UNIQUE, _FOREIGN_KEY, _EXCLUSION = "23505", "23503", "23P01"


def state_of(error: BaseException) -> str:
    """Return PostgreSQL's five characters for an error, empty for one that is not its."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(original, "sqlstate", None) or "")


def is_disconnect(error: BaseException) -> bool:
    """Return whether the connection was lost, so that nobody knows what became of a commit."""
    was_cut = isinstance(error, DBAPIError) and error.connection_invalidated
    return was_cut or state_of(error).startswith(("08", "57P")) or isinstance(error, OSError)


def is_away(error: BaseException) -> bool:
    """Return whether the database is away, which is nobody's fault and passes."""
    return isinstance(error, PoolTimeoutError) or is_disconnect(error)


def may_succeed_again(error: BaseException) -> bool:
    """Return whether the whole transaction should be tried again."""
    state = state_of(error)
    # PostgreSQL reports a rare race between row locks as an internal error (billing.md §2.3).
    multixact = state == "XX000" and "multixact" in str(error)
    return state in _AGAIN or multixact or is_disconnect(error)


def refusal_of(error: BaseException) -> ServerError | None:
    """Return what the caller is told of an error of a part, None for a bug of ours."""
    state = state_of(error)
    if isinstance(error, RedisError) or is_away(error):
        return OverloadedError("A part of the server is away; try again in a moment.")
    if state in _AGAIN or state.startswith(_AWAY):
        return OverloadedError("The server is busy; try again in a moment.")
    if state.startswith("22"):
        return BadRequestError("A value is outside of what can be stored.")
    if isinstance(error, IntegrityError) and state in (_UNIQUE, _FOREIGN_KEY, _EXCLUSION):
        return ConflictError("This does not fit to what is there already.")
    return None


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Turn errors of PostgreSQL and Valkey into refusals.

    Raises:
        ServerError: A part is away or busy, or the request does not fit to what is stored.
    """
    try:
        yield
    except (DBAPIError, PoolTimeoutError, RedisError, OSError) as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        log.warning("part_refused", code=refusal.code, sqlstate=state_of(error), error=type(error).__name__)
        raise refusal from error

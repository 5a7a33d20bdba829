"""Errors as `application/problem+json` (RFC 9457, PROTOCOL 2): the same shape for every one, whoever raised it."""

import math
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, InternalServerException

from server.errors import FieldError, status_of

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
TRACE_ID = "fourtalk_trace_id"
"""Key of the ASGI scope under which the edge keeps the id of this request."""

# What Litestar itself refuses; the words come from here, so that none of its own internals get out.
_CODES = {
    HTTPStatus.NOT_FOUND: ("not_found", "There is nothing at this address."),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method_not_allowed", "This address does not know this method."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("payload_too_large", "The request is too large."),
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every error."""

    status: int
    title: str
    detail: str
    code: str
    """Stable, for programs."""
    trace_id: str
    """Names the request in the server's log."""
    errors: tuple[FieldError, ...] = ()
    """Every field that is wrong."""
    facts: dict[str, Any] = {}
    """What helps the caller of this code, e.g. `opens_at`."""


def problem_of(error: Exception, trace_id: str) -> Problem:
    """Return what a client is told of an error; a bug keeps its words to itself."""
    if isinstance(error, HTTPException):
        return _problem_of_litestar(error, trace_id)
    status = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _problem(status, "internal", "Something went wrong here.", trace_id)
    problem = _problem(status, str(getattr(error, "code", "")), str(error), trace_id)
    return msgspec.structs.replace(
        problem, errors=tuple(getattr(error, "errors", ())), facts=dict(getattr(error, "facts", None) or {})
    )


def encode(error: Exception, trace_id: str) -> tuple[int, bytes, dict[str, str]]:
    """Return status, body and headers of an error."""
    problem = problem_of(error, trace_id)
    return problem.status, msgspec.json.encode(problem), _headers(error, problem)


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer an error: Litestar's exception handler for everything."""
    trace_id = str(request.scope.get(TRACE_ID) or uuid4().hex)
    status, body, headers = encode(error, trace_id)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request_failed", path=request.scope["path"], trace_id=trace_id, exc_info=error)
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _problem_of_litestar(error: HTTPException, trace_id: str) -> Problem:
    # Litestar blames the server when the client goes away in the middle of its body.
    cut_off = isinstance(error, InternalServerException) and "disconnected" in error.detail
    status = HTTPStatus.BAD_REQUEST if cut_off else HTTPStatus(error.status_code)
    if status in _CODES:
        return _problem(status, *_CODES[status], trace_id)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _problem(status, "bad_request", "The request cannot be understood.", trace_id)
    return _problem(status, "internal", "Something went wrong here.", trace_id)


def _problem(status: int, code: str, detail: str, trace_id: str) -> Problem:
    return Problem(status, HTTPStatus(status).phrase, detail, code, trace_id)


def _headers(error: Exception, problem: Problem) -> dict[str, str]:
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException) and error.headers:
        headers |= {name: value for name, value in error.headers.items() if name.lower() == "allow"}
    retry_after_ms = problem.facts.get("retry_after_ms") or getattr(error, "retry_after_ms", None)
    if retry_after_ms is None and problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after_ms = 1_000
    if retry_after_ms is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_ms / 1000)))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return headers

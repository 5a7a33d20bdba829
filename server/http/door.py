"""The HTTP door: one route for each row of the command table, all made by one factory (PROTOCOL 2)."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler
from prometheus_client import Histogram

from server.context import Command, Context, Parts, Principal
from server.errors import UnauthenticatedError
from server.execute import check_guard, execute
from server.features.accounts import cookies
from server.http import problem
from server.integrations.geo import client_address
from server.request import decode_request

PREFIX = "/api/v1"
# The largest request of the contract is a course with its description, some 10 KB; a larger limit would only feed
# the parser of whoever attacks.
BODY_MAX = 64 * 1024

Authenticate = Callable[[str], Awaitable[Principal]]
Endpoint = Callable[[Request[Any, Any, Any]], Awaitable[Response[bytes]]]

SECONDS = Histogram(
    "fourtalk_http_seconds", "Time of an HTTP command, by operation and status", ["op", "status"]
)


def routes(table: Iterable[Command], parts: Parts, *, authenticate: Authenticate) -> list[HTTPRouteHandler]:
    """Return a route handler for each row that has a route.

    Args:
        table: The command table.
        parts: What handlers need.
        authenticate: Says who holds an access token.
    """
    return [_route(row, _endpoint(row, parts, authenticate)) for row in table if row.path is not None]


def _route(row: Command, endpoint: Endpoint) -> HTTPRouteHandler:
    assert row.method is not None, f"{row.op} has a path and no method"
    assert row.path is not None, f"{row.op} has no path"
    return HTTPRouteHandler(
        PREFIX + row.path.replace("}", ":str}"),
        http_method=row.method,
        name=row.op,
        status_code=row.status,
        request_max_body_size=BODY_MAX,
        include_in_schema=False,
    )(endpoint)


def _endpoint(row: Command, parts: Parts, authenticate: Authenticate) -> Endpoint:
    """Return the function that answers one row; nothing in it knows which."""

    async def endpoint(request: Request[Any, Any, Any]) -> Response[bytes]:
        start, status = time.perf_counter(), 500
        try:
            response = await _answer(row, parts, authenticate, request)
            status = response.status_code or row.status
        except Exception as error:
            status = problem.problem_of(error, "").status
            raise
        finally:
            SECONDS.labels(row.op, status).observe(time.perf_counter() - start)
        return response

    return endpoint


async def _answer(
    row: Command, parts: Parts, authenticate: Authenticate, request: Request[Any, Any, Any]
) -> Response[bytes]:
    principal = await _principal(row, authenticate, request.headers.get("authorization"))
    check_guard(row, principal)
    body = b"" if row.method == "GET" else await request.body()
    command = decode_request(row.request, cookies.body_of(row.op, body, request.cookies), _texts(request))
    ctx = Context(
        parts,
        principal,
        now=parts.clock.now(),
        address=client_address(request.scope, parts.settings.trusted_proxies),
        key=request.headers.get("idempotency-key"),
    )
    executed = await execute(row, ctx, command)
    if (file := executed.download) is not None:
        return Response(file.content, status_code=executed.status, media_type=file.type, headers=file.headers)
    headers = {"Idempotent-Replay": "true"} if executed.replayed else {}
    if cookie := cookies.header_of(row.op, executed.body, parts.settings):
        headers["Set-Cookie"] = cookie
    return Response(
        executed.body, status_code=executed.status, media_type="application/json", headers=headers
    )


async def _principal(row: Command, authenticate: Authenticate, header: str | None) -> Principal | None:
    """Return who asks. Where everybody may ask, a token that does not hold is nobody's and no error."""
    if header is None:
        return None
    try:
        return await authenticate(_bearer(header))
    except UnauthenticatedError:
        if row.guard == "public":
            return None
        raise


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("Expected `Authorization: Bearer <access token>`.")
    return token.strip()


def _texts(request: Request[Any, Any, Any]) -> Mapping[str, str]:
    """Return the values of query and path; the path's win."""
    query = {name: values[-1] for name, values in request.query_params.dict().items()}
    return query | request.path_params

"""What every HTTP answer has, whoever gives it: trace id, security headers, CORS, and the limit of requests (B-03)."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog

from server.config import Settings
from server.errors import LimitedError
from server.http import problem
from server.http.limits import Limiter, Verdict, rules_of
from server.integrations.geo import client_address

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# An API answer is no page: a browser that is made to show one shows it without any power. Pages bring their own
# policies, which win.
SECURITY: Headers = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload")
# B-03: a preflight is asked again after ten minutes.
PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, Accept, Idempotency-Key"),
    (b"access-control-max-age", b"600"),
]
EXPOSED = (
    b"access-control-expose-headers",
    b"X-Trace-Id, Idempotent-Replay, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset",
)


class Edge:
    """The outermost ASGI application of HTTP; sockets to nowhere pass through untouched."""

    def __init__(self, app: ASGIApp, *, settings: Settings, limiter: Limiter) -> None:
        self._app = app
        self._settings = settings
        self._limiter = limiter
        self._origins = frozenset(origin.encode() for origin in settings.allowed_origins)
        self._security = SECURITY + ([HSTS] if settings.public_url.startswith("https:") else [])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on and add the headers to what comes back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace_id = uuid4().hex
        scope[problem.TRACE_ID] = trace_id
        origin = _header(scope, b"origin")
        headers: Headers = [(b"x-trace-id", trace_id.encode()), *self._security, *self._cors(origin)]
        with structlog.contextvars.bound_contextvars(trace_id=trace_id):
            if scope["method"] == "OPTIONS" and _header(scope, b"access-control-request-method") is not None:
                await _answer(send, 204, b"", headers + (PREFLIGHT if origin in self._origins else []))
                return
            verdict = await self._verdict(scope)
            if verdict is not None:
                headers += verdict.headers
            if verdict is None or verdict.allowed:
                await self._app(scope, receive, _adding(send, headers))
            else:
                await _refuse(send, verdict, trace_id, headers)

    def _cors(self, origin: bytes | None) -> Headers:
        # The answer depends on the origin even where it allows none: a cache must not mix them up.
        vary = (b"vary", b"Origin")
        if origin is None or origin not in self._origins:
            return [vary]
        allow = (b"access-control-allow-origin", origin)
        return [vary, allow, (b"access-control-allow-credentials", b"true"), EXPOSED]

    async def _verdict(self, scope: Scope) -> Verdict | None:
        rules = rules_of(scope["path"]) if self._settings.rate_limits else ()
        if not rules:
            return None
        return await self._limiter.take(rules, client_address(scope, self._settings.trusted_proxies))


def _header(scope: Mapping[str, Any], name: bytes) -> bytes | None:
    return next((value for header, value in scope["headers"] if header == name), None)


def _adding(send: Send, headers: Headers) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message["headers"])
            names = {name.lower() for name, _ in own}
            message["headers"] = own + [header for header in headers if header[0] not in names]
        await send(message)

    return send_with_headers


async def _refuse(send: Send, verdict: Verdict, trace_id: str, headers: Headers) -> None:
    error = LimitedError(
        f"More than {verdict.rule.requests} requests a minute; try again later.",
        retry_after_s=verdict.reset_s,
    )
    status, body, own = problem.encode(error, trace_id)
    content_type = (b"content-type", problem.MEDIA_TYPE.encode())
    own_headers = [(name.lower().encode(), value.encode()) for name, value in own.items()]
    await _answer(send, status, body, [content_type, *own_headers, *headers])


async def _answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    length = [] if status == HTTPStatus.NO_CONTENT else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})

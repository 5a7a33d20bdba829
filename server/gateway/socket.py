"""The route `/ws`: the handshake, then the gateway takes over.

It is an ASGI application of its own beside the framework: what a framework does for a request, finding its route,
wrapping it, reading its headers into objects, costs a connection more than all that is asked of it here.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from server.gateway.gateway import Gateway
from server.gateway.protocol import CODECS, JSON_SUBPROTOCOL, CloseCode
from server.gateway.wire import EXTENSION, Wire

Scope: TypeAlias = Mapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

PATH = "/ws"


def _peer_of(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


def with_sockets(
    app: ASGIApp, gateway: Gateway, *, address_of: Callable[[Scope], str | None] = _peer_of
) -> ASGIApp:
    """Return an application that serves `/ws`, and leaves everything else to `app`.

    uvicorn must run it with `ws=wire.protocol_class()`. `address_of` says where the request of an ASGI scope came from;
    by default it is the other end of the connection.
    """

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket" and scope["path"] == PATH:
            await receive()  # `websocket.connect`, which says nothing
            await _serve_socket(gateway, scope, send, address_of)
        else:
            await app(scope, receive, send)

    return serve


async def _serve_socket(
    gateway: Gateway, scope: Scope, send: Send, address_of: Callable[[Scope], str | None]
) -> None:
    if gateway.is_draining:
        await _refuse(send, 503)
        return
    wire: Wire = scope["extensions"][EXTENSION]
    offered = scope["subprotocols"]
    chosen = next((name for name in offered if name in CODECS), None)
    # A browser fails a handshake in which none of its subprotocols is chosen and never sees the close code, so the
    # first one is echoed before the refusal.
    await send({"type": "websocket.accept", "subprotocol": chosen or (offered[0] if offered else None)})
    if not _is_allowed(gateway, scope["headers"]):
        wire.close(CloseCode.FORBIDDEN, "origin refused")
    elif offered and chosen is None:
        wire.close(CloseCode.PROTOCOL_VERSION, "no such subprotocol")
    else:
        gateway.serve(wire, CODECS[chosen or JSON_SUBPROTOCOL], address=address_of(scope))
    await wire.hold()


def _is_allowed(gateway: Gateway, headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether the page may connect. Only browsers send an Origin, and they cannot leave it out."""
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    return all(origin in gateway.origins for origin in origins)


async def _refuse(send: Send, status: int) -> None:
    """Answer the handshake with an HTTP status (ASGI extension `websocket.http.response`)."""
    headers = [(b"retry-after", b"1")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b""})

"""The route `/ws`: the handshake, then the gateway takes over."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from litestar import WebSocket as LitestarWebSocket, websocket
from litestar.handlers import WebsocketRouteHandler

from server.gateway.gateway import Gateway
from server.gateway.protocol import CODECS, JSON_SUBPROTOCOL, CloseCode, Codec
from server.gateway.wire import EXTENSION, Wire

WebSocket: TypeAlias = LitestarWebSocket[Any, Any, Any]
Scope: TypeAlias = Mapping[str, Any]


def _peer_of(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


def websocket_route(
    gateway: Gateway, path: str = "/ws", *, address_of: Callable[[Scope], str | None] = _peer_of
) -> WebsocketRouteHandler:
    """Return the handler that `server/app.py` mounts; uvicorn must run with `ws=wire.protocol_class()`.

    `address_of` says where the request of an ASGI scope came from; by default it is the other end of the connection.
    """

    @websocket(path)
    async def serve_socket(socket: WebSocket) -> None:
        if gateway.is_draining:
            await _refuse(socket, 503)
            return
        wire = _wire_of(socket)
        offered = socket.scope["subprotocols"]
        chosen = next((name for name in offered if name in CODECS), None)
        # A browser fails a handshake in which none of its subprotocols is chosen and never sees the close code, so
        # the first one is echoed before the refusal.
        await socket.accept(subprotocols=chosen or (offered[0] if offered else None))
        if not _is_allowed(gateway, socket.headers):
            wire.close(CloseCode.FORBIDDEN, "origin refused")
        elif offered and chosen is None:
            wire.close(CloseCode.PROTOCOL_VERSION, "no such subprotocol")
        else:
            codec: Codec = CODECS[chosen or JSON_SUBPROTOCOL]
            gateway.serve(wire, codec, address=address_of(cast("Scope", socket.scope)))
        await wire.hold()

    return serve_socket


def _is_allowed(gateway: Gateway, headers: Mapping[str, str]) -> bool:
    """Return whether the page may connect. Only browsers send an Origin, and they cannot leave it out."""
    origin = headers.get("origin")
    return origin is None or origin in gateway.origins


def _wire_of(socket: WebSocket) -> Wire:
    extensions = cast("dict[str, Any]", socket.scope["extensions"])
    wire: Wire = extensions[EXTENSION]
    return wire


async def _refuse(socket: WebSocket, status: int) -> None:
    """Answer the handshake with an HTTP status (ASGI extension `websocket.http.response`)."""
    start = {"type": "websocket.http.response.start", "status": status, "headers": [(b"retry-after", b"1")]}
    await socket.send(cast("Any", start))
    await socket.send(cast("Any", {"type": "websocket.http.response.body", "body": b""}))

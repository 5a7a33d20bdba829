"""The HTTP engine: uvicorn's httptools protocol class, with an end for requests that do not come.

Given to uvicorn as `http=`. uvicorn 0.54 waits for ever for the rest of a request, and takes a head of any size; who
sends half a request costs a descriptor and memory until the process ends. The handshake of a WebSocket is a request
too; from its head on, the gateway's own limits hold.
"""

import asyncio
import socket
from typing import Any, Final
from weakref import WeakKeyDictionary

import structlog
from prometheus_client import Counter
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

log = structlog.get_logger()

# The largest request has 64 KiB, which a phone on the edge of its network (50 kbit/s) sends in 11 s. Less would refuse
# that phone; more would only lengthen what is held for those who never finish.
REQUEST_S: Final = 15.0
# A token, some cookies and what proxies add are 4 KiB; nginx, too, takes 32 KiB at most.
HEAD_BYTES: Final = 32 * 1024
# A body above the door's limit is refused with 413 and the rest of it dropped; up to here its sender reads the answer.
REQUEST_BYTES: Final = 1024 * 1024
# Connections without a whole request, each a descriptor and some 10 KiB. A healthy client needs two round trips (0.4 s
# on a bad line), so there is room for 2,500 new ones a second; above it the one that has waited longest gives way.
UNFINISHED_MAX: Final = 1_024
# Sent and unacknowledged for longer than this: the other end has gone, or reads nothing of its answer any more.
USER_TIMEOUT_MS: Final = 30_000

CLOSES = Counter(
    "fourtalk_http_closes", "HTTP connections closed without a whole request, by cause", ["cause"]
)

_unfinished: WeakKeyDictionary[ServerState, dict["HttpConnection", None]] = WeakKeyDictionary()


class HttpConnection(HttpToolsProtocol):
    """uvicorn's protocol class; a request is whole in time and within bounds, or its connection is closed."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._others = _unfinished.setdefault(server_state, {})
        self._deadline: asyncio.TimerHandle | None = None
        self._is_in_request = False
        self._is_in_head = False
        self._size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Expect a request from now on."""
        super().connection_made(transport)
        raw = transport.get_extra_info("socket")
        if raw.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._settle()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        if not self._is_in_request:
            return
        # Requests that come whole, nearly all, never get here and cost no timer.
        self._size += len(data)
        if self._deadline is None:
            self._expect()
        if self._size > (HEAD_BYTES if self._is_in_head else REQUEST_BYTES):
            self.give_up("size")

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        super().on_message_begin()
        self._is_in_request = self._is_in_head = True
        self._size = 0

    def on_headers_complete(self) -> None:
        """Note that a body may follow."""
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._is_in_request = False
        self._settle()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request."""
        CLOSES.labels("garbage").inc()
        super().send_400_response(msg)

    def give_up(self, cause: str) -> None:
        """Close the connection at once."""
        self._settle()
        CLOSES.labels(cause).inc()
        log.debug("http_connection_given_up", cause=cause)
        # Not `close`, which would wait for a peer that takes nothing.
        self.transport.abort()

    def _expect(self) -> None:
        if len(self._others) >= UNFINISHED_MAX:
            next(iter(self._others)).give_up("crowd")
        self._others[self] = None
        self._deadline = self.loop.call_later(REQUEST_S, self.give_up, "time")

    def _settle(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._others.pop(self, None)

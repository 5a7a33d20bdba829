"""The WebSocket engine: uvicorn's sans-I/O protocol class, with what ASGI cannot say.

Given to uvicorn as `ws=`. ASGI offers one awaited frame at a time and no way out of a peer that stops reading; this
class writes prebuilt frames straight to the transport, once per loop tick, and can abort (`reference`: RFC 6455;
uvicorn 0.54 `WebSocketsSansIOProtocol`). A faster engine can take its place: everything else knows only `Wire`.
"""

import asyncio
import fcntl
import socket
import sys
import termios
from typing import Any, Final, Protocol, cast
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import InvalidState
from websockets.frames import CloseCode as RfcCloseCode
from websockets.server import ServerProtocol

from server.gateway.protocol import CloseCode, close_frame

EXTENSION: Final = "fourtalk.wire"

# What the transport may hold before it says stop: two full frames of ours. Less would pause healthy readers on a
# long line, more is memory for every stuck one.
WRITE_BUFFER_BYTES = 64 * 1024
# Linux doubles the value, so the kernel holds 256 KiB; by itself it grows to 4 MiB for each reader that is stuck.
SEND_BUFFER_BYTES = 128 * 1024
# Sent and unacknowledged for longer than this: the host is gone, and the kernel may say so.
USER_TIMEOUT_MS = 30_000
# The gateway refuses frames above its own limit with a code; up to here a frame is read whole so that the client
# gets to see that code, above it the parser stops.
MAX_MESSAGE_BYTES = 64 * 1024
# After a fatal frame, what the peer still sends is read and dropped for this long: closing at once would reset the
# connection, and the peer would never see why.
LINGER_S = 1.0
# After a close frame the peer has this long to answer it, then the transport is aborted.
CLOSE_S = 3.0


class Peer(Protocol):
    """Who listens to a wire."""

    def received(self, message: bytes) -> None:
        """Take one whole message; must not block."""

    def paused(self) -> None:
        """The transport is full: what is written now waits in memory."""

    def resumed(self) -> None:
        """The transport takes more."""

    def lost(self, code: int) -> None:
        """The connection is gone; `code` is the first close code either side sent, 1006 if none."""


class Wire(Protocol):
    """One WebSocket, after its handshake."""

    @property
    def buffered(self) -> int:
        """Return how many bytes wait in the transport."""

    @property
    def taken(self) -> int:
        """Return how many bytes the peer's host has taken so far; it stands still while the peer reads nothing."""

    def listen(self, peer: Peer) -> None:
        """Send what comes in to `peer` from now on, beginning with what has come already."""

    def write(self, frame: bytes) -> None:
        """Send a prebuilt frame at the end of this loop tick, in order. Never blocks; nothing happens once closed."""

    def flush(self) -> None:
        """Send now what was written in this tick; may call `Peer.paused` before it returns."""

    def close(self, code: int, reason: str) -> None:
        """Send what was written and a close frame; abort when the peer does not answer in time."""

    def abort(self) -> None:
        """Drop the connection and what waits in it."""

    async def closed(self) -> None:
        """Wait for the end."""


class _Tick:
    """The wires of one event loop that have something to write; all of them in one callback."""

    __slots__ = ("loop", "wires")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.wires: list[FourtalkWire] = []

    def add(self, wire: "FourtalkWire") -> None:
        if not self.wires:
            self.loop.call_soon(self.flush)
        self.wires.append(wire)

    def flush(self) -> None:
        wires, self.wires = self.wires, []
        for wire in wires:
            wire.flush()


_ticks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Tick] = WeakKeyDictionary()


class FourtalkWire(WebSocketsSansIOProtocol):
    """uvicorn's protocol class as a `Wire`; the handler finds it in `scope["extensions"][EXTENSION]`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # No permessage-deflate: a frame compressed for one receiver cannot be shared with the others. No pings:
        # the gateway's heartbeat also notices a page whose JavaScript is stuck.
        self.conn = ServerProtocol(extensions=[], max_size=MAX_MESSAGE_BYTES, logger=self.logger)
        self.ping_interval = None
        self._peer: Peer | None = None
        self._out: list[bytes] = []
        self._written = 0
        self._close_code: int | None = None
        self._end: asyncio.Future[None] = self.loop.create_future()
        self._abort_timer: asyncio.TimerHandle | None = None
        self._tick = _ticks.get(self.loop) or _ticks.setdefault(self.loop, _Tick(self.loop))

    # --- Wire ---

    @property
    def buffered(self) -> int:
        """See `Wire`."""
        return self.transport.get_write_buffer_size()

    @property
    def taken(self) -> int:
        """See `Wire`. The kernel accepts more only in steps of a third of its buffer, so what it holds counts too."""
        return self._written - self.transport.get_write_buffer_size() - self._unacknowledged()

    def listen(self, peer: Peer) -> None:
        """See `Wire`."""
        self._peer = peer
        while not self.queue.empty():
            message = cast("dict[str, Any]", self.queue.get_nowait())
            data = message.get("bytes")
            if data is None and "text" in message:
                data = message["text"].encode()
            if data is not None:
                peer.received(data)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def write(self, frame: bytes) -> None:
        """See `Wire`."""
        if not self._out:
            self._tick.add(self)
        self._out.append(frame)

    def flush(self) -> None:
        """Write everything of this tick with one call."""
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        if not self.close_sent and not self.disconnected:
            self._written += len(data)
            self.transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """See `Wire`."""
        if self.close_sent or self.disconnected:
            return
        self.flush()
        if self._close_code is None:
            self._close_code = code
        try:
            self.conn.send_close(code, reason)
        except InvalidState:
            self.abort()
            return
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        # The base class closes the transport on the peer's answer only when this timer is set.
        self.close_timer = self._abort_after(CLOSE_S)

    def abort(self) -> None:
        """See `Wire`."""
        self._out.clear()
        self.transport.abort()

    async def closed(self) -> None:
        """See `Wire`."""
        await asyncio.shield(self._end)

    # --- What uvicorn calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound what one connection may hold in memory, here and in the kernel."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if raw.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the peer and whoever waits for the end."""
        super().connection_lost(exc)
        self._out.clear()
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        if not self._end.done():
            self._end.set_result(None)
        if self._peer is not None:
            self._peer.lost(self._close_code or RfcCloseCode.ABNORMAL_CLOSURE)

    def pause_writing(self) -> None:
        """Pass it on; called inside `flush`, so never while somebody walks through a channel's members."""
        super().pause_writing()
        if self._peer is not None:
            self._peer.paused()

    def resume_writing(self) -> None:
        """Pass it on."""
        super().resume_writing()
        if self._peer is not None:
            self._peer.resumed()

    def handle_connect(self, event: Any) -> None:
        """Put this object into the scope; the application's task has not begun yet."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            cast("dict[str, Any]", self.scope["extensions"])[EXTENSION] = self

    def send_receive_event_to_app(self) -> None:
        """Hand a whole message to the peer at once: reading is never paused, so a slow command starves no heartbeat."""
        if self._peer is None:
            super().send_receive_event_to_app()
            return
        data = bytes(self.frames[0]) if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "text":
            try:
                data.decode()
            except UnicodeDecodeError:
                # RFC 6455 §8.1: a text message that is not UTF-8 ends the connection.
                self.close(RfcCloseCode.INVALID_DATA, "not UTF-8")
                return
        self._peer.received(data)

    def handle_close(self, event: Any) -> None:
        """Answer the peer's close; a peer that does not read even that is aborted."""
        if self._close_code is None and self.conn.close_rcvd is not None:
            self._close_code = self.conn.close_rcvd.code
        super().handle_close(event)
        self._abort_after(CLOSE_S)

    def handle_parser_exception(self) -> None:
        """Tell the peer what was wrong with its frame, then drop what it still sends."""
        if self.close_sent:
            return
        self.flush()
        output = b"".join(self.conn.data_to_send())
        code = self.conn.close_sent.code if self.conn.close_sent else RfcCloseCode.PROTOCOL_ERROR
        if code == RfcCloseCode.MESSAGE_TOO_BIG:
            code = CloseCode.FRAME_TOO_BIG
            output = close_frame(code, "frame too big")
        self._close_code = code
        self.transport.write(output)
        self.close_sent = True
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)
        self._abort_after(CLOSE_S)

    def _unacknowledged(self) -> int:
        """Return how many bytes the kernel holds for the peer (Linux: SIOCOUTQ); 0 where it cannot be asked."""
        raw = self.transport.get_extra_info("socket")
        try:
            answer = fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        except OSError:
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def _abort_after(self, delay_s: float) -> asyncio.TimerHandle:
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(delay_s, self._abort_now)
        return self._abort_timer

    def _abort_now(self) -> None:
        if not self.disconnected:
            self.abort()

"""A wire on uvicorn's own sans-I/O protocol class, for platforms that have no picows: the same, at twice the cost."""

import asyncio
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import InvalidState
from websockets.frames import CloseCode as RfcCloseCode
from websockets.server import ServerProtocol

from server.gateway.protocol import CLOSE_FRAME, CloseCode, frame_of
from server.gateway.wire import CLOSE_S, EXTENSION, LINGER_S, MAX_MESSAGE_BYTES, Peer, Sender, make_outlet


class UvicornWire(Sender, WebSocketsSansIOProtocol):
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
        self._close_code: int | None = None
        self._end: asyncio.Future[None] = self.loop.create_future()
        self._abort_timer: asyncio.TimerHandle | None = None

    # --- Wire ---

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

    async def hold(self) -> None:
        """See `Wire`: uvicorn's class hangs up when the application returns, so it must not."""
        await asyncio.shield(self._end)

    def close(self, code: int, reason: str) -> None:
        """See `Wire`."""
        if self.close_sent or self.disconnected:
            return
        self.outlet.flush()
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
        self.outlet.close()
        self.transport.abort()

    # --- What uvicorn calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the way out."""
        super().connection_made(transport)
        if self.transport.get_write_buffer_size():
            # An answer to a request before is still on its way: this is nobody who reads, and pauses would be missed.
            self.transport.abort()
        self.outlet = make_outlet(self.loop, self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the peer and whoever waits for the end."""
        self.outlet.close()
        super().connection_lost(exc)
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        if not self._end.done():
            self._end.set_result(None)
        if self._peer is not None:
            self._peer.lost(self._close_code or RfcCloseCode.ABNORMAL_CLOSURE)

    def pause_writing(self) -> None:
        """Pass it on; called while outlets are flushed, so never while somebody walks through a channel's members."""
        super().pause_writing()
        self.outlet.block()
        if self._peer is not None:
            self._peer.paused()

    def resume_writing(self) -> None:
        """Pass it on."""
        super().resume_writing()
        self.outlet.unblock()
        if self._peer is not None:
            self._peer.resumed()

    def handle_connect(self, event: Any) -> None:
        """Put this object into the scope; the application's task has not begun yet."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            cast("dict[str, Any]", self.scope["extensions"])[EXTENSION] = self

    def handle_ping(self) -> None:
        """Answer, but for a peer that does not read: what cannot be sent must not pile up."""
        pong = b"".join(self.conn.data_to_send())
        if not self.buffered:
            self.outlet.write(pong)

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
        self.outlet.flush()
        super().handle_close(event)
        self._abort_after(CLOSE_S)

    def handle_parser_exception(self) -> None:
        """Tell the peer what was wrong with its frame, then drop what it still sends."""
        if self.close_sent:
            return
        self.outlet.flush()
        output = b"".join(self.conn.data_to_send())
        code = self.conn.close_sent.code if self.conn.close_sent else RfcCloseCode.PROTOCOL_ERROR
        if code == RfcCloseCode.MESSAGE_TOO_BIG:
            code = CloseCode.FRAME_TOO_BIG
            output = frame_of(CLOSE_FRAME, code.to_bytes(2, "big") + b"frame too big")
        self._close_code = code
        self.transport.write(output)
        self.close_sent = True
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)
        self._abort_after(CLOSE_S)

    def _abort_after(self, delay_s: float) -> asyncio.TimerHandle:
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(delay_s, self._abort_now)
        return self._abort_timer

    def _abort_now(self) -> None:
        if not self.disconnected:
            self.abort()

"""A wire whose frames are parsed by picows, in C.

uvicorn makes an `Upgrade` when it has parsed an upgrade request, and hands the request on as bytes. It runs the
application, and when that accepts, a picows `WSProtocol` becomes the transport's protocol, answers the handshake and
calls `PicowsWire.on_ws_frame` inside the read callback. What picows leaves to its users of RFC 6455 is here: reserved
bits, fragments, the size of whole messages, UTF-8, and the way a connection ends.
"""

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import structlog
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # its stub leaves it out
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected, get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from server.gateway.protocol import BINARY_FRAME, PONG_FRAME, TEXT_FRAME, CloseCode, frame_of
from server.gateway.wire import CLOSE_S, EXTENSION, LINGER_S, MAX_MESSAGE_BYTES, Peer, Sender, make_outlet

log = structlog.get_logger()

Event = dict[str, Any]

# Messages that may wait for an ASGI application before the socket is read no further.
QUEUE = 32
# picows reads into a buffer of its own and doubles it for what does not fit; this is its least size.
READ_BUFFER_BYTES = 2048
CLOSE_CODE_MAX = 4999

_TEXT, _BINARY, _CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
_CLOSE, _PING = WSMsgType.CLOSE, WSMsgType.PING


class PicowsWire(Sender, WSListener):
    """One connection, as long as it lives. Everything in it is called by the transport or picows, nothing awaits."""

    __slots__ = (
        "_abort_timer", "_close_code", "_connections", "_engine", "_is_closing", "_is_lost", "_loop", "_parts",
        "_parts_kind", "_parts_size", "_peer", "is_held", "is_lingering", "is_text", "outlet", "transport",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, connections: set[Any]
    ) -> None:
        self._loop = loop
        self._connections = connections
        self._engine: Any = None
        self._peer: Peer | None = None
        self._parts: list[bytes] | None = None
        self._parts_kind: WSMsgType = _TEXT
        self._parts_size = 0
        self._abort_timer: asyncio.TimerHandle | None = None
        self._close_code: int | None = None
        self._is_closing = False
        self._is_lost = False
        self.is_held = False
        self.is_lingering = False
        """A fatal frame came: the peer is being told why, and must not be reset before it has read that."""
        self.is_text = True
        """Whether the message that the peer just got came in a text frame."""
        self.transport = transport
        self.outlet = make_outlet(loop, transport)

    # --- Wire ---

    def listen(self, peer: Peer) -> None:
        """See `Wire`."""
        before, self._peer = self._peer, peer
        if isinstance(before, Upgrade):
            for message in before.given_up():
                peer.received(message)

    async def hold(self) -> None:
        """See `Wire`: the application may return, and its task and scope go."""
        self.is_held = True

    def close(self, code: int, reason: str) -> None:
        """See `Wire`."""
        if self._is_closing or self._is_lost:
            return
        self._is_closing = True
        self._close_code = self._close_code or code
        self.outlet.flush()
        # picows has to know that it is said, or it would say another thing about a bad frame that follows.
        self._engine.transport.send_close(code, reason.encode()[:120])
        self.outlet.close()  # RFC 6455 §5.5.1: nothing follows a close frame
        self._abort_after(CLOSE_S)

    def abort(self) -> None:
        """See `Wire`."""
        self.outlet.close()
        self.transport.abort()

    # --- Called by `Upgrade` and uvicorn ---

    def begin(self, peer: Peer, request: bytes, response: WSUpgradeResponse) -> bool:
        """Answer a handshake; return False if picows refused it, and has said so and hung up.

        Args:
            peer: Gets what comes in until somebody else listens.
            request: The request as it came, and what came after it.
            response: 101, with our headers.
        """
        self._peer = peer
        answer = WSUpgradeResponseWithListener(response, self)
        self._engine = engine = _engine(self, lambda _: answer)
        engine.connection_made(_Underlying(self, self.transport))
        rest = request
        while rest:
            room = engine.get_buffer(-1)
            size = min(len(room), len(rest))
            room[:size], rest = rest[:size], rest[size:]
            engine.buffer_updated(size)
        answered = engine.transport.response
        if answered is None or answered.status != HTTPStatus.SWITCHING_PROTOCOLS:
            return False
        if not self.is_lingering:  # else what came before the answer was fatal, and the rest is dropped
            self.transport.set_protocol(engine)
        # Headers live as long as the connection otherwise: a kilobyte or two with a browser's.
        engine.transport.request.headers.clear()
        answered.headers.clear()
        return True

    def shutdown(self) -> None:
        """End the connection: the server stops (uvicorn)."""
        self.close(WSCloseCode.SERVICE_RESTART.value, "")

    # --- Called by picows ---

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame."""
        del transport
        kind = frame.msg_type
        if self._is_closing and kind is not _CLOSE:
            return
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.fail(WSCloseCode.PROTOCOL_ERROR.value, "reserved bit set")
        elif kind is _TEXT or kind is _BINARY:
            if self._parts is not None:
                self.fail(WSCloseCode.PROTOCOL_ERROR.value, "data frame inside a fragmented message")
            elif frame.fin:
                self._take(kind, frame.get_payload_as_bytes())
            else:
                self._parts, self._parts_kind = [frame.get_payload_as_bytes()], kind
                self._parts_size = frame.payload_size
        elif kind is _CONTINUATION:
            self._continue(frame)
        elif kind is _PING:
            # Who does not read gets no pong either: what cannot be sent must not pile up.
            if not self.buffered:
                self.outlet.write(frame_of(PONG_FRAME, frame.get_payload_as_bytes()))
        elif kind is _CLOSE:
            self._closed(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell the peer that the connection is gone."""
        del transport
        self.lose()

    def pause_writing(self) -> None:
        """Pass it on; called while outlets are flushed, so never while somebody walks through a channel's members."""
        self.outlet.block()
        if self._peer is not None:
            self._peer.paused()

    def resume_writing(self) -> None:
        """Pass it on."""
        self.outlet.unblock()
        if self._peer is not None:
            self._peer.resumed()

    def lose(self) -> None:
        """Forget everything: the socket is gone."""
        if self._is_lost:
            return
        self._is_lost = True
        self.outlet.close()
        self._connections.discard(self)
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        if self._peer is not None:
            self._peer.lost(self._close_code or WSCloseCode.ABNORMAL_CLOSURE.value)
            self._peer = None

    def fail(self, code: int, reason: str) -> None:
        """Tell the peer what was wrong with its frame, then drop what it still sends."""
        if self._is_closing or self._is_lost:
            return
        self.close(code, reason)
        self._parts = None
        self.is_lingering = True
        self.transport.set_protocol(_Drain(self._engine))
        self._loop.call_later(LINGER_S, self.transport.close)

    def _take(self, kind: WSMsgType, data: bytes) -> None:
        self.is_text = kind is _TEXT
        if self.is_text and not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                # RFC 6455 §8.1: a text message that is not UTF-8 ends the connection.
                self.fail(WSCloseCode.INVALID_TEXT.value, "not UTF-8")
                return
        assert self._peer is not None, "an engine that runs has a peer"
        self._peer.received(data)

    def _continue(self, frame: WSFrame) -> None:
        if self._parts is None:
            self.fail(WSCloseCode.PROTOCOL_ERROR.value, "continuation without a start")
            return
        self._parts_size += frame.payload_size
        if self._parts_size > MAX_MESSAGE_BYTES:
            self.fail(CloseCode.FRAME_TOO_BIG, "frame too big")
            return
        self._parts.append(frame.get_payload_as_bytes())
        if frame.fin:
            parts, self._parts = self._parts, None
            self._take(self._parts_kind, b"".join(parts))

    def _closed(self, frame: WSFrame) -> None:
        """Answer the peer's close, or take its answer to ours; the server hangs up (RFC 6455 §7.1.1)."""
        if not self._is_closing:
            self._is_closing = True
            code = int(cast("Any", frame.get_close_code())) or WSCloseCode.OK.value
            # RFC 6455 §7.4.2: above 4999 nothing is defined.
            self._close_code = code if code <= CLOSE_CODE_MAX else WSCloseCode.PROTOCOL_ERROR.value
            self.outlet.flush()
            self._engine.transport.send_close(self._close_code, None)
            self.outlet.close()  # RFC 6455 §5.5.1: nothing follows a close frame
            self._abort_after(CLOSE_S)
        self.transport.close()

    def _abort_after(self, delay_s: float) -> None:
        if self._abort_timer is None:
            self._abort_timer = self._loop.call_later(delay_s, self.abort)


def _engine(wire: PicowsWire, answer: Any) -> Any:
    """Return picows' protocol for one connection of a server."""
    no_ping = (
        False,
        0,
        0,
        WSAutoPingStrategy.PING_WHEN_IDLE,
    )  # the gateway's heartbeat reaches the page itself
    return WSProtocol(
        None,
        None,
        False,  # noqa: FBT003 - picows takes positions only: a server
        answer,
        _EngineLog(wire),
        True,  # noqa: FBT003 - an exception of ours ends the connection
        None,  # the request is complete
        *no_ping,
        False,  # noqa: FBT003 - pongs are ours: picows would send them without end to a peer that does not read
        MAX_MESSAGE_BYTES,
        None,
        READ_BUFFER_BYTES,
    )


class _Underlying:
    """The transport as picows sees it: it hangs up 10 ms after a bad frame, which is before the peer knows why."""

    __slots__ = ("_wire", "abort", "get_extra_info", "get_write_buffer_size", "write", "writelines")

    def __init__(self, wire: PicowsWire, transport: asyncio.Transport) -> None:
        self._wire = wire
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.write = transport.write
        self.writelines = transport.writelines

    def close(self) -> None:
        """Hang up, unless the wire does so itself in a moment."""
        if not self._wire.is_lingering:
            self._wire.transport.close()


class _EngineLog:
    """What picows takes for a logger; it would make one a connection of a real one.

    Before picows ends a connection over a bad frame it logs why: the one moment to end it our way, with our code for
    frames that are too big, and without reading on for what would have been the rest of them.
    """

    __slots__ = ("_wire",)

    def __init__(self, wire: PicowsWire) -> None:
        self._wire = wire

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """Return that nothing needs to be put into words."""
        del level
        return False

    def debug(self, *args: object) -> None:
        """Say nothing; what happens to a connection is the gateway's to log."""

    info = warning = log = debug

    def error(self, message: str, *args: Any) -> None:
        """End the connection: the frame in hand cannot be parsed."""
        del message
        code, reason = args[0] if args and isinstance(args[0], tuple) else (WSCloseCode.PROTOCOL_ERROR, "")
        if code == WSCloseCode.MESSAGE_TOO_BIG:
            self._wire.fail(CloseCode.FRAME_TOO_BIG, "frame too big")
        else:
            self._wire.fail(int(code.value), str(reason))

    def exception(self, message: str, *args: object) -> None:
        """Log an error of ours, or of picows'; the connection ends."""
        log.error("engine_failed", what=message % args if args else message)


class _Drain(asyncio.BufferedProtocol):
    """Drops what a peer still sends after a fatal frame."""

    _trash = memoryview(bytearray(64 * 1024))

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._trash

    def buffer_updated(self, nbytes: int) -> None:
        """Nobody reads it."""

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine.connection_lost(exc)

    def pause_writing(self) -> None:
        self._engine.pause_writing()

    def resume_writing(self) -> None:
        self._engine.resume_writing()


class Upgrade(asyncio.Protocol):
    """A connection from uvicorn's upgrade until the application accepts or refuses; then its ASGI side."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._request = b""
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._response: Event | None = None
        self._is_accepted = False
        self._is_answered = False
        self._is_lost = False

    # --- Called by uvicorn and the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the transport of uvicorn's HTTP protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._state.connections.add(cast("Any", self))

    def data_received(self, data: bytes) -> None:
        """Take the request and run the application; what a client sends before the answer is kept."""
        is_first = not self._request
        self._request += data
        if not is_first:
            if len(self._request) > MAX_MESSAGE_BYTES:
                self._transport.abort()  # nobody may talk before the answer; a little is patience
            return
        if self._transport.get_write_buffer_size():
            # An answer to a request before is still on its way: this is nobody who reads, and pauses would be missed.
            self._transport.abort()
        self._wire = PicowsWire(self._loop, self._transport, cast("Any", self._state.connections))
        self._put({"type": "websocket.connect"})
        task = self._loop.create_task(self._run(self._scope(data)))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Notice the end before the application has answered."""
        del exc
        self._state.connections.discard(cast("Any", self))
        self._wire.lose()
        self.lost(WSCloseCode.ABNORMAL_CLOSURE.value)

    def pause_writing(self) -> None:
        """Nothing is written before the answer."""

    def resume_writing(self) -> None:
        """Nothing is written before the answer."""

    def shutdown(self) -> None:
        """End the connection: the server stops (uvicorn)."""
        self._answer(HTTPStatus.SERVICE_UNAVAILABLE, [], b"")

    # --- Peer of the wire, as long as nobody else listens ---

    def received(self, message: bytes) -> None:
        """See `Peer`."""
        content = {"text": message.decode()} if self._wire.is_text else {"bytes": message}
        self._put({"type": "websocket.receive", **content})
        if len(self._events) == QUEUE:
            self._transport.pause_reading()

    def paused(self) -> None:
        """See `Peer`."""
        self._writable.clear()

    def resumed(self) -> None:
        """See `Peer`."""
        self._writable.set()

    def lost(self, code: int) -> None:
        """See `Peer`."""
        self._is_lost = True
        self._writable.set()
        self._put({"type": "websocket.disconnect", "code": code})

    def given_up(self) -> list[bytes]:
        """Return the messages that came meanwhile, for who listens from now on."""
        events = [event for event in self._events if event["type"] == "websocket.receive"]
        if len(self._events) >= QUEUE:
            self._transport.resume_reading()
        self._events.clear()
        return [event["bytes"] if "bytes" in event else event["text"].encode() for event in events]

    # --- ASGI ---

    def _scope(self, request: bytes) -> Event:
        """Return the scope of a request that uvicorn has parsed and written anew, one header a line."""
        first, *lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
        target = first.split(b" ")[1]
        raw_path, _, query = target.partition(b"?")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        protocols = b",".join(value for name, value in headers if name == b"sec-websocket-protocol")
        root = self._config.root_path
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self._transport) else "ws",
            "server": get_local_addr(self._transport),
            "client": get_remote_addr(self._transport),
            "root_path": root,
            "path": root + unquote(raw_path.decode("ascii")),
            "raw_path": root.encode("ascii") + raw_path,
            "query_string": query,
            "headers": headers,
            "subprotocols": [name.strip() for name in protocols.decode("latin-1").split(",") if name.strip()],
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, EXTENSION: self._wire},
        }

    async def _run(self, scope: Event) -> None:
        code = WSCloseCode.OK
        try:
            await self._config.loaded_app(
                cast("Any", scope), cast("Any", self._receive), cast("Any", self._send)
            )
        except ClientDisconnected:
            pass
        except Exception:
            log.exception("websocket_failed")
            code = WSCloseCode.INTERNAL_ERROR
        if not self._is_accepted:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, [], b"")
        elif not self._wire.is_held:
            self._wire.close(code.value, "")

    def _put(self, event: Event) -> None:
        self._events.append(event)
        self._news.set()

    async def _receive(self) -> Event:
        while not self._events:
            self._news.clear()
            await self._news.wait()
        if len(self._events) == QUEUE and not self._is_lost:
            self._transport.resume_reading()
        return self._events.popleft()

    async def _send(self, event: Event) -> None:
        match event["type"], self._is_accepted:
            case "websocket.accept", False:
                self._accept(event)
            case "websocket.close", False:
                self._answer(HTTPStatus.FORBIDDEN, [], b"")
            case "websocket.http.response.start", False:
                self._response = event
            case "websocket.http.response.body", False if self._response is not None:
                start = self._response
                self._response = {**start, "body": start.get("body", b"") + event.get("body", b"")}
                if not event.get("more_body", False):
                    self._answer(start["status"], start.get("headers", []), self._response["body"])
            case "websocket.send", True:
                await self._writable.wait()
                if self._is_lost:
                    raise ClientDisconnected
                text = event.get("text")
                first, payload = (
                    (BINARY_FRAME, event["bytes"]) if text is None else (TEXT_FRAME, text.encode())
                )
                self._wire.outlet.write(frame_of(first, payload))
            case "websocket.close", True:
                self._wire.close(event.get("code", WSCloseCode.OK.value), event.get("reason") or "")
            case kind, _:
                raise RuntimeError(f"{kind} is not expected now")

    def _accept(self, event: Event) -> None:
        if self._is_lost or self._transport.is_closing():
            raise ClientDisconnected
        headers = [*self._state.default_headers, *event.get("headers", ())]
        decoded = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        if event.get("subprotocol"):
            decoded.append(("Sec-WebSocket-Protocol", event["subprotocol"]))
        self._is_accepted = True
        request, self._request = self._request, b""
        if not self._wire.begin(self, request, WSUpgradeResponse.create_101_response(decoded)):
            raise ClientDisconnected
        self._state.connections.discard(cast("Any", self))
        self._state.connections.add(cast("Any", self._wire))

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Refuse the upgrade with an HTTP answer."""
        if self._is_lost or self._is_accepted or self._is_answered:
            return
        self._is_answered = True
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        lines += [b"%s: %s" % header for header in headers]
        lines += [b"content-length: %d" % len(body), b"connection: close", b"", body]
        self._transport.write(b"\r\n".join(lines))
        self._transport.close()

"""RFC 6455 over raw sockets, on each engine, as a plain ASGI application and as the gateway's wire."""

import asyncio
import base64
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from litestar import Litestar, WebSocket, get, websocket
from litestar.exceptions import WebSocketDisconnect

from server.gateway.outlet import COMPILED, PythonTick, Tick, install
from server.gateway.picows_wire import Upgrade
from server.gateway.protocol import TEXT_FRAME, frame_of
from server.gateway.uvicorn_wire import UvicornWire
from server.gateway.wire import EXTENSION, MAX_MESSAGE_BYTES, Wire

TickType = Callable[[Callable[..., object]], Tick]
ENGINES: dict[str, tuple[type[Any], TickType]] = {
    "picows": (Upgrade, COMPILED or PythonTick),
    "picows-python": (Upgrade, PythonTick),
    "uvicorn": (UvicornWire, PythonTick),
}
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def masked(opcode: int, data: bytes, *, fin: bool = True, mask: bool = True, rsv: int = 0) -> bytes:
    """A client's frame."""
    size = len(data)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65_536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if not mask:
        return head + data
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(data))


class Raw:
    """A client that says exactly what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader, self.writer, self.head = reader, writer, head

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def frame(self) -> tuple[int, bytes]:
        """The first byte and the payload of the next frame; (0, b"") at the end."""
        async with asyncio.timeout(5):
            try:
                first, size = await self.reader.readexactly(2)
                if size == 126:
                    (size,) = struct.unpack("!H", await self.reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
                return first, await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0, b""

    async def close_code(self) -> int:
        """The code of the next close frame, whatever comes before it."""
        while True:
            first, payload = await self.frame()
            if first == 0x80 | CLOSE:
                code: int = struct.unpack("!H", payload[:2])[0]
                return code
            assert first, "the connection ended without a close frame"


class Listener:
    """Echoes whole messages as the gateway would: prebuilt frames."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.codes: list[int] = []

    def received(self, message: bytes) -> None:
        self.wire.outlet.write(frame_of(TEXT_FRAME, message))
        if message == b"close me":
            self.wire.close(4321, "as you wish")

    def paused(self) -> None:
        """Nothing is congested here."""

    def resumed(self) -> None:
        """Nothing is congested here."""

    def lost(self, code: int) -> None:
        self.codes.append(code)


class Served:
    def __init__(self, port: int) -> None:
        self.port = port
        self.listeners: list[Listener] = []
        self.uvicorn: uvicorn.Server | None = None

    @asynccontextmanager
    async def raw(
        self, path: str, *lines: str, key: bool = True, version: str = "13", early: bytes = b""
    ) -> AsyncIterator[Raw]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        secret = base64.b64encode(os.urandom(16)).decode()
        request = [
            f"GET {path} HTTP/1.1",
            "Host: here",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Version: {version}",
        ]
        request += [f"Sec-WebSocket-Key: {secret}"] if key else []
        writer.write("\r\n".join([*request, *lines, "", ""]).encode() + early)
        async with asyncio.timeout(5):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                head = error.partial
        try:
            yield Raw(reader, writer, head)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def serving(engine: str) -> AsyncIterator[Served]:
    """An ASGI echo at /asgi, a wire's echo at /wire, and refusals."""
    protocol, tick = ENGINES[engine]
    loop = asyncio.get_running_loop()
    install(loop, tick(loop.call_soon))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    served = Served(listener.getsockname()[1])

    @websocket("/asgi")
    async def asgi(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept(subprotocols="echo" if "echo" in socket.scope["subprotocols"] else None)
        try:
            while True:
                event: dict[str, Any] = dict(await socket.receive())
                if event["type"] == "websocket.disconnect":
                    return
                if event.get("text") is not None:
                    await socket.send_text(event["text"])
                else:
                    await socket.send_bytes(event["bytes"])
        except WebSocketDisconnect:
            return

    @websocket("/wire")
    async def wired(socket: WebSocket[Any, Any, Any]) -> None:
        extensions: Any = socket.scope["extensions"]
        wire: Wire = extensions[EXTENSION]
        await socket.accept()
        served.listeners.append(Listener(wire))
        wire.listen(served.listeners[-1])
        await wire.hold()

    @websocket("/refused")
    async def refused(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.close()

    @websocket("/crash")
    async def crash(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        raise RuntimeError("a bug")

    @get("/big", media_type="text/plain")
    async def big() -> bytes:
        return b"x" * 4_000_000

    app = Litestar([asgi, wired, refused, crash, big], openapi_config=None)
    config = uvicorn.Config(app, ws=protocol, lifespan="off", log_level="critical", access_log=False)
    server = served.uvicorn = uvicorn.Server(config)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        task = tasks.create_task(server._serve([listener]))
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        try:
            yield served
        finally:
            server.should_exit = server.force_exit = True
            await task


@pytest.fixture(params=ENGINES)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(request.param) as running:
        yield running


@pytest.fixture(params=["/asgi", "/wire"])
def path(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


async def test_messages_come_whole_and_in_order(served: Served, path: str) -> None:
    async with served.raw(path) as raw:
        raw.send(masked(TEXT, b"one"))
        one = await raw.frame()
        raw.send(masked(TEXT, b"tw", fin=False), masked(CONTINUATION, b"o"))
        two = await raw.frame()
        raw.send(masked(TEXT, b"thr", fin=False), masked(PING, b"?"), masked(CONTINUATION, b"ee"))
        three = {await raw.frame(), await raw.frame()}
        for byte in masked(TEXT, "vier ä".encode()):
            raw.send(bytes([byte]))
            await raw.writer.drain()
        four = await raw.frame()
        raw.send(*(masked(TEXT, b"%d" % number) for number in range(50)))
        many = [(await raw.frame())[1] for _ in range(50)]

    assert one == (0x81, b"one")
    assert two == (0x81, b"two")
    assert three == {(0x8A, b"?"), (0x81, b"three")}
    assert four == (0x81, "vier ä".encode())
    assert many == [b"%d" % number for number in range(50)]


async def test_binary_stays_binary_for_asgi(served: Served) -> None:
    async with served.raw("/asgi") as raw:
        raw.send(masked(BINARY, b"\xff\x00"))
        answer = await raw.frame()

    assert answer == (0x82, b"\xff\x00")


async def test_largest_message_passes(served: Served, path: str) -> None:
    async with served.raw(path) as raw:
        raw.send(masked(TEXT, b"x" * MAX_MESSAGE_BYTES))
        first, payload = await raw.frame()

    assert (first, len(payload)) == (0x81, MAX_MESSAGE_BYTES)


BAD: dict[str, tuple[list[bytes], int]] = {
    "unmasked": ([masked(TEXT, b"x", mask=False)], 1002),
    "reserved bit": ([masked(TEXT, b"x", rsv=4)], 1002),
    "stray continuation": ([masked(CONTINUATION, b"x")], 1002),
    "text inside a message": ([masked(TEXT, b"x", fin=False), masked(TEXT, b"y")], 1002),
    "reserved opcode": ([masked(3, b"x")], 1002),
    "fragmented ping": ([masked(PING, b"x", fin=False)], 1002),
    "long ping": ([masked(PING, b"x" * 126)], 1002),
    "close code that is never sent": ([masked(CLOSE, b"\x03\xed")], 1002),
    "half a close code": ([masked(CLOSE, b"\x03")], 1002),
    "not UTF-8": ([masked(TEXT, b"\xff")], 1007),
    "not UTF-8, in parts": ([masked(TEXT, b"\xc3", fin=False), masked(CONTINUATION, b"(")], 1007),
    "64 MiB": ([b"\x81\xff" + struct.pack("!Q", 64 << 20) + b"abcd" + b"x" * 9_000], 4009),
    "big in parts": ([masked(TEXT, b"x" * 40_000, fin=False), masked(CONTINUATION, b"x" * 40_000)], 4009),
}


async def test_bad_frame_ends_the_connection_with_its_code(served: Served) -> None:
    found: dict[str, tuple[int, tuple[int, bytes]]] = {}

    async def send(name: str, frames: list[bytes]) -> None:
        async with served.raw("/wire") as raw:
            raw.send(*frames)
            code = await raw.close_code()
            # What is sent after it is dropped, and neither answered nor reset before the code could be read.
            raw.send(masked(TEXT, b"still here?"))
            found[name] = code, await raw.frame()

    async with asyncio.TaskGroup() as tasks:
        for name, (frames, _) in BAD.items():
            tasks.create_task(send(name, frames))

    assert found == {name: (code, (0, b"")) for name, (_, code) in BAD.items()}


async def test_close_is_answered_and_the_server_hangs_up(served: Served, path: str) -> None:
    async with served.raw(path) as raw:
        raw.send(masked(TEXT, b"last"), masked(CLOSE, struct.pack("!H", 4444) + b"bye"))
        frames = [await raw.frame(), await raw.frame(), await raw.frame()]

    assert (0x88, struct.pack("!H", 4444)) in [(first, payload[:2]) for first, payload in frames]
    assert frames[-1] == (0, b"")
    assert path == "/asgi" or frames[0] == (0x81, b"last")


async def test_peer_hears_once_how_it_ended(served: Served) -> None:
    async with served.raw("/wire") as raw:
        raw.send(masked(CLOSE, struct.pack("!H", 4444)))
        await raw.close_code()
    async with served.raw("/wire") as raw:
        raw.send(masked(TEXT, b"close me"))
        said = [await raw.frame(), await raw.frame()]
        raw.send(masked(CLOSE, struct.pack("!H", 4321)))
        end = await raw.frame()
    async with served.raw("/wire") as raw:
        raw.writer.transport.abort()
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while [len(listener.codes) for listener in served.listeners] != [1, 1, 1]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    assert [listener.codes for listener in served.listeners] == [[4444], [4321], [1006]]
    assert said[0] == (0x81, b"close me")
    assert said[1] == (0x88, struct.pack("!H", 4321) + b"as you wish")
    assert end == (0, b"")


async def test_peer_that_answers_no_close_is_aborted(served: Served) -> None:
    async with served.raw("/wire") as raw:
        raw.send(masked(TEXT, b"close me"))
        await raw.close_code()
        end = await raw.frame()

    assert end == (0, b"")


async def test_who_reads_no_pongs_gets_none(served: Served) -> None:
    async with served.raw("/wire") as raw:
        raw.send(masked(TEXT, b"here"))
        await raw.frame()
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        wire = served.listeners[0].wire
        for _ in range(300):
            raw.send(*[masked(PING, b"x" * 125)] * 200)
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        kept = wire.buffered

    assert kept < 64 * 1024


async def test_handshake_is_checked(served: Served) -> None:
    async with served.raw("/wire", key=False) as raw:
        no_key = raw.head
    async with served.raw("/wire", version="12") as raw:
        old = raw.head
    async with served.raw("/refused") as raw:
        refused = raw.head
    async with served.raw("/nowhere") as raw:
        nowhere = raw.head

    assert no_key.startswith(b"HTTP/1.1 400")
    assert old.startswith((b"HTTP/1.1 400", b"HTTP/1.1 426"))
    assert refused.startswith(b"HTTP/1.1 403")
    assert not nowhere.startswith(b"HTTP/1.1 101")


async def test_compression_is_declined_and_a_subprotocol_named(served: Served) -> None:
    async with served.raw(
        "/asgi",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Protocol: other, echo",
    ) as raw:
        head = raw.head.lower()

    assert b"permessage-deflate" not in head
    assert b"sec-websocket-protocol: echo" in head


async def test_application_that_fails_is_closed_and_serves_on(served: Served) -> None:
    async with served.raw("/crash") as raw:
        end = await raw.frame()
    async with served.raw("/wire") as raw:
        raw.send(masked(TEXT, b"on"))
        answer = await raw.frame()

    assert end[1][:2] == struct.pack("!H", 4500)  # Litestar's own, for a bug in a handler
    assert answer == (0x81, b"on")


async def test_server_that_stops_says_so(served: Served) -> None:
    async with served.raw("/asgi") as asgi, served.raw("/wire") as wired:
        assert served.uvicorn is not None
        served.uvicorn.should_exit = True
        codes = [await asgi.close_code(), await wired.close_code()]

    assert codes == [1012, 1012]


async def test_held_connection_needs_no_task(served: Served) -> None:
    async with served.raw("/wire") as raw:
        raw.send(masked(TEXT, b"x"))
        await raw.frame()
        assert served.uvicorn is not None
        tasks = len(served.uvicorn.server_state.tasks)
        connections = len(served.uvicorn.server_state.connections)

    assert connections == 1
    assert tasks == (0 if ENGINES["picows"][0] is served.uvicorn.config.ws else 1)


async def test_upgrade_behind_an_answer_that_nobody_reads_is_refused(served: Served) -> None:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", served.port))
    request = "GET /{} HTTP/1.1\r\nHost: here\r\n{}\r\n"
    upgrade = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    await loop.sock_sendall(raw, request.format("big", "").encode())
    await asyncio.sleep(0.2)
    await loop.sock_sendall(raw, request.format("wire", upgrade).encode())
    got = bytearray()
    try:
        async with asyncio.timeout(5):
            while chunk := await loop.sock_recv(raw, 1 << 20):
                got += chunk
    except ConnectionError:
        pass
    raw.close()

    assert b" 101 " not in got
    assert not served.listeners


async def test_close_code_that_nobody_may_use_is_not_repeated(served: Served) -> None:
    async with served.raw("/wire") as raw:
        raw.send(masked(CLOSE, struct.pack("!H", 60_000)))
        code = await raw.close_code()

    assert code == (1002 if served.uvicorn is not None and served.uvicorn.config.ws is Upgrade else code)

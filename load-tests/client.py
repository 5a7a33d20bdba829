"""A WebSocket client that loads a server from one Python thread. Nothing but the standard library.

`Connection` is the slow half: handshake, requests and replies, parsed properly. `Pool` is the fast half: it owns
connections that are set up, reads them through one epoll, and counts events by a marker in the raw bytes instead of
parsing frames and JSON. The count is exact: several events in one frame or in one read are several markers, and a
marker that is cut by the end of a read is found when the rest comes.

Client frames carry the mask key 0, so that masking changes nothing and costs the client nothing; a server does the
same work for it as for any other key.
"""

import itertools
import json  # noqa: TID251 - no package but the standard library
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

READ_BYTES = 1 << 18
MAX_EVENTS = 512
# A connection that says nothing for so long is broken, and the run with it.
SILENCE_S = 30.0

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
HEARTBEAT = b"\x81\x02{}"

# Messages carry the time of sending as 16 digits behind STAMP. It doubles as the id of a request: 16 digits that
# begin with 1 stay below 2^53, and a number with leading zeros would not be JSON.
STAMP = b"@#@"
STAMP_DIGITS = 16
STAMP_BASE = 10**15
# One read in so many is looked into for its latency; a prime, so that it does not beat with the sizes of rooms.
SAMPLE_EVERY = 61

BRACE = ord("}")


class LostError(Exception):
    """The server closed a connection, or answered something that is not the protocol."""


class RefusedError(Exception):
    """The server answered a request with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('code')} {error.get('name')}: {error.get('message')}")
        self.code = int(error.get("code", 0))
        self.name = str(error.get("name"))
        self.retry_after_ms = int(error.get("retry_after_ms") or 0)


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one final client frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as compact JSON."""
    return json.dumps(message, separators=(",", ":")).encode()


def stamp_ns() -> int:
    """Return the time now, as it stands in messages."""
    return STAMP_BASE + time.monotonic_ns()


class Connection:
    """One socket to a server. Blocking with a time limit, until a pool takes it."""

    def __init__(self, host: str, port: int, path: str, *, subprotocol: str | None = None) -> None:
        self.sock = socket.create_connection((host, port), timeout=SILENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.events: list[dict[str, Any]] = []
        self._bytes = bytearray()
        self._ids = itertools.count(1)
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version: 13",
        ]
        if subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        self._upgraded()

    def close(self, *, abort: bool = False) -> None:
        """Close the socket without goodbye; with `abort` by a reset, as a crashed peer does."""
        if abort:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, op: str, *, ch: str | None = None, d: dict[str, Any] | None = None) -> int:
        """Send a request without waiting for its reply; return its id."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "op": op, "d": d or {}}
        if ch is not None:
            message["ch"] = ch
        self.sock.sendall(frame(encode(message)))
        return number

    def request(self, op: str, *, ch: str | None = None, d: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and return its reply; events that come meanwhile are kept in `events`.

        Raises:
            RefusedError: The reply is an error.
        """
        number = self.send(op, ch=ch, d=d)
        while True:
            for message in self.read():
                if message.get("id") != number:
                    self.events.append(message)
                elif "err" in message:
                    raise RefusedError(message["err"])
                else:
                    reply: dict[str, Any] = message["ok"]
                    return reply

    def read(self) -> list[dict[str, Any]]:
        """Return the messages of one read; heartbeats are answered here.

        Raises:
            LostError: The connection is closed.
        """
        chunk = self.sock.recv(READ_BYTES)
        if not chunk:
            raise LostError("the connection ended without a close frame")
        self._bytes += chunk
        messages: list[dict[str, Any]] = []
        for opcode, payload in self._frames():
            if opcode == TEXT:
                messages += [json.loads(line) for line in payload.split(b"\n")]
            elif opcode == PING:
                self.sock.sendall(frame(payload, PONG))
            elif opcode == CLOSE:
                raise LostError(_closed(payload))
        if {} in messages:
            self.sock.sendall(frame(b"{}"))
        return [message for message in messages if message]

    def _upgraded(self) -> None:
        while b"\r\n\r\n" not in self._bytes:
            chunk = self.sock.recv(READ_BYTES)
            if not chunk:
                raise LostError("the connection ended in the handshake")
            self._bytes += chunk
        head, _, rest = bytes(self._bytes).partition(b"\r\n\r\n")
        status = head.split(b"\r\n", 1)[0].decode(errors="replace")
        if " 101 " not in f"{status} ":
            raise LostError(f"the handshake was refused: {status}")
        self._bytes = bytearray(rest)

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Take the complete frames out of the buffer. Servers send final, unmasked ones."""
        data, at = self._bytes, 0
        while len(data) - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if len(data) < start + size:
                break
            yield data[at] & 0x0F, bytes(data[start : start + size])
            at = start + size
        del data[:at]


def _closed(payload: bytes) -> str:
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
    return f"the server closed the connection: {code} {payload[2:].decode(errors='replace')}".rstrip()


class Message:
    """A message of one sender, ready but for its stamp."""

    __slots__ = ("parts", "send")

    def __init__(self, connection: Connection, text: bytes) -> None:
        """`text` is the whole JSON text with STAMP_DIGITS question marks wherever the stamp goes."""
        # These sockets do not block: a server that takes nothing more ends the run with a BlockingIOError.
        self.send: Callable[[bytes], int] = connection.sock.send
        self.parts = frame(text).split(b"?" * STAMP_DIGITS)


class Room:
    """The people of one room under load.

    The last member is the pacer: whoever sees an event last decides when the next is sent. The others send in turn.
    The pacer never sends, so that the loop closes whether or not the server echoes to the sender.
    """

    def __init__(self, connections: Sequence[Connection], messages: Sequence[Message]) -> None:
        self.size = len(connections)
        self.pacer = connections[-1].sock.fileno()
        self.turns: Iterator[Message] = itertools.cycle(messages)


class Pool:
    """All connections of a run, of every server in it, read by one loop.

    `received` counts events since the pool was made, `latencies_ns` holds the sampled ones since it was last cleared.
    """

    def __init__(self, marker: bytes) -> None:
        assert b"}" not in marker, "the end of a message must not look like the beginning of a marker"
        self.marker = marker
        self.received = 0
        self.sent = 0
        self.latencies_ns: list[int] = []
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._readers: dict[int, Callable[[bytearray], int]] = {}
        self._buffer = bytearray(READ_BYTES)
        self._cut: dict[int, bytes] = {}
        self._pacers: dict[int, Iterator[Message]] = {}
        self._reads = 0

    def add(self, connection: Connection) -> None:
        """Take a connection over; it is read here from now on."""
        fd = connection.sock.fileno()
        connection.sock.settimeout(0)
        self._connections[fd] = connection
        self._readers[fd] = connection.sock.recv_into
        self._epoll.register(fd, select.EPOLLIN)

    def idle(self, seconds: float) -> None:
        """Read, and answer heartbeats, for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.turn(left)

    def until_quiet(self, quiet_s: float, limit_s: float) -> None:
        """Read until no event has come for `quiet_s`, at most `limit_s`."""
        end = time.monotonic() + limit_s
        quiet_at = time.monotonic() + quiet_s
        while (now := time.monotonic()) < min(end, quiet_at):
            before = self.received
            self.turn(quiet_at - now)
            if self.received != before:
                quiet_at = time.monotonic() + quiet_s

    def drain(self, received: int, limit_s: float) -> None:
        """Read until so many events have been received in all, at most `limit_s`."""
        end = time.monotonic() + limit_s
        while self.received < received and (left := end - time.monotonic()) > 0:
            self.turn(left)

    def pace(self, rooms: Sequence[Room], in_flight: int) -> None:
        """Begin a closed loop: every room gets `in_flight` messages, and one more for each that comes through."""
        self._pacers = {room.pacer: room.turns for room in rooms}
        for _ in range(in_flight):
            for room in rooms:
                self.send(room)
            self.turn(0)

    def stop(self) -> None:
        """End the closed loop: what is in flight arrives, nothing is sent for it."""
        self._pacers = {}

    def send(self, room: Room, at_ns: int | None = None) -> None:
        """Send the next message of a room, stamped with now or with the time it was due."""
        message = next(room.turns)
        message.send((b"%d" % (at_ns or stamp_ns())).join(message.parts))
        self.sent += 1

    def turn(self, timeout_s: float) -> None:
        """Read once from everybody who has something, and let the pacers send."""
        readers, buffer, marker, pacers = self._readers, self._buffer, self.marker, self._pacers
        cut, received, reads = self._cut, 0, self._reads
        for fd, _ in self._epoll.poll(timeout_s, MAX_EVENTS):
            try:
                size = readers[fd](buffer)
            except BlockingIOError:
                continue
            if size == 0:
                raise LostError("a server closed a connection during the run")
            count = buffer.count(marker, 0, size)
            if buffer[size - 1] != BRACE or cut:
                count += self._straddling(fd, size)
            if not count:
                self._control(fd, size)
                continue
            received += count
            reads += 1
            if not reads % SAMPLE_EVERY:
                self._sample(size)
            if turns := pacers.get(fd):
                for _ in range(count):
                    message = next(turns)
                    message.send((b"%d" % (STAMP_BASE + time.monotonic_ns())).join(message.parts))
                self.sent += count
            if buffer.find(HEARTBEAT, 0, size) >= 0:
                self._connections[fd].sock.send(frame(b"{}"))
        self.received += received
        self._reads = reads

    def _straddling(self, fd: int, size: int) -> int:
        """Count the marker that began in the last read of this connection, and keep what may begin one now."""
        keep = len(self.marker) - 1
        before = self._cut.pop(fd, b"")
        count = (before + self._buffer[: min(keep, size)]).count(self.marker)
        if self._buffer[size - 1] != BRACE:
            self._cut[fd] = (before + self._buffer[max(0, size - keep) : size])[-keep:]
        return count

    def _control(self, fd: int, size: int) -> None:
        """Look at a read without an event: a heartbeat, a ping, a reply, or the end."""
        chunk = self._buffer[:size]
        if HEARTBEAT in chunk:
            self._connections[fd].sock.send(frame(b"{}"))
        if b'"err":' in chunk:
            raise LostError(f"a server answered an error: {chunk.decode(errors='replace')[:400]}")
        # Both come in a packet of their own. What is said in rooms is ASCII: no other read begins with these bytes.
        if chunk[0] == 0x80 | PING:
            self._connections[fd].sock.send(frame(bytes(chunk[2 : 2 + chunk[1]]), PONG))
        if chunk[0] == 0x80 | CLOSE:
            raise LostError(_closed(bytes(chunk[2:])))

    def _sample(self, size: int) -> None:
        """Note the age of the oldest event of this read."""
        at = self._buffer.find(STAMP, 0, size)
        digits = self._buffer[at + len(STAMP) : at + len(STAMP) + STAMP_DIGITS]
        if at >= 0 and at + len(STAMP) + STAMP_DIGITS <= size:
            self.latencies_ns.append(stamp_ns() - int(digits))

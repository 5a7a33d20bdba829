"""The slow half of the client: a WebSocket connection that is set up, asked and parsed properly.

The fast half is `engine.py`, which takes over connections that are set up. Nothing but the standard library.
Client frames carry the mask key 0, so that masking changes nothing and costs the client nothing; a server does the
same work for it as for any other key.
"""

import itertools
import json  # noqa: TID251 - no package but the standard library
import socket
import struct
from collections.abc import Iterator
from typing import Any

READ_BYTES = 1 << 18
# A connection that says nothing for so long is broken, and the run with it.
SILENCE_S = 30.0

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA

# Messages carry the time of sending as 16 digits behind STAMP; the engine puts them in place of STAMP_PLACE. They
# double as the id of a request.
STAMP = b"@#@"
STAMP_PLACE = b"?" * 16


class LostError(Exception):
    """The server closed a connection, or answered something that is not the protocol."""

    def __init__(self, message: str, code: int = 1006) -> None:
        super().__init__(message)
        self.code = code


class RefusedError(Exception):
    """The server answered a request with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('code')} {error.get('name')}: {error.get('message')}")
        self.code = int(error.get("code", 0))
        self.name = str(error.get("name"))


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


def encode(message: object) -> bytes:
    """Return a message as compact JSON."""
    return json.dumps(message, separators=(",", ":")).encode()


class Connection:
    """One socket to a server. Blocking with a time limit, until an engine takes it."""

    def __init__(
        self,
        port: int,
        path: str,
        *,
        subprotocol: str | None = None,
        extensions: str | None = None,
        receive_buffer: int | None = None,
        waits: bool = True,
    ) -> None:
        """Connect and shake hands.

        `receive_buffer` is the kernel's, in bytes. Who does not wait calls `upgraded` before anything else.
        """
        self.sock = socket.socket()
        self.sock.settimeout(SILENCE_S)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.head = ""
        """The server's answer to the handshake."""
        self.events: list[dict[str, Any]] = []
        self._bytes = bytearray()
        self.lost: LostError | None = None
        """The server's goodbye; raised once what it said before is read."""
        self._ids = itertools.count(1)
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version: 13",
        ]
        if subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        if extensions is not None:
            lines.append(f"Sec-WebSocket-Extensions: {extensions}")
        try:
            self.sock.connect(("127.0.0.1", port))
            self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
            if waits:
                self.upgraded()
        except BaseException:
            self.sock.close()
            raise

    def upgraded(self) -> None:
        """Wait until the handshake is answered.

        Raises:
            LostError: It was refused.
        """
        while b"\r\n\r\n" not in self._bytes:
            chunk = self.sock.recv(READ_BYTES)
            if not chunk:
                self.lost = LostError("the connection ended in the handshake")
                raise self.lost
            self._bytes += chunk
        head, _, rest = bytes(self._bytes).partition(b"\r\n\r\n")
        self.head = head.decode(errors="replace")
        status = self.head.split("\r\n", 1)[0]
        if " 101 " not in f"{status} ":
            self.lost = LostError(f"the handshake was refused: {status}")
            raise self.lost
        self._bytes = bytearray(rest)

    def close(self, *, abort: bool = False) -> None:
        """Close the socket without goodbye; with `abort` by a reset, as a crashed peer does."""
        if abort:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # --- Our protocol ---

    def send(self, op: str, *, ch: str | None = None, d: dict[str, Any] | None = None) -> int:
        """Send a request without waiting for its reply; return its id."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "op": op, "d": d or {}}
        if ch is not None:
            message["ch"] = ch
        self.send_text(encode(message))
        return number

    def request(self, op: str, *, ch: str | None = None, d: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and return its reply; events that come meanwhile are kept in `events`."""
        return self.reply(self.send(op, ch=ch, d=d))

    def reply(self, number: int) -> dict[str, Any]:
        """Wait for the reply to a request; events that come meanwhile are kept in `events`.

        Raises:
            RefusedError: The reply is an error.
        """
        found: dict[str, Any] | None = None
        while found is None:
            for message in self.read():
                if message.get("id") == number:
                    found = message
                else:
                    self.events.append(message)
        if "err" in found:
            raise RefusedError(found["err"])
        reply: dict[str, Any] = found["ok"]
        return reply

    def read(self) -> list[dict[str, Any]]:
        """Return the messages of one read; heartbeats are answered here."""
        messages = [json.loads(line) for text in self.texts() for line in text.split(b"\n")]
        if {} in messages:
            self.send_text(b"{}")
        return [message for message in messages if message]

    # --- Any protocol ---

    def send_text(self, text: bytes) -> None:
        """Send one text frame."""
        self.sock.sendall(frame(text))

    def texts(self) -> list[bytes]:
        """Return the text frames of one read, perhaps none; pings are answered here.

        Raises:
            LostError: The connection is closed.
        """
        if not (texts := self._texts()):
            chunk = self.sock.recv(READ_BYTES)
            if not chunk:
                self.lost = LostError("the connection ended without a close frame")
                raise self.lost
            self._bytes += chunk
            texts = self._texts()
        return texts

    def take_rest(self) -> bytes:
        """Return what was read and not parsed, for whoever reads on."""
        rest, self._bytes = bytes(self._bytes), bytearray()
        return rest

    def _texts(self) -> list[bytes]:
        texts = []
        for opcode, payload in self._frames():
            if opcode == TEXT:
                texts.append(payload)
            elif opcode == PING:
                self.sock.sendall(frame(payload, PONG))
            elif opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
                self.lost = LostError(
                    f"the server closed the connection: {code} {payload[2:].decode()}", code
                )
        if self.lost is not None and not texts:
            raise self.lost
        return texts

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

"""The WebSocket engine, as the rest of the gateway knows it.

ASGI offers one awaited frame at a time and no way out of a peer that stops reading. A `Wire` is given to uvicorn as
`ws=`, is a correct ASGI WebSocket for Litestar, and then hands whole messages to a `Peer` in the read callback and
takes prebuilt frames for its `Outlet`. There are two, chosen by `protocol_class`: `picows_wire.py`, whose frames are
parsed in C, and `uvicorn_wire.py`, uvicorn's own class, where picows cannot be had.
"""

import asyncio
import fcntl
import socket
import sys
import termios
from typing import Any, Final, Protocol

import structlog

from server.gateway import outlet as outlets
from server.gateway.outlet import Outlet

log = structlog.get_logger()

EXTENSION: Final = "fourtalk.wire"

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
        """The socket is full: what is written now waits in memory."""

    def resumed(self) -> None:
        """The socket takes more."""

    def lost(self, code: int) -> None:
        """The connection is gone; `code` is the first close code either side sent, 1006 if none."""


class Wire(Protocol):
    """One WebSocket, after its handshake."""

    outlet: Outlet
    """Takes prebuilt frames."""

    @property
    def buffered(self) -> int:
        """Return how many bytes wait in the transport."""

    @property
    def taken(self) -> int:
        """Return how many bytes the peer's host has taken so far; it stands still while the peer reads nothing."""

    def listen(self, peer: Peer) -> None:
        """Send what comes in to `peer` from now on, beginning with what has come already."""

    async def hold(self) -> None:
        """Keep the connection though the application is through with it; the last thing it awaits."""

    def close(self, code: int, reason: str) -> None:
        """Send what was written and a close frame; abort when the peer does not answer in time."""

    def abort(self) -> None:
        """Drop the connection and what waits in it."""


class Sender:
    """The half of a wire that writes; the same for both engines, which set what it reads."""

    __slots__ = ()

    transport: asyncio.Transport
    outlet: Outlet

    @property
    def buffered(self) -> int:
        """See `Wire`."""
        return self.transport.get_write_buffer_size()

    @property
    def taken(self) -> int:
        """See `Wire`. The kernel accepts more only in steps of a third of its buffer, so what it holds counts too."""
        return self.outlet.written - self.transport.get_write_buffer_size() - self._unacknowledged()

    def _unacknowledged(self) -> int:
        """Return how many bytes the kernel holds for the peer (Linux: SIOCOUTQ); 0 where it cannot be asked."""
        raw = self.transport.get_extra_info("socket")
        try:
            answer = fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        except OSError:
            return 0
        return int.from_bytes(answer, sys.byteorder)


def make_outlet(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> Outlet:
    """Make a connection's way out, and bound what it may hold in memory, here and in the kernel."""
    # Whatever the kernel does not take pauses us at once: what waits is then bounded by the connection's backlog, and
    # an unpaused transport is known to be empty, so that the outlet may write past it.
    transport.set_write_buffer_limits(high=0)
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if raw.family in (socket.AF_INET, socket.AF_INET6):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    is_plain = transport.get_extra_info("ssl_object") is None
    return outlets.tick_of(loop).outlet(transport.write, raw.fileno() if is_plain else -1)


def protocol_class() -> type[Any]:
    """Return the class for uvicorn's `ws=`."""
    try:
        from server.gateway.picows_wire import Upgrade
    except ImportError as error:
        log.warning("engine_missing", engine="picows", why=str(error), instead="uvicorn")
        from server.gateway.uvicorn_wire import UvicornWire

        return UvicornWire
    return Upgrade

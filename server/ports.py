"""Ports of loopback for servers that are started beside this one."""

import contextlib
import secrets
import socket
from pathlib import Path

from server.embedded import EmbeddedError

# Below it are the well-known services; some hundreds of the rest may be taken.
_FIRST = 16_384
_TRIES = 1000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Where the kernel does not say: the first of IANA's dynamic ports.
_FIRST_EPHEMERAL = 49_152


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that nobody has now, and, where the kernel leaves any (Linux's default does), gives to no outgoing connection.

    Asking the kernel for one (port 0) gives one of those, and a busy machine takes it again within seconds.

    Raises:
        EmbeddedError: A thousand tries found none.
    """
    ports = range(_FIRST, _first_ephemeral())
    for _ in range(_TRIES):
        port = secrets.choice(ports)
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise EmbeddedError(f"no free port between {ports.start} and {ports.stop}")


def _first_ephemeral() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return max(int(_EPHEMERAL.read_text().split()[0]), 2 * _FIRST)
    return _FIRST_EPHEMERAL

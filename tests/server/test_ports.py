"""Ports for the servers that are started beside this one."""

import socket
from pathlib import Path

import pytest

from server.embedded import EmbeddedError
from server.ports import free_port


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_free_port_is_none_that_an_outgoing_connection_may_get(kind: socket.SocketKind) -> None:
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {free_port(kind) for _ in range(100)}
    assert max(ports) < max(first_ephemeral, 32_768), (
        "a kernel may be told to leave fewer than it does by default"
    )
    assert len(ports) > 90, "two who ask at once rarely get the same"


def test_a_port_that_somebody_listens_at_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("server.ports.secrets.choice", lambda _: taken.getsockname()[1])
        with pytest.raises(EmbeddedError, match="no free port"):
            free_port()

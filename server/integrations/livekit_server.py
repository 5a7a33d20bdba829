"""A LiveKit server of our own, where a binary is at hand and none is configured: real video on one machine.

It listens on loopback only, so clients must be on the same machine; anything else configures `LIVEKIT_URL`.
It dies with its parent, also when that is killed, and keeps nothing.
"""

import contextlib
import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from server import embedded
from server.config import LiveKit, Settings
from server.ports import free_port

# Ready after 0.05 to 1 s; a machine that builds something beside it may need much longer.
START_TIMEOUT_S = 30.0
# Asked twice it ends in 0.6 s. Asked once it waits for the last participant, for ever.
STOP_TIMEOUT_S = 3.0


def beside(settings: Settings, *, port: int) -> "contextlib.AbstractContextManager[LiveKit] | None":
    """Return the server that runs beside ours on `port`, None when one is configured or no binary is at hand.

    Entering it starts the server and gives the settings to reach it.
    """
    binary = settings.livekit_bin or shutil.which("livekit-server")
    if settings.livekit.url is not None or binary is None:
        return None
    return _running(binary, settings, port)


@contextlib.contextmanager
def _running(binary: str, settings: Settings, port: int) -> Iterator[LiveKit]:
    key = settings.livekit.api_key or "fourtalk"
    secret = settings.livekit.api_secret or secrets.token_urlsafe(32)
    hook = f"http://127.0.0.1:{port}/webhooks/livekit"
    with LiveKitServer(binary, settings.data_dir, key=key, secret=secret, webhook_url=hook) as server:
        yield LiveKit(url=server.url, api_key=key, api_secret=secret)


class LiveKitServer:
    """One livekit-server process on loopback; a context manager that starts and stops it."""

    def __init__(self, binary: str, folder: Path, *, key: str, secret: str, webhook_url: str) -> None:
        self._binary = binary
        self._config = folder / "livekit.json"
        self._log = folder / "livekit.log"
        self._key = key
        self._secret = secret
        self._webhook_url = webhook_url
        # API and signalling, media over TCP, media over UDP.
        api = free_port()
        tcp = next(port for port in iter(free_port, None) if port != api)
        self._ports = api, tcp, free_port(socket.SOCK_DGRAM)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the http address of its API; clients use the same with `ws`."""
        return f"http://127.0.0.1:{self._ports[0]}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it answers; after `kill` it comes back on the same ports.

        Raises:
            EmbeddedError: It ended, or did not answer within half a minute.
        """
        self._config.parent.mkdir(parents=True, exist_ok=True)
        # The secret stands in a file that only we can read, not in the list of processes.
        with os.fdopen(os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(self._settings()))
        with self._log.open("ab") as out:
            self._child = subprocess.Popen(
                # A gentler signal would make it wait for the last participant.
                embedded.dying_with_parent(signal.SIGKILL, self._binary, "--config", str(self._config)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # A Ctrl-C of the terminal reaches us alone: rooms are let go of before their media.
                start_new_session=True,
            )
        end = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > end:
                text = self._log.read_text(errors="replace")[-2000:]
                self.kill()
                raise embedded.EmbeddedError(f"livekit-server did not start:\n{text}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the process: people are told that the server shuts down, and not waited for."""
        if self._child is None:
            return
        end = time.monotonic() + STOP_TIMEOUT_S
        while self._child.poll() is None and time.monotonic() < end:
            self._child.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(0.3)
        self.kill()

    def kill(self) -> None:
        """End the process without a goodbye, as a crash does."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _settings(self) -> dict[str, object]:
        """Return LiveKit's configuration; JSON is YAML."""
        port, tcp_port, udp_port = self._ports
        return {
            "port": port,
            "bind_addresses": ["127.0.0.1"],
            "keys": {self._key: self._secret},
            "webhook": {"api_key": self._key, "urls": [self._webhook_url]},
            # Rooms are made by their actors only: a late token must not bring a deleted one back without its cap.
            "room": {"auto_create": False},
            "rtc": {
                "tcp_port": tcp_port,
                "udp_port": udp_port,
                "use_external_ip": False,
                "node_ip": "127.0.0.1",
                "enable_loopback_candidate": True,
                "interfaces": {"includes": ["lo"]},
            },
            # Ask the room itself who is there; the stored list keeps people who died with their server.
            "api": {"enable_psrpc_for_get_list_participants": True},
            "logging": {"level": "warn"},
        }

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[0], timeout=1)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

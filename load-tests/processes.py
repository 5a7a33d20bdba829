"""Start servers as children, know when they are ready, read their CPU time, and end all of them by id."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# What the product starts beside itself; their CPU is shown, but apart from the server's own.
STORES = frozenset({"postgres", "valkey-server", "livekit-server"})


class Cpu(NamedTuple):
    """CPU seconds since the start. The kernel's total is exact to a tick (10 ms); its split is sampled."""

    own: float
    own_user: float
    stores: float

    def since(self, before: Self) -> "Cpu":
        """Return what was used since an earlier reading."""
        return Cpu(self.own - before.own, self.own_user - before.own_user, self.stores - before.stores)


class Server:
    """One server process with everything below it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        log: Path,
        env: Mapping[str, str] | None = None,
        core: int | None = None,
    ) -> None:
        """Start it. Its output goes to `log`; with `core`, it and all its children stay on that core."""
        self.port = port
        self.log = log
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [*pinned, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=None if env is None else dict(env),
                # A Ctrl-C of the terminal reaches this program alone, which then ends the servers in order.
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, Exception):
            # The folder with the log goes, and the reason with it.
            print(f"--- the end of {self.log.name}\n{self._log_end()}", file=sys.stderr)
        self.stop()

    @property
    def url(self) -> str:
        """Return the address of its root."""
        return f"http://127.0.0.1:{self.port}"

    def until_ready(self) -> None:
        """Wait until `/health/ready` answers 200.

        Raises:
            RuntimeError: It ended, or did not get ready in time; the message has the end of its log.
        """
        end = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < end and self._child.poll() is None:
            if self._is_ready():
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self._child.args!r} did not get ready:\n{self._log_end()}")

    def cpu(self) -> Cpu:
        """Read the CPU time of the process and everything below it, ended children included."""
        own = own_user = stores = 0
        for pid, name in self._tree().items():
            # Fields of proc(5): utime, stime, and the same of children that ended and were waited for.
            utime, stime, ended_utime, ended_stime = map(int, _stat(pid)[11:15] or (0, 0, 0, 0))
            if name in STORES:
                stores += utime + stime + ended_utime + ended_stime
            else:
                own += utime + stime + ended_utime + ended_stime
                own_user += utime + ended_utime
        return Cpu(own / TICKS_PER_S, own_user / TICKS_PER_S, stores / TICKS_PER_S)

    def kill(self) -> None:
        """End it without a warning, as a crash would."""
        self._child.kill()
        self._child.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """Ask it to end; whatever is left of its tree after that is killed, by process id."""
        tree = [pid for pid in self._tree() if pid != self._child.pid]
        born = {pid: _stat(pid)[19:20] for pid in tree}
        self._child.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_TIMEOUT_S)
        if self._child.poll() is None:
            print(f"{self._child.args!r} did not end in {STOP_TIMEOUT_S:.0f} s; killed", file=sys.stderr)
            self.kill()
        for pid in tree:
            if born[pid] and _stat(pid)[19:20] == born[pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-20_000:]

    def _tree(self) -> dict[int, str]:
        """Return the processes below and including the child, with their names."""
        names: dict[int, str] = {}
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))):
                children.setdefault(int(fields[1]), []).append(int(entry.name))
                names[int(entry.name)] = _name(int(entry.name))
        tree: dict[int, str] = {}
        queue = [self._child.pid]
        while queue:
            pid = queue.pop()
            if pid in names:
                tree[pid] = names[pid]
            queue += children.get(pid, [])
        return tree


def _stat(pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` from the state on, or nothing when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(") ")[2].split()


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def free_port() -> int:
    """Return a port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pin(core: int) -> None:
    """Keep this process, and what it starts without a core of its own, on one core."""
    os.sched_setaffinity(0, {core})

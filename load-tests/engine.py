"""The hot loop in `engine.c`: compiled on first use, kept in the user's cache folder, called through ctypes."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wire import STAMP, STAMP_PLACE, Connection, frame

SOURCE = Path(__file__).with_name("engine.c")
FLAGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]

# The modes of a group, as in engine.c.
BY_MARKER, BY_FRAME, RAW = range(3)
# One event in so many is looked into for its latency; a prime, so that it does not beat with the sizes of rooms.
SAMPLE_EVERY = 17
# A run in Python's hands again this often, so that Ctrl-C and a polite kill are heard.
SLICE_S = 0.25

_POINTER, _INT, _INT64, _BYTES = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_char_p
_INT64S = ctypes.POINTER(_INT64)
_FUNCTIONS = {
    "engine_new": (_POINTER, []),
    "engine_free": (None, [_POINTER]),
    "engine_group": (_INT, [_POINTER, _INT, _BYTES, _INT, _INT64]),
    "engine_room": (_INT, [_POINTER, _INT]),
    "engine_message": (None, [_POINTER, _INT, _BYTES, _INT, ctypes.POINTER(_INT), _INT]),
    "engine_conn": (_INT, [_POINTER, _INT, _INT, _BYTES, _INT]),
    "engine_run": (_INT, [_POINTER, _INT64, _INT, _INT64]),
    "engine_pace": (None, [_POINTER, _INT, _INT]),
    "engine_rate": (None, [_POINTER, _INT, _INT64]),
    "engine_stop": (None, [_POINTER, _INT]),
    "engine_send": (None, [_POINTER, _INT]),
    "engine_feed": (None, [_POINTER, _INT, _BYTES, _INT64S, _INT64]),
    "engine_senders": (None, [_POINTER, _INT, _INT]),
    "engine_watch": (None, [_POINTER, _INT, _INT]),
    "engine_forget": (None, [_POINTER, _INT]),
    "engine_fault": (_BYTES, [_POINTER]),
    "engine_text": (_BYTES, [_POINTER, _INT]),
    "engine_samples": (_INT64S, [_POINTER, _INT]),
    "engine_clear_samples": (None, [_POINTER, _INT]),
    "engine_counts": (None, [_POINTER, _INT, _INT64S]),
    "engine_conn_counts": (None, [_POINTER, _INT, _INT64S]),
    "engine_room_sent": (_INT64, [_POINTER, _INT]),
}


class EngineError(Exception):
    """The load cannot go on: a server closed a connection, answered an error, or takes nothing more."""


class Counts(NamedTuple):
    """What a group has seen since it was made."""

    sent: int
    received: int
    frames: int
    reads: int
    errors: int
    closed: int
    samples: int


class ConnectionCounts(NamedTuple):
    """What one connection has seen."""

    sent: int
    received: int
    closed_ns: int
    """On the monotonic clock; 0: it is open."""
    close_code: int


class Engine:
    """All connections of a run, of every server in it, read by one loop."""

    def __init__(self) -> None:
        self._c = _library()
        self._e = self._c.engine_new()
        # What the engine reads and writes must not be closed or freed before it.
        self._connections: dict[int, Connection] = {}
        self._fed: list[object] = []

    def close(self) -> None:
        """Close every connection and free it."""
        self._c.engine_free(self._e)
        for connection in self._connections.values():
            connection.close()

    def group(self, marker: bytes, *, mode: int = BY_MARKER, sample_every: int = SAMPLE_EVERY) -> "Group":
        """Begin a group of rooms that are counted together."""
        return Group(self, self._c.engine_group(self._e, mode, marker, len(marker), sample_every))

    def run(self, seconds: float, *, group: int = -1, until: int = 0) -> None:
        """Send and read for a while, or until a group has received so many events.

        Raises:
            EngineError: Sockets cannot be used any more.
        """
        left_ns = int(seconds * 1e9)
        slice_ns = int(SLICE_S * 1e9)
        while True:
            if self._c.engine_run(self._e, max(0, min(left_ns, slice_ns)), group, until):
                raise EngineError(self._c.engine_fault(self._e).decode(errors="replace"))
            left_ns -= slice_ns
            if left_ns <= 0 or (group >= 0 and self.counts(group).received >= until):
                return

    def counts(self, group: int) -> Counts:
        """Return the counters of a group."""
        return Counts(*_read(self._c.engine_counts, self._e, group, len(Counts._fields)))


class Group:
    """Rooms and their people that are loaded and counted together: one server, one operation."""

    def __init__(self, engine: Engine, number: int) -> None:
        self.engine = engine
        self.number = number
        self.rooms: list[int] = []
        self.conns: list[list[int]] = []
        """The people of each room; the last one is the pacer."""
        self._places: dict[int, int] = {}
        self._c, self._e = engine._c, engine._e  # noqa: SLF001 - two halves of one module

    def room(self, people: Sequence[Connection] = (), text: bytes | None = None) -> int:
        """Add a room; `text` is what its members send, with STAMP_PLACE wherever the time goes."""
        room = self._c.engine_room(self._e, self.number)
        self._places[room] = len(self.rooms)
        self.rooms.append(room)
        self.conns.append([])
        if text is not None:
            self.say(room, text)
        for connection in people:
            self.add(room, connection)
        return int(room)

    def say(self, room: int, text: bytes) -> None:
        """Change what the members of a room send."""
        message = frame(text)
        stamps = [at for at in range(len(message)) if message.startswith(STAMP_PLACE, at)]
        array = (_INT * max(1, len(stamps)))(*stamps)
        self._c.engine_message(self._e, room, message, len(message), array, len(stamps))

    def add(self, room: int, connection: Connection) -> int:
        """Take a connection over into a room; it is read by the engine from now on."""
        connection.sock.settimeout(0)
        kept = connection.take_rest()
        conn = self._c.engine_conn(self._e, connection.sock.fileno(), room, kept, len(kept))
        self.conns[self._places[room]].append(conn)
        self.engine._connections[conn] = connection  # noqa: SLF001 - two halves of one module
        return int(conn)

    def forget(self, *, abort: bool = False) -> None:
        """Let go of every connection and close it; with `abort` by a reset."""
        for people in self.conns:
            for conn in people:
                self._c.engine_forget(self._e, conn)
                self.engine._connections.pop(conn).close(abort=abort)  # noqa: SLF001 - two halves of one module

    def pace(self, in_flight: int) -> None:
        """Begin a closed loop."""
        self._c.engine_pace(self._e, self.number, in_flight)

    def rate(self, messages_per_s: float) -> None:
        """Begin an open loop."""
        self._c.engine_rate(self._e, self.number, max(1, int(1e9 / messages_per_s)))

    def stop(self) -> None:
        """Send no more."""
        self._c.engine_stop(self._e, self.number)

    def send(self, room: int) -> None:
        """Send one message in a room."""
        self._c.engine_send(self._e, room)

    def feed(self, messages: Sequence[bytes]) -> None:
        """Send these bytes, once each, instead of the rooms' own messages."""
        ends, end = [], 0
        for message in messages:
            end += len(message)
            ends.append(end)
        # The engine reads this memory as long as it lives.
        fed = (b"".join(messages), (_INT64 * len(ends))(*ends))
        self.engine._fed.append(fed)  # noqa: SLF001 - two halves of one module
        self._c.engine_feed(self._e, self.number, fed[0], fed[1], len(ends))

    def only_senders(self, room: int, count: int) -> None:
        """Let only the first members of a room send, and sample only what the others get."""
        self._c.engine_senders(self._e, room, count)

    def watch(self, conn: int, *, is_watched: bool) -> None:
        """Stop or resume reading one connection."""
        self._c.engine_watch(self._e, conn, is_watched)

    @property
    def counts(self) -> Counts:
        """Return the counters."""
        return self.engine.counts(self.number)

    @property
    def text(self) -> str:
        """Return the first error or close that a server told this group, or nothing."""
        return str(self._c.engine_text(self._e, self.number).decode(errors="replace"))

    def of_connection(self, conn: int) -> ConnectionCounts:
        """Return the counters of one connection."""
        return ConnectionCounts(
            *_read(self._c.engine_conn_counts, self._e, conn, len(ConnectionCounts._fields))
        )

    def sent_in(self, room: int) -> int:
        """Return how many messages were sent in a room."""
        return int(self._c.engine_room_sent(self._e, room))

    def latencies_ms(self) -> list[float]:
        """Return the sampled latencies since they were last cleared, sorted."""
        count = self.counts.samples
        samples = self._c.engine_samples(self._e, self.number)
        return sorted(sample / 1e6 for sample in samples[:count]) if count else []

    def clear_latencies(self) -> None:
        """Forget the sampled latencies."""
        self._c.engine_clear_samples(self._e, self.number)

    def check(self) -> None:
        """See that no server closed a connection or answered an error.

        Raises:
            EngineError: One did.
        """
        if self.counts.errors or self.counts.closed:
            raise EngineError(f"{self.counts.errors} errors, {self.counts.closed} closed: {self.text}")


def _read(function: Callable[..., Any], engine: int, number: int, size: int) -> list[int]:
    values = (_INT64 * size)()
    function(engine, number, values)
    return list(values)


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(_compiled()))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _compiled() -> Path:
    """Return the shared object of this very source and machine, compiled if it is not there yet."""
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join([*FLAGS, *os.uname()[2:]]).encode()).hexdigest()
    folder = cache() / "engine"
    made = folder / f"{key[:16]}.so"
    if made.exists():
        return made
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit(
            "the load client needs a C compiler (cc, gcc or clang) and finds none: install gcc and libc's headers"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        draft = Path(scratch) / "engine.so"
        done = subprocess.run(
            [compiler, *FLAGS, str(SOURCE), "-o", str(draft)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{compiler} cannot compile {SOURCE.name}:\n{done.stderr[-4000:]}")
        # Two runs may compile at once; whoever moves last wins, with the same file.
        draft.replace(made)
    return made


def cache() -> Path:
    """Return the folder where compiled and installed things are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"  # noqa: TID251 - no settings here
    return Path(base) / "fourtalk-load-tests"


assert STAMP == b"@#@", "engine.c looks for the same"

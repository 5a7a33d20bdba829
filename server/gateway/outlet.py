"""The way out: what one turn of the event loop has for a connection goes out in one write.

`Tick` stands for the end of each turn of one loop. Whoever has frames hands them to a connection's `Outlet`, or to many
at once by `Tick.broadcast`; when the turn ends, each outlet with something to say writes it in one piece. A system call
a connection is what a delivery costs at least, so `_outlet.c` is this module without the Python around that call; it
is built where a compiler is at hand, and nothing but speed depends on it.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary


class Outlet(Protocol):
    """The way out of one connection."""

    @property
    def written(self) -> int:
        """Return how many bytes left so far, for the kernel or the transport."""

    def write(self, frame: bytes) -> None:
        """Send a frame at the end of this turn, in order; nothing happens once closed."""

    def flush(self) -> None:
        """Send now what was written in this turn."""

    def block(self) -> None:
        """Note that the transport holds bytes back: what comes goes behind them."""

    def unblock(self) -> None:
        """Note that the transport is empty again."""

    def close(self) -> None:
        """Drop what waits and take no more. Must be called before the descriptor is closed, which may be given anew."""


class Tick(Protocol):
    """The end of each turn of one event loop."""

    def outlet(self, write: Callable[[bytes], object], fd: int, /) -> Outlet:
        """Make the way out of one connection.

        Args:
            write: The transport's; takes what the socket does not, and keeps the order from then on. It must pause
                the protocol, which then calls `block`, as soon as it holds anything.
            fd: The plain socket below the transport, or -1 where there is none (TLS).
        """

    def broadcast(self, outlets: tuple[Outlet, ...], frame: bytes, /) -> None:
        """Write one frame to many outlets, all of them of this tick's kind. Calls nobody back."""

    def run(self) -> None:
        """Send now what was written in this turn; called at its end."""


class PythonOutlet:
    """An outlet without a compiler; it writes through the transport."""

    __slots__ = ("_is_listed", "_tick", "_waiting", "_write", "written")

    def __init__(self, tick: "PythonTick", write: Callable[[bytes], object]) -> None:
        self.written = 0
        self._tick = tick
        self._write: Callable[[bytes], object] | None = write
        self._waiting: list[bytes] = []
        self._is_listed = False

    def write(self, frame: bytes) -> None:
        """See `Outlet`."""
        if self._write is None:
            return
        self._waiting.append(frame)
        if not self._is_listed:
            self._is_listed = True
            self._tick.add(self)

    def flush(self) -> None:
        """See `Outlet`."""
        if not self._waiting or self._write is None:
            return
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting.clear()
        self.written += len(data)
        self._write(data)

    def unlist(self) -> None:
        """Leave the tick's list, before sending."""
        self._is_listed = False

    def block(self) -> None:
        """See `Outlet`; the transport keeps the order by itself."""

    def unblock(self) -> None:
        """See `Outlet`."""

    def close(self) -> None:
        """See `Outlet`."""
        self._write = None
        self._waiting.clear()


class PythonTick:
    """A tick without a compiler."""

    __slots__ = ("_call_soon", "_listed")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._listed: list[PythonOutlet] = []

    def outlet(self, write: Callable[[bytes], object], fd: int, /) -> Outlet:
        """See `Tick`."""
        del fd
        return PythonOutlet(self, write)

    def broadcast(self, outlets: tuple[Outlet, ...], frame: bytes, /) -> None:
        """See `Tick`."""
        for outlet in outlets:
            outlet.write(frame)

    def add(self, outlet: PythonOutlet) -> None:
        """Have an outlet flushed at the end of this turn."""
        if not self._listed:
            self._call_soon(self.run)
        self._listed.append(outlet)

    def run(self) -> None:
        """See `Tick`."""
        listed, self._listed = self._listed, []
        for outlet in listed:
            outlet.unlist()
        for outlet in listed:
            outlet.flush()


def _compiled() -> Callable[[Callable[[Callable[[], None]], object]], Tick] | None:
    try:
        from server.gateway import _outlet
    except ImportError:
        return None
    return _outlet.Tick


COMPILED = _compiled()
"""The kind of tick that was compiled, if it was."""

_ticks: WeakKeyDictionary[asyncio.AbstractEventLoop, Tick] = WeakKeyDictionary()


def tick_of(loop: asyncio.AbstractEventLoop) -> Tick:
    """Return the loop's tick."""
    tick = _ticks.get(loop)
    if tick is None:
        tick = _ticks[loop] = (COMPILED or PythonTick)(loop.call_soon)
    return tick


def install(loop: asyncio.AbstractEventLoop, tick: Tick) -> None:
    """Give a loop another tick than it would get by itself, before anybody asks for it."""
    assert loop not in _ticks, "the loop has a tick already"
    _ticks[loop] = tick

"""Some people of a busy room stop reading: do the others lose anything, and how long are the slow ones kept?

The messages are long, so that the buffers of the kernel fill within seconds. Who does not read must be closed, the
server's memory must stay bounded, and nobody else may miss a message or wait for it.
"""

import argparse
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import product
from bench import EVENTS, OURS, Load, Result, Shape, Side, Stage, measure, number, text, until_quiet
from engine import Group
from processes import Server
from product import Product

SMALL = [
    *("--size", "6", "--slow", "2", "--rate", "3000", "--without", "1"),
    *("--seconds", "10", "--warmup", "0.2"),
]
# The limit of room.send is 1 KiB.
LONG = "The quick brown fox jumps over the lazy dog. " * 20
# As small as the kernel allows: a slow reader's window closes soon.
RECEIVE_BUFFER = 2048
CLOSE_LIMIT_S = 60.0
LOOK_S = 0.2
READ_AGAIN_S = 3.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument("--size", type=int, default=100, help="people who read (default 100)")
    parser.add_argument("--slow", type=int, default=10, help="people who do not (default 10)")
    parser.add_argument(
        "--rate", type=float, default=40_000, help="deliveries a second to who reads (default 40,000)"
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="time without reading (default 15)")
    parser.add_argument("--without", type=float, default=5.0, help="time before it, to compare (default 5)")
    parser.add_argument("--warmup", type=float, default=1.0, help="time before each (default 1)")


def run(stage: Stage) -> Result:
    """Measure it."""
    options = stage.options
    with product.running(stage, flags=["--time-travel"]) as ours:
        group, slow, sockets = _seated(stage, ours)
        side, load = Side(OURS, ours.server, group), Load(rate=options.rate)
        windows = [measure(stage, side, load, seconds=options.without)]
        for conn in slow.conns[0]:
            slow.watch(conn, is_watched=False)
        with Watch(ours.server, sockets) as watch:
            windows.append(measure(stage, side, load))
            _load_until_closed(stage, group, watch)
        # Whoever reads again finds the end.
        for conn in slow.conns[0]:
            slow.watch(conn, is_watched=True)
        stage.engine.run(READ_AGAIN_S)
    closed_s = sorted(watch.closed_s.values())
    rows = [
        [
            name,
            f"{window.delivered / window.seconds:,.0f}",
            number(window.own_us),
            " / ".join(map(number, (window.p50_ms, window.p95_ms, window.p99_ms))),
            str(window.lost),
            str(window.doubled),
            number(window.rss_mb, 1),
        ]
        for name, window in zip(("everybody reads", f"{options.slow} do not"), windows, strict=True)
    ]
    columns = ["who", "deliveries/s", "CPU us / delivery", "p50 / p95 / p99 ms of the others"]
    columns += ["lost by the others", "doubled", "server RSS MB"]
    notes = [f"RSS at most {watch.rss_mb:.1f} MB while they did not read"]
    if closed_s:
        span = f"{closed_s[0]:.1f} to {closed_s[-1]:.1f} s"
        notes.append(f"{len(closed_s)} of {options.slow} slow readers were closed, {span} after they stopped")
    if slow.text:
        notes.append(f"what they find when they read again: {slow.text}")
    failures = [
        f"the others lost {window.lost} and got {window.doubled} twice"
        for window in windows
        if window.lost or window.doubled
    ]
    if len(closed_s) < options.slow:
        failures.append(f"{options.slow - len(closed_s)} slow readers are still connected")
    data = {
        "windows": [{**window._asdict(), "cpu": window.cpu._asdict()} for window in windows],
        "closed_s": closed_s,
        "rss_mb_max": watch.rss_mb,
    }
    shape = Shape(1, options.size + options.slow)
    return Result(f"{shape}, some stop reading", columns, rows, data, notes, failures)


class Watch:
    """Looks from outside when the server lets go of sockets, and at its memory meanwhile.

    A server cannot tell a client that does not read: its last words wait behind what was not read. But the kernel's
    table of sockets shows that the server's end is not established any more.
    """

    def __init__(self, server: Server, sockets: Sequence[socket.socket]) -> None:
        self.closed_s: dict[int, float] = {}
        self.rss_mb = 0.0
        self._server = server
        self._ports = {sock.getsockname()[1] for sock in sockets}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def are_all_closed(self) -> bool:
        """Return whether the server has let go of every one."""
        return self.closed_s.keys() == self._ports

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            after_s = time.monotonic() - self._began
            self.rss_mb = max(self.rss_mb, self._server.rss_kb() / 1024)
            for port in self._ports - self._established() - self.closed_s.keys():
                self.closed_s[port] = after_s

    def _established(self) -> set[int]:
        """Return the client's ports to which the server has an established socket, from proc(5)."""
        found = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state = line.split()[:4]
            if int(local.split(":")[1], 16) == self._server.port and state == "01":
                found.add(int(remote.split(":")[1], 16))
        return found


def _seated(stage: Stage, ours: Product) -> tuple[Group, Group, list[socket.socket]]:
    """Seat everybody in one lesson; return who reads, who will not, and their sockets."""
    options = stage.options
    tutor, admin = ours.create("tutor"), ours.create("admin")
    students = ours.mint(options.size - 1 + options.slow)
    readers, others = [tutor, *students[: options.size - 1]], students[options.size - 1 :]
    room_id = ours.lessons(admin, [[tutor, *students]])[0].room_id
    group = stage.engine.group(EVENTS["room.send"])
    product.fill(stage, ours, group, {room_id: readers}, "room.send")
    group.say(group.rooms[0], text("room.send", f"room:{room_id}", padding=LONG))
    slow = stage.engine.group(EVENTS["room.send"])
    room = slow.room()
    sockets = []
    for account in others:
        connection = ours.connect(account, receive_buffer=RECEIVE_BUFFER)
        product.join(connection, room_id)
        slow.add(room, connection)
        sockets.append(connection.sock)
        stage.engine.run(0)
    until_quiet(group, 0.5, 10.0)
    return group, slow, sockets


def _load_until_closed(stage: Stage, group: Group, watch: Watch) -> None:
    """Keep the room busy until the server has closed every slow reader."""
    group.rate(stage.options.rate / stage.options.size)
    end = time.monotonic() + CLOSE_LIMIT_S
    while not watch.are_all_closed and time.monotonic() < end:
        stage.engine.run(0.1)
    group.stop()
    until_quiet(group, 0.5, 10.0)

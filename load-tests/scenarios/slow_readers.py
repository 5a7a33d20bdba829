"""Some people of a busy room stop reading: do the others lose anything, and how long are the slow ones kept?

The messages are long, so that the buffers of the kernel fill within seconds. Who does not read must be closed, the
server's memory must stay bounded, and nobody else may miss a message or wait for it.
"""

import argparse
import time

import product
from bench import EVENTS, OURS, Load, Result, Shape, Side, Stage, measure, number, text, until_quiet
from engine import Group
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
        group, slow = _seated(stage, ours)
        side, load = Side(OURS, ours.server, group), Load(rate=options.rate)
        windows = [measure(stage, side, load, seconds=options.without)]
        stopped_ns = time.monotonic_ns()
        for conn in slow.conns[0]:
            slow.watch(conn, is_watched=False)
        windows.append(measure(stage, side, load))
        _load_until_closed(stage, group, slow)
        ends = [slow.of_connection(conn).closed_ns for conn in slow.conns[0]]
        rss_mb = ours.server.rss_kb() / 1024
    closed_s = sorted((end - stopped_ns) / 1e9 for end in ends if end)
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
    notes = [f"RSS after all of it: {rss_mb:.1f} MB"]
    if closed_s:
        span = f"{closed_s[0]:.1f} to {closed_s[-1]:.1f} s"
        notes.append(f"{len(closed_s)} of {options.slow} slow readers were closed, after {span}")
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
        "rss_mb_after": rss_mb,
    }
    shape = Shape(1, options.size + options.slow)
    return Result(f"{shape}, some stop reading", columns, rows, data, notes, failures)


def _seated(stage: Stage, ours: Product) -> tuple[Group, Group]:
    """Seat everybody in one lesson; return who reads and who will not."""
    options = stage.options
    tutor, admin = ours.create("tutor"), ours.create("admin")
    students = ours.mint(options.size - 1 + options.slow)
    readers, others = [tutor, *students[: options.size - 1]], students[options.size - 1 :]
    room_id = ours.lessons(tutor, admin, [students])[0].room_id
    group = stage.engine.group(EVENTS["room.send"])
    product.fill(stage, ours, group, {room_id: readers}, "room.send")
    group.say(group.rooms[0], text("room.send", f"room:{room_id}", padding=LONG))
    slow = stage.engine.group(EVENTS["room.send"])
    room = slow.room()
    for account in others:
        connection = ours.connect(account, receive_buffer=RECEIVE_BUFFER)
        product.join(connection, room_id)
        slow.add(room, connection)
        stage.engine.run(0)
    until_quiet(group, 0.5, 10.0)
    return group, slow


def _load_until_closed(stage: Stage, group: Group, slow: Group) -> None:
    """Keep the room busy until the server has closed every slow reader."""
    group.rate(stage.options.rate / stage.options.size)
    end = time.monotonic() + CLOSE_LIMIT_S
    while slow.counts.closed < stage.options.slow and time.monotonic() < end:
        stage.engine.run(0.1)
    group.stop()
    until_quiet(group, 0.5, 10.0)

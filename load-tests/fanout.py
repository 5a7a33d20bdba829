"""What does it cost the server to deliver a message? The product beside a plain Starlette loop, in one run.

See README.md for what is measured and how to read it.
"""

import argparse
import contextlib
import functools
import itertools
import json  # noqa: TID251 - no package but the standard library
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import processes
import product
from client import STAMP, STAMP_DIGITS, Connection, Message, Pool, Room, encode, stamp_ns
from processes import Cpu, Server

SERVER_CORE, CLIENT_CORE = 0, 1
PEER = Path(__file__).parent / "peers" / "starlette"
EVENTS = {"room.send": b'"ev":"room.message"', "chat.send": b'"ev":"message.created"'}
# Makes the text of a message as long as an ordinary sentence; an event is then 200 to 300 bytes.
PADDING = "The quick brown fox jumps over the lazy dog."
# People join one after the other; after so many the others read what they were told meanwhile, and answer heartbeats.
JOINS_BETWEEN_READS = 10
CALIBRATION_LIMIT_S = 10.0
DRAIN_LIMIT_S = 10.0
# Long enough for several turns of whatever a server does by itself (heartbeats every 25 s, presence every 5 s).
IDLE_S = 10.0


class Shape(NamedTuple):
    """How many rooms of how many people."""

    rooms: int
    size: int

    @property
    def name(self) -> str:
        """Return it in words."""
        return f"{self.rooms} x {self.size}"


class Case(NamedTuple):
    """One line of the table."""

    shape: str
    op: str
    mode: str
    target: str


class Window(NamedTuple):
    """What one round measured."""

    seconds: float
    cpu: Cpu
    delivered: int
    lost: int
    p50_ms: float
    p99_ms: float

    @property
    def own_us(self) -> float:
        """Return the server's own CPU per delivery, in microseconds."""
        return self.cpu.own * 1e6 / self.delivered

    @property
    def all_us(self) -> float:
        """Return the same with PostgreSQL and Valkey."""
        return (self.cpu.own + self.cpu.stores) * 1e6 / self.delivered


class Target:
    """A server with its rooms full of people, ready for load."""

    def __init__(
        self, name: str, server: Server, rooms: Sequence[Sequence[Connection]], channels: Sequence[str]
    ):
        self.name = name
        self.server = server
        self.connections = [connection for room in rooms for connection in room]
        self.rooms = {
            op: [
                Room(room, [Message(sender, text(op, channel)) for sender in room[:-1]])
                for room, channel in zip(rooms, channels, strict=True)
            ]
            for op in EVENTS
        }


def text(op: str, channel: str) -> bytes:
    """Return a message of this operation, with question marks for its stamp."""
    stamp = "?" * STAMP_DIGITS
    said = f"{STAMP.decode()}{stamp} {PADDING}"
    if op == "room.send":
        return encode({"op": op, "ch": channel, "d": {"kind": "reaction", "data": said}})
    # The id is a number: the quotes around the question marks go.
    message = encode({"id": stamp, "op": op, "ch": channel, "d": {"text": said}})
    return message.replace(f'"{stamp}"'.encode(), stamp.encode())


def main() -> int:
    """Run the chosen cases and print the table."""
    options = _options()
    # A polite kill ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    processes.pin(CLIENT_CORE)
    windows: dict[Case, list[Window]] = {}
    idle: dict[str, float] = {}
    for shape in options.shapes:
        with tempfile.TemporaryDirectory(prefix="load-") as folder, contextlib.ExitStack() as stack:
            targets = [MAKE[name](Path(folder), shape, stack) for name in options.targets]
            _measure_idle(shape, targets, idle)
            for op in options.ops:
                _measure_op(options, shape, op, targets, windows)
    _print_table(windows)
    _print_ratios(windows)
    for name, share in idle.items():
        print(f"own CPU while nobody says anything, {name}: {share:.1%} of a core")
    if options.json is not None:
        report = {**_report(options, windows), "idle_core": idle}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(window.lost for rounds in windows.values() for window in rounds) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, default=250, help="how many rooms of four (default 250)")
    parser.add_argument("--big", type=int, default=500, help="people in the one big room (default 500)")
    parser.add_argument("--shape", choices=["small", "big", "both"], default="both")
    parser.add_argument("--ops", nargs="+", choices=sorted(EVENTS), default=["room.send", "chat.send"])
    parser.add_argument("--modes", nargs="+", choices=["closed", "open"], default=["closed"])
    parser.add_argument("--targets", nargs="+", choices=sorted(MAKE), default=["fourtalk", "starlette"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time of a round (default 5)")
    parser.add_argument("--warmup", type=float, default=1.0, help="time before it (default 1)")
    parser.add_argument("--in-flight", type=int, default=1, help="messages in flight per room, closed loop")
    parser.add_argument("--rate", type=int, default=4000, help="deliveries per second, open loop")
    parser.add_argument("--json", type=Path, help="write every round to this file")
    options = parser.parse_args()
    options.shapes = {
        "small": [Shape(options.rooms, 4)],
        "big": [Shape(1, options.big)],
        "both": [Shape(options.rooms, 4), Shape(1, options.big)],
    }[options.shape]
    return options


# --- The two servers ---


def _starlette(folder: Path, shape: Shape, stack: contextlib.ExitStack, *, ws: str = "auto") -> Target:
    """Start the peer; `ws` is uvicorn's choice of WebSocket implementation."""
    port, name = processes.free_port(), f"starlette-{ws}"
    run = ["uv", "run", "--quiet", "--no-project", "--with-requirements", str(PEER / "requirements.txt")]
    uvicorn = [
        "uvicorn",
        "--app-dir",
        str(PEER),
        "--ws",
        ws,
        "--port",
        str(port),
        "--no-access-log",
        "app:app",
    ]
    server = Server([*run, *uvicorn], port=port, log=folder / f"{name}.log", core=SERVER_CORE)
    stack.enter_context(server).until_ready()
    # Ids as long as the product's, so that the events are.
    channels = [f"room:{number:036d}" for number in range(shape.rooms)]
    rooms = [
        [Connection("127.0.0.1", port, f"/ws/{number}/{member:036d}") for member in range(shape.size)]
        for number in range(shape.rooms)
    ]
    return Target("starlette" if ws == "auto" else name, server, rooms, channels)


def _fourtalk(folder: Path, shape: Shape, stack: contextlib.ExitStack) -> Target:
    env = product.environment()
    is_talk = shape.size <= 4
    server = stack.enter_context(
        product.serve(folder, processes.free_port(), env=env, core=SERVER_CORE, time_travel=not is_talk)
    )
    server.until_ready()
    api = product.Api(server.port)
    people = product.mint(folder, shape.rooms * shape.size, env=env)
    if is_talk:
        members = [people[start : start + shape.size] for start in range(0, len(people), shape.size)]
        ids = product.talks(api, [room[0] for room in members])
    else:
        tutor = product.create(folder, api, "tutor", env=env)
        admin = product.create(folder, api, "admin", env=env)
        students = people[: shape.size - 1]
        members = [[tutor, *students]]
        ids = [product.lesson(api, tutor, admin, students)]
    waiting = Pool(EVENTS["room.send"])
    joined = itertools.count(1)
    rooms: list[list[Connection]] = []
    for room_id, accounts in zip(ids, members, strict=True):
        rooms.append([])
        for account in accounts:
            connection = product.connect(server.port, account)
            product.join(connection, room_id)
            waiting.add(connection)
            rooms[-1].append(connection)
            if next(joined) % JOINS_BETWEEN_READS == 0:
                waiting.until_quiet(0.01, 1.0)
    waiting.until_quiet(0.5, 10.0)
    return Target("fourtalk", server, rooms, [f"room:{room_id}" for room_id in ids])


MAKE: dict[str, Callable[[Path, Shape, contextlib.ExitStack], Target]] = {
    "fourtalk": _fourtalk,
    "starlette": _starlette,
    # What `auto` meant in earlier versions of uvicorn.
    "starlette-websockets": functools.partial(_starlette, ws="websockets"),
}


# --- The rounds ---


def _measure_idle(shape: Shape, targets: Sequence[Target], idle: dict[str, float]) -> None:
    """Measure what the full rooms cost by themselves; it is part of every figure under load."""
    pool = Pool(EVENTS["room.send"])
    for target in targets:
        for connection in target.connections:
            pool.add(connection)
    before = [target.server.cpu() for target in targets]
    pool.idle(IDLE_S)
    for target, cpu in zip(targets, before, strict=True):
        idle[f"{shape.name} {target.name}"] = target.server.cpu().since(cpu).own / IDLE_S


def _measure_op(
    options: argparse.Namespace,
    shape: Shape,
    op: str,
    targets: Sequence[Target],
    windows: dict[Case, list[Window]],
) -> None:
    """Measure one operation on all targets, interleaved, the order turned round every other round."""
    pool = Pool(EVENTS[op])
    for target in targets:
        for connection in target.connections:
            pool.add(connection)
    copies = {target.name: _deliveries_per_message(pool, target.rooms[op]) for target in targets}
    for number in range(options.rounds):
        for mode in options.modes:
            for target in targets[:: -1 if number % 2 else 1]:
                window = _round(options, pool, target, op, mode, copies[target.name])
                windows.setdefault(Case(shape.name, op, mode, target.name), []).append(window)
                _say(f"{shape.name} {op} {mode} {target.name} {number + 1}: {window.own_us:.2f} us")


def _deliveries_per_message(pool: Pool, rooms: Sequence[Room]) -> int:
    """Send one message in every room and see how many copies of it come: with or without the sender's own."""
    before = pool.received
    for room in rooms:
        pool.send(room)
    pool.until_quiet(0.5, CALIBRATION_LIMIT_S)
    copies, rest = divmod(pool.received - before, len(rooms))
    if rest or copies not in {rooms[0].size - 1, rooms[0].size}:
        raise RuntimeError(f"{len(rooms)} messages made {pool.received - before} deliveries")
    return copies


def _round(
    options: argparse.Namespace, pool: Pool, target: Target, op: str, mode: str, copies: int
) -> Window:
    """Load one target for a while and measure all but the beginning; then see that everything arrived."""
    rooms = target.rooms[op]
    sent, received = pool.sent, pool.received
    if mode == "closed":
        pool.pace(rooms, options.in_flight)
        drive = pool.idle
    else:
        drive = OpenLoop(pool, rooms, options.rate / copies).drive
    drive(options.warmup)
    pool.latencies_ns.clear()
    cpu, counted, began = target.server.cpu(), pool.received, time.monotonic()
    drive(options.seconds)
    cpu, counted, seconds = target.server.cpu().since(cpu), pool.received - counted, time.monotonic() - began
    latencies = sorted(pool.latencies_ns)
    pool.stop()
    expected = received + (pool.sent - sent) * copies
    pool.drain(expected, DRAIN_LIMIT_S)
    pool.until_quiet(0.2, 2.0)
    if not counted or not latencies:
        raise RuntimeError(f"{target.name} delivered nothing in {seconds:.1f} s")
    return Window(
        seconds=seconds,
        cpu=cpu,
        delivered=counted,
        lost=expected - pool.received,
        p50_ms=latencies[len(latencies) // 2] / 1e6,
        p99_ms=latencies[len(latencies) * 99 // 100] / 1e6,
    )


class OpenLoop:
    """Messages at a steady rate, room after room, whether or not the server keeps up.

    A message is stamped with the time it was due, so that a late sender does not hide the server's delay.
    """

    def __init__(self, pool: Pool, rooms: Sequence[Room], per_second: float) -> None:
        self._pool = pool
        self._rooms = itertools.cycle(rooms)
        self._step_ns = int(1e9 / per_second)
        self._due_ns = stamp_ns()

    def drive(self, seconds: float) -> None:
        """Send and read for a while. It spins: sleeping is not exact enough, and the core is its own."""
        end_ns = stamp_ns() + int(seconds * 1e9)
        while (now := stamp_ns()) < end_ns:
            while self._due_ns <= now:
                self._pool.send(next(self._rooms), self._due_ns)
                self._due_ns += self._step_ns
            self._pool.turn(0)


# --- The report ---


def _print_table(windows: dict[Case, list[Window]]) -> None:
    print()
    print("us = CPU microseconds of the server per delivered message; median (min - max) of the rounds")
    print()
    print(
        "| rooms | operation | loop | server | own us | user us | with stores us | deliveries/s | core | p50 / p99 ms | lost |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for case, rounds in windows.items():
        own = [window.own_us for window in rounds]
        cells = [
            *case,
            f"{statistics.median(own):.2f} ({min(own):.2f} - {max(own):.2f})",
            f"{_median(rounds, lambda w: w.cpu.own_user * 1e6 / w.delivered):.2f}",
            f"{_median(rounds, lambda w: w.all_us):.2f}",
            f"{_median(rounds, lambda w: w.delivered / w.seconds):,.0f}",
            f"{_median(rounds, lambda w: (w.cpu.own + w.cpu.stores) / w.seconds):.0%}",
            f"{_median(rounds, lambda w: w.p50_ms):.2f} / {_median(rounds, lambda w: w.p99_ms):.2f}",
            f"{sum(window.lost for window in rounds)}",
        ]
        print(f"| {' | '.join(cells)} |")


def _print_ratios(windows: dict[Case, list[Window]]) -> None:
    """Print how many times less the product costs, round by round."""
    print()
    for case, ratios in _ratios(windows).items():
        rounds = " ".join(f"{ratio:.2f}" for ratio in ratios)
        name = f"{case.shape} {case.op} {case.mode}"
        print(f"starlette / fourtalk, {name}: {statistics.median(ratios):.2f} (rounds {rounds})")


def _ratios(windows: dict[Case, list[Window]]) -> dict[Case, list[float]]:
    return {
        case: [
            peer.own_us / own.own_us
            for own, peer in zip(rounds, windows[case._replace(target="starlette")], strict=True)
        ]
        for case, rounds in windows.items()
        if case.target == "fourtalk" and case._replace(target="starlette") in windows
    }


def _report(options: argparse.Namespace, windows: dict[Case, list[Window]]) -> dict[str, Any]:
    ratios = _ratios(windows)
    return {
        "options": {name: value for name, value in vars(options).items() if name not in {"json", "shapes"}},
        "cases": [
            {
                **case._asdict(),
                "own_us": _median(rounds, lambda w: w.own_us),
                "with_stores_us": _median(rounds, lambda w: w.all_us),
                "ratio_to_starlette": statistics.median(ratios[case]) if case in ratios else None,
                "rounds": [{**window._asdict(), "cpu": window.cpu._asdict()} for window in rounds],
            }
            for case, rounds in windows.items()
        ],
    }


def _median(rounds: Sequence[Window], figure: Callable[[Window], float]) -> float:
    return statistics.median(figure(window) for window in rounds)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

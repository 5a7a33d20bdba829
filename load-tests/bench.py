"""What the scenarios share: options, rooms under load, rounds beside peers, and the result."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from engine import Engine, EngineError, Group
from processes import Cpu, Server
from wire import STAMP, STAMP_PLACE, encode

T = TypeVar("T")

OURS = "fourtalk"
EVENTS = {"room.send": b'"ev":"room.message"', "chat.send": b'"ev":"message.created"'}
# Makes the text of a message as long as an ordinary sentence; an event is then 200 to 300 bytes.
PADDING = "The quick brown fox jumps over the lazy dog."
# The first messages of a server wait for caches and compilers.
CALIBRATION_QUIET_S = 2.0
CALIBRATION_LIMIT_S = 20.0
# A saturated server may owe several times what it delivered in the measured seconds.
DRAIN_LIMIT_S = 60.0
# Nothing for so long while messages are owed: they will not come.
DRAIN_QUIET_S = 3.0
# A quiet room's messages: people who wave now and then.
QUIET_PER_S = 10.0
# Everything has come; a delivery too many would come right behind it.
DOUBLES_S = 0.2


class Stage:
    """One run of one scenario: its options, its folder, the engine that reads every socket of it."""

    def __init__(self, options: argparse.Namespace, folder: Path, engine: Engine) -> None:
        self.options = options
        self.folder = folder
        self.engine = engine

    def meanwhile(self, act: Callable[[], T]) -> T:
        """Do something in a thread while the engine reads every socket, and return its result."""
        with ThreadPoolExecutor(1) as threads:
            doing = threads.submit(act)
            while not doing.done():
                self.engine.run(0.02)
            return doing.result()

    def say(self, line: str) -> None:
        """Tell how far it is."""
        print(line, file=sys.stderr, flush=True)


class Result(NamedTuple):
    """What a scenario found: one table, and everything in it once more as data."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    data: Mapping[str, Any]
    notes: Sequence[str] = ()
    failures: Sequence[str] = ()
    """What must not be; the program exits 1."""


class Shape(NamedTuple):
    """How many rooms of how many people."""

    rooms: int
    size: int

    def __str__(self) -> str:
        return f"{self.rooms} x {self.size}"


class Load(NamedTuple):
    """Closed loop with so many messages in flight per room, or so many deliveries offered a second."""

    in_flight: int = 1
    rate: float | None = None

    def __str__(self) -> str:
        if self.rate is not None:
            return f"{self.rate:,.0f}/s offered"
        return f"closed, {self.in_flight} in flight a room"


class Side:
    """A server with its rooms full of people, ready for load."""

    def __init__(
        self,
        name: str,
        server: Server,
        group: Group,
        *,
        quiet: Group | None = None,
        add_rooms: Callable[[int], None] | None = None,
    ) -> None:
        self.name = name
        self.server = server
        self.group = group
        self.quiet = quiet
        """A room that is measured beside the others, a few messages a second."""
        self.add_rooms = add_rooms
        """Fills so many more rooms, where the number of people may grow."""


class Window(NamedTuple):
    """What one round measured."""

    seconds: float
    cpu: Cpu
    client_s: float | None
    offered: int
    delivered: int
    lost: int
    doubled: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    events_per_frame: float
    rss_mb: float | None
    quiet_p50_ms: float | None = None
    quiet_p99_ms: float | None = None

    @property
    def own_us(self) -> float:
        """Return the server's own CPU per delivery, in microseconds."""
        return self.cpu.own * 1e6 / self.delivered

    @property
    def user_us(self) -> float | None:
        """Return the user part of it."""
        return None if self.cpu.own_user is None else self.cpu.own_user * 1e6 / self.delivered

    @property
    def all_us(self) -> float:
        """Return it with the stores."""
        return (self.cpu.own + self.cpu.stores) * 1e6 / self.delivered

    @property
    def client_us(self) -> float | None:
        """Return the client's CPU per delivery, in microseconds."""
        return None if self.client_s is None else self.client_s * 1e6 / self.delivered


def text(op: str, channel: str, *, padding: str = PADDING) -> bytes:
    """Return a message of this operation, with a place for its stamp."""
    said = f"{STAMP.decode()}{STAMP_PLACE.decode()} {padding}"
    if op == "room.send":
        return encode({"op": op, "ch": channel, "d": {"kind": "reaction", "data": said}})
    # The id is a number: the quotes around its place go.
    message = encode({"id": STAMP_PLACE.decode(), "op": op, "ch": channel, "d": {"text": said}})
    return message.replace(b'"' + STAMP_PLACE + b'"', STAMP_PLACE)


# --- Measuring ---


def until_quiet(group: Group, quiet_s: float, limit_s: float, *, until: int | None = None) -> None:
    """Read until nothing has come for a while, or until the group has received so many events."""
    end = time.monotonic() + limit_s
    quiet_at = time.monotonic() + quiet_s
    seen = group.counts.received
    while seen != until and time.monotonic() < min(end, quiet_at):
        group.engine.run(min(0.02, quiet_s))
        if (received := group.counts.received) != seen:
            seen, quiet_at = received, time.monotonic() + quiet_s


def copies(group: Group) -> int:
    """Send one message in every room and see how many copies of it come: with or without the sender's own."""
    before, size = group.counts.received, len(group.conns[0])
    for room in group.rooms:
        group.send(room)
    until_quiet(group, CALIBRATION_QUIET_S, CALIBRATION_LIMIT_S, until=before + len(group.rooms) * size)
    received = group.counts.received - before
    if received == len(group.rooms) * (size - 1) and size > 1:
        return size - 1
    group.check()
    if received != len(group.rooms) * size:
        raise EngineError(f"{len(group.rooms)} messages to {size} each made {received} deliveries")
    return size


class Tally:
    """Counts, connection by connection, what should have come and what came."""

    def __init__(self, group: Group, copies_: int) -> None:
        self._group = group
        self._echoes = copies_ == len(group.conns[0])
        self._copies = copies_
        self._before = self._now()
        self._counts = group.counts

    @property
    def owed(self) -> int:
        """Return how many deliveries are still missing."""
        counts = self._group.counts
        return (counts.sent - self._counts.sent) * self._copies - (counts.received - self._counts.received)

    def result(self) -> tuple[int, int]:
        """Return how many deliveries are missing, and how many came twice."""
        lost = doubled = 0
        for before, now in zip(self._before, self._now(), strict=True):
            missing = (now[0] - before[0]) - (now[1] - before[1])
            lost, doubled = lost + max(0, missing), doubled + max(0, -missing)
        return lost, doubled

    def _now(self) -> list[tuple[int, int]]:
        group, found = self._group, []
        for room, conns in zip(group.rooms, group.conns, strict=True):
            sent = group.sent_in(room)
            for conn in conns:
                of = group.of_connection(conn)
                found.append((sent if self._echoes else sent - of.sent, of.received))
        return found


def measure(stage: Stage, side: Side, load: Load, *, seconds: float | None = None) -> Window:
    """Load one side for a while and measure all but the beginning; then see that everything arrived."""
    options, engine, group, quiet = stage.options, stage.engine, side.group, side.quiet
    copies_ = copies(group)
    tally = Tally(group, copies_)
    if quiet is not None:
        quiet_tally = Tally(quiet, copies(quiet))
        quiet.rate(QUIET_PER_S)
    if load.rate is None:
        group.pace(load.in_flight)
    else:
        group.rate(load.rate / copies_)
    engine.run(options.warmup)
    for measured in filter(None, (group, quiet)):
        measured.clear_latencies()
    before, usage, client, began = (
        group.counts,
        side.server.usage(),
        time.process_time(),
        time.monotonic(),
    )
    engine.run(options.seconds if seconds is None else seconds)
    seconds, client_s = time.monotonic() - began, time.process_time() - client
    after, cpu = group.counts, side.server.usage().since(usage)
    latencies = group.latencies_ms()
    quiet_latencies = [] if quiet is None else quiet.latencies_ms()
    group.stop()
    if quiet is not None:
        quiet.stop()
    _drain(group, tally)
    lost, doubled = tally.result()
    if quiet is not None:
        _drain(quiet, quiet_tally)
        lost, doubled = (a + b for a, b in zip((lost, doubled), quiet_tally.result(), strict=True))
    group.check()
    delivered = after.received - before.received
    if not delivered:
        raise EngineError(f"{side.name} delivered nothing in {seconds:.1f} s")
    return Window(
        seconds=seconds,
        cpu=cpu,
        client_s=client_s,
        offered=(after.sent - before.sent) * copies_,
        delivered=delivered,
        lost=lost,
        doubled=doubled,
        p50_ms=percentile(latencies, 50),
        p95_ms=percentile(latencies, 95),
        p99_ms=percentile(latencies, 99),
        events_per_frame=delivered / max(1, after.frames - before.frames),
        rss_mb=side.server.rss_kb() / 1024,
        quiet_p50_ms=percentile(quiet_latencies, 50),
        quiet_p99_ms=percentile(quiet_latencies, 99),
    )


def _drain(group: Group, tally: Tally) -> None:
    end = time.monotonic() + DRAIN_LIMIT_S
    while (owed := tally.owed) > 0 and time.monotonic() < end:
        received = group.counts.received
        group.engine.run(DRAIN_QUIET_S, group=group.number, until=received + owed)
        if group.counts.received == received:
            break
    group.engine.run(DOUBLES_S)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the value below which so many percent of these sorted ones lie."""
    return values[min(len(values) - 1, int(len(values) * percent / 100))] if values else None


# --- The result of rounds ---

ROOM_COLUMNS = [
    "load",
    "server",
    "CPU us / delivery",
    "user us",
    "with stores us",
    "deliveries/s",
    "core",
    "p50 / p95 / p99 ms",
    "client us",
    "events / frame",
    "lost",
    "doubled",
]

QUIET_COLUMN = "quiet room p50 / p99 ms"


def room_rows(load: str, windows: Mapping[str, Sequence[Window]]) -> list[list[str]]:
    """Return a line of the table for each server: the medians of its rounds."""
    rows = []
    for name, of in windows.items():
        own = [window.own_us for window in of]
        latencies = (
            median(of, lambda w: w.p50_ms),
            median(of, lambda w: w.p95_ms),
            median(of, lambda w: w.p99_ms),
        )
        rows.append(
            [
                load,
                name,
                f"{statistics.median(own):.2f} ({min(own):.2f} - {max(own):.2f})",
                number(median(of, lambda w: w.user_us)),
                number(median(of, lambda w: w.all_us)),
                f"{median(of, lambda w: w.delivered / w.seconds):,.0f}",
                f"{median(of, lambda w: (w.cpu.own + w.cpu.stores) / w.seconds):.0%}",
                " / ".join(map(number, latencies)),
                number(median(of, lambda w: w.client_us)),
                number(median(of, lambda w: w.events_per_frame)),
                str(sum(window.lost for window in of)),
                str(sum(window.doubled for window in of)),
            ]
        )
        if of[0].quiet_p50_ms is not None:
            quiet = (median(of, lambda w: w.quiet_p50_ms), median(of, lambda w: w.quiet_p99_ms))
            rows[-1].append(" / ".join(map(number, quiet)))
    return rows


def ratios(windows: Mapping[str, Sequence[Window]]) -> dict[str, list[float]]:
    """Return how many times our CPU per delivery each peer needs, round by round."""
    return {
        name: [peer.own_us / own.own_us for own, peer in zip(windows[OURS], of, strict=True)]
        for name, of in windows.items()
        if name != OURS
    }


def ratio_notes(load: str, windows: Mapping[str, Sequence[Window]]) -> list[str]:
    """Return the ratios in words."""
    return [
        f"{name} / {OURS}, {load}: {statistics.median(of):.2f} (rounds {' '.join(f'{ratio:.2f}' for ratio in of)})"
        for name, of in ratios(windows).items()
    ]


def room_data(load: str, windows: Mapping[str, Sequence[Window]]) -> dict[str, Any]:
    """Return the rounds and their medians as data."""
    of_peers = ratios(windows)
    return {
        "load": load,
        "servers": {
            name: {
                "own_us": statistics.median(window.own_us for window in of),
                "user_us": median(of, lambda w: w.user_us),
                "with_stores_us": statistics.median(window.all_us for window in of),
                "deliveries_per_s": statistics.median(window.delivered / window.seconds for window in of),
                "p50_ms": median(of, lambda w: w.p50_ms),
                "p95_ms": median(of, lambda w: w.p95_ms),
                "p99_ms": median(of, lambda w: w.p99_ms),
                "quiet_p50_ms": median(of, lambda w: w.quiet_p50_ms),
                "quiet_p99_ms": median(of, lambda w: w.quiet_p99_ms),
                "ratio": statistics.median(of_peers[name]) if name in of_peers else None,
                "ratios": of_peers.get(name),
                "lost": sum(window.lost for window in of),
                "doubled": sum(window.doubled for window in of),
                "rounds": [{**window._asdict(), "cpu": window.cpu._asdict()} for window in of],
            }
            for name, of in windows.items()
        },
    }


def losses(windows: Mapping[str, Sequence[Window]]) -> list[str]:
    """Return what we lost or doubled, in words; what a peer loses stands in the table alone."""
    return [
        f"{name}: {window.lost} deliveries lost, {window.doubled} doubled"
        for name, of in windows.items()
        for window in of
        if name == OURS and (window.lost or window.doubled)
    ]


def room_result(title: str, measured: Mapping[str, Mapping[str, Sequence[Window]]]) -> Result:
    """Return the result of rounds, by the name of their load."""
    rows = [row for load, windows in measured.items() for row in room_rows(load, windows)]
    columns = [*ROOM_COLUMNS, *([] if len(rows[0]) == len(ROOM_COLUMNS) else [QUIET_COLUMN])]
    return Result(
        title,
        columns,
        rows,
        {"loads": [room_data(load, windows) for load, windows in measured.items()]},
        [note for load, windows in measured.items() for note in ratio_notes(load, windows)],
        [loss for windows in measured.values() for loss in losses(windows)],
    )


def median(windows: Sequence[Window], figure: Callable[[Window], float | None]) -> float | None:
    """Return the median of the windows that have this figure."""
    found = [value for window in windows if (value := figure(window)) is not None]
    return statistics.median(found) if found else None


def number(value: float | None, digits: int = 2) -> str:
    """Return a number for the table."""
    return "-" if value is None else f"{value:,.{digits}f}"

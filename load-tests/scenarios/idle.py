"""People who sit in rooms and say nothing: what does a connection cost in memory, and all of them in CPU?

Resident memory is read at several numbers of connections; the slope of the line through them is the cost of one,
without the server's own base. CPU is read at the largest number: heartbeats, presence, attendance.
"""

import argparse
import statistics
import time

import peers
import product
from bench import OURS, Result, Shape, Side, Stage, number
from scenarios import options

SMALL = ["--connections", "8", "16", "24", "--seconds", "1"]
# Buffers of the joins are freed and pages given back in this time.
SETTLE_S = 3.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[500, 1500, 2500, 3500, 4500], help="where to measure"
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="time in which CPU is counted (default 20)"
    )
    options.compare(parser)


def run(stage: Stage) -> Result:
    """Measure it."""
    size = product.TALK_CAP
    first = Shape(stage.options.connections[0] // size, size)
    found = {}
    with product.talks(stage, first) as ours:
        found[OURS] = _measure(stage, ours, first.rooms)
    for name in stage.options.compare:
        with peers.rooms(stage, name, first) as peer:
            found[peer.name] = _measure(stage, peer, first.rooms)
    rows = [
        [
            name,
            f"{at[-1][0]:,}",
            number(slope_kb, 1),
            number(at[0][1] / 1024, 1),
            number(at[-1][1] / 1024, 1),
            f"{own:.2%}",
            f"{with_stores:.2%}",
        ]
        for name, (at, slope_kb, own, with_stores) in found.items()
    ]
    return Result(
        "connections that say nothing",
        [
            "server",
            "connections",
            "RSS KB / connection",
            "RSS MB first",
            "RSS MB last",
            "idle CPU of a core",
            "with stores",
        ],
        rows,
        {
            "servers": {
                name: {"rss_kb_at": at, "kb_per_connection": slope_kb, "own": own, "with_stores": with_stores}
                for name, (at, slope_kb, own, with_stores) in found.items()
            }
        },
    )


def _measure(stage: Stage, side: Side, rooms: int) -> tuple[list[tuple[int, int]], float, float, float]:
    assert side.add_rooms is not None, "these rooms can be added to"
    at = []
    for wanted in stage.options.connections:
        if more := wanted // product.TALK_CAP - rooms:
            side.add_rooms(more)
            rooms += more
        stage.engine.run(SETTLE_S)
        at.append((rooms * product.TALK_CAP, side.server.rss_kb()))
        stage.say(f"{side.name}: {at[-1][0]} connections, {at[-1][1]:,} KB")
    usage, began = side.server.usage(), time.monotonic()
    stage.engine.run(stage.options.seconds)
    seconds = time.monotonic() - began
    cpu = side.server.usage().since(usage)
    side.group.check()
    slope_kb = statistics.linear_regression(*zip(*at, strict=True)).slope
    return at, slope_kb, cpu.own / seconds, (cpu.own + cpu.stores) / seconds

"""Two rooms of a hundred in which everybody publishes at once, and a quiet room beside them.

Messages come at a steady rate, whether or not the server keeps up, stamped with the time they were due. The quiet
room has ten messages a second; what they take shows whether a hot room is everybody's trouble.
"""

import argparse

import peers
import product
from bench import Load, Result, Shape, Stage, room_result
from scenarios import options

SMALL = [
    *("--rooms", "1", "--size", "8", "--rates", "500", "2000"),
    *("--seconds", "1", "--warmup", "0.2", "--rounds", "1"),
]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument("--rooms", type=int, default=2, help="default 2")
    parser.add_argument("--size", type=int, default=100, help="people in each (default 100)")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[60_000, 300_000], help="deliveries offered a second"
    )
    options.timing(parser)
    options.compare(parser)


def run(stage: Stage) -> Result:
    """Measure it."""
    shape = Shape(stage.options.rooms, stage.options.size)
    with product.classes(stage, shape, quiet=True) as ours:
        measured = {
            str(load): peers.rounds(stage, ours, shape, load, quiet=True)
            for load in (Load(rate=rate) for rate in stage.options.rates)
        }
    return room_result(f"{shape}, everybody publishes", measured)

"""One course session with 500 people in it: what does a delivered message cost in a big room?

The people bought their lesson and joined like anybody else; time travel opens its doors. One message is in flight.
"""

import argparse

import peers
import product
from bench import Load, Result, Shape, Stage, room_result
from scenarios import options

SMALL = ["--size", "12", "--seconds", "1", "--warmup", "0.2", "--rounds", "1"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument("--size", type=int, default=500, help="people in the room (default 500)")
    options.load(parser)
    options.timing(parser)
    options.compare(parser)


def run(stage: Stage) -> Result:
    """Measure it."""
    shape = Shape(1, stage.options.size)
    load = Load(stage.options.in_flight, stage.options.rate)
    with product.classes(stage, shape) as ours:
        windows = peers.rounds(stage, ours, shape, load)
    return room_result(f"{shape}, room.send", {str(load): windows})

"""A thousand people, each alone in a talk: one message in, one message out.

Without fan-out the figure is what a message that comes in costs: reading, checking, and one write.
"""

import argparse

import peers
import product
from bench import Load, Result, Shape, Stage, room_result
from scenarios import options

SMALL = ["--rooms", "10", "--seconds", "1", "--warmup", "0.2", "--rounds", "1"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument("--rooms", type=int, default=1000, help="default 1000")
    options.load(parser)
    options.timing(parser)
    options.compare(parser)


def run(stage: Stage) -> Result:
    """Measure it."""
    shape = Shape(stage.options.rooms, 1)
    load = Load(stage.options.in_flight, stage.options.rate)
    with product.talks(stage, shape) as ours:
        windows = peers.rounds(stage, ours, shape, load)
    return room_result(f"{shape}, room.send", {str(load): windows})

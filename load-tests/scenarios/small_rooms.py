"""Talks of four: what does a delivered message cost when rooms are small?

Every room has one message in flight: its members send in turn, each when the last one of the room has seen the
message before. Nothing can be joined into one frame, so this is the dearest kind of fan-out.
"""

import argparse

import peers
import product
from bench import Load, Result, Shape, Stage, room_result
from scenarios import options

SMALL = ["--rooms", "5", "--seconds", "1", "--warmup", "0.2", "--rounds", "1"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument("--rooms", type=int, default=250, help="default 250")
    options.load(parser)
    options.timing(parser)
    options.compare(parser)


def run(stage: Stage) -> Result:
    """Measure it."""
    shape = Shape(stage.options.rooms, product.TALK_CAP)
    load = Load(stage.options.in_flight, stage.options.rate)
    with product.talks(stage, shape) as ours:
        windows = peers.rounds(stage, ours, shape, load)
    return room_result(f"{shape}, room.send", {str(load): windows})

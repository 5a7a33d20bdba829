"""Chat that is kept: `chat.send` in talks of four and in one room of 500.

Every message is committed to the room's journal before anybody sees it; the sender gets a reply too, which is not
counted as a delivery. Measured with one message in flight per room, and at a steady rate.
"""

import argparse
from contextlib import AbstractContextManager

import product
from bench import OURS, Load, Result, Shape, Side, Stage, Window, measure, room_result
from scenarios import options

OP = "chat.send"
SMALL = [
    *("--rooms", "5", "--size", "10", "--rate", "100"),
    *("--seconds", "1", "--warmup", "0.2", "--rounds", "1"),
]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument("--rooms", type=int, default=250, help="talks of four (default 250)")
    parser.add_argument("--size", type=int, default=500, help="people in the big room (default 500)")
    options.load(parser, rate=1000)
    options.timing(parser)


def run(stage: Stage) -> Result:
    """Measure it."""
    small = Shape(stage.options.rooms, product.TALK_CAP)
    big = Shape(1, stage.options.size)
    measured: dict[str, dict[str, list[Window]]] = {}
    sides: list[tuple[Shape, AbstractContextManager[Side]]] = [
        (small, product.talks(stage, small, OP)),
        (big, product.classes(stage, big, OP)),
    ]
    for shape, opened in sides:
        with opened as side:
            for load in (Load(stage.options.in_flight), Load(rate=stage.options.rate)):
                windows = [measure(stage, side, load) for _ in range(stage.options.rounds)]
                measured[f"{shape}, {load}"] = {OURS: windows}
            side.group.forget()
    return room_result("chat.send, stored before it is seen", measured)

"""Options that several scenarios have."""

import argparse


def timing(parser: argparse.ArgumentParser, *, rounds: int = 3, seconds: float = 5.0) -> None:
    """Add how often and how long is measured."""
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help=f"measured time of a round (default {seconds:g})"
    )
    parser.add_argument(
        "--warmup", type=float, default=2.0, help="time before it, for compilers that learn (default 2)"
    )


def compare(parser: argparse.ArgumentParser) -> None:
    """Add the peers."""
    parser.add_argument(
        "--compare",
        type=lambda text: text.split(","),
        default=[],
        metavar="PEER[,PEER...]",
        help="measure these peers in the same run, interleaved, and print how many times our CPU each needs",
    )


def load(parser: argparse.ArgumentParser, *, rate: float | None = None) -> None:
    """Add the kind of load."""
    parser.add_argument(
        "--in-flight", type=int, default=1, help="closed loop: messages in flight per room (default 1)"
    )
    parser.add_argument(
        "--rate", type=float, default=rate, help="open loop: deliveries offered a second, whatever happens"
    )

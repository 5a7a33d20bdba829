"""Two servers on one database and one Valkey: how long from a publication on one to its delivery on the other?

Each talk has its sender on the first server and three people on the second. First the saturated rate, with one
message in flight per room; then latencies at half of that. Only deliveries on the second server are sampled.
"""

import argparse
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import product
from bench import EVENTS, OURS, Load, Result, Shape, Side, Stage, measure, room_result, text, until_quiet
from processes import Server, Usage
from product import Product
from scenarios import options

SMALL = ["--rooms", "4", "--seconds", "1", "--warmup", "0.2", "--rounds", "1"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    # Three of four people join through the server that does not run the room: 160 of them take some 10 s to seat.
    parser.add_argument("--rooms", type=int, default=40, help="talks of four (default 40)")
    options.timing(parser, rounds=2, seconds=4.0)


def run(stage: Stage) -> Result:
    """Measure it."""
    shape = Shape(stage.options.rooms, product.TALK_CAP)
    with two(stage) as (first, second):
        accounts = first.mint(shape.rooms * shape.size)
        members = [accounts[start : start + shape.size] for start in range(0, len(accounts), shape.size)]
        ids = first.talks([room[0] for room in members])
        group = stage.engine.group(EVENTS["room.send"])
        for room_id, people in zip(ids, members, strict=True):
            room = group.room(text=text("room.send", f"room:{room_id}"))
            for place, account in enumerate(people):
                connection = (second if place else first).connect(account)
                product.join(connection, room_id)
                group.add(room, connection)
            group.only_senders(room, 1)
            stage.engine.run(0)
        until_quiet(group, 1.0, 10.0)
        side = Side(OURS, _Both(first.server, second.server), group)
        saturated = [measure(stage, side, Load()) for _ in range(stage.options.rounds)]
        half = sorted(window.delivered / window.seconds for window in saturated)[len(saturated) // 2] / 2
        at_half = [measure(stage, side, Load(rate=half)) for _ in range(stage.options.rounds)]
    result = room_result(
        f"{shape}, from one server to the other",
        {
            str(Load()): {side.name: saturated},
            f"half of it, {Load(rate=half)}": {side.name: at_half},
        },
    )
    return result._replace(notes=["a fourth of the deliveries is the sender's own copy on the first server"])


@contextmanager
def two(stage: Stage) -> Iterator[tuple[Product, Product]]:
    """Run two servers; the first one starts the stores of both."""
    env = {"SECRET_KEY": secrets.token_urlsafe(48)}
    with ExitStack() as stack:
        first = stack.enter_context(product.running(stage, name="first", env=env))
        second = stack.enter_context(product.running(stage, name="second", env={**env, **first.stores()}))
        yield first, second


class _Both(Server):
    """Two servers, measured as one."""

    def __init__(self, *servers: Server) -> None:
        self._servers = servers

    def usage(self) -> Usage:
        """Read all clocks."""
        clocks = {pid: of for server in self._servers for pid, of in server.usage().clocks.items()}
        return Usage(clocks)

    def rss_kb(self) -> int:
        """Return the sum."""
        return sum(server.rss_kb() for server in self._servers)

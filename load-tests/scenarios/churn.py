"""People who come and go: what does a cycle of connecting, authenticating, joining and leaving cost?

Each person has a talk of their own. Measured with the join and the leave, and once more without: a second device of
somebody who sits there connects and follows the room.
"""

import argparse
import itertools
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import peers
import product
from bench import EVENTS, OURS, Result, Stage, number, percentile
from processes import Server
from product import Account, Product
from scenarios import options

SMALL = ["--people", "8", "--seconds", "1"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument("--people", type=int, default=100, help="who come and go (default 100)")
    parser.add_argument("--at-once", type=int, default=8, help="cycles at a time (default 8)")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time of each kind (default 10)")
    options.compare(parser)


def run(stage: Stage) -> Result:
    """Measure it."""
    cycles = []
    with product.running(stage) as ours:
        accounts = ours.mint(stage.options.people)
        ids = ours.talks(accounts)
        cycles.append(
            _measured(
                stage,
                OURS,
                "connect, join, leave, close",
                ours.server,
                lambda person: _join_and_leave(ours, accounts[person], ids[person]),
            )
        )
        # Who has a seat on another socket may follow the room; the engine keeps those alive.
        seated = stage.engine.group(EVENTS["room.send"])
        product.fill(
            stage, ours, seated, {room: [one] for room, one in zip(ids, accounts, strict=True)}, "room.send"
        )
        cycles.append(
            _measured(
                stage,
                OURS,
                "connect, subscribe, close",
                ours.server,
                lambda person: _subscribe(ours, accounts[person], ids[person]),
            )
        )
    for name in stage.options.compare:
        with peers.open_server(stage, name) as peer:
            cycles.append(
                _measured(
                    stage,
                    peer.title,
                    "connect (and join), close",
                    peer.server,
                    lambda person: _come(peer, person),
                )
            )
    return Result(
        "connections that come and go",
        ["server", "cycle", "CPU us / cycle", "user us", "with stores us", "cycles/s", "p50 / p95 / p99 ms"],
        [
            [
                cycle["server"],
                cycle["cycle"],
                *(number(cycle[figure], 0) for figure in ("own_us", "user_us", "with_stores_us")),
                f"{cycle['per_s']:,.0f}",
                " / ".join(map(number, cycle["ms"])),
            ]
            for cycle in cycles
        ],
        {"cycles": cycles},
    )


def _measured(
    stage: Stage, name: str, kind: str, server: Server, cycle: Callable[[int], None]
) -> dict[str, Any]:
    """Run cycles for a while, several people at a time, each in one cycle only."""
    people, at_once = stage.options.people, min(stage.options.at_once, stage.options.people)
    for person in range(people):
        cycle(person)
    usage, began = server.usage(), time.monotonic()

    def work(first: int) -> list[float]:
        took: list[float] = []
        for person in itertools.cycle(range(first, people, at_once)):
            started = time.monotonic()
            if started > began + stage.options.seconds:
                return took
            cycle(person)
            took.append((time.monotonic() - started) * 1e3)
        raise AssertionError("a cycle has no end")

    with ThreadPoolExecutor(at_once) as threads:
        works = [threads.submit(work, first) for first in range(at_once)]
        stage.engine.run(stage.options.seconds)
        took = sorted(itertools.chain(*(done.result() for done in works)))
    seconds = time.monotonic() - began
    cpu = server.usage().since(usage)
    own_us = cpu.own * 1e6 / len(took)
    stage.say(f"{name}, {kind}: {own_us:.0f} us")
    return {
        "server": name,
        "cycle": kind,
        "own_us": own_us,
        "user_us": (cpu.own_user or 0.0) * 1e6 / len(took),
        "with_stores_us": (cpu.own + cpu.stores) * 1e6 / len(took),
        "per_s": len(took) / seconds,
        "ms": [percentile(took, percent) for percent in (50, 95, 99)],
    }


def _join_and_leave(ours: Product, account: Account, room_id: str) -> None:
    connection = ours.connect(account)
    product.join(connection, room_id)
    connection.request("room.leave", ch=f"room:{room_id}", d={"room_id": room_id})
    connection.close()


def _subscribe(ours: Product, account: Account, room_id: str) -> None:
    connection = ours.connect(account)
    connection.request("subscribe", ch=f"room:{room_id}", d={"ch": f"room:{room_id}"})
    connection.close()


def _come(peer: peers.Running, person: int) -> None:
    peer.connect(str(person), str(uuid.uuid4())).close()

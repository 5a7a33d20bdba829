"""Everybody loses the network at once and comes back: who recovers, how fast, and is anything missed or doubled?

One person of each talk stays and chats while the sockets of the others are reset. They all come back at the same
moment, each with its last position. What they are told must be every event after that position, each once and in
order; and what is said afterwards must reach each of them once.
"""

import argparse
import select
import time
from collections.abc import Sequence
from typing import Any

import product
from bench import EVENTS, Result, Stage, number, percentile, text, until_quiet
from engine import Group
from product import Account, Product
from wire import Connection

SMALL = ["--rooms", "4", "--messages", "3"]
OP = "chat.send"
MARKER = EVENTS[OP]
LIMIT_S = 120.0


class Returning:
    """Somebody who was cut off and comes back."""

    def __init__(self, account: Account, room_id: str, sub: dict[str, Any]) -> None:
        self.account = account
        self.channel = f"room:{room_id}"
        self.since = {"ch": self.channel, "epoch": sub["epoch"], "off": sub["off"]}
        self.connection: Connection | None = None
        self.answer: dict[str, Any] = {}
        self.after_s = 0.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument(
        "--rooms", type=int, default=150, help="talks of four; three of each are cut (default 150)"
    )
    parser.add_argument(
        "--messages", type=int, default=5, help="said in each room while they are away (default 5)"
    )


def run(stage: Stage) -> Result:
    """Measure it."""
    with product.running(stage) as ours:
        accounts = ours.mint(stage.options.rooms * product.TALK_CAP)
        hosts, guests = accounts[: stage.options.rooms], accounts[stage.options.rooms :]
        ids = ours.talks(hosts)
        staying = stage.engine.group(MARKER)
        product.fill(stage, ours, staying, {room: [host] for room, host in zip(ids, hosts, strict=True)}, OP)
        cut = stage.engine.group(MARKER)
        returning = _seated(stage, ours, cut, ids, guests)
        stage.say(f"{len(returning)} people are cut off")
        cut.forget(abort=True)
        before = staying.counts.received
        for _ in range(stage.options.messages):
            for room in staying.rooms:
                staying.send(room)
        stage.engine.run(30.0, group=staying.number, until=before + stage.options.messages * len(ids))
        until_quiet(staying, 0.5, 5.0)
        staying.check()
        usage = ours.server.usage()
        seconds = _storm(ours, returning)
        cpu = ours.server.usage().since(usage)
        missed, doubled = compare(returning)
        # And what is said now reaches each of them once.
        back = stage.engine.group(MARKER)
        for person in returning:
            assert person.connection is not None, "everybody came back"
            back.room([person.connection])
        for room in staying.rooms:
            staying.send(room)
        stage.engine.run(10.0, group=back.number, until=len(returning))
        until_quiet(back, 0.5, 5.0)
        back.check()
        live = [back.of_connection(conns[0]).received for conns in back.conns]
    missed += sum(count == 0 for count in live)
    doubled += sum(max(0, count - 1) for count in live)
    recovered = sum(bool(person.answer["subs"][person.channel]["recovered"]) for person in returning)
    after = sorted(person.after_s * 1e3 for person in returning)
    data: dict[str, Any] = {
        "people": len(returning),
        "recovered": recovered,
        "seconds": seconds,
        "per_s": len(returning) / seconds,
        "after_ms": [percentile(after, percent) for percent in (50, 95, 99)],
        "own_us": cpu.own * 1e6 / len(returning),
        "with_stores_us": (cpu.own + cpu.stores) * 1e6 / len(returning),
        "missed": missed,
        "doubled": doubled,
    }
    row = [
        str(len(returning)),
        f"{recovered / len(returning):.1%}",
        number(seconds),
        f"{data['per_s']:,.0f}",
        " / ".join(number(value, 0) for value in data["after_ms"]),
        number(data["own_us"], 0),
        number(data["with_stores_us"], 0),
        str(missed),
        str(doubled),
    ]
    columns = ["cut and back", "recovered", "seconds", "people/s", "back after p50 / p95 / p99 ms"]
    columns += ["CPU us / person", "with stores us", "events missed", "doubled"]
    failures = [f"{missed} events missed, {doubled} doubled"] if missed or doubled else []
    if recovered != len(returning):
        failures.append(f"{len(returning) - recovered} people did not recover")
    return Result("everybody comes back at once", columns, [row], data, (), failures)


def _seated(
    stage: Stage, ours: Product, group: Group, ids: list[str], guests: list[Account]
) -> list[Returning]:
    """Seat three guests in each room; remember where each of them began to follow it."""
    returning = []
    for place, account in enumerate(guests):
        room_id = ids[place % len(ids)]
        connection = ours.connect(account)
        returning.append(Returning(account, room_id, product.join(connection, room_id)["sub"]))
        group.add(group.room(text=text(OP, f"room:{room_id}")), connection)
        if place % product.JOINS_BETWEEN_READS == 0:
            stage.engine.run(0)
    until_quiet(group, 0.5, 10.0)
    group.check()
    return returning


def _storm(ours: Product, returning: list[Returning]) -> float:
    """Bring everybody back at once, and return the seconds until the last one is."""
    began = time.monotonic()
    poll = select.epoll()
    waiting = {}
    for person in returning:
        person.connection = Connection(ours.port, "/ws", subprotocol=product.SUBPROTOCOL, waits=False)
    for person in returning:
        assert person.connection is not None, "made above"
        person.connection.upgraded()
        number_ = person.connection.send("connect", d=product.hello(person.account, [person.since]))
        waiting[person.connection.sock.fileno()] = (person, number_)
        poll.register(person.connection.sock.fileno(), select.EPOLLIN)
    while waiting:
        if time.monotonic() > began + LIMIT_S:
            raise RuntimeError(f"{len(waiting)} people are not back after {LIMIT_S:.0f} s")
        for fd, _ in poll.poll(1.0):
            person, number_ = waiting[fd]
            assert person.connection is not None, "made above"
            person.answer = person.connection.reply(number_)
            person.after_s = time.monotonic() - began
            poll.unregister(fd)
            del waiting[fd]
    poll.close()
    return time.monotonic() - began


def compare(returning: Sequence[Returning]) -> tuple[int, int]:
    """Compare what each was told with the offsets after its position; return what is missing and what came twice."""
    missed = doubled = 0
    for person in returning:
        assert person.connection is not None, "everybody came back"
        sub = person.answer["subs"][person.channel]
        events, position = list(sub["events"]), sub["off"]
        while sub["more"]:
            sub = person.connection.request(
                "history",
                ch=person.channel,
                d={"ch": person.channel, "since": {"epoch": sub["epoch"], "off": sub["off"]}},
            )
            events += sub["events"]
            position = sub["off"]
        # Live events may have come behind the answer already.
        live = [event for event in person.connection.events if event.get("ch") == person.channel]
        offsets = [event["off"] for event in [*events, *live] if "off" in event]
        head = max([position, *offsets])
        wanted = range(person.since["off"] + 1, head + 1)
        missed += len(set(wanted) - set(offsets))
        doubled += len(offsets) - len(set(offsets)) + (0 if offsets == sorted(offsets) else 1)
    return missed, doubled

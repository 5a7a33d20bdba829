"""One of two servers is told to end (SIGTERM) while thousands listen there: how soon is everybody at the other?

Each talk has its host on the server that stays, who goes on chatting; the listeners follow the talks through the one
that ends. It asks them to come back after a while of each one's own, and closes. They come back to the other server
with their last position; what they are told must be every event after that position, each once and in order.
"""

import argparse
import heapq
import itertools
import random
import select
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import product
from bench import EVENTS, Result, Stage, number, percentile, until_quiet
from engine import Group
from product import Account, Product
from scenarios.reconnect_storm import OP, Returning, compare
from scenarios.two_nodes import two
from wire import Connection, LostError

SMALL = ["--listeners", "40", "--rooms", "4"]
DRAIN = 4200
LIMIT_S = 180.0
# What is said reaches everybody within milliseconds; behind a backlog it may be seconds.
HEARD_S = 15.0
# What nobody waits for is read between so many listeners that come.
COMES_BETWEEN_READS = 50
# One round of talking: long enough for a tenth of a core to read it.
TALKS_PER_S = 0.2


class Listener(Returning):
    """Somebody who follows a talk through the server that ends, and goes on at the other."""

    def __init__(self, account: Account, room_id: str, connection: Connection, sub: dict[str, Any]) -> None:
        super().__init__(account, room_id, sub)
        self.connection = connection
        self.is_told = False
        """Asked to come back, and closed as the protocol says."""
        self.request = 0
        self.is_back = False
        self.tries_in_vain = 0

    @property
    def heard(self) -> int:
        """Return how many events it was sent."""
        assert self.connection is not None, "it is connected"
        return len(self.connection.events)

    def leave(self, code: int) -> float:
        """Note the end of the first socket, and where it had come; return the seconds until it is to come back."""
        assert self.connection is not None, "it is connected"
        advice = [one["d"] for one in self.connection.events if one.get("ctl") == "disconnect"]
        offsets = [
            one["off"] for one in self.connection.events if one.get("ch") == self.channel and "off" in one
        ]
        first = self.since["off"] + 1
        self.is_told = (
            code == DRAIN and len(advice) == 1 and offsets == list(range(first, first + len(offsets)))
        )
        self.since["off"] += len(offsets)
        self.connection.events.clear()
        self.connection.close()
        return float(advice[0]["retry_after_ms"]) / 1e3 if advice else 0.0

    def retry(self) -> float:
        """Give up a try in vain; return the seconds until the next, as a client would wait."""
        assert self.connection is not None, "it has tried"
        self.connection.close()
        self.tries_in_vain += 1
        return random.uniform(0.5, 1.5)

    def come(self, port: int) -> None:
        """Shake hands with the other server, and do not wait for its answer."""
        self.connection = Connection(port, "/ws", subprotocol=product.SUBPROTOCOL, waits=False)

    def say_hello(self) -> None:
        """Say who it is, and where it had come."""
        assert self.connection is not None, "it shook hands"
        self.connection.upgraded()
        self.request = self.connection.send("connect", d=product.hello(self.account, [self.since]))


class Crowd:
    """All listeners, read by one epoll."""

    def __init__(self, stage: Stage) -> None:
        self.listeners: list[Listener] = []
        self.leaving: list[tuple[float, int]] = []
        """When who is to come back."""
        self._stage = stage
        self._epoll = select.epoll()
        self._by_fd: dict[int, int] = {}

    def take(self, listener: Listener) -> None:
        """Read somebody from now on."""
        self.listeners.append(listener)
        self._watch(len(self.listeners) - 1)

    def look(self, began: float = 0.0) -> None:
        """Read what is there; who is back has needed the seconds since `began`."""
        self._stage.engine.run(0)
        for fd, _ in self._epoll.poll(0.002):
            listener = self.listeners[self._by_fd[fd]]
            assert listener.connection is not None, "it is watched"
            try:
                if not listener.connection.head:
                    listener.say_hello()
                    continue
                self._hear(listener, began)
            except ConnectionError as error:
                listener.connection.lost = LostError(str(error))
            except LostError:
                pass  # what it said before is heard; it is handled below
            if (lost := listener.connection.lost) is not None:
                if listener.is_back:
                    raise lost
                place = self._by_fd.pop(fd)
                after_s = listener.retry() if listener.is_told else listener.leave(lost.code)
                heapq.heappush(self.leaving, (time.monotonic() + after_s, place))

    @staticmethod
    def _hear(listener: Listener, began: float) -> None:
        assert listener.connection is not None, "it is watched"
        for message in listener.connection.read():
            # An error is followed by the end of the connection.
            if listener.request and message.get("id") == listener.request and "ok" in message:
                listener.answer, listener.is_back = message["ok"], True
                listener.after_s = time.monotonic() - began
            else:
                listener.connection.events.append(message)

    def send_back(self, port: int) -> None:
        """Let those come to the other server whose time it is."""
        while self.leaving and self.leaving[0][0] <= time.monotonic():
            _, place = heapq.heappop(self.leaving)
            self.listeners[place].come(port)
            self._watch(place)

    def _watch(self, place: int) -> None:
        connection = self.listeners[place].connection
        assert connection is not None, "it is connected"
        self._by_fd[connection.sock.fileno()] = place
        self._epoll.register(connection.sock.fileno(), select.EPOLLIN)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument("--listeners", type=int, default=2_000, help="who are moved (default 2,000)")
    parser.add_argument("--rooms", type=int, default=100, help="talks that they follow (default 100)")


def run(stage: Stage) -> Result:
    """Measure it."""
    with two(stage) as (staying, leaving), ThreadPoolExecutor(1) as threads:
        accounts = staying.mint(stage.options.rooms + stage.options.listeners)
        hosts, listening = accounts[: stage.options.rooms], accounts[stage.options.rooms :]
        ids = staying.talks(hosts)
        talking = stage.engine.group(EVENTS[OP])
        product.fill(
            stage, staying, talking, {room: [host] for room, host in zip(ids, hosts, strict=True)}, OP
        )
        crowd = Crowd(stage)
        for place, account in enumerate(listening):
            crowd.take(_follower(leaving, account, ids[place % len(ids)]))
            if place % COMES_BETWEEN_READS == 0:
                crowd.look()
        stage.say(f"{len(listening)} people listen; their server is told to end")
        usage, began = staying.server.usage(), time.monotonic()
        ended = threads.submit(_end, leaving, began)
        said = _move(crowd, staying, talking, ended, began)
        seconds = time.monotonic() - began
        cpu = staying.server.usage().since(usage)
        until_quiet(talking, 0.5, 10.0)
        refused = talking.counts.errors
        deaf = _deaf(crowd, talking)
        people = crowd.listeners
        missed, doubled = compare(people)
    told = sum(listener.is_told for listener in people)
    recovered = sum(bool(one.answer["subs"][one.channel]["recovered"]) for one in people)
    after = sorted(one.after_s for one in people)
    data: dict[str, Any] = {
        "listeners": len(people),
        "told": told,
        "recovered": recovered,
        "ended_s": ended.result(),
        "seconds": seconds,
        "after_s": [percentile(after, percent) for percent in (50, 95, 99)],
        "own_us": cpu.own * 1e6 / len(people),
        "with_stores_us": (cpu.own + cpu.stores) * 1e6 / len(people),
        "said": said,
        "refused": refused,
        "deaf": deaf,
        "tries_in_vain": sum(one.tries_in_vain for one in people),
        "missed": missed,
        "doubled": doubled,
    }
    row = [
        str(len(people)),
        f"{recovered / len(people):.2%}",
        number(data["ended_s"], 1),
        number(seconds, 1),
        " / ".join(number(value, 1) for value in data["after_s"]),
        number(data["own_us"], 0),
        number(data["with_stores_us"], 0),
        f"{said} / {refused}",
        str(data["tries_in_vain"]),
        str(missed),
        str(doubled),
    ]
    columns = [
        "moved",
        "recovered",
        "server ended after s",
        "all back after s",
        "back after p50 / p95 / p99 s",
    ]
    columns += [
        "CPU us / person",
        "with stores us",
        "said meanwhile / refused",
        "tries in vain",
        "events missed",
        "doubled",
    ]
    failures = [f"{missed} events missed, {doubled} doubled"] if missed or doubled else []
    if told != len(people):
        failures.append(
            f"{len(people) - told} people were not asked to come back, or had missed something before"
        )
    if deaf:
        failures.append(f"{deaf} people do not hear what is said after they came back")
    if recovered != len(people):
        failures.append(f"{len(people) - recovered} people did not recover")
    return Result("a server ends, and its listeners go on at another", columns, [row], data, (), failures)


def _follower(server: Product, account: Account, room_id: str) -> Listener:
    connection = server.connect(account)
    channel = f"room:{room_id}"
    sub = connection.request("subscribe", ch=channel, d={"ch": channel})
    return Listener(account, room_id, connection, sub)


def _end(server: Product, began: float) -> float:
    server.server.stop()
    return time.monotonic() - began


def _move(crowd: Crowd, staying: Product, talking: Group, ended: "Future[float]", began: float) -> int:
    """Bring everybody to the other server while its hosts talk; return how much they said."""
    rooms = itertools.cycle(talking.rooms)
    said, next_at = 0, began
    while not (ended.done() and all(listener.is_back for listener in crowd.listeners)):
        if time.monotonic() > began + LIMIT_S:
            raise RuntimeError(f"not all are back after {LIMIT_S:.0f} s")
        if time.monotonic() >= next_at:
            talking.send(next(rooms))
            said += 1
            next_at += 1 / (TALKS_PER_S * len(talking.rooms))
        crowd.look(began)
        crowd.send_back(staying.port)
    return said


def _deaf(crowd: Crowd, talking: Group) -> int:
    """Say one more thing in every room; return how many of those who are back do not hear it."""
    before = {one: one.heard for one in crowd.listeners}
    for room in talking.rooms:
        talking.send(room)
    end = time.monotonic() + HEARD_S
    waiting = crowd.listeners
    while waiting and time.monotonic() < end:
        crowd.look()
        waiting = [one for one in waiting if one.heard == before[one]]
    return len(waiting)

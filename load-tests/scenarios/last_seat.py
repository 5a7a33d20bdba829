"""A thousand people want the same four seats, through two server processes, again and again.

Each round opens a talk; everybody asks for a seat in the same moment, half through each server. Then one person
stays, one leaves in good order, and the others' sockets are cut; when their grace is over, exactly the one who stayed
may be left, and somebody new gets a freed seat. Rounds do not wait for the grace: the check runs some rounds later.
"""

import argparse
import collections
import random
import select
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import product
from bench import Result, Stage, number, percentile
from product import Account, Api
from scenarios import two_nodes
from wire import RefusedError

SMALL = ["--people", "20", "--rounds", "1"]
CAP = 4
ROOM_FULL = 120
# What the protocol promises: a seat is free this long after its last socket is gone; and some time for it to happen.
GRACE_S, MARGIN_S = 30.0, 6.0
ROUND_LIMIT_S = 60.0
RETRY_S = 0.2


class Person:
    """Somebody with one socket to one of the servers."""

    def __init__(self, account: Account, port: int) -> None:
        self.account = account
        self.port = port
        self.connection = product.connect(port, account)
        self.asked_at = 0.0
        self.request = 0

    def ask(self, room_id: str) -> None:
        """Ask for a seat and do not wait."""
        self.asked_at = time.monotonic()
        self.request = self.connection.send("room.join", ch=f"room:{room_id}", d={"room_id": room_id})

    def cut(self) -> None:
        """Lose the socket as a crash does, and come back without asking for the seat."""
        self.connection.close(abort=True)
        self.connection = product.connect(self.port, self.account)


class Crowd:
    """Everybody, read by one epoll."""

    def __init__(self, people: Sequence[Person]) -> None:
        self.people = list(people)
        self._epoll = select.epoll()
        self._by_fd: dict[int, Person] = {}
        for person in people:
            self._watch(person)

    def messages(self, timeout_s: float) -> Iterator[tuple[Person, dict[str, Any]]]:
        """Read once from everybody who has something. Heartbeats are answered on the way."""
        for fd, _ in self._epoll.poll(timeout_s):
            person = self._by_fd[fd]
            for message in person.connection.read():
                yield person, message

    def listen(self, seconds: float) -> None:
        """Read for a while and throw it away."""
        end = time.monotonic() + seconds
        while True:
            for _ in self.messages(max(0.0, min(1.0, end - time.monotonic()))):
                pass
            if time.monotonic() >= end:
                return

    def cut(self, person: Person) -> None:
        """Cut somebody's socket and watch the new one."""
        fd = person.connection.sock.fileno()
        self._epoll.unregister(fd)
        del self._by_fd[fd]
        person.cut()
        self._watch(person)

    def _watch(self, person: Person) -> None:
        fd = person.connection.sock.fileno()
        self._by_fd[fd] = person
        self._epoll.register(fd, select.EPOLLIN)


class Storm:
    """One round's answers."""

    def __init__(self, room_id: str) -> None:
        self.room_id = room_id
        self.seated: list[Person] = []
        self.answer_s: list[float] = []
        self.errors: collections.Counter[str] = collections.Counter()
        self.seconds = 0.0
        self.most_seen = 0
        """The most people anybody in the room saw seated at once."""
        self._seen: dict[str, set[str]] = {}

    def run(self, crowd: Crowd) -> None:
        """Let everybody ask at once and read until everybody has a final answer.

        Raises:
            RuntimeError: Somebody got no final answer within the time limit.
        """
        began = time.monotonic()
        waiting = set(crowd.people)
        again: list[tuple[float, Person]] = []
        for person in random.sample(crowd.people, len(crowd.people)):
            person.ask(self.room_id)
        while waiting:
            for person, message in crowd.messages(0.05):
                if message.get("id") != person.request:
                    self._event(person, message)
                elif "ok" in message:
                    self._seat(person, message["ok"])
                    waiting.discard(person)
                elif self._is_final(RefusedError(message["err"])):
                    self.answer_s.append(time.monotonic() - person.asked_at)
                    waiting.discard(person)
                else:
                    again.append((time.monotonic() + RETRY_S * (1 + random.random()), person))
            now = time.monotonic()
            for _, person in [entry for entry in again if entry[0] <= now]:
                person.request = person.connection.send(
                    "room.join", ch=f"room:{self.room_id}", d={"room_id": self.room_id}
                )
            again = [entry for entry in again if entry[0] > now]
            if now - began > ROUND_LIMIT_S:
                raise RuntimeError(f"{len(waiting)} people have no answer after {ROUND_LIMIT_S:.0f} s")
        self.seconds = time.monotonic() - began
        if not self.seated:
            raise RuntimeError(f"nobody got a seat: {dict(self.errors)}")

    def _is_final(self, error: RefusedError) -> bool:
        """Count an error; a full room is the answer, anything else is worth another try."""
        self.errors[error.name] += 1
        return error.code == ROOM_FULL

    def _seat(self, person: Person, joined: dict[str, Any]) -> None:
        self.answer_s.append(time.monotonic() - person.asked_at)
        self.seated.append(person)
        seen = self._seen[person.account.user_id] = _seated_in(joined["room"])
        self.most_seen = max(self.most_seen, len(seen))

    def _event(self, person: Person, message: dict[str, Any]) -> None:
        seen = self._seen.get(person.account.user_id)
        if seen is None or message.get("ch") != f"room:{self.room_id}":
            return
        if message["ev"] == "participant.joined":
            seen.add(message["d"]["user_id"])
        elif message["ev"] == "participant.left":
            seen.discard(message["d"]["user_id"])
        self.most_seen = max(self.most_seen, len(seen))


class Deserted(NamedTuple):
    """A room whose grace is running: when it is over, only `stayed` has a seat."""

    room_id: str
    stayed: Person
    due_at: float


class Findings:
    """What went wrong, in words."""

    def __init__(self) -> None:
        self.overfull: list[str] = []
        self.ghosts: list[str] = []
        self.other: list[str] = []

    def all(self) -> list[str]:
        """Return every finding."""
        return [*self.overfull, *self.ghosts, *self.other]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument("--people", type=int, default=1000, help="who want a seat at once (default 1000)")
    parser.add_argument("--rounds", type=int, default=20, help="default 20")


def run(stage: Stage) -> Result:
    """Play the rounds."""
    options = stage.options
    storms: list[Storm] = []
    findings = Findings()
    with two_nodes.two(stage) as nodes:
        apis = [node.api for node in nodes]
        accounts = nodes[0].mint(options.people)
        crowd = Crowd([Person(account, nodes[place % 2].port) for place, account in enumerate(accounts)])
        deserted: list[Deserted] = []
        for turn in range(options.rounds):
            host = crowd.people[turn % len(crowd.people)].account
            room_id = nodes[0].talks([host])[0]
            storm = Storm(room_id)
            storm.run(crowd)
            storms.append(storm)
            _check_seats(apis, storm, findings)
            deserted.append(_desert(crowd, storm, deserted))
            deserted = _check_deserted(apis, crowd, deserted, findings)
            stage.say(
                f"round {turn + 1}: {len(storm.seated)} seated in {storm.seconds:.2f} s {dict(storm.errors)}"
            )
        while deserted:
            crowd.listen(1.0)
            deserted = _check_deserted(apis, crowd, deserted, findings)
    return _result(options, storms, findings)


def _check_seats(apis: Sequence[Api], storm: Storm, findings: Findings) -> None:
    """See that as many people sit there as may, and that both servers say so."""
    winners = {person.account.user_id for person in storm.seated}
    if len(winners) > CAP or storm.most_seen > CAP:
        findings.overfull.append(
            f"{storm.room_id}: {len(winners)} got a seat, {storm.most_seen} seen at once"
        )
    if len(winners) < CAP:
        findings.other.append(f"{storm.room_id}: only {len(winners)} got a seat")
    for api in apis:
        seated = _seated_in(api.call("GET", f"/rooms/{storm.room_id}", token=storm.seated[0].account.token))
        if len(seated) > CAP:
            findings.overfull.append(f"{storm.room_id}: the snapshot has {len(seated)}")
        elif seated != winners:
            findings.other.append(f"{storm.room_id}: the snapshot has {seated}, the answers said {winners}")


def _desert(crowd: Crowd, storm: Storm, deserted: Sequence[Deserted]) -> Deserted:
    """Leave one person there; another leaves, and the rest lose their sockets.

    Who still stays in an earlier round's room keeps the socket, for the seat there hangs on it, and leaves this one.
    """
    busy = {room.stayed for room in deserted}
    stayed, *others = random.sample(storm.seated, len(storm.seated))
    for place, person in enumerate(others):
        if place == 0 or person in busy:
            person.connection.request("room.leave", ch=f"room:{storm.room_id}", d={"room_id": storm.room_id})
        else:
            crowd.cut(person)
    return Deserted(storm.room_id, stayed, time.monotonic() + GRACE_S + MARGIN_S)


def _check_deserted(
    apis: Sequence[Api], crowd: Crowd, deserted: Sequence[Deserted], findings: Findings
) -> list[Deserted]:
    """Look at the rooms whose grace is over, and return the others."""
    crowd.listen(0)
    for room in [room for room in deserted if room.due_at <= time.monotonic()]:
        stayed, ch = room.stayed, f"room:{room.room_id}"
        for api in apis:
            seated = _seated_in(api.call("GET", f"/rooms/{room.room_id}", token=stayed.account.token))
            for ghost in seated - {stayed.account.user_id}:
                findings.ghosts.append(f"{room.room_id}: {ghost} still has a seat")
            if stayed.account.user_id not in seated:
                findings.other.append(f"{room.room_id}: who stayed has lost the seat")
        newcomer = random.choice([person for person in crowd.people if person is not stayed])
        leaving = [stayed]
        try:
            product.join(newcomer.connection, room.room_id)
            leaving.append(newcomer)
        except RefusedError as error:
            findings.ghosts.append(f"{room.room_id}: a freed seat was not given: {error}")
        for person in leaving:
            person.connection.request("room.leave", ch=ch, d={"room_id": room.room_id})
    return [room for room in deserted if room.due_at > time.monotonic()]


def _result(options: argparse.Namespace, storms: Sequence[Storm], findings: Findings) -> Result:
    answers = sorted(second * 1e3 for storm in storms for second in storm.answer_s)
    errors = sum((storm.errors for storm in storms), collections.Counter[str]())
    figures = {
        "rounds": len(storms),
        "people": options.people,
        "joins": len(answers),
        "seated": sum(len(storm.seated) for storm in storms),
        "most_seen_at_once": max(storm.most_seen for storm in storms),
        "overfull": len(findings.overfull),
        "ghost_seats": len(findings.ghosts),
        "other_findings": len(findings.other),
        "storm_s": [
            statistics.median(storm.seconds for storm in storms),
            max(storm.seconds for storm in storms),
        ],
        "answer_ms": [percentile(answers, percent) for percent in (50, 95, 99)],
        "errors": dict(errors),
    }
    columns = [
        "rounds",
        "people",
        "joins",
        "seated",
        "most seen",
        "overfull",
        "ghost seats",
        "other findings",
    ]
    columns += ["storm s median / max", "answer p50 / p95 / p99 ms"]
    row = [str(figure) for figure in list(figures.values())[:8]]
    row += [" / ".join(map(number, figures[name])) for name in ("storm_s", "answer_ms")]
    refusals = ", ".join(f"{count:,} {name}" for name, count in errors.items())
    return Result(
        f"{options.people} people want {CAP} seats",
        columns,
        [row],
        figures,
        [f"refusals: {refusals}"],
        findings.all(),
    )


def _seated_in(room: dict[str, Any]) -> set[str]:
    return {participant["user_id"] for participant in room["participants"]}

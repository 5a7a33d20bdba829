"""Other servers that do the same work: started from `peers/<name>/peer.toml`, spoken to in their own dialect."""

import contextlib
import hashlib
import json  # noqa: TID251 - no package but the standard library
import os
import shutil
import subprocess
import tomllib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench import EVENTS, OURS, Load, Shape, Side, Stage, Window, measure, text
from engine import BY_FRAME, BY_MARKER, Group, cache
from processes import Cpu, Server, free_port
from wire import STAMP_PLACE, Connection, encode

FOLDER = Path(__file__).parent / "peers"
# npm, Go and the like on a machine that has none of it yet.
SETUP_TIMEOUT_S = 900
# After so many connections everybody else is read, and answers heartbeats.
CONNECTS_BETWEEN_READS = 50
# A driver's people are media clients of several threads each, all on the client's core.
DRIVEN_PEOPLE = 40
# What browsers offer.
DEFLATE = "permessage-deflate; client_max_window_bits"


class Peer(NamedTuple):
    """What `peer.toml` says."""

    title: str
    command: list[str]
    dialect: str
    ready: str = "tcp"
    setup: list[list[str]] = []  # noqa: RUF012 - never changed
    driver: list[str] = []  # noqa: RUF012 - never changed
    """The program that loads it and prints what it measured, where this client cannot speak to it."""
    env: dict[str, str] = {}  # noqa: RUF012 - never changed


class Dialect(NamedTuple):
    """How a kind of server is spoken to."""

    connect: Callable[[int, str, str], Connection]
    """Port, room and user → a connection that is a member of the room."""
    text: Callable[[str], bytes]
    """Room → the message that goes to all of it."""
    marker: bytes = EVENTS["room.send"]
    mode: int = BY_MARKER


def names() -> list[str]:
    """Return the peers that there are."""
    return sorted(path.parent.name for path in FOLDER.glob("*/peer.toml"))


def rounds(
    stage: Stage, ours: Side, shape: Shape, load: Load, *, quiet: bool = False
) -> dict[str, list[Window]]:
    """Measure our side and the peers, interleaved, the order turned round every other round.

    A peer is started anew for each of its rounds; ours stays, and is all but idle while a peer is measured.
    """
    windows: dict[str, list[Window]] = {}
    order = [OURS, *stage.options.compare]
    for number in range(stage.options.rounds):
        for name in order[:: -1 if number % 2 else 1]:
            title, window = _measure(stage, name, ours, shape, load, quiet=quiet)
            windows.setdefault(title, []).append(window)
            stage.say(
                f"round {number + 1}, {load}, {title}: {window.own_us:.2f} us, "
                f"{window.delivered / window.seconds:,.0f}/s"
            )
    # Ours first, whatever the order of the rounds.
    return {OURS: windows.pop(OURS), **windows}


def _measure(
    stage: Stage, name: str, ours: Side, shape: Shape, load: Load, *, quiet: bool
) -> tuple[str, Window]:
    if name == OURS:
        return OURS, measure(stage, ours, load)
    peer = _read(name)
    if peer.driver:
        return peer.title, _driven(stage, name, peer, shape, load)
    with rooms(stage, name, shape, quiet=quiet) as side:
        return side.name, measure(stage, side, load)


def _driven(stage: Stage, name: str, peer: Peer, shape: Shape, load: Load) -> Window:
    """Let a peer's own program load it. It holds fewer people, each of them a whole media client."""
    if load.rate is not None or shape.size > DRIVEN_PEOPLE:
        raise SystemExit(f"{name} is driven in a closed loop only, in rooms of at most {DRIVEN_PEOPLE}")
    with open_server(stage, name) as running:
        places = {"port": running.server.port, "dir": running.folder, "pid": running.server.pid}
        figures = {
            "rooms": min(shape.rooms, DRIVEN_PEOPLE // shape.size),
            "size": shape.size,
            "in-flight": load.in_flight,
            "warmup": stage.options.warmup,
            "seconds": stage.options.seconds,
        }
        command = [part.format(**places) for part in peer.driver]
        command += [part for option, value in figures.items() for part in (f"--{option}", str(value))]
        ran = stage.meanwhile(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
    if not ran.stdout:
        raise RuntimeError(f"the driver of {name} failed:\n{ran.stderr[-4000:]}")
    found = json.loads(ran.stdout.splitlines()[-1])
    own_s = found["own_us"] * found["delivered"] / 1e6
    return Window(
        seconds=found["seconds"],
        cpu=Cpu(own_s, None, 0.0),
        client_s=None,
        offered=found["delivered"],
        delivered=found["delivered"],
        lost=max(0, found["lost"]),
        doubled=max(0, -found["lost"]),
        p50_ms=found["p50_ms"],
        p95_ms=None,
        p99_ms=found["p99_ms"],
        events_per_frame=1.0,
        rss_mb=None,
    )


class Running(NamedTuple):
    """A peer that runs."""

    title: str
    server: Server
    dialect: Dialect | None
    """None: only its own driver can speak to it."""
    folder: Path

    def connect(self, room: str, user: str) -> Connection:
        """Return a connection that is a member of the room."""
        return self.spoken.connect(self.server.port, room, user)

    @property
    def spoken(self) -> Dialect:
        """Return how to speak to it."""
        if self.dialect is None:
            raise SystemExit(
                f"{self.title} is loaded by its own driver, which knows rooms in a closed loop only"
            )
        return self.dialect


@contextlib.contextmanager
def open_server(stage: Stage, name: str) -> Iterator[Running]:
    """Run a peer."""
    peer = _read(name)
    folder = _set_up(name, peer)
    port = free_port()
    places = {"port": str(port), "dir": str(folder)}
    server = Server(
        [part.format(**places) for part in peer.command],
        port=port,
        log=stage.folder / f"{name}.log",
        env={**os.environ, **{key: value.format(**places) for key, value in peer.env.items()}},  # noqa: TID251
        folder=folder,
        cores=stage.options.server_cores,
        # Whatever a peer starts is the peer.
        stores=(),
    )
    with server:
        server.until_ready(peer.ready, meanwhile=stage.engine.run)
        yield Running(peer.title, server, DIALECTS.get(peer.dialect), folder)


@contextlib.contextmanager
def rooms(stage: Stage, name: str, shape: Shape, *, quiet: bool = False) -> Iterator[Side]:
    """Run a peer with its rooms full of people; with `quiet`, one more room of two."""
    with open_server(stage, name) as peer, contextlib.ExitStack() as stack:

        def group(**options: int) -> Group:
            made = stage.engine.group(peer.spoken.marker, mode=peer.spoken.mode, **options)
            stack.callback(made.forget)
            return made

        everybody = group()

        def add_rooms(count: int) -> None:
            _fill(peer, everybody, Shape(count, shape.size))

        add_rooms(shape.rooms)
        pair = None
        if quiet:
            pair = group(sample_every=1)
            _fill(peer, pair, Shape(1, 2))
        yield Side(peer.title, peer.server, everybody, quiet=pair, add_rooms=add_rooms)


def _fill(peer: Running, group: Group, shape: Shape) -> None:
    for number in range(shape.rooms * shape.size):
        if number % shape.size == 0:
            # Ids as long as the product's, so that the events are.
            channel = str(uuid.uuid4())
            room = group.room(text=peer.spoken.text(channel))
        connection = peer.connect(channel, str(uuid.uuid4()))
        group.add(room, connection)
        if number % CONNECTS_BETWEEN_READS == 0:
            group.engine.run(0)


def _read(name: str) -> Peer:
    path = FOLDER / name / "peer.toml"
    if not path.is_file():
        raise SystemExit(f"there is no peer {name}; there are: {', '.join(names())}")
    return Peer(**tomllib.loads(path.read_text()))


def _set_up(name: str, peer: Peer) -> Path:
    """Return the folder to run in: the peer's own, or a copy in the cache in which its setup has run."""
    if not peer.setup:
        return FOLDER / name
    digest = hashlib.sha256()
    for path in sorted(path for path in (FOLDER / name).rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(FOLDER)).encode() + b"\0" + path.read_bytes())
    folder = cache() / "peers" / f"{name}-{digest.hexdigest()[:16]}"
    done = folder / ".set-up"
    if done.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(FOLDER / name, folder)
    for command in peer.setup:
        ran = subprocess.run(
            [part.format(dir=folder) for part in command],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=SETUP_TIMEOUT_S,
        )
        if ran.returncode:
            raise SystemExit(f"{name}: {' '.join(command)} failed:\n{ran.stdout[-4000:]}{ran.stderr[-4000:]}")
    done.touch()
    return folder


# --- Dialects ---


def _ws(port: int, room: str, user: str) -> Connection:
    return Connection(port, f"/ws/{room}/{user}")


def _ws_deflate(port: int, room: str, user: str) -> Connection:
    connection = Connection(port, f"/ws/{room}/{user}", extensions=DEFLATE)
    if "permessage-deflate" not in connection.head:
        raise RuntimeError("the server does not compress: its dialect is ws, not ws-deflate")
    return connection


def _socket_io(port: int, room: str, user: str) -> Connection:
    connection = Connection(port, "/socket.io/?EIO=4&transport=websocket")
    _until(connection, b"0{")
    connection.send_text(b"40")
    _until(connection, b"40")
    connection.send_text(b"42" + encode(["join", room, user]))
    _until(connection, b'42["joined"')
    return connection


def _centrifugo(port: int, room: str, user: str) -> Connection:
    connection = Connection(port, "/connection/websocket")
    connection.send_text(encode({"id": 1, "connect": {"name": user}}))
    _until(connection, b'"connect":{')
    connection.send_text(encode({"id": 2, "subscribe": {"channel": f"room:{room}"}}))
    _until(connection, b'"subscribe":{')
    return connection


def _until(connection: Connection, wanted: bytes) -> None:
    """Read until an answer comes; what comes before it is skipped."""
    while not any(wanted in answer for answer in connection.texts()):
        pass


def _room_send(room: str) -> bytes:
    return text("room.send", f"room:{room}")


def _room_send_socket_io(room: str) -> bytes:
    return b"42" + encode(["room.send", json.loads(_room_send(room))])


def _publish(room: str) -> bytes:
    # Its ids are 32 bits wide, so the stamp cannot be one; the data has it.
    data = json.loads(_room_send(room))["d"]
    message = encode({"id": 3, "publish": {"channel": f"room:{room}", "data": data}})
    assert STAMP_PLACE in message
    return message


DIALECTS = {
    "ws": Dialect(_ws, _room_send),
    "channels": Dialect(_ws, _room_send),
    "ws-deflate": Dialect(_ws_deflate, _room_send, mode=BY_FRAME),
    "socket.io": Dialect(_socket_io, _room_send_socket_io),
    "centrifugo": Dialect(_centrifugo, _publish, marker=b'"push":{"channel":'),
}

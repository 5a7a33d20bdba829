"""The load client's hot loop, over socket pairs: it counts exactly, whatever the pieces in which bytes arrive."""

import importlib
import itertools
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = str(Path(__file__).parents[2] / "load-tests")
MARKER = b'"ev":"room.message"'
EVENT = b'{"ch":"room:1","ev":"room.message","ts":1,"d":{"data":"hello"}}'


class Pair:
    """A connection to nobody: the other end is the test's."""

    def __init__(self) -> None:
        self.sock, self.far = socket.socketpair()
        self.far.settimeout(5)

    def take_rest(self) -> bytes:
        return b""

    def close(self, *, abort: bool = False) -> None:
        self.sock.close()
        self.far.close()


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the load tests' modules as their own programs do."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(FOLDER):
            del sys.modules[name]


@pytest.fixture
def engine(modules: Any) -> Iterator[Any]:
    made = modules("engine").Engine()
    yield made
    made.close()


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return a server's frame."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, size) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 1_000, 1 << 20])
def test_every_event_is_counted_once_however_the_bytes_are_cut(engine: Any, piece: int) -> None:
    group = engine.group(MARKER)
    pair = Pair()
    group.room([pair])
    # 1 + 3 + 2,000 events; the last frame needs a length of 64 bits.
    stream = frame(EVENT) + frame(b"\n".join([EVENT] * 3)) + frame(b"{}") + frame(b"are you there", 9)
    stream += frame(b'{"id":1,"ok":{}}')
    if piece > 64:
        stream += frame(b"\n".join([EVENT] * 2_000))

    for at in range(0, len(stream), piece):
        pair.far.sendall(stream[at : at + piece])
        engine.run(0)
    engine.run(0.01)

    assert group.counts.received == (2_004 if piece > 64 else 4)
    assert group.counts.errors == group.counts.closed == 0
    heartbeat, pong = b"\x81\x82\0\0\0\0{}", b"\x8a\x8d\0\0\0\0are you there"
    assert pair.far.recv(100) == heartbeat + pong


def test_a_lost_and_a_doubled_delivery_do_not_make_up_for_each_other(modules: Any, engine: Any) -> None:
    group = engine.group(MARKER)
    people = [Pair() for _ in range(3)]
    room = group.room(people, b"hello")
    tally = modules("bench").Tally(group, 3)

    group.send(room)
    for pair, copies in zip(people, (1, 0, 2), strict=True):
        pair.far.sendall(frame(EVENT) * copies)
    engine.run(0.01)

    assert tally.owed == 0
    assert tally.result() == (1, 1)


def test_an_error_and_a_close_are_noticed(modules: Any, engine: Any) -> None:
    group = engine.group(MARKER)
    pair = Pair()
    group.room([pair])

    pair.far.sendall(frame(b'{"id":1,"err":{"code":130,"name":"overloaded"}}'))
    pair.far.sendall(frame(struct.pack("!H", 4205) + b"slow_consumer", 8))
    engine.run(0.01)

    assert (group.counts.errors, group.counts.closed) == (1, 1)
    with pytest.raises(modules("engine").EngineError, match="overloaded"):
        group.check()
    assert group.of_connection(0).close_code == 4205


def test_an_open_loop_sends_what_is_due_with_the_time_it_was_due(engine: Any, modules: Any) -> None:
    group = engine.group(MARKER, sample_every=1)
    pair = Pair()
    room = group.room([pair], b'{"data":"@#@' + modules("wire").STAMP_PLACE + b'"}')

    group.rate(1_000)
    while group.sent_in(room) < 10:
        engine.run(0.01)
    group.stop()
    sent = group.sent_in(room)
    message = pair.far.recv(1 << 16)
    stamps = [int(part[:16]) for part in message.split(b"@#@")[1:]]

    assert sent == len(stamps)
    assert {later - earlier for earlier, later in itertools.pairwise(stamps)} == {1_000_000}

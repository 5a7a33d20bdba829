"""The way out, compiled and not: the same frames in the same order, whatever the socket and the transport do."""

import asyncio
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from server.gateway.outlet import COMPILED, Outlet, PythonTick, Tick

KINDS: list[Callable[[Callable[..., object]], Tick]] = [kind for kind in (COMPILED, PythonTick) if kind]


class Loop:
    """Collects what is to run at the end of the turn."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []

    def call_soon(self, work: Callable[[], object]) -> None:
        self.soon.append(work)

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for work in soon:
            work()


class Line:
    """A socket pair, and a transport above it that keeps what the kernel does not take."""

    def __init__(self, tick: Tick, *, fd: bool = True, small: bool = False) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        if small:
            self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.kept = bytearray()
        self.outlet = tick.outlet(self.transport_write, self.near.fileno() if fd else -1)

    def transport_write(self, data: bytes) -> None:
        if not self.kept:
            try:
                data = data[self.near.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                self.outlet.close()
                return
        if data:
            self.kept += data
            self.outlet.block()

    def transport_drain(self) -> None:
        try:
            while self.kept:
                del self.kept[: self.near.send(self.kept)]
        except BlockingIOError:
            return
        self.outlet.unblock()

    def read(self) -> bytes:
        found = bytearray()
        try:
            while chunk := self.far.recv(1 << 20):
                found += chunk
        except BlockingIOError:
            pass
        return bytes(found)

    def close(self) -> None:
        self.outlet.close()
        self.near.close()
        self.far.close()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__module__.rpartition(".")[2])
def tick(request: pytest.FixtureRequest, loop: Loop) -> Tick:
    made: Tick = request.param(loop.call_soon)
    return made


@pytest.fixture
def line(tick: Tick) -> Iterator[Line]:
    made = Line(tick)
    yield made
    made.close()


def test_it_is_compiled_where_there_is_a_compiler() -> None:
    assert COMPILED is not None


def test_frames_of_a_turn_leave_together_at_its_end(loop: Loop, line: Line) -> None:
    line.outlet.write(b"one")
    line.outlet.write(b"two")
    line.outlet.write(b"three")
    before = line.read()
    loop.turn()

    assert before == b""
    assert line.read() == b"onetwothree"
    assert line.outlet.written == 11
    assert not loop.soon


def test_flush_does_not_wait_for_the_end(loop: Loop, line: Line) -> None:
    line.outlet.write(b"now")
    line.outlet.flush()
    at_once = line.read()
    line.outlet.write(b"then")
    loop.turn()

    assert at_once == b"now"
    assert line.read() == b"then"


def test_broadcast_reaches_every_outlet_once(loop: Loop, tick: Tick) -> None:
    lines = [Line(tick, fd=number % 2 == 0) for number in range(10)]
    lines[3].outlet.write(b"first ")
    tick.broadcast(tuple(line.outlet for line in lines), b"all")
    tick.run()
    got = [line.read() for line in lines]
    loop.turn()
    again = [line.read() for line in lines]
    for line in lines:
        line.close()

    assert got == [b"first all" if number == 3 else b"all" for number in range(10)]
    assert again == [b""] * 10


def test_closed_outlet_takes_nothing_and_touches_no_descriptor(loop: Loop, tick: Tick) -> None:
    line = Line(tick)
    line.outlet.write(b"lost")
    line.outlet.close()
    line.outlet.write(b"lost too")
    tick.broadcast((line.outlet,), b"and this")
    loop.turn()
    line.outlet.flush()
    found = line.read()
    line.close()

    assert found == b""


def test_peer_that_is_gone_is_the_transports_affair(loop: Loop, line: Line) -> None:
    line.far.close()
    line.outlet.write(b"anybody?")
    loop.turn()
    line.outlet.write(b"no")
    loop.turn()

    assert line.outlet.written == len(b"anybody?")


def test_pause_while_many_are_served_keeps_nothing_from_the_others(loop: Loop, tick: Tick) -> None:
    lines = [Line(tick, small=number == 2) for number in range(5)]
    frame = b"x" * 100_000
    tick.broadcast(tuple(line.outlet for line in lines), frame)
    loop.turn()
    got = [len(line.read()) for line in lines]
    for line in lines:
        line.transport_drain()
        line.close()

    assert [size for number, size in enumerate(got) if number != 2] == [100_000] * 4
    assert 0 < got[2] < 100_000


@pytest.mark.parametrize("seed", range(20))
def test_order_is_kept_whatever_fills_and_drains(loop: Loop, tick: Tick, seed: int) -> None:
    chance = random.Random(seed)
    line = Line(tick, fd=chance.random() < 0.8, small=True)
    expected, found = bytearray(), bytearray()
    for number in range(400):
        match chance.randrange(6):
            case 0:
                loop.turn()
            case 1:
                line.outlet.flush()
            case 2:
                found += line.read()
            case 3:
                line.transport_drain()
            case _:
                frame = number.to_bytes(4, "big") * chance.choice((1, 30, 3000))
                expected += frame
                line.outlet.write(frame)
    for _ in range(10_000):
        loop.turn()
        line.transport_drain()
        found += line.read()
        if len(found) == len(expected):
            break
    line.close()

    assert found == expected
    assert line.outlet.written == len(expected)


def test_broadcast_refuses_what_is_no_frame(tick: Tick, line: Line) -> None:
    if not isinstance(tick, PythonTick):
        for wrong in ("text", bytearray(b"x"), None):
            with pytest.raises(TypeError):
                tick.broadcast((line.outlet,), wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            tick.broadcast((object(),), b"x")  # type: ignore[arg-type]
    assert line.read() == b""


async def test_outlets_of_a_loop_share_its_tick() -> None:
    from server.gateway.outlet import tick_of

    loop = asyncio.get_running_loop()
    outlets: list[Outlet] = []
    lines = [Line(tick_of(loop)) for _ in range(3)]
    outlets += [line.outlet for line in lines]
    tick_of(loop).broadcast(tuple(outlets), b"hello")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    got = [line.read() for line in lines]
    for line in lines:
        line.close()

    assert got == [b"hello"] * 3

"""What rooms hear of sockets: the gateway speaks in wall time, rooms keep presence in business time."""

from datetime import timedelta
from typing import cast
from uuid import UUID, uuid4

from rooms import messages as m
from rooms.registry import Registry
from server.bridge import Seats
from server.clock import Clock

A_DAY = timedelta(days=1)


class Rooms:
    """Keeps what rooms are told."""

    def __init__(self) -> None:
        self.node_id = uuid4()
        self.told: list[m.Signal] = []

    def tell(self, _room_id: UUID, signal: m.Signal) -> None:
        self.told.append(signal)


def test_presence_reaches_to_the_last_frame_in_business_time() -> None:
    rooms = Rooms()
    clock = Clock(offset=A_DAY)
    heard_at = clock.wall() - timedelta(seconds=20)

    Seats(cast(Registry, rooms), clock).seen(uuid4(), {"ann": ["1", "2"]}, {"ann": heard_at})

    (signal,) = rooms.told
    assert isinstance(signal, m.SocketsSeen)
    assert signal.sockets == {"ann": ("1", "2")}
    last_frame = signal.seen[m.Identity("ann")]
    assert abs(last_frame - (heard_at + A_DAY)) < timedelta(seconds=1)
    assert last_frame < signal.at - timedelta(seconds=19)

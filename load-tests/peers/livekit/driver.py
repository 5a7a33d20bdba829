"""What a delivered data message costs a LiveKit server: rooms of real participants, reliable data, a closed loop.

The server runs already; `--pid` names it. Every room has `--in-flight` messages under way: the next is sent when the
last of the others has one. People send in turn but the last, who is the pacer. LiveKit does not echo to the sender, so
a message in a room of four is three deliveries. The result is one line of JSON on stdout. `own_us` has all the CPU of
the measured time in it, `idle_core` is the share of a core that the same people cost while nobody says anything.
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
import uuid
from pathlib import Path

from livekit import api, rtc

KEY, SECRET = "load", "only-for-servers-that-live-for-one-run"
PADDING = "The quick brown fox jumps over the lazy dog."
TOPIC = "room.message"
# People join one by one in each room, and so many rooms at a time: enough to keep both sides busy.
ROOMS_AT_ONCE = 4
# A join takes 65 ms and a message less; these only end a run that hangs.
JOIN_LIMIT_S = 30.0
DRAIN_LIMIT_S = 10.0
SETTLE_S = 2.0
# Long enough to see what keeps the connections of silent people alive.
IDLE_S = 5.0


class Counts:
    def __init__(self):
        self.sent = 0
        self.wanted = 0
        self.delivered = 0
        self.latencies_ms: list[float] = []


class Room:
    """The people of one room under load."""

    def __init__(self, counts: Counts):
        self.counts = counts
        self.name = f"room-{uuid.uuid4()}"
        self.people: list[rtc.Room] = []
        self.turns = itertools.cycle([])
        self.publishing: set[asyncio.Task] = set()
        self.is_open = False

    async def fill(self, url: str, size: int):
        for number in range(size):
            person = rtc.Room()
            is_pacer = number == size - 1
            person.on("data_received", lambda packet, is_pacer=is_pacer: self.receive(packet, is_pacer))
            async with asyncio.timeout(JOIN_LIMIT_S):
                await person.connect(url, token(self.name, f"user-{number}-{uuid.uuid4()}"))
            self.people.append(person)
        self.turns = itertools.cycle(self.people[:-1])

    def receive(self, packet: rtc.DataPacket, is_pacer: bool):
        self.counts.delivered += 1
        if is_pacer:
            sent_ns = int(json.loads(packet.data)["d"]["data"].split()[0])
            self.counts.latencies_ms.append((time.monotonic_ns() - sent_ns) / 1e6)
            if self.is_open:
                self.send()

    def send(self):
        task = asyncio.ensure_future(self.publish(next(self.turns)))
        self.publishing.add(task)
        task.add_done_callback(self.publishing.discard)

    async def publish(self, sender: rtc.Room):
        said = {"kind": "reaction", "data": f"{time.monotonic_ns()} {PADDING}"}
        event = {"ch": f"room:{self.name}", "ev": TOPIC, "ts": time.time_ns() // 1_000_000, "d": said}
        self.counts.sent += 1
        self.counts.wanted += len(self.people) - 1
        await sender.local_participant.publish_data(
            json.dumps(event, separators=(",", ":")), reliable=True, topic=TOPIC
        )


def token(room: str, identity: str) -> str:
    grants = api.VideoGrants(room_join=True, room=room)
    return api.AccessToken(KEY, SECRET).with_identity(identity).with_grants(grants).to_jwt()


def cpu_s(pid: int) -> float:
    """CPU time of all threads of the server, from the scheduler's nanoseconds."""
    used = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        used += int((thread / "schedstat").read_text().split()[0])
    return used / 1e9


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def measure(options: argparse.Namespace) -> dict:
    url = f"ws://127.0.0.1:{options.port}"
    counts = Counts()
    rooms = [Room(counts) for _ in range(options.rooms)]
    for begin in range(0, len(rooms), ROOMS_AT_ONCE):
        await asyncio.gather(*(room.fill(url, options.size) for room in rooms[begin : begin + ROOMS_AT_ONCE]))

    # Joining costs a while longer than it takes.
    await asyncio.sleep(SETTLE_S)
    before = cpu_s(options.pid)
    await asyncio.sleep(IDLE_S)
    idle_core = (cpu_s(options.pid) - before) / IDLE_S

    for room in rooms:
        room.is_open = True
        for _ in range(options.in_flight):
            room.send()
    await asyncio.sleep(options.warmup)
    counts.latencies_ms.clear()
    began, cpu, delivered = time.monotonic(), cpu_s(options.pid), counts.delivered
    await asyncio.sleep(options.seconds)
    seconds, cpu, delivered = time.monotonic() - began, cpu_s(options.pid) - cpu, counts.delivered - delivered
    latencies_ms = sorted(counts.latencies_ms)

    for room in rooms:
        room.is_open = False
    end = time.monotonic() + DRAIN_LIMIT_S
    while counts.delivered < counts.wanted and time.monotonic() < end:
        await asyncio.sleep(0.05)
    await asyncio.gather(*(person.disconnect() for room in rooms for person in room.people))
    if not latencies_ms:
        raise SystemExit("nothing was delivered in the measured time")
    return {
        "delivered": delivered,
        "seconds": round(seconds, 3),
        "own_us": round(cpu * 1e6 / delivered, 2),
        "core": round(cpu / seconds, 3),
        "p50_ms": round(percentile(latencies_ms, 0.50), 3),
        "p99_ms": round(percentile(latencies_ms, 0.99), 3),
        "lost": counts.wanted - counts.delivered,
        "idle_core": round(idle_core, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True, help="the server's process")
    parser.add_argument("--rooms", type=int, default=10)
    parser.add_argument("--size", type=int, default=4, help="people in a room (default 4)")
    parser.add_argument("--in-flight", type=int, default=1, help="messages under way in a room (default 1)")
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    result = asyncio.run(measure(parser.parse_args()))
    print(json.dumps(result))
    return 1 if result["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())

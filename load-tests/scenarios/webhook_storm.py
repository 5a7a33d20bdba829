"""Signed LiveKit webhooks as fast as they are taken: what does one cost, and is each stored and applied?

The media server is this program: it signs `participant_joined` and `participant_left` of people in talks with the
key that the server is given, and keeps several connections busy.
"""

import argparse
import base64
import hashlib
import hmac
import json  # noqa: TID251 - no package but the standard library
import secrets
import socket
import time
from typing import Any

import product
from bench import Result, Stage, number, percentile
from engine import RAW
from product import Account, Product
from wire import Connection, encode

SMALL = ["--webhooks", "200", "--rooms", "4"]
KEY, SECRET = "load-tests", secrets.token_urlsafe(32)
SIGNED_FOR_S = 600
LIMIT_S = 120.0
# Rooms read their inbox after the answer; this is how long the last of it may take.
APPLIED_LIMIT_S = 60.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    parser.add_argument("--webhooks", type=int, default=10_000, help="default 10,000")
    parser.add_argument("--rooms", type=int, default=100, help="talks that they speak of (default 100)")
    parser.add_argument("--senders", type=int, default=8, help="connections of the media server (default 8)")


def run(stage: Stage) -> Result:
    """Measure it."""
    env = {"LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}
    with product.running(stage, env=env) as ours:
        hosts = ours.mint(stage.options.rooms)
        rooms = ours.talks(hosts)
        requests = [
            _request(ours.port, _webhook(number_, rooms, hosts)) for number_ in range(stage.options.webhooks)
        ]
        group = stage.engine.group(b"HTTP/1.1 200", mode=RAW, sample_every=1)
        for _ in range(stage.options.senders):
            group.room([_Sender(ours.port)])
        group.feed(requests)
        usage, began = ours.server.usage(), time.monotonic()
        group.pace(1)
        stage.engine.run(LIMIT_S, group=group.number, until=len(requests))
        answered, seconds = group.counts.received, time.monotonic() - began
        cpu = ours.server.usage().since(usage)
        stored, applied = _inbox(ours, len(requests))
        applied_s = time.monotonic() - began
        all_cpu = ours.server.usage().since(usage)
        latencies = group.latencies_ms()
    failures = [
        f"{count} of {len(requests)} webhooks {what}"
        for what, count in (("answered 200", answered), ("stored", stored), ("applied", applied))
        if count != len(requests)
    ]
    data: dict[str, Any] = {
        "webhooks": len(requests),
        "answered": answered,
        "stored": stored,
        "applied": applied,
        "per_s": answered / seconds,
        "own_us": cpu.own * 1e6 / answered,
        "user_us": (cpu.own_user or 0.0) * 1e6 / answered,
        "with_stores_us": (cpu.own + cpu.stores) * 1e6 / answered,
        "until_applied_s": applied_s,
        "until_applied_us": all_cpu.own * 1e6 / answered,
        "ms": [percentile(latencies, percent) for percent in (50, 95, 99)],
    }
    row = [
        f"{data['per_s']:,.0f}",
        *(number(data[figure], 0) for figure in ("own_us", "user_us", "with_stores_us", "until_applied_us")),
        " / ".join(map(number, data["ms"])),
        str(answered),
        str(stored),
        str(applied),
        number(applied_s, 1),
    ]
    columns = ["webhooks/s", "CPU us / webhook", "user us", "with stores us", "us until applied"]
    columns += ["p50 / p95 / p99 ms", "answered 200", "stored", "applied", "all applied after s"]
    return Result(f"{len(requests)} webhooks of {len(rooms)} rooms", columns, [row], data, (), failures)


class _Sender(Connection):
    """A keep-alive connection that speaks HTTP; the engine only needs its socket."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))

    def take_rest(self) -> bytes:
        """Nothing was read."""
        return b""


def _webhook(number_: int, rooms: list[str], hosts: list[Account]) -> dict[str, Any]:
    """Return somebody's coming or going; the people of a room come and go in turn."""
    turn, place = divmod(number_, len(rooms))
    now = int(time.time())
    room = {"sid": f"RM_{place}", "name": f"ft_{rooms[place]}_1", "emptyTimeout": 300, "maxParticipants": 4}
    person = {
        "sid": f"PA_{place}_{turn // 2}",
        "identity": hosts[place].user_id,
        "state": "ACTIVE",
        "joinedAt": str(now),
        "joinedAtMs": str(now * 1000),
        "permission": {"canSubscribe": True, "canPublish": True, "canPublishData": True},
    }
    if turn % 2:
        person |= {"state": "DISCONNECTED", "disconnectReason": "CLIENT_INITIATED"}
    return {
        "event": "participant_left" if turn % 2 else "participant_joined",
        "id": f"EV_{secrets.token_hex(8)}",
        "createdAt": str(now),
        "room": room,
        "participant": person,
    }


def _request(port: int, webhook: dict[str, Any]) -> bytes:
    body = encode(webhook)
    lines = [
        "POST /webhooks/livekit HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/webhook+json",
        f"Content-Length: {len(body)}",
        f"Authorization: {_signed(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _signed(body: bytes) -> str:
    """Return the JSON Web Token that LiveKit sends with a body."""
    now = int(time.time())
    claims = {
        "iss": KEY,
        "nbf": now,
        "exp": now + SIGNED_FOR_S,
        "sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }
    signed = b".".join(_base64url(encode(part)) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + _base64url(hmac.digest(SECRET.encode(), signed, "sha256"))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _inbox(ours: Product, wanted: int) -> tuple[int, int]:
    """Wait until the rooms have read everything, and return how many were stored and read."""
    query = "select json_build_array(count(*), count(read_at)) from media_event"
    end = time.monotonic() + APPLIED_LIMIT_S
    stored, applied = 0, 0
    while time.monotonic() < end and applied < wanted:
        stored, applied = json.loads(ours.sql(query))
        time.sleep(0.2)
    return stored, applied

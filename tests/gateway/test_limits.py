"""Rates, concurrency, deadlines: what a client may ask of one connection and of all of them."""

import asyncio
import uuid

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from server.gateway.limits import Bucket, Limits, Rate
from tests.gateway.harness import Client, Node, Refused, client, serving


class Burst:
    """What came of requests that were sent at once."""

    def __init__(self, answers: list[object], took_s: float) -> None:
        self.good = sum(isinstance(answer, dict) for answer in answers)
        self.refused = [answer for answer in answers if isinstance(answer, Refused)]
        self.took_s = took_s


async def burst(one: Client, op: str, times: int, d: object = None, ch: str | None = None) -> Burst:
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers = await asyncio.gather(*(one.call(op, d, ch=ch) for _ in range(times)), return_exceptions=True)
    return Burst(list(answers), loop.time() - began)


async def test_operations_are_limited_and_say_when_to_come_back(node: Node) -> None:
    async with client(node) as one:
        sent = await burst(one, "ping", 55)
        refused = sent.refused
        await asyncio.sleep(refused[0].err["retry_after_ms"] / 1000 + 0.05)
        assert await one.call("ping")

    assert 40 <= sent.good <= 41 + 20 * sent.took_s
    assert {error.code for error in refused} == {111}
    assert refused[0].err["retryable"]
    assert 0 < refused[0].err["retry_after_ms"] <= 1000
    assert node.count("fourtalk_limited_total", bucket="ops") == len(refused)


@pytest.mark.parametrize(
    ("op", "d", "times", "allowed"), [("chat.send", {"text": "x"}, 20, 10), ("room.join", None, 30, 20)]
)
async def test_some_operations_have_a_bucket_of_their_own(
    node: Node, op: str, d: object, times: int, allowed: int
) -> None:
    async with client(node) as one:
        sent = await burst(one, op, times, d, ch=f"room:{uuid.uuid4()}")

    assert allowed <= sent.good <= allowed + 1 + 5 * sent.took_s
    assert len(sent.refused) == times - sent.good


async def test_room_messages_do_not_use_up_the_operations(node: Node) -> None:
    room_id = str(uuid.uuid4())
    async with client(node) as one, client(node) as other:
        for each in (one, other):
            await each.call("room.join", {"room_id": room_id})
        lines = [
            f'{{"op":"room.send","ch":"room:{room_id}","d":{{"kind":"cursor","data":{number}}}}}'
            for number in range(180)
        ]
        for start in range(0, 180, 60):
            await one.send_raw("\n".join(lines[start : start + 60]))
        sent = await burst(one, "ping", 30)
        await other.until_events(100)

    assert sent.good == 30
    assert len(other.events) < 180
    assert one.errors == []


async def test_users_share_one_budget(node: Node) -> None:
    user = str(uuid.uuid4())
    async with client(node, token=user) as one, client(node, token=user) as two, client(node) as stranger:
        sent = [await burst(each, "ping", 38) for each in (one, two, stranger)]

    assert sent[0].good == 38
    assert 2 <= sent[1].good <= 3 + 20 * (sent[0].took_s + sent[1].took_s)
    assert sent[2].good == 38


async def test_flood_closes(node: Node) -> None:
    async with client(node) as one:
        for _ in range(40):
            await one.send_raw("\n".join(["{}"] * 60))
        assert await one.closed() == 4008


async def test_rates_can_be_switched_off(redis_url: str) -> None:
    async with serving(redis_url, limits=Limits(are_rates_on=False)) as node, client(node) as one:
        sent = await burst(one, "ping", 300)

    assert sent.good == 300


async def test_eight_run_and_the_others_wait(node: Node) -> None:
    async with client(node) as one:
        sent = await burst(one, "nap", 16, {"seconds": 0.3})

    assert sent.good == 16
    assert 0.6 <= sent.took_s < 16 * 0.3


async def test_more_than_may_wait_are_refused(redis_url: str) -> None:
    limits = Limits(concurrent_ops=1, waiting_ops=2)
    async with serving(redis_url, limits=limits) as node, client(node) as one:
        sent = await burst(one, "nap", 6, {"seconds": 0.3})

    assert sent.good == 3
    assert {error.code for error in sent.refused} == {130}


async def test_answers_come_when_they_are_ready(node: Node) -> None:
    async with client(node) as one, asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(one.call("nap", {"seconds": 0.5}))
        await one.call("ping")

        assert not slow.done()


@pytest.mark.parametrize(("op", "code"), [("nap", 130), ("nap.change", 132)])
async def test_deadline_of_an_operation(redis_url: str, op: str, code: int) -> None:
    async with serving(redis_url, limits=Limits(op_s=0.2)) as node, client(node) as one:
        with pytest.raises(Refused) as refused:
            await one.call(op, {"seconds": 5})
        assert await one.call("ping")

    assert refused.value.code == code
    assert refused.value.err["retryable"]


async def test_slow_operation_does_not_kill_a_healthy_client(redis_url: str) -> None:
    """uvicorn pauses reading behind a message that nobody takes, so pongs would not be read either."""
    limits = Limits(ping_s=0.3, pong_s=0.4)
    async with serving(redis_url, limits=limits) as node, client(node) as one:
        sent = await burst(one, "nap", 12, {"seconds": 1.2})

    assert sent.good == 12
    assert one.heartbeats >= 3


async def test_key_reaches_the_command(node: Node) -> None:
    async with client(node) as one:
        await one.call("nap.change", {}, key="k" * 255)

    assert node.ran == [("nap.change", "k" * 255)]


async def test_channel_of_the_envelope_stands_for_the_room(node: Node) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    async with client(node) as one:
        of_envelope = await one.call("chat.send", {"text": "x"}, ch=f"room:{first}")
        of_both = await one.call("chat.send", {"text": "x", "room_id": str(second)}, ch=f"room:{first}")

    assert (of_envelope["room_id"], of_envelope["ch"]) == (str(first), f"room:{first}")
    assert of_both["room_id"] == str(second)


@given(
    st.floats(0.5, 100),
    st.integers(1, 100),
    st.lists(st.floats(0, 0.3), min_size=1, max_size=200),
)
@settings(deadline=None)
def test_bucket_never_gives_more_than_rate_and_burst(per_s: float, size: int, gaps: list[float]) -> None:
    bucket = Bucket(Rate(per_s, size))
    now, taken, began = 1000.0, 0, 1000.0

    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        taken += wait == 0
        assert taken <= size + (now - began) * per_s + 1e-3
        if wait:
            assert Bucket(Rate(per_s, size)).take(now) == 0
            assert wait <= 1 / per_s + 1e-6


def test_bucket_that_was_refused_gives_after_the_wait() -> None:
    bucket = Bucket(Rate(10, 5))
    given = sum(1 for _ in range(20) if not bucket.take(100.0))

    wait = bucket.take(100.0)

    assert given == 5
    assert bucket.take(100.0 + wait + 1e-6) == 0


def test_every_limit_has_its_reason() -> None:
    import ast
    from pathlib import Path

    from server.gateway import limits

    tree = ast.parse(Path(limits.__file__).read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Limits").body
    undocumented = [
        ast.unparse(field)
        for field, after in zip(body, [*body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign)
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]

    assert undocumented == []
    assert msgspec.json.encode(Limits().shown())

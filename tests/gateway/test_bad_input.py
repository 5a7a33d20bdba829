"""Whatever a client sends is answered with a stable code, and the socket stays."""

import asyncio
import uuid

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from server.gateway.limits import Limits
from server.gateway.protocol import MsgpackCodec, msgpack_size
from tests.gateway.harness import Node, Refused, client, serving

ROOM = "room:" + str(uuid.uuid4())
DEEP = b"[" * 12_000 + b"]" * 12_000

BAD_FRAMES = {
    "no JSON": (b"hello", None),
    "cut short": (b'{"id":5,"op":"ping"', None),
    "a list": (b"[1,2]", None),
    "a number": (b"7", None),
    "empty": (b"", None),
    "op is a number": (b'{"id":5,"op":7}', 5),
    "op is missing": (b'{"id":5}', 5),
    "id is zero": (b'{"id":0,"op":"ping"}', None),
    "id is negative": (b'{"id":-5,"op":"ping"}', None),
    "id is text": (b'{"id":"5","op":"ping"}', None),
    "id is a giant": (b'{"id":123456789012345678901234567890,"op":"ping"}', None),
    "id overflows": (b'{"id":1e999,"op":"ping"}', None),
    "channel is a number": (b'{"id":5,"op":"subscribe","ch":7}', 5),
    "channel is too long": (b'{"id":5,"op":"subscribe","ch":"' + b"x" * 201 + b'"}', 5),
    "key is too long": (b'{"id":5,"op":"ping","key":"' + b"x" * 256 + b'"}', 5),
    "key is empty": (b'{"id":5,"op":"ping","key":""}', 5),
    "deep": (b'{"id":5,"op":"subscribe","d":' + DEEP + b"}", None),
    "deep and unknown": (b'{"id":5,"op":"subscribe","zz":' + DEEP + b"}", None),
    "NUL": (b'{"id":5,"op":"chat.send","d":{"text":"a\\u0000b"}}', 5),
    "lone surrogate": (b'{"id":5,"op":"chat.send","d":{"text":"\\ud800"}}', None),
    "d is a list": (b'{"id":5,"op":"subscribe","d":[1]}', 5),
    "d is text": (b'{"id":5,"op":"chat.send","d":"x"}', 5),
    "field missing": (b'{"id":5,"op":"chat.send","d":{}}', 5),
    "field of another type": (b'{"id":5,"op":"chat.send","d":{"text":[1]}}', 5),
    "id is no UUID": (b'{"id":5,"op":"room.join","d":{"room_id":"1"}}', 5),
    "room id twice": (b'{"id":5,"op":"room.join","ch":"room:x","d":{"room_id":{}}}', 5),
    "giant number": (b'{"id":5,"op":"nap","d":{"seconds":1e999}}', 5),
    "negative offset": (b'{"id":5,"op":"history","ch":"room:1","d":{"since":{"epoch":"e","off":-1}}}', 5),
    "page too long": (
        b'{"id":5,"op":"history","ch":"room:1","d":{"since":{"epoch":"e","off":0},"limit":201}}',
        5,
    ),
    "too many messages": (b'{"op":"ping"}\n' * 100, None),
    "message too long": (
        b'{"id":5,"op":"room.send","ch":"'
        + ROOM.encode()
        + b'","d":{"kind":"x","data":"'
        + b"x" * 1024
        + b'"}}',
        5,
    ),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_bad_message_is_answered_and_the_socket_stays(node: Node, name: str) -> None:
    frame, number = BAD_FRAMES[name]
    async with client(node) as one:
        await one.send_raw(frame.decode())
        await one.until(lambda: one.errors)
        assert await one.call("ping")

    assert one.errors[0]["err"]["code"] == 107
    assert one.errors[0]["err"]["name"] == "bad_request"
    assert one.errors[0]["err"]["retryable"] is False
    assert one.errors[0].get("id") == number
    assert len(one.errors) == 1
    assert node.ran == []


async def test_field_that_does_not_fit_is_named(node: Node) -> None:
    frame, _ = BAD_FRAMES["field of another type"]
    async with client(node) as one:
        await one.send_raw(frame.decode())
        await one.until(lambda: one.errors)

    assert one.errors[0]["err"]["d"]["errors"] == [
        {"field": "text", "message": "Expected `str`, got `array`."}
    ]


async def test_unknown_op(node: Node) -> None:
    async with client(node) as one:
        with pytest.raises(Refused) as refused:
            await one.call("no.such.op")
        await one.tell("no.such.op")
        await one.until(lambda: one.errors)

    assert refused.value.code == 104
    assert one.errors[0]["err"]["code"] == 104


async def test_unknown_fields_are_ignored(node: Node) -> None:
    async with client(node) as one:
        await one.send_raw('{"id":70,"op":"ping","later":{"a":1},"d":{"new":true}}')
        await one.until(lambda: one.errors)

    assert "ok" in one.errors[0]


async def test_text_that_is_not_utf8_closes_as_the_rfc_says(node: Node) -> None:
    async with client(node) as one:
        await one.socket.send(b'{"id":5,"op":"ping","zz":"\xff"}', text=True)
        assert await one.closed() == 1007


async def test_binary_json_that_is_not_utf8_reaches_nobody(node: Node) -> None:
    async with client(node) as one, client(node) as other:
        for each in (one, other):
            await each.call("room.join", {"room_id": ROOM.removeprefix("room:")})
        await one.send_raw(
            b'{"id":5,"op":"room.send","ch":"' + ROOM.encode() + b'","d":{"kind":"x","data":"\xff"}}'
        )
        await one.until(lambda: one.errors)
        await one.call("room.send", {"kind": "x", "data": "fine"}, ch=ROOM)
        await other.until(lambda: other.events)

    assert one.errors[0]["err"]["code"] == 107
    assert [event["d"]["data"] for event in other.events] == ["fine"]


@pytest.mark.parametrize(
    "frame",
    [b"\xc1", b"\x81\xa2id", b"\x92\x01", b"\x07", msgspec.msgpack.encode({"id": 1, "op": 7}), b"\x91" * 5000,
     msgspec.msgpack.encode({"id": 5, "op": "ping", (1, 2): 3}), b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
     msgspec.msgpack.encode({"id": 5, "op": "chat.send", "d": {"text": "a\0b"}})],
)  # fmt: skip
async def test_bad_msgpack_is_answered_and_the_socket_stays(node: Node, frame: bytes) -> None:
    async with client(node, subprotocol="fourtalk.v1.msgpack") as one:
        await one.send_raw(frame)
        await one.until(lambda: one.errors)
        assert await one.call("ping")

    assert one.errors[0]["err"]["code"] == 107


async def test_error_of_ours_keeps_its_words_to_itself(node: Node) -> None:
    async with client(node) as one:
        with pytest.raises(Refused) as refused:
            await one.call("crash")
        await one.call("ping")

    assert refused.value.err["code"] == 100
    assert "secret" not in refused.value.err["message"]


async def test_twenty_errors_close(node: Node) -> None:
    async with client(node) as one:
        for _ in range(19):
            await one.send_raw("x")
        await one.until(lambda: len(one.errors) == 19)
        assert await one.call("ping")
        await one.send_raw("x")
        assert await one.closed() == 4102


async def test_errors_that_are_ours_do_not_count(node: Node) -> None:
    async with client(node) as one:
        for _ in range(25):
            with pytest.raises(Refused):
                await one.call("crash")

        assert await one.call("ping")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
)


@given(st.lists(values, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_concatenated_msgpack_comes_apart(items: list[object]) -> None:
    data = b"".join(msgspec.msgpack.encode(item) for item in items)

    found, rest = [], memoryview(data)
    while rest:
        size = msgpack_size(rest)
        found.append(msgspec.msgpack.decode(rest[:size]))
        rest = rest[size:]

    assert found == items


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_bytes_decode_without_an_exception(data: bytes) -> None:
    assert isinstance(MsgpackCodec().decode(data), list)


async def test_random_frames_kill_no_socket(redis_url: str) -> None:
    limits = Limits(errors=10_000, are_rates_on=False)
    async with serving(redis_url, limits=limits) as node, client(node) as one:
        import random

        chance = random.Random(3)
        good = b'{"id":5,"op":"chat.send","ch":"' + ROOM.encode() + b'","d":{"text":"hello"}}'
        for _ in range(300):
            frame = bytearray(good)
            for _ in range(chance.randrange(1, 5)):
                frame[chance.randrange(len(frame))] = chance.randrange(32, 127)
            await one.send_raw(frame.decode())
        await asyncio.sleep(0.1)

        assert await one.call("ping")

"""Operations that only ask a room: answered by a call, and otherwise like all the others."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec import Raw

from server import errors
from server.gateway.connection import Login
from server.gateway.limits import Limits
from server.gateway.questions import Answer
from tests.gateway.harness import Node, Refused, client, eventually, serving


class Room:
    """Keeps what it is asked, and answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[msgspec.Struct, str | None, Answer]] = []

    def ask(
        self, login: Login, address: str | None, request: msgspec.Struct, key: str | None, answer: Answer
    ) -> None:
        if key == "refused":
            raise errors.ForbiddenError("not you")
        self.asked.append((request, key, answer))

    async def until_asked(self, count: int) -> None:
        await eventually(lambda: len(self.asked) >= count)


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
async def node(redis_url: str, room: Room) -> AsyncIterator[Node]:
    limits = Limits(op_s=0.5, concurrent_ops=2, waiting_ops=2)
    async with serving(redis_url, limits=limits, asks={"chat.send": room.ask}) as running:
        yield running


async def test_answer_is_a_call(node: Node, room: Room) -> None:
    async with client(node) as one, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(one.call("chat.send", {"text": "hello"}, key="k"))
        await room.until_asked(1)
        request, key, answer = room.asked[0]
        is_waiting = not answer.cancelled()
        answer.set_result(Raw(b'{"said":true}'))

    assert (msgspec.to_builtins(request)["text"], key) == ("hello", "k")
    assert is_waiting
    assert asking.result() == {"said": True}
    assert node.ran == []


async def test_what_is_raised_and_what_is_answered_are_both_errors(node: Node, room: Room) -> None:
    async with client(node) as one, asyncio.TaskGroup() as tasks:
        with pytest.raises(Refused) as refused:
            await one.call("chat.send", {"text": "hello"}, key="refused")
        with pytest.raises(Refused) as misread:
            await one.call("chat.send", {"words": "hello"})
        asking = tasks.create_task(one.tell("chat.send", {"text": "hello"}))
        await room.until_asked(1)
        room.asked[0][2].set_exception(errors.ConflictError("full", code="room_full"))
        broken = tasks.create_task(failing(one.call("chat.send", {"text": "again"})))
        await room.until_asked(2)
        room.asked[1][2].set_exception(RuntimeError("a bug"))

    assert asking.done()
    assert [refused.value.code, misread.value.code, broken.result()] == [103, 107, 100]


async def test_deadline_leaves_the_place_to_the_next(node: Node, room: Room) -> None:
    async with client(node) as one, asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(failing(one.call("chat.send", {"text": str(n)}))) for n in range(3)]
        await room.until_asked(2)
        await room.until_asked(3)
        is_over = [answer.cancelled() for _, _, answer in room.asked]
        room.asked[0][2].set_result(Raw(b"{}"))
        room.asked[2][2].set_result(Raw(b"{}"))

    assert is_over == [True, True, False]
    assert [task.result() for task in asking] == [132, 132, None]


async def test_more_than_may_wait_are_refused(node: Node, room: Room) -> None:
    async with client(node) as one, asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(failing(one.call("chat.send", {"text": str(n)}))) for n in range(5)]
        for count in range(1, 5):
            await room.until_asked(count)
            room.asked[count - 1][2].set_result(Raw(b"{}"))

    assert [task.result() for task in asking] == [None, None, None, None, 130]


async def failing(call: "asyncio.Future[object] | object") -> int | None:
    try:
        await call  # type: ignore[misc]
    except Refused as refused:
        return refused.code
    return None

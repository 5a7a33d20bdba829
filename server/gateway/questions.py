"""Operations that one room answers by itself: they wait without a task and without a timer of their own.

A task, its two time-outs and the futures between them cost more than all the rest of a chat message. Here the answer
is a call, and the gateway's sweep looks after all deadlines at once.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import UNSET

from server import errors
from server.gateway.connection import Connection, Login
from server.gateway.protocol import Request

if TYPE_CHECKING:
    from server.gateway.gateway import Gateway


class Answer(Protocol):
    """Where the answer to a question goes, once; a part of what a future can do."""

    def cancelled(self) -> bool:
        """Return whether nobody waits for it any more, so that what was asked must not be begun."""

    def set_result(self, result: object) -> None:
        """Answer with something that has a JSON."""

    def set_exception(self, exception: Exception, /) -> None:
        """Answer that it failed."""


Ask = Callable[[Login, str | None, msgspec.Struct, str | None, Answer], None]
"""Begins a command for somebody at an address, under a key; never waits. What it raises is the answer, too."""


class Questions:
    """The questions that wait for their answer."""

    def __init__(
        self,
        gateway: "Gateway",
        asks: Mapping[str, Ask],
        *,
        decode: Callable[[Request], msgspec.Struct],
        then: Callable[[Connection, Request], None],
        too_late: Callable[[Request], Exception],
    ) -> None:
        self._gateway = gateway
        self._asks = asks
        self._decode = decode
        self._then = then
        self._too_late = too_late
        # In order of their deadlines, since all have the same time.
        self._waiting: deque[_Question] = deque()

    def __contains__(self, op: object) -> bool:
        """Return whether an operation is a question."""
        return op in self._asks

    def begin(self, connection: Connection, request: Request) -> None:
        """Ask; the connection has a place for the operation, and gets it back with the answer."""
        question = _Question(self, connection, request)
        self._waiting.append(question)
        login = connection.login
        assert login is not None, "commands run after connect"
        key = None if request.key is UNSET else request.key
        try:
            ask = self._asks[str(request.op)]
            ask(login, connection.address, self._decode(request), key, question)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client hears of it
            question.set_exception(error)

    def sweep(self, now: float) -> None:
        """Answer those whose time is over."""
        waiting = self._waiting
        while waiting and (waiting[0].is_over or waiting[0].deadline <= now):
            question = waiting.popleft()
            if not question.is_over:
                question.set_exception(self._too_late(question.request))

    def deadline(self) -> float:
        """Return when a question that is asked now must be answered."""
        return self._gateway.monotonic() + self._gateway.limits.op_s

    def over(self, connection: Connection) -> None:
        """Begin what waits for the place."""
        waiting = connection.finished()
        if waiting is not None:
            self._then(connection, waiting)


class _Question:
    """One question; an `Answer`."""

    __slots__ = ("_connection", "_questions", "deadline", "is_over", "request")

    def __init__(self, questions: Questions, connection: Connection, request: Request) -> None:
        self.request = request
        self.deadline = questions.deadline()
        self.is_over = False
        self._questions = questions
        self._connection = connection

    def cancelled(self) -> bool:
        return self.is_over

    def set_result(self, result: object) -> None:
        if not self.is_over:
            self.is_over = True
            self._connection.reply(self.request.id, result)
            self._questions.over(self._connection)

    def set_exception(self, exception: Exception, /) -> None:
        if not self.is_over:
            self.is_over = True
            if errors.socket_error_of(exception) is errors.INTERNAL:
                self._connection.log.error("operation_failed", op=self.request.op, exc_info=exception)
            self._connection.fail(self.request.id, exception)
            self._questions.over(self._connection)

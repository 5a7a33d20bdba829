"""The other nodes: which rooms were found on them, and how those are asked and told."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from uuid import UUID

from rooms import messages as m
from rooms.envelopes import Answer, Envelope, decode_answer, encode, error_of
from rooms.errors import OverloadedError
from rooms.ownership import Elsewhere

Forward = Callable[[UUID, UUID, bytes], Awaitable[bytes]]
"""Sends bytes to a room (the second id) on another node (the first) and returns its answer."""

# Rooms of other nodes of which something is remembered: some MB, and more than are in use through one node at a time.
KNOWN_MAX = 10_000


class UnreachableError(OverloadedError):
    """The node that runs the room cannot be reached; it did nothing."""

    def __init__(self, node_id: UUID) -> None:
        super().__init__("its node cannot be reached")
        self.node_id = node_id


class Neighbours:
    """Where rooms run that do not run here, as far as is known, and the way to them."""

    def __init__(self, forward: Forward | None) -> None:
        self._forward = forward
        self._found: OrderedDict[UUID, Elsewhere] = OrderedDict()

    def where(self, room_id: UUID) -> Elsewhere | None:
        """Return where a room was found. Whoever is asked wrongly says so, or cannot be reached."""
        return self._found.get(room_id)

    def remember(self, room_id: UUID, found: Elsewhere) -> None:
        """Keep where a room was found."""
        self._found[room_id] = found
        if len(self._found) > KNOWN_MAX:
            self._found.popitem(last=False)

    def forget(self, room_id: UUID) -> None:
        """Drop what is known of a room: it is not there any more."""
        self._found.pop(room_id, None)

    async def ask(self, node_id: UUID, room_id: UUID, command: m.Command) -> m.Reply:
        """Have a room on that node carry out a command, and return its reply.

        Raises:
            UnreachableError: The node cannot be reached.
            FencedError: The room does not run there.
            RoomError: The room refuses, or cannot answer now.
        """
        answer = await self._send(node_id, Envelope(room_id, command=command))
        assert answer.reply is not None, "a command has a reply"
        return answer.reply

    async def tell(self, node_id: UUID, room_id: UUID, signal: m.Signal) -> None:
        """Let a room on that node know something.

        Raises:
            UnreachableError: The node cannot be reached.
            FencedError: The room does not run there.
        """
        await self._send(node_id, Envelope(room_id, signal=signal))

    async def _send(self, node_id: UUID, envelope: Envelope) -> Answer:
        if self._forward is None:
            raise UnreachableError(node_id)
        try:
            answer = decode_answer(await self._forward(node_id, envelope.room_id, encode(envelope)))
        except TimeoutError:
            raise
        except OSError as error:
            raise UnreachableError(node_id) from error
        if answer.error is not None:
            raise error_of(answer)
        return answer

"""What nodes say to each other about a room: a message for its actor, and the answer."""

from typing import Any
from uuid import UUID

import msgspec

from rooms import errors, messages as m
from rooms.errors import OverloadedError, RoomError


class Envelope(msgspec.Struct, frozen=True):
    """A message to a room on another node."""

    room_id: UUID
    command: m.Command | None = None
    signal: m.Signal | None = None


class Answer(msgspec.Struct, frozen=True):
    """What the other node says."""

    reply: m.Reply | None = None
    error: str | None = None
    """Name of the error's class."""
    words: str = ""
    facts: dict[str, Any] = {}


encode = msgspec.msgpack.Encoder().encode
decode_envelope = msgspec.msgpack.Decoder(Envelope).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode


def error_of(answer: Answer) -> RoomError:
    """Return the error that another node's room raised."""
    kind = getattr(errors, answer.error or "", OverloadedError)
    if not (isinstance(kind, type) and issubclass(kind, RoomError)):
        kind = OverloadedError
    error: RoomError = kind.__new__(kind)
    RoomError.__init__(error, answer.words, **answer.facts)
    return error

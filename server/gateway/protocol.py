"""The wire contract of `/ws` (PROTOCOL 3): messages, codecs, close codes. The error numbers stand in `server/errors.py`.

Inside the server a message is JSON. MessagePack is a codec of the edge: frames in are turned into JSON, frames out
are made from the JSON that everybody else gets, so the two cannot differ in meaning.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from struct import Struct
from typing import Annotated, Any, ClassVar, Final, Literal, NewType
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from server import errors

ConnectionId = NewType("ConnectionId", str)

JSON_SUBPROTOCOL: Final = "fourtalk.v1.json"
MSGPACK_SUBPROTOCOL: Final = "fourtalk.v1.msgpack"

# A frame of 32 KiB could carry ten thousand empty messages. Nobody batches more than a burst of operations (40);
# a smaller number would break clients that send what waited while they were offline.
MESSAGES_PER_FRAME = 64


class CloseCode(IntEnum):
    """Why the server closes a socket; the range says what the client does next.

    4000-4099: stop (4001, 4007: get a new token first). 4100-4199: back off. 4200-4299: reconnect now, with `since`.
    """

    BAD_REQUEST = 4000
    AUTH_FAILED = 4001
    FORBIDDEN = 4003
    """Banned, or the page's origin is not on the list."""
    PROTOCOL_VERSION = 4004
    CONNECTION_LIMIT = 4005
    AUTH_TIMEOUT = 4007
    FLOOD = 4008
    FRAME_TOO_BIG = 4009
    OVERLOADED = 4100
    RATE_LIMITED = 4101
    TOO_MANY_ERRORS = 4102
    INTERNAL = 4103
    DRAIN = 4200
    TOKEN_EXPIRED = 4201
    NO_PONG = 4202
    STATE_INVALIDATED = 4203
    SLOW_CONSUMER = 4205


# --- Client to server ---------------------------------------------------------------------------

# JavaScript's largest safe integer: a larger id would come back as another number.
MessageId = Annotated[int, Meta(gt=0, le=2**53 - 1)]
Offset = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Key = Annotated[str, Meta(min_length=1, max_length=255)]
ChannelName = Annotated[str, Meta(min_length=1, max_length=200)]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """One message of a client. An empty one is a heartbeat."""

    op: str | UnsetType = UNSET
    id: MessageId | UnsetType = UNSET
    """Absent: fire-and-forget, nothing answers."""
    ch: ChannelName | UnsetType = UNSET
    key: Key | UnsetType = UNSET
    d: Raw = Raw(b"{}")


class BadMessage(msgspec.Struct, frozen=True):
    """A message that cannot be read, with its id where that can be told."""

    reason: str
    id: int | UnsetType = UNSET


class Since(msgspec.Struct, frozen=True):
    """The last position of a channel that the client knows."""

    epoch: str
    off: Offset


class ChannelSince(Since, frozen=True):
    """A position with its channel, for `connect`."""

    ch: ChannelName


class Client(msgspec.Struct, frozen=True):
    """What the client calls itself; for the log."""

    name: Annotated[str, Meta(max_length=64)] = ""
    version: Annotated[str, Meta(max_length=64)] = ""


class Connect(msgspec.Struct, frozen=True):
    """First message: who it is, and where it left off."""

    token: Annotated[str, Meta(max_length=4096)] | None = None
    ticket: Annotated[str, Meta(max_length=512)] | None = None
    client: Client = Client()
    since: Annotated[tuple[ChannelSince, ...], Meta(max_length=100)] = ()


class Refresh(msgspec.Struct, frozen=True):
    """A newer token for the same user."""

    token: Annotated[str, Meta(min_length=1, max_length=4096)]


class Subscribe(msgspec.Struct, frozen=True):
    """Follow a channel, from a known position on or from now."""

    ch: ChannelName
    since: Since | None = None


class Unsubscribe(msgspec.Struct, frozen=True):
    """Stop following a channel."""

    ch: ChannelName


class ReadHistory(msgspec.Struct, frozen=True):
    """The next page of a channel after a position."""

    ch: ChannelName
    since: Since
    limit: Annotated[int, Meta(ge=1, le=200)] = 200


class Ping(msgspec.Struct, frozen=True):
    """Is anybody there, and what time is it?"""


class Said(msgspec.Struct, frozen=True):
    """A volatile message, for the room that the envelope names."""

    kind: Annotated[str, Meta(min_length=1, max_length=64)]
    data: Raw = Raw(b"null")
    room_id: UUID | UnsetType = UNSET


class SendToRoom(msgspec.Struct, frozen=True):
    """A volatile message for everybody in the room."""

    room_id: UUID
    kind: Annotated[str, Meta(min_length=1, max_length=64)]
    data: Raw = Raw(b"null")


class RoomMessage(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What everybody in the room gets of it, as `room.message`."""

    from_: str
    kind: str
    data: Raw


class Typing(msgspec.Struct, frozen=True):
    """Somebody starts or stops typing."""

    room_id: UUID


class TypingShown(msgspec.Struct, frozen=True):
    """What everybody in the room gets of it, as `typing`."""

    user_id: str
    typing: bool


PresenceState = Literal["online", "away", "busy"]


class SetPresence(msgspec.Struct, frozen=True):
    """Whether somebody is around, for those who follow the presence channel; who disconnects is offline by itself."""

    ch: ChannelName
    state: PresenceState | Literal["offline"]


# --- Server to client ---------------------------------------------------------------------------


class PersonView(msgspec.Struct, frozen=True):
    """Somebody who is around."""

    user_id: str
    state: PresenceState


class PresenceDiff(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `presence.diff` carries."""

    people: Sequence[PersonView]
    """Who came, or changed."""
    gone: Sequence[str]
    full: bool = False
    """True: `people` is everybody; so it is right after subscribing, and after a time with a full socket."""


class Ok(msgspec.Struct, frozen=True):
    """The answer to one request."""

    id: int
    ok: Any


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong; `code` and `name` are a row of PROTOCOL 3's table."""

    code: int
    name: str
    message: str
    retryable: bool
    retry_after_ms: int | UnsetType = UNSET
    d: dict[str, Any] | UnsetType = UNSET


class Failed(msgspec.Struct, frozen=True):
    """The answer to a request that failed; without an id if the request's could not be read."""

    err: ErrorBody
    id: int | UnsetType = UNSET


class Event(msgspec.Struct, frozen=True):
    """One publication of a channel; without `off` it is volatile."""

    ch: str
    ev: str
    ts: int
    """Milliseconds of the Unix epoch."""
    d: Raw | msgspec.Struct
    off: int | UnsetType = UNSET


class Control(msgspec.Struct, frozen=True):
    """What the server has to say about the connection itself."""

    ctl: Literal["disconnect", "unsubscribed", "token.expiring", "reset"]
    d: dict[str, Any]


class SubscriptionView(msgspec.Struct, frozen=True):
    """Where a subscription starts: everything after `off` arrives as an event, nothing before it does."""

    epoch: str
    off: int
    """The position after `events`."""
    recovered: bool
    """True: `events` (and, with `more`, the pages of `history` after them) are all that was missed."""
    events: Sequence[Raw] = ()
    more: bool = False


class UserView(msgspec.Struct, frozen=True):
    """Whose connection it is."""

    id: str
    role: str


class Connected(msgspec.Struct, frozen=True):
    """The answer to `connect`."""

    conn: str
    user: UserView
    server_time: int
    """Milliseconds of the Unix epoch."""
    ping_s: float
    pong_s: float
    limits: dict[str, Any]
    subs: dict[str, SubscriptionView]


class Refreshed(msgspec.Struct, frozen=True):
    """How long the newer token holds."""

    expires_in_s: int


class HistoryPage(msgspec.Struct, frozen=True):
    """A page of a channel's past."""

    epoch: str
    off: int
    """The position after `events`."""
    events: Sequence[Raw]
    more: bool


class Pong(msgspec.Struct, frozen=True):
    """The server's wall clock, in milliseconds of the Unix epoch."""

    server_time: int


class Done(msgspec.Struct, frozen=True):
    """It is so now."""


# --- Publications -------------------------------------------------------------------------------


class Position(msgspec.Struct, frozen=True):
    """A place in a channel: which life of it, and how many events so far."""

    epoch: str
    off: int


class Publication(msgspec.Struct, frozen=True, array_like=True):
    """What is published on a channel."""

    off: int | None
    """Gap-free per channel; None: volatile."""
    ev: str
    ts: int
    """Milliseconds of the Unix epoch."""
    d: bytes
    """JSON object."""


# --- Errors -------------------------------------------------------------------------------------


class CommandError(errors.ServerError):
    """A refusal of the gateway's own: a row of the error table with its words."""

    def __init__(
        self, row: errors.SocketError, message: str, *, retry_after_ms: int | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.row = row
        self.code = row.name
        self.retry_after_ms = retry_after_ms


def error_body(error: Exception) -> ErrorBody:
    """Return what a client is told of an error; an unknown one is `internal` and keeps its words to itself."""
    row = error.row if isinstance(error, CommandError) else errors.socket_error_of(error)
    if row is errors.INTERNAL:
        return ErrorBody(row.code, row.name, "something went wrong here", row.retryable)
    facts = dict(getattr(error, "facts", None) or {})
    retry_after_ms = facts.pop("retry_after_ms", None) or getattr(error, "retry_after_ms", None)
    fields = getattr(error, "errors", ())
    if fields:
        facts["errors"] = fields
    code = getattr(error, "code", row.name)
    if code != row.name:
        # Several codes share a number (`conflict`); programs tell them apart by the code that HTTP has too.
        facts["code"] = code
    return ErrorBody(row.code, row.name, str(error), row.retryable, retry_after_ms or UNSET, facts or UNSET)


# --- Codecs -------------------------------------------------------------------------------------

encode = msgspec.json.Encoder().encode
_decode_request = msgspec.json.Decoder(Request).decode


class _IdOnly(msgspec.Struct):
    id: Any = UNSET


_decode_id = msgspec.json.Decoder(_IdOnly).decode


class JsonCodec:
    """Text frames; messages separated by line ends."""

    subprotocol: ClassVar[str] = JSON_SUBPROTOCOL
    heartbeat: ClassVar[bytes]

    def decode(self, frame: bytes) -> Sequence[Request | BadMessage]:
        """Return the messages of a frame; what cannot be read is one too, nothing raises."""
        if not frame.isascii() and not _is_utf8(frame):
            # In a text frame the wire has seen this; parts of a message are relayed as they are, so it matters here too.
            return [BadMessage("not UTF-8")]
        if b"\n" not in frame:
            return (_read(frame),)
        lines = [line for line in frame.split(b"\n", MESSAGES_PER_FRAME) if line.strip()]
        if len(lines) > MESSAGES_PER_FRAME:
            return [BadMessage(f"more than {MESSAGES_PER_FRAME} messages in one frame")]
        return [_read(line) for line in lines]

    def frame(self, messages: Sequence[bytes]) -> bytes:
        """Return one unmasked WebSocket frame with these JSON messages."""
        return frame_of(TEXT_FRAME, messages[0] if len(messages) == 1 else b"\n".join(messages))


class MsgpackCodec:
    """Binary frames; messages one after another."""

    subprotocol: ClassVar[str] = MSGPACK_SUBPROTOCOL
    heartbeat: ClassVar[bytes]

    def decode(self, frame: bytes) -> list[Request | BadMessage]:
        """Return the messages of a frame; what follows an unreadable one cannot be found and is dropped."""
        messages: list[Request | BadMessage] = []
        rest = memoryview(frame)
        while rest:
            if len(messages) == MESSAGES_PER_FRAME:
                return [BadMessage(f"more than {MESSAGES_PER_FRAME} messages in one frame")]
            try:
                size = msgpack_size(rest)
                text = encode(msgspec.msgpack.decode(rest[:size]))
            except (ValueError, TypeError, RecursionError) as error:
                messages.append(BadMessage(f"not MessagePack: {error}"))
                break
            messages.append(_read(text))
            rest = rest[size:]
        return messages

    def frame(self, messages: Sequence[bytes]) -> bytes:
        """Return one unmasked WebSocket frame with these JSON messages, as MessagePack."""
        return frame_of(BINARY_FRAME, b"".join(_transcoded(messages)))


Codec = JsonCodec | MsgpackCodec
CODECS: dict[str, Codec] = {codec.subprotocol: codec for codec in (JsonCodec(), MsgpackCodec())}


# First bytes of final frames (RFC 6455 §5.2).
TEXT_FRAME: Final = 0x81
BINARY_FRAME: Final = 0x82
CLOSE_FRAME: Final = 0x88
PONG_FRAME: Final = 0x8A
# The head of a frame without a mask, by the width of its length.
_SHORT, _LONG, _LONGEST = Struct("!BB").pack, Struct("!BBH").pack, Struct("!BBQ").pack


def event_json(channel: str, publication: Publication) -> bytes:
    """Return the event's JSON, made once for every receiver."""
    off = UNSET if publication.off is None else publication.off
    return encode(Event(channel, publication.ev, publication.ts, Raw(publication.d), off))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read(text: bytes) -> Request | BadMessage:
    # PostgreSQL stores no NUL in text, so none may come in; JSON can only write it as an escape.
    if b"\\u0000" in text:
        return BadMessage("the character NUL is not allowed", _id_of(text))
    try:
        return _decode_request(text)
    except RecursionError:
        return BadMessage("the message is nested too deep")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return BadMessage(str(error), _id_of(text))


def _id_of(text: bytes) -> int | UnsetType:
    """Return the id of a message that is wrong elsewhere."""
    try:
        found = _decode_id(text).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNSET
    return found if type(found) is int and 0 < found < 2**53 else UNSET


def _transcoded(messages: Iterable[bytes]) -> Iterable[bytes]:
    """Return the messages as MessagePack, without those that it cannot say.

    JSON knows numbers that are too large for it, and parts of a message are relayed as they came.
    """
    for message in messages:
        try:
            yield msgspec.msgpack.encode(msgspec.json.decode(message))
        except (ValueError, OverflowError, RecursionError):
            continue


def frame_of(first: int, payload: bytes) -> bytes:
    """Return an unmasked final frame (RFC 6455 §5.2): servers do not mask, so one frame serves every receiver."""
    size = len(payload)
    if size < 126:
        return _SHORT(first, size) + payload
    if size < 65_536:
        return _LONG(first, 126, size) + payload
    return _LONGEST(first, 127, size) + payload


# --- Where one MessagePack value ends ------------------------------------------------------------


class _Head(msgspec.Struct, frozen=True):
    """What the first byte of a value says about the rest (MessagePack specification, Formats)."""

    size: int = 0
    """Bytes that follow, without those that a length announces."""
    values: int = 0
    """Values that follow."""
    width: int = 0
    """Width of a length that comes first."""
    each: int = 0
    """What the length counts: 0 bytes, 1 values, 2 pairs."""


def _heads() -> dict[int, _Head]:
    heads = {first: _Head() for first in (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3)}
    heads |= {0x80 + count: _Head(values=2 * count) for count in range(16)}
    heads |= {0x90 + count: _Head(values=count) for count in range(16)}
    heads |= {0xA0 + count: _Head(size=count) for count in range(32)}
    fixed = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
    extensions = {0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
    heads |= {first: _Head(size=size) for first, size in (fixed | extensions).items()}
    strings = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
    heads |= {first: _Head(width=width) for first, width in strings.items()}
    heads |= {first: _Head(size=1, width=width) for first, width in {0xC7: 1, 0xC8: 2, 0xC9: 4}.items()}
    heads |= {first: _Head(width=width, each=1) for first, width in {0xDC: 2, 0xDD: 4}.items()}
    heads |= {first: _Head(width=width, each=2) for first, width in {0xDE: 2, 0xDF: 4}.items()}
    return heads


_HEADS = _heads()


def msgpack_size(data: memoryview) -> int:
    """Return how many bytes the first value of `data` takes; msgspec reads one value and refuses a rest.

    Raises:
        ValueError: The value is cut short or begins with a byte that has no meaning.
    """
    at, values = 0, 1
    while values:
        if at >= len(data):
            raise ValueError("the value is cut short")
        head = _HEADS.get(data[at])
        if head is None:
            raise ValueError("a byte that begins no value")
        at += 1
        values += head.values - 1
        if head.width:
            length = int.from_bytes(data[at : at + head.width], "big")
            values += head.each * length
            at += head.width + (0 if head.each else length)
        at += head.size
    if at > len(data):
        raise ValueError("the value is cut short")
    return at


JsonCodec.heartbeat = frame_of(TEXT_FRAME, b"{}")
MsgpackCodec.heartbeat = frame_of(BINARY_FRAME, msgspec.msgpack.encode({}))

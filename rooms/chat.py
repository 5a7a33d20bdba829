"""Rules of a room's chat. Pure.

A client that does not know whether its command arrived repeats it with the same key and gets the first
answer again, also after a crash, because keys are part of the journalled state.
"""

import hashlib
from datetime import timedelta
from uuid import UUID

import msgspec
from msgspec.structs import replace

from rooms import errors, messages as m
from rooms.messages import Identity
from rooms.state import key_of
from rooms.turn import Turn

TEXT_MAX = 2_000
# Long enough for a typing error, too short to rewrite what others have answered to.
EDITABLE = timedelta(minutes=15)

Changing = m.SendChat | m.EditChat | m.DeleteChat


def send(turn: Turn, command: m.SendChat) -> m.Reply:
    """Say something; everybody in the room may."""
    digest = _digest(command)
    repeated = _repeated(turn, command, digest)
    if repeated is not None:
        return repeated
    _require_seat(turn, command.user)
    text = _text(command.text)
    # The room and the event's number in it: nothing else needs to be random for it to be the only one.
    message_id = UUID(int=turn.state.spec.id.int ^ (turn.state.seq + 1))
    turn.emit(m.MessageCreated(message_id, command.user, text, turn.now, command.key, digest))
    return turn.state.lines[message_id]


def edit(turn: Turn, command: m.EditChat) -> m.Reply:
    """Change an own message."""
    digest = _digest(command)
    repeated = _repeated(turn, command, digest)
    if repeated is not None:
        return repeated
    _require_seat(turn, command.user)
    line = _line(turn, command.message_id)
    if line.user_id != command.user:
        raise errors.NotAllowedError("the author")
    if turn.now - line.sent_at > EDITABLE:
        raise errors.ConflictError("A message can be changed for 15 minutes.")
    text = _text(command.text)
    turn.emit(m.MessageUpdated(line.id, line.user_id, text, line.sent_at, turn.now, command.key, digest))
    return turn.state.lines[line.id]


def delete(turn: Turn, command: m.DeleteChat) -> m.Reply:
    """Delete a message."""
    digest = _digest(command)
    repeated = _repeated(turn, command, digest)
    if repeated is not None:
        return repeated
    line = _line(turn, command.message_id)
    if command.user not in {line.user_id, turn.state.chair} and not command.admin:
        raise errors.NotAllowedError("the author, the host or the tutor")
    turn.emit(m.MessageDeleted(line.id, command.user, command.key, digest))
    return m.Done()


def read(turn: Turn, command: m.ReadChat) -> m.Reply:
    """Remember how far somebody has read; going back is ignored."""
    _require_seat(turn, command.user)
    order = list(turn.state.lines)
    if command.message_id not in turn.state.lines:
        raise errors.MessageNotFoundError
    before = turn.state.read.get(command.user)
    if before not in turn.state.lines or order.index(before) < order.index(command.message_id):
        turn.emit(m.MessageRead(command.message_id, command.user))
    return m.Done()


def _digest(command: Changing) -> str | None:
    if command.key is None:
        return None
    plain = msgspec.json.encode(replace(command, key=None))
    return hashlib.blake2b(plain, digest_size=16).hexdigest()


def _repeated(turn: Turn, command: Changing, digest: str | None) -> m.Reply | None:
    """Return the first answer when the key was used before; refuse another command under the same key."""
    use = turn.state.keys.get(key_of(command.user, command.key)) if command.key is not None else None
    if use is not None:
        if use.digest != digest:
            raise errors.IdempotencyMismatchError
        return use.reply
    if not turn.state.takes_people:
        raise errors.RoomClosedError(turn.state.reason or "closed")
    return None


def _require_seat(turn: Turn, identity: Identity) -> None:
    if identity not in turn.state.seats:
        raise errors.SeatExpiredError


def _line(turn: Turn, message_id: UUID) -> m.ChatMessage:
    line = turn.state.lines.get(message_id)
    if line is None:
        raise errors.MessageNotFoundError
    return line


def _text(text: str) -> str:
    text = text.replace("\x00", "").strip()
    if not 1 <= len(text) <= TEXT_MAX:
        raise errors.InvalidTextError("text", TEXT_MAX)
    return text

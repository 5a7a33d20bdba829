"""What a caller of a room can meet.

```
RoomError                     kind, code, facts
├── RoomNotFoundError         no such room
├── RoomClosedError           closed, or closing: nothing changes any more
├── NotAvailableError         the doors are not open (facts: opens_at, closes_at)
├── RoomFullError             every seat is taken or offered
├── BannedError               the host has shut this person out
├── SeatExpiredError          the command needs a seat that the person does not hold (any more)
├── NotAllowedError           only the host, the tutor or an admin may do this
├── MessageNotFoundError      no such chat message among those that may still be changed
├── InvalidTextError          the text is empty or too long
├── ConflictError             the state of the room forbids this
├── IdempotencyMismatchError  the same key came with another command
├── OverloadedError           mailbox full, database away, owner unreachable: repeat later
├── UnknownOutcomeError       no answer in time: repeat with the same key
├── NotSettledError           a receipt is asked of a hold that is still held
└── FencedError               this node no longer owns the room (callers see it as overloaded)
```
"""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

ErrorKind = Literal[
    "invalid", "unauthenticated", "forbidden", "not_found", "conflict", "limited", "unavailable"
]


class RoomError(Exception):
    """Base of everything a room refuses; `facts` go to the client as they are."""

    kind: ClassVar[ErrorKind] = "conflict"
    code: ClassVar[str] = "conflict"
    retry_after_ms: ClassVar[int | None] = None

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts


class RoomNotFoundError(RoomError):
    """No room has this id."""

    kind = "not_found"
    code = "not_found"

    def __init__(self, room_id: UUID) -> None:
        super().__init__("There is no such room.", room_id=str(room_id))


class RoomClosedError(RoomError):
    """The room is closed or closing; it can be read, not changed."""

    code = "room_closed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The room is closed ({reason}).", reason=reason)


class NotAvailableError(RoomError):
    """The doors of the lesson are shut at this time."""

    code = "not_available"

    def __init__(self, *, opens_at: datetime, closes_at: datetime) -> None:
        super().__init__(
            f"The doors are open from {opens_at:%Y-%m-%dT%H:%M:%SZ} to {closes_at:%Y-%m-%dT%H:%M:%SZ}.",
            opens_at=opens_at,
            closes_at=closes_at,
        )


class RoomFullError(RoomError):
    """Every seat is taken or offered to somebody in the queue."""

    code = "room_full"
    # A seat whose holder vanished is free after its grace of 30 s; asking
    # sooner than every 2 s finds nothing new, asking later loses to others.
    retry_after_ms = 2_000

    def __init__(self, cap: int) -> None:
        super().__init__(f"All {cap} seats are taken.", cap=cap)


class BannedError(RoomError):
    """The person was banned for the life of the room."""

    kind = "forbidden"
    code = "banned"

    def __init__(self) -> None:
        super().__init__("You were banned from this room.")


class SeatExpiredError(RoomError):
    """The command needs a seat; joining again may give one."""

    code = "seat_expired"

    def __init__(self) -> None:
        super().__init__("You have no seat in this room.")


class NotAllowedError(RoomError):
    """Only somebody with more rights in this room may do this."""

    kind = "forbidden"
    code = "permission_denied"

    def __init__(self, who: str) -> None:
        super().__init__(f"Only {who} may do this.")


class MessageNotFoundError(RoomError):
    """The chat message does not exist or is too old to be changed."""

    kind = "not_found"
    code = "message_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such message, or it is too old to be changed.")


class InvalidTextError(RoomError):
    """The text of a chat message or title is empty or too long."""

    kind = "invalid"
    code = "bad_request"

    def __init__(self, field: str, longest: int) -> None:
        super().__init__(f"{field} needs 1 to {longest} characters.", field=field)


class ConflictError(RoomError):
    """The room is in a state that does not allow this."""


class IdempotencyMismatchError(RoomError):
    """The key was used before with another command."""

    kind = "invalid"
    code = "idempotency_mismatch"

    def __init__(self) -> None:
        super().__init__("This key was used with another command.")


class OverloadedError(RoomError):
    """The room cannot answer now; nothing was changed."""

    kind = "unavailable"
    code = "overloaded"
    retry_after_ms = 1_000

    def __init__(self, why: str) -> None:
        super().__init__(f"The room cannot answer now: {why}.")


class UnknownOutcomeError(RoomError):
    """No answer came in time; whether the command was carried out is unknown."""

    kind = "unavailable"
    code = "timeout_unknown_outcome"

    def __init__(self) -> None:
        super().__init__("No answer in time; repeat the command with the same key.")


class FencedError(RoomError):
    """Another node owns the room; this one must stop without effects."""

    kind = "unavailable"
    code = "overloaded"

    def __init__(self, room_id: UUID) -> None:
        super().__init__("Another node owns the room.", room_id=str(room_id))


class NotSettledError(RoomError):
    """The hold is still held: nothing was decided that a receipt could prove."""

    code = "not_settled"

    def __init__(self) -> None:
        super().__init__("This hold is not settled yet.")

"""What rooms are asked once a change of bookings is committed (see `server/features/courses/errands.py`)."""

import msgspec

from rooms.registry import Registry
from server.features.bookings.messages import BookingChanged
from server.features.bookings.rules import BookingStatus
from server.features.courses.errands import Errand, close_rooms


def table(rooms: Registry) -> dict[type[msgspec.Struct], Errand]:
    """Return what the relay does after the reactions, by the event's type."""

    async def close(event: BookingChanged) -> None:
        if event.status is BookingStatus.CANCELLED and event.was is not BookingStatus.REQUESTED:
            reason = event.reason or f"cancelled by the {event.party}"
            await close_rooms(rooms, [event.booking_id], actor=event.actor, reason=reason)

    return {BookingChanged: close}

"""What rooms are asked once a change of bookings is committed (see `server/errand.py`)."""

from rooms.registry import Registry
from server.errand import Errands, close_rooms
from server.features.bookings.messages import BookingChanged
from server.features.bookings.rules import BookingStatus


def table(rooms: Registry) -> Errands:
    """Return what the relay does after the reactions."""

    async def close(event: BookingChanged) -> None:
        if event.status is BookingStatus.CANCELLED and event.was is not BookingStatus.REQUESTED:
            reason = event.reason or f"cancelled by the {event.party}"
            await close_rooms(rooms, [event.booking_id], actor=event.actor, reason=reason)

    return {BookingChanged: close}

"""How somebody with a seat gets to the others' picture and sound."""

from uuid import UUID

from rooms.media import LiveKitMedia, room_name
from rooms.messages import Identity, Snapshot
from rooms.registry import Registry
from server.config import LiveKit
from server.context import Principal
from server.errors import OverloadedError
from server.features.lessons.messages import LiveKitAccess, PeerAccess


async def ready(rooms: Registry, room: Snapshot) -> Snapshot:
    """Return the room once its media room exists, so that no token leads to a room that nobody made.

    Raises:
        OverloadedError: The media server did not make it in time.
    """
    if room.media_ready:
        return room
    if not await rooms.media_ready(room.id):
        raise OverloadedError("The media server is away; your seat is kept for a moment, try again.")
    return await rooms.snapshot(room.id)


def access(room: Snapshot, livekit: LiveKit, person: Principal) -> LiveKitAccess | PeerAccess:
    """Return what lets a person with a seat in."""
    if room.evidence == "socket":
        return PeerAccess()
    return LiveKitAccess(*_ticket(room.id, room.generation, livekit, person))


def _ticket(room_id: UUID, generation: int, livekit: LiveKit, person: Principal) -> tuple[str, str]:
    if livekit.url is None or livekit.ws_url is None or livekit.api_key is None or livekit.api_secret is None:
        raise OverloadedError("This room was made with a media server, and none is configured now.")
    media = LiveKitMedia(livekit.url, livekit.api_key, livekit.api_secret)
    token = media.token(Identity(str(person.user_id)), name=person.name, room=room_name(room_id, generation))
    return livekit.ws_url, token

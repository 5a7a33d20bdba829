"""TABLE: every event that sockets are shown, with the struct (or one of the structs) that is its `d` (PROTOCOL 3)."""

from collections.abc import Mapping
from typing import Final

import msgspec

from billing import messages as billing
from rooms import published
from rooms.lessons import AttendanceUpdated
from rooms.messages import Participant
from rooms.waiting import QueueUpdated, SeatOfferShown
from server.features.bookings.messages import BookingUpdated
from server.features.disputes.reactions import DisputeUpdated
from server.features.earnings.reactions import WithdrawalUpdated
from server.features.lessons.messages import MediaStateShown, SignalShown
from server.features.notifications.messages import NotificationView
from server.features.talks.messages import ListedTalk, TalkGone
from server.features.top_ups.reactions import TopUpUpdated
from server.features.wallet.messages import WalletView
from server.gateway.protocol import PresenceDiff, RoomMessage, TypingShown

TABLE: Final[Mapping[str, type[msgspec.Struct]]] = {
    # `room:<id>`
    "room.opened": published.RoomOpenedShown,
    "room.updated": published.RoomChanged,
    "room.closing": published.RoomEnding,
    "room.closed": published.RoomEnding,
    "participant.joined": Participant,
    "participant.updated": published.ParticipantChanged,
    "participant.left": published.ParticipantLeft,
    "participant.kicked": published.ParticipantKicked,
    "participant.evicted": published.ParticipantEvicted,
    "participant.media": MediaStateShown,
    "session.started": published.SessionShown,
    "session.ended": published.SessionShown,
    "message.created": published.MessageShown,
    "message.updated": published.MessageShown,
    "message.deleted": published.MessageGone,
    "message.read": published.MessageReadShown,
    "room.message": RoomMessage,
    "typing": TypingShown,
    # `presence:room:<id>`
    "presence.diff": PresenceDiff,
    # `lobby:talks`
    "talk.listed": ListedTalk,
    "talk.unlisted": TalkGone,
    # `user:<id>`
    "room.signal": SignalShown,
    "seat.offered": SeatOfferShown,
    "queue.updated": QueueUpdated,
    "attendance.updated": AttendanceUpdated,
    "notification.created": NotificationView,
    "wallet.updated": WalletView,
    "top_up.updated": TopUpUpdated,
    "hold.placed": billing.HoldPlaced,
    "hold.released": billing.HoldReleased,
    "hold.refunded": billing.HoldRefunded,
    "payment.authorized": billing.PaymentAuthorized,
    "payment.captured": billing.PaymentCaptured,
    "payment.voided": billing.PaymentVoided,
    "payment.refunded": billing.PaymentRefunded,
    "package.bought": billing.PackageBought,
    "package.ending": billing.PackageEnding,
    "package.expired": billing.PackageExpired,
    "package.lesson_returned": billing.PackageLessonReturned,
    "package.refunded": billing.PackageRefunded,
    "booking.updated": BookingUpdated,
    "withdrawal.updated": WithdrawalUpdated,
    "dispute.updated": DisputeUpdated,
}

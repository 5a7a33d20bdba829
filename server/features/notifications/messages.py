"""What notifications are asked and what they answer."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from server.pages import PAGE, Cursor, Limit


class ListNotifications(msgspec.Struct, frozen=True):
    """A page of one's own notifications, newest first."""

    unread: bool = False
    """Only those not read yet."""
    limit: Limit = PAGE
    cursor: Cursor | None = None


class CountUnread(msgspec.Struct, frozen=True):
    """How many are not read yet."""


class ReadNotification(msgspec.Struct, frozen=True):
    """Mark one as read; repeating it changes nothing."""

    notification_id: UUID


class ReadAll(msgspec.Struct, frozen=True):
    """Mark all as read."""


class NotificationView(msgspec.Struct, frozen=True):
    """A notification, in the list and when it is pushed as `notification.created`."""

    id: UUID
    type: str
    title: str
    text: str
    data: dict[str, Any]
    link: str | None
    created_at: datetime
    read_at: datetime | None


class NotificationPage(msgspec.Struct, frozen=True):
    """A page of notifications."""

    items: tuple[NotificationView, ...]
    next_cursor: str | None
    unread: int
    """All that are not read yet, on this page or not."""


class Unread(msgspec.Struct, frozen=True):
    """How many are not read yet."""

    unread: int

"""The commands of notifications."""

from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server import pages
from server.context import Command, Context
from server.errors import NotFoundError
from server.features.notifications.messages import (
    CountUnread,
    ListNotifications,
    NotificationPage,
    NotificationView,
    ReadAll,
    ReadNotification,
    Unread,
)
from server.features.notifications.models import Notification


async def list_notifications(ctx: Context, command: ListNotifications) -> NotificationPage:
    """Return a page of the caller's own notifications, newest first."""
    query = select(Notification).where(Notification.user_id == ctx.user.user_id)
    if command.unread:
        query = query.where(Notification.read_at.is_(None))
    shown, more = await pages.read(ctx.session, query, Notification.created_at, Notification.id, command)
    return NotificationPage(
        tuple(view(row) for row in shown), more, await _unread(ctx.session, ctx.user.user_id)
    )


async def count_unread(ctx: Context, _: CountUnread) -> Unread:
    """Return how many notifications the caller has not read yet."""
    return Unread(await _unread(ctx.session, ctx.user.user_id))


async def read_notification(ctx: Context, command: ReadNotification) -> NotificationView:
    """Mark one of the caller's notifications as read, and return it.

    Raises:
        NotFoundError: The caller has no such notification.
    """
    row = await ctx.session.get(Notification, command.notification_id)
    if row is None or row.user_id != ctx.user.user_id:
        raise NotFoundError("There is no such notification.")
    row.read_at = row.read_at or ctx.now
    return view(row)


async def read_all(ctx: Context, _: ReadAll) -> Unread:
    """Mark all of the caller's notifications as read."""
    await ctx.session.execute(
        update(Notification)
        .where(Notification.user_id == ctx.user.user_id, Notification.read_at.is_(None))
        .values(read_at=ctx.now)
    )
    return Unread(0)


def view(row: Notification) -> NotificationView:
    """Return a notification as its owner sees it."""
    return NotificationView(
        row.id, row.type, row.title, row.body, row.data, row.link, row.created_at, row.read_at
    )


async def _unread(session: AsyncSession, user_id: UUID) -> int:
    query = select(func.count()).where(Notification.user_id == user_id, Notification.read_at.is_(None))
    return await session.scalar(query) or 0


COMMANDS = (
    Command("notification.list", ListNotifications, list_notifications, method="GET", path="/notifications"),
    Command(
        "notification.count", CountUnread, count_unread, method="GET", path="/notifications/unread-count"
    ),
    Command(
        "notification.read",
        ReadNotification,
        read_notification,
        method="POST",
        path="/notifications/{notification_id}/read",
    ),
    Command("notification.read_all", ReadAll, read_all, method="POST", path="/notifications/read-all"),
)

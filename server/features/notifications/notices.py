"""Tell people of an event: one record each, in their language, pushed once it is committed."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from server import texts
from server.features.accounts.models import User
from server.features.notifications.handlers import view
from server.features.notifications.models import Notification
from server.reaction import Occasion, Post, to_user


class Page(StrEnum):
    """Where a notice can lead: a page of the browser client, as its table of routes names it."""

    ADMIN_DISPUTES = "/admin/disputes"
    ADMIN_TUTORS = "/admin/tutors"
    ADMIN_WITHDRAWALS = "/admin/withdrawals"
    BOOKING = "/bookings/:id"
    COURSE = "/courses/:id"
    EARNINGS = "/teach/earnings"
    HOLD = "/holds/:id"
    PACKAGE = "/packages/:id"
    PROFILE = "/teach/profile"
    ROOM = "/rooms/:id"
    TEACHING = "/teach/courses"
    WALLET = "/wallet"

    def link(self, of: UUID | None) -> str:
        """Return the address of the page, or of the one that it has for a thing."""
        assert (of is None) == (":id" not in self), f"{self} is not the page that was meant"
        return self.replace(":id", str(of))


class Notice(msgspec.Struct, frozen=True):
    """What one person is to be told."""

    user_id: UUID
    type: str
    """Key of `texts.NOTICES`."""
    facts: dict[str, Any] = {}
    """What the text is filled with; kept beside it as `data`."""
    page: Page | None = None
    """Where its matter is seen, if anywhere."""
    of: UUID | None = None
    """The thing that the page is about, where it has one for each."""


async def notify(occasion: Occasion, notices: Sequence[Notice]) -> list[Post]:
    """Store the notices that this event has not made yet and return what to push for them.

    An event tells each person one thing: of several notices for one person the first counts.
    """
    return (await notify_of_each(occasion.session, [(occasion, notices)]))[0]


async def notify_of_each(
    session: AsyncSession, told: Sequence[tuple[Occasion, Sequence[Notice]]]
) -> list[list[Post]]:
    """Do the same for several events at once, and return what to push for each."""
    people = {notice.user_id for _, notices in told for notice in notices}
    if not people:
        return [[] for _ in told]
    found = await session.execute(select(User.id, User.locale).where(User.id.in_(people)))
    locales = {row.id: row.locale for row in found}
    rows = [
        _row(occasion, notice, locales[notice.user_id])
        for occasion, notices in told
        for notice in notices
        if notice.user_id in locales
    ]
    posts: dict[str, list[Post]] = {occasion.key: [] for occasion, _ in told}
    if rows:
        stored = await session.scalars(
            insert(Notification).values(rows).on_conflict_do_nothing().returning(Notification)
        )
        for row in stored:
            posts[row.event_key].append(to_user(row.user_id, "notification.created", view(row)))
    return [posts[occasion.key] for occasion, _ in told]


async def forget(session: AsyncSession, *, before: datetime) -> int:
    """Delete the notifications of events before a moment; return how many."""
    removed = await session.scalars(
        delete(Notification).where(Notification.created_at < before).returning(Notification.id)
    )
    return len(removed.all())


def _row(occasion: Occasion, notice: Notice, locale: str) -> dict[str, Any]:
    text = texts.fill(texts.NOTICES[notice.type], locale, **notice.facts)
    return {
        "id": uuid.uuid4(),
        "user_id": notice.user_id,
        "event_key": occasion.key,
        "type": notice.type,
        "title": text.title,
        "body": text.body,
        "data": msgspec.to_builtins(notice.facts),
        "link": None if notice.page is None else notice.page.link(notice.of),
        "created_at": occasion.at,
    }

"""What is asked about referrals, and what is answered."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from billing.earnings import Brought
from server.pages import PAGE, Cursor, Limit


class CheckCode(msgspec.Struct, frozen=True):
    """Ask whose code this is, before somebody registers with it."""

    code: Annotated[str, Meta(min_length=1, max_length=64)]


class CodeOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose code it is."""

    code: str
    tutor_id: UUID
    tutor_name: str
    course_id: UUID | None
    """None: the tutor's own."""
    course_title: str | None


class GetReferrals(msgspec.Struct, frozen=True):
    """Ask for the caller's code, and what it brought."""


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """One code of a tutor."""

    code: str
    course_id: UUID | None
    course_title: str | None
    share_link: str
    registered: int
    """People who came by it."""


class ReferralSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A tutor's code, and what it and those of their courses brought."""

    code: str | None
    """None before the first approval."""
    share_link: str | None
    qr_svg: str | None
    codes: tuple[Code, ...]
    """The tutor's own first, then those of the newest courses."""
    referred: int
    """People who registered by any of them."""
    buyers: int
    """Of whom bought something as the tutor's own."""
    brought: Brought


class ListReferrals(msgspec.Struct, frozen=True):
    """Ask who came by the caller, the newest first."""

    limit: Limit = PAGE
    cursor: Cursor | None = None


class Referred(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who came by a tutor: a name, and what it brought."""

    name: str
    registered_at: datetime
    code: str | None
    course_title: str | None
    """Of the course whose code it was."""
    brought: Brought


class ReferralPage(msgspec.Struct, frozen=True):
    """A page of people."""

    items: tuple[Referred, ...]
    next_cursor: str | None

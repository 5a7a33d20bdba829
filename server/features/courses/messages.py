"""What courses and purchases are asked, what they answer, and what is told of them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from billing.models import HoldStatus
from billing.money import Money
from server.features.courses.rules import (
    Attribution,
    CourseStatus,
    PriceType,
    Publication,
    PurchaseKind,
    PurchaseStatus,
    SessionStatus,
)
from server.pages import PAGE, Cursor, Limit

Title = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\S")]
Description = Annotated[str, Meta(max_length=5000)]
Language = Annotated[str, Meta(min_length=2, max_length=50)]
Level = Literal["A1", "A2", "B1", "B2", "C1", "C2"]
Category = Annotated[str, Meta(min_length=1, max_length=100)]
Hours = Annotated[float, Meta(gt=0, le=10_000)]
SessionCount = Annotated[int, Meta(ge=1, le=100)]
Students = Annotated[int, Meta(ge=1, le=1000)]
Reason = Annotated[str, Meta(min_length=10, max_length=500)]
Instant = Annotated[datetime, Meta(tz=True)]

# A price above a hundred thousand is a slip of the keyboard, and far below what the ledger can add up.
PRICE_MOST = 10_000_000


class Price(msgspec.Struct, frozen=True):
    """A price in minor units; courses are sold in US dollars."""

    amount: Annotated[int, Meta(ge=0, le=PRICE_MOST)]
    currency: Literal["USD"] = "USD"


# --- Courses --------------------------------------------------------------------------------------


class CreateCourse(msgspec.Struct, frozen=True, kw_only=True):
    """Make a draft."""

    title: Title
    description: Description
    language: Language
    level: Level
    category: Category
    duration_hours: Hours
    total_sessions: SessionCount
    price_type: PriceType
    price_per_session: Price | None = None
    price_full_course: Price | None = None
    max_students: Students = 20


class UpdateCourse(msgspec.Struct, frozen=True, kw_only=True):
    """Change a course; what is absent stays. Terms of sale change only while nothing is sold."""

    course_id: UUID
    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    level: Level | UnsetType = UNSET
    category: Category | UnsetType = UNSET
    duration_hours: Hours | UnsetType = UNSET
    total_sessions: SessionCount | UnsetType = UNSET
    price_type: PriceType | UnsetType = UNSET
    price_per_session: Price | UnsetType | None = UNSET
    price_full_course: Price | UnsetType | None = UNSET
    max_students: Students | UnsetType = UNSET


class ListCourses(msgspec.Struct, frozen=True, kw_only=True):
    """Find published courses, newest first; with `mine`, the caller's own in any state."""

    mine: bool = False
    status: CourseStatus | None = None
    """Without it strangers see what can still be bought: upcoming and ongoing."""
    category: Category | None = None
    level: Level | None = None
    language: Language | None = None
    price_type: PriceType | None = None
    q: Annotated[str, Meta(max_length=200)] | None = None
    """Words of title or description."""
    limit: Limit = PAGE
    cursor: Cursor | None = None


class GetCourse(msgspec.Struct, frozen=True):
    """Ask for one course."""

    course_id: UUID


class PublishCourse(GetCourse, frozen=True):
    """Show a course to everybody and sell it."""


class UnpublishCourse(GetCourse, frozen=True):
    """Take a course off the list; what is sold stays sold."""


class CancelCourse(msgspec.Struct, frozen=True):
    """Cancel an upcoming course: all money goes back."""

    course_id: UUID
    reason: Reason | None = None
    """An administrator must give one."""


class ListStudents(msgspec.Struct, frozen=True):
    """Ask who bought, newest first."""

    course_id: UUID
    status: PurchaseStatus | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class GetRevenue(GetCourse, frozen=True):
    """Ask what a course has earned."""


class Tutor(msgspec.Struct, frozen=True):
    """Who teaches."""

    id: UUID
    name: str


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """One session as everybody sees it; the room's door asks for the right to enter."""

    id: UUID
    course_id: UUID
    number: int
    title: str
    starts_at: datetime
    ends_at: datetime
    duration_minutes: int
    status: SessionStatus
    room_id: UUID
    seats_left: int
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None


class CourseSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A course in a list."""

    id: UUID
    title: str
    description: str
    language: str
    level: Level
    category: str
    duration_hours: float
    total_sessions: int
    """Announced; those that never get a date are refunded when the course completes."""
    scheduled_sessions: int
    """With a date, cancelled ones left out."""
    price_type: PriceType
    price_per_session: Money | None
    price_full_course: Money | None
    max_students: int
    current_students: int
    status: CourseStatus
    publication: Publication
    tutor: Tutor
    share_link: str
    created_at: datetime


class CourseView(CourseSummary, frozen=True, kw_only=True):
    """A course on its page.

    It is completed when all its sessions with a date are over and at least one was held, whatever was announced:
    a tutor who means to hold more gives the next session its date before the last one ends. Sessions without a
    date are refunded then, and none can be added.
    """

    seats_left: int
    """For the full course: in the fullest of the sessions that are still ahead."""
    sessions: tuple[SessionView, ...]
    qr_svg: str


class CoursePage(msgspec.Struct, frozen=True):
    """A page of courses."""

    items: tuple[CourseSummary, ...]
    next_cursor: str | None


class SessionList(msgspec.Struct, frozen=True):
    """The sessions of a course by number; at most a hundred, so one page."""

    items: tuple[SessionView, ...]
    next_cursor: None = None


class RevenueSums(msgspec.Struct, frozen=True, kw_only=True):
    """Where money is: sold = earned + platform + held + refunded (B-16)."""

    sold: Money
    earned: Money
    """Paid out to the tutor."""
    platform: Money
    held: Money
    expected: Money
    """The tutor's part of what is held, if everybody attends."""
    refunded: Money


class SessionRevenue(RevenueSums, frozen=True, kw_only=True):
    """Where the money of one session is, whichever way it was sold."""

    number: int
    session_id: UUID | None
    """None: it has no date yet."""
    title: str | None


class SourceRevenue(RevenueSums, frozen=True, kw_only=True):
    """Where the money of the students is who came one way."""

    attribution: Attribution


class Revenue(RevenueSums, frozen=True, kw_only=True):
    """Where a course's money is: in all, by session, and by who brought the student; each adds up to the whole."""

    sessions: tuple[SessionRevenue, ...]
    sources: tuple[SourceRevenue, ...]


# --- Sessions -------------------------------------------------------------------------------------


class AddSession(msgspec.Struct, frozen=True):
    """Announce the date of a session."""

    course_id: UUID
    number: SessionCount
    title: Title
    starts_at: Instant
    duration_minutes: Annotated[int, Meta(ge=0, le=100_000)]


class ListSessions(GetCourse, frozen=True):
    """Ask for the sessions of a course."""


class UpdateSession(msgspec.Struct, frozen=True, kw_only=True):
    """Rename or move a session that has not begun; what is absent stays."""

    course_id: UUID
    session_id: UUID
    title: Title | UnsetType = UNSET
    starts_at: Instant | UnsetType = UNSET
    duration_minutes: Annotated[int, Meta(ge=0, le=100_000)] | UnsetType = UNSET


class CancelSession(msgspec.Struct, frozen=True):
    """Cancel a session that has not begun: its holds are refunded."""

    course_id: UUID
    session_id: UUID
    reason: Reason | None = None
    """An administrator must give one."""


# --- Purchases ------------------------------------------------------------------------------------


class QuotePurchase(msgspec.Struct, frozen=True):
    """Ask what a full course, or one session of it, costs the caller now."""

    course_id: UUID
    session_id: UUID | None = None


class ConfirmPurchase(msgspec.Struct, frozen=True):
    """Buy what was quoted."""

    quote_token: Annotated[str, Meta(min_length=1, max_length=4096)]


class CancelPurchase(msgspec.Struct, frozen=True):
    """Give back what has not begun; an administrator says why."""

    purchase_id: UUID
    reason: Reason | None = None


class GetPurchase(msgspec.Struct, frozen=True):
    """Ask for one purchase."""

    purchase_id: UUID


class ListPurchases(msgspec.Struct, frozen=True):
    """Ask for the own purchases, newest first; an administrator sees everybody's."""

    status: PurchaseStatus | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


class Split(msgspec.Struct, frozen=True):
    """How a release is divided, frozen with the purchase."""

    tutor_bps: int
    platform_bps: int
    attribution: Attribution
    policy_version: int


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What a purchase costs, and everything that is worth knowing before the confirmation."""

    quote_token: str
    expires_in_s: int
    kind: PurchaseKind
    price: Money
    balance: Money
    returned_first: Money
    """Single sessions that the full course replaces are refunded before it is paid."""
    shortfall: Money
    seats_left: int
    refund_rule: str
    """In the caller's language."""
    split: Split
    sessions: int
    """How many sessions, each with a hold of its own."""


class PurchaseHold(msgspec.Struct, frozen=True, kw_only=True):
    """The money of one session inside a purchase."""

    id: UUID
    number: int
    session_id: UUID | None
    """None: the tutor has not announced its date yet."""
    lesson_id: UUID | None
    """The session's room."""
    amount: Money
    status: HoldStatus
    refunded: Money


class PurchaseView(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase and where its money is."""

    id: UUID
    kind: PurchaseKind
    status: PurchaseStatus
    payment: Literal["held", "partly_settled", "settled"]
    course_id: UUID
    course_title: str
    session_id: UUID | None
    student_id: UUID
    tutor: Tutor
    price: Money
    refunded: Money
    split: Split
    holds: tuple[PurchaseHold, ...]
    created_at: datetime
    ended_at: datetime | None
    reason: str | None


class ChangedPurchase(PurchaseView, frozen=True, kw_only=True):
    """A purchase after money moved, with what the buyer has now."""

    balance: Money


class PurchasePage(msgspec.Struct, frozen=True):
    """A page of purchases."""

    items: tuple[PurchaseView, ...]
    next_cursor: str | None


class Buyer(msgspec.Struct, frozen=True, kw_only=True):
    """A student as the tutor sees them."""

    student_id: UUID
    name: str
    purchase_id: UUID
    kind: PurchaseKind
    session_id: UUID | None
    status: PurchaseStatus
    price: Money
    attribution: Attribution
    created_at: datetime


class BuyerPage(msgspec.Struct, frozen=True):
    """A page of buyers."""

    items: tuple[Buyer, ...]
    next_cursor: str | None


# --- Domain events (outbox) -----------------------------------------------------------------------


class CourseChanged(msgspec.Struct, frozen=True, kw_only=True, tag="course.changed"):
    """What its buyers were told of a course is different now: text, or a session's time."""

    course_id: UUID
    title: str
    session_id: UUID | None = None
    session_title: str | None = None
    starts_at: datetime | None = None
    """The session's new start, when it moved."""


class PlacesEnded(msgspec.Struct, frozen=True, kw_only=True, tag="course.places_ended"):
    """Somebody gave places back, or an administrator took them; something else may still let them in."""

    course_id: UUID
    student_id: UUID
    numbers: tuple[int, ...]
    """Of the sessions."""
    reason: str


class SessionChanged(msgspec.Struct, frozen=True, kw_only=True, tag="course.session_changed"):
    """A session has another title or time, so its room gets it too."""

    room_id: UUID


class CourseCancelled(msgspec.Struct, frozen=True, kw_only=True, tag="course.cancelled"):
    """A course will not be held."""

    course_id: UUID
    tutor_id: UUID
    title: str
    room_ids: tuple[UUID, ...]
    """Of the sessions that were still ahead."""
    actor: str
    """Who cancelled it, as the ledger names people: `user:<id>`, `admin:<id>`."""
    reason: str
    student_ids: tuple[UUID, ...]


class SessionCancelled(msgspec.Struct, frozen=True, kw_only=True, tag="course.session_cancelled"):
    """A session will not be held; the students with a place in it are refunded."""

    course_id: UUID
    tutor_id: UUID
    course_title: str
    session_id: UUID
    session_title: str
    room_id: UUID
    starts_at: datetime
    actor: str
    """Who cancelled it, as the ledger names people: `user:<id>`, `admin:<id>`, `system:<part>`."""
    reason: str
    student_ids: tuple[UUID, ...]

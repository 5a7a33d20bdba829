"""Who may see and change a booking, and enter its room."""

from typing import Literal
from uuid import UUID

from billing.models import REASON_LEAST, FactsRow
from billing.settlement import FROZEN
from rooms.messages import RoomStatus
from rooms.models import Room
from server.context import Context
from server.errors import BadRequestError, ConflictError, FieldError, ForbiddenError, NotFoundError
from server.features.bookings import models
from server.features.bookings.life import Deed
from server.features.bookings.models import Booking
from server.features.bookings.rules import Party
from server.reads import Lookup, Reads

_ENTRY = Lookup("""
    select a.no, case a.user_id when b.tutor_id then 'tutor' when b.student_id then 'student' end as role
    from unnest($1::uuid[], $2::uuid[]) with ordinality as a (room_id, user_id, no)
    join booking b on b.id = a.room_id
""")


async def may_enter(reads: Reads, room_id: UUID, user_id: UUID) -> Literal["tutor", "student"] | None:
    """Return as what somebody may enter the room of a booking. One that is cancelled has closed its room."""
    row = await reads.find(_ENTRY, room_id, user_id)
    return None if row is None else row["role"]


async def visible(ctx: Context, booking_id: UUID, *, lock: bool = False) -> tuple[Booking, Party]:
    """Return a booking, and what the caller is to it.

    Raises:
        NotFoundError: There is none that the caller may know of.
    """
    row = await models.booking_of(ctx.session, booking_id, lock=lock)
    if ctx.user.user_id == row.student_id:
        return row, Party.STUDENT
    if ctx.user.user_id == row.tutor_id:
        return row, Party.TUTOR
    if ctx.user.is_admin:
        return row, Party.ADMIN
    raise NotFoundError("There is no such booking.")


async def own_request(ctx: Context, booking_id: UUID) -> Booking:
    """Return a booking that the caller answers as its tutor, locked.

    Raises:
        NotFoundError: There is none that the caller may know of.
        ForbiddenError: The caller is not its tutor.
    """
    row, party = await visible(ctx, booking_id, lock=True)
    if party is not Party.TUTOR:
        raise ForbiddenError("Only the tutor answers a request.")
    return row


def require_version(row: Booking, version: int | None) -> None:
    """Refuse to act on what the caller has not seen.

    Raises:
        ConflictError: It was changed since.
    """
    if version is not None and version != row.version:
        raise ConflictError(
            "The booking was changed meanwhile; look again.", code="booking_changed", version=row.version
        )


async def require_not_begun(ctx: Context, row: Booking) -> None:
    """Refuse to cancel a lesson whose time has come, or whose room knows better than its row: somebody is in.

    Raises:
        ConflictError: It has begun.
    """
    room = await ctx.session.get(Room, row.id, populate_existing=True)
    if ctx.now >= row.starts_at or (room is not None and room.state != RoomStatus.OPEN):
        raise ConflictError("The lesson has begun.", code="already_started")


async def require_not_over(ctx: Context, row: Booking) -> None:
    """Refuse to cancel a lesson whose end is on its way to its row: its money goes by who came.

    Raises:
        ConflictError: It is over.
    """
    if await ctx.session.get(FactsRow, (row.id, FROZEN)) is not None:
        raise ConflictError("The lesson is over.", code="status_forbids", status="ended")


def deed(ctx: Context, party: Party, reason: str | None = None) -> Deed:
    """Return what the caller does now.

    Raises:
        BadRequestError: An administrator does not say why.
    """
    if party is Party.ADMIN and len((reason or "").strip()) < REASON_LEAST:
        raise BadRequestError(
            "An administrator says why.",
            (FieldError("reason", f"is needed in at least {REASON_LEAST} characters"),),
        )
    who = "admin" if party is Party.ADMIN else "user"
    return Deed(party=party, actor=f"{who}:{ctx.user.user_id}", at=ctx.now, reason=reason)

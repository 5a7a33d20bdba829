"""The commands of bookings (B-07, B-08); those of asking for one are in `requests.py`."""

from sqlalchemy import or_, select

from rooms import journal
from rooms.messages import Identity, RoomKind, RoomSpec
from server import audit, errand, pages
from server.context import Command, Context
from server.errors import ConflictError, NotFoundError
from server.features.accounts.models import user_of
from server.features.bookings import access, life, models, requests, rules, views
from server.features.bookings.messages import (
    AcceptBooking,
    BookingPage,
    BookingView,
    CancelBooking,
    DeclineBooking,
    GetBooking,
    LiftStrike,
    ListBookings,
)
from server.features.bookings.models import Booking, Strike
from server.features.bookings.rules import BookingStatus, Party

# Student and tutor.
SEATS = 2


async def get_booking(ctx: Context, command: GetBooking) -> BookingView:
    """Return one booking, to its parties and administrators.

    Raises:
        NotFoundError: There is none that the caller may know of.
    """
    row, _ = await access.visible(ctx, command.booking_id)
    return await views.view(ctx.session, row, viewer=ctx.user.user_id)


async def list_bookings(ctx: Context, command: ListBookings) -> BookingPage:
    """Return the caller's bookings, as student and as tutor, latest start first; all of them for an administrator."""
    query = select(Booking)
    if not ctx.user.is_admin:
        me = ctx.user.user_id
        query = query.where(or_(Booking.student_id == me, Booking.tutor_id == me))
    if command.status is not None:
        query = query.where(Booking.status == command.status)
    shown, more = await pages.read(ctx.session, query, Booking.starts_at, Booking.id, command)
    return BookingPage(
        items=tuple(await views.views(ctx.session, shown, viewer=ctx.user.user_id)), next_cursor=more
    )


async def accept_booking(ctx: Context, command: AcceptBooking) -> BookingView:
    """Agree to a request: the lesson gets its room. Repeating it is harmless.

    Raises:
        NotFoundError: There is none that the caller may know of.
        ForbiddenError: The caller is not its tutor.
        ConflictError: Its time is over, or it was withdrawn, or changed since the tutor looked.
    """
    row = await access.own_request(ctx, command.booking_id)
    if row.status in (BookingStatus.SCHEDULED, BookingStatus.ACTIVE):
        return await views.view(ctx.session, row, viewer=ctx.user.user_id)
    access.require_version(row, command.version)
    if row.status == BookingStatus.REQUESTED and ctx.now >= row.answer_by:
        raise ConflictError("The request was to be answered earlier.", code="request_expired")
    await life.accept(ctx.session, row, access.deed(ctx, Party.TUTOR))
    await _make_room(ctx, row)
    return await views.view(ctx.session, row, viewer=ctx.user.user_id)


async def decline_booking(ctx: Context, command: DeclineBooking) -> BookingView:
    """Say no to a request: its money is free again. Repeating it is harmless.

    Raises:
        NotFoundError: There is none that the caller may know of.
        ForbiddenError: The caller is not its tutor.
        ConflictError: It is no request any more.
    """
    row = await access.own_request(ctx, command.booking_id)
    if _is_cancelled_by(row, Party.TUTOR) and row.accepted_at is None:
        return await views.view(ctx.session, row, viewer=ctx.user.user_id)
    if row.status != BookingStatus.REQUESTED:
        raise ConflictError(f"The booking is {row.status}.", code="status_forbids", status=row.status)
    await life.cancel(ctx.session, row, access.deed(ctx, Party.TUTOR, command.reason))
    return await views.view(ctx.session, row, viewer=ctx.user.user_id)


async def cancel_booking(ctx: Context, command: CancelBooking) -> BookingView:
    """Withdraw a request, or cancel a lesson: whose money it is then follows from who cancels, and when (B-08a).

    A student gets it back until a day before the lesson, later what the terms say; of a tutor's cancellation
    everything, and late it is a strike. An administrator may also cancel a lesson that runs. Repeating it is harmless.

    Raises:
        NotFoundError: There is none that the caller may know of.
        BadRequestError: An administrator does not say why.
        ConflictError: It has begun, is over, or was changed since the caller looked.
    """
    row, party = await access.visible(ctx, command.booking_id, lock=True)
    if _is_cancelled_by(row, party):
        return await views.view(ctx.session, row, viewer=ctx.user.user_id)
    access.require_version(row, command.version)
    deed = access.deed(ctx, party, command.reason)
    rules.move(BookingStatus(row.status), BookingStatus.CANCELLED)
    if party is Party.ADMIN:
        await access.require_not_over(ctx, row)
    else:
        await access.require_not_begun(ctx, row)
    before = {"status": row.status}
    has_room = row.status != BookingStatus.REQUESTED
    await life.cancel(ctx.session, row, deed)
    if party is Party.ADMIN:
        after = {"status": row.status}
        audit.record(ctx, "booking.cancel", row.id, before=before, after=after, reason=command.reason)
    if has_room:
        reason = command.reason or f"cancelled by the {party}"
        ctx.afterwards = lambda: errand.at_once(
            errand.close_rooms(ctx.parts.rooms, [row.id], actor=deed.actor, reason=reason)
        )
    return await views.view(ctx.session, row, viewer=ctx.user.user_id)


async def lift_strike(ctx: Context, command: LiftStrike) -> BookingView:
    """Take a strike back from a tutor who was not to blame. Repeating it is harmless.

    Raises:
        NotFoundError: The booking is none, or no strike.
    """
    row = await models.booking_of(ctx.session, command.booking_id, lock=True)
    strike = await ctx.session.get(Strike, row.id)
    if strike is None:
        raise NotFoundError("This booking counts against nobody.")
    if strike.lifted_at is None:
        strike.lifted_at = ctx.now
        before, after = {"strike": True}, {"strike": False}
        audit.record(ctx, "strike.lift", row.id, before=before, after=after, reason=command.reason)
    return await views.view(ctx.session, row, viewer=ctx.user.user_id)


async def _make_room(ctx: Context, row: Booking) -> None:
    tutor = await user_of(ctx.session, row.tutor_id)
    student = await user_of(ctx.session, row.student_id)
    spec = RoomSpec(
        id=row.id,
        kind=RoomKind.BOOKING,
        title=row.topic or f"{student.first_name} · {tutor.first_name}",
        cap=SEATS,
        owner=Identity(str(tutor.id)),
        owner_name=tutor.name,
        evidence="socket" if ctx.parts.settings.livekit.url is None else "livekit",
        starts_at=row.starts_at,
        ends_at=row.ends_at,
    )
    await journal.create(ctx.session, spec, now=ctx.now, wall=ctx.parts.clock.wall())


def _is_cancelled_by(row: Booking, party: Party) -> bool:
    return row.status == BookingStatus.CANCELLED and row.cancelled_by == party


COMMANDS = (
    *requests.COMMANDS,
    Command("booking.list", ListBookings, list_bookings, method="GET", path="/bookings"),
    Command("booking.get", GetBooking, get_booking, method="GET", path="/bookings/{booking_id}"),
    Command(
        "booking.accept",
        AcceptBooking,
        accept_booking,
        guard="approved_tutor",
        method="POST",
        path="/bookings/{booking_id}/accept",
    ),
    Command(
        "booking.decline",
        DeclineBooking,
        decline_booking,
        guard="tutor",
        method="POST",
        path="/bookings/{booking_id}/decline",
    ),
    Command(
        "booking.cancel", CancelBooking, cancel_booking, method="POST", path="/bookings/{booking_id}/cancel"
    ),
    Command(
        "admin.strike.lift",
        LiftStrike,
        lift_strike,
        guard="admin",
        method="POST",
        path="/admin/bookings/{booking_id}/lift-strike",
    ),
)

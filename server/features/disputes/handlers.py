"""The commands of disputes (B-08d, ED-57 … ED-59, ED-109), and of what late evidence contradicts."""

from billing import disputes, reviews
from billing.disputes import Claim, DisputeView
from billing.models import DisputeReason, OwnerId
from billing.money import Money
from billing.reviews import ReviewView
from server import audit, pages
from server.context import Command, Context
from server.errors import BadRequestError, FieldError, NotFoundError
from server.features.disputes.messages import (
    CloseReview,
    DisputePage,
    GetDispute,
    ListDisputes,
    ListReviews,
    OpenDispute,
    ResolveDispute,
    ReviewPage,
)


async def open_dispute(ctx: Context, command: OpenDispute) -> DisputeView:
    """Open a dispute about one of the caller's own holds; the tutor's share is frozen until it is decided.

    Raises:
        HoldNotFoundError: The caller has no such hold.
        HoldNotSettledError: It is still held.
        AlreadyDisputedError: It was disputed before.
        DisputeTooLateError: It was settled more than thirty days ago.
        NothingToDisputeError: Everything was given back already.
    """
    claim = Claim(
        reason=DisputeReason(command.reason), words=command.text, student_id=OwnerId(ctx.user.user_id)
    )
    row = await disputes.begin(ctx.session, command.hold_id, claim, now=ctx.now)
    return await disputes.view(ctx.session, row.id)


async def list_disputes(ctx: Context, command: ListDisputes) -> DisputePage:
    """Return the caller's disputes, as student and as tutor, newest first; everybody's for an administrator."""
    found = await disputes.find(
        ctx.session,
        party_id=None if ctx.user.is_admin else OwnerId(ctx.user.user_id),
        hold_id=command.hold_id,
        status=command.status,
        limit=command.limit + 1,
        before=None if command.cursor is None else pages.position(command.cursor),
    )
    shown, more = pages.cut(found, command.limit, lambda one: pages.cursor_after(one.opened_at, one.id))
    return DisputePage(tuple(shown), more)


async def get_dispute(ctx: Context, command: GetDispute) -> DisputeView:
    """Return one dispute, to its parties and administrators.

    Raises:
        NotFoundError: There is none that the caller may know of.
    """
    view = await disputes.view(ctx.session, command.dispute_id)
    if not (ctx.user.is_admin or ctx.user.user_id in (view.student_id, view.tutor_id)):
        raise NotFoundError("There is no such dispute.")
    return view


async def resolve_dispute(ctx: Context, command: ResolveDispute) -> DisputeView:
    """Decide a dispute: everything stays, or money goes back to the student.

    Raises:
        DisputeNotFoundError: There is none.
        DisputeStateError: It is decided.
        RefundTooLargeError: More than is left of the hold.
    """
    admin_id = ctx.user.user_id
    before = await disputes.view(ctx.session, command.dispute_id)
    if command.decision == "upheld":
        if command.money is not None:
            raise BadRequestError(
                "What is upheld gives nothing back.", (FieldError("money", "must be absent"),)
            )
        await disputes.uphold(
            ctx.session, command.dispute_id, admin_id=admin_id, notes=command.notes, now=ctx.now
        )
    else:
        money = None if command.money is None else Money(command.money.amount, command.money.currency)
        await disputes.refund(
            ctx.session, command.dispute_id, money, admin_id=admin_id, notes=command.notes, now=ctx.now
        )
    after = await disputes.view(ctx.session, command.dispute_id)
    audit.record(
        ctx,
        "dispute.resolve",
        command.dispute_id,
        before={"status": before.status, "rest": before.rest.amount},
        after={"status": after.status, "rest": after.rest.amount},
        reason=command.notes,
    )
    return after


async def list_reviews(ctx: Context, command: ListReviews) -> ReviewPage:
    """Return what late evidence contradicts: nothing of it is adjusted by itself any more."""
    found = await reviews.find(
        ctx.session,
        is_open=command.state == "open",
        limit=command.limit + 1,
        before=None if command.cursor is None else pages.position(command.cursor),
    )
    shown, more = pages.cut(found, command.limit, lambda one: pages.cursor_after(one.opened_at, one.id))
    return ReviewPage(tuple(shown), more)


async def close_review(ctx: Context, command: CloseReview) -> ReviewView:
    """Close a review. Moves no money: `hold.refund` gives back what should be.

    Raises:
        ReviewClosedError: Somebody has looked at it already.
        ReviewNotFoundError: There is none.
    """
    admin_id = ctx.user.user_id
    closed = await reviews.close(
        ctx.session, command.review_id, admin_id=admin_id, notes=command.notes, now=ctx.now
    )
    audit.record(
        ctx,
        "review.close",
        closed.hold_id,
        before={"state": "open"},
        after={"state": "closed"},
        reason=command.notes,
    )
    return closed


COMMANDS = (
    Command(
        "dispute.open",
        OpenDispute,
        open_dispute,
        method="POST",
        path="/disputes",
        status=201,
        idempotent=True,
    ),
    Command("dispute.list", ListDisputes, list_disputes, method="GET", path="/disputes"),
    Command("dispute.get", GetDispute, get_dispute, method="GET", path="/disputes/{dispute_id}"),
    Command(
        "dispute.resolve",
        ResolveDispute,
        resolve_dispute,
        guard="admin",
        method="POST",
        path="/admin/disputes/{dispute_id}/resolve",
        idempotent=True,
    ),
    Command("review.list", ListReviews, list_reviews, guard="admin", method="GET", path="/admin/reviews"),
    Command(
        "review.close",
        CloseReview,
        close_review,
        guard="admin",
        method="POST",
        path="/admin/reviews/{review_id}/close",
        idempotent=True,
    ),
)

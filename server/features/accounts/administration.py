"""What administrators do to other people's accounts; each deed is audited, and told to open connections."""

from typing import Literal
from uuid import UUID

from sqlalchemy import or_, select

from billing import outbox
from server import audit, pages
from server.context import Command, Context, Role
from server.errors import ConflictError, NotFoundError
from server.features.accounts import rules, tokens
from server.features.accounts.messages import (
    AccountChanged,
    ApproveTutor,
    Block,
    ChangeRole,
    ListUsers,
    ManagedAccount,
    NamedUser,
    NamedUsers,
    NameUsers,
    RejectTutor,
    TutorApproved,
    TutorRejected,
    Unblock,
    Users,
)
from server.features.accounts.models import TutorStatus, User, user_of


async def approve_tutor(ctx: Context, command: ApproveTutor) -> ManagedAccount:
    """Let a tutor teach, from any state; the first approval makes the referral code (B-19)."""
    user = await _tutor(ctx, command.user_id)
    if user.tutor_status == TutorStatus.APPROVED:
        return _managed(user)
    before = user.tutor_status
    user.tutor_status = TutorStatus.APPROVED
    user.referral_code = user.referral_code or rules.new_referral_code()
    outbox.record(ctx.session, TutorApproved(user.id, user.referral_code), at=ctx.now)
    _record(ctx, user, "approved", key="tutor_status", before=before, after=user.tutor_status, reason=None)
    return _managed(user)


async def reject_tutor(ctx: Context, command: RejectTutor) -> ManagedAccount:
    """Refuse a tutor, or take an approval back."""
    user = await _tutor(ctx, command.user_id)
    before = user.tutor_status
    user.tutor_status = TutorStatus.REJECTED
    outbox.record(ctx.session, TutorRejected(user.id, command.reason), at=ctx.now)
    _record(
        ctx,
        user,
        "rejected",
        key="tutor_status",
        before=before,
        after=user.tutor_status,
        reason=command.reason,
    )
    return _managed(user)


async def change_role(ctx: Context, command: ChangeRole) -> ManagedAccount:
    """Give a user another role; a new tutor has to be approved."""
    user = await _subject(ctx, command.user_id)
    rules.check_grant(actor=ctx.user.role, role=command.role)
    if user.role == command.role:
        return _managed(user)
    before = user.role
    user.role = command.role
    if command.role is Role.TUTOR:
        user.tutor_status = user.tutor_status or TutorStatus.INCOMPLETE
    user.version += 1
    _record(ctx, user, "role", key="role", before=before, after=command.role, reason=command.reason)
    return _managed(user)


async def block(ctx: Context, command: Block) -> ManagedAccount:
    """Shut a user out: sessions, access tokens and sockets end."""
    user = await _subject(ctx, command.user_id)
    if user.blocked_at is not None:
        return _managed(user)
    user.blocked_at = ctx.now
    user.version += 1
    await tokens.close_sessions(ctx.session, user.id, wall=ctx.parts.clock.wall())
    _record(ctx, user, "blocked", key="blocked", before=False, after=True, reason=command.reason)
    return _managed(user)


async def unblock(ctx: Context, command: Unblock) -> ManagedAccount:
    """Let a user in again, by a new login."""
    user = await _subject(ctx, command.user_id)
    if user.blocked_at is None:
        return _managed(user)
    user.blocked_at = None
    _record(ctx, user, "unblocked", key="blocked", before=True, after=False, reason=command.reason)
    return _managed(user)


async def list_users(ctx: Context, command: ListUsers) -> Users:
    """Find accounts: tutors who wait for approval, administrators, the owner of an address."""
    query = select(User)
    if command.role is not None:
        query = query.where(User.role == command.role)
    if command.tutor_status is not None:
        query = query.where(User.tutor_status == command.tutor_status)
    if command.email is not None:
        query = query.where(User.email == command.email.strip().lower())
    if command.search is not None:
        wanted = command.search.strip()
        columns = (User.email, User.first_name, User.last_name)
        query = query.where(or_(*(column.istartswith(wanted, autoescape=True) for column in columns)))
    shown, more = await pages.read(ctx.session, query, User.created_at, User.id, command)
    return Users(items=[_managed(user) for user in shown], next_cursor=more)


async def name_users(ctx: Context, command: NameUsers) -> NamedUsers:
    """Return who some people are: lists of money know them by their ids alone."""
    query = select(User.id, User.first_name, User.last_name, User.email).where(User.id.in_(command.user_ids))
    rows = await ctx.session.execute(query.order_by(User.id))
    return NamedUsers(
        tuple(NamedUser(row.id, f"{row.first_name} {row.last_name}", row.email) for row in rows)
    )


async def _tutor(ctx: Context, user_id: UUID) -> User:
    user = await user_of(ctx.session, user_id, lock=True)
    if user.role != Role.TUTOR:
        raise ConflictError("This user is no tutor.")
    return user


async def _subject(ctx: Context, user_id: UUID) -> User:
    """Return the account that the caller changes, after both and all owners are locked.

    The locks make two owners who degrade each other come one after the other, and the second sees what the first
    did: its own role is read again here.
    """
    rows = await ctx.session.scalars(
        select(User)
        .where(or_(User.role == Role.OWNER, User.id.in_((user_id, ctx.user.user_id))))
        .order_by(User.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    users = {user.id: user for user in rows}
    if user_id not in users:
        raise NotFoundError("There is no such user.")
    owners = [user for user in users.values() if user.role == Role.OWNER and user.blocked_at is None]
    rules.check_rights(
        actor=Role(users[ctx.user.user_id].role),
        target=Role(users[user_id].role),
        same=user_id == ctx.user.user_id,
        last_owner=[user.id for user in owners] == [user_id],
    )
    return users[user_id]


def _record(
    ctx: Context,
    user: User,
    change: Literal["role", "blocked", "unblocked", "approved", "rejected"],
    *,
    key: str,
    before: str | bool | None,
    after: str | bool,
    reason: str | None,
) -> None:
    """Audit a deed, and have open connections of the account checked again."""
    audit.record(ctx, f"account.{change}", user.id, before={key: before}, after={key: after}, reason=reason)
    outbox.record(ctx.session, AccountChanged(user.id, user.version, change), at=ctx.now)


def _managed(user: User) -> ManagedAccount:
    return ManagedAccount(
        id=user.id,
        email=user.email,
        first_name=user.first_name,
        last_name=user.last_name,
        role=Role(user.role),
        tutor_status=None if user.tutor_status is None else TutorStatus(user.tutor_status),
        referral_code=user.referral_code,
        blocked=user.blocked_at is not None,
        created_at=user.created_at,
    )


COMMANDS: tuple[Command, ...] = (
    Command("admin.user.list", ListUsers, list_users, guard="admin", method="GET", path="/admin/users"),
    Command("admin.user.names", NameUsers, name_users, guard="admin", method="POST", path="/admin/users/names"),
    Command(
        "admin.tutor.approve", ApproveTutor, approve_tutor, guard="admin", method="POST",
        path="/admin/tutors/{user_id}/approve",
    ),
    Command(
        "admin.tutor.reject", RejectTutor, reject_tutor, guard="admin", method="POST",
        path="/admin/tutors/{user_id}/reject",
    ),
    Command(
        "admin.user.role", ChangeRole, change_role, guard="admin", method="POST", path="/admin/users/{user_id}/role",
    ),
    Command("admin.user.block", Block, block, guard="admin", method="POST", path="/admin/users/{user_id}/block"),
    Command(
        "admin.user.unblock", Unblock, unblock, guard="admin", method="POST", path="/admin/users/{user_id}/unblock",
    ),
)  # fmt: skip

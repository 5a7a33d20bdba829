"""Tables of accounts: users, their login sessions with the refresh tokens, failed logins, reset links."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, LargeBinary, Text, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from server.context import Role
from server.errors import NotFoundError
from server.models import Base


class TutorStatus(StrEnum):
    """Where a tutor stands; only approved tutors are found, and teach (B-05)."""

    INCOMPLETE = "incomplete"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class User(Base):
    """A person's account."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("email = lower(email)", name="email_is_lower_case"),
        CheckConstraint("role in ('student', 'tutor', 'admin', 'owner')", name="role_is_known"),
        CheckConstraint(
            "tutor_status in ('incomplete', 'pending', 'approved', 'rejected')", name="tutor_status_is_known"
        ),
        CheckConstraint("role <> 'tutor' or tutor_status is not null", name="tutor_has_status"),
        CheckConstraint("referred_by <> id", name="nobody_refers_themself"),
        CheckConstraint("referred_code is null or referred_by is not null", name="code_has_referrer"),
        # Whom a tutor brought, the newest first.
        Index(
            "ix_users_referred_by",
            "referred_by",
            "created_at",
            "id",
            postgresql_where="referred_by is not null",
        ),
        # The administrators' list of accounts, newest first.
        Index("ix_users_created_at_id", "created_at", "id"),
        # The owners are counted and locked before one of them may go.
        Index("ix_users_administrators", "role", postgresql_where="role in ('admin', 'owner')"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text, unique=True)
    password_hash: Mapped[str | None] = mapped_column(Text)
    """Argon2id; None: no password opens the account (made for a load test)."""
    first_name: Mapped[str] = mapped_column(Text)
    last_name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    tutor_status: Mapped[str | None] = mapped_column(Text)
    referral_code: Mapped[str | None] = mapped_column(Text, unique=True)
    referred_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    """Set once, at registration (B-19): a trigger keeps it, and lets no chain of referrers close."""
    referred_code: Mapped[str | None] = mapped_column(Text)
    """The code that they came by, the tutor's own or one of their courses'."""
    timezone: Mapped[str] = mapped_column(Text)
    locale: Mapped[str] = mapped_column(Text)
    region: Mapped[str | None] = mapped_column(Text)
    """ISO 3166-1 alpha-2."""
    version: Mapped[int] = mapped_column(default=1)
    """Rises with every change that ends older access tokens: role, password, block, logged out everywhere."""
    blocked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    @property
    def name(self) -> str:
        """Return the name that others see."""
        return f"{self.first_name} {self.last_name}"


# Tutors whom an administrator approved, and none has blocked.
TEACHES = (User.role == Role.TUTOR, User.tutor_status == TutorStatus.APPROVED, User.blocked_at.is_(None))


class ReferralCode(Base):
    """A code besides the tutor's own: of one of their courses."""

    __tablename__ = "referral_code"
    __table_args__ = (
        CheckConstraint("code ~ '^COURSE_[0-9A-Z]{8}$'", name="code_form"),
        Index(None, "owner_id"),
    )

    code: Mapped[str] = mapped_column(Text, primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    course_id: Mapped[UUID] = mapped_column(unique=True)


class LoginSession(Base):
    """One login, and the family of refresh tokens that grew from it."""

    __tablename__ = "login_session"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    address: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    """Of its newest token."""
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class RefreshToken(Base):
    """A refresh token as its SHA-256; a used one stays, so that its second use is noticed."""

    __tablename__ = "refresh_token"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("login_session.id", ondelete="cascade"), index=True)
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class LoginFailures(Base):
    """Wrong passwords for one e-mail address, known or not, so that a lock tells nothing about who exists."""

    __tablename__ = "login_failures"

    email_digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)


class PasswordReset(Base):
    """A link that sets a new password, as the SHA-256 of its secret; it is deleted by its use."""

    __tablename__ = "password_reset"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)


async def user_of(session: AsyncSession, user_id: UUID, *, lock: bool = False) -> User:
    """Return an account, locked against other changes on request.

    Raises:
        NotFoundError: There is none.
    """
    query = select(User).where(User.id == user_id)
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    user = await session.scalar(query)
    if user is None:
        raise NotFoundError("There is no such user.")
    return user


async def names_of(session: AsyncSession, user_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return the names of the given users that exist."""
    rows = await session.execute(
        select(User.id, User.first_name, User.last_name).where(User.id.in_(set(user_ids)))
    )
    return {user_id: f"{first} {last}" for user_id, first, last in rows}


async def admins(session: AsyncSession) -> Sequence[UUID]:
    """Return everybody who administrates the platform, and is not blocked."""
    query = select(User.id).where(User.role.in_((Role.ADMIN, Role.OWNER)), User.blocked_at.is_(None))
    return (await session.scalars(query.order_by(User.id))).all()


async def referrer_of(session: AsyncSession, code: str) -> tuple[UUID, UUID | None] | None:
    """Return whose code this is, and of which course unless it is the tutor's own; None for nobody's."""
    own = await session.scalar(select(User.id).where(User.referral_code == code))
    if own is not None:
        return own, None
    row = await session.get(ReferralCode, code)
    return None if row is None else (row.owner_id, row.course_id)


async def is_approved_tutor(session: AsyncSession, user_id: UUID) -> bool:
    """Return whether the user is a tutor whom an administrator approved, and whom none has blocked."""
    return await session.scalar(select(User.id).where(User.id == user_id, *TEACHES)) is not None

"""The commands of tutors' profiles."""

from typing import Any

from msgspec import UNSET
from sqlalchemy import any_, func, select

from billing import outbox
from billing.money import Money
from server import pages
from server.context import Command, Context, Role
from server.errors import NotFoundError
from server.features.accounts.models import TEACHES, TutorStatus, User, user_of
from server.features.tutors import rules
from server.features.tutors.messages import (
    GetProfile,
    GetTutor,
    GetTutorProfile,
    ListTutors,
    ProfileView,
    SubmitProfile,
    TutorApplied,
    TutorPage,
    TutorView,
    UpdateProfile,
)
from server.features.tutors.models import TutorProfile, profile_of
from server.features.tutors.rules import ProfileIncompleteError, ProfileWaitsError


async def get_profile(ctx: Context, _: GetProfile) -> ProfileView:
    """Return the caller's own profile."""
    user = await user_of(ctx.session, ctx.user.user_id)
    return _view(user, await profile_of(ctx.session, user.id, now=ctx.now))


async def get_tutor_profile(ctx: Context, command: GetTutorProfile) -> ProfileView:
    """Return a tutor's profile to an administrator.

    Raises:
        NotFoundError: There is no such tutor.
    """
    user = await user_of(ctx.session, command.user_id)
    if user.role != Role.TUTOR:
        raise NotFoundError("There is no such tutor.")
    return _view(user, await profile_of(ctx.session, user.id, now=ctx.now))


async def update_profile(ctx: Context, command: UpdateProfile) -> ProfileView:
    """Change the caller's own profile.

    Raises:
        ProfileWaitsError: An administrator is about to decide about it.
        ProfileIncompleteError: The caller is approved, and would take away what that needed.
    """
    user = await user_of(ctx.session, ctx.user.user_id, lock=True)
    if user.tutor_status == TutorStatus.PENDING:
        raise ProfileWaitsError
    profile = await profile_of(ctx.session, user.id, now=ctx.now)
    before = rules.missing(profile)
    for name, value in _changes(command).items():
        setattr(profile, name, value)
    profile.updated_at = ctx.now
    lost = [part for part in rules.missing(profile) if part not in before]
    if lost and user.tutor_status == TutorStatus.APPROVED:
        raise ProfileIncompleteError(lost)
    ctx.session.add(profile)
    return _view(user, profile)


async def submit_profile(ctx: Context, _: SubmitProfile) -> ProfileView:
    """Have an administrator decide whether the caller may teach; who waits or is approved goes on as they are.

    Raises:
        ProfileIncompleteError: Names what is missing.
    """
    user = await user_of(ctx.session, ctx.user.user_id, lock=True)
    profile = await profile_of(ctx.session, user.id, now=ctx.now)
    if user.tutor_status in (TutorStatus.PENDING, TutorStatus.APPROVED):
        return _view(user, profile)
    if missing := rules.missing(profile):
        raise ProfileIncompleteError(missing)
    user.tutor_status = TutorStatus.PENDING
    profile.submitted_at = ctx.now
    profile.answer = None
    outbox.record(ctx.session, TutorApplied(user.id), at=ctx.now)
    return _view(user, profile)


async def list_tutors(ctx: Context, command: ListTutors) -> TutorPage:
    """Return tutors who may teach, those who joined last first."""
    query = select(User, TutorProfile).join(TutorProfile, TutorProfile.user_id == User.id).where(*TEACHES)
    if command.subject is not None:
        # By the same function on both sides: databases differ in what they know of letters beyond ASCII.
        wanted = func.lower(command.subject.strip())
        subject = func.unnest(TutorProfile.subjects).column_valued("subject")
        query = query.where(select(subject).where(func.lower(subject) == wanted).exists())
    if command.language is not None:
        query = query.where(any_(TutorProfile.languages) == command.language)
    shown, more = await pages.read_joined(ctx.session, query, User.created_at, User.id, command)
    return TutorPage(items=tuple(_public(user, profile) for user, profile in shown), next_cursor=more)


async def get_tutor(ctx: Context, command: GetTutor) -> TutorView:
    """Return one tutor's public page.

    Raises:
        NotFoundError: There is no such tutor, or they may not teach.
    """
    user = await ctx.session.scalar(select(User).where(User.id == command.tutor_id, *TEACHES))
    if user is None:
        raise NotFoundError("There is no such tutor.")
    return _public(user, await profile_of(ctx.session, user.id, now=ctx.now))


def _public(user: User, profile: TutorProfile) -> TutorView:
    return TutorView(
        id=user.id,
        name=user.name,
        title=profile.title,
        description=profile.description,
        subjects=tuple(profile.subjects),
        languages=tuple(profile.languages),
        hourly_rate=_rate(profile),
        experience_years=profile.experience_years,
        timezone=user.timezone,
    )


def _rate(profile: TutorProfile) -> Money | None:
    return None if profile.hourly_rate is None else Money(profile.hourly_rate, "USD")


def _changes(command: UpdateProfile) -> dict[str, Any]:
    """Return the columns that change."""
    changes: dict[str, Any] = {}
    if command.title is not UNSET:
        changes["title"] = command.title.strip()
    if command.description is not UNSET:
        changes["description"] = command.description.strip()
    if command.subjects is not UNSET:
        changes["subjects"] = rules.distinct(command.subjects)
    if command.languages is not UNSET:
        changes["languages"] = rules.distinct(command.languages)
    if command.hourly_rate is not UNSET:
        changes["hourly_rate"] = None if command.hourly_rate is None else command.hourly_rate.amount
    if command.experience_years is not UNSET:
        changes["experience_years"] = command.experience_years
    if command.is_adult is not UNSET:
        changes["is_adult"] = command.is_adult
    return changes


def _view(user: User, profile: TutorProfile) -> ProfileView:
    status = TutorStatus(user.tutor_status or TutorStatus.INCOMPLETE)
    return ProfileView(
        user_id=user.id,
        status=status,
        title=profile.title,
        description=profile.description,
        subjects=tuple(profile.subjects),
        languages=tuple(profile.languages),
        hourly_rate=_rate(profile),
        experience_years=profile.experience_years,
        is_adult=profile.is_adult,
        missing=rules.missing(profile),
        submitted_at=profile.submitted_at,
        answer=profile.answer if status is TutorStatus.REJECTED else None,
    )


COMMANDS = (
    Command("tutor.list", ListTutors, list_tutors, guard="public", method="GET", path="/tutors"),
    Command("tutor.get", GetTutor, get_tutor, guard="public", method="GET", path="/tutors/{tutor_id}"),
    Command("tutor_profile.get", GetProfile, get_profile, guard="tutor", method="GET", path="/tutor-profile"),
    Command(
        "tutor_profile.update",
        UpdateProfile,
        update_profile,
        guard="tutor",
        method="PATCH",
        path="/tutor-profile",
    ),
    Command(
        "tutor_profile.submit",
        SubmitProfile,
        submit_profile,
        guard="tutor",
        method="POST",
        path="/tutor-profile/submit",
    ),
    Command(
        "admin.tutor.profile",
        GetTutorProfile,
        get_tutor_profile,
        guard="admin",
        method="GET",
        path="/admin/tutors/{user_id}/profile",
    ),
)

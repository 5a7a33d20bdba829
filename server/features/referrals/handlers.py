"""The commands of referrals (B-19). What a referral decides is frozen in the holds; here it is only summed up."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import earnings
from billing.models import OwnerId
from billing.policy import REFERRAL
from server import pages, qr
from server.context import Command, Context
from server.errors import NotFoundError
from server.features.accounts.models import ReferralCode, User, referrer_of, user_of
from server.features.accounts.rules import normal_code
from server.features.courses.models import Course
from server.features.courses.views import share_link
from server.features.referrals.messages import (
    CheckCode,
    Code,
    CodeOwner,
    GetReferrals,
    ListReferrals,
    ReferralPage,
    ReferralSummary,
    Referred,
)

# Codes that one screen shows; a tutor with more courses finds the code at the course.
CODES_MOST = 100


async def check_code(ctx: Context, command: CheckCode) -> CodeOwner:
    """Say whose code this is.

    Raises:
        NotFoundError: Nobody's.
    """
    code = normal_code(command.code)
    found = await referrer_of(ctx.session, code)
    if found is None:
        raise NotFoundError("Nobody has this code.")
    tutor_id, course_id = found
    tutor = await user_of(ctx.session, tutor_id)
    titles = await _titles(ctx.session, [] if course_id is None else [course_id])
    return CodeOwner(
        code=code,
        tutor_id=tutor_id,
        tutor_name=tutor.name,
        course_id=course_id,
        course_title=None if course_id is None else titles[course_id],
    )


async def get_referrals(ctx: Context, _: GetReferrals) -> ReferralSummary:
    """Return the caller's codes, who came by them, and what that brought by the ledger."""
    tutor = await user_of(ctx.session, ctx.user.user_id)
    codes = await _codes(ctx, tutor)
    brought = await earnings.brought(ctx.session, OwnerId(tutor.id), attribution=REFERRAL)
    counted = select(func.count()).where(User.referred_by == tutor.id)
    public_url = ctx.parts.settings.public_url
    link = None if tutor.referral_code is None else own_link(public_url, tutor.referral_code)
    return ReferralSummary(
        code=tutor.referral_code,
        share_link=link,
        qr_svg=None if link is None else qr.svg(link),
        codes=tuple(codes),
        referred=await ctx.session.scalar(counted) or 0,
        buyers=len(brought),
        brought=earnings.added(brought.values()),
    )


async def list_referrals(ctx: Context, command: ListReferrals) -> ReferralPage:
    """Return who came by the caller, the newest first: names, and what each brought by the ledger."""
    query = select(User).where(User.referred_by == ctx.user.user_id)
    shown, more = await pages.read(ctx.session, query, User.created_at, User.id, command)
    brought = await earnings.brought(
        ctx.session,
        OwnerId(ctx.user.user_id),
        attribution=REFERRAL,
        students=[OwnerId(row.id) for row in shown],
    )
    courses = await _courses_of(ctx.session, {row.referred_code for row in shown if row.referred_code})
    return ReferralPage(
        tuple(
            Referred(
                name=row.name,
                registered_at=row.created_at,
                code=row.referred_code,
                course_title=courses.get(row.referred_code or ""),
                brought=brought.get(row.id) or earnings.added(()),
            )
            for row in shown
        ),
        more,
    )


def own_link(public_url: str, code: str) -> str:
    """Return the address of a tutor's own invitation; who registers after it is the tutor's student."""
    return f"{public_url}/r/{code}"


async def _codes(ctx: Context, tutor: User) -> list[Code]:
    """Return the tutor's own code, then those of the courses, with how many came by each."""
    rows = await ctx.session.execute(
        select(User.referred_code, func.count())
        .where(User.referred_by == tutor.id)
        .group_by(User.referred_code)
    )
    came: dict[str | None, int] = dict(rows.all())
    courses = await ctx.session.execute(
        select(ReferralCode.code, Course.id, Course.title)
        .join(Course, Course.id == ReferralCode.course_id)
        .where(ReferralCode.owner_id == tutor.id)
        .order_by(Course.created_at.desc(), Course.id.desc())
        .limit(CODES_MOST)
    )
    public_url = ctx.parts.settings.public_url
    of_courses = [
        Code(
            code=code,
            course_id=course_id,
            course_title=title,
            share_link=share_link(public_url, course_id, code),
            registered=came.get(code, 0),
        )
        for code, course_id, title in courses
    ]
    if tutor.referral_code is None:
        return of_courses
    own = Code(
        code=tutor.referral_code,
        course_id=None,
        course_title=None,
        share_link=own_link(public_url, tutor.referral_code),
        registered=came.get(tutor.referral_code, 0),
    )
    return [own, *of_courses]


async def _titles(session: AsyncSession, course_ids: Collection[UUID]) -> dict[UUID, str]:
    rows = await session.execute(select(Course.id, Course.title).where(Course.id.in_(course_ids)))
    return dict(rows.all())


async def _courses_of(session: AsyncSession, codes: Collection[str]) -> dict[str, str]:
    """Return the titles of the courses whose codes these are."""
    rows = await session.execute(
        select(ReferralCode.code, Course.title)
        .join(Course, Course.id == ReferralCode.course_id)
        .where(ReferralCode.code.in_(codes))
    )
    return dict(rows.all())


COMMANDS = (
    Command(
        "referral.check", CheckCode, check_code, guard="public", method="GET", path="/referrals/codes/{code}"
    ),
    Command(
        "referral.summary",
        GetReferrals,
        get_referrals,
        guard="tutor",
        method="GET",
        path="/referrals/summary",
    ),
    Command("referral.list", ListReferrals, list_referrals, guard="tutor", method="GET", path="/referrals"),
)

"""A demo world for people to look at: accounts of every role, tutors, a course on sale, a lesson that is asked for, talks.

Doing it again adds nothing.
"""

from datetime import datetime, timedelta

import msgspec
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import wallet
from billing.models import OwnerId
from billing.money import Money
from rooms.registry import Registry
from server.clock import Clock
from server.config import Settings
from server.context import Context, Parts, Principal, Role
from server.features.accounts import registration
from server.features.accounts.models import User
from server.features.bookings import requests
from server.features.bookings.messages import RequestBooking
from server.features.courses import handlers as courses, sessions as course_sessions
from server.features.courses.messages import AddSession, CreateCourse, Price, PublishCourse
from server.features.courses.rules import PriceType
from server.features.talks import handlers as talks
from server.features.talks.messages import CreateTalk, Level
from server.features.tutors import handlers as tutors
from server.features.tutors.messages import Rate, UpdateProfile
from server.integrations.geo import Locator
from server.reads import Reads

# The demo world is for looking at: everybody may know it.
PASSWORD = "Try-fourtalk-1"  # noqa: S105
CREDIT = 50_000
PEOPLE = (
    ("owner@demo.example", Role.OWNER, "Oanh", "Le"),
    ("admin@demo.example", Role.ADMIN, "Anh", "Tran"),
    ("thao@demo.example", Role.TUTOR, "Thao", "Nguyen"),
    ("maria@demo.example", Role.TUTOR, "Maria", "Silva"),
    ("minh@demo.example", Role.STUDENT, "Minh", "Pham"),
    ("rosa@demo.example", Role.STUDENT, "Rosa", "Diaz"),
    ("ken@demo.example", Role.STUDENT, "Ken", "Ito"),
)
TUTORS = (
    (
        "thao@demo.example",
        "Vietnamese for people who travel",
        ("Vietnamese", "Pronunciation"),
        ("vi", "en"),
        2_500,
        "Eight years of teaching tones to people who swore they could not hear them.",
    ),
    (
        "maria@demo.example",
        "Portuguese and Spanish, by talking",
        ("Portuguese", "Spanish"),
        ("pt", "es", "en"),
        3_000,
        "We talk from the first minute on, about whatever you like, and I write down what to look at.",
    ),
)
TALKS: tuple[tuple[str, str, Level, str], ...] = (
    ("Coffee and verbs", "en", "B1", "everyday life"),
    ("Cà phê sáng", "vi", "A2", "food"),
    ("Films without subtitles", "es", "C1", "cinema"),
)


class Planted(msgspec.Struct, frozen=True):
    """Who can log in now, and whether the world was there before."""

    accounts: tuple[str, ...]
    password: str
    existed: bool


async def plant(sessions: async_sessionmaker[AsyncSession], settings: Settings) -> Planted:
    """Make the world in one transaction, or find it."""
    clock = Clock()
    accounts = tuple(email for email, *_ in PEOPLE)
    async with sessions.begin() as session:
        if await session.scalar(select(User.id).where(User.email == PEOPLE[0][0])):
            return Planted(accounts, PASSWORD, existed=True)
        users = await _people(session, clock.now())
        # Nothing of this asks a room or Valkey: rooms are rows until somebody enters.
        redis = Redis.from_url(settings.redis_url or "unix:///nowhere")
        rooms = Registry(sessions, now=clock.now, wall=clock.wall, publish=lambda *_: None)
        parts = Parts(
            settings, clock, sessions, Reads(sessions), redis, rooms, Locator(None), publish=lambda *_: None
        )
        for email, title, subjects, languages, rate, description in TUTORS:
            profile = UpdateProfile(
                title=title,
                description=description,
                subjects=subjects,
                languages=languages,
                hourly_rate=Rate(rate),
                is_adult=True,
            )
            await tutors.update_profile(_context(parts, session, users[email]), profile)
        await _course(_context(parts, session, users["thao@demo.example"]))
        asked = RequestBooking(
            tutor_id=users["maria@demo.example"].id,
            starts_at=_tonight(clock.now()) + timedelta(days=3),
            minutes=60,
            topic="Ordering food",
        )
        await requests.request_booking(_context(parts, session, users["ken@demo.example"]), asked)
        for host, (title, language, level, topic) in zip(("minh", "rosa", "ken"), TALKS, strict=True):
            ctx = _context(parts, session, users[f"{host}@demo.example"])
            talk = CreateTalk(
                title=title,
                language=language,
                level=level,
                topic=topic,
                region="VN",
                starts_at=_tonight(clock.now()),
            )
            await talks.create_talk(ctx, talk)
    return Planted(accounts, PASSWORD, existed=False)


async def _people(session: AsyncSession, now: datetime) -> dict[str, User]:
    users = {}
    for email, role, first_name, last_name in PEOPLE:
        users[email] = await registration.create_user(
            session,
            email=email,
            password=PASSWORD,
            role=role,
            approved=role is Role.TUTOR,
            first_name=first_name,
            last_name=last_name,
            now=now,
        )
        if role is Role.STUDENT:
            await wallet.adjust(
                session,
                OwnerId(users[email].id),
                Money(CREDIT),
                actor="system:seed",
                reason="credit of the demo world",
                key=f"seed:{email}",
                now=now,
            )
    return users


async def _course(ctx: Context) -> None:
    made = await courses.create_course(
        ctx,
        CreateCourse(
            title="Vietnamese from zero",
            description="Tones, greetings, numbers, and how to order coffee. Six evenings, live.",
            language="vi",
            level="A1",
            category="languages",
            duration_hours=9,
            total_sessions=3,
            price_type=PriceType.PER_SESSION,
            price_per_session=Price(1_500),
            price_full_course=Price(4_000),
        ),
    )
    for number, title in enumerate(("Tones", "Numbers", "Coffee"), start=1):
        session = AddSession(
            course_id=made.id,
            number=number,
            title=title,
            starts_at=_tonight(ctx.now) + timedelta(days=2 * number),
            duration_minutes=90,
        )
        await course_sessions.add_session(ctx, session)
    await courses.publish_course(ctx, PublishCourse(course_id=made.id))


def _context(parts: Parts, session: AsyncSession, user: User) -> Context:
    person = Principal(user.id, Role(user.role), user.name, user.version)
    return Context(parts, person, now=parts.clock.now(), transaction=session)


def _tonight(now: datetime) -> datetime:
    """Return the next full hour but one: a talk that begins soon."""
    return now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)

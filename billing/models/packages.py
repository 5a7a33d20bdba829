"""Packages: what tutors offer, and what students bought of it."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import Base, one_of
from billing.models.holds import FactsRow, Hold
from billing.models.terms import PolicyRow

# More lessons than this in one package are a slip; each is a hold of its own.
SESSIONS_MOST = 100


class PackageStatus(StrEnum):
    """Life of a package. Exhausted is derived: all its lessons are taken."""

    ACTIVE = "active"
    EXHAUSTED = "exhausted"
    EXPIRED = "expired"
    REFUNDED = "refunded"


PACKAGE_ARROWS: Mapping[PackageStatus, frozenset[PackageStatus]] = {
    PackageStatus.ACTIVE: frozenset({PackageStatus.EXHAUSTED, PackageStatus.EXPIRED, PackageStatus.REFUNDED}),
    PackageStatus.EXHAUSTED: frozenset({PackageStatus.ACTIVE}),
    PackageStatus.EXPIRED: frozenset(),
    PackageStatus.REFUNDED: frozenset(),
}


class PackageOption(Base):
    """What a tutor offers: so many lessons of so many minutes for one price."""

    __tablename__ = "package_option"
    __table_args__ = (
        CheckConstraint("length(title) between 3 and 255", name="title_length"),
        CheckConstraint("length(description) <= 5000", name="description_length"),
        CheckConstraint("minutes between 1 and 600", name="minutes_range"),
        CheckConstraint(f"sessions between 1 and {SESSIONS_MOST}", name="sessions_range"),
        # Each lesson is worth something.
        CheckConstraint("price >= sessions", name="price_covers_sessions"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_code"),
        CheckConstraint("validity_days is null or validity_days > 0", name="validity_positive"),
        CheckConstraint("not is_rolling or validity_days is not null", name="rolling_ends"),
        Index(None, "tutor_id", "position", "id"),
        # What is on sale, the newest first.
        Index("ix_package_option_on_sale", "created_at", "id", postgresql_where=text("hidden_at is null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tutor_id: Mapped[UUID]
    title: Mapped[str]
    description: Mapped[str]
    minutes: Mapped[int] = mapped_column(Integer)
    """Of each lesson."""
    sessions: Mapped[int] = mapped_column(Integer)
    price: Mapped[int]
    """Of all of them."""
    currency: Mapped[str]
    validity_days: Mapped[int | None] = mapped_column(Integer)
    """Empty: the package never ends."""
    is_rolling: Mapped[bool]
    """Each lesson that is taken gives the package its whole validity again."""
    is_popular: Mapped[bool]
    position: Mapped[int] = mapped_column(Integer)
    """Among the tutor's offers."""
    hidden_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Package(Base):
    """What a student bought: an option as it was then, and a hold for each of its lessons.

    A lesson is taken when its hold gets one (`hold.lesson_id`). `used` and `exhausted` follow from that by a trigger of
    the hold, and nobody else writes them.
    """

    __tablename__ = "package"
    __table_args__ = (
        one_of("status", PackageStatus),
        CheckConstraint(
            f"purchased between 1 and {SESSIONS_MOST} and used between 0 and purchased", name="counts_sane"
        ),
        CheckConstraint("(status = 'exhausted') = (used = purchased)", name="exhausted_is_used_up"),
        CheckConstraint(
            "(status in ('expired', 'refunded')) = (ended_at is not null)", name="ended_has_time"
        ),
        CheckConstraint("price >= purchased", name="price_covers_sessions"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_code"),
        CheckConstraint("minutes between 1 and 600", name="minutes_range"),
        CheckConstraint("tutor_bps between 0 and 10000", name="bps_range"),
        CheckConstraint("student_id <> tutor_id", name="two_people"),
        CheckConstraint(
            "(validity_days is null) = (expires_at is null) and (validity_days is null or validity_days > 0)"
            " and (expires_at is null or expires_at > bought_at)",
            name="end_by_validity",
        ),
        CheckConstraint("not is_rolling or validity_days is not null", name="rolling_ends"),
        CheckConstraint("warned_at is null or expires_at is not null", name="warned_of_an_end"),
        Index(None, "student_id", "bought_at", "id"),
        Index(None, "tutor_id", "bought_at", "id"),
        Index(None, "bought_at", "id"),
    )
    # What the database derives is known at once: nothing is loaded behind an await's back.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 -- SQLAlchemy reads it from the class

    id: Mapped[UUID] = mapped_column(primary_key=True)
    option_id: Mapped[UUID] = mapped_column(ForeignKey(PackageOption.id))
    student_id: Mapped[UUID]
    tutor_id: Mapped[UUID]
    title: Mapped[str]
    minutes: Mapped[int] = mapped_column(Integer)
    price: Mapped[int]
    currency: Mapped[str]
    purchased: Mapped[int] = mapped_column(Integer)
    used: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    remaining: Mapped[int] = mapped_column(Integer, Computed("purchased - used", persisted=True))
    validity_days: Mapped[int | None] = mapped_column(Integer)
    is_rolling: Mapped[bool]
    tutor_bps: Mapped[int] = mapped_column(Integer)
    attribution: Mapped[str]
    policy_version: Mapped[int] = mapped_column(Integer, ForeignKey(PolicyRow.version))
    status: Mapped[str] = mapped_column(server_default=text("'active'"))
    bought_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    warned_at: Mapped[datetime | None]
    """When the student was reminded of this end; empty again once it moves."""
    ended_at: Mapped[datetime | None]


class PackageReturn(Base):
    """A lesson that was not given, by its facts, and went back to its package. Append-only.

    The hold forgets the lesson, so that it can be taken again; evidence that comes later is judged by this.
    """

    __tablename__ = "package_return"
    __table_args__ = (
        CheckConstraint("facts_version = 1", name="first_version"),
        ForeignKeyConstraint(["lesson_id", "facts_version"], [FactsRow.lesson_id, FactsRow.version]),
    )

    lesson_id: Mapped[UUID] = mapped_column(primary_key=True)
    hold_id: Mapped[UUID] = mapped_column(ForeignKey(Hold.id), primary_key=True)
    facts_version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    is_by_outcome: Mapped[bool] = mapped_column(server_default=text("false"))
    """For the tutor was not there at all, or it was cancelled. Once it was enough that they attended too little."""
    returned_at: Mapped[datetime]

"""The terms, version by version."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import REASON_LEAST, Base


class PackageExpiry(StrEnum):
    """What becomes of the lessons of a package that nobody took (G-4)."""

    RELEASE = "release"
    """Paid out by the split."""
    REFUND = "refund"
    """Given back to the student."""


class PolicyRow(Base):
    """One version of the terms. Append-only; a hold keeps the version it was placed under.

    Of the versions that have begun the newest counts. It begins no earlier than those before it (trigger), unless it
    says that it replaces what is only planned: that is never in force then.
    """

    __tablename__ = "policy"
    __table_args__ = (
        CheckConstraint(
            "course_platform_bps between 0 and 10000 and course_referral_bps between 0 and 10000",
            name="bps_range",
        ),
        CheckConstraint("policy_tiers_are_good(booking_tiers)", name="tiers_sane"),
        CheckConstraint("attendance_percent between 0 and 100", name="percent_range"),
        CheckConstraint("min_price > 0", name="min_price_positive"),
        CheckConstraint("course_risk_days >= 0 and booking_risk_days >= 0", name="risk_not_negative"),
        CheckConstraint(
            "withdrawal_least > 0 and withdrawal_two_people_above >= 0 and payout_freeze_hours >= 0",
            name="withdrawal_sane",
        ),
        CheckConstraint("top_up_least > 0 and top_up_least <= top_up_most", name="top_up_range"),
        CheckConstraint(
            "free_cancel_hours >= 0 and free_cancel_kindness_minutes >= 0"
            " and late_cancel_percent between 0 and 100",
            name="cancel_sane",
        ),
        CheckConstraint("dispute_days >= 0", name="dispute_not_negative"),
        CheckConstraint("goodwill_admin_most between 0 and goodwill_most", name="goodwill_range"),
        CheckConstraint("package_expiry in ('release', 'refund')", name="package_expiry_known"),
        CheckConstraint("package_warning_days >= 0 and package_refund_days >= 0", name="package_sane"),
        CheckConstraint(f"length(reason) >= {REASON_LEAST}", name="reason_given"),
    )

    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    effective_from: Mapped[datetime]
    course_platform_bps: Mapped[int] = mapped_column(Integer)
    course_referral_bps: Mapped[int] = mapped_column(Integer)
    attendance_percent: Mapped[int] = mapped_column(Integer)
    min_price: Mapped[int]
    course_risk_days: Mapped[int] = mapped_column(Integer)
    booking_risk_days: Mapped[int] = mapped_column(Integer)
    top_up_least: Mapped[int] = mapped_column(server_default=text("500"))
    top_up_most: Mapped[int] = mapped_column(server_default=text("1000000"))
    withdrawal_least: Mapped[int] = mapped_column(server_default=text("1000"))
    withdrawal_two_people_above: Mapped[int] = mapped_column(server_default=text("100000"))
    payout_freeze_hours: Mapped[int] = mapped_column(Integer, server_default=text("72"))
    booking_tiers: Mapped[list[dict[str, Any]]] = mapped_column(
        server_default=text(
            """'[{"from_earned": 0, "fee_bps": 2000}, {"from_earned": 100000, "fee_bps": 1500},"""
            """ {"from_earned": 500000, "fee_bps": 1000}]'"""
        )
    )
    tiers_count_everything: Mapped[bool] = mapped_column(server_default=text("false"))
    free_cancel_hours: Mapped[int] = mapped_column(Integer, server_default=text("24"))
    free_cancel_kindness_minutes: Mapped[int] = mapped_column(Integer, server_default=text("5"))
    late_cancel_percent: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    dispute_days: Mapped[int] = mapped_column(Integer, server_default=text("30"))
    goodwill_admin_most: Mapped[int] = mapped_column(server_default=text("5000"))
    goodwill_most: Mapped[int] = mapped_column(server_default=text("50000"))
    package_expiry: Mapped[str] = mapped_column(server_default=text("'release'"))
    package_warning_days: Mapped[int] = mapped_column(Integer, server_default=text("7"))
    package_refund_days: Mapped[int] = mapped_column(Integer, server_default=text("14"))
    replaces_planned: Mapped[bool] = mapped_column(server_default=text("false"))
    actor: Mapped[str]
    reason: Mapped[str]

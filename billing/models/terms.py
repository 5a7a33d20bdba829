"""The terms, version by version."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from billing.models.base import REASON_LEAST, Base


class PolicyRow(Base):
    """One version of the terms. Append-only; a hold keeps the version it was placed under."""

    __tablename__ = "policy"
    __table_args__ = (
        CheckConstraint(
            "course_platform_bps between 0 and 10000 and course_referral_bps between 0 and 10000",
            name="bps_range",
        ),
        CheckConstraint("attendance_percent between 0 and 100", name="percent_range"),
        CheckConstraint("min_price > 0", name="min_price_positive"),
        CheckConstraint("course_risk_days >= 0 and booking_risk_days >= 0", name="risk_not_negative"),
        CheckConstraint(
            "withdrawal_least > 0 and withdrawal_two_people_above >= 0 and payout_freeze_hours >= 0",
            name="withdrawal_sane",
        ),
        CheckConstraint("top_up_least > 0 and top_up_least <= top_up_most", name="top_up_range"),
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
    actor: Mapped[str]
    reason: Mapped[str]

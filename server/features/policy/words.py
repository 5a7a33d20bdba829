"""The terms in words: one sentence for each of them, made from the value that the code uses. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from billing.money import Money
from billing.policy import Policy, Tier
from server import texts
from server.features.policy.messages import Rule, Unit
from server.texts import LOCALES, Locale

UNITS: dict[str, Unit] = {
    "course_platform_bps": "basis_points",
    "course_referral_bps": "basis_points",
    "booking_tiers": "tiers",
    "tiers_count_everything": "truth",
    "attendance_percent": "percent",
    "min_price": "minor_units",
    "course_risk_days": "days",
    "booking_risk_days": "days",
    "free_cancel_hours": "hours",
    "free_cancel_kindness_minutes": "minutes",
    "late_cancel_percent": "percent",
    "dispute_days": "days",
    "goodwill_admin_most": "minor_units",
    "goodwill_most": "minor_units",
    "package_expiry": "choice",
    "package_warning_days": "days",
    "package_refund_days": "days",
    "top_up_least": "minor_units",
    "top_up_most": "minor_units",
    "withdrawal_least": "minor_units",
    "withdrawal_two_people_above": "minor_units",
    "payout_freeze_hours": "hours",
}


def rules(terms: Policy) -> tuple[Rule, ...]:
    """Return a sentence for every field of the terms but their version."""
    return tuple(
        _rule(field.name, getattr(terms, field.name))
        for field in msgspec.structs.fields(terms)
        if field.name != "version"
    )


def percent(bps: int, locale: Locale) -> str:
    """Write basis points as people of a language do: `30 %`, `33.33 %`, `33,33 %`."""
    whole, rest = divmod(bps, 100)
    point = "," if locale == "vi" else "."
    return f"{whole}{point}{rest:02}".rstrip("0").rstrip(point) + " %" if rest else f"{whole} %"


def _rule(name: str, value: Any) -> Rule:
    said = {locale: _sentence(name, value, locale) for locale in LOCALES}
    return Rule(name=name, unit=UNITS[name], en=said["en"], vi=said["vi"])


def _sentence(name: str, value: Any, locale: Locale) -> str:
    match UNITS[name]:
        case "truth" | "choice":
            return texts.fill(texts.TERMS[f"{name}.{_choice(value)}"], locale).body
        case unit:
            return texts.fill(texts.TERMS[name], locale, value=_shown(unit, value, locale)).body


def _choice(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _shown(unit: Unit, value: Any, locale: Locale) -> str:
    match unit:
        case "basis_points":
            return percent(value, locale)
        case "percent":
            return f"{value} %"
        case "minor_units":
            return texts.money(Money(value), locale)
        case "tiers":
            return _tiers(value, locale)
        case "days" | "hours" | "minutes" | "truth" | "choice":
            return str(value)


def _tiers(tiers: Sequence[Tier], locale: Locale) -> str:
    steps = [
        texts.fill(
            texts.TERMS["booking_tiers.step"],
            locale,
            begins=Money(tier.from_earned),
            fee=percent(tier.fee_bps, locale),
        ).body
        for tier in tiers
    ]
    return "; ".join(steps)

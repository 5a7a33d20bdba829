"""Every cause is explained in every language: why, what would have changed it, and by which terms."""

import string
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from billing.explanation import CLOSING, LATER, OUTCOMES, TEXTS, Locale, explain
from billing.hold_views import Adjustment, Attendance, HoldView
from billing.models import Cause, HoldId, HoldStatus, OwnerId, PackageExpiry, SourceKind
from tests.billing.world import FIRST_TERMS, usd

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TERMS = msgspec.structs.replace(FIRST_TERMS, version=3)
LOCALES: tuple[Locale, ...] = ("en", "vi")


def attended(student_s: int, tutor_s: int = 5_400, total_s: int = 5_400) -> Attendance:
    return Attendance(
        scheduled_s=5_400,
        total_s=total_s,
        attended_s=student_s,
        percent=student_s * 100 // total_s,
        required_s=total_s // 5,
        threshold_percent=20,
        intervals=(),
        confidence="full",
        tutor_attended_s=tutor_s,
        tutor_required_s=1_080,
    )


def hold(cause: str | None, attendance: Attendance | None = None, **changes: Any) -> HoldView:
    released = (
        cause in ("attendance", "outcome") and attendance is not None and attendance.attended_s >= 1_080
    )
    view = HoldView(
        id=HoldId(UUID(int=1)),
        student_id=OwnerId(UUID(int=2)),
        tutor_id=OwnerId(UUID(int=3)),
        lesson_id=UUID(int=4),
        source_kind=SourceKind.BOOKING,
        source_id=UUID(int=5),
        slice_no=1,
        status=HoldStatus.HELD if cause is None else HoldStatus.RELEASED if released else HoldStatus.REFUNDED,
        amount=usd(10_000),
        tutor_bps=3_000,
        attribution="platform",
        tutor_share=usd(3_000 if released else 0),
        platform_share=usd(7_000 if released else 0),
        refunded=usd(0 if released else 10_000),
        # Some words are told before anything has them.
        cause=cast("Cause | None", cause),
        settled_by=None if cause is None else "system",
        reason=None,
        adjustments=(),
        policy=TERMS,
        attendance=attendance,
        placed_at=AT,
        settled_at=AT,
    )
    return msgspec.structs.replace(view, **changes)


def later(cause: str, attendance: Attendance | None = None, reason: str | None = None) -> Adjustment:
    return Adjustment(
        cause=cast("Cause", cause),
        tutor_share=usd(1_000),
        platform_share=usd(2_000),
        refunded=usd(7_000),
        reason=reason,
        attendance=attendance,
        at=AT,
    )


def test_every_cause_has_its_text() -> None:
    assert {cause.value for cause in Cause} == CLOSING.keys() | set(LATER)
    assert {*OUTCOMES.values(), *LATER} <= TEXTS["en"].keys()


def test_both_languages_say_the_same_things_with_the_same_facts() -> None:
    def facts(words: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(words) if name}

    assert TEXTS["en"].keys() == TEXTS["vi"].keys()
    for name, words in TEXTS["en"].items():
        assert facts(words) == facts(TEXTS["vi"][name]), name


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize(
    ("view", "facts"),
    [
        (hold(None, source_kind=SourceKind.COURSE_SESSION), ["100.00 USD", "20 %"]),
        (hold("attendance", attended(4_800, 3_000)), ["1:20:00", "88 %", "18:00", "30.00", "70.00", "50:00"]),
        (hold("attendance", attended(900)), ["15:00", "16 %", "18:00", "100.00", "3:00", "1:30:00"]),
        (hold("tutor_absent", attended(5_400, 600)), ["10:00", "18:00", "8:00", "100.00", "100 %"]),
        (hold("cancelled"), ["100.00"]),
        (hold("admin"), ["100.00", "0.00"]),
        (hold("outcome", attended(4_800)), ["1:30:00", "1:20:00", "30.00", "70.00"]),
        (hold("outcome", attended(0)), ["1:30:00", "100.00"]),
        (hold("outcome", attended(900, 0)), ["15:00", "100.00"]),
        (hold("outcome", attended(0, 0)), ["100.00"]),
        (hold("expired"), ["100.00"]),
    ],
    ids=[
        "held",
        "released",
        "missed",
        "tutor_absent",
        "cancelled",
        "admin",
        "both came",
        "only the tutor",
        "only the student",
        "nobody",
        "expired",
    ],
)
def test_what_decided_is_said_with_its_numbers_and_terms(
    view: HoldView, facts: list[str], locale: Locale
) -> None:
    said = explain(view, locale)

    assert [fact for fact in facts if fact not in said] == []
    assert {"en": "version 3", "vi": "phiên bản 3"}[locale] in said
    assert "{" not in said


@pytest.mark.parametrize("locale", LOCALES)
def test_what_is_held_is_said_by_what_will_decide_it(locale: Locale) -> None:
    """Of a booking and of a lesson of a package that is who came; one that nobody takes goes by the rule of its end."""
    refunding = msgspec.structs.replace(TERMS, package_expiry=PackageExpiry.REFUND)
    of_package: dict[str, Any] = {"source_kind": SourceKind.PACKAGE_SLICE}
    course = explain(hold(None, source_kind=SourceKind.COURSE_SLICE), locale)
    booking = explain(hold(None), locale)
    taken = explain(hold(None, **of_package), locale)
    released = explain(hold(None, lesson_id=None, **of_package), locale)
    refunded = explain(hold(None, lesson_id=None, policy=refunding, **of_package), locale)

    unused = {rule: TEXTS[locale][f"unused_{rule}"] for rule in ("release", "refund")}
    assert "20 %" in course
    assert all("%" not in said for said in (booking, taken))
    came = {"en": "whether or not the student does", "vi": "dù học viên có đến hay không"}[locale]
    assert all(came in said for said in (booking, taken))
    assert {"en": "back to its package", "vi": "trả lại vào gói"}[locale] in taken
    assert (unused["release"] in taken, unused["refund"] in refunded) == (True, True)
    assert released == refunded.replace(unused["refund"], unused["release"])
    assert "%" not in released


@pytest.mark.parametrize(
    ("view", "changed"),
    [
        (hold("attendance", attended(4_800)), "With less than 18:00 everything would have gone back"),
        (hold("attendance", attended(900)), "With 3:00 more the money would have been released"),
        (hold("tutor_absent", attended(5_400, 600)), "With 8:00 more of the tutor"),
        (hold("cancelled"), "Had the lesson been given"),
        (hold("admin"), "Without that"),
        (hold("outcome", attended(0)), "Had the tutor not come"),
        (hold("outcome", attended(900, 0)), "Had the tutor come"),
        (hold("expired"), "Had it been taken in time"),
        (hold("forfeited"), "everything would have gone back to them"),
        (hold("forfeited", source_kind=SourceKind.PACKAGE_SLICE), "it would have gone back to its package"),
    ],
    ids=[
        "released",
        "missed",
        "tutor_absent",
        "cancelled",
        "admin",
        "outcome",
        "no tutor",
        "expired",
        "forfeited",
        "forfeited of a package",
    ],
)
def test_what_would_have_changed_it_is_said(view: HoldView, changed: str) -> None:
    assert changed in explain(view)


@pytest.mark.parametrize(
    ("who", "deed"),
    [
        ("student", "The student withdrew the purchase"),
        ("tutor", "The tutor cancelled the lesson"),
        ("admin", "An administrator cancelled the lesson or the purchase"),
        ("system", "The lesson was not held"),
        (None, "The lesson was not held"),
    ],
)
def test_a_cancellation_says_whose_it_was_and_the_reason_of_people(who: str | None, deed: str) -> None:
    said = explain(hold("cancelled", settled_by=who, reason="Illness."))

    assert said == (
        f"{deed}, so 100.00 USD went back to the student. Had the lesson been given, what happened in it would have"
        " decided. The terms of version 3 are what counts." + ("" if who == "system" else " Reason: Illness.")
    )
    assert "Reason" not in explain(hold("cancelled", settled_by=who))


@pytest.mark.parametrize(
    ("student_s", "tutor_s", "words"),
    [
        (1, 1, "Both came"),
        (0, 1, "The tutor came"),
        (1, 0, "The student came"),
        (0, 0, "Nobody came"),
    ],
)
def test_who_was_there_for_a_second_came(student_s: int, tutor_s: int, words: str) -> None:
    assert explain(hold("outcome", attended(student_s, tutor_s))).startswith(words)


def test_only_attendance_measured_against_less_says_so() -> None:
    for view in (
        hold("attendance", attended(4_000)),
        hold("tutor_absent", attended(4_000, 600, total_s=4_000)),
    ):
        assert "ended the lesson early" not in explain(view)


@pytest.mark.parametrize("locale", LOCALES)
def test_a_lesson_that_was_ended_early_says_what_counted(locale: Locale) -> None:
    said = explain(hold("attendance", attended(4_000, 4_000, total_s=4_000)), locale)

    assert {"en": "against 1:06:40 instead of 1:30:00", "vi": "trên 1:06:40 thay vì 1:30:00"}[locale] in said


@pytest.mark.parametrize("locale", LOCALES)
def test_evidence_of_who_came_names_no_threshold(locale: Locale) -> None:
    change = later("adjustment", attended(4_800, 1))
    settled = [hold("attendance", attended(900)), hold("outcome", attended(900, 0))]

    by_attendance, by_outcome = (
        explain(msgspec.structs.replace(one, adjustments=(change,)), locale).removeprefix(
            explain(one, locale)
        )
        for one in settled
    )

    assert ("20 %" in by_attendance, "%" in by_outcome) == (True, False)
    assert all(fact in by_outcome for fact in ("1:20:00", "1:30:00", "0:01"))


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("cause", LATER)
def test_what_came_later_is_said_with_what_holds_now(cause: str, locale: Locale) -> None:
    settled = hold("attendance", attended(900))
    change = later(cause, attended(4_800), reason="We looked again.")

    said = explain(msgspec.structs.replace(settled, adjustments=(change,)), locale)

    assert said.startswith(explain(settled, locale))
    added = said.removeprefix(explain(settled, locale))
    assert all(fact in added for fact in ("2026-03-01", "10.00 USD", "20.00 USD", "70.00 USD"))
    by_evidence = cause == "adjustment"
    assert ("1:20:00" in added) is by_evidence
    would = {"en": "would be as before", "vi": "mọi thứ vẫn như trước"}[locale]
    assert (would in added) is not by_evidence
    assert ("We looked again." in added) is not by_evidence

"""Say in words why a hold is what it is, and what would have changed it. Pure."""

from collections.abc import Callable, Mapping
from typing import Literal

from billing.hold_views import Adjustment, Attendance, HoldView
from billing.models import HoldStatus, SourceKind
from billing.money import Money

Locale = Literal["en", "vi"]

TEXTS: dict[Locale, dict[str, str]] = {
    "en": {
        "held": "{amount} are held until the lesson is over. The tutor gets them by the split if the student attends at"
        " least {threshold} % of it, otherwise the student gets everything back. Everything goes back, too, if the"
        " tutor attends less than {threshold} % or the lesson is not held.",
        "held_booking": "{amount} are held until the lesson is over. The tutor gets them by the split if the tutor comes,"
        " whether or not the student does; otherwise, and if the lesson is not held, the student gets everything back."
        " What a student pays who cancels, the terms of cancelling say.",
        "held_package": "{amount} are held for a lesson of a package until it is over. The tutor gets them by the split"
        " if the tutor comes, whether or not the student does; otherwise, and if the lesson is not held, it goes back to"
        " its package, or its money to the student where the package is over or soon will be. What becomes of it where a"
        " student cancels, the terms of cancelling say.",
        "held_untaken": "{amount} are held for a lesson of a package that is not taken yet. Once it is taken, what happens"
        " in it decides.",
        "unused_release": "If the package ends and the lesson is unused, the tutor gets them by the split.",
        "unused_refund": "If the package ends and the lesson is unused, the student gets everything back.",
        "released": "The student attended {attended} of {total} ({percent} %); at least {required} ({threshold} %) were"
        " needed. So {amount} were released: {tutor} to the tutor, {platform} to the platform. With less than"
        " {required} everything would have gone back to the student. So it would have been, too, had the tutor attended"
        " less than {tutor_required}; the tutor attended {tutor_attended} of {scheduled}.",
        "missed": "The student attended {attended} of {total} ({percent} %); at least {required} ({threshold} %) were"
        " needed. So {refunded} went back to the student. With {missing} more the money would have been released to"
        " the tutor, who attended {tutor_attended} of {scheduled}; at least {tutor_required} were needed.",
        "tutor_absent": "The tutor attended {tutor_attended} of {scheduled}; at least {tutor_required} were needed. So"
        " the lesson counts as not given and {refunded} went back to the student, whatever the student attended. With"
        " {tutor_missing} more of the tutor, the student's own {percent} % against {threshold} % would have decided.",
        "shorter": "The tutor ended the lesson early, so the student was measured against {total} instead of"
        " {scheduled}.",
        "student": "The student withdrew the purchase",
        "tutor": "The tutor cancelled the lesson",
        "admin_cancelled": "An administrator cancelled the lesson or the purchase",
        "system": "The lesson was not held",
        "cancelled": "{deed}, so {refunded} went back to the student. Had the lesson been given, what happened in it"
        " would have decided.",
        "admin": "An administrator decided: {tutor} to the tutor, {platform} to the platform, {refunded} back to the"
        " student. Without that, what happened in the lesson would have decided.",
        "outcome_both": "Both came: the tutor attended {tutor_attended} of {scheduled}, the student {attended}. So it"
        " was: {tutor} to the tutor, {platform} to the platform, {refunded} back to the student. Had the tutor not come,"
        " everything would have gone back to the student.",
        "outcome_tutor": "The tutor came and attended {tutor_attended} of {scheduled}; the student did not come. So it"
        " was: {tutor} to the tutor, {platform} to the platform, {refunded} back to the student. Had the tutor not come,"
        " everything would have gone back to the student.",
        "outcome_student": "The student came and attended {attended} of {scheduled}; the tutor did not come. So"
        " {refunded} went back to the student. Had the tutor come, the money would have been released to them.",
        "outcome_nobody": "Nobody came. So the lesson was not held and {refunded} went back to the student. Had the"
        " tutor come, the money would have been released to them.",
        "expired": "The lesson was not taken before its package expired. So it was: {tutor} to the tutor, {platform} to"
        " the platform, {refunded} back to the student. Had it been taken in time, what happened in it would have"
        " decided.",
        "terms": "The terms of version {version} are what counts.",
        "reason": "Reason: {reason}",
        "adjustment": "Evidence that came later changed this on {at}: now {tutor} to the tutor, {platform} to the"
        " platform, {refunded} back to the student.",
        "refund": "A refund changed this on {at}: now {tutor} to the tutor, {platform} to the platform, {refunded} back"
        " to the student. Without it, everything would be as before.",
        "dispute": "The decision of a dispute changed this on {at}: now {tutor} to the tutor, {platform} to the platform,"
        " {refunded} back to the student. Had it been decided the other way, everything would be as before.",
        "evidence": "By all that is known now, the student attended {attended} of {total} ({percent} %), where at least"
        " {required} ({threshold} %) were needed, and the tutor {tutor_attended} of {scheduled}, where at least"
        " {tutor_required} were needed.",
        "evidence_outcome": "By all that is known now, the student attended {attended} of {scheduled}, and the tutor"
        " {tutor_attended}. The tutor is paid for having come.",
        "forfeited": "The student cancelled too late or did not come. So {amount} were released: {tutor} to the tutor,"
        " {platform} to the platform. Had the student cancelled in time, everything would have gone back to them.",
        "forfeited_package": "The student cancelled the lesson too late or did not come. So its {amount} were released:"
        " {tutor} to the tutor, {platform} to the platform. Had the student cancelled in time, it would have gone back"
        " to its package, or its money to the student where the package was over.",
        "card_dispute": "The student's bank took the payment back on {at}: now {tutor} to the tutor, {platform} to the"
        " platform, {refunded} back to the student. Had the bank left the payment with us, everything would be as"
        " before.",
    },
    "vi": {
        "held": "{amount} được giữ cho đến khi buổi học kết thúc. Gia sư nhận theo tỷ lệ chia nếu học viên tham gia ít"
        " nhất {threshold} % buổi học, nếu không học viên được hoàn lại toàn bộ. Học viên cũng được hoàn lại toàn bộ nếu"
        " gia sư tham gia dưới {threshold} % hoặc buổi học không diễn ra.",
        "held_booking": "{amount} được giữ cho đến khi buổi học kết thúc. Gia sư nhận theo tỷ lệ chia nếu gia sư có mặt,"
        " dù học viên có đến hay không; nếu gia sư không đến hoặc buổi học không diễn ra, học viên được hoàn lại toàn"
        " bộ. Nếu học viên hủy, số tiền phải trả do điều khoản hủy quy định.",
        "held_package": "{amount} được giữ cho một buổi học trong gói cho đến khi buổi học kết thúc. Gia sư nhận theo tỷ"
        " lệ chia nếu gia sư có mặt, dù học viên có đến hay không; nếu gia sư không đến hoặc buổi học không diễn ra, buổi"
        " học được trả lại vào gói, hoặc tiền được hoàn lại cho học viên nếu gói đã kết thúc hay sắp kết thúc. Nếu học"
        " viên hủy, điều khoản hủy quy định buổi học sẽ ra sao.",
        "held_untaken": "{amount} được giữ cho một buổi học trong gói chưa được sử dụng. Khi buổi học được đặt, những gì"
        " xảy ra trong buổi học sẽ quyết định.",
        "unused_release": "Nếu gói kết thúc mà buổi học chưa được sử dụng, gia sư nhận số tiền theo tỷ lệ chia.",
        "unused_refund": "Nếu gói kết thúc mà buổi học chưa được sử dụng, học viên được hoàn lại toàn bộ.",
        "released": "Học viên đã tham gia {attended} trên {total} ({percent} %); cần ít nhất {required} ({threshold} %)."
        " Vì vậy {amount} đã được giải ngân: {tutor} cho gia sư, {platform} cho nền tảng. Nếu dưới {required}, toàn bộ"
        " đã được hoàn lại cho học viên. Điều đó cũng xảy ra nếu gia sư có mặt dưới {tutor_required}; gia sư đã có mặt"
        " {tutor_attended} trên {scheduled}.",
        "missed": "Học viên đã tham gia {attended} trên {total} ({percent} %); cần ít nhất {required} ({threshold} %)."
        " Vì vậy {refunded} đã được hoàn lại cho học viên. Nếu tham gia thêm {missing}, số tiền đã được giải ngân cho"
        " gia sư; gia sư đã có mặt {tutor_attended} trên {scheduled}, cần ít nhất {tutor_required}.",
        "tutor_absent": "Gia sư đã có mặt {tutor_attended} trên {scheduled}; cần ít nhất {tutor_required}. Vì vậy buổi"
        " học được coi là không diễn ra và {refunded} đã được hoàn lại cho học viên, bất kể học viên tham gia bao lâu."
        " Nếu gia sư có mặt thêm {tutor_missing}, mức tham gia {percent} % của học viên so với {threshold} % sẽ quyết"
        " định.",
        "shorter": "Gia sư kết thúc buổi học sớm, nên học viên được tính trên {total} thay vì {scheduled}.",
        "student": "Học viên đã rút lại giao dịch mua",
        "tutor": "Gia sư đã hủy buổi học",
        "admin_cancelled": "Quản trị viên đã hủy buổi học hoặc giao dịch mua",
        "system": "Buổi học đã không diễn ra",
        "cancelled": "{deed}, vì vậy {refunded} đã được hoàn lại cho học viên. Nếu buổi học diễn ra, những gì xảy ra trong"
        " buổi học sẽ quyết định.",
        "admin": "Quản trị viên đã quyết định: {tutor} cho gia sư, {platform} cho nền tảng, {refunded} hoàn lại cho học"
        " viên. Nếu không, những gì xảy ra trong buổi học sẽ quyết định.",
        "outcome_both": "Cả hai đều đến: gia sư có mặt {tutor_attended} trên {scheduled}, học viên {attended}. Kết quả:"
        " {tutor} cho gia sư, {platform} cho nền tảng, {refunded} hoàn lại cho học viên. Nếu gia sư không đến, toàn bộ"
        " đã được hoàn lại cho học viên.",
        "outcome_tutor": "Gia sư đã đến và có mặt {tutor_attended} trên {scheduled}; học viên không đến. Kết quả:"
        " {tutor} cho gia sư, {platform} cho nền tảng, {refunded} hoàn lại cho học viên. Nếu gia sư không đến, toàn bộ"
        " đã được hoàn lại cho học viên.",
        "outcome_student": "Học viên đã đến và có mặt {attended} trên {scheduled}; gia sư không đến. Vì vậy {refunded}"
        " đã được hoàn lại cho học viên. Nếu gia sư đến, số tiền đã được giải ngân cho gia sư.",
        "outcome_nobody": "Không ai đến. Vì vậy buổi học được coi là không diễn ra và {refunded} đã được hoàn lại cho"
        " học viên. Nếu gia sư đến, số tiền đã được giải ngân cho gia sư.",
        "expired": "Buổi học không được dùng trước khi gói hết hạn. Kết quả: {tutor} cho gia sư, {platform} cho nền"
        " tảng, {refunded} hoàn lại cho học viên. Nếu được dùng kịp thời, những gì xảy ra trong buổi học sẽ quyết định.",
        "terms": "Áp dụng điều khoản phiên bản {version}.",
        "reason": "Lý do: {reason}",
        "adjustment": "Bằng chứng đến sau đã thay đổi kết quả ngày {at}: nay {tutor} cho gia sư, {platform} cho nền tảng,"
        " {refunded} hoàn lại cho học viên.",
        "refund": "Một khoản hoàn tiền đã thay đổi kết quả ngày {at}: nay {tutor} cho gia sư, {platform} cho nền tảng,"
        " {refunded} hoàn lại cho học viên. Nếu không, mọi thứ vẫn như trước.",
        "dispute": "Quyết định về khiếu nại đã thay đổi kết quả ngày {at}: nay {tutor} cho gia sư, {platform} cho nền"
        " tảng, {refunded} hoàn lại cho học viên. Nếu quyết định ngược lại, mọi thứ vẫn như trước.",
        "evidence": "Theo tất cả những gì được biết đến nay, học viên đã tham gia {attended} trên {total} ({percent} %),"
        " cần ít nhất {required} ({threshold} %), và gia sư {tutor_attended} trên {scheduled}, cần ít nhất"
        " {tutor_required}.",
        "evidence_outcome": "Theo tất cả những gì được biết đến nay, học viên đã tham gia {attended} trên {scheduled}, gia"
        " sư {tutor_attended}. Gia sư được trả vì đã có mặt.",
        "forfeited": "Học viên hủy quá muộn hoặc không đến. Vì vậy {amount} đã được giải ngân: {tutor} cho gia sư,"
        " {platform} cho nền tảng. Nếu học viên hủy kịp thời, toàn bộ đã được hoàn lại cho học viên.",
        "forfeited_package": "Học viên hủy buổi học quá muộn hoặc không đến. Vì vậy {amount} của buổi học đã được giải"
        " ngân: {tutor} cho gia sư, {platform} cho nền tảng. Nếu học viên hủy kịp thời, buổi học đã được trả lại vào gói,"
        " hoặc tiền được hoàn lại cho học viên nếu gói đã kết thúc.",
        "card_dispute": "Ngân hàng của học viên đã thu hồi khoản thanh toán ngày {at}: nay {tutor} cho gia sư, {platform}"
        " cho nền tảng, {refunded} hoàn lại cho học viên. Nếu ngân hàng không thu hồi, mọi thứ vẫn như trước.",
    },
}


def explain(hold: HoldView, locale: Locale = "en") -> str:
    """Return some sentences for both parties; facts only, no names."""
    texts = TEXTS[locale]
    facts = _facts(hold)
    said = [texts[_why(hold)].format(**facts, deed=texts[_deed(hold)])]
    if (
        hold.attendance
        and hold.cause == "attendance"
        and hold.attendance.total_s < hold.attendance.scheduled_s
    ):
        said.append(texts["shorter"].format(**facts))
    if hold.cause is None and hold.source_kind is SourceKind.PACKAGE_SLICE:
        said.append(texts[f"unused_{hold.policy.package_expiry}"])
    said.append(texts["terms"].format(version=hold.policy.version))
    if hold.reason is not None and hold.settled_by != "system":
        said.append(texts["reason"].format(reason=hold.reason))
    for later in hold.adjustments:
        said += _later(later, texts, "evidence_outcome" if hold.cause == "outcome" else "evidence")
    return " ".join(said)


def duration(seconds: int) -> str:
    """Write seconds as `1:20:00`, or `18:00` below an hour; the same in every language."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _attendance(hold: HoldView) -> str:
    return "released" if hold.status is HoldStatus.RELEASED else "missed"


def _outcome(hold: HoldView) -> str:
    assert hold.attendance is not None, "who came is a fact"
    return OUTCOMES[hold.attendance.tutor_attended_s > 0, hold.attendance.attended_s > 0]


def _forfeited(hold: HoldView) -> str:
    return "forfeited_package" if hold.source_kind is SourceKind.PACKAGE_SLICE else "forfeited"


# By who came: the tutor, the student.
OUTCOMES: Mapping[tuple[bool, bool], str] = {
    (True, True): "outcome_both",
    (True, False): "outcome_tutor",
    (False, True): "outcome_student",
    (False, False): "outcome_nobody",
}
# The text of a cause that closes a hold, by its word.
CLOSING: Mapping[str, Callable[[HoldView], str]] = {
    "attendance": _attendance,
    "tutor_absent": lambda _: "tutor_absent",
    "cancelled": lambda _: "cancelled",
    "admin": lambda _: "admin",
    "forfeited": _forfeited,
    "outcome": _outcome,
    "expired": lambda _: "expired",
}
# The text of a cause that changes what was settled; what evidence changed is followed by the evidence.
LATER = ("adjustment", "refund", "dispute", "card_dispute")


def _why(hold: HoldView) -> str:
    return _held(hold) if hold.cause is None else CLOSING[hold.cause](hold)


def _held(hold: HoldView) -> str:
    """Name the text of what will decide."""
    match hold.source_kind:
        case SourceKind.BOOKING:
            return "held_booking"
        case SourceKind.PACKAGE_SLICE:
            return "held_untaken" if hold.lesson_id is None else "held_package"
        case SourceKind.COURSE_SESSION | SourceKind.COURSE_SLICE:
            return "held"


def _later(later: Adjustment, texts: Mapping[str, str], evidence: str) -> list[str]:
    said = [
        texts[later.cause].format(
            at=f"{later.at:%Y-%m-%d}",
            tutor=later.tutor_share,
            platform=later.platform_share,
            refunded=later.refunded,
        )
    ]
    if later.cause == "adjustment":
        # Its reason is that there was evidence.
        if later.attendance is not None:
            said.append(texts[evidence].format(**_measured(later.attendance)))
    elif later.reason is not None:
        said.append(texts["reason"].format(reason=later.reason))
    return said


def _deed(hold: HoldView) -> str:
    """Name the text of what whoever cancelled did."""
    return "admin_cancelled" if hold.settled_by == "admin" else hold.settled_by or "system"


def _facts(hold: HoldView) -> dict[str, str | int | Money | None]:
    return {
        "amount": hold.amount,
        "tutor": hold.tutor_share,
        "platform": hold.platform_share,
        "refunded": hold.refunded,
        "threshold": hold.policy.attendance_percent,
        **(_measured(hold.attendance) if hold.attendance else {}),
    }


def _measured(attendance: Attendance) -> dict[str, str | int]:
    return {
        "attended": duration(attendance.attended_s),
        "total": duration(attendance.total_s),
        "scheduled": duration(attendance.scheduled_s),
        "percent": attendance.percent,
        "threshold": attendance.threshold_percent,
        "required": duration(attendance.required_s),
        "missing": duration(attendance.required_s - attendance.attended_s),
        "tutor_attended": duration(attendance.tutor_attended_s),
        "tutor_required": duration(attendance.tutor_required_s),
        "tutor_missing": duration(attendance.tutor_required_s - attendance.tutor_attended_s),
    }

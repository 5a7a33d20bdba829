"""Say in words why a hold is what it is, and what would have changed it. Pure."""

from typing import Literal

from billing.hold_views import Attendance, HoldView
from billing.models import Cause, HoldStatus
from billing.money import Money

Locale = Literal["en", "vi"]

TEXTS: dict[Locale, dict[str, str]] = {
    "en": {
        "held": "{amount} are held until the lesson is over. The tutor gets them by the split if the student attends at"
        " least {threshold} % of it, otherwise the student gets everything back.",
        "released": "The student attended {attended} of {total} ({percent} %); at least {required} ({threshold} %) were"
        " needed. So {amount} were released: {tutor} to the tutor, {platform} to the platform. With less than"
        " {required} everything would have gone back to the student.",
        "missed": "The student attended {attended} of {total} ({percent} %); at least {required} ({threshold} %) were"
        " needed. So {refunded} went back to the student. With {missing} more the money would have been released to"
        " the tutor.",
        "tutor_absent": "The tutor attended {tutor_attended} of {scheduled}; at least {tutor_required} were needed. So"
        " the lesson counts as not given and {refunded} went back to the student, whatever the student attended. Had"
        " the tutor been there, the student's own {percent} % against {threshold} % would have decided.",
        "student": "The student withdrew the purchase",
        "tutor": "The tutor cancelled the lesson",
        "admin_cancelled": "An administrator cancelled the lesson or the purchase",
        "system": "The lesson was not held",
        "cancelled": "{deed}, so {refunded} went back to the student. Had the lesson been given, the student's attendance"
        " would have decided.",
        "outcome_both": "Student and tutor came to the lesson. So {amount} were released: {tutor} to the tutor,"
        " {platform} to the platform.",
        "outcome_tutor": "The tutor came and the student did not. So {amount} were released: {tutor} to the tutor,"
        " {platform} to the platform.",
        "outcome_student": "The tutor did not come. So {refunded} went back to the student.",
        "outcome_nobody": "Nobody came to the lesson. So {refunded} went back to the student.",
        "forfeited": "The student cancelled too late or did not come. So {amount} were released: {tutor} to the tutor,"
        " {platform} to the platform.",
        "admin": "An administrator decided: {tutor} to the tutor, {platform} to the platform, {refunded} back to the"
        " student.",
        "expired": "Nobody took this lesson of the package in time. By the terms of the package {tutor} went to the tutor,"
        " {platform} to the platform, {refunded} back to the student.",
        "reason": "Reason: {reason}",
        "adjustment": "Evidence that came later changed this on {at}{now}",
        "refund": "Money was given back on {at}{now}",
        "dispute": "A dispute was decided for the student on {at}{now}",
        "card_dispute": "The student's bank took the payment back on {at}{now}",
        "now": ": now {tutor} to the tutor, {platform} to the platform, {refunded} back to the student.",
    },
    "vi": {
        "held": "{amount} được giữ cho đến khi buổi học kết thúc. Gia sư nhận theo tỷ lệ chia nếu học viên tham gia ít"
        " nhất {threshold} % buổi học, nếu không học viên được hoàn lại toàn bộ.",
        "released": "Học viên đã tham gia {attended} trên {total} ({percent} %); cần ít nhất {required} ({threshold} %)."
        " Vì vậy {amount} đã được giải ngân: {tutor} cho gia sư, {platform} cho nền tảng. Nếu dưới {required}, toàn bộ"
        " đã được hoàn lại cho học viên.",
        "missed": "Học viên đã tham gia {attended} trên {total} ({percent} %); cần ít nhất {required} ({threshold} %)."
        " Vì vậy {refunded} đã được hoàn lại cho học viên. Nếu tham gia thêm {missing}, số tiền đã được giải ngân cho"
        " gia sư.",
        "tutor_absent": "Gia sư đã có mặt {tutor_attended} trên {scheduled}; cần ít nhất {tutor_required}. Vì vậy buổi"
        " học được coi là không diễn ra và {refunded} đã được hoàn lại cho học viên, bất kể học viên tham gia bao lâu."
        " Nếu gia sư có mặt, mức tham gia {percent} % của học viên so với {threshold} % sẽ quyết định.",
        "student": "Học viên đã rút lại giao dịch mua",
        "tutor": "Gia sư đã hủy buổi học",
        "admin_cancelled": "Quản trị viên đã hủy buổi học hoặc giao dịch mua",
        "system": "Buổi học đã không diễn ra",
        "cancelled": "{deed}, vì vậy {refunded} đã được hoàn lại cho học viên. Nếu buổi học diễn ra, mức tham gia của học"
        " viên sẽ quyết định.",
        "outcome_both": "Học viên và gia sư đều đã vào buổi học. Vì vậy {amount} đã được giải ngân: {tutor} cho gia sư,"
        " {platform} cho nền tảng.",
        "outcome_tutor": "Gia sư đã vào buổi học còn học viên thì không. Vì vậy {amount} đã được giải ngân: {tutor} cho"
        " gia sư, {platform} cho nền tảng.",
        "outcome_student": "Gia sư đã không vào buổi học. Vì vậy {refunded} đã được hoàn lại cho học viên.",
        "outcome_nobody": "Không ai vào buổi học. Vì vậy {refunded} đã được hoàn lại cho học viên.",
        "forfeited": "Học viên hủy quá muộn hoặc không đến. Vì vậy {amount} đã được giải ngân: {tutor} cho gia sư,"
        " {platform} cho nền tảng.",
        "admin": "Quản trị viên đã quyết định: {tutor} cho gia sư, {platform} cho nền tảng, {refunded} hoàn lại cho học"
        " viên.",
        "expired": "Buổi học này của gói không được dùng đúng hạn. Theo điều khoản của gói, {tutor} cho gia sư, {platform}"
        " cho nền tảng, {refunded} hoàn lại cho học viên.",
        "reason": "Lý do: {reason}",
        "adjustment": "Bằng chứng đến sau đã thay đổi kết quả ngày {at}{now}",
        "refund": "Tiền đã được hoàn lại ngày {at}{now}",
        "dispute": "Khiếu nại đã được giải quyết có lợi cho học viên ngày {at}{now}",
        "card_dispute": "Ngân hàng của học viên đã thu hồi khoản thanh toán ngày {at}{now}",
        "now": ": nay {tutor} cho gia sư, {platform} cho nền tảng, {refunded} hoàn lại cho học viên.",
    },
}


def explain(hold: HoldView, locale: Locale = "en") -> str:
    """Return one to three sentences for both parties; facts only, no names."""
    texts = TEXTS[locale]
    said = [texts[_why(hold)].format(**_facts(hold), deed=texts[_deed(hold)])]
    if hold.reason is not None and hold.settled_by != "system":
        said.append(texts["reason"].format(reason=hold.reason))
    said += [
        texts[adjustment.cause].format(
            at=f"{adjustment.at:%Y-%m-%d}",
            now=texts["now"].format(
                tutor=adjustment.tutor_share,
                platform=adjustment.platform_share,
                refunded=adjustment.refunded,
            ),
        )
        for adjustment in hold.adjustments
    ]
    return " ".join(said)


def duration(seconds: int) -> str:
    """Write seconds as `1:20:00`, or `18:00` below an hour; the same in every language."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _why(hold: HoldView) -> str:
    match hold.cause:
        case None:
            return "held"
        case Cause.ATTENDANCE:
            return "released" if hold.status is HoldStatus.RELEASED else "missed"
        case (Cause.TUTOR_ABSENT | Cause.CANCELLED | Cause.FORFEITED | Cause.ADMIN | Cause.EXPIRED) as cause:
            return cause.value
        case Cause.OUTCOME:
            return f"outcome_{_came(hold)}"
        case Cause.ADJUSTMENT | Cause.REFUND | Cause.DISPUTE | Cause.CARD_DISPUTE:
            raise AssertionError("what follows a settlement closes no hold")


def _came(hold: HoldView) -> str:
    assert hold.attendance is not None, "facts decided it"
    tutor, student = hold.attendance.tutor_attended_s > 0, hold.attendance.attended_s > 0
    return ("both" if student else "tutor") if tutor else ("student" if student else "nobody")


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
    }

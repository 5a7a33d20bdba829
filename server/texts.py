"""The catalogue of everything that the server says to people, in English and Vietnamese.

A text is found by its key and filled with facts; a key has the same facts in every language, which a test checks.
"""

from typing import Any, Final, Literal, NamedTuple

from billing.money import Money

Locale = Literal["en", "vi"]
LOCALES: Final[tuple[Locale, ...]] = ("en", "vi")


class Text(NamedTuple):
    """A heading and what it is about, with `{facts}`."""

    title: str
    body: str


class Entry(NamedTuple):
    """One text in every language."""

    en: Text
    vi: Text


class Letter(NamedTuple):
    """A mail: paragraphs with `{facts}`, one of them the `{link}`, which in HTML is the button."""

    subject: str
    body: str
    button: str


class Letters(NamedTuple):
    """One mail in every language."""

    en: Letter
    vi: Letter


NOTICES: Final[dict[str, Entry]] = {
    "new_session_purchase": Entry(
        Text("New purchase", "{student} bought a place in a session of “{course}” for {price}."),
        Text("Lượt mua mới", "{student} đã mua một chỗ trong buổi học của “{course}” với giá {price}."),
    ),
    "new_course_enrollment": Entry(
        Text("New enrollment", "{student} enrolled in “{course}” for {price}."),
        Text("Ghi danh mới", "{student} đã ghi danh “{course}” với giá {price}."),
    ),
    "purchase_confirmed": Entry(
        Text(
            "Purchase confirmed", "Your place in “{course}” is paid: {price}, held until you have attended."
        ),
        Text(
            "Đã xác nhận mua",
            "Chỗ của bạn trong “{course}” đã được thanh toán: {price}, tạm giữ cho đến khi bạn tham dự.",
        ),
    ),
    "session_started": Entry(
        Text("The session has started", "“{session}” of “{course}” is on now. Come in."),
        Text("Buổi học đã bắt đầu", "“{session}” của “{course}” đang diễn ra. Mời bạn vào lớp."),
    ),
    "session_cancelled": Entry(
        Text("Session cancelled", "“{session}” of “{course}” will not be held."),
        Text("Buổi học đã hủy", "“{session}” của “{course}” sẽ không diễn ra."),
    ),
    "booking_requested": Entry(
        Text("A lesson is asked for", "{student} asks for a lesson with you at {starts_at} UTC."),
        Text("Có yêu cầu học", "{student} muốn học với bạn lúc {starts_at} UTC."),
    ),
    "booking_accepted": Entry(
        Text("Lesson agreed", "{tutor} gives you the lesson at {starts_at} UTC."),
        Text("Đã nhận lịch học", "{tutor} nhận dạy bạn lúc {starts_at} UTC."),
    ),
    "booking_declined": Entry(
        Text("Request declined", "{tutor} cannot give the lesson at {starts_at} UTC. Reason: {reason}"),
        Text("Yêu cầu bị từ chối", "{tutor} không thể dạy lúc {starts_at} UTC. Lý do: {reason}"),
    ),
    "booking_withdrawn": Entry(
        Text("Request withdrawn", "{student} no longer asks for a lesson at {starts_at} UTC."),
        Text("Yêu cầu đã rút lại", "{student} không còn yêu cầu buổi học lúc {starts_at} UTC."),
    ),
    "booking_expired": Entry(
        Text(
            "Request without an answer",
            "The request for a lesson at {starts_at} UTC was not answered in time.",
        ),
        Text("Yêu cầu không được trả lời", "Yêu cầu học lúc {starts_at} UTC không được trả lời kịp thời."),
    ),
    "booking_cancelled": Entry(
        Text(
            "Lesson cancelled",
            "The lesson of {student} with {tutor} at {starts_at} UTC is off. Reason: {reason}",
        ),
        Text(
            "Buổi học đã hủy",
            "Buổi học của {student} với {tutor} lúc {starts_at} UTC đã hủy. Lý do: {reason}",
        ),
    ),
    "booking_cancelled_late": Entry(
        Text(
            "Lesson cancelled late",
            "{student} cancelled the lesson at {starts_at} UTC too late to get everything back. Reason: {reason}",
        ),
        Text(
            "Buổi học hủy muộn",
            "{student} đã hủy buổi học lúc {starts_at} UTC quá muộn để được hoàn toàn bộ. Lý do: {reason}",
        ),
    ),
    "booking_started": Entry(
        Text("Your lesson is on", "The lesson of {student} with {tutor} is on now. Come in."),
        Text("Buổi học đang diễn ra", "Buổi học của {student} với {tutor} đang diễn ra. Mời bạn vào lớp."),
    ),
    "booking_not_held": Entry(
        Text("Lesson not held", "Nobody came to the lesson of {student} with {tutor} at {starts_at} UTC."),
        Text(
            "Buổi học không diễn ra", "Không ai đến buổi học của {student} với {tutor} lúc {starts_at} UTC."
        ),
    ),
    "booking_no_show_student": Entry(
        Text(
            "The student did not come",
            "{student} did not come to the lesson with {tutor} at {starts_at} UTC.",
        ),
        Text("Học viên vắng mặt", "{student} đã không đến buổi học với {tutor} lúc {starts_at} UTC."),
    ),
    "booking_no_show_tutor": Entry(
        Text(
            "The tutor did not come", "{tutor} did not come to the lesson with {student} at {starts_at} UTC."
        ),
        Text("Gia sư vắng mặt", "{tutor} đã không đến buổi học với {student} lúc {starts_at} UTC."),
    ),
    "tutor_strikes": Entry(
        Text("Strikes of a tutor", "{tutor} has {strikes} strikes within ninety days. Have a look."),
        Text("Cảnh cáo gia sư", "{tutor} có {strikes} lần cảnh cáo trong chín mươi ngày. Mời bạn xem xét."),
    ),
    "course_updated": Entry(
        Text("Course changed", "Something changed in “{course}”. Have a look."),
        Text("Khóa học có thay đổi", "“{course}” có thay đổi. Mời bạn xem."),
    ),
    "session_moved": Entry(
        Text("Session moved", "“{session}” of “{course}” now starts at {starts_at} UTC."),
        Text("Buổi học đổi giờ", "“{session}” của “{course}” nay bắt đầu lúc {starts_at} UTC."),
    ),
    "course_cancelled": Entry(
        Text("Course cancelled", "“{course}” will not be held."),
        Text("Khóa học đã hủy", "“{course}” sẽ không được tổ chức."),
    ),
    "payment_received": Entry(
        Text("Payment received", "{share} were paid to you for a lesson."),
        Text("Đã nhận thanh toán", "Bạn đã nhận {share} cho một buổi học."),
    ),
    "withdrawal_requested": Entry(
        Text("New withdrawal", "{tutor} asks for {amount}."),
        Text("Yêu cầu rút tiền mới", "{tutor} yêu cầu rút {amount}."),
    ),
    "withdrawal_approved": Entry(
        Text("Withdrawal approved", "Your withdrawal of {amount} is approved and on its way."),
        Text("Đã duyệt rút tiền", "Yêu cầu rút {amount} của bạn đã được duyệt và đang được chuyển."),
    ),
    "withdrawal_completed": Entry(
        Text("Withdrawal paid", "{amount} were sent to you. Reference: {reference}."),
        Text("Đã chi trả", "{amount} đã được chuyển cho bạn. Mã tham chiếu: {reference}."),
    ),
    "withdrawal_rejected": Entry(
        Text("Withdrawal rejected", "{amount} are back in your earnings: {answer}"),
        Text("Yêu cầu rút tiền bị từ chối", "{amount} đã trở lại thu nhập của bạn: {answer}"),
    ),
    "payout_failed": Entry(
        Text(
            "Payout failed", "{amount} could not be paid to {tutor}: {failure}. The money is still reserved."
        ),
        Text(
            "Chi trả thất bại", "Không thể chi trả {amount} cho {tutor}: {failure}. Số tiền vẫn được giữ lại."
        ),
    ),
    "payout_account_changed": Entry(
        Text(
            "Payout account changed",
            "Your money goes to another account, from {usable_from} UTC. If that was not you, write to us at once.",
        ),
        Text(
            "Tài khoản nhận tiền đã đổi",
            "Tiền của bạn sẽ chuyển đến tài khoản khác, từ {usable_from} UTC. Nếu không phải bạn, hãy báo ngay cho"
            " chúng tôi.",
        ),
    ),
    "top_up_succeeded": Entry(
        Text("Credit added", "{amount} are in your wallet."),
        Text("Đã nạp tiền", "{amount} đã vào ví của bạn."),
    ),
    "top_up_failed": Entry(
        Text("Top-up not completed", "{amount} were not paid, and nothing was charged."),
        Text("Nạp tiền chưa hoàn tất", "{amount} chưa được thanh toán và bạn không bị trừ tiền."),
    ),
    "authorization_needed": Entry(
        Text(
            "Your card needs you",
            "Your bank did not approve {amount} for your lesson. Confirm your card by {until} UTC, or the lesson is"
            " cancelled.",
        ),
        Text(
            "Thẻ của bạn cần xác nhận",
            "Ngân hàng chưa chấp thuận {amount} cho buổi học của bạn. Hãy xác nhận thẻ trước {until} UTC, nếu không"
            " buổi học sẽ bị hủy.",
        ),
    ),
    "payment_failed": Entry(
        Text("Lesson not paid", "{amount} could not be taken from the card, so the payment was let go."),
        Text(
            "Buổi học chưa được thanh toán", "Không thể thu {amount} từ thẻ nên khoản thanh toán đã bị hủy."
        ),
    ),
    "refunded_to_card": Entry(
        Text("Refund to your card", "{refunded} are on the way back to your card. Banks take 5 to 10 days."),
        Text("Hoàn tiền về thẻ", "{refunded} đang được hoàn về thẻ của bạn. Ngân hàng cần 5 đến 10 ngày."),
    ),
    "card_refund_failed": Entry(
        Text("Your card took no refund", "{refunded} came back and are in your wallet."),
        Text("Không thể hoàn tiền về thẻ", "{refunded} đã quay lại và nằm trong ví của bạn."),
    ),
    "card_refund_kept": Entry(
        Text(
            "Your card took no refund",
            "{kept} of it your bank had given you already, so they stay with us; {refunded} are in your wallet.",
        ),
        Text(
            "Không thể hoàn tiền về thẻ",
            "Ngân hàng đã trả cho bạn {kept} trong số đó nên khoản này ở lại với chúng tôi; {refunded} nằm trong ví của bạn.",
        ),
    ),
    "refund_processed": Entry(
        Text("Refund", "{amount} are back in your wallet."),
        Text("Hoàn tiền", "{amount} đã được hoàn vào ví của bạn."),
    ),
    "hold_released": Entry(
        Text(
            "A lesson was decided",
            "An administrator paid {released} of a lesson out; {refunded} are back with you.",
        ),
        Text(
            "Đã quyết định buổi học",
            "Quản trị viên đã chi trả {released} của một buổi học; {refunded} đã hoàn cho bạn.",
        ),
    ),
    "hold_given_back": Entry(
        Text(
            "Refund of a lesson",
            "An administrator gave {amount}, held for your lesson, back to the student.",
        ),
        Text(
            "Hoàn tiền buổi học",
            "Quản trị viên đã hoàn cho học viên {amount} đang giữ cho buổi học của bạn.",
        ),
    ),
    "share_given_back": Entry(
        Text(
            "Refund of a lesson",
            "{given} of a lesson went back to the student, {from_tutor} of it from your share. What you were paid out"
            " already comes off your next earnings: {owed}.",
        ),
        Text(
            "Hoàn tiền buổi học",
            "{given} của một buổi học đã được hoàn cho học viên, trong đó {from_tutor} từ phần của bạn. Phần bạn đã nhận"
            " sẽ được trừ vào thu nhập tiếp theo: {owed}.",
        ),
    ),
    "dispute_opened": Entry(
        Text(
            "Dispute opened",
            "A lesson is disputed. {frozen} of the tutor's share are frozen until an administrator has decided.",
        ),
        Text(
            "Có khiếu nại",
            "Một buổi học đang bị khiếu nại. {frozen} trong phần của gia sư bị tạm giữ cho đến khi quản trị viên quyết"
            " định.",
        ),
    ),
    "dispute_upheld": Entry(
        Text("Dispute decided", "The lesson's settlement stays as it was: {notes}"),
        Text("Khiếu nại đã được giải quyết", "Kết quả quyết toán của buổi học được giữ nguyên: {notes}"),
    ),
    "dispute_refunded": Entry(
        Text("Dispute decided", "{refunded} of the lesson went back to the student: {notes}"),
        Text("Khiếu nại đã được giải quyết", "{refunded} của buổi học đã được hoàn cho học viên: {notes}"),
    ),
    "card_dispute_inquiry": Entry(
        Text("Question from a bank", "A bank asks about a card payment of {amount}. Nothing has moved yet."),
        Text(
            "Ngân hàng yêu cầu giải trình",
            "Ngân hàng hỏi về một khoản thanh toán thẻ {amount}. Chưa có tiền nào được chuyển.",
        ),
    ),
    "card_dispute_open": Entry(
        Text(
            "Card payment disputed",
            "A bank asks a card payment of {amount} back. Credit from it is frozen until the bank has decided.",
        ),
        Text(
            "Thanh toán thẻ bị khiếu nại",
            "Ngân hàng đòi lại một khoản thanh toán thẻ {amount}. Số dư từ khoản này bị tạm giữ đến khi ngân hàng quyết"
            " định.",
        ),
    ),
    "card_dispute_won": Entry(
        Text(
            "Card payment stands",
            "The bank decided that a payment of {amount} stands. Nothing is frozen any more.",
        ),
        Text(
            "Thanh toán thẻ được giữ nguyên",
            "Ngân hàng quyết định khoản thanh toán {amount} hợp lệ. Không còn khoản nào bị tạm giữ.",
        ),
    ),
    "card_dispute_lost": Entry(
        Text(
            "Card payment taken back", "The bank took a payment of {amount} back, and credit from it with it."
        ),
        Text(
            "Thanh toán thẻ bị thu hồi",
            "Ngân hàng đã thu hồi khoản thanh toán {amount}, cùng số dư từ khoản này.",
        ),
    ),
    "card_dispute_closed": Entry(
        Text("Question from a bank answered", "The bank asks no more about a payment of {amount}."),
        Text("Ngân hàng đã ngừng hỏi", "Ngân hàng không còn hỏi về khoản thanh toán {amount}."),
    ),
    "goodwill_given": Entry(
        Text("A gift from us", "{amount} are in your wallet: we are sorry for the trouble."),
        Text("Quà từ chúng tôi", "{amount} đã vào ví của bạn: chúng tôi xin lỗi vì sự bất tiện."),
    ),
    "settlement_adjusted": Entry(
        Text(
            "Settlement corrected",
            "Later evidence corrected a settled lesson: paid {share}, refunded {refunded}.",
        ),
        Text(
            "Đã điều chỉnh quyết toán",
            "Bằng chứng đến sau đã điều chỉnh một buổi học: thanh toán {share}, hoàn lại {refunded}.",
        ),
    ),
    "new_package_purchase": Entry(
        Text("New package", "{student} bought “{title}”: {sessions} lessons for {price}."),
        Text("Gói mới được mua", "{student} đã mua “{title}”: {sessions} buổi với giá {price}."),
    ),
    "package_confirmed": Entry(
        Text(
            "Package confirmed",
            "“{title}” is yours: {sessions} lessons for {price}, each held until it is given.",
        ),
        Text(
            "Đã xác nhận gói",
            "“{title}” là của bạn: {sessions} buổi với giá {price}, mỗi buổi được tạm giữ đến khi diễn ra.",
        ),
    ),
    "package_ending": Entry(
        Text("Package ends soon", "{remaining} lessons of “{title}” are left; it ends on {expires_at} UTC."),
        Text("Gói sắp hết hạn", "Còn {remaining} buổi của “{title}”; gói hết hạn lúc {expires_at} UTC."),
    ),
    "package_expired": Entry(
        Text(
            "Package ended",
            "“{title}” has ended with {lessons} unused lessons; {amount} went to tutor and platform.",
        ),
        Text(
            "Gói đã hết hạn",
            "“{title}” đã hết hạn với {lessons} buổi chưa dùng; {amount} được trả cho gia sư và nền tảng.",
        ),
    ),
    "package_expired_refunded": Entry(
        Text(
            "Package ended",
            "“{title}” has ended with {lessons} unused lessons; {amount} went back to the student.",
        ),
        Text(
            "Gói đã hết hạn",
            "“{title}” đã hết hạn với {lessons} buổi chưa dùng; {amount} được hoàn cho học viên.",
        ),
    ),
    "package_lesson_returned": Entry(
        Text(
            "Lesson back in its package", "A lesson of “{title}” was not given. You have {remaining} again."
        ),
        Text(
            "Buổi học trở lại gói", "Một buổi của “{title}” đã không diễn ra. Bạn lại còn {remaining} buổi."
        ),
    ),
    "package_refunded": Entry(
        Text("Package given back", "{lessons} unused lessons of “{title}” were given back: {amount}."),
        Text("Gói đã được trả lại", "{lessons} buổi chưa dùng của “{title}” đã được trả lại: {amount}."),
    ),
    "new_referral": Entry(
        Text("Somebody came by you", "{name} registered with your code {code}."),
        Text("Có người đến từ bạn", "{name} đã đăng ký bằng mã {code} của bạn."),
    ),
    "tutor_applied": Entry(
        Text("A tutor applies", "{name} asks to be approved as a tutor."),
        Text("Gia sư xin duyệt", "{name} xin được duyệt làm gia sư."),
    ),
    "profile_approved": Entry(
        Text("You may teach", "Your profile is approved. Your referral code is {referral_code}."),
        Text("Bạn có thể dạy", "Hồ sơ của bạn đã được duyệt. Mã giới thiệu của bạn là {referral_code}."),
    ),
    "profile_rejected": Entry(
        Text("Profile not approved", "Your profile was not approved: {reason}"),
        Text("Hồ sơ chưa được duyệt", "Hồ sơ của bạn chưa được duyệt: {reason}"),
    ),
}

PAGES: Final[dict[str, Entry]] = {
    "talk": Entry(
        Text(
            "{title}",
            "{host} invites you to a free talk. {seated} of {cap} places are taken. Its code is {code}.",
        ),
        Text("{title}", "{host} mời bạn vào một buổi trò chuyện. Đã có {seated} trên {cap} chỗ. Mã: {code}."),
    ),
    "talk_closed": Entry(
        Text("{title}", "This talk is over."),
        Text("{title}", "Buổi trò chuyện này đã kết thúc."),
    ),
    "course": Entry(
        Text("{title}", "A course by {tutor}: {language}, {level}, {sessions} sessions."),
        Text("{title}", "Khóa học của {tutor}: {language}, {level}, {sessions} buổi."),
    ),
    "course_by_tutor": Entry(
        Text("{code}", "{about} You come by the tutor's own link: register with the code {code}, then buy."),
        Text("{code}", "{about} Bạn đến từ liên kết của gia sư: đăng ký với mã {code}, rồi mua."),
    ),
    "invitation": Entry(
        Text("{tutor}", "{tutor} invites you to learn here. Register with the code {code}."),
        Text("{tutor}", "{tutor} mời bạn học tại đây. Hãy đăng ký với mã {code}."),
    ),
    "test_payment": Entry(
        Text("Test payment", "{amount}. This is a test: no money moves, and no card is needed."),
        Text("Thanh toán thử", "{amount}. Đây là thử nghiệm: không có tiền nào được chuyển, không cần thẻ."),
    ),
    "test_question": Entry(
        Text("A question of your bank", "Was it you who wants to pay? This is a test: no money moves."),
        Text(
            "Câu hỏi từ ngân hàng",
            "Có phải bạn muốn thanh toán? Đây là thử nghiệm, không có tiền nào được chuyển.",
        ),
    ),
    "test_onboarding": Entry(
        Text("Payout account", "Payouts go to a test account: no money moves, and nothing is asked."),
        Text(
            "Tài khoản nhận tiền",
            "Tiền được chuyển vào tài khoản thử: không có tiền thật, không cần khai báo.",
        ),
    ),
    "test_yes": Entry(Text("Confirm", "Save this card"), Text("Xác nhận", "Lưu thẻ này")),
    "test_no": Entry(Text("Cancel", "Back to fourtalk"), Text("Hủy", "Về fourtalk")),
    "missing": Entry(
        Text("Nothing here", "This link leads nowhere, or not any more."),
        Text("Không có gì ở đây", "Liên kết này không còn dẫn đến đâu."),
    ),
}


MAILS: Final[dict[str, Letters]] = {
    "password_reset": Letters(
        Letter(
            "Set a new password",
            "Hello,\n\nsomebody, hopefully you, asked for a new password for your account at fourtalk. Choose one"
            " here:\n\n{link}\n\nThe link holds for an hour and works once. If it was not you, do nothing: your password"
            " stays as it is.",
            "Choose a new password",
        ),
        Letter(
            "Đặt mật khẩu mới",
            "Xin chào,\n\ncó người, mong rằng là bạn, đã yêu cầu mật khẩu mới cho tài khoản fourtalk của bạn. Hãy đặt"
            " mật khẩu tại đây:\n\n{link}\n\nLiên kết có hiệu lực trong một giờ và chỉ dùng được một lần. Nếu không phải"
            " bạn, không cần làm gì: mật khẩu của bạn vẫn giữ nguyên.",
            "Đặt mật khẩu mới",
        ),
    ),
    "password_changed": Letters(
        Letter(
            "Your password was changed",
            "Hello,\n\nthe password of your account at fourtalk was changed, and every other device was logged"
            " out.\n\nIf that was not you, take your account back at once with a new password:\n\n{link}",
            "Set a new password",
        ),
        Letter(
            "Mật khẩu của bạn đã được đổi",
            "Xin chào,\n\nmật khẩu tài khoản fourtalk của bạn đã được đổi và mọi thiết bị khác đã bị đăng xuất.\n\nNếu"
            " không phải bạn, hãy lấy lại tài khoản ngay bằng một mật khẩu mới:\n\n{link}",
            "Đặt mật khẩu mới",
        ),
    ),
}

# What a buyer reads before the confirmation, by kind of purchase.
REFUND_RULES: Final[dict[str, Entry]] = {
    "session": Entry(
        Text(
            "Refunds",
            "Cancel until the session starts and everything comes back. If you then attend less than {percent} % of it, or"
            " the tutor does not come, everything comes back too.",
        ),
        Text(
            "Hoàn tiền",
            "Hủy trước khi buổi học bắt đầu thì được hoàn toàn bộ. Nếu bạn tham dự dưới {percent} % buổi học, hoặc gia sư"
            " không đến, bạn cũng được hoàn toàn bộ.",
        ),
    ),
    "full_course": Entry(
        Text(
            "Refunds",
            "Cancel at any time and the part of every session that has not begun comes back. So does the part of a"
            " session of which you attend less than {percent} %, to which the tutor does not come, or which is never held."
            " The course is over when all its sessions with a date are, and at least one was held; the parts of"
            " sessions that have no date by then come back.",
        ),
        Text(
            "Hoàn tiền",
            "Bạn có thể hủy bất cứ lúc nào và được hoàn phần của mọi buổi chưa bắt đầu. Phần của buổi mà bạn tham dự"
            " dưới {percent} %, gia sư không đến, hoặc không được tổ chức cũng được hoàn lại. Khóa học kết thúc khi mọi buổi đã"
            " có ngày đều đã qua và ít nhất một buổi đã diễn ra; phần của những buổi đến lúc đó chưa có ngày được hoàn"
            " lại.",
        ),
    ),
}

# The terms in force, each in a sentence; what stands after a point is the answer that was chosen.
TERMS: Final[dict[str, Entry]] = {
    "course_platform_bps": Entry(
        Text("Courses", "Of a course sold to a student who came by the platform, the tutor gets {value}."),
        Text("Khóa học", "Với khóa học bán cho học viên đến từ nền tảng, gia sư nhận {value}."),
    ),
    "course_referral_bps": Entry(
        Text("Courses", "Of a course sold to a student whom its tutor brought, the tutor gets {value}."),
        Text("Khóa học", "Với khóa học bán cho học viên do chính gia sư giới thiệu, gia sư nhận {value}."),
    ),
    "booking_tiers": Entry(
        Text(
            "Tiers", "Of a booking or package the platform keeps, by the tutor's lifetime earnings: {value}."
        ),
        Text(
            "Bậc", "Với buổi đặt riêng hoặc gói học, nền tảng giữ lại theo tổng thu nhập của gia sư: {value}."
        ),
    ),
    "booking_tiers.step": Entry(Text("Tier", "{fee} from {begins} on"), Text("Bậc", "{fee} kể từ {begins}")),
    "tiers_count_everything.yes": Entry(
        Text("Lifetime earnings", "Lifetime earnings count courses, bookings and packages."),
        Text("Tổng thu nhập", "Tổng thu nhập tính cả khóa học, buổi đặt riêng và gói học."),
    ),
    "tiers_count_everything.no": Entry(
        Text("Lifetime earnings", "Lifetime earnings count bookings and packages, not courses."),
        Text("Tổng thu nhập", "Tổng thu nhập chỉ tính buổi đặt riêng và gói học, không tính khóa học."),
    ),
    "attendance_percent": Entry(
        Text(
            "Attendance",
            "Who attends less than {value} of a lesson of a course gets the money back; a tutor who does has not given"
            " it. A booking, or a lesson of a package, pays the tutor for having come.",
        ),
        Text(
            "Tham dự",
            "Học viên tham dự dưới {value} một buổi của khóa học được hoàn tiền; gia sư có mặt ít hơn mức đó thì buổi học"
            " coi như không diễn ra. Với buổi đặt riêng hoặc buổi trong gói, gia sư được trả vì đã có mặt.",
        ),
    ),
    "min_price": Entry(
        Text("Prices", "Nothing is sold for less than {value}."),
        Text("Giá", "Không bán gì dưới {value}."),
    ),
    "course_risk_days": Entry(
        Text("Courses", "For {value} days after a course session the tutor's share is pending."),
        Text("Khóa học", "Phần của gia sư được giữ chờ {value} ngày sau mỗi buổi của khóa học."),
    ),
    "booking_risk_days": Entry(
        Text("Bookings", "For {value} days after a booking or package lesson the tutor's share is pending."),
        Text(
            "Đặt riêng", "Phần của gia sư được giữ chờ {value} ngày sau mỗi buổi đặt riêng hoặc buổi của gói."
        ),
    ),
    "free_cancel_hours": Entry(
        Text("Cancelling", "A booking is cancelled for free until {value} hours before it."),
        Text("Hủy", "Được hủy miễn phí buổi đặt riêng trước giờ học {value} giờ."),
    ),
    "free_cancel_kindness_minutes": Entry(
        Text("Cancelling", "{value} minutes later still count as in time."),
        Text("Hủy", "Trễ {value} phút vẫn được tính là đúng hạn."),
    ),
    "late_cancel_percent": Entry(
        Text("Cancelling", "Who cancels a booking later gets {value} of its price back."),
        Text("Hủy", "Hủy trễ hơn thì được hoàn {value} giá buổi học."),
    ),
    "dispute_days": Entry(
        Text("Disputes", "A lesson may be disputed for {value} days after it."),
        Text("Khiếu nại", "Có thể khiếu nại buổi học trong {value} ngày sau đó."),
    ),
    "goodwill_admin_most": Entry(
        Text("Goodwill", "An administrator gives a credit of at most {value}."),
        Text("Thiện chí", "Quản trị viên tặng số dư nhiều nhất {value} mỗi lần."),
    ),
    "goodwill_most": Entry(
        Text("Goodwill", "No credit of ours is above {value}."),
        Text("Thiện chí", "Không có khoản tặng nào vượt quá {value}."),
    ),
    "package_expiry.release": Entry(
        Text(
            "Packages",
            "Lessons of a package that nobody took in time are paid out to the tutor by the split.",
        ),
        Text("Gói học", "Các buổi của gói không dùng đúng hạn được trả cho gia sư theo tỷ lệ chia."),
    ),
    "package_expiry.refund": Entry(
        Text("Packages", "Lessons of a package that nobody took in time are given back to the student."),
        Text("Gói học", "Các buổi của gói không dùng đúng hạn được hoàn lại cho học viên."),
    ),
    "package_warning_days": Entry(
        Text("Packages", "{value} days before its end the student is reminded of a package."),
        Text("Gói học", "Học viên được nhắc trước khi gói hết hạn {value} ngày."),
    ),
    "package_refund_days": Entry(
        Text("Packages", "For {value} days after buying a package the student may give back what is unused."),
        Text(
            "Gói học", "Trong {value} ngày sau khi mua, học viên có thể trả lại các buổi chưa dùng của gói."
        ),
    ),
    "top_up_least": Entry(
        Text("Top-ups", "A top-up is at least {value}."), Text("Nạp tiền", "Mỗi lần nạp ít nhất {value}.")
    ),
    "top_up_most": Entry(
        Text("Top-ups", "A top-up is at most {value}."), Text("Nạp tiền", "Mỗi lần nạp nhiều nhất {value}.")
    ),
    "withdrawal_least": Entry(
        Text("Withdrawals", "A withdrawal is at least {value}."),
        Text("Rút tiền", "Mỗi lần rút ít nhất {value}."),
    ),
    "withdrawal_two_people_above": Entry(
        Text("Withdrawals", "Of a withdrawal above {value} two administrators must say yes."),
        Text("Rút tiền", "Rút trên {value} cần hai quản trị viên chấp thuận."),
    ),
    "payout_freeze_hours": Entry(
        Text("Withdrawals", "For {value} hours after a change, a payout account is not paid to."),
        Text("Rút tiền", "Tài khoản nhận tiền vừa thay đổi chưa được chi trả trong {value} giờ."),
    ),
}

# What a student reads before they ask for a lesson, whatever pays for it.
BOOKING_RULE: Final = Entry(
    Text(
        "Cancelling",
        "Until {hours} hours before the lesson you cancel without a charge; later you get {percent} % of the price back,"
        " and a lesson of a package stays taken. If you do not come, the tutor is paid. If the tutor does not come, everything"
        " goes back to you.",
    ),
    Text(
        "Hủy buổi học",
        "Bạn có thể hủy miễn phí cho đến {hours} giờ trước buổi học; sau đó bạn được hoàn {percent} % học phí,"
        " và buổi học của gói vẫn bị trừ. Nếu bạn không đến, gia sư vẫn được trả tiền. Nếu gia sư không đến, bạn được hoàn"
        " toàn bộ.",
    ),
)

# What a buyer of a package reads before the purchase, by what becomes of the rest.
PACKAGE_RULES: Final[dict[str, Entry]] = {
    "release": Entry(
        Text(
            "Refunds",
            "For {days} days you may give back what is unused. What you have not used when the package ends is paid to"
            " the tutor. A package pays for lessons that are booked after it was bought.",
        ),
        Text(
            "Hoàn tiền",
            "Trong {days} ngày bạn có thể trả lại các buổi chưa dùng. Các buổi chưa dùng khi gói hết hạn được trả cho"
            " gia sư. Gói chỉ dùng cho các buổi được đặt sau khi mua.",
        ),
    ),
    "refund": Entry(
        Text(
            "Refunds",
            "For {days} days you may give back what is unused. What you have not used when the package ends comes back"
            " to you. A package pays for lessons that are booked after it was bought.",
        ),
        Text(
            "Hoàn tiền",
            "Trong {days} ngày bạn có thể trả lại các buổi chưa dùng. Các buổi chưa dùng khi gói hết hạn được hoàn lại"
            " cho bạn. Gói chỉ dùng cho các buổi được đặt sau khi mua.",
        ),
    ),
}

# Why money moved, where nobody gave a reason, by kind of movement.
ENTRIES: Final[dict[str, Entry]] = {
    "purchase": Entry(Text("Purchase", "Held for a purchase"), Text("Mua", "Tạm giữ cho một lượt mua")),
    "refund": Entry(Text("Refund", "Given back"), Text("Hoàn tiền", "Đã hoàn lại")),
    "settlement": Entry(
        Text("Settlement", "A lesson was settled by its attendance"),
        Text("Quyết toán", "Một buổi học đã được quyết toán theo tham dự"),
    ),
    "adjustment": Entry(
        Text("Correction", "Later evidence corrected a settled lesson"),
        Text("Điều chỉnh", "Bằng chứng đến sau đã điều chỉnh một buổi học"),
    ),
    "admin_adjustment": Entry(
        Text("Adjustment", "An administrator adjusted the balance"),
        Text("Điều chỉnh", "Quản trị viên đã điều chỉnh số dư"),
    ),
    "top_up": Entry(Text("Top-up", "Paid by card"), Text("Nạp tiền", "Thanh toán bằng thẻ")),
    "card_fee": Entry(Text("Fee", "Fee of the card network"), Text("Phí", "Phí của mạng lưới thẻ")),
    "card_refund": Entry(Text("Refund", "Given back to the card"), Text("Hoàn tiền", "Đã hoàn về thẻ")),
    "card_dispute": Entry(
        Text("Card dispute", "A bank decided about a card payment"),
        Text("Khiếu nại thẻ", "Ngân hàng đã quyết định về một khoản thanh toán thẻ"),
    ),
    "bank_transfer": Entry(
        Text("Bank transfer", "Between the payment provider and the bank"),
        Text("Chuyển khoản", "Giữa nhà cung cấp thanh toán và ngân hàng"),
    ),
    "maturity": Entry(
        Text("Available", "Earnings can be withdrawn now"), Text("Khả dụng", "Thu nhập đã có thể rút")
    ),
    "earnings_spent": Entry(
        Text("Earnings to credit", "Earnings became credit"),
        Text("Thu nhập thành số dư", "Thu nhập đã chuyển thành số dư"),
    ),
    "withdrawal": Entry(Text("Withdrawal", "Earnings paid out"), Text("Rút tiền", "Chi trả thu nhập")),
    "dispute": Entry(
        Text("Dispute", "A dispute about a lesson"), Text("Khiếu nại", "Khiếu nại về một buổi học")
    ),
    "debt": Entry(
        Text("Debt", "A later refund is repaid from earnings"),
        Text("Khoản nợ", "Khoản hoàn tiền sau được trừ từ thu nhập"),
    ),
    "goodwill": Entry(Text("Goodwill", "Credit from us"), Text("Thiện chí", "Số dư do chúng tôi tặng")),
    "expiry": Entry(
        Text("Expired lessons", "Lessons of a package that nobody took"),
        Text("Buổi học hết hạn", "Các buổi của một gói không được dùng"),
    ),
    "reversal": Entry(
        Text("Reversal", "An earlier movement was undone"),
        Text("Đảo bút toán", "Một giao dịch trước đã được hủy"),
    ),
}

# What stands on papers: the title and what is said below.
PAPERS: Final[dict[str, Entry]] = {
    "entry": Entry(
        Text("Receipt", "This receipt is about one movement of your money with us."),
        Text("Biên nhận", "Biên nhận này ghi một giao dịch tiền của bạn với chúng tôi."),
    ),
    "hold": Entry(
        Text("Receipt of a lesson", "{explanation}"),
        Text("Biên nhận buổi học", "{explanation}"),
    ),
    "top_up": Entry(
        Text("Receipt of a top-up", "This amount was paid by card and is credit in your wallet."),
        Text("Biên nhận nạp tiền", "Số tiền này đã được thanh toán bằng thẻ và nạp vào ví của bạn."),
    ),
    "statement": Entry(
        Text("Statement of account", "Amounts with a minus left the account. Times are those of {timezone}."),
        Text("Sao kê tài khoản", "Số tiền có dấu trừ là tiền ra. Thời gian theo múi giờ {timezone}."),
    ),
}

# Words beside facts and above columns: English, Vietnamese.
LABELS: Final[dict[str, tuple[str, str]]] = {
    "number": ("Number", "Số"),
    "issued": ("Issued", "Ngày lập"),
    "name": ("Name", "Họ tên"),
    "what": ("What", "Nội dung"),
    "amount": ("Amount", "Số tiền"),
    "before": ("Balance before", "Số dư trước"),
    "after": ("Balance after", "Số dư sau"),
    "reason": ("Reason", "Lý do"),
    "reference": ("Reference", "Tham chiếu"),
    "date": ("Date", "Ngày"),
    "account": ("Account", "Tài khoản"),
    "period": ("Period", "Kỳ"),
    "opening": ("Opening balance", "Số dư đầu kỳ"),
    "closing": ("Closing balance", "Số dư cuối kỳ"),
    "status": ("Status", "Trạng thái"),
    "tutor_share": ("To the tutor", "Cho gia sư"),
    "platform_share": ("To the platform", "Cho nền tảng"),
    "refunded": ("Back to the student", "Hoàn lại học viên"),
    "placed": ("Bought", "Ngày mua"),
    "settled": ("Settled", "Ngày thanh toán"),
    "payment": ("Payment", "Thanh toán"),
    "held": ("held", "đang giữ"),
    "released": ("paid out", "đã giải ngân"),
    "wallet": ("Wallet", "Ví"),
    "earnings": ("Earnings", "Thu nhập"),
    "earnings_pending": ("Earnings not yet available", "Thu nhập chưa khả dụng"),
}


def label(name: str, locale: str) -> str:
    """Return a label in one language."""
    return LABELS[name][locale == "vi"]


def fill(entry: Entry, locale: str, **facts: Any) -> Text:
    """Return a text in one language, English for any that we do not have."""
    found = entry.vi if locale == "vi" else entry.en
    shown = {name: money(fact, locale) if isinstance(fact, Money) else fact for name, fact in facts.items()}
    return Text(found.title.format(**shown), found.body.format(**shown))


def money(amount: Money, locale: str) -> str:
    """Return an amount as people of a language write it."""
    whole, cents = divmod(abs(amount.amount), 100)
    sign = "-" if amount.amount < 0 else ""
    if locale == "vi":
        return f"{sign}{whole:,}".replace(",", ".") + f",{cents:02} {amount.currency}"
    return f"{sign}{whole:,}.{cents:02} {amount.currency}"

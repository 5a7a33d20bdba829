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
    "refund_processed": Entry(
        Text("Refund", "{amount} are back in your wallet."),
        Text("Hoàn tiền", "{amount} đã được hoàn vào ví của bạn."),
    ),
    "settlement_adjusted": Entry(
        Text(
            "Settlement corrected",
            "Later evidence corrected a settled lesson: paid {share}, refunded {refunded}.",
        ),
        Text(
            "Đã điều chỉnh thanh toán",
            "Bằng chứng đến sau đã điều chỉnh một buổi học: thanh toán {share}, hoàn lại {refunded}.",
        ),
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
        Text("{code}", "{about} Bạn đến từ liên kết của giáo viên: đăng ký với mã {code}, rồi mua."),
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
    "missing": Entry(
        Text("Nothing here", "This link leads nowhere, or not any more."),
        Text("Không có gì ở đây", "Liên kết này không còn dẫn đến đâu."),
    ),
}


# What a buyer reads before the confirmation, by kind of purchase.
REFUND_RULES: Final[dict[str, Entry]] = {
    "session": Entry(
        Text(
            "Refunds",
            "Cancel until the session starts and everything comes back. If you then attend less than 20 % of it, or"
            " the tutor does not come, everything comes back too.",
        ),
        Text(
            "Hoàn tiền",
            "Hủy trước khi buổi học bắt đầu thì được hoàn toàn bộ. Nếu bạn tham dự dưới 20 % buổi học, hoặc gia sư"
            " không đến, bạn cũng được hoàn toàn bộ.",
        ),
    ),
    "full_course": Entry(
        Text(
            "Refunds",
            "Cancel at any time and the part of every session that has not begun comes back. So does the part of a"
            " session of which you attend less than 20 %, to which the tutor does not come, or which is never held."
            " The course is over when all its sessions with a date are, and at least one was held; the parts of"
            " sessions that have no date by then come back.",
        ),
        Text(
            "Hoàn tiền",
            "Bạn có thể hủy bất cứ lúc nào và được hoàn phần của mọi buổi chưa bắt đầu. Phần của buổi mà bạn tham dự"
            " dưới 20 %, gia sư không đến, hoặc không được tổ chức cũng được hoàn lại. Khóa học kết thúc khi mọi buổi đã"
            " có ngày đều đã qua và ít nhất một buổi đã diễn ra; phần của những buổi đến lúc đó chưa có ngày được hoàn"
            " lại.",
        ),
    ),
}

# Why money moved, where nobody gave a reason, by kind of movement.
ENTRIES: Final[dict[str, Entry]] = {
    "purchase": Entry(Text("Purchase", "Held for a purchase"), Text("Mua", "Tạm giữ cho một lượt mua")),
    "refund": Entry(Text("Refund", "Given back"), Text("Hoàn tiền", "Đã hoàn lại")),
    "settlement": Entry(
        Text("Settlement", "A lesson was settled by its attendance"),
        Text("Thanh toán", "Một buổi học đã được thanh toán theo tham dự"),
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

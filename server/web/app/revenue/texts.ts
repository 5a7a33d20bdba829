import { texts } from "../texts";
import type { JournalKind, SourceKind } from "../wire";

const en = {
  why: "What came in, from the ledger: each movement counts on the day on which it was made, by your calendar.",
  since: "From",
  until: "To",
  by: "By",
  bys: { day: "day", month: "month" },
  show: "Show",
  wrong: "The last day must not be before the first, and the span at most a year of days or ten years of months.",
  net: "Stays with the platform",
  toPlatform: "Share of lessons",
  costs: "Costs and gifts",
  chart: "Where the money of lessons went",
  parts: { to_tutors: "Tutors", to_platform: "Platform", to_students: "Back to students" },
  sources: "By product",
  what: "What",
  kinds: { course_session: "Courses, by the session", course_slice: "Whole courses", booking: "Lessons", package_slice: "Packages" } as Record<SourceKind, string>,
  costList: "What belongs to no lesson",
  costKinds: {
    card_fee: "Fees of the card network", goodwill: "Goodwill", admin_adjustment: "Adjustments by administrators", card_dispute: "Disputes of cards",
    card_refund: "Refunds to cards", top_up: "Top-ups", debt: "Debts written off", reversal: "Reversals", bank_transfer: "Bank transfers",
  } as Partial<Record<JournalKind, string>>,
  none: "Nothing moved in this time.",
  sum: "Together",
};

const vi: typeof en = {
  why: "Những gì đã thu, lấy từ sổ cái: mỗi giao dịch tính vào ngày phát sinh, theo lịch của bạn.",
  since: "Từ",
  until: "Đến",
  by: "Theo",
  bys: { day: "ngày", month: "tháng" },
  show: "Xem",
  wrong: "Ngày cuối không được trước ngày đầu; khoảng thời gian tối đa một năm theo ngày hoặc mười năm theo tháng.",
  net: "Còn lại cho nền tảng",
  toPlatform: "Phần từ các buổi học",
  costs: "Chi phí và quà tặng",
  chart: "Tiền của các buổi học đã đi đâu",
  parts: { to_tutors: "Gia sư", to_platform: "Nền tảng", to_students: "Hoàn cho học viên" },
  sources: "Theo sản phẩm",
  what: "Nội dung",
  kinds: { course_session: "Khóa học, bán theo buổi", course_slice: "Cả khóa học", booking: "Buổi học riêng", package_slice: "Gói học" },
  costList: "Không thuộc buổi học nào",
  costKinds: {
    card_fee: "Phí của mạng lưới thẻ", goodwill: "Thiện chí", admin_adjustment: "Điều chỉnh của quản trị viên", card_dispute: "Khiếu nại thẻ",
    card_refund: "Hoàn tiền về thẻ", top_up: "Nạp tiền", debt: "Nợ đã xóa", reversal: "Đảo bút toán", bank_transfer: "Chuyển khoản ngân hàng",
  },
  none: "Không có giao dịch nào trong thời gian này.",
  sum: "Tổng cộng",
};

export const t = texts({ en, vi });

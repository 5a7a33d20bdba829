import { texts } from "../texts";
import type { ErrorCode } from "../wire";

const en = {
  loading: "Loading…",
  again: "Try again",
  wrong: "Something went wrong",
  noAccess: "This is not yours to see",
  noAccessWhy: "Your account does not open this page. If you think it should, log in with another one.",
  missing: "There is nothing here",
  missingWhy: "The link may be old, or a letter of it is missing.",
  home: "To the start",
  cancel: "Cancel",
  close: "Close",
  keep: "Keep it",
  more: "Show more",
  copied: "Copied",
  selected: "The browser did not copy it. It is selected: press Ctrl+C or hold it down.",
  money: "An amount like 25 or 12.50, please.",
  required: "Please fill this in.",
  /** What the server says by code, in the reader's words; what is missing here is shown as the server says it. */
  errors: {
    offline: "The server cannot be reached. Check your connection and try again.",
    internal: "Something went wrong on our side. Please try again.",
    overloaded: "The server is busy right now. Please try again in a moment.",
    too_many_requests: "That was too often. Wait a moment, then try again.",
    permission_denied: "Your account may not do this.",
    not_found: "That is not there any more.",
    token_expired: "You were logged out. Please log in again.",
    bad_request: "Some of it cannot be right. Please look at it again.",
    timeout_unknown_outcome: "The connection was lost on the way. Look whether it has happened before you try again.",
  } as Partial<Record<ErrorCode | "offline", string>>,
};

const vi: typeof en = {
  loading: "Đang tải…",
  again: "Thử lại",
  wrong: "Đã có lỗi xảy ra",
  noAccess: "Bạn không xem được trang này",
  noAccessWhy: "Tài khoản của bạn không mở được trang này. Nếu bạn cho rằng đó là nhầm lẫn, hãy đăng nhập bằng tài khoản khác.",
  missing: "Không có gì ở đây",
  missingWhy: "Liên kết có thể đã cũ hoặc bị thiếu ký tự.",
  home: "Về trang đầu",
  cancel: "Hủy",
  close: "Đóng",
  keep: "Giữ lại",
  more: "Xem thêm",
  copied: "Đã sao chép",
  selected: "Trình duyệt không chép được. Nội dung đã được chọn: nhấn Ctrl+C hoặc nhấn giữ để chép.",
  money: "Vui lòng nhập số tiền, ví dụ 25 hoặc 12,50.",
  required: "Vui lòng điền mục này.",
  errors: {
    offline: "Không kết nối được máy chủ. Hãy kiểm tra mạng rồi thử lại.",
    internal: "Hệ thống của chúng tôi gặp lỗi. Vui lòng thử lại.",
    overloaded: "Máy chủ đang bận. Vui lòng thử lại sau giây lát.",
    too_many_requests: "Bạn thao tác quá nhanh. Chờ một chút rồi thử lại.",
    permission_denied: "Tài khoản của bạn không được làm việc này.",
    not_found: "Mục này không còn nữa.",
    token_expired: "Bạn đã bị đăng xuất. Vui lòng đăng nhập lại.",
    bad_request: "Có thông tin chưa đúng. Vui lòng xem lại.",
    timeout_unknown_outcome: "Mất kết nối giữa chừng. Hãy kiểm tra xem việc đã xong chưa trước khi thử lại.",
  },
};

export const t = texts({ en, vi });

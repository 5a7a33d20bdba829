import { texts } from "../texts";

const en = {
  skip: "Skip to the content",
  navigation: "Main navigation",
  logIn: "Log in",
  /** In the language that it leads to. */
  otherLanguage: "Tiếng Việt",
  connection: {
    offline: "No connection. We keep trying.",
    seen: (when: string) => `You see this page as it was at ${when}; nothing on it can be changed now.`,
    restarting: "The server is restarting. You will be back in a moment.",
    banned: "The server has closed this connection. Please log in again.",
    crowded: "You are connected on too many devices. Close one of them and load this page again.",
    outdated: "This page is older than the server. Please load it again.",
    lost: "The connection has ended. Please load the page again.",
  },
  reload: "Load again",
  loading: "One moment…",
  unloaded: "This page did not come",
};

const vi: typeof en = {
  skip: "Đến nội dung chính",
  navigation: "Điều hướng chính",
  logIn: "Đăng nhập",
  otherLanguage: "English",
  connection: {
    offline: "Mất kết nối. Chúng tôi đang thử lại.",
    seen: (when) => `Bạn đang xem nội dung lúc ${when}; hiện chưa thể thay đổi gì.`,
    restarting: "Máy chủ đang khởi động lại. Bạn sẽ vào lại ngay.",
    banned: "Máy chủ đã đóng kết nối này. Vui lòng đăng nhập lại.",
    crowded: "Bạn đang kết nối trên quá nhiều thiết bị. Hãy đóng bớt rồi tải lại trang.",
    outdated: "Trang này cũ hơn máy chủ. Vui lòng tải lại.",
    lost: "Kết nối đã kết thúc. Vui lòng tải lại trang.",
  },
  reload: "Tải lại",
  loading: "Xin chờ một chút…",
  unloaded: "Chưa tải được trang này",
};

export const t = texts({ en, vi });

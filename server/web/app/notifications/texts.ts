import { plural, texts } from "../texts";

const en = {
  title: "Notifications",
  bell: (n: number) => (n === 0 ? "Notifications" : plural(n, { one: "Notifications, 1 unread", other: `Notifications, ${n} unread` })),
  arrived: (n: number) => plural(n, { one: "1 unread notification", other: `${n} unread notifications` }),
  which: "Which notifications",
  all: "All",
  unread: "Unread",
  isNew: "unread",
  readAll: "Mark all as read",
  none: "Nothing yet",
  noneUnread: "You have read everything",
  noneWhy: "What happens to your lessons and your money is told here the moment it does.",
};

const vi: typeof en = {
  title: "Thông báo",
  bell: (n) => (n === 0 ? "Thông báo" : `Thông báo, ${n} chưa đọc`),
  arrived: (n) => `${n} thông báo chưa đọc`,
  which: "Những thông báo nào",
  all: "Tất cả",
  unread: "Chưa đọc",
  isNew: "chưa đọc",
  readAll: "Đánh dấu đã đọc hết",
  none: "Chưa có gì",
  noneUnread: "Bạn đã đọc hết",
  noneWhy: "Chuyện gì xảy ra với buổi học và tiền của bạn đều được báo ngay ở đây.",
};

export const t = texts({ en, vi });

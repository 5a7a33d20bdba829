/** Each step of a room's journal in words. */
import { plural, texts } from "../texts";
import type { JournalEntry } from "../wire";

interface Facts {
  no?: number;
  reason?: string;
  status?: "joining" | "connected" | "grace";
  title?: string;
  text?: string;
  banned?: boolean;
  outcome?: string | null;
  close_at?: string | null;
  connections?: readonly string[];
  generation?: number;
}
type Say = (who: string, facts: Facts) => string;

const en: Record<string, Say> = {
  room_created: (who) => `The room was made for ${who}`,
  seat_taken: (who, { no }) => `${who} took seat ${no}`,
  seat_changed: (who, { status }) => (status === "grace" ? `${who} lost the connection; the seat is kept` : `${who} is connected`),
  seat_freed: (who, { no, reason }) => `${who} left seat ${no} (${reason})`,
  sockets_changed: (who, { connections }) => `${who} is here in ${plural(connections?.length ?? 0, { one: "1 window", other: `${connections?.length ?? 0} windows` })}`,
  media_allowed: (who) => `${who} may enter the media room`,
  kicked: (who, { banned }) => `${who} was removed${banned ? " for good" : ""}`,
  evicted: (who, { reason }) => `${who} has no place any more (${reason})`,
  host_passed: (who) => `Host is now ${who}`,
  retitled: (_, { title }) => `New title: ${title}`,
  rescheduled: () => "The lesson was moved",
  wait_began: (who) => `${who} waits for a seat`,
  wait_changed: (who) => `${who} still waits`,
  wait_ended: (who, { reason }) => `${who} waits no more (${reason})`,
  seat_offered: (who) => `A seat is kept for ${who}`,
  room_went_live: () => "It began",
  room_emptied: (_, { close_at }) => (close_at ? "Everybody is gone; it will close" : "Somebody came back in time"),
  lesson_over: (_, { reason }) => `The lesson ended (${reason})`,
  room_closing: (_, { reason }) => `It takes nobody any more (${reason})`,
  room_closed: (_, { reason, outcome }) => `Closed (${outcome ? `${outcome}, ` : ""}${reason})`,
  settled: () => "The money moved",
  media_ready: (_, { generation }) => `Media room ${generation} is ready`,
  media_lost: () => "The media room was lost",
  media_deleted: () => "The media room is gone",
  media_entered: (who) => `${who} is in the media room`,
  media_exited: (who) => `${who} left the media room`,
  media_doubted: (who) => `A look did not show ${who}`,
  attendance_shown: () => "People were told their time",
  adopted: () => "Another process took the room over",
  message_created: (who, { text }) => (text ? `${who}: “${text}”` : `${who} wrote something that was deleted`),
  message_updated: (who, { text }) => (text ? `${who} changed it to “${text}”` : `${who} changed what was deleted`),
  message_deleted: (who) => `${who} deleted a message`,
  message_read: (who) => `${who} has read on`,
};

const vi: Record<string, Say> = {
  room_created: (who) => `Phòng được tạo cho ${who}`,
  seat_taken: (who, { no }) => `${who} ngồi vào chỗ ${no}`,
  seat_changed: (who, { status }) => (status === "grace" ? `${who} mất kết nối; chỗ vẫn được giữ` : `${who} đã kết nối`),
  seat_freed: (who, { no, reason }) => `${who} rời chỗ ${no} (${reason})`,
  sockets_changed: (who, { connections }) => `${who} đang mở ${connections?.length ?? 0} cửa sổ`,
  media_allowed: (who) => `${who} được vào phòng hình`,
  kicked: (who, { banned }) => `${who} bị mời ra${banned ? " vĩnh viễn" : ""}`,
  evicted: (who, { reason }) => `${who} không còn chỗ (${reason})`,
  host_passed: (who) => `Chủ phòng bây giờ là ${who}`,
  retitled: (_, { title }) => `Tên mới: ${title}`,
  rescheduled: () => "Buổi học được dời",
  wait_began: (who) => `${who} chờ chỗ`,
  wait_changed: (who) => `${who} vẫn đang chờ`,
  wait_ended: (who, { reason }) => `${who} không chờ nữa (${reason})`,
  seat_offered: (who) => `Một chỗ được giữ cho ${who}`,
  room_went_live: () => "Phòng bắt đầu",
  room_emptied: (_, { close_at }) => (close_at ? "Mọi người đã đi; phòng sắp đóng" : "Có người quay lại kịp"),
  lesson_over: (_, { reason }) => `Buổi học kết thúc (${reason})`,
  room_closing: (_, { reason }) => `Phòng không nhận thêm ai (${reason})`,
  room_closed: (_, { reason, outcome }) => `Đã đóng (${outcome ? `${outcome}, ` : ""}${reason})`,
  settled: () => "Tiền đã được chuyển",
  media_ready: (_, { generation }) => `Phòng hình ${generation} đã sẵn sàng`,
  media_lost: () => "Mất phòng hình",
  media_deleted: () => "Phòng hình đã được xóa",
  media_entered: (who) => `${who} đang ở trong phòng hình`,
  media_exited: (who) => `${who} rời phòng hình`,
  media_doubted: (who) => `Một lần kiểm tra không thấy ${who}`,
  attendance_shown: () => "Mọi người được báo thời gian của mình",
  adopted: () => "Một tiến trình khác tiếp quản phòng",
  message_created: (who, { text }) => (text ? `${who}: “${text}”` : `${who} đã viết điều sau đó bị xóa`),
  message_updated: (who, { text }) => (text ? `${who} sửa thành “${text}”` : `${who} sửa điều sau đó bị xóa`),
  message_deleted: (who) => `${who} xóa một tin nhắn`,
  message_read: (who) => `${who} đã đọc thêm`,
};

const t = texts({ en, vi });

export function said({ type, actor, facts }: JournalEntry, names: ReadonlyMap<string, string>): string {
  const { identity, spec } = facts as { identity?: string | null; spec?: { owner: string } };
  // Whom it is about, else who did it.
  const who = identity ?? spec?.owner ?? actor;
  return t()[type]?.(who === null ? "–" : (names.get(who) ?? who), facts as Facts) ?? type;
}

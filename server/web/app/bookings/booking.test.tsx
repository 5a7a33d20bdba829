// @vitest-environment happy-dom
import { beforeEach, expect, it, vi } from "vitest";
import { zone } from "../format";
import { call, Refused, subscribe } from "../server";
import { me } from "../session";
import { press, show } from "../stage";
import { speak } from "../texts";
import type { Account, BookingView } from "../wire";
import Booking from "./booking";

vi.mock("../server", async (original) => ({ ...(await original<object>()), call: vi.fn(), subscribe: vi.fn() }));

const HOUR = 3_600_000;
const at = (hours: number) => new Date(Date.now() + hours * HOUR).toISOString();
const usd = (amount: number) => ({ amount, currency: "USD" });
const server = vi.mocked(call as (op: string, d: Record<string, unknown>) => Promise<unknown>);
const asked = (name: string) => server.mock.calls.filter(([op]) => op === name).map(([, d]) => d);
const text = () => document.body.textContent ?? "";

let booking: BookingView;
let answer: () => Promise<unknown>;
let tell: (event: object) => void;

beforeEach(() => {
  speak("en");
  zone.value = "UTC";
  me.value = { id: "thao", role: "tutor" } as Account;
  booking = {
    id: "b", status: "requested", outcome: null, student_id: "mai", student_name: "Mai", tutor_id: "thao", tutor_name: "Thao", starts_at: at(30), ends_at: at(31), minutes: 60,
    topic: "", notes: "", student_timezone: "Asia/Ho_Chi_Minh", tutor_timezone: "UTC", price: usd(2_000), hourly_rate: usd(2_000), package_id: null,
    payment: { method: "wallet", state: "PENDING", captured: usd(0), refunded: usd(0) }, hold_id: null, room_id: null, answer_by: at(5), free_cancel_until: at(6), late_cancel_percent: 50,
    cancelled_by: null, reason: null, has_strike: false, requested_at: at(0), accepted_at: null, started_at: null, ended_at: null, version: 3,
  };
  answer = async () => booking;
  server.mockReset().mockImplementation(async (op) => (op === "booking.get" ? booking : op === "room.get" ? { ahead_s: 0 } : answer()));
  vi.mocked(subscribe).mockReset().mockImplementation((_, { onEvent }) => {
    tell = onEvent as typeof tell;
    return () => undefined;
  });
  show(<Booking params={{ id: "b" }} />);
});

it("says how long a tutor has, and agrees once to what they saw", async () => {
  let done: (() => void) | undefined;
  answer = () => new Promise((resolve) => (done = () => resolve(booking)));
  await press("Accept", 10);

  expect(text()).toMatch(/4:59:5\d left to answer/);
  expect(text()).toContain("For Mai: ");
  expect(asked("booking.accept")).toEqual([{ booking_id: "b", version: 3 }]);
  booking = { ...booking, status: "scheduled", accepted_at: at(0), room_id: "b", version: 4 };
  done?.();
  await vi.waitFor(() => expect(text()).toContain("It is agreed."));
  expect(document.querySelector('a[href="/rooms/b"]')?.textContent).toBe("To the lesson's room");
});

it("shows it as it is now to who was too late, and says so", async () => {
  answer = () => Promise.reject(new Refused("booking_changed" as Refused["code"], "in English"));
  await vi.waitFor(() => expect(text()).toContain("Accept"));
  booking = { ...booking, status: "cancelled", cancelled_by: "student", version: 4 };
  await press("Accept");

  await vi.waitFor(() => expect(text()).toContain("It was changed meanwhile. This is how it is now."));
  await vi.waitFor(() => expect(text()).toContain("Mai has withdrawn the request."));
});

it("looks again when it is told of this booking, and of no other", async () => {
  await vi.waitFor(() => expect(text()).toContain("Accept"));
  const before = asked("booking.get").length;

  tell({ ev: "booking.updated", d: { booking_id: "another" } });
  expect(asked("booking.get")).toHaveLength(before);

  booking = { ...booking, status: "expired", version: 4 };
  tell({ ev: "booking.updated", d: { booking_id: "b" } });
  await vi.waitFor(() => expect(text()).toContain("Nobody answered in time."));
});

it("declines with a reason or without one", async () => {
  await press("Decline");
  await vi.waitFor(() => expect(document.querySelector("dialog")?.textContent).toContain("The student gets back all of $20.00."));
  document.querySelector<HTMLButtonElement>("dialog button[type=submit]")?.click();

  await vi.waitFor(() => expect(asked("booking.decline")).toEqual([{ booking_id: "b", reason: null }]));
});

it("lets an administrator cancel it and lift its strike", async () => {
  me.value = { id: "chi", role: "admin" } as Account;
  booking = { ...booking, status: "scheduled", accepted_at: at(0), room_id: "b", has_strike: true };
  show(<Booking params={{ id: "b" }} />);
  await press("Lift the strike");

  const reason = await vi.waitFor(() => document.querySelector("textarea") as HTMLTextAreaElement);
  expect(reason.required).toBe(true);
  reason.value = "Their house was flooded.";
  document.querySelector<HTMLButtonElement>("dialog button[type=submit]")?.click();

  await vi.waitFor(() => expect(asked("admin.strike.lift")).toEqual([{ booking_id: "b", reason: "Their house was flooded." }]));
  expect(text()).toContain("Cancel the lesson");
});

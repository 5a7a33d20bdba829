import { beforeEach, describe, expect, it } from "vitest";
import { zone } from "../format";
import { Refused } from "../server";
import { speak } from "../texts";
import type { BookingView } from "../wire";
import { consequence, deeds, name, refused, type Side, sideOf, standing, state } from "./words";

const HOUR = 3_600_000;
const STARTS = Date.parse("2026-11-28T10:00:00Z");
const FREE_UNTIL = new Date(STARTS - 24 * HOUR).toISOString();
const ASKED = {
  id: "b",
  status: "requested",
  outcome: null,
  student_id: "mai",
  student_name: "Mai",
  tutor_id: "thao",
  tutor_name: "Thao",
  starts_at: new Date(STARTS).toISOString(),
  topic: "",
  price: { amount: 2_001, currency: "USD" },
  package_id: null,
  payment: { method: "wallet", state: "PENDING" },
  answer_by: FREE_UNTIL,
  free_cancel_until: FREE_UNTIL,
  late_cancel_percent: 50,
  cancelled_by: null,
  accepted_at: null,
} as unknown as BookingView;
const AGREED: BookingView = { ...ASKED, status: "scheduled", accepted_at: FREE_UNTIL, payment: { ...ASKED.payment, state: "AUTHORIZED" } as BookingView["payment"] };
const OF_PACKAGE = { package_id: "p", payment: null };
const [EARLY, LATE] = [STARTS - 25 * HOUR, STARTS - 2 * HOUR];

beforeEach(() => {
  speak("en");
  zone.value = "UTC";
});

it("knows whose page it is, and calls the lesson by its topic or by the other side", () => {
  expect(["mai", "thao", "chi"].map((own) => sideOf(ASKED, own))).toEqual(["student", "tutor", "neither"]);
  expect((["student", "tutor", "neither"] as const).map((side) => name(ASKED, side))).toEqual(["Lesson with Thao", "Lesson with Mai", "Mai with Thao"]);
  expect(name({ ...ASKED, topic: "Tones" }, "student")).toBe("Tones");
});

it.each<[Partial<BookingView>, string, string]>([
  [{}, "Asked for", "Thao has until Fri, Nov 27, 10:00 AM UTC to answer."],
  [{ status: "scheduled", accepted_at: FREE_UNTIL }, "Agreed", "It is agreed. The room opens ten minutes before."],
  [{ status: "cancelled", cancelled_by: "tutor" }, "Declined", "Thao has declined."],
  [{ status: "cancelled", cancelled_by: "student" }, "Withdrawn", "Mai has withdrawn the request."],
  [{ status: "cancelled", cancelled_by: "tutor", accepted_at: FREE_UNTIL }, "Cancelled", "Cancelled by Thao."],
  [{ status: "cancelled", cancelled_by: "admin" }, "Cancelled", "Cancelled by an administrator."],
  [{ status: "cancelled", cancelled_by: "system" }, "Cancelled", "It is off, since its money was not there any more."],
  [{ status: "expired" }, "Not answered", "Nobody answered in time. What was put aside is free again."],
  [{ status: "ended", outcome: "completed" }, "Held", "It was held."],
  [{ status: "ended", outcome: "no_show_tutor" }, "Tutor absent", "Thao did not come. Everything goes back to the student."],
])("says of %o how it stands", (change, short, long) => {
  const booking = { ...ASKED, ...change };

  expect([state(booking), standing(booking, "student")]).toEqual([short, long]);
});


describe("what is offered", () => {
  it.each<[BookingView["status"], Side, number, string]>([
    ["requested", "tutor", EARLY, "accept decline"],
    ["requested", "student", EARLY, "withdraw"],
    ["requested", "neither", EARLY, "cancel"],
    ["scheduled", "student", LATE, "cancel"],
    ["scheduled", "tutor", STARTS, ""],
    ["scheduled", "neither", STARTS, "cancel"],
    ["active", "tutor", STARTS, ""],
    ["active", "neither", STARTS, "cancel"],
    ["ended", "neither", STARTS, ""],
    ["cancelled", "student", EARLY, ""],
  ])("of a booking that is %s, to %s", (status, side, now, offered) => {
    expect(deeds({ ...ASKED, status }, side, now).join(" ")).toBe(offered);
  });
});

describe("what calling it off would mean", () => {
  it.each<[string, BookingView, Side, number, RegExp]>([
    ["a request", ASKED, "student", LATE, /^\$20\.01 are free again\.$/],
    ["a request that a package pays", { ...ASKED, ...OF_PACKAGE }, "student", LATE, /goes back into the package/],
    ["a lesson in time", AGREED, "student", EARLY, /^It costs nothing until .*UTC: all of \$20\.01 come back\.$/],
    // Of an odd cent the tutor has the bigger half, as the server cuts it.
    ["a lesson late", AGREED, "student", LATE, /Now \$10\.01 are the tutor's, and \$10\.00 come back\.$/],
    ["a lesson late by terms that give nothing back", { ...AGREED, late_cancel_percent: 0 }, "student", LATE, /Now all of \$20\.01 are the tutor's\.$/],
    ["a lesson late whose card brought nothing", { ...AGREED, payment: ASKED.payment }, "student", LATE, /^\$20\.01 are free again\.$/],
    ["a lesson in time by terms that give back all later too", { ...AGREED, late_cancel_percent: 100 }, "student", EARLY, /^\$20\.01 are free again\.$/],
    ["a lesson late by terms that give back all", { ...AGREED, late_cancel_percent: 100 }, "student", LATE, /^\$20\.01 are free again\.$/],
    ["a lesson of a package late", { ...AGREED, ...OF_PACKAGE }, "student", LATE, /the lesson stays taken/],
    ["a lesson, by its tutor in time", AGREED, "tutor", EARLY, /^The student gets back all of \$20\.01\.$/],
    ["a lesson, by its tutor late", AGREED, "tutor", LATE, /gets back all.*it counts as a strike/],
    ["a lesson, by an administrator late", AGREED, "neither", LATE, /^The student gets back all of \$20\.01\.$/],
  ])("%s", (_, booking, side, now, said) => {
    expect(consequence(booking, side, now)).toMatch(said);
  });
});

it("puts a refusal into words at its field, and leaves what it does not know", () => {
  const known = { student_is_busy: "You have a lesson then." };
  const busy = refused(new Refused("student_is_busy" as Refused["code"], "in English"), known, { student_is_busy: "starts_at" });
  const other = new Refused("overloaded", "in English");

  expect(busy).toMatchObject({ message: "You have a lesson then.", fields: { starts_at: "You have a lesson then." } });
  expect(refused(other, known)).toBe(other);
});

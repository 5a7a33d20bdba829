// @vitest-environment happy-dom
import { signal } from "@preact/signals";
import { beforeEach, expect, it } from "vitest";
import { show } from "../stage";
import { speak } from "../texts";
import type { Snapshot } from "../wire";
import type { LiveRoom, Why } from "./live";
import { Over } from "./over";

const talk = { kind: "talk", state: "closed", host: "an", reason: null, ended_at: null, ends_at: null } as unknown as Snapshot;
const lesson: Snapshot = { ...talk, kind: "course_session", reason: "ended", ended_at: "2026-11-26T11:30:00Z", ends_at: "2026-11-26T11:30:00Z" };

function over(why: Why, room: Snapshot): string {
  show(<Over live={{ own: "binh", state: signal({ room }), trouble: signal(null), isJoining: signal(false) } as unknown as LiveRoom} why={why} />);
  return document.body.textContent ?? "";
}

beforeEach(() => speak("en"));

it.each([
  [{ ...talk, reason: "closed_by_host" }, "The talk is over", "The host has ended it."],
  [{ ...talk, reason: "closed_by_admin" }, "The talk is over", "The operators of this site have ended it."],
  [{ ...talk, reason: "empty" }, "The talk is over", "Everybody had left"],
  [{ ...talk, reason: "a word of later" }, "The talk is over", "It takes nobody any more."],
  [lesson, "The lesson is over", "Its time is up."],
  [{ ...lesson, ended_at: "2026-11-26T11:00:00Z" }, "The lesson is over", "It was ended before its time."],
  [{ ...lesson, reason: "expired" }, "The lesson is over", "Nobody had come, so it did not take place."],
  [{ ...lesson, reason: "Thao is ill" }, "The lesson is over", "It was cancelled: Thao is ill"],
])("says by the room's kind and reason why it is over", (room, title, why) => {
  const shown = over("closed", room);

  expect(shown).toContain(title);
  expect(shown).toContain(why);
});

it("tells who has just left a lesson that ended what is still open", () => {
  expect(over("closed", { ...lesson, state: "closing" })).toContain("Attendance becomes final");
  expect(over("closed", lesson)).not.toContain("Attendance becomes final");
});

it("calls a lesson a lesson", () => {
  expect(over("left", lesson)).toContain("You have left the lesson");
  expect(over("left", talk)).toContain("You have left the talk");
});

it("leads from a lesson of one's own to its page", () => {
  over("closed", { ...lesson, kind: "booking", id: "b" });
  expect(document.querySelector(".onward a")?.getAttribute("href")).toBe("/bookings/b");

  over("closed", lesson);
  expect(document.querySelector(".onward a")?.getAttribute("href")).toBe("/holds");
});

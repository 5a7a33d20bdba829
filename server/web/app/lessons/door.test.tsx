// @vitest-environment happy-dom
import { beforeEach, expect, it } from "vitest";
import { show } from "../stage";
import { speak } from "../texts";
import type { SessionStatus } from "../wire";
import { Door, TimeLeft, untilOpen } from "./door";

const MINUTE = 60_000;
const at = (minutes: number) => new Date(Date.now() + minutes * MINUTE).toISOString();
const text = () => document.body.textContent;

function door(status: SessionStatus, begins: number): void {
  show(<Door lesson={{ title: "Evening 1", room_id: "r", status, starts_at: at(begins), ends_at: at(begins + 90) }} />);
}

beforeEach(() => speak("en"));

it("leads into a lesson that is on, and not into one that was ended before its time", () => {
  door("in_progress", -30);
  expect(document.querySelector("a")?.textContent).toBe("Enter the room");

  door("completed", -30);
  expect(document.querySelector("a")).toBeNull();
  expect(text()).toContain("Over");
});

it("says how long until it opens, in days or to the second", () => {
  expect(untilOpen(3 * 24 * 60 * MINUTE, 0)).toBe("Opens in 3 days");
  expect(untilOpen(90 * MINUTE, 0)).toBe("Opens in 1:30:00");
});

it.each([
  [30, /^Begins in 29:5\d$|^Begins in 30:00$/],
  [-30, /^(59:5\d|1:00:00) left$/],
  [-91, /^Time is up; closes in (3:5\d|4:00)$/],
])("a lesson that begins in %i minutes shows what is left of it", (begins, left) => {
  show(<TimeLeft starts={at(begins)} ends={at(begins + 90)} ahead={0} />);

  expect(text()).toMatch(left);
});

it("goes by the time of business, which may be ahead", () => {
  show(<TimeLeft starts={at(24 * 60)} ends={at(24 * 60 + 90)} ahead={24 * 60 * MINUTE} />);

  expect(text()).toMatch(/left$/);
});

import { expect, it } from "vitest";
import type { JournalEntry } from "../wire";
import { namesOf, scenes } from "./steps";

let seq = 0;
function step(type: string, facts: Record<string, unknown> = {}): JournalEntry {
  seq += 1;
  return { seq, off: null, fence: 1, type, actor: null, at: "2026-11-26T10:00:00Z", recorded_at: "2026-11-26T10:00:00Z", facts };
}

it("walks through who was there", () => {
  const walked = scenes([
    step("room_created"),
    step("seat_taken", { identity: "a", name: "An", no: 1, status: "joining" }),
    step("room_went_live"),
    step("seat_changed", { identity: "a", status: "connected" }),
    step("wait_began", { identity: "b", name: "Binh" }),
    step("seat_freed", { identity: "a" }),
    step("wait_ended", { identity: "b" }),
    step("room_closed"),
  ]);

  expect(walked.map(({ state }) => state)).toEqual(["open", "open", "live", "live", "live", "live", "live", "closed"]);
  expect(walked.map(({ seats }) => seats.map((seat) => seat.state).join())).toEqual(["", "joining", "joining", "connected", "connected", "", "", ""]);
  expect(walked.map(({ waiting }) => waiting.length)).toEqual([0, 0, 0, 0, 1, 1, 0, 0]);
});

it("knows the names of all who were ever there, and of the owner", () => {
  const names = namesOf([
    step("room_created", { spec: { owner: "t", owner_name: "Ms Lan" } }),
    step("seat_taken", { identity: "a", name: "An", no: 1, status: "connected" }),
  ]);

  expect([...names]).toEqual([["t", "Ms Lan"], ["a", "An"]]);
});

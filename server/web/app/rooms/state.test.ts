import { expect, it } from "vitest";
import type { Shown } from "../server";
import type { Participant, Snapshot } from "../wire";
import { apply, begin, recall, type RoomState } from "./state";

const AT = "2026-11-26T09:00:00Z";
const an: Participant = { user_id: "an", name: "An", role: "host", seat_no: 1, seat_generation: 1, state: "connected", joined_at: AT };
const binh: Participant = { ...an, user_id: "binh", name: "Binh", role: "member", seat_no: 2, seat_generation: 2 };
const room = { id: "r", kind: "talk", title: "A talk", state: "live", cap: 4, participants: [an], host: "an", off: 5, epoch: "e", reason: null } as unknown as Snapshot;

function event(off: number, ev: string, d: object): Shown {
  return { ch: "room:r", ev, off, ts: 0, d } as unknown as Shown;
}

function after(...events: Shown[]): RoomState {
  return events.reduce<RoomState>((state, one) => apply(state, one, 1_000) ?? state, begin(room, null, 0));
}

it("shows an event once, and says where some are missing", () => {
  const state = after(event(6, "participant.joined", binh));

  expect(apply(state, event(6, "participant.joined", binh), 0)).toBe(state);
  expect(apply(state, event(8, "participant.left", { user_id: "binh" }), 0)).toBeNull();
});

it("keeps the name of who has left, for what they said", () => {
  const line = { id: "m", user_id: "binh", text: "bye", sent_at: AT, edited_at: null };
  const state = after(event(6, "participant.joined", binh), event(7, "message.created", line), event(8, "participant.left", { user_id: "binh" }));

  expect(state.people).toEqual([an]);
  expect(state.names.get("binh")).toBe("Binh");
  expect(state.lines.map(({ text }) => text)).toEqual(["bye"]);
});

it("counts the grace from when somebody vanished, and ends it when they are back", () => {
  const away = after(event(6, "participant.joined", binh), event(7, "participant.updated", { user_id: "binh", seat_no: 2, seat_generation: 2, state: "grace" }));
  const back = apply(away, event(8, "participant.updated", { user_id: "binh", seat_no: 2, seat_generation: 2, state: "connected" }), 9_000);

  expect(away.awaySince.get("binh")).toBe(1_000);
  expect(back?.awaySince.size).toBe(0);
});

it("shows what was said before the snapshot once, however it is heard", () => {
  const said = event(3, "message.created", { id: "m", user_id: "an", text: "hello", sent_at: AT, edited_at: null });
  const changed = event(4, "message.updated", { id: "m", user_id: "an", text: "hello all", sent_at: AT, edited_at: AT });

  const state = [said, said, changed].reduce(recall, begin(room, null, 0));

  expect(state.lines).toEqual([{ id: "m", from: "an", text: "hello all", sentAt: AT, isEdited: true }]);
  expect(begin({ ...room, off: 9 }, state, 0).lines).toEqual(state.lines);
});

it("passes the host's role on", () => {
  const state = after(event(6, "participant.joined", binh), event(7, "participant.left", { user_id: "an" }), event(8, "room.updated", { host: "binh" }));

  expect(state.room.host).toBe("binh");
  expect(state.people.map(({ role }) => role)).toEqual(["host"]);
});

/** A room's journal, walked: what was so after each step. Pure. */
import type { JournalEntry, RoomStatus, SeatStatus } from "../wire";
import type { Sitting } from "./room";

export interface Scene {
  state: RoomStatus;
  seats: readonly Sitting[];
  waiting: readonly string[];
}

const BEFORE: Scene = { state: "open", seats: [], waiting: [] };

/** The scene after each of the steps, in their order. */
export function scenes(steps: readonly JournalEntry[]): Scene[] {
  const found: Scene[] = [];
  let scene = BEFORE;
  for (const step of steps) {
    scene = after(scene, step);
    found.push(scene);
  }
  return found;
}

/** Who is who, as the journal tells it. */
export function namesOf(steps: readonly JournalEntry[]): Map<string, string> {
  const names = new Map<string, string>();
  for (const { type, facts } of steps) {
    const { identity, name, spec } = facts as { identity?: string; name?: string; spec?: { owner: string; owner_name: string } };
    if (identity !== undefined && name !== undefined) names.set(identity, name);
    if (type === "room_created" && spec !== undefined) names.set(spec.owner, spec.owner_name);
  }
  return names;
}

function after(scene: Scene, { type, facts }: JournalEntry): Scene {
  const { identity, name, no, status } = facts as { identity: string; name: string; no: number; status: SeatStatus };
  switch (type) {
    case "seat_taken":
      return { ...scene, seats: [...scene.seats, { user_id: identity, name, no, state: status }] };
    case "seat_changed":
      return { ...scene, seats: scene.seats.map((seat) => (seat.user_id === identity ? { ...seat, state: status } : seat)) };
    case "seat_freed":
      return { ...scene, seats: scene.seats.filter((seat) => seat.user_id !== identity) };
    case "wait_began":
      return { ...scene, waiting: [...scene.waiting, identity] };
    case "wait_ended":
      return { ...scene, waiting: scene.waiting.filter((one) => one !== identity) };
    case "room_went_live":
      return { ...scene, state: "live" };
    case "room_closing":
      return { ...scene, state: "closing" };
    case "room_closed":
      return { ...scene, state: "closed" };
    default:
      return scene;
  }
}

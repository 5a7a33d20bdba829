/** A room as its channel tells of it: a snapshot, the events after it, and what was said since it was opened. Pure. */
import type { Shown } from "../server";
import type { MessageShown, Participant, Snapshot } from "../wire";

export interface Line {
  id: string;
  from: string;
  text: string;
  sentAt: string;
  isEdited: boolean;
}

export interface RoomState {
  room: Snapshot;
  people: readonly Participant[];
  /** Since when somebody is away, by the server's clock. */
  awaySince: ReadonlyMap<string, number>;
  lines: readonly Line[];
  /** Of everybody who ever had a seat: what they said stays. */
  names: ReadonlyMap<string, string>;
  /** The last event that is in it. */
  off: number;
}

/** Begin with a snapshot, or take up a newer one; what was said before it comes by `recall`. */
export function begin(room: Snapshot, before: RoomState | null, now: number): RoomState {
  const away = room.participants.filter(({ state }) => state === "grace").map(({ user_id }) => user_id);
  return {
    room,
    people: room.participants,
    awaySince: new Map(away.map((id) => [id, before?.awaySince.get(id) ?? now])),
    lines: before?.lines ?? [],
    names: new Map([...(before?.names ?? []), ...room.participants.map(({ user_id, name }) => [user_id, name] as const)]),
    off: room.off,
  };
}

/** An event that the snapshot has in it already, but for what was said. */
export function recall(state: RoomState, event: Shown): RoomState {
  switch (event.ev) {
    case "participant.joined":
      return { ...state, names: named(state, event.d) };
    case "message.created":
      return state.lines.some(({ id }) => id === event.d.id) ? state : { ...state, lines: [...state.lines, lineOf(event.d)] };
    case "message.updated":
      return { ...state, lines: state.lines.map((line) => (line.id === event.d.id ? lineOf(event.d) : line)) };
    case "message.deleted":
      return { ...state, lines: state.lines.filter(({ id }) => id !== event.d.id) };
    default:
      return state;
  }
}

/** The next event. One that is in the state already changes nothing; `null` where some are missing between. */
export function apply(state: RoomState, event: Shown, now: number): RoomState | null {
  if (event.off === undefined || event.off <= state.off) return state;
  if (event.off > state.off + 1) return null;
  return change(recall({ ...state, off: event.off }, event), event, now);
}

function change(state: RoomState, event: Shown, now: number): RoomState {
  switch (event.ev) {
    case "participant.joined":
      return { ...state, people: [...state.people.filter(({ user_id }) => user_id !== event.d.user_id), event.d] };
    case "participant.updated": {
      const awaySince = new Map(state.awaySince);
      if (event.d.state === "grace") awaySince.set(event.d.user_id, now);
      else awaySince.delete(event.d.user_id);
      return { ...state, awaySince, people: state.people.map((one) => (one.user_id === event.d.user_id ? { ...one, ...event.d } : one)) };
    }
    case "participant.left": {
      const awaySince = new Map(state.awaySince);
      awaySince.delete(event.d.user_id);
      return { ...state, awaySince, people: state.people.filter(({ user_id }) => user_id !== event.d.user_id) };
    }
    case "room.updated": {
      const { host } = event.d;
      const room = { ...state.room, ...event.d, host: host === undefined ? state.room.host : host };
      return { ...state, room, people: host === undefined || room.kind !== "talk" ? state.people : state.people.map((one) => ({ ...one, role: one.user_id === host ? "host" : "member" })) };
    }
    case "session.ended":
      return { ...state, room: { ...state.room, ended_at: event.d.at } };
    case "room.closing":
      return { ...state, room: { ...state.room, state: "closing", reason: event.d.reason } };
    case "room.closed":
      return { ...state, room: { ...state.room, state: "closed", reason: event.d.reason } };
    default:
      return state;
  }
}

function named(state: RoomState, { user_id, name }: Participant): ReadonlyMap<string, string> {
  return new Map([...state.names, [user_id, name]]);
}

function lineOf({ id, user_id, text, sent_at, edited_at }: MessageShown): Line {
  return { id, from: user_id, text, sentAt: sent_at, isEdited: edited_at !== null };
}

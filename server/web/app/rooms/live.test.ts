import { signal } from "@preact/signals";
import { beforeEach, expect, it, vi } from "vitest";
import { call } from "../server";
import { LiveRoom } from "./live";

vi.mock("../server", async (original) => ({
  ...(await original<object>()),
  call: vi.fn(),
  on: () => () => undefined,
  subscribe: () => () => undefined,
  tell: vi.fn(),
}));
vi.mock("../media/peer", () => ({
  PeerCall: class {
    end = signal(null);
    remotes = signal(new Map());
    meet(): void {}
    send = async () => undefined;
    leave(): void {}
  },
}));

const ROOM = { id: "r", kind: "talk", title: "A talk", state: "live", cap: 4, generation: 1, participants: [], host: "an", off: 0, epoch: "e", own_wait: null };
const SEATED = { room: ROOM, seat: { no: 1, state: "connected", generation: 1 }, media: { provider: "peer", ice_servers: [] } };
const server = vi.mocked(call as (op: string) => Promise<unknown>);
const asked = (op: string) => server.mock.calls.filter(([one]) => one === op).length;

class Track {
  isStopped = false;
  constructor(readonly kind: string) {}
  enabled = true;
  stop(): void {
    this.isStopped = true;
  }
  addEventListener(): void {}
}

let tracks: Track[];
/** Lets a device come that was asked for. */
let give: () => void;
let seat: (answer: unknown) => void;
let look: (answer: unknown) => void;

beforeEach(() => {
  tracks = [];
  const given = new Promise<void>((done) => (give = done));
  vi.stubGlobal("navigator", {
    mediaDevices: {
      addEventListener: () => undefined,
      removeEventListener: () => undefined,
      enumerateDevices: async () => [],
      getUserMedia: async (wanted: object) => {
        await given;
        const made = Object.keys(wanted).map((kind) => new Track(kind));
        tracks.push(...made);
        return { getTracks: () => made };
      },
    },
  });
  server.mockReset().mockImplementation((op) => {
    if (op === "room.join") return new Promise((answer) => (seat = answer));
    return Promise.resolve(op === "room.get" ? ROOM : {});
  });
});

it("gives back a seat that is answered after its page was left", async () => {
  const room = new LiveRoom("r", "an");
  await vi.waitFor(() => expect(room.phase.value.at).toBe("preview"));
  const joining = room.join();
  room.close();
  expect(asked("room.leave")).toBe(0);

  seat(SEATED);
  await joining;

  expect(asked("room.leave")).toBe(1);
});

it("takes nothing back when an answer comes behind a later one", async () => {
  server.mockImplementation((op) => {
    if (op === "room.join") return new Promise((answer) => (seat = answer));
    if (op === "room.get") return new Promise((answer) => (look = answer));
    return Promise.resolve({ events: [], more: false });
  });
  const room = new LiveRoom("r", "an");
  const joining = room.join();
  seat({ ...SEATED, room: { ...ROOM, off: 5, title: "As it is" } });
  await joining;

  look({ ...ROOM, off: 3, title: "As it was" });
  await new Promise((passed) => setTimeout(passed));

  expect(room.state.value).toMatchObject({ off: 5, room: { title: "As it is" } });
  room.close();
});

it("switches camera and microphone off after the call", async () => {
  const room = new LiveRoom("r", "an");
  const opening = room.devices.open();
  give();
  await opening;
  await vi.waitFor(() => expect(room.phase.value.at).toBe("preview"));
  const joining = room.join();
  seat(SEATED);
  await joining;
  expect(room.phase.value.at).toBe("inside");
  expect(tracks.map(({ kind, isStopped }) => [kind, isStopped])).toEqual([["audio", false], ["video", false]]);

  await room.leave();

  expect(tracks.every(({ isStopped }) => isStopped)).toBe(true);
  room.close();
});

it("switches off what is opened only after the page was left", async () => {
  const room = new LiveRoom("r", "an");
  const opening = room.devices.open();

  room.close();
  give();
  await opening;

  expect(tracks.length).toBeGreaterThan(0);
  expect(tracks.every(({ isStopped }) => isStopped)).toBe(true);
});

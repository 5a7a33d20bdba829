/** Every event once and in order, whatever the connection does. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { CallError, Published } from "../src/wire.ts";
import { event, Line, ME, sub } from "./server.ts";

const ROOM = "room:r";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

/** Somebody who writes down what comes. */
function listener() {
  const seen: unknown[] = [];
  return {
    seen,
    onSnapshot: (snapshot: unknown) => seen.push({ snapshot }),
    onEvent: ({ off, d }: Published<string, { text: string }>) => seen.push(off ?? d.text),
    onReset: () => seen.push("reset"),
    onEnd: (error: CallError) => seen.push(error.name),
  };
}

async function following(off = 10) {
  const line = new Line();
  const one = listener();
  const stop = line.client.subscribe(ROOM, one);
  const socket = await line.open();
  socket.answer("subscribe", sub(off));
  return { line, one, socket, stop, seen: one.seen };
}

test("events come once and in order, repeated ones are dropped", async () => {
  const { socket, seen } = await following();
  socket.say(event(ROOM, 11), event(ROOM, 12), event(ROOM, 12), event(ROOM, 11), event(ROOM, undefined, "typing"));

  expect(seen).toEqual([11, 12, "typing"]);
});

test("a gap is read from the history, and what came too early follows", async () => {
  const { socket, seen } = await following();
  socket.say(event(ROOM, 13), event(ROOM, 15));
  expect(socket.asked("history")).toMatchObject([{ ch: ROOM, d: { since: { epoch: "e", off: 10 }, limit: 200 } }]);
  socket.answer("history", { epoch: "e", off: 14, more: false, events: [11, 12, 13, 14].map((off) => event(ROOM, off)) });

  expect(seen).toEqual([11, 12, 13, 14, 15]);
});

test("a history that does not have what was published makes a new connection", async () => {
  const { line, socket } = await following();
  socket.say(event(ROOM, 13));
  for (let times = 0; times < 3; times++) socket.answer("history", { epoch: "e", off: 10, more: false, events: [] });

  expect(line.client.state.closeCode).toBe(4203);
});

test("the next connection goes on where the last one ended, in one round trip", async () => {
  const { line, socket, seen } = await following();
  socket.say(event(ROOM, 11));
  socket.drop();
  const events = [12, 13].map((off) => event(ROOM, off));
  const next = await line.open({ [ROOM]: sub(13, { recovered: true, events }) });
  next.say(event(ROOM, 13), event(ROOM, 14));

  expect(next.heard[0]!.d.since).toEqual([{ ch: ME, epoch: "own", off: 0 }, { ch: ROOM, epoch: "e", off: 11 }]);
  expect(next.asked("subscribe")).toEqual([]);
  expect(seen).toEqual([11, 12, 13, 14]);
});

test("what does not fit into the answer is read in pages before anything newer", async () => {
  const { line, socket, seen } = await following(0);
  socket.drop();
  const page = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => event(ROOM, from + n));
  const next = await line.open({ [ROOM]: sub(2, { recovered: true, more: true, events: page(1, 2) }) });
  next.say(event(ROOM, 7));
  next.answer("history", { epoch: "e", off: 4, more: true, events: page(3, 4) });
  next.answer("history", { epoch: "e", off: 6, more: false, events: page(5, 6) });

  expect(next.asked("history").map(({ d }) => d.since.off)).toEqual([2, 4]);
  expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7]);
});

test("a page that is refused for now is asked for again; one that is gone makes a new connection", async () => {
  const { line, socket, seen } = await following();
  socket.say(event(ROOM, 12));
  socket.refuse("history", 130, "overloaded", { retryable: true });
  await line.pass(1_000);
  socket.answer("history", { epoch: "e", off: 12, more: false, events: [event(ROOM, 11), event(ROOM, 12)] });
  expect(seen).toEqual([11, 12]);

  socket.say(event(ROOM, 14));
  socket.refuse("history", 112, "unrecoverable_position");
  expect(line.client.state.closeCode).toBe(4203);
});

test("positions that do not fit into the first frame are subscribed to after it", async () => {
  const line = new Line();
  const names = Array.from({ length: 100 }, (_, n) => `room:${String(n).padStart(36, "0")}`);
  for (const name of names) line.client.subscribe(name, {});
  const socket = await line.open();
  for (const one of socket.asked("subscribe")) socket.say({ id: one.id, ok: sub(1) });
  socket.drop();
  await line.pass(500);
  line.socket.onopen!();
  const since: { ch: string }[] = line.socket.heard[0]!.d.since;
  const subs = Object.fromEntries(since.slice(1).map(({ ch }) => [ch, sub(1, { recovered: true })]));
  line.socket.admit(subs);

  expect(JSON.stringify(line.socket.heard[0]).length).toBeLessThan(4_096);
  expect([...since.slice(1), ...line.socket.asked("subscribe")].map(({ ch }) => ch)).toEqual(names);
  expect(line.socket.asked("subscribe")[0]!.d).toEqual({ since: { epoch: "e", off: 1 } });
});

test("after a reset the snapshot is fetched anew and only what follows it comes", async () => {
  const line = new Line();
  const one = listener();
  line.client.subscribe(ROOM, { ...one, load: () => line.client.call("room.get", { room_id: "r" }) });
  const socket = await line.open();
  expect(socket.asked("room.get")).toEqual([]);
  socket.answer("subscribe", sub(10));
  socket.say(event(ROOM, 11), event(ROOM, 12));
  socket.answer("room.get", { off: 11 });
  await line.pass();
  expect(one.seen).toEqual([{ snapshot: { off: 11 } }, 12]);

  socket.drop();
  const next = await line.open({ [ROOM]: sub(40) });
  next.say({ ctl: "reset", d: { ch: ROOM, epoch: "f", off: 40 } }, event(ROOM, 41), event(ROOM, 42));
  next.answer("room.get", { off: 41 });
  await line.pass();

  expect(one.seen.slice(2)).toEqual(["reset", { snapshot: { off: 41 } }, 42]);
  next.drop();
  await line.open();
  expect(line.socket.heard[0]!.d.since[1]).toEqual({ ch: ROOM, epoch: "f", off: 42 });
});

test("a snapshot may be ahead of the channel: what is in it does not come again", async () => {
  const line = new Line();
  const one = listener();
  line.client.subscribe(ROOM, { ...one, load: () => line.client.call("room.get", { room_id: "r" }) });
  const socket = await line.open();
  socket.answer("subscribe", sub(10));
  socket.answer("room.get", { off: 12 });
  await line.pass();
  socket.say(event(ROOM, 11), event(ROOM, 12), event(ROOM, 13));
  expect(one.seen).toEqual([{ snapshot: { off: 12 } }, 13]);

  socket.say({ ctl: "reset", d: { ch: ROOM, epoch: "f", off: 2 } });
  socket.answer("room.get", { off: 2 });
  await line.pass();
  socket.say(event(ROOM, 3));
  expect(one.seen.slice(2)).toEqual(["reset", { snapshot: { off: 2 } }, 3]);
});

test("a snapshot that was under way at a reset is not taken for the new one", async () => {
  const line = new Line();
  const one = listener();
  line.client.subscribe(ROOM, { ...one, load: () => line.client.call("room.get", { room_id: "r" }) });
  const socket = await line.open();
  socket.answer("subscribe", sub(10));
  socket.say({ ctl: "reset", d: { ch: ROOM, epoch: "f", off: 3 } });
  const [old, fresh] = socket.asked("room.get");
  socket.say({ id: old!.id, ok: { off: 10 } });
  await line.pass();
  socket.say({ id: fresh!.id, ok: { off: 3 } }, event(ROOM, 4));
  await line.pass();

  expect(one.seen).toEqual(["reset", { snapshot: { off: 3 } }, 4]);
});

test("a snapshot that fails for now is fetched again, one that is refused ends the subscription", async () => {
  const line = new Line();
  const one = listener();
  line.client.subscribe(ROOM, { ...one, load: () => line.client.call("room.get", { room_id: "r" }) });
  const socket = await line.open();
  socket.answer("subscribe", sub(10));
  socket.refuse("room.get", 130, "overloaded", { retryable: true });
  await line.pass(500);
  expect(socket.asked("room.get")).toHaveLength(2);

  socket.refuse("room.get", 103, "permission_denied");
  await line.pass();
  expect(one.seen).toEqual(["permission_denied"]);
  expect(socket.asked("unsubscribe")).toMatchObject([{ ch: ROOM }]);
});

test("a seat brings its room: events in the same frame as the answer come after the snapshot", async () => {
  const line = new Line();
  const one = listener();
  line.client.subscribe(ROOM, { ...one, join: () => line.client.call("room.join", { room_id: "r" }) });
  const socket = await line.open();
  const { id } = socket.asked("room.join")[0]!;
  const joined = { room: { id: "r" }, sub: { epoch: "e", off: 5 } };
  socket.say({ id, ok: joined }, event(ROOM, 6), event(ROOM, 7));
  await line.pass();

  expect(socket.asked("subscribe")).toEqual([]);
  expect(one.seen).toEqual([{ snapshot: joined }, 6, 7]);
});

test("the seat is taken again on each connection, and no snapshot comes of it where nothing was missed", async () => {
  const line = new Line();
  const one = listener();
  line.client.subscribe(ROOM, { ...one, join: () => line.client.call("room.join", { room_id: "r" }) });
  (await line.open()).answer("room.join", { sub: { epoch: "e", off: 5 } });
  await line.pass();
  line.socket.drop();
  const next = await line.open({ [ROOM]: sub(6, { recovered: true, events: [event(ROOM, 6)] }) });
  next.answer("room.join", { sub: { epoch: "e", off: 6 } });
  await line.pass();

  expect(one.seen).toEqual([{ snapshot: { sub: { epoch: "e", off: 5 } } }, 6]);
});

test("a seat that comes back without its channel is a reset", async () => {
  const line = new Line();
  const one = listener();
  line.client.subscribe(ROOM, { ...one, join: () => line.client.call("room.join", { room_id: "r" }) });
  (await line.open()).answer("room.join", { sub: { epoch: "e", off: 5 } });
  await line.pass();
  line.socket.drop();
  const next = await line.open(); // the server refused the channel in `connect`
  next.answer("room.join", { sub: { epoch: "e", off: 9 } });
  await line.pass();
  next.answer("room.join", { sub: { epoch: "e", off: 9 } });
  await line.pass();

  expect(one.seen.slice(1)).toEqual(["reset", { snapshot: { sub: { epoch: "e", off: 9 } } }]);
});

test("leaving ends the subscription without a word, losing the seat says so", async () => {
  for (const isOwnWish of [true, false]) {
    const line = new Line();
    const one = listener();
    line.client.subscribe(ROOM, { ...one, join: () => line.client.call("room.join", { room_id: "r" }) });
    const socket = await line.open();
    socket.answer("room.join", { sub: { epoch: "e", off: 5 } });
    await line.pass();
    if (isOwnWish) {
      void line.client.call("room.leave", { room_id: "r" });
      socket.answer("room.leave", {});
    } else {
      socket.say({ ctl: "unsubscribed", d: { ch: ROOM, code: 123, name: "seat_expired" } });
    }
    socket.drop();
    const next = await line.open();

    expect(one.seen.slice(1)).toEqual(isOwnWish ? [] : ["seat_expired"]);
    expect(next.asked("room.join")).toEqual([]);
    expect(next.heard[0]!.d.since).toHaveLength(1);
  }
});

test("who only looks on goes on looking when a seat of theirs ends elsewhere", async () => {
  const { socket, seen } = await following();
  socket.say({ ctl: "unsubscribed", d: { ch: ROOM, code: 123, name: "seat_expired" } });
  expect(socket.asked("subscribe").at(-1)!.d).toEqual({ since: { epoch: "e", off: 10 } });
  socket.answer("subscribe", sub(11, { recovered: true, events: [event(ROOM, 11)] }));

  expect(seen).toEqual([11]);
});

test.each([["banned", 122], ["permission_denied", 103], ["unknown_channel", 102]])("%s ends a subscription", async (name, code) => {
  const { line, socket, seen } = await following();
  socket.say({ ctl: "unsubscribed", d: { ch: ROOM, code, name } }, event(ROOM, 11));
  socket.drop();
  const next = await line.open();

  expect(seen).toEqual([name]);
  expect(next.heard[0]!.d.since).toHaveLength(1);
});

test("a subscription that is refused for now is asked for again", async () => {
  const line = new Line();
  const one = listener();
  line.client.subscribe(ROOM, one);
  const socket = await line.open();
  socket.refuse("subscribe", 111, "too_many_requests", { retryable: true, retry_after_ms: 2_000 });
  await line.pass(3_000);
  socket.answer("subscribe", sub(1));
  socket.say(event(ROOM, 2));

  expect(one.seen).toEqual([2]);
});

test("several listeners share a subscription, which ends with the last", async () => {
  const { line, socket, stop, seen } = await following();
  const second = listener();
  const stopSecond = line.client.subscribe(ROOM, second);
  socket.say(event(ROOM, 11));
  stop();
  stop();
  socket.say(event(ROOM, 12));
  expect(socket.asked("unsubscribe")).toEqual([]);
  stopSecond();

  expect([seen, second.seen]).toEqual([[11], [11, 12]]);
  expect(socket.asked("subscribe")).toHaveLength(1);
  expect(socket.asked("unsubscribe")).toHaveLength(1);
});

test("a subscription given up while it is asked for is undone once it is there, and may be wanted again meanwhile", async () => {
  const line = new Line();
  const socket = await line.open();
  line.client.subscribe(ROOM, {})();
  const one = listener();
  const stop = line.client.subscribe(ROOM, one);
  socket.answer("subscribe", sub(1));
  socket.say(event(ROOM, 2));
  expect(one.seen).toEqual([2]);
  stop();
  expect(socket.asked("unsubscribe")).toHaveLength(1);

  line.client.subscribe(ROOM, {})();
  socket.answer("subscribe", sub(2));
  expect(socket.asked("unsubscribe")).toHaveLength(2);
});

test("a handler that throws is reported and keeps nobody from their events", async () => {
  const onError = vi.fn();
  const line = new Line({ onError });
  const one = listener();
  line.client.subscribe(ROOM, { onEvent: () => { throw new Error("bug"); } });
  line.client.subscribe(ROOM, one);
  const socket = await line.open();
  socket.answer("subscribe", sub(10));
  socket.say(event(ROOM, 11), event(ROOM, 12));

  expect(one.seen).toEqual([11, 12]);
  expect(onError).toHaveBeenCalledTimes(2);
});

test("events of the own channel come unasked, by name, and are recovered", async () => {
  const line = new Line();
  const told: (number | undefined)[] = [];
  const off = line.client.on("message.created", (event) => told.push(event.off));
  const socket = await line.open();
  socket.say(event(ME, 1));
  socket.drop();
  const next = await line.open({ [ME]: { epoch: "own", off: 2, recovered: true, events: [event(ME, 2)], more: false } });
  expect(next.heard[0]!.d.since).toEqual([{ ch: ME, epoch: "own", off: 1 }]);
  off();
  next.say(event(ME, 3));

  expect(told).toEqual([1, 2]);
});

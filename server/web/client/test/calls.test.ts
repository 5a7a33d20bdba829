/** Asking, and messages that outlive connections. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { CallError } from "../src/wire.ts";
import { Line } from "./server.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

/** What became of a promise, without waiting for it. */
function fate(promise: Promise<unknown>): { ok?: unknown; err?: CallError } {
  const found: { ok?: unknown; err?: CallError } = {};
  promise.then((ok) => (found.ok = ok), (err) => (found.err = err));
  return found;
}

test("answers find their questions, in whatever order they come", async () => {
  const line = new Line();
  const socket = await line.open();
  const [first, second] = [line.client.call("wallet.get", {}), line.client.call("talk.list", { language: "en" })];
  socket.answer("talk.list", { items: [] });
  socket.answer("wallet.get", { balance: 1 });

  expect(await first).toEqual({ balance: 1 });
  expect(await second).toEqual({ items: [] });
  expect(new Set(socket.heard.map(({ id }) => id)).size).toBe(socket.heard.length);
});

test("a refusal is a CallError with everything the server said", async () => {
  const line = new Line();
  const socket = await line.open();
  const call = line.client.call("room.join", { room_id: "r" });
  socket.refuse("room.join", 120, "room_full", { message: "full", retryable: true, retry_after_ms: 2_000, d: { cap: 4 } });

  const error = await call.catch((error: unknown) => error);
  expect(error).toBeInstanceOf(CallError);
  expect(error).toMatchObject({ code: 120, name: "room_full", message: "full", retryable: true, retryAfter: 2_000, data: { cap: 4 } });
});

test("a call waits for a connection, and says so if none comes in time", async () => {
  const line = new Line();
  const [patient, hasty] = [fate(line.client.call("a", {})), fate(line.client.call("b", {}, { timeoutMs: 5 }))];
  await line.pass(5);
  const socket = await line.open();
  socket.answer("a", {});
  await line.pass();

  expect(patient.ok).toEqual({});
  expect(hasty.err).toMatchObject({ code: 108, name: "not_available" });
  expect(socket.asked("b")).toEqual([]);
});

test("a call that was sent and not answered may have happened", async () => {
  const line = new Line();
  const socket = await line.open();
  const [silent, cut] = [fate(line.client.call("a", {}, { timeoutMs: 100 })), fate(line.client.call("b", {}))];
  await line.pass(100);
  expect(silent.err).toMatchObject({ code: 132, retryable: true });

  socket.drop();
  await line.open();
  expect(cut.err).toMatchObject({ code: 132 });
  expect(line.socket.asked("b")).toEqual([]);
});

test("with a key, or where that is safe, a call is repeated on the next connection", async () => {
  const line = new Line();
  const socket = await line.open();
  const kept = [
    fate(line.client.call("purchase.confirm", { quote_token: "q" }, { key: "k" })),
    fate(line.client.call("wallet.get", {}, { repeat: true })),
  ];
  socket.drop();
  const next = await line.open();

  expect(next.asked("purchase.confirm")).toMatchObject([{ key: "k", d: { quote_token: "q" } }]);
  next.answer("purchase.confirm", { id: 1 });
  next.answer("wallet.get", {});
  await line.pass();
  expect(kept.map(({ ok }) => ok)).toEqual([{ id: 1 }, {}]);
});

test("an outcome that the server does not know is asked for again under the same key", async () => {
  const line = new Line();
  const socket = await line.open();
  const call = fate(line.client.call("purchase.confirm", {}, { key: "k" }));
  socket.refuse("purchase.confirm", 132, "timeout_unknown_outcome", { retryable: true });
  await line.pass(1_000);
  expect(socket.asked("purchase.confirm").map(({ key }) => key)).toEqual(["k", "k"]);

  socket.answer("purchase.confirm", { id: 1 });
  await line.pass();
  expect(call.ok).toEqual({ id: 1 });
});

test("a message that the server would end the connection for is refused here", async () => {
  const line = new Line();
  const socket = await line.open();
  const call = fate(line.client.call("course.create", { description: "ế".repeat(12_000) }));
  await line.pass();

  expect(call.err).toMatchObject({ code: 107 });
  expect(socket.asked("course.create")).toEqual([]);
  expect(line.client.state.status).toBe("open");
});

test("volatile messages have no id, and are dropped without a connection", async () => {
  const line = new Line();
  line.client.tell("room.send", { kind: "hand" }, { ch: "room:r" });
  const socket = await line.open();
  line.client.tell("room.send", { kind: "wave" }, { ch: "room:r" });

  expect(socket.asked("room.send")).toEqual([{ op: "room.send", ch: "room:r", d: { kind: "wave" } }]);
});

test("messages written offline go out in order, one after the other's answer, each under a key of its own", async () => {
  const line = new Line();
  const sent = ["one", "two", "three"].map((text) => fate(line.client.send("chat.send", { text }, { ch: "room:r" })));
  const socket = await line.open();
  for (const text of ["one", "two", "three"]) {
    expect(socket.asked("chat.send").at(-1)!.d.text).toBe(text);
    socket.answer("chat.send", { text });
    await line.pass();
  }

  expect(sent.map(({ ok }) => ok)).toEqual([{ text: "one" }, { text: "two" }, { text: "three" }]);
  expect(new Set(socket.asked("chat.send").map(({ key }) => key)).size).toBe(3);
});

test("a cut between message and answer repeats it under the same key, before those behind it", async () => {
  const line = new Line();
  const socket = await line.open();
  for (const text of ["one", "two"]) void line.client.send("chat.send", { text }, { ch: "room:r" });
  socket.drop(4200);
  await line.pass();
  const next = line.socket;
  next.admit();
  expect(next.asked("chat.send")).toHaveLength(1);
  next.answer("chat.send", {});
  await line.pass();

  expect(next.asked("chat.send").map(({ d }) => d.text)).toEqual(["one", "two"]);
  expect(next.asked("chat.send")[0]!.key).toBe(socket.asked("chat.send")[0]!.key);
});

test("a message that is refused for now waits as long as the server asks, and nothing overtakes it", async () => {
  const line = new Line();
  const socket = await line.open();
  const sent = ["one", "two"].map((text) => fate(line.client.send("chat.send", { text }, { ch: "room:r" })));
  const other = fate(line.client.send("chat.send", { text: "elsewhere" }, { ch: "room:s" }));
  socket.answer("chat.send", {});
  await line.pass();
  expect(other.ok).toBeDefined();

  const [one] = socket.asked("chat.send");
  socket.say({ id: one!.id, err: { code: 111, name: "too_many_requests", message: "", retryable: true, retry_after_ms: 3_000 } });
  await line.pass(2_999);
  expect(socket.asked("chat.send")).toHaveLength(2);
  await line.pass(1);
  expect(socket.asked("chat.send").at(-1)).toMatchObject({ key: one!.key, d: { text: "one" } });
  socket.answer("chat.send", {});
  await line.pass();
  socket.answer("chat.send", {});
  await line.pass();
  expect(sent.every(({ ok }) => ok)).toBe(true);
});

test("a server that stays silent is asked again under the same key", async () => {
  const line = new Line();
  const socket = await line.open();
  void line.client.send("chat.send", { text: "one" }, { ch: "room:r" });
  await line.pass(10_000);
  await line.pass(500);

  expect(socket.asked("chat.send")).toHaveLength(2);
  expect(new Set(socket.asked("chat.send").map(({ key }) => key)).size).toBe(1);
});

test("a message that is refused for good is its own failure alone", async () => {
  const line = new Line();
  const socket = await line.open();
  const sent = ["one", "two"].map((text) => fate(line.client.send("chat.send", { text }, { ch: "room:r" })));
  socket.refuse("chat.send", 123, "seat_expired", { retryable: true });
  await line.pass();
  socket.answer("chat.send", {});
  await line.pass();

  expect(sent[0]!.err).toMatchObject({ code: 123 });
  expect(sent[1]!.ok).toEqual({});
});

test("messages to a room wait for the seat on each connection", async () => {
  const line = new Line();
  const join = () => line.client.call("room.join", { room_id: "r" });
  line.client.subscribe("room:r", { join });
  void line.client.send("chat.send", { text: "one" }, { ch: "room:r" });
  const socket = await line.open();
  expect(socket.asked("chat.send")).toEqual([]);
  socket.answer("room.join", { sub: { epoch: "e", off: 5 } });
  await line.pass();
  expect(socket.asked("chat.send")).toHaveLength(1);

  socket.drop();
  const next = await line.open({ "room:r": { epoch: "e", off: 5, recovered: true, events: [], more: false } });
  expect(next.asked("chat.send")).toEqual([]);
  next.answer("room.join", { sub: { epoch: "e", off: 5 } });
  await line.pass();

  expect(next.asked("chat.send")).toHaveLength(1);
});

test("messages to a room wait for a seat that is asked for by a call", async () => {
  const line = new Line();
  const socket = await line.open();
  line.client.onState(({ status }) => status === "open" && void fate(line.client.call("room.join", { room_id: "r" })));
  const sent = fate(line.client.send("chat.send", { text: "one" }, { ch: "room:r" }));
  const other = fate(line.client.send("chat.send", { text: "two" }, { ch: "room:s" }));
  socket.answer("chat.send", {});
  socket.drop();
  const next = await line.open();
  await line.pass();
  expect(next.asked("chat.send")).toEqual([]);

  next.refuse("room.join", 120, "room_full", {});
  await line.pass();
  next.answer("chat.send", {});
  await line.pass();

  expect([sent.ok, other.ok]).toEqual([{}, {}]);
});

test("close answers everybody who waits", async () => {
  const line = new Line();
  const waiting = [fate(line.client.call("a", {})), fate(line.client.send("b", {}))];
  await line.open();
  waiting.push(fate(line.client.call("c", {}, { key: "k" })), fate(line.client.send("b", {})));
  line.client.close();
  await line.pass();

  expect(waiting.map(({ err }) => err?.code)).toEqual([132, 108, 108, 108]);
});

/** One connection for all tabs. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Client, connect } from "../src/client.ts";
import { Hub } from "../src/hub.ts";
import type { CallError, Published } from "../src/wire.ts";
import { event, FakeSocket, ME, sub } from "./server.ts";

const ROOM = "room:r";

/** One end of a channel; what is posted arrives at the other in its turn, unless that is frozen. */
class Port {
  other!: Port;
  isFrozen = false;
  posts: unknown[] = [];
  onmessage: ((event: { data: unknown }) => void) | null = null;
  isClosed = false;

  postMessage(data: unknown): void {
    if (!this.isClosed) this.other.posts.push(data);
    queueMicrotask(() => this.other.take());
  }

  take(): void {
    while (!this.isFrozen && this.onmessage && this.posts.length > 0) this.onmessage({ data: this.posts.shift() });
  }

  close(): void {
    this.isClosed = true;
  }
}

function channel(): [Port, Port] {
  const [a, b] = [new Port(), new Port()];
  a.other = b;
  b.other = a;
  return [a, b];
}

let sockets: FakeSocket[];
let hub: Hub;

beforeEach(() => {
  vi.useFakeTimers();
  // Chance may also say: at once.
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  sockets = [];
  const opened = (): FakeSocket => {
    const socket = new FakeSocket();
    socket.answersPings = true;
    sockets.push(socket);
    return socket;
  };
  vi.stubGlobal("WebSocket", function () { return opened(); });
  vi.stubGlobal("SharedWorker", class {});
  hub = new Hub({ url: "ws://test/ws" });
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const pass = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const socket = () => sockets.at(-1)!;

interface Tab {
  client: Client;
  seen: unknown[];
  freeze(): void;
  /** What waits for it to wake. */
  kept(): unknown[];
  thaw(): void;
}

function tab(ticket: () => Promise<string> = async () => "ticket"): Tab {
  let port!: Port;
  const worker = () => {
    const [ours, theirs] = channel();
    port = ours;
    hub.accept(theirs as unknown as MessagePort);
    return { port: ours } as unknown as SharedWorker;
  };
  const client = connect({ url: "ws://test/ws", ticket, worker });
  const thaw = () => {
    port.isFrozen = false;
    port.take();
  };
  return { client, seen: [], freeze: () => void (port.isFrozen = true), kept: () => port.posts, thaw };
}

function listen(one: Tab, more: object = {}): () => void {
  return one.client.subscribe(ROOM, {
    onEvent: ({ off }: Published) => one.seen.push(off),
    onReset: () => one.seen.push("reset"),
    onSnapshot: () => one.seen.push("snapshot"),
    onEnd: (error: CallError) => one.seen.push(error.name),
    ...more,
  });
}

async function tabs(count: number): Promise<Tab[]> {
  const all = Array.from({ length: count }, () => tab());
  await pass();
  socket().admit();
  await pass();
  return all;
}

test("all tabs have one connection, with the ticket of one of them", async () => {
  const [first, second] = await tabs(2);
  expect(sockets).toHaveLength(1);
  expect(socket().heard[0]!.d.ticket).toBe("ticket");
  expect([first, second].map((one) => one!.client.state.status)).toEqual(["open", "open"]);
  expect(first!.client.user).toEqual({ id: "me", role: "student" });

  const answers = [first, second].map((one, n) => one!.client.call("wallet.get", { n }));
  await pass();
  for (const { id, d } of socket().asked("wallet.get")) socket().say({ id, ok: d });
  expect(await Promise.all(answers)).toEqual([{ n: 0 }, { n: 1 }]);
});

test("a channel is followed once for all, and every tab has every event from when it came", async () => {
  const [first, second] = await tabs(2);
  const stop = listen(first!);
  await pass();
  socket().answer("subscribe", sub(10));
  socket().say(event(ROOM, 11));
  await pass();
  const stopSecond = listen(second!);
  await pass();
  socket().say(event(ROOM, 12));
  await pass();

  expect([first!.seen, second!.seen]).toEqual([[11, 12], [12]]);
  expect(socket().asked("subscribe")).toHaveLength(1);
  stop();
  await pass();
  expect(socket().asked("unsubscribe")).toHaveLength(0);
  stopSecond();
  await pass();
  expect(socket().asked("unsubscribe")).toHaveLength(1);
});

test("a cut heals below the tabs: they see the state, and no event is missed or repeated", async () => {
  const [first, second] = await tabs(2);
  listen(first!);
  listen(second!);
  await pass();
  socket().answer("subscribe", sub(10));
  socket().drop(1006);
  await pass();
  expect(second!.client.state).toMatchObject({ status: "offline", closeCode: 1006 });
  const sent = second!.client.send("chat.send", { text: "hi" }, { ch: ROOM });
  await pass(500);
  socket().admit({ [ROOM]: sub(12, { recovered: true, events: [event(ROOM, 11), event(ROOM, 12)] }) });
  await pass();
  socket().answer("chat.send", { text: "hi" });

  expect(await sent).toEqual({ text: "hi" });
  expect([first!.seen, second!.seen]).toEqual([[11, 12], [11, 12]]);
  expect(first!.client.state.status).toBe("open");
});

test("a frozen tab holds nobody up, and has everything once it wakes", async () => {
  const [first, frozen] = await tabs(2);
  listen(first!);
  listen(frozen!);
  await pass();
  socket().answer("subscribe", sub(10));
  await pass();
  await pass(5_000);
  socket().say(event(ME, undefined)); // the last that it hears
  await pass();
  frozen!.freeze();
  socket().say(event(ROOM, 11));
  const asleep = frozen!.kept();
  await pass(15_000);
  expect(asleep.at(-1)).toBe(4202);
  const before = asleep.length;
  socket().say(event(ROOM, 12), event(ROOM, 13), event(ROOM, 14));
  await pass();
  expect(asleep).toHaveLength(before);
  expect(first!.seen).toEqual([11, 12, 13, 14]);
  expect(frozen!.seen).toEqual([]);

  frozen!.thaw();
  await pass(1);
  const since = socket().asked("history").at(-1)!.d.since;
  socket().answer("history", { epoch: "e", off: 14, more: false, events: [11, 12, 13, 14].map((off) => event(ROOM, off)).slice(since.off - 10) });
  await pass();
  socket().say(event(ROOM, 15));
  await pass();

  expect(frozen!.seen).toEqual([11, 12, 13, 14, 15]);
  expect(frozen!.client.state.status).toBe("open");
});

test("a frozen tab is not waited for when a ticket is needed", async () => {
  const first = tab(async () => "first");
  const frozen = tab(async () => "frozen");
  await pass();
  socket().admit();
  frozen.freeze();
  socket().drop();
  await pass(500);
  expect(sockets).toHaveLength(1);
  await pass(5_000);
  socket().admit();
  await pass();

  expect(socket().heard[0]!.d.ticket).toBe("first");
  expect(first.client.state.status).toBe("open");
});

test("a tab that comes back and asks for more than there is begins anew", async () => {
  const [first, frozen] = await tabs(2);
  listen(first!);
  listen(frozen!, { load: () => frozen!.client.call("room.get", {}) });
  await pass();
  socket().answer("subscribe", sub(10));
  await pass();
  socket().answer("room.get", { off: 10 });
  await pass();
  frozen!.freeze();
  await pass(20_000);
  socket().say(event(ROOM, 11));
  frozen!.thaw();
  await pass(1);
  socket().refuse("history", 112, "unrecoverable_position");
  await pass();
  socket().answer("room.get", { off: 11 });
  await pass();

  expect(frozen!.seen).toEqual(["snapshot", "reset", "snapshot"]);
});

test("a snapshot that a cut has lost is fetched on the next connection, which a tab does not see begin", async () => {
  const [first] = await tabs(2);
  listen(first!, { load: () => first!.client.call("room.get", {}) });
  await pass();
  socket().answer("subscribe", sub(10));
  await pass();
  expect(socket().asked("room.get")).toHaveLength(1);
  socket().drop();
  // Longer than a tab waits before it tries again, and still no connection.
  await pass(600);
  for (let tries = 0; !socket().isNew && tries < 20; tries++) await pass(500);
  await pass(2_000);
  socket().admit({ [ROOM]: sub(10, { recovered: true }) });
  // The tab waits longer from try to try.
  for (let tries = 0; socket().asked("room.get").length === 0 && tries < 60; tries++) await pass(500);
  socket().answer("room.get", { off: 10 });
  await pass();

  expect(first!.seen).toEqual(["snapshot"]);
});

test("the seat is taken again after a cut, by the tab that has it", async () => {
  const [first] = await tabs(2);
  listen(first!, { join: () => first!.client.call("room.join", { room_id: "r" }) });
  await pass();
  const join = socket().asked("room.join")[0]!;
  socket().say({ id: join.id, ok: { sub: { epoch: "e", off: 5 } } }, event(ROOM, 6));
  await pass();
  expect(first!.seen).toEqual(["snapshot", 6]);

  socket().drop();
  await pass(500);
  socket().admit({ [ROOM]: sub(7, { recovered: true, events: [event(ROOM, 7)] }) });
  await pass();
  expect(socket().asked("room.join")).toHaveLength(1);
  expect(first!.seen).toEqual(["snapshot", 6, 7]);
});

test("the seat of a tab that is closed is given up after the grace, one that is open again keeps it", async () => {
  const [first, second] = await tabs(2);
  const join = async (one: Tab) => {
    listen(one, { join: () => one.client.call("room.join", { room_id: "r" }) });
    await pass();
    socket().answer("room.join", { sub: { epoch: "e", off: 5 } });
    await pass();
  };
  await join(first!);
  first!.client.close();
  await pass(19_000);
  await join(second!);
  await pass(2_000);
  expect(socket().asked("room.leave")).toEqual([]);

  tab(); // somebody keeps the worker alive
  second!.client.close();
  for (let s = 0; s < 21; s++) {
    await pass(1_000);
    socket().say({});
  }
  expect(socket().asked("room.leave")).toMatchObject([{ d: { room_id: "r" } }]);
});

test("leaving in one tab is the end in the others", async () => {
  const [first, second] = await tabs(2);
  for (const one of [first!, second!]) {
    listen(one, { join: () => one.client.call("room.join", { room_id: "r" }) });
    await pass();
    socket().answer("room.join", { sub: { epoch: "e", off: 5 } });
    await pass();
  }
  const left = first!.client.call("room.leave", { room_id: "r" });
  await pass();
  socket().answer("room.leave", {});
  await left;
  await pass();

  expect([first!.seen, second!.seen]).toEqual([["snapshot"], ["snapshot", "seat_expired"]]);
});

test("a tab whose network changes has the worker try its connection, and not wait for the next one", async () => {
  const page = new EventTarget();
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
  vi.spyOn(Math, "random").mockReturnValue(1);
  const [first] = await tabs(1);
  page.dispatchEvent(new Event("offline"));
  await pass(5_000);
  expect(first!.client.state.status).toBe("open");
  socket().answersPings = false;
  page.dispatchEvent(new Event("offline"));
  await pass(5_000);
  expect(first!.client.state).toMatchObject({ closeCode: 4202 });

  await pass(1);
  expect(sockets).toHaveLength(2);
  socket().admit();
  await pass(1);
  socket().drop(1006);
  await pass(1);
  expect(sockets).toHaveLength(2);
  page.dispatchEvent(new Event("online"));
  await pass(1);

  expect(sockets).toHaveLength(3);
});

test("the end is the end for all tabs", async () => {
  const [first, second] = await tabs(2);
  socket().drop(4003);
  await pass(60_000);

  expect([first, second].map((one) => one!.client.state)).toMatchObject([{ status: "stopped", closeCode: 4003 }, { status: "stopped", closeCode: 4003 }]);
  expect(sockets).toHaveLength(1);
});

test("with the last tab the connection goes, after a moment for the next page", async () => {
  const [first] = await tabs(1);
  first!.client.close();
  await pass(9_000);
  expect(socket().isNew || !sockets[0]!.onmessage).toBe(false);
  await pass(1_000);

  expect(sockets[0]!.onmessage).toBe(null);
});

test("refusals are the same through the worker", async () => {
  const [first] = await tabs(1);
  const call = first!.client.call("room.join", { room_id: "r" });
  await pass();
  socket().refuse("room.join", 120, "room_full", { retryable: true, retry_after_ms: 2_000, d: { cap: 4 } });

  await expect(call).rejects.toMatchObject({ code: 120, name: "room_full", retryAfter: 2_000, data: { cap: 4 }, retryable: true });
});

test("a worker that does not answer is done without", async () => {
  const silent = () => ({ port: channel()[0] }) as unknown as SharedWorker;
  const client = connect({ url: "ws://test/ws", ticket: async () => "own", worker: silent });
  await pass(3_500);
  socket().admit();
  await pass();

  expect(socket().heard[0]!.d.ticket).toBe("own");
  expect(client.state.status).toBe("open");
});

test("a browser without shared workers has a connection per tab", async () => {
  vi.stubGlobal("SharedWorker", undefined);
  const worker = vi.fn();
  connect({ url: "ws://test/ws", ticket: async () => "own", worker });
  await pass();
  socket().admit();

  expect(worker).not.toHaveBeenCalled();
  expect(socket().heard[0]!.d.ticket).toBe("own");
});

test("what the page's own channel hears, every tab hears", async () => {
  const [first, second] = await tabs(2);
  for (const one of [first!, second!]) one.client.on("message.created", ({ off }) => one.seen.push(off));
  socket().say(event(ME, 1));
  await pass();

  expect([first!.seen, second!.seen]).toEqual([[1], [1]]);
});

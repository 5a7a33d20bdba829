/** Connecting, staying connected, and coming back. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { BACKOFF, delayOf } from "../src/backoff.ts";
import { Clock } from "../src/clock.ts";
import type { State } from "../src/engine.ts";
import { SignedOut, type Verdict, verdictOf } from "../src/wire.ts";
import { Line } from "./server.ts";

beforeEach(() => {
  vi.useFakeTimers();
  // Chance may also say: at once.
  vi.spyOn(Math, "random").mockReturnValue(0.5);
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

test.each<[number, Verdict]>([
  [4000, "stop"], [4003, "stop"], [4004, "stop"], [4005, "stop"], [4008, "stop"], [4009, "stop"], [4050, "stop"],
  [4001, "ticket"], [4007, "ticket"],
  [4100, "wait"], [4101, "wait"], [4102, "wait"], [4103, "wait"], [4150, "wait"], [1013, "wait"],
  [4200, "now"], [4201, "now"], [4202, "now"], [4203, "now"], [4205, "now"], [4250, "now"], [1012, "now"],
  [0, "network"], [1000, "network"], [1001, "network"], [1006, "network"], [1011, "network"],
])("close code %i means %s", (code, verdict) => {
  expect(verdictOf(code)).toBe(verdict);
});

describe("the wait before another connection", () => {
  const at = (random: number, verdict: Verdict, failures: number, hintMs = 0) => {
    vi.spyOn(Math, "random").mockReturnValue(random);
    return delayOf(verdict, failures, hintMs, BACKOFF);
  };

  test("is anything between nothing and a ceiling that doubles up to 30 s", () => {
    expect([1, 2, 3, 4, 5, 6, 7, 8, 1000].map((failures) => at(1, "network", failures))).toEqual([
      500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000,
    ]);
    expect(at(0, "network", 9)).toBe(0);
  });

  test("is at least a second where the server asks to wait", () => {
    expect(at(0, "wait", 1)).toBe(1_000);
    expect([1, 2, 6, 99].map((failures) => at(1, "wait", failures))).toEqual([2_000, 4_000, 30_000, 30_000]);
  });

  test("is nothing where the server says now, once", () => {
    expect(at(1, "now", 1)).toBe(0);
    expect(at(1, "now", 2)).toBe(1_000);
  });

  test("is never shorter than what the server asked for", () => {
    for (const verdict of ["network", "wait", "now"] as const) expect(at(0, verdict, 1, 7_000)).toBe(7_000);
  });
});

test("connects with a ticket of its own each time, and says what it is", async () => {
  const line = new Line({ client: { name: "page", version: "7" } });
  const socket = await line.open();

  expect(socket.heard[0]).toMatchObject({ op: "connect", d: { ticket: "ticket 1", client: { name: "page", version: "7" }, since: [] } });

  socket.drop();
  expect((await line.open()).heard[0]!.d.ticket).toBe("ticket 2");
  expect(line.client.user).toEqual({ id: "me", role: "student" });
});

test("tells how the connection is, from the start on", async () => {
  const line = new Line();
  const seen: State[] = [];
  line.client.onState((state) => seen.push(state));
  const socket = await line.open();
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  socket.drop(4103);
  await line.open();
  line.client.close();

  expect(seen.map(({ status, closeCode }) => [status, closeCode])).toEqual([
    ["connecting", undefined], ["open", undefined], ["offline", 4103], ["connecting", 4103], ["open", undefined], ["stopped", 1000],
  ]);
  expect(seen[2]!.retryAt! - seen[2]!.since).toBe(1_000);
});

test.each([4000, 4003, 4004, 4005, 4008, 4009])("%i is the end, until somebody asks for another connection", async (code) => {
  const line = new Line();
  (await line.open()).drop(code);
  await line.pass(600_000);

  expect(line.client.state).toMatchObject({ status: "stopped", closeCode: code });
  expect(line.sockets).toHaveLength(1);
  await expect(line.client.call("wallet.get", {})).rejects.toMatchObject({ code: 108, name: "not_available" });

  line.client.reconnect();
  await line.open();
  expect(line.client.state.status).toBe("open");
});

test.each([4001, 4007])("%i is answered with a new ticket, and is the end if that is refused too", async (code) => {
  const line = new Line();
  await line.pass();
  line.socket.drop(code);
  await line.pass(500);
  expect(line.tickets).toBe(2);

  line.socket.drop(code);
  await line.pass(600_000);

  expect(line.client.state).toMatchObject({ status: "stopped", closeCode: code });
  expect(line.tickets).toBe(2);
});

test("a ticket that was good once may be refused again later", async () => {
  const line = new Line();
  await line.pass();
  line.socket.drop(4001);
  (await line.open()).drop(4001);
  await line.open();

  expect(line.client.state.status).toBe("open");
});

test.each([4100, 4101, 4102, 4103])("after %i nobody comes back within a second", async (code) => {
  vi.spyOn(Math, "random").mockReturnValue(0);
  const line = new Line();
  (await line.open()).drop(code);

  await line.pass(999);
  expect(line.sockets).toHaveLength(1);
  await line.pass(1);
  expect(line.sockets).toHaveLength(2);
});

test.each([4200, 4201, 4202, 4203, 4205])("after %i the next connection is made at once", async (code) => {
  vi.spyOn(Math, "random").mockReturnValue(1);
  const line = new Line();
  (await line.open()).drop(code);
  await line.pass();

  expect(line.sockets).toHaveLength(2);
});

test("a draining server's advice spreads who comes back", async () => {
  const line = new Line();
  const socket = await line.open();
  socket.say({ ctl: "disconnect", d: { code: 4200, reconnect: true, retry_after_ms: 800 } });
  socket.drop(4200);

  await line.pass(799);
  expect(line.sockets).toHaveLength(1);
  await line.pass(1);
  expect(line.sockets).toHaveLength(2);
});

test("the hint in a refused connect is kept to", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0);
  const line = new Line();
  await line.pass();
  line.socket.onopen!();
  line.socket.refuse("connect", 130, "overloaded", { retry_after_ms: 5_000 });
  line.socket.drop(4100);

  await line.pass(4_999);
  expect(line.sockets).toHaveLength(1);
  await line.pass(1);
  expect(line.sockets).toHaveLength(2);
});

test("failures are forgiven by a connection that stood for a while, and not by one that did not", async () => {
  vi.spyOn(Math, "random").mockReturnValue(1);
  const waits = async (line: Line) => {
    line.socket.drop();
    const { retryAt, since } = line.client.state;
    await line.pass(retryAt! - since);
    return retryAt! - since;
  };
  const line = new Line();
  await line.open();
  expect(await waits(line)).toBe(500);
  line.socket.admit();
  expect(await waits(line)).toBe(1_000);
  line.socket.admit();
  await line.pass(29_000);
  line.socket.say({});
  expect(await waits(line)).toBe(2_000);
  line.socket.admit();
  await line.pass(30_000);

  expect(await waits(line)).toBe(500);
});

test("a ticket that cannot be had now is asked for again; nobody signed in is the end", async () => {
  let answer: () => Promise<object> = () => Promise.reject(new TypeError("fetch failed"));
  const line = new Line({ credentials: () => answer() });
  await line.pass();
  expect(line.client.state).toMatchObject({ status: "offline", closeCode: 0 });

  answer = () => Promise.reject(new SignedOut());
  await line.pass(60_000);

  expect(line.client.state).toMatchObject({ status: "stopped", closeCode: 4001 });
  expect(line.sockets).toHaveLength(0);
});

test("an attempt that gets no answer is given up after 15 s", async () => {
  const line = new Line();
  await line.pass(14_999);
  expect(line.client.state.status).toBe("connecting");
  await line.pass(1);
  expect(line.client.state).toMatchObject({ status: "offline", closeCode: 0 });

  expect(line.sockets[0]).toMatchObject({ isNew: false, onmessage: null });
});

test("heartbeats are answered, and a server that is silent for longer than that is given up", async () => {
  const line = new Line();
  const socket = await line.open();
  await line.pass(25_000);
  socket.say({});
  expect(socket.heard.at(-1)).toEqual({});

  await line.pass(34_999);
  expect(line.client.state.status).toBe("open");
  await line.pass(1);

  expect(line.client.state).toMatchObject({ closeCode: 4202 });
});

test("with the network back it connects without waiting, unless the server asked for the wait", async () => {
  const page = new EventTarget();
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
  vi.spyOn(Math, "random").mockReturnValue(1);
  const line = new Line();
  (await line.open()).drop(4100);
  page.dispatchEvent(new Event("online"));
  await line.pass();
  expect(line.sockets).toHaveLength(1);

  (await line.open()).drop(1006);
  page.dispatchEvent(new Event("online"));
  await line.pass();
  expect(line.sockets).toHaveLength(3);
  vi.unstubAllGlobals();
});

test("a connection that only looks as if it stood is found out when somebody looks at the page", async () => {
  const page = new EventTarget();
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
  const line = new Line();
  const socket = await line.open();
  socket.answer("ping", { server_time: 1 });
  page.dispatchEvent(new Event("pageshow"));
  socket.answer("ping", { server_time: 1 });
  await line.pass(5_000);
  expect(line.client.state.status).toBe("open");

  page.dispatchEvent(new Event("pageshow"));
  await line.pass(5_000);

  expect(line.client.state).toMatchObject({ closeCode: 4202 });
  vi.unstubAllGlobals();
});

test("a token that runs out is replaced on the connection that stands", async () => {
  const line = new Line({ token: async () => "newer" });
  const socket = await line.open();
  socket.say({ ctl: "token.expiring", d: { expires_in_s: 60 } });
  await line.pass();

  expect(socket.asked("refresh")[0]!.d).toEqual({ token: "newer" });
});

test("the server's time is told by the quickest answer, and does not follow this machine's clock", async () => {
  const line = new Line();
  await line.pass();
  line.socket.onopen!();
  await line.pass(400);
  line.socket.admit({}, { server_time: Date.now() + 60_000 });
  expect(line.client.serverNow() - Date.now()).toBe(60_200);
  await line.pass(20);
  line.socket.answer("ping", { server_time: Date.now() + 60_000 });
  expect(line.client.serverNow() - Date.now()).toBe(60_010);

  vi.setSystemTime(Date.now() + 3_600_000);

  expect(line.client.serverNow() - Date.now()).toBe(60_010 - 3_600_000);
});

test("a slower answer says less about the time than the one before it, until the machine may have slept", () => {
  const clock = new Clock();
  clock.sample(1_000_000, 20);
  clock.sample(2_000_000, 400);
  expect(clock.now()).toBe(1_000_010);
  clock.doubt();
  clock.sample(2_000_000, 400);

  expect(clock.now()).toBe(2_000_200);
});

test("closing while a ticket is fetched opens nothing", async () => {
  const line = new Line();
  line.client.close();
  await line.pass(60_000);

  expect(line.tickets).toBe(1);
  expect(line.sockets).toEqual([]);
});

test("a frame that is no JSON ends the connection and not the page", async () => {
  const line = new Line();
  const socket = await line.open();
  socket.onmessage!({ data: "<html>" });

  expect(line.client.state).toMatchObject({ status: "offline", closeCode: 1002 });
});

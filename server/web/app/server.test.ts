import { beforeEach, expect, it, vi } from "vitest";
import type { State } from "../client/src/index.ts";
import { seenAt } from "./seen";
import { call, closeSocket, connection, openSocket } from "./server";

const { socket } = vi.hoisted(() => ({ socket: { onState: vi.fn(), close: vi.fn(), call: vi.fn() } }));
vi.mock("../client/src/index.ts", async (original) => ({ ...(await original<object>()), connect: () => socket }));
vi.stubGlobal("location", { origin: "http://here" });

const stored = new Map<string, Response>();
const cache = {
  put: async (name: string, response: Response) => void stored.set(name, response),
  keys: async () => [...stored.keys()],
  delete: async (name: string) => stored.delete(name),
};
vi.stubGlobal("caches", { open: async () => cache, match: async (name: string) => stored.get(name)?.clone() });

const BEFORE = { balance: { amount: 100 } };
const NOW = { balance: { amount: 200 } };
const never = new Promise(() => undefined);

let become: (status: State["status"], closeCode?: number) => void;

beforeEach(() => {
  openSocket("an");
  become = (status, closeCode) => socket.onState.mock.lastCall?.[0]({ status, since: 0, closeCode, retryAt: undefined });
  become("open");
});

async function look(): Promise<void> {
  socket.call.mockResolvedValueOnce(BEFORE);
  await call("wallet.get", {});
  await vi.waitFor(() => expect(stored.size).toBe(1));
  socket.call.mockReset().mockReturnValue(never);
}

it("says nothing of a connection that was somebody's who has logged out", () => {
  become("stopped", 4001);
  expect(connection.value.closeCode).toBe(4001);

  closeSocket();

  expect(connection.value).toMatchObject({ status: "stopped", closeCode: undefined });
});

it("shows what was last seen while it waits for the connection, and asks for nothing else then", async () => {
  await look();
  const asked = call("wallet.get", {});

  become("offline");

  expect(await asked).toEqual(BEFORE);
  expect(seenAt.value).not.toBeNull();
  await expect(call("purchase.cancel", { purchase_id: "one" })).rejects.toMatchObject({ code: "offline" });
  socket.call.mockReset().mockResolvedValue({});
  expect(await call("room.leave", { room_id: "r" })).toEqual({});
});

it("asks again as soon as the connection is back, also who is told before anybody else", async () => {
  await look();
  become("offline");
  expect(await call("wallet.get", {})).toEqual(BEFORE);
  socket.call.mockReset().mockResolvedValue(NOW);

  const [seen, other] = [call("wallet.get", {}), call("earnings.get", {})];
  become("open");

  expect(await Promise.all([seen, other])).toEqual([NOW, NOW]);
  expect(seenAt.value).toBeNull();
});

it("does not show what was last seen when the connection is back by then", async () => {
  await look();
  become("offline");
  socket.call.mockReset().mockResolvedValue(NOW);

  const asked = call("wallet.get", {});
  become("open");

  expect(await asked).toEqual(NOW);
  expect(seenAt.value).toBeNull();
});

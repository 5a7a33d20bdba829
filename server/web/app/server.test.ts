import { beforeEach, expect, it, vi } from "vitest";
import type { State } from "../client/src/index.ts";
import { seenAt } from "./seen";
import { call, closeSocket, connection, openSocket } from "./server";

const { socket } = vi.hoisted(() => ({ socket: { onState: vi.fn(), close: vi.fn(), call: vi.fn() } }));
vi.mock("../client/src/index.ts", async (original) => ({ ...(await original<object>()), connect: () => socket }));
vi.stubGlobal("location", { origin: "http://here" });

let become: (state: State) => void;

beforeEach(() => {
  openSocket("an");
  become = socket.onState.mock.lastCall?.[0];
});

it("says nothing of a connection that was somebody's who has logged out", () => {
  become({ status: "stopped", since: 0, closeCode: 4001, retryAt: undefined });
  expect(connection.value.closeCode).toBe(4001);

  closeSocket();

  expect(connection.value).toMatchObject({ status: "stopped", closeCode: undefined });
});

it("asks the server for whatever is wanted as soon as the connection stands", async () => {
  become({ status: "offline", since: 0, closeCode: 1006, retryAt: undefined });
  seenAt.value = 1;
  await expect(call("room.join", { room_id: "r" })).rejects.toMatchObject({ code: "offline" });
  const asked: Promise<unknown>[] = [];
  const end = connection.subscribe(({ status }) => status === "open" && void asked.push(call("room.join", { room_id: "r" })));
  socket.call.mockResolvedValue("a seat");

  become({ status: "open", since: 0, closeCode: undefined, retryAt: undefined });

  expect(await Promise.all(asked)).toEqual(["a seat"]);
  end();
});

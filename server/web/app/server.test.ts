import { beforeEach, expect, it, vi } from "vitest";
import type { State } from "../client/src/index.ts";
import { closeSocket, connection, openSocket } from "./server";

const { socket } = vi.hoisted(() => ({ socket: { onState: vi.fn(), close: vi.fn() } }));
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

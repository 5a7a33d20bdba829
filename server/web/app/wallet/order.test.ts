import { beforeEach, expect, it, vi } from "vitest";
import { call, Refused } from "../server";
import { orders } from "./order";

vi.mock("../server", async (original) => ({ ...(await original<object>()), call: vi.fn() }));

const ASKED = { amount: { amount: 1_000, currency: "USD" as const }, way: "saved" as const, method_id: "card" };
const server = vi.mocked(call);
const keysSent = () => server.mock.calls.map(([, , options]) => options?.key);

beforeEach(() => server.mockReset());

it("is one order when its button is pressed twice, or again after nobody knows what became of it", async () => {
  const order = orders();
  server.mockRejectedValueOnce(new Refused("timeout_unknown_outcome", "")).mockResolvedValue({} as never);

  await Promise.allSettled([order(ASKED), order(ASKED)]);
  await order(ASKED);

  expect(new Set(keysSent()).size).toBe(1);
});

it("is another one after a card was declined, or with another amount", async () => {
  const order = orders();
  server.mockRejectedValueOnce(new Refused("card_declined", "")).mockResolvedValue({} as never);

  await expect(order(ASKED)).rejects.toThrow(Refused);
  await order(ASKED);
  await order({ ...ASKED, amount: { ...ASKED.amount, amount: 2_000 } });

  expect(new Set(keysSent()).size).toBe(3);
});

// @vitest-environment happy-dom
import { beforeEach, expect, it, vi } from "vitest";
import { call } from "../server";
import { me } from "../session";
import { press, show } from "../stage";
import type { Account } from "../wire";
import Packages from "./packages";

vi.mock("../server", async (original) => ({ ...(await original<object>()), call: vi.fn(), subscribe: () => () => undefined }));

const usd = (amount: number) => ({ amount, currency: "USD" });
const TERMS = { price: usd(10_000), sessions: 5, minutes: 60, validity_days: null, is_rolling: false };
const OFFER = { ...TERMS, id: "offer", tutor_id: "thao", tutor_name: "Thao", title: "Five evenings", description: "", per_session: usd(2_000) };
const QUOTE = { ...TERMS, option_id: "offer", terms: "terms", balance: usd(10_000), shortfall: usd(0), refund_rule: "" };
const server = vi.mocked(call as (op: string, d: unknown, options?: { key?: string }) => Promise<unknown>);

let answer: Promise<unknown>;

beforeEach(() => {
  me.value = { id: "mai", role: "student" } as Account;
  server.mockReset().mockImplementation(async (op) => {
    switch (op) {
      case "package_option.browse":
        return { items: [OFFER], next_cursor: null };
      case "package.list":
        return { items: [], next_cursor: null };
      case "package.quote":
        return QUOTE;
      default:
        return answer;
    }
  });
  show(<Packages />);
});

async function buy(): Promise<void> {
  await press("Buy “Five evenings”");
  await press("Pay $100.00");
}

const keys = () => server.mock.calls.filter(([op]) => op === "package.buy").map(([, , options]) => options?.key);

it("has the same key in a dialog that is opened again after an answer was never seen", async () => {
  answer = new Promise(() => undefined);
  await buy();
  await press("Cancel");

  await buy();

  const [first, second] = keys();
  expect(first).toBeDefined();
  expect(second).toBe(first);
});

it("asks once, however often the button is pressed before the answer", async () => {
  answer = new Promise(() => undefined);
  await press("Buy “Five evenings”");

  await press("Pay $100.00", 10);

  expect(keys()).toHaveLength(1);
});

it("has another key for the next purchase of the same offer", async () => {
  answer = Promise.resolve({ id: "package", title: "Five evenings", purchased: 5 });
  await buy();
  await press("Close");

  await buy();

  expect(new Set(keys()).size).toBe(2);
});

// @vitest-environment happy-dom
import { beforeEach, expect, it, vi } from "vitest";
import { zone } from "../format";
import { call, Refused } from "../server";
import { me } from "../session";
import { press, show } from "../stage";
import { speak } from "../texts";
import type { Account, TutorView } from "../wire";
import { Ask } from "./ask";
import { draft } from "./draft";

vi.mock("../server", async (original) => ({ ...(await original<object>()), call: vi.fn(), subscribe: () => () => undefined }));

const usd = (amount: number) => ({ amount, currency: "USD" });
const TUTOR = { id: "thao", name: "Thao", hourly_rate: usd(2_000), timezone: "Asia/Ho_Chi_Minh" } as TutorView;
const PACKAGE = { id: "pack", title: "Five evenings", minutes: 45, remaining: 4, expires_at: null };
const AT = "2026-11-28T10:00";
const server = vi.mocked(call as (op: string, d: Record<string, unknown>, options?: { key?: string }) => Promise<unknown>);

let balance: number;
let answer: () => Promise<unknown>;

beforeEach(() => {
  speak("en");
  sessionStorage.clear();
  history.replaceState(null, "", "/tutors/thao");
  me.value = { id: "mai", role: "student" } as Account;
  zone.value = "UTC";
  balance = 10_000;
  answer = async () => ({ id: "booking" });
  server.mockReset().mockImplementation(async (op, d) => {
    if (op !== "booking.quote") return answer();
    const price = (2_000 * Number(d["minutes"])) / 60;
    return { minutes: d["minutes"], price: usd(price), balance: usd(balance), shortfall: usd(Math.max(0, price - balance)), packages: [PACKAGE], cancel_rule: "The rule." };
  });
});

const field = <F extends HTMLElement = HTMLInputElement>(called: string) => vi.waitFor(() => found<F>(called));
const asked = () => server.mock.calls.filter(([op]) => op === "booking.request");
const text = () => document.body.textContent ?? "";

function found<F extends HTMLElement>(called: string): F {
  const one = document.querySelector<F>(`[name="${called}"]`);
  if (one === null) throw new Error(`no field ${called}`);
  return one;
}

async function fill(called: string, value: string): Promise<void> {
  const one = await field(called);
  one.value = value;
  one.dispatchEvent(new Event("input", { bubbles: true }));
  one.dispatchEvent(new Event("change", { bubbles: true }));
}

it("asks for what was quoted, and for the same under the same key when nobody answered", async () => {
  answer = () => Promise.reject(new Refused("timeout_unknown_outcome", "lost"));
  show(<Ask tutor={TUTOR} />);
  await fill("starts_at", AT);
  await fill("minutes", "30");
  await fill("topic", "Tones");

  await press("Ask for it: $10.00", 10);
  await vi.waitFor(() => expect(text()).toContain("The connection was lost"));
  await press("Ask for it: $10.00");

  const [first, second, ...more] = await vi.waitFor(() => (expect(asked()).toHaveLength(2), asked()));
  expect(first?.[1]).toEqual({ tutor_id: "thao", starts_at: "2026-11-28T10:00:00.000Z", minutes: 30, price: { amount: 1_000 }, topic: "Tones", notes: "" });
  expect(second?.[2]?.key).toBe(first?.[2]?.key);
  expect(more).toEqual([]);
});

it("takes a lesson of the package that the address names, which says how long it is", async () => {
  history.replaceState(null, "", "/tutors/thao?package=pack");
  show(<Ask tutor={TUTOR} />);
  await fill("starts_at", AT);

  expect(document.querySelector('[name="minutes"]')).toBeNull();
  expect(text()).toContain("The lessons of this package have 45 minutes.");
  await press("Ask for it: one lesson of the package");

  await vi.waitFor(() => expect(asked()).toHaveLength(1));
  expect(asked()[0]?.[1]).toEqual({ tutor_id: "thao", starts_at: "2026-11-28T10:00:00.000Z", package_id: "pack", topic: "", notes: "" });
});

it("leads to a top-up where money is missing, and has what was written after it", async () => {
  balance = 500;
  show(<Ask tutor={TUTOR} />);
  await fill("starts_at", AT);
  await fill("notes", "Slowly, please.");

  const link = await vi.waitFor(() => document.querySelector<HTMLAnchorElement>('a[href^="/wallet"]') as HTMLAnchorElement);
  expect(link.getAttribute("href")).toBe(`/wallet?amount=1500&next=${encodeURIComponent("/tutors/thao?ask")}`);
  expect(link.textContent).toBe("Top up $15.00");

  balance = 2_000;
  show(<Ask tutor={TUTOR} />);
  expect((await field("notes")).value).toBe("Slowly, please.");
  expect((await field("starts_at")).value).toBe(AT);
  await press("Ask for it: $20.00");
  await vi.waitFor(() => expect(draft.get("mai", "thao")).toEqual({}));
});

it.each([
  ["bad_request", "starts_at", "A time in the future, within a year."],
  ["slot_no_longer_available", "starts_at", "The tutor teaches at that time already."],
  ["package_ends_before", "starts_at", "The package ends before this lesson would begin."],
  ["student_is_busy", "starts_at", "You have a lesson at that time already."],
])("says %s at its field", async (code, at, words) => {
  answer = () => Promise.reject(new Refused(code as Refused["code"], "in English", code === "bad_request" ? { [at]: "in English" } : {}));
  show(<Ask tutor={TUTOR} />);
  await fill("starts_at", AT);
  await press("Ask for it: $20.00");

  await vi.waitFor(() => expect(found(at).getAttribute("aria-invalid")).toBe("true"));
  expect(text()).toContain(words);
});

it("shows the price anew that has changed meanwhile", async () => {
  answer = () => Promise.reject(new Refused("price_changed" as Refused["code"], "in English"));
  show(<Ask tutor={TUTOR} />);
  await fill("starts_at", AT);
  const before = server.mock.calls.filter(([op]) => op === "booking.quote").length;
  await press("Ask for it: $20.00");

  await vi.waitFor(() => expect(text()).toContain("The price is another now."));
  expect(server.mock.calls.filter(([op]) => op === "booking.quote").length).toBe(before + 1);
});

it("is for students; a guest is asked to log in, and a tutor is not asked", () => {
  me.value = null;
  show(<Ask tutor={TUTOR} />);
  expect(document.querySelector("a")?.getAttribute("href")).toBe(`/login?next=${encodeURIComponent("/tutors/thao?ask")}`);

  me.value = { id: "thao", role: "tutor" } as Account;
  show(<Ask tutor={TUTOR} />);
  expect(text()).toBe("");
});

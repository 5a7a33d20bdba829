// @vitest-environment happy-dom
import { beforeEach, expect, it, vi } from "vitest";
import { call } from "../server";
import { press, show } from "../stage";
import { speak } from "../texts";
import Courses from "./list";

vi.mock("../server", async (original) => ({ ...(await original<object>()), call: vi.fn() }));

const server = vi.mocked(call as (op: string, d: Record<string, unknown>) => Promise<unknown>);
const asked = () => server.mock.calls.map(([, { q, language }]) => ({ q, language }));

async function field<F extends HTMLElement>(called: string): Promise<F> {
  return vi.waitFor(() => {
    const found = document.querySelector<F>(`[aria-label="${called}"]:is(input, select)`);
    if (found === null) throw new Error(`no field ${called}`);
    return found;
  });
}

async function fill(called: string, value: string): Promise<void> {
  const one = await field<HTMLInputElement>(called);
  one.value = value;
  one.dispatchEvent(new Event("input", { bubbles: true }));
  one.dispatchEvent(new Event("change", { bubbles: true }));
}

async function shown(): Promise<void> {
  show(<Courses />);
  await vi.waitFor(() => expect(document.body.textContent).toContain("No course fits"));
}

beforeEach(() => {
  speak("en");
  server.mockReset();
  server.mockResolvedValue({ items: [], next_cursor: null });
});

it("searches for the words without the blanks around them, which stay where somebody types on", async () => {
  await shown();

  await fill("Search courses", "slow ");
  await vi.waitFor(() => expect(asked().at(-1)).toEqual({ q: "slow" }));
  // Only with the answer it is known that nothing is written into the field any more.
  await vi.waitFor(() => expect(server.mock.settledResults).toHaveLength(asked().length));

  expect((await field<HTMLInputElement>("Search courses")).value).toBe("slow ");
});

it("keeps one filter while another is chosen, and clears all at once", async () => {
  await shown();

  await fill("Search courses", "tones");
  await fill("Language", "vi");
  await vi.waitFor(() => expect(asked().at(-1)).toEqual({ q: "tones", language: "vi" }));
  await press("Clear the filters");

  await vi.waitFor(() => expect(asked().at(-1)).toEqual({}));
  expect((await field<HTMLInputElement>("Search courses")).value).toBe("");
});

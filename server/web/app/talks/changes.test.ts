import { expect, it } from "vitest";
import type { Shown } from "../server";
import type { ListedTalk, TalkPage } from "../wire";
import { after } from "./changes";

const talk = (id: string, created: number, more: Partial<ListedTalk> = {}) =>
  ({ id, created_at: `2030-01-07T12:0${created}:00Z`, language: "en", level: null, topic: null, region: null, title: id, ...more }) as ListedTalk;
const event = (ev: string, d: unknown) => ({ ch: "lobby:talks", ev, ts: 0, d }) as unknown as Shown;
const page = (...items: ListedTalk[]): TalkPage => ({ items, next_cursor: null, region: null });
const ids = (found: TalkPage | "ask") => (found === "ask" ? found : found.items.map(({ id }) => id));

it("puts a new talk where the list has it: the newest first", () => {
  expect(ids(after(page(talk("b", 3), talk("a", 1)), event("talk.listed", talk("new", 2)), {}))).toEqual(["b", "new", "a"]);
  expect(ids(after(page(), event("talk.listed", talk("new", 2)), {}))).toEqual(["new"]);
});

it("leaves to a later page what is older than this one ends", () => {
  const full = { ...page(talk("b", 3)), next_cursor: "more" };
  expect(after(full, event("talk.listed", talk("old", 1)), {})).toBe(full);
});

it("shows what changed in place, and takes away what is gone", () => {
  const before = page(talk("b", 3), talk("a", 1));
  const changed = after(before, event("talk.listed", talk("a", 1, { title: "Another" })), {});
  expect(changed === "ask" ? changed : changed.items.map(({ title }) => title)).toEqual(["b", "Another"]);
  expect(ids(after(before, event("talk.unlisted", { id: "b" }), { language: "en" }))).toEqual(["a"]);
  expect(after(before, event("talk.unlisted", { id: "elsewhere" }), {})).toBe(before);
});

it("asks for what moves up where a talk is gone from a full page", () => {
  expect(after({ ...page(talk("b", 3)), next_cursor: "more" }, event("talk.unlisted", { id: "b" }), {})).toBe("ask");
});

it("asks nobody for a talk that does not fit", () => {
  const before = page(talk("a", 1));
  expect(after(before, event("talk.listed", talk("new", 2, { language: "vi" })), { language: "EN" })).toBe(before);
  expect(after(before, event("talk.listed", talk("new", 2)), { language: "EN", level: "B1" })).toBe(before);
  expect(after(before, event("talk.listed", talk("new", 2)), { language: "EN" })).toBe("ask");
});

it("asks the server where a filter decides, but not for a seat that is taken", () => {
  const before = page(talk("a", 1));
  expect(after(before, event("talk.listed", talk("new", 2)), { language: "en" })).toBe("ask");
  expect(after(before, event("talk.listed", talk("a", 1, { language: "vi" })), { language: "en" })).toBe("ask");
  expect(ids(after(before, event("talk.listed", talk("a", 1, { title: "Another" })), { language: "en" }))).toEqual(["a"]);
});

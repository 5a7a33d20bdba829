// @vitest-environment happy-dom
import { beforeEach, expect, it, vi } from "vitest";
import { call, Refused } from "../server";
import { me } from "../session";
import { press, show } from "../stage";
import { speak } from "../texts";
import type { Account, ListedTalk } from "../wire";
import { JoinAny } from "./any";

vi.mock("../server", async (original) => ({ ...(await original<object>()), call: vi.fn() }));

const server = vi.mocked(call as (op: string, d: object) => Promise<unknown>);
const talk = (id: string, more: Partial<ListedTalk> = {}) => ({ room_id: id, host: { user_id: "thao", name: "Thao" }, seats: { total: 4, taken: 2 }, ...more }) as ListedTalk;
const tried = () => server.mock.calls.filter(([op]) => op === "room.join").map(([, d]) => d);

/** What the lists have, and what becomes of whoever wants to come in. */
function given(free: ListedTalk[], full: ListedTalk[], refused: Record<string, Refused> = {}): void {
  server.mockImplementation(async (op, d) => {
    if (op === "talk.list") return { items: (d as { full: boolean }).full ? full : free, next_cursor: null, region: null };
    const why = refused[(d as { room_id: string }).room_id];
    if (why !== undefined) throw why;
    return {};
  });
}

async function joinAny(): Promise<void> {
  show(<JoinAny filter={{ language: "vi" }} />);
  await press("Join any");
}

beforeEach(() => {
  server.mockReset();
  speak("en");
  me.value = { id: "an" } as Account;
  history.replaceState(null, "", "/");
});

it("takes the next talk where the first has become full", async () => {
  given([talk("a"), talk("b")], [], { a: new Refused("room_full", "") });

  await joinAny();

  await vi.waitFor(() => expect(location.pathname).toBe("/rooms/b"));
  expect(server).toHaveBeenCalledWith("talk.list", { language: "vi", full: false });
});

it("waits before the first that is full where none has a seat", async () => {
  given([], [talk("c"), talk("d")]);

  await joinAny();

  await vi.waitFor(() => expect(location.pathname).toBe("/rooms/c"));
  expect(tried()).toEqual([{ room_id: "c", queue: true }]);
});

it("goes neither into an own talk nor into one where nobody is, and offers to start one", async () => {
  given([talk("own", { host: { user_id: "an", name: "An" } }), talk("later", { seats: { total: 4, taken: 0 } })], []);

  await joinAny();

  await vi.waitFor(() => expect(document.querySelector("dialog")?.textContent).toContain("Start a talk"));
  expect(tried()).toEqual([]);
});

it("tries nothing more where the server cannot be reached", async () => {
  given([talk("a"), talk("b")], [], { a: new Refused("offline", "") });

  await joinAny();

  await vi.waitFor(() => expect(document.querySelector("button")?.disabled).toBe(false));
  expect(tried()).toHaveLength(1);
  expect(location.pathname).toBe("/");
});

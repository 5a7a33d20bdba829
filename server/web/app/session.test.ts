import { beforeEach, expect, it, vi } from "vitest";
import type { Account } from "./wire";

const { server } = vi.hoisted(() => ({
  server: { call: vi.fn(), authenticateBy: vi.fn(), openSocket: vi.fn(), closeSocket: vi.fn() },
}));
vi.mock("./server", () => server);

type Bearer = (isRefused?: boolean) => Promise<string | null>;

const account = (id: string) => ({ id, timezone: "UTC", locale: "en" }) as Account;
const tokens = (id: string) => ({ user: account(id), access_token: `token of ${id}`, expires_in_s: 1_800 });

let session: typeof import("./session");
let bearer: Bearer;
/** What another tab says comes in here. */
let heard: () => void;
const said = vi.fn();

beforeEach(async () => {
  vi.resetModules();
  const kept = new Map<string, string>();
  vi.stubGlobal("localStorage", {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => kept.set(name, value),
    removeItem: (name: string) => kept.delete(name),
  });
  vi.stubGlobal("navigator", { languages: ["en"] });
  vi.stubGlobal(
    "BroadcastChannel",
    class {
      addEventListener = (_: string, hear: () => void) => (heard = hear);
      postMessage = said;
    },
  );
  for (const mock of [...Object.values(server), said]) mock.mockReset();
  session = await import("./session");
  bearer = server.authenticateBy.mock.calls[0]?.[0] as Bearer;
  server.call.mockResolvedValueOnce(tokens("an"));
  await session.logIn({ email: "an@example.org", password: "" });
});

it("is somebody else's where somebody else has logged in in another tab", async () => {
  server.call.mockResolvedValueOnce(tokens("binh"));

  heard();

  await vi.waitFor(() => expect(session.me.value?.id).toBe("binh"));
  expect(server.openSocket).toHaveBeenLastCalledWith("binh");
});

it("is somebody else's too in a tab that was frozen and heard nothing of it", async () => {
  server.call.mockResolvedValueOnce(tokens("binh"));

  expect(await bearer(true)).toBe("token of binh");

  expect(session.me.value?.id).toBe("binh");
  expect(server.openSocket).toHaveBeenLastCalledWith("binh");
});

it("goes on with the token that came with a new password, and tells the other tabs", async () => {
  said.mockReset();
  server.call.mockResolvedValueOnce({ ...account("an"), access_token: "newer", expires_in_s: 1_800, refresh_token: "" });

  await session.update({ current_password: "a", password: "b" });

  expect(await bearer()).toBe("newer");
  expect(session.me.value?.id).toBe("an");
  expect(server.openSocket).toHaveBeenCalledTimes(1);
  expect(server.closeSocket).not.toHaveBeenCalled();
  expect(said).toHaveBeenCalledOnce();
});

it("is nobody's once the server says that it is over", async () => {
  server.call.mockRejectedValueOnce({ code: "unauthorized" });

  expect(await bearer(true)).toBeNull();

  expect(session.me.value).toBeNull();
  expect(server.closeSocket).toHaveBeenCalled();
});

/**
 * The server, as the client sees it: commands, channels, and how the connection is. The only module that knows how they
 * travel: over the socket for who is logged in, by HTTP for everybody else and for what is no operation of the socket.
 */
import { signal } from "@preact/signals";
import { CallError, type Client, connect, type EventOf, type Published, SignedOut, type State } from "../client/src/index.ts";
import { isSeen, recall, see, seenAt, showSeen } from "./seen";
import { type ErrorCode, type Events, HTTP, type Id, type Operations } from "./wire";

export type Op = keyof Operations;
export type Asked<O extends Op> = Operations[O]["d"];
export type Answer<O extends Op> = Operations[O]["ok"];
export type ChannelName = "lobby:talks" | `room:${Id}` | `user:${Id}` | `presence:room:${Id}`;
// An interface has no signature of its names, and a mapped type has.
type Ops = { [O in Op]: Operations[O] };
type Evs = { [E in keyof Events]: Events[E] };
/** One event of a channel; `off` is missing where it is volatile. */
export type Shown = EventOf<Evs>;
export interface Listener {
  /** What the channel stands for has to be fetched: at the start, and when too much was missed. */
  onReset: () => void;
  onEvent: (event: Shown) => void;
}
/** The server's no. `code` is for programs, `message` in the server's words, `fields` what is wrong with which field. */
export class Refused extends Error {
  constructor(
    readonly code: ErrorCode | "offline",
    message: string,
    readonly fields: Readonly<Record<string, string>> = {},
    readonly facts: Readonly<Record<string, unknown>> = {},
    cause?: CallError,
  ) {
    super(message, { cause });
  }
}

/** The code of the server's no; empty for any other trouble. */
export function codeOf(error: unknown): Refused["code"] | "" {
  return error instanceof Refused ? error.code : "";
}

export const connection = signal<State>(at("stopped"));
/** Rises when the server can be reached again: what did not come before, or only as it was seen, may be asked for. */
export const returned = signal(0);
globalThis.addEventListener?.("online", () => {
  returned.value += 1;
});

let client: Client<Ops, Evs> | null = null;
type Bearer = (isRefused?: boolean) => Promise<string | null>;
let bearer: Bearer = async () => null;

/** Say who holds the access token: `session.ts`. It is told when the server refused the one that it gave. */
export function authenticateBy(token: Bearer): void {
  bearer = token;
}

/**
 * Ask the server for something. With a `key` a change happens once, however often it is asked for.
 *
 * Without the server what is read most is answered as it was last seen, and while such answers are shown nothing else is asked.
 */
export async function call<O extends Op>(op: O, d: Asked<O>, options: { key?: string } = {}): Promise<Answer<O>> {
  if (isOverHttpOnly(op)) return byHttp(op, d, options.key);
  // A socket tells those who follow that it is open before it has that state.
  if (seenAt.peek() !== null) await undefined;
  const isAway = client !== null && seenAt.peek() !== null;
  // Who leaves a room means it whenever it can be said.
  if (!isSeen(op, d)) return isAway && op !== "room.leave" ? Promise.reject(away()) : ask(op, d, options);
  const asked = isAway ? Promise.reject(away()) : ask(op, d, options);
  asked.then((answer) => void see(op, d, answer), () => undefined);
  try {
    return await whileThere(asked);
  } catch (error) {
    if (codeOf(error) !== "offline") throw error;
    const seen = await recall(op, d);
    const { status } = connection.peek();
    if (seen !== undefined && (client === null ? status === "offline" : status !== "open")) return showSeen(seen);
    return isAway ? ask(op, d, options) : asked;
  }
}

/** Wait no longer than the connection lasts. */
async function whileThere<T>(asked: Promise<T>): Promise<T> {
  const ends: (() => void)[] = [];
  const lost = new Promise<never>((_, refuse) => {
    ends.push(connection.subscribe(({ status }) => status === "offline" && refuse(away())));
  });
  try {
    return await Promise.race([asked, lost]);
  } finally {
    for (const end of ends) end();
  }
}

async function ask<O extends Op>(op: O, d: Asked<O>, options: { key?: string }): Promise<Answer<O>> {
  if (client === null) return byHttp(op, d, options.key);
  try {
    return await client.call(op, d, options);
  } catch (error) {
    throw refusal(error);
  }
}

/** Say something to a channel. It waits for a connection, and is said once and in its order whatever happens to that. */
export async function say<O extends Op>(ch: ChannelName, op: O, d: Asked<O>): Promise<Answer<O>> {
  try {
    return await required().send(op, d, { ch });
  } catch (error) {
    throw refusal(error);
  }
}

/** Say something that is worth nothing later: nobody answers, and without a connection it is dropped. */
export function tell<O extends Op>(ch: ChannelName, op: O, d: Asked<O>): void {
  client?.tell(op, d, { ch });
}

/** Save a file that the server makes, by the name that it has there, or else by this one. */
export async function download(path: string, name: string): Promise<void> {
  const token = await bearer();
  const response = await fetch(`/api/v1${path}`, { headers: token === null ? {} : { Authorization: `Bearer ${token}` } }).catch(() => {
    throw away();
  });
  if (!response.ok) {
    const body = await response.json();
    throw new Refused(body.code, body.detail);
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = /filename="?([^";]+)/.exec(response.headers.get("content-disposition") ?? "")?.[1] ?? name;
  link.click();
  // The browser has begun to save it, and needs the address no more.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Follow a channel until the returned function is called. Nobody who is not logged in can. */
export function subscribe(channel: ChannelName, { onReset, onEvent }: Listener): () => void {
  // Who follows fetches by itself, whenever it is told to.
  return client?.subscribe(channel, { load: () => Promise.resolve(), onSnapshot: onReset, onEvent }) ?? (() => undefined);
}

/** Hear events of a name, of whatever channel; those of the own channel come unasked. */
export function on<N extends keyof Events>(name: N, handler: (event: Published<N, Events[N]>) => void): () => void {
  return client?.on(name, handler) ?? (() => undefined);
}

/** Milliseconds of the Unix epoch by the server's clock. */
export function serverNow(): number {
  return client?.serverNow() ?? Date.now();
}

/** How long the server keeps the seat of somebody whose connection is gone; undefined before the first connection. */
export function seatGraceMs(): number | undefined {
  const { seat_grace_s } = client?.limits ?? {};
  return seat_grace_s === undefined ? undefined : seat_grace_s * 1000;
}

/** Connect as somebody; all tabs of one browser that do share one connection. */
export function openSocket(userId: Id): void {
  closeSocket();
  client = connect<Ops, Evs>({
    url: `${location.origin.replace(/^http/, "ws")}/ws`,
    ticket: async () => {
      try {
        return await ticket();
      } catch (error) {
        if (!["unauthorized", "token_expired"].includes(codeOf(error))) throw error;
        // Another role, or a new password, ends the access token before its time; the session may go on.
        if ((await bearer(true)) === null) throw new SignedOut();
        return ticket();
      }
    },
    token: async () => {
      const token = await bearer();
      if (token === null) throw new SignedOut();
      return token;
    },
    // Its name keeps the connection of who was here before from whoever logs in next.
    worker: () => new SharedWorker(SOCKET_WORKER, { type: "module", name: userId }),
    client: { name: "web", version: "1" },
  });
  client.onState((state) => {
    // Before anybody hears of it: what they ask then is for the server.
    if (state.status === "open") seenAt.value = null;
    connection.value = state;
    if (state.status === "open") returned.value += 1;
  });
}

async function ticket(): Promise<string> {
  return (await byHttp("auth.ticket", {})).ticket;
}

export function closeSocket(): void {
  client?.close();
  client = null;
  // However that connection ended, it is nobody's any more.
  connection.value = at("stopped");
}

type Route = readonly ["GET" | "PATCH" | "POST", string];
// A new password brings a new refresh cookie, which only HTTP can set; so do what ends all sessions.
const routes: Partial<Record<Op, Route>> = { ...HTTP, "me.update": ["PATCH", "/me"], "login.end_all": ["POST", "/me/logins/end"] };

function isOverHttpOnly(op: Op): boolean {
  return op.startsWith("auth.") || op === "me.update" || op === "login.end_all";
}

async function byHttp<O extends Op>(op: O, d: Asked<O>, key?: string): Promise<Answer<O>> {
  const route = routes[op];
  if (route === undefined) throw new Refused("unauthorized", "log in first");
  const [method, template] = route;
  const rest = new Map(Object.entries(d).filter(([, value]) => value !== undefined && value !== null));
  const path = template.replace(/{(\w+)}/g, (_, name: string) => {
    const value = String(rest.get(name));
    rest.delete(name);
    return encodeURIComponent(value);
  });
  const query = new URLSearchParams([...rest].map(([name, value]) => [name, String(value)]));
  // A refresh is asked for by who holds no token, and must not wait for itself.
  const token = op === "auth.refresh" ? null : await bearer();
  const request: RequestInit = {
    method,
    // A refresh that dies with its page takes the new cookie along, and the old one works no more.
    keepalive: op === "auth.refresh",
    headers: {
      ...(method === "GET" ? {} : { "Content-Type": "application/json" }),
      ...(token === null ? {} : { Authorization: `Bearer ${token}` }),
      ...(key === undefined ? {} : { "Idempotency-Key": key }),
    },
    ...(method === "GET" ? {} : { body: JSON.stringify(Object.fromEntries(rest)) }),
  };
  const address = `/api/v1${path}${method === "GET" && query.size > 0 ? `?${query}` : ""}`;
  const response = await fetch(address, request).catch(() => {
    become("offline");
    throw away();
  });
  if (client === null && connection.peek().status === "offline") {
    seenAt.value = null;
    returned.value += 1;
  }
  become("stopped");
  const body = await response.json();
  if (!response.ok) throw new Refused(body.code, body.detail, byField(body.errors ?? []), body.facts ?? {});
  return body;
}

/** Without a socket the requests tell how the connection is. */
function become(status: "offline" | "stopped"): void {
  if (client === null && connection.value.status !== status) connection.value = at(status);
}

function away(): Refused {
  return new Refused("offline", "the server cannot be reached");
}

function at(status: "offline" | "stopped"): State {
  return { status, since: Date.now(), closeCode: undefined, retryAt: undefined };
}

function required(): Client<Ops, Evs> {
  if (client === null) throw new Refused("unauthorized", "log in first");
  return client;
}

type FieldErrors = readonly { field: string; message: string }[];

function refusal(error: unknown): unknown {
  if (!(error instanceof CallError)) return error;
  const data: { code?: ErrorCode; errors?: FieldErrors } = error.data ?? {};
  // The client's own word for "no connection" is the server's for a door that is shut.
  const isOffline = error.name === "not_available" && error.retryable;
  const code = isOffline ? "offline" : (data.code ?? (error.name as ErrorCode));
  return new Refused(code, error.message, byField(data.errors ?? []), error.data ?? {}, error);
}

function byField(errors: FieldErrors): Record<string, string> {
  return Object.fromEntries(errors.map(({ field, message }) => [field, message]));
}

/**
 * The server, as the client sees it: commands, channels, and how the connection is. The only module that knows how they
 * travel: over the socket for who is logged in, by HTTP for everybody else and for what is no operation of the socket.
 */
import { signal } from "@preact/signals";
import { type Client, connect, type State } from "./standin";
import { type ErrorCode, type Events, HTTP, type Id, type Operations } from "./wire";

export type Op = keyof Operations;
export type Asked<O extends Op> = Operations[O]["d"];
export type Answer<O extends Op> = Operations[O]["ok"];
export type ChannelName = `room:${Id}` | `user:${Id}` | `presence:room:${Id}`;
/** One event of a channel; `off` is missing where it is volatile. */
export type Shown = { [Ev in keyof Events]: { ch: string; ev: Ev; off?: number; ts: number; d: Events[Ev] } }[keyof Events];
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
  ) {
    super(message);
  }
}

export const connection = signal<State>({ status: "stopped", since: Date.now(), closeCode: null });

let client: Client | null = null;
let bearer: () => Promise<string | null> = async () => null;

/** Say who holds the access token: `session.ts`. */
export function authenticateBy(token: () => Promise<string | null>): void {
  bearer = token;
}

/** Ask the server for something. With a `key` a change happens once, however often it is asked for. */
export async function call<O extends Op>(op: O, d: Asked<O>, options: { key?: string } = {}): Promise<Answer<O>> {
  if (client === null || isOverHttpOnly(op)) return byHttp(op, d, options.key);
  try {
    return (await client.call(op, d, options)) as Answer<O>;
  } catch (error) {
    throw refusal(error);
  }
}

/** Save a file that the server makes, by the name that it has there, or else by this one. */
export async function download(path: string, name: string): Promise<void> {
  const token = await bearer();
  const response = await fetch(`/api/v1${path}`, { headers: token === null ? {} : { Authorization: `Bearer ${token}` } }).catch(() => {
    throw new Refused("offline", "the server cannot be reached");
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
export function subscribe(channel: ChannelName, listener: Listener): () => void {
  return (
    client?.subscribe(channel, {
      onSnapshot: listener.onReset,
      onReset: listener.onReset,
      onEvent: (event) => listener.onEvent(event as Shown),
    }) ?? (() => undefined)
  );
}

/** Milliseconds of the Unix epoch by the server's clock. */
export function serverNow(): number {
  return client?.serverNow() ?? Date.now();
}

export function openSocket(): void {
  closeSocket();
  client = connect({
    url: `${location.origin.replace(/^http/, "ws")}/ws`,
    ticket: async () => (await byHttp("auth.ticket", {})).ticket,
  });
  client.onState((state) => {
    connection.value = state;
  });
}

export function closeSocket(): void {
  client?.stop();
  client = null;
  become("stopped");
}

type Route = readonly ["GET" | "POST", string];
const routes: Partial<Record<Op, Route>> = HTTP;

function isOverHttpOnly(op: Op): boolean {
  return op.startsWith("auth.");
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
    headers: {
      ...(method === "POST" ? { "Content-Type": "application/json" } : {}),
      ...(token === null ? {} : { Authorization: `Bearer ${token}` }),
      ...(key === undefined ? {} : { "Idempotency-Key": key }),
    },
    ...(method === "POST" ? { body: JSON.stringify(Object.fromEntries(rest)) } : {}),
  };
  const address = `/api/v1${path}${method === "GET" && query.size > 0 ? `?${query}` : ""}`;
  const response = await fetch(address, request).catch(() => {
    become("offline");
    throw new Refused("offline", "the server cannot be reached");
  });
  become("stopped");
  const body = await response.json();
  if (!response.ok) throw new Refused(body.code, body.detail, byField(body.errors ?? []), body.facts ?? {});
  return body;
}

/** Without a socket the requests tell how the connection is. */
function become(status: "offline" | "stopped"): void {
  if (client === null && connection.value.status !== status) connection.value = { status, since: Date.now(), closeCode: null };
}

interface SocketError {
  name: ErrorCode;
  message: string;
  d?: { code?: ErrorCode; errors?: FieldErrors } & Record<string, unknown>;
}
type FieldErrors = readonly { field: string; message: string }[];

function refusal(error: unknown): unknown {
  if (!(error instanceof Error) || !("d" in error || "code" in error)) return error;
  const { name, message, d } = error as Error & SocketError;
  return new Refused(d?.code ?? name, message, byField(d?.errors ?? []), d ?? {});
}

function byField(errors: FieldErrors): Record<string, string> {
  return Object.fromEntries(errors.map(({ field, message }) => [field, message]));
}

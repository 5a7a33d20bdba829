/** The smallest client of the socket that the pages can stand on: it connects again, asks and listens, and resumes nothing. */

export interface State {
  status: "connecting" | "open" | "offline" | "stopped";
  /** Milliseconds of the Unix epoch. */
  since: number;
  closeCode: number | null;
}

export interface Frame {
  ch: string;
  ev: string;
  off?: number;
  ts: number;
  d: unknown;
}

export interface Handlers {
  onSnapshot: (at: { epoch: string; off: number }) => void;
  onEvent: (event: Frame) => void;
  onReset: () => void;
}

export interface Client {
  call: (op: string, d: unknown, options?: { key?: string }) => Promise<unknown>;
  subscribe: (channel: string, handlers: Handlers) => () => void;
  onState: (listener: (state: State) => void) => () => void;
  serverNow: () => number;
  stop: () => void;
}

interface Err {
  code: number;
  name: string;
  message: string;
  d?: Record<string, unknown>;
}

interface Pending {
  resolve: (ok: unknown) => void;
  reject: (error: Error) => void;
}

// Close codes below 4100 say that coming again is no use; 4001 and 4007 that it is, with a new ticket.
const isFinal = (code: number) => code >= 4000 && code < 4100 && code !== 4001 && code !== 4007;
const PAUSE_MS = 500;
const PAUSE_MAX_MS = 30_000;

export function connect(options: { url: string; ticket: () => Promise<string> }): Client {
  let socket: WebSocket | null = null;
  let state: State = { status: "connecting", since: Date.now(), closeCode: null };
  let lastId = 0;
  let failures = 0;
  let skew = 0;
  let timer = 0;
  const pending = new Map<number, Pending>();
  const waiting = new Set<() => void>();
  const channels = new Map<string, Set<Handlers>>();
  const listeners = new Set<(state: State) => void>();

  function become(status: State["status"], closeCode: number | null = null): void {
    if (state.status === "stopped") return;
    state = { status, since: Date.now(), closeCode };
    for (const listener of listeners) listener(state);
  }

  function ask(op: string, d: unknown, more: object = {}): Promise<unknown> {
    lastId += 1;
    const id = lastId;
    return new Promise((resolve, reject) => {
      pending.set(id, { resolve, reject });
      socket?.send(JSON.stringify({ id, op, d, ...more }));
    });
  }

  async function open(): Promise<void> {
    let ticket: string;
    try {
      ticket = await options.ticket();
    } catch {
      later(0);
      return;
    }
    if (state.status === "stopped") return;
    socket = new WebSocket(options.url, "fourtalk.v1.json");
    socket.addEventListener("open", async () => {
      const hello = (await ask("connect", { ticket, client: { name: "web", version: "1" } }).catch(() => null)) as {
        server_time: number;
      } | null;
      if (hello === null) return;
      skew = hello.server_time - Date.now();
      failures = 0;
      become("open");
      for (const go of waiting) go();
      waiting.clear();
      for (const channel of channels.keys()) void follow(channel);
    });
    socket.addEventListener("message", ({ data }) => {
      for (const line of String(data).split("\n")) take(JSON.parse(line));
    });
    socket.addEventListener("close", ({ code }) => {
      for (const { reject } of pending.values()) reject(failure({ code: 132, name: "timeout_unknown_outcome", message: "the connection was lost" }));
      pending.clear();
      if (isFinal(code)) {
        become("stopped", code);
        state = { ...state, status: "stopped" };
      } else later(code);
    });
  }

  function later(code: number): void {
    if (state.status === "stopped") return;
    become("offline", code);
    const most = Math.min(PAUSE_MAX_MS, PAUSE_MS * 2 ** failures);
    failures += 1;
    timer = setTimeout(() => void open(), Math.random() * most);
  }

  function take(message: Partial<Frame> & { id?: number; ok?: unknown; err?: Err; ctl?: string; d?: unknown }): void {
    if (message.id !== undefined) {
      const asked = pending.get(message.id);
      pending.delete(message.id);
      if (message.err === undefined) asked?.resolve(message.ok);
      else asked?.reject(failure(message.err));
    } else if (message.ev !== undefined && message.ch !== undefined) {
      for (const handlers of channels.get(message.ch) ?? []) handlers.onEvent(message as Frame);
    } else if (message.ctl === "reset") {
      for (const handlers of channels.get((message.d as { ch: string }).ch) ?? []) handlers.onReset();
    } else if (Object.keys(message).length === 0) socket?.send("{}");
  }

  async function follow(channel: string): Promise<void> {
    const at = (await ask("subscribe", { ch: channel }, { ch: channel }).catch(() => null)) as { epoch: string; off: number } | null;
    if (at !== null) for (const handlers of channels.get(channel) ?? []) handlers.onSnapshot(at);
  }

  void open();
  addEventListener("online", () => {
    if (state.status !== "offline") return;
    clearTimeout(timer);
    void open();
  });

  return {
    async call(op, d, more = {}) {
      if (state.status !== "open") await new Promise<void>((go) => waiting.add(go));
      return ask(op, d, more);
    },
    subscribe(channel, handlers) {
      const followers = channels.get(channel) ?? new Set();
      channels.set(channel, followers.add(handlers));
      if (followers.size === 1 && state.status === "open") void follow(channel);
      return () => {
        followers.delete(handlers);
        if (followers.size > 0 || channels.get(channel) !== followers) return;
        channels.delete(channel);
        if (state.status === "open") void ask("unsubscribe", { ch: channel }, { ch: channel }).catch(() => undefined);
      };
    },
    onState(listener) {
      listeners.add(listener);
      listener(state);
      return () => listeners.delete(listener);
    },
    serverNow: () => Date.now() + skew,
    stop() {
      become("stopped");
      clearTimeout(timer);
      socket?.close(1000);
    },
  };
}

function failure({ code, name, message, d }: Err): Error {
  return Object.assign(new Error(message), { code, name, d: d ?? {} });
}

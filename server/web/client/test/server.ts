/** The other end of the line, as a test plays it. */
import { vi } from "vitest";
import { Client, type EventMap, type OpMap, type Options } from "../src/client.ts";
import type { Link, Socket } from "../src/engine.ts";

export const ME = "user:me";

export interface Heard {
  id?: number;
  op?: string;
  ch?: string;
  key?: string;
  d?: any;
}

export class FakeSocket implements Socket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  heard: Heard[] = [];
  /** Nobody has been let in on it, and it stands. */
  isNew = true;
  answersPings = false;

  send(text: string): void {
    const heard: Heard = JSON.parse(text);
    this.heard.push(heard);
    if (this.answersPings && heard.op === "ping") this.say({ id: heard.id, ok: { server_time: Date.now() } });
  }

  close(): void {
    this.isNew = false;
  }

  /** Say some messages in one frame. */
  say(...messages: object[]): void {
    this.onmessage?.({ data: messages.map((message) => JSON.stringify(message)).join("\n") });
  }

  drop(code = 1006): void {
    this.isNew = false;
    this.onclose?.({ code });
  }

  /** What was asked with an operation, in order. */
  asked(op: string): Heard[] {
    return this.heard.filter((one) => one.op === op);
  }

  /** Answer the last request with an operation. */
  answer(op: string, ok: object): void {
    this.say({ id: this.asked(op).at(-1)!.id, ok });
  }

  refuse(op: string, code: number, name: string, more: object = {}): void {
    this.say({ id: this.asked(op).at(-1)!.id, err: { code, name, message: name, ...more } });
  }

  /** Open the socket and answer `connect`. */
  admit(subs: Record<string, object> = {}, more: object = {}): void {
    this.isNew = false;
    if (this.heard.length === 0) this.onopen!();
    const own = { epoch: "own", off: 0, recovered: false, events: [], more: false };
    this.answer("connect", {
      conn: "c",
      user: { id: "me", role: "student" },
      server_time: Date.now(),
      ping_s: 25,
      pong_s: 10,
      limits: { frame_bytes: 32_768, seat_grace_s: 20 },
      subs: { [ME]: own, ...subs },
      ...more,
    });
  }
}

/** A client and the sockets that it opens. */
export class Line<Ops extends OpMap = OpMap, Events extends EventMap = EventMap> {
  sockets: FakeSocket[] = [];
  tickets = 0;
  client: Client<Ops, Events>;

  constructor(options: Partial<Options> & Partial<Link> = {}) {
    const link: Link = {
      credentials: async () => ({ ticket: `ticket ${++this.tickets}` }),
      open: () => {
        const socket = new FakeSocket();
        this.sockets.push(socket);
        return socket;
      },
      ...options,
    };
    this.client = new Client(link, options);
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1)!;
  }

  /** Let time pass, and whatever is due happen. */
  async pass(ms = 0): Promise<void> {
    await vi.advanceTimersByTimeAsync(ms);
  }

  /** Wait for the next socket, and let it in. */
  async open(subs: Record<string, object> = {}, more: object = {}): Promise<FakeSocket> {
    await this.pass();
    for (let tries = 0; !this.socket?.isNew && tries < 100; tries++) await this.pass(500);
    this.socket.admit(subs, more);
    await this.pass();
    return this.socket;
  }
}

export function event(ch: string, off: number | undefined, text = `${off}`): object {
  return { ch, off, ev: "message.created", ts: 1, d: { text } };
}

export function sub(off: number, more: object = {}): object {
  return { epoch: "e", off, recovered: false, events: [], more: false, ...more };
}

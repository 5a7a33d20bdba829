/**
 * One connection that comes back by itself: requests and answers, channels and their positions, heartbeat and back-off.
 *
 * Everything an answer changes is changed before the next message is looked at, hence callbacks and not promises: a room's
 * events may follow the answer to `room.join` in the same frame.
 */
import { BACKOFF, type Backoff, delayOf } from "./backoff.ts";
import { Clock } from "./clock.ts";
import * as wire from "./wire.ts";
import { CallError, type Connected, type Opened, type Position, type Published, type Said } from "./wire.ts";

/** The part of a WebSocket that is used; a port to the shared worker has it too. */
export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((event: { data: string }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  send(text: string): void;
  close(): void;
}

/** Where connections come from. */
export interface Link {
  /** What `connect` says of who we are; asked for before each connection. */
  credentials(): Promise<object>;
  open(): Socket;
  /** A newer access token for the connection that stands. */
  token?: (() => Promise<string>) | undefined;
  /** What another connection needs to say who we are: the shared worker asks its tabs. */
  supply?: (kind: string) => Promise<object>;
}

export type Status = "connecting" | "open" | "offline" | "stopped";

export interface State {
  status: Status;
  /** When it became so, in milliseconds of the Unix epoch by this machine's clock. */
  since: number;
  /** What the last connection ended with; 0 where it never came about. */
  closeCode: number | undefined;
  /** When the next attempt begins, while offline; by this machine's clock. */
  retryAt: number | undefined;
}

/** What the engine tells its owner, each before the next message is looked at. */
export interface Hooks {
  state(state: State): void;
  /** The server knows us (again): seats have to be taken on this connection. */
  opened(): void;
  /** Each replayable event once and in order, and volatile ones. */
  event(event: Published): void;
  /** A channel is followed and nothing of it is missing; may be said again. */
  live(ch: string): void;
  /** What came between the last event and now is lost. */
  reset(ch: string): void;
  /** A channel is followed no more; without an error because we left. */
  ended(ch: string, error?: CallError): void;
}

export interface How {
  ch?: string | undefined;
  key?: string | undefined;
  /** Ask again on the next connection if this one is lost before the answer. */
  repeat?: boolean;
  /** Until when an answer is of use; for ever without it. */
  timeoutMs?: number | undefined;
}

interface Asked extends How {
  op: string;
  d: unknown;
  ok: (ok: any) => void;
  err: (error: CallError) => void;
  id?: number;
  wasSent?: boolean;
  isDone?: boolean;
  timer?: ReturnType<typeof setTimeout>;
}

interface Channel extends Position {
  ch: string;
  followers: number;
  /** A seat came with it, so `room.join` opens it and not `subscribe`. */
  joined: boolean;
  /** False: `epoch` and `off` are not known yet. */
  known: boolean;
  live: boolean;
  asking: boolean;
  /** The page of history that is under way. */
  page: object | undefined;
  /** Events that came before those that are missing. */
  ahead: Published[];
  /** Pages read in a row that brought nothing. */
  vain: number;
}

/** Ticket, handshake and `connect` together; the server itself gives the last of them 5 s. */
const ATTEMPT_MS = 15_000;
/** PROTOCOL 3: a page of history. */
const PAGE = 200;
/** PROTOCOL 3: the first frame may have 4 KiB; what does not fit is subscribed to right after it. */
const FIRST_FRAME = 4_000;
/** Limit of `since`. */
const POSITIONS = 100;
/** Above it, reading the history anew is less work than keeping what came too early. */
const AHEAD = 1_000;
/** A history that does not have what was published is asked so often, then the connection is made anew. */
const VAIN = 3;
/** A refusal that will pass is tried again after at most this long, spread so that a crowd does not come as one. */
const AGAIN_MS = 1_000;
const FRAME_BYTES = 32 * 1024;
/** `ping` waits for nothing at the server; a phone whose radio has to wake up takes 2 s. */
const TRIAL_MS = 5_000;

export class Engine {
  state: State = { status: "stopped", since: Date.now(), closeCode: undefined, retryAt: undefined };
  user: Connected["user"] | undefined;
  /** What `connect` was answered last. */
  connected: Connected | undefined;
  readonly clock = new Clock();
  #link: Link;
  #hooks: Hooks;
  #backoff: Backoff;
  #name: object;
  #socket: Socket | undefined;
  #isReady = false;
  #attempt = 0;
  #failures = 0;
  #hintMs = 0;
  #openedAt = 0;
  /** The server refused who we said we are; a second time in a row it means it. */
  #wasDenied = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watch: ReturnType<typeof setTimeout> | undefined;
  #heardAt = 0;
  #silenceMs = ATTEMPT_MS;
  #lastId = 0;
  #waiting: Asked[] = [];
  #sent = new Map<number, Asked>();
  #channels = new Map<string, Channel>();

  constructor(link: Link, hooks: Hooks, options: { backoff?: Partial<Backoff> | undefined; client?: object | undefined } = {}) {
    this.#link = link;
    this.#hooks = hooks;
    this.#backoff = { ...BACKOFF, ...options.backoff };
    this.#name = options.client ?? { name: "fourtalk-client", version: "1" };
  }

  /** Whether what is asked now goes out now. */
  get isOpen(): boolean {
    return this.#isReady && this.state.status === "open";
  }

  // --- Life ---

  /** Connect now, unless a connection stands or is being made. */
  start(): void {
    if (this.state.status === "stopped" || this.#timer !== undefined) void this.#connect();
  }

  /**
   * The network is back or gone, or somebody looks at the page: do not wait, unless the server asked us to. A machine
   * that slept has a connection that only looks as if it stood, so that is tried.
   */
  nudge(): void {
    if (this.#isReady) this.#ping(TRIAL_MS);
    else if (this.#timer !== undefined && wire.verdictOf(this.state.closeCode ?? 0) === "network") this.start();
  }

  stop(): void {
    if (this.state.status !== "stopped") this.#lost(1000, "stop");
  }

  async #connect(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const attempt = ++this.#attempt;
    this.#become("connecting", this.state.closeCode);
    this.#silenceMs = ATTEMPT_MS;
    this.#heardAt = performance.now();
    this.#listen();
    let d: object;
    try {
      d = await this.#link.credentials();
    } catch (error) {
      if (attempt !== this.#attempt) return;
      if (error instanceof wire.SignedOut) return this.#lost(wire.AUTH_FAILED, "stop");
      this.#hintMs = error instanceof CallError ? (error.retryAfter ?? 0) : 0;
      return this.#lost(0);
    }
    if (attempt !== this.#attempt) return;
    const socket = (this.#socket = this.#link.open());
    socket.onopen = () => this.#greet(d);
    socket.onmessage = ({ data }) => this.#frame(socket, data);
    socket.onclose = ({ code }) => this.#lost(code);
  }

  #greet(credentials: object): void {
    const since: object[] = [];
    const d = { ...credentials, client: this.#name, since };
    let room = FIRST_FRAME - JSON.stringify(d).length;
    const own = this.#own();
    const all = [...this.#channels.values()].sort((a, b) => Number(b.ch === own) - Number(a.ch === own));
    for (const { ch, epoch, off, known } of all) {
      const position = { ch, epoch, off };
      if (!known || since.length === POSITIONS || (room -= JSON.stringify(position).length + 1) < 0) continue;
      since.push(position);
    }
    const at = performance.now();
    this.#write({
      op: "connect",
      d,
      ok: (ok: Connected) => this.#admitted(ok, performance.now() - at),
      // The close code that follows says what to do; only the hint is not in it.
      err: (error) => (this.#hintMs = error.retryAfter ?? 0),
    });
  }

  #admitted(ok: Connected, rtt: number): void {
    this.connected = ok;
    this.user = ok.user;
    this.clock.doubt();
    this.clock.sample(ok.server_time, rtt);
    this.#silenceMs = (ok.ping_s + ok.pong_s) * 1000;
    this.#listen();
    this.#openedAt = performance.now();
    this.#isReady = true;
    this.#wasDenied = false;
    this.#channel(this.#own());
    for (const [ch, sub] of Object.entries(ok.subs)) {
      const channel = this.#channels.get(ch);
      if (channel) this.#open(channel, sub);
    }
    for (const channel of [...this.#channels.values()]) if (!channel.live && !channel.joined) this.#subscribe(channel);
    // Seats first: what waits may need them.
    this.#hooks.opened();
    this.#become("open");
    for (const asked of this.#waiting.splice(0)) this.#ask(asked);
    // `connect` waits for the database; this does not, so it tells the time better.
    this.#ping();
  }

  /** Ask for the time; with a limit no answer means that the connection is gone. */
  #ping(timeoutMs?: number): void {
    const at = performance.now();
    const socket = this.#socket;
    this.request(
      "ping",
      {},
      { timeoutMs },
      (pong) => this.clock.sample(pong.server_time, performance.now() - at),
      ({ code }) => {
        if (code === wire.UNKNOWN_OUTCOME && socket === this.#socket && this.#heardAt < at) this.#lost(wire.NO_PONG);
      },
    );
  }

  #lost(code: number, verdict = wire.verdictOf(code)): void {
    this.#attempt++;
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
    this.#timer = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    const wasStable = this.#isReady && performance.now() - this.#openedAt >= this.#backoff.stableMs;
    this.#failures = wasStable ? 1 : this.#failures + 1;
    this.#isReady = false;
    if (verdict === "ticket") {
      verdict = this.#wasDenied ? "stop" : "network";
      this.#wasDenied = true;
    }
    const sent = [...this.#sent.values()];
    this.#sent.clear();
    this.#waiting = [...sent.filter((asked) => asked.repeat), ...this.#waiting];
    for (const channel of [...this.#channels.values()]) {
      Object.assign(channel, { live: false, asking: false, page: undefined, ahead: [], vain: 0 });
      if (!this.#isWanted(channel)) this.#channels.delete(channel.ch);
    }
    if (verdict === "stop") {
      this.#failures = 0;
      this.#wasDenied = false;
      this.#become("stopped", code);
      for (const asked of this.#waiting.splice(0)) this.#fail(asked, wire.notAvailable("the connection has ended"));
    } else {
      const delayMs = delayOf(verdict, this.#failures, this.#hintMs, this.#backoff);
      this.#timer = setTimeout(() => void this.#connect(), delayMs);
      this.#become("offline", code, Date.now() + delayMs);
    }
    this.#hintMs = 0;
    for (const asked of sent) if (!asked.repeat) this.#fail(asked, wire.unknownOutcome());
  }

  #become(status: Status, closeCode?: number, retryAt?: number): void {
    this.state = { status, since: Date.now(), closeCode, retryAt };
    this.#hooks.state(this.state);
  }

  /** Give the connection up when nothing has been heard for too long: a network that is gone closes nothing. */
  #listen(): void {
    clearTimeout(this.#watch);
    const leftMs = this.#heardAt + this.#silenceMs - performance.now();
    if (leftMs <= 0) this.#lost(this.#isReady ? wire.NO_PONG : 0);
    else this.#watch = setTimeout(() => this.#listen(), leftMs);
  }

  // --- Asking ---

  /** Ask, now or as soon as a connection stands; exactly one of `ok` and `err` is called. */
  request(op: string, d: unknown, how: How, ok: (ok: any) => void, err: (error: CallError) => void): void {
    const asked: Asked = { ...how, op, d, ok, err };
    if (this.state.status === "stopped") return err(wire.notAvailable("the connection has ended"));
    if (how.timeoutMs !== undefined) asked.timer = setTimeout(() => this.#expire(asked), how.timeoutMs);
    this.#ask(asked);
  }

  /** Say something that needs no answer and is worth nothing later; dropped without a connection. */
  tell(op: string, d: unknown, ch?: string): void {
    if (this.#isReady) this.#socket?.send(JSON.stringify({ op, ch, d }));
  }

  #ask(asked: Asked): void {
    if (asked.isDone) return;
    if (this.#isReady) this.#write(asked);
    else this.#waiting.push(asked);
  }

  #write(asked: Asked): void {
    const { op, ch, key, d } = asked;
    const id = (asked.id = ++this.#lastId);
    const text = JSON.stringify({ id, op, ch, key, d });
    const most = this.connected?.limits.frame_bytes ?? FRAME_BYTES;
    // The server ends a connection with such a frame, for good; one message must not do that to all others.
    if (text.length * 3 > most && new TextEncoder().encode(text).length > most) {
      return this.#fail(asked, new CallError({ code: wire.BAD_REQUEST, name: "bad_request", message: "the message is too big" }));
    }
    asked.wasSent = true;
    this.#sent.set(id, asked);
    this.#socket!.send(text);
  }

  #expire(asked: Asked): void {
    this.#waiting = this.#waiting.filter((other) => other !== asked);
    this.#sent.delete(asked.id ?? 0);
    this.#fail(asked, asked.wasSent ? wire.unknownOutcome() : wire.notAvailable("there was no connection in time"));
  }

  #fail(asked: Asked, error: CallError): void {
    if (asked.isDone) return;
    asked.isDone = true;
    clearTimeout(asked.timer);
    asked.err(error);
  }

  #later(again: () => void, afterMs = 0): void {
    setTimeout(again, afterMs + Math.random() * AGAIN_MS);
  }

  // --- What arrives ---

  #frame(socket: Socket, data: string): void {
    this.#heardAt = performance.now();
    for (const line of data.split("\n")) {
      if (socket !== this.#socket) return;
      let said: Said;
      try {
        said = JSON.parse(line);
      } catch {
        return this.#lost(wire.PROTOCOL_ERROR);
      }
      this.#take(said);
    }
  }

  #take(said: Said): void {
    if (said.ev !== undefined) this.#event(said as Published);
    else if (said.id !== undefined) this.#answer(said.id, said);
    else if (said.ctl !== undefined) this.#control(said.ctl, said.d ?? {});
    else if (said.err === undefined) this.#socket!.send("{}");
  }

  #answer(id: number, { ok, err }: Said): void {
    const asked = this.#sent.get(id);
    if (!asked) return;
    this.#sent.delete(id);
    if (err?.code === wire.UNKNOWN_OUTCOME && asked.repeat) return this.#later(() => this.#ask(asked), err.retry_after_ms);
    if (err) return this.#fail(asked, new CallError(err));
    asked.isDone = true;
    clearTimeout(asked.timer);
    if (asked.op === "room.join") this.#joined(asked, ok as { sub?: Position });
    if (asked.op === "room.leave") this.#left(asked);
    asked.ok(ok);
  }

  #control(ctl: string, d: any): void {
    const channel = this.#channels.get(d.ch);
    switch (ctl) {
      case "disconnect":
        this.#hintMs = d.retry_after_ms ?? 0;
        break;
      case "reset":
        if (channel) this.#reset(channel, d);
        break;
      case "unsubscribed":
        if (channel?.live) this.#unsubscribed(channel, d);
        break;
      case "token.expiring":
        // Should that fail, the server closes with 4201 and the next connection brings a new ticket.
        this.#link.token?.().then((token) => this.request("refresh", { token }, {}, () => {}, () => {}), () => {});
        break;
      // Two that only the shared worker says: how its own connection is, and that it needs somebody's ticket for it.
      case "state":
        if (this.#isReady && d.status === "open") this.#hooks.opened();
        this.#become(d.status, d.closeCode, d.retryAt);
        break;
      case "credentials":
        this.#link.supply?.(d.kind).then((found) => this.#socket?.send(JSON.stringify({ op: ctl, d: found })));
    }
  }

  // --- Channels ---

  /** Follow a channel from now on, or from a position; `joined`: what opens it is `room.join`, asked for by the caller. */
  follow(ch: string, { joined = false, since }: { joined?: boolean; since?: Position | undefined } = {}): void {
    const channel = this.#channel(ch);
    channel.followers++;
    channel.joined ||= joined;
    if (since && !channel.known) Object.assign(channel, { epoch: since.epoch, off: since.off, known: true });
    if (this.#isReady && !channel.joined && !channel.live) this.#subscribe(channel);
  }

  /** Undo one `follow`. */
  unfollow(ch: string): void {
    const channel = this.#channels.get(ch);
    if (!channel || --channel.followers > 0 || ch === this.#own() || channel.asking) return;
    this.#channels.delete(ch);
    if (channel.live) this.#unsubscribe(ch);
  }

  /** Where we are in a channel, if that is where the channel is. */
  position(ch: string): Position | undefined {
    const channel = this.#channels.get(ch);
    return channel?.live && !channel.page ? { epoch: channel.epoch, off: channel.off } : undefined;
  }

  #own(): string {
    return `user:${this.user?.id}`;
  }

  #isWanted({ ch, followers, joined }: Channel): boolean {
    return followers > 0 || joined || ch === this.#own();
  }

  #channel(ch: string): Channel {
    let channel = this.#channels.get(ch);
    if (!channel) {
      const state = { followers: 0, joined: false, known: false, live: false, asking: false, vain: 0 };
      channel = { ch, epoch: "", off: 0, ...state, page: undefined, ahead: [] };
      this.#channels.set(ch, channel);
    }
    return channel;
  }

  #subscribe(channel: Channel): void {
    if (channel.asking || channel.live || !this.#isReady || this.#channels.get(channel.ch) !== channel) return;
    channel.asking = true;
    const since = channel.known ? { epoch: channel.epoch, off: channel.off } : undefined;
    const answered = (then: () => void) => {
      channel.asking = false;
      if (this.#isWanted(channel)) return then();
      this.#channels.delete(channel.ch);
      this.#unsubscribe(channel.ch);
    };
    this.request(
      "subscribe",
      { since },
      { ch: channel.ch },
      (sub: Opened) => answered(() => this.#open(channel, sub)),
      (error) => {
        if (!this.#isReady) return; // the next connection asks anew
        answered(() => {
          if (channel.live) return; // a seat has brought the channel meanwhile
          if (error.code === wire.ALREADY_SUBSCRIBED) this.#lost(wire.STATE_INVALIDATED);
          else if (passes(error)) this.#later(() => this.#subscribe(channel), error.retryAfter);
          else this.#end(channel, error);
        });
      },
    );
  }

  #unsubscribe(ch: string): void {
    this.request("unsubscribe", {}, { ch }, () => {}, () => {});
  }

  /** Begin where the server says; without `recovered` a `reset` follows if we had a position. */
  #open(channel: Channel, sub: Opened): void {
    const wasLive = channel.live;
    channel.live = true;
    if (!wasLive && !(channel.known && sub.recovered)) this.#place(channel, sub);
    for (const event of sub.events) this.#event(event);
    if (sub.more || channel.off < sub.off) this.#page(channel);
    else this.#hooks.live(channel.ch);
  }

  #place(channel: Channel, { epoch, off }: Position): void {
    Object.assign(channel, { epoch, off, known: true, page: undefined, ahead: [], vain: 0 });
  }

  #joined({ d, ch = `room:${(d as { room_id?: string }).room_id}` }: Asked, { sub }: { sub?: Position }): void {
    const channel = this.#channel(ch);
    channel.joined = true;
    if (channel.live || !sub) return;
    // The connection did not bring the channel, so its events begin with the seat: what lies between is lost.
    const isMissing = channel.known && (channel.epoch !== sub.epoch || channel.off !== sub.off);
    channel.live = true;
    this.#place(channel, sub);
    if (isMissing) this.#hooks.reset(ch);
    this.#hooks.live(ch);
  }

  #left({ d, ch = `room:${(d as { room_id?: string }).room_id}` }: Asked): void {
    const channel = this.#channels.get(ch);
    if (!channel) return;
    // The seat took the channel with it; who only looked on goes on doing so.
    channel.live = false;
    if (channel.joined) this.#end(channel);
    else this.#subscribe(channel);
  }

  #end(channel: Channel, error?: CallError): void {
    this.#channels.delete(channel.ch);
    this.#hooks.ended(channel.ch, error);
  }

  #reset(channel: Channel, position: Position): void {
    this.#place(channel, position);
    this.#hooks.reset(channel.ch);
  }

  #unsubscribed(channel: Channel, { code, name }: { code: number; name: string }): void {
    channel.live = false;
    const error = new CallError({ code, name, message: `the server ended ${channel.ch}: ${name}` });
    if (channel.joined || !(passes(error) || code === wire.SEAT_EXPIRED)) this.#end(channel, error);
    else if (code === wire.SEAT_EXPIRED) this.#subscribe(channel);
    else this.#later(() => this.#subscribe(channel));
  }

  #event(event: Published): void {
    if (event.off === undefined) return this.#hooks.event(event);
    const channel = this.#channels.get(event.ch);
    if (!channel?.live || event.off <= channel.off) return;
    if (event.off > channel.off + 1) {
      channel.ahead.push(event);
      if (channel.ahead.length > AHEAD) this.#lost(wire.STATE_INVALIDATED);
      else this.#page(channel);
      return;
    }
    channel.off = event.off;
    channel.vain = 0;
    this.#hooks.event(event);
  }

  /** Read what is missing, page by page, then go on with what came too early. */
  #page(channel: Channel): void {
    if (channel.page) return;
    if (channel.vain++ === VAIN) return this.#lost(wire.STATE_INVALIDATED);
    const page = (channel.page = {});
    const since = { epoch: channel.epoch, off: channel.off };
    this.request(
      "history",
      { since, limit: PAGE },
      { ch: channel.ch },
      (answer: Opened) => {
        if (channel.page !== page) return;
        channel.page = undefined;
        const { ahead } = channel;
        channel.ahead = [];
        for (const event of [...answer.events, ...(answer.more ? [] : ahead.sort((a, b) => a.off! - b.off!))]) this.#event(event);
        if (answer.more) channel.ahead.push(...ahead);
        if (!channel.live) return;
        if (answer.more) this.#page(channel);
        else if (!channel.page) this.#hooks.live(channel.ch);
      },
      (error) => {
        if (channel.page !== page || !this.#isReady) return;
        channel.page = undefined;
        if (passes(error)) this.#later(() => channel.live && this.#page(channel), error.retryAfter);
        else this.#lost(wire.STATE_INVALIDATED); // the next connection recovers, or is told to begin anew
      },
    );
  }
}

function passes(error: CallError): boolean {
  return wire.passes(error.code);
}

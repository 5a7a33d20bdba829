/** What a page uses: calls, messages that survive being offline, channels with their snapshots, and the state of the line. */
import type { Backoff } from "./backoff.ts";
import { Engine, type Link, type State } from "./engine.ts";
import { directLink, sharedLink } from "./link.ts";
import { CallError, type Connected, NOT_AVAILABLE, type Published, UNKNOWN_OUTCOME, notAvailable, passes } from "./wire.ts";

/** Operations by name: what they take and what they answer. Generated types of the server fit in. */
export type OpMap = Record<string, { d: any; ok: any }>;
/** Events by name: what they carry. */
export type EventMap = Record<string, any>;

type Name<Map> = keyof Map & string;

/** An event as one type per name, so that `switch (event.ev)` knows `event.d`. */
export type EventOf<Events extends EventMap> = { [N in Name<Events>]: Published<N, Events[N]> }[Name<Events>];

export interface Options {
  /** Address of the socket, `wss://host/ws`. */
  url: string;
  /** A ticket for one connection, asked for before each: `POST /api/v1/auth/ws-ticket`. Throws `SignedOut` to stop. */
  ticket(): Promise<string>;
  /** An access token, asked for when the one of the connection runs out; without it a new connection is made then. */
  token?: () => Promise<string>;
  /** Makes the worker that holds one connection for all tabs of this person; see `serve`. */
  worker?: (() => SharedWorker) | undefined;
  /** What this program calls itself in the server's log. */
  client?: { name: string; version: string };
  /** How long `call` waits for its answer. 10 s: the server answers within 5, or says that it cannot. */
  timeoutMs?: number;
  backoff?: Partial<Backoff>;
  /** Hears what a handler of yours threw: the others get their events all the same. */
  onError?: (error: unknown) => void;
}

export interface CallOptions {
  /** The channel, where the operation speaks of one. */
  ch?: string;
  /** Makes a change safe to repeat; with it the call is repeated if the connection is lost before the answer. */
  key?: string;
  /** The same without a key, for what changes nothing or is safe by itself. */
  repeat?: boolean;
  timeoutMs?: number;
}

export interface Subscriber<Event, Snapshot> {
  /** Fetches the state that the events go on from; called first and after each reset. */
  load?: () => Promise<Snapshot>;
  /**
   * The same for a room in which one sits: `room.join` brings the channel itself. Called on each new connection too,
   * since a seat is tied to one; then its answer is no snapshot, because no event was missed.
   */
  join?: () => Promise<Snapshot>;
  onSnapshot?: (snapshot: Snapshot) => void;
  /** Every replayable event after the snapshot once and in order, and volatile ones (without `off`). */
  onEvent?: (event: Event) => void;
  /** Events were lost for good; what is shown is too old until the next `onSnapshot`. */
  onReset?: () => void;
  /** The channel is followed no more: not allowed, no such room, the seat is gone. */
  onEnd?: (error: CallError) => void;
}

interface Listener extends Subscriber<any, any> {
  ch: string;
  /** What came while the snapshot is on its way. */
  held: Published[] | undefined;
  /** Where the snapshot stands: it may be ahead of the channel, whose events up to there are in it. */
  from: number;
  /** The snapshot that is being fetched: an earlier one is of no interest any more. */
  turn: object | undefined;
  tries: number;
}

interface Message {
  op: string;
  d: unknown;
  how: { ch?: string | undefined; key: string };
  ok: (ok: any) => void;
  err: (error: CallError) => void;
}

/** Messages to one channel: one at a time, so that a refusal of one does not let the next overtake it. */
interface Lane {
  messages: Message[];
  isBusy: boolean;
  tries: number;
}

const TIMEOUT_MS = 10_000;
/** More than anybody writes while offline. */
const QUEUED = 1_000;
/** Ceiling of the wait after refusals that pass, doubling from half a second: as for connections. */
const AGAIN_MS = 30_000;

export class Client<Ops extends OpMap = OpMap, Events extends EventMap = EventMap> {
  #engine: Engine;
  #timeoutMs: number;
  #onError: (error: unknown) => void;
  #states = new Set<(state: State) => void>();
  #handlers = new Map<string, Set<(event: any) => void>>();
  #listeners = new Map<string, Set<Listener>>();
  /** Who takes a seat at the moment, by channel; messages to it wait until nobody does. */
  #joining = new Map<string, Set<object>>();
  #lanes = new Map<string, Lane>();
  #nudge = () => this.#engine.nudge();

  constructor(link: Link, options: Pick<Options, "client" | "timeoutMs" | "backoff" | "onError"> = {}) {
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#onError = options.onError ?? console.error;
    const hooks = {
      state: (state: State) => this.#told(state),
      opened: () => this.#opened(),
      event: (event: Published) => this.#event(event),
      live: (ch: string) => this.#each(ch, (one) => one.held && !one.turn && this.#fetch(one)),
      reset: (ch: string) => this.#each(ch, (one) => this.#reset(one)),
      ended: (ch: string, error?: CallError) => this.#each(ch, (one) => this.#end(one, error)),
    };
    this.#engine = new Engine(link, hooks, options);
    globalThis.addEventListener?.("online", this.#nudge);
    globalThis.addEventListener?.("offline", this.#nudge);
    globalThis.addEventListener?.("pageshow", this.#nudge);
    globalThis.document?.addEventListener("visibilitychange", this.#nudge);
    this.#engine.start();
  }

  /** Who is connected; undefined before the first connection. */
  get user(): { id: string; role: string } | undefined {
    return this.#engine.user;
  }

  get state(): State {
    return this.#engine.state;
  }

  /** The server's numbers; undefined before the first connection. */
  get limits(): Connected["limits"] | undefined {
    return this.#engine.connected?.limits;
  }

  /** Milliseconds of the Unix epoch, at the server. */
  serverNow(): number {
    return this.#engine.clock.now();
  }

  /** Ask and wait for the answer, also for a connection. Rejects with a `CallError` and nothing else. */
  call<Op extends Name<Ops>>(op: Op, d: Ops[Op]["d"], options: CallOptions = {}): Promise<Ops[Op]["ok"]> {
    const { ch, key, repeat = key !== undefined, timeoutMs = this.#timeoutMs } = options;
    return new Promise((ok, err) => {
      const how = { ch, key, repeat, timeoutMs };
      if (op !== "room.join") return this.#engine.request(op, d, how, ok, err);
      // The server lets a message overtake it, and would refuse that.
      const room = ch ?? `room:${d.room_id}`;
      this.#join(room, how);
      const then = (what: (answer: any) => void) => (answer: any) => {
        what(answer);
        this.#joined(room, how);
      };
      this.#engine.request(op, d, how, then(ok), then(err));
    });
  }

  /**
   * Send a message under a key of its own, whenever that is possible: it waits for a connection, is repeated until it
   * is answered, and stays behind those to the same channel that were sent before it.
   */
  send<Op extends Name<Ops>>(
    op: Op,
    d: Ops[Op]["d"],
    { ch, key = newKey() }: { ch?: string; key?: string } = {},
  ): Promise<Ops[Op]["ok"]> {
    return new Promise((ok, err) => {
      const to = ch ?? "";
      const lane = this.#lanes.get(to) ?? { messages: [], isBusy: false, tries: 0 };
      if (this.state.status === "stopped" || lane.messages.length >= QUEUED) {
        return err(notAvailable("the connection has ended, or too many messages are waiting"));
      }
      this.#lanes.set(to, lane);
      lane.messages.push({ op, d, how: { ch, key }, ok, err });
      this.#pump(to);
    });
  }

  /** Say something volatile: nobody answers, and without a connection it is dropped. */
  tell<Op extends Name<Ops>>(op: Op, d: Ops[Op]["d"], { ch }: { ch?: string } = {}): void {
    this.#engine.tell(op, d, ch);
  }

  /** Follow a channel; returns what ends it. */
  subscribe<Snapshot = unknown>(ch: string, subscriber: Subscriber<EventOf<Events>, Snapshot>): () => void {
    const held = subscriber.load || subscriber.join ? [] : undefined;
    const one: Listener = { ...subscriber, ch, held, from: -1, turn: undefined, tries: 0 };
    const all = this.#listeners.get(ch) ?? new Set();
    this.#listeners.set(ch, all.add(one));
    this.#engine.follow(ch, { joined: one.join !== undefined });
    if (one.join ? this.#engine.isOpen : held && this.#engine.position(ch)) this.#fetch(one);
    return () => {
      if (this.#forget(one)) this.#engine.unfollow(ch);
    };
  }

  /** Hear every event of a name, of whatever channel: those of the own channel come unasked. */
  on<N extends Name<Events>>(name: N, handler: (event: Published<N, Events[N]>) => void): () => void {
    const all = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, all.add(handler));
    return () => void all.delete(handler);
  }

  /** Hear how the connection is: now, and whenever that changes. */
  onState(handler: (state: State) => void): () => void {
    this.#states.add(handler);
    this.#safely(handler, this.state);
    return () => void this.#states.delete(handler);
  }

  /** Try now: after `stopped`, when the person has signed in again or asks for it, or instead of waiting. */
  reconnect(): void {
    this.#engine.start();
  }

  /** End everything; whoever waits gets a `CallError`. */
  close(): void {
    globalThis.removeEventListener?.("online", this.#nudge);
    globalThis.removeEventListener?.("offline", this.#nudge);
    globalThis.removeEventListener?.("pageshow", this.#nudge);
    globalThis.document?.removeEventListener("visibilitychange", this.#nudge);
    this.#engine.stop();
  }

  // --- What the engine tells ---

  #told(state: State): void {
    for (const handler of [...this.#states]) this.#safely(handler, state);
    if (state.status === "open") for (const to of this.#lanes.keys()) this.#pump(to);
    if (state.status === "stopped") {
      for (const { messages } of this.#lanes.values()) {
        for (const { err } of messages.splice(0)) err(notAvailable("the connection has ended"));
      }
    }
  }

  #opened(): void {
    for (const ch of [...this.#listeners.keys()]) this.#each(ch, (one) => one.join && this.#fetch(one));
  }

  #event(event: Published): void {
    this.#each(event.ch, (one) => {
      if (one.held) one.held.push(event);
      else if (!(event.off! <= one.from)) this.#safely(one.onEvent, event);
    });
    for (const handler of [...(this.#handlers.get(event.ev) ?? [])]) this.#safely(handler, event);
  }

  #each(ch: string, what: (one: Listener) => unknown): void {
    for (const one of [...(this.#listeners.get(ch) ?? [])]) what(one);
  }

  #safely<T>(handler: ((value: T) => void) | undefined, value: T): void {
    try {
      handler?.(value);
    } catch (error) {
      this.#onError(error);
    }
  }

  // --- Channels ---

  #reset(one: Listener): void {
    this.#safely(one.onReset, undefined);
    if (!one.join && !one.load) return;
    one.held = [];
    one.from = -1;
    if (this.#engine.isOpen) this.#fetch(one);
  }

  #forget(one: Listener): boolean {
    one.turn = {};
    this.#joined(one.ch, one);
    const all = this.#listeners.get(one.ch);
    const wasThere = all?.delete(one) ?? false;
    if (all?.size === 0) this.#listeners.delete(one.ch);
    return wasThere;
  }

  /** The channel has ended; without an error because the caller left. */
  #end(one: Listener, error?: CallError): void {
    if (this.#forget(one) && error) this.#safely(one.onEnd, error);
  }

  /** Take the seat, or fetch the snapshot, until that works or is refused for good; then let the events go on. */
  #fetch(one: Listener): void {
    const turn = (one.turn = {});
    const { ch, join } = one;
    const isOurs = () => one.turn === turn;
    if (join) this.#join(ch, one);
    (join ?? one.load)!().then(
      (snapshot) => {
        if (!isOurs()) return;
        this.#joined(ch, one);
        one.turn = undefined;
        one.tries = 0;
        const { held } = one;
        one.held = undefined;
        if (!held) return;
        this.#safely(one.onSnapshot, snapshot);
        one.from = offOf(snapshot);
        for (const event of held) if (!(event.off! <= one.from)) this.#safely(one.onEvent, event);
      },
      (error: unknown) => {
        if (!isOurs()) return;
        const wasLost = error instanceof CallError && (error.code === NOT_AVAILABLE || passes(error.code));
        if (!wasLost) {
          if (this.#forget(one)) this.#engine.unfollow(ch);
          if (error instanceof CallError) this.#safely(one.onEnd, error);
          else this.#onError(error);
          return;
        }
        one.turn = undefined;
        // Another connection fetches anew, but behind a shared worker this one goes on without having ended.
        const again = (afterMs?: number) =>
          this.#later(one.tries++, afterMs, () => {
            const isWanted = this.#listeners.get(ch)?.has(one) && !one.turn && (join || one.held);
            if (isWanted && !this.#engine.isOpen && this.state.status !== "stopped") return again();
            if (isWanted && this.#engine.isOpen) this.#fetch(one);
            else if (isWanted) this.#joined(ch, one);
          });
        again(error.retryAfter);
      },
    );
  }

  #join(ch: string, who: object): void {
    this.#joining.set(ch, (this.#joining.get(ch) ?? new Set()).add(who));
  }

  #joined(ch: string, who: object): void {
    const all = this.#joining.get(ch);
    if (!all?.delete(who) || all.size > 0) return;
    this.#joining.delete(ch);
    this.#pump(ch);
  }

  #later(tries: number, afterMs: number | undefined, what: () => void): void {
    setTimeout(what, Math.max(afterMs ?? 0, Math.random() * Math.min(AGAIN_MS, 500 * 2 ** Math.min(tries, 10))));
  }

  // --- Messages ---

  #pump(to: string): void {
    const lane = this.#lanes.get(to);
    const message = lane?.messages[0];
    if (!lane || !message || lane.isBusy || !this.#engine.isOpen || this.#joining.has(to)) return;
    lane.isBusy = true;
    const { op, d, how, ok, err } = message;
    const done = (then: () => void) => {
      lane.isBusy = false;
      lane.tries = 0;
      lane.messages.shift();
      then();
      if (lane.messages.length === 0) this.#lanes.delete(to);
      else this.#pump(to);
    };
    this.#engine.request(
      op,
      d,
      // Not repeated by the engine: after a cut the seat comes first. A silent server may have lost it, so it is asked again.
      { ...how, timeoutMs: this.#timeoutMs },
      (answer) => done(() => ok(answer)),
      (error) => {
        if (this.state.status === "stopped" || !(passes(error.code) || error.code === NOT_AVAILABLE)) return done(() => err(error));
        const wasCut = error.code === UNKNOWN_OUTCOME && !this.#engine.isOpen;
        if (wasCut) {
          lane.isBusy = false; // the next connection goes on with it
        } else {
          this.#later(lane.tries++, error.retryAfter, () => {
            lane.isBusy = false;
            this.#pump(to);
          });
        }
      },
    );
  }
}

/** Where a snapshot stands in its channel; every event after it is news. */
function offOf(snapshot: any): number {
  return snapshot?.sub?.off ?? snapshot?.off ?? -1;
}

/** 128 random bits; `crypto.randomUUID` is not there on a page without TLS. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Connect, and stay connected until `close`. */
export function connect<Ops extends OpMap = OpMap, Events extends EventMap = EventMap>(options: Options): Client<Ops, Events> {
  return new Client<Ops, Events>(options.worker ? sharedLink(options) : directLink(options), options);
}

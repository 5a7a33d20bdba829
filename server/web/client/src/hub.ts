/**
 * The shared worker's side: one connection for all tabs of a person.
 *
 * To a tab it is a server. It speaks the protocol over the tab's port and keeps no state of a tab but what it follows, so a
 * tab that was frozen, or whose worker was ended, comes back with `since` as it would to the real server.
 */
import type { Backoff } from "./backoff.ts";
import { Engine, type Link, type Socket, type State } from "./engine.ts";
import * as wire from "./wire.ts";
import { CallError, type Opened, type Position, type Published, SUBPROTOCOL, SignedOut } from "./wire.ts";

export interface HubOptions {
  /** Address of the socket, `wss://host/ws`. */
  url: string;
  client?: { name: string; version: string };
  backoff?: Partial<Backoff>;
}

/** A tab answers at least this often, or nothing is sent to it any more: what it does not read the browser would keep. */
const BEAT_S = 10;
/** A tab asks its server for a ticket within this time, or the next tab is asked. */
const SUPPLY_MS = 5_000;
/** As long as a tab waits for an answer. */
const TIMEOUT_MS = 10_000;
/** Going from page to page leaves no tab for a moment. */
const IDLE_MS = 10_000;
const PAGE = 200;
const AGAIN_MS = 1_000;

interface Followed {
  ch: string;
  since: Position | undefined;
  /** What came while the tab is brought to where the channel is; undefined once it is there. */
  held: Published[] | undefined;
  /** What was read of the history for it. */
  read: Published[];
  isBusy: boolean;
  isLost: boolean;
  done: (sub: Opened | undefined, error?: CallError) => void;
}

class Session {
  readonly followed = new Map<string, Followed>();
  /** Rooms in which this tab sits. */
  readonly rooms = new Set<string>();
  leaving: string | undefined;
  hasAnswered = true;
  supplied: ((found: { signedOut?: boolean }) => void) | undefined;

  readonly port: MessagePort;

  constructor(port: MessagePort) {
    this.port = port;
  }

  say(message: object): void {
    this.port.postMessage(JSON.stringify(message));
  }
}

interface Asked {
  id?: number;
  op?: string;
  ch?: string;
  key?: string;
  d?: any;
}

export class Hub {
  #sessions = new Set<Session>();
  #greetings = new Map<Session, () => void>();
  #engine: Engine;
  #beat: ReturnType<typeof setInterval> | undefined;
  #idle: ReturnType<typeof setTimeout> | undefined;

  constructor(options: HubOptions) {
    const link: Link = {
      credentials: () => this.#supply("ticket"),
      open: () => new WebSocket(options.url, SUBPROTOCOL) as unknown as Socket,
      token: async () => ((await this.#supply("token")) as { token: string }).token,
    };
    const hooks = {
      state: (state: State) => this.#told(state),
      opened: () => {
        for (const greet of this.#greetings.values()) greet();
        this.#greetings.clear();
      },
      event: (event: Published) => this.#event(event),
      live: (ch: string) => this.#each(ch, (session, one) => this.#settle(session, one)),
      reset: (ch: string) => this.#each(ch, (session, one) => this.#reset(session, one)),
      ended: (ch: string, error?: CallError) => this.#each(ch, (session) => this.#ended(session, ch, error)),
    };
    this.#engine = new Engine(link, hooks, options);
  }

  /** Serve one tab. */
  accept(port: MessagePort): void {
    const session = new Session(port);
    this.#sessions.add(session);
    clearTimeout(this.#idle);
    this.#beat ??= setInterval(() => this.#listen(), BEAT_S * 1000);
    port.onmessage = ({ data }) => {
      session.hasAnswered = true;
      if (typeof data === "number") this.#remove(session);
      else this.#take(session, JSON.parse(data));
    };
    // A new tab is no reason to come sooner than the server asked for.
    if (this.#engine.state.status === "stopped") this.#engine.start();
    else this.#engine.nudge();
    session.say({ ctl: "state", d: this.#engine.state });
  }

  // --- Tabs ---

  #listen(): void {
    for (const session of [...this.#sessions]) {
      if (session.hasAnswered) {
        session.hasAnswered = false;
        session.say({});
      } else {
        this.#dismiss(session, wire.NO_PONG);
      }
    }
  }

  /** Let a tab go; should it wake up, this is what it reads last, and it comes back. */
  #dismiss(session: Session, code: number): void {
    session.port.postMessage(code);
    this.#remove(session);
  }

  #remove(session: Session): void {
    if (!this.#sessions.delete(session)) return;
    session.port.onmessage = null;
    session.supplied?.({});
    this.#greetings.delete(session);
    for (const ch of session.followed.keys()) this.#engine.unfollow(ch);
    session.followed.clear();
    // As the server does with a seat whose connection is gone: a reload of the page takes less. An older one does not say.
    for (const ch of session.rooms) setTimeout(() => this.#leave(ch), (this.#engine.connected!.limits.seat_grace_s ?? 30) * 1000);
    if (this.#sessions.size > 0) return;
    clearInterval(this.#beat);
    this.#beat = undefined;
    this.#idle = setTimeout(() => this.#engine.stop(), IDLE_MS);
  }

  /** Give a seat up whose tab has gone: the connection on which it hangs is there for the others. */
  #leave(ch: string): void {
    if (!this.#engine.isOpen || [...this.#sessions].some((session) => session.rooms.has(ch))) return;
    this.#engine.request("room.leave", { room_id: ch.slice("room:".length) }, {}, () => {}, () => {});
  }

  /** Ask the tabs who we are, the youngest first: an old one may be frozen. */
  async #supply(kind: string): Promise<object> {
    for (const session of [...this.#sessions].reverse()) {
      const found = await new Promise<{ signedOut?: boolean }>((supplied) => {
        session.supplied = supplied;
        setTimeout(supplied, SUPPLY_MS, {});
        session.say({ ctl: "credentials", d: { kind } });
      });
      if (kind in found) return found;
      if (found.signedOut) throw new SignedOut();
    }
    throw new Error("no tab has a ticket");
  }

  #take(session: Session, { id, op, ch, key, d }: Asked): void {
    const ok = (answer: unknown) => session.say({ id, ok: answer });
    const err = ({ code, name, message, retryable, retryAfter, data }: CallError) =>
      session.say({ id, err: { code, name, message, retryable, retry_after_ms: retryAfter, d: data } });
    if (op === undefined) return;
    if (op === "credentials") return session.supplied?.(d);
    if (op === "connect") {
      const greet = () => this.#greet(session, d.since, ok);
      if (this.#engine.isOpen) greet();
      else this.#greetings.set(session, greet);
      return;
    }
    if (op === "ping") {
      // A tab that has woken up, or whose network has changed: only the worker's own connection knows whether it stands.
      this.#engine.nudge();
      return ok({ server_time: Math.round(this.#engine.clock.now()) });
    }
    if (op === "subscribe") return this.#follow(session, ch!, d.since, (sub, error) => (sub ? ok(sub) : err(error!)));
    if (op === "unsubscribe") {
      if (session.followed.delete(ch!)) this.#engine.unfollow(ch!);
      return ok({});
    }
    if (id === undefined) return this.#engine.tell(op, d, ch);
    const room = ch ?? `room:${d?.room_id}`;
    if (op === "room.leave") session.leaving = room;
    // Not repeated here: the tab does that, and knows whether it wants to.
    const how = { ch, key, timeoutMs: TIMEOUT_MS };
    this.#engine.request(
      op,
      d,
      how,
      (answer) => {
        if (op === "room.join") this.#joined(session, room);
        ok(answer);
      },
      (error) => {
        session.leaving = undefined;
        err(error);
      },
    );
  }

  #joined(session: Session, ch: string): void {
    if (!this.#sessions.has(session)) return;
    session.rooms.add(ch);
    if (session.followed.has(ch)) return;
    session.followed.set(ch, { ch, since: undefined, held: undefined, read: [], isBusy: false, isLost: false, done: () => {} });
    this.#engine.follow(ch, { joined: true });
  }

  #greet(session: Session, since: (Position & { ch: string })[], ok: (answer: unknown) => void): void {
    const { connected, clock } = this.#engine;
    const own = `user:${connected!.user.id}`;
    const wanted = new Map<string, Position | undefined>([[own, undefined], ...since.map((one) => [one.ch, one] as const)]);
    const subs: Record<string, Opened> = {};
    let open = wanted.size;
    for (const [ch, position] of wanted) {
      this.#follow(session, ch, position, (sub) => {
        if (sub) subs[ch] = sub;
        if (--open === 0) ok({ ...connected, server_time: Math.round(clock.now()), ping_s: BEAT_S, pong_s: BEAT_S, subs });
      });
    }
  }

  // --- Channels ---

  #each(ch: string, what: (session: Session, one: Followed) => void): void {
    for (const session of [...this.#sessions]) {
      const one = session.followed.get(ch);
      if (one) what(session, one);
    }
  }

  #follow(session: Session, ch: string, since: Position | undefined, done: Followed["done"]): void {
    if (session.followed.has(ch)) {
      const message = "this channel is followed already";
      return done(undefined, new CallError({ code: wire.ALREADY_SUBSCRIBED, name: "already_subscribed", message }));
    }
    const one: Followed = { ch, since: since && { ...since }, held: [], read: [], isBusy: false, isLost: false, done };
    session.followed.set(ch, one);
    const isLive = this.#engine.position(ch) !== undefined;
    this.#engine.follow(ch, { since });
    if (isLive) this.#settle(session, one);
  }

  /** Bring a tab to where the channel is: what it missed is in what came meanwhile, or in the history. */
  #settle(session: Session, one: Followed): void {
    const { ch, since, held, isBusy } = one;
    const at = this.#engine.position(ch);
    if (!held || isBusy || !at || session.followed.get(ch) !== one) return;
    const open = (recovered: boolean, events: Published[]) => {
      one.held = undefined;
      one.done({ ...at, recovered, events, more: false });
    };
    if (!since) return open(false, []);
    if (one.isLost || since.epoch !== at.epoch || since.off > at.off) {
      open(false, []);
      return session.say({ ctl: "reset", d: { ch, ...at } });
    }
    const off = since.off + one.read.length;
    const events = held.filter((event) => event.off! > off);
    if (events.length === at.off - off) return open(true, [...one.read, ...events]);
    one.isBusy = true;
    this.#engine.request(
      "history",
      { since: { epoch: since.epoch, off }, limit: PAGE },
      { ch },
      (page: Opened) => {
        one.isBusy = false;
        one.isLost ||= page.events.length === 0;
        one.read.push(...page.events);
        this.#settle(session, one);
      },
      ({ code }) => {
        one.isBusy = false;
        one.isLost ||= !wire.passes(code);
        if (one.isLost) this.#settle(session, one);
        // Without a connection the next one goes on with it.
        else if (this.#engine.isOpen) setTimeout(() => this.#settle(session, one), AGAIN_MS);
      },
    );
  }

  #event(event: Published): void {
    const text = JSON.stringify(event);
    this.#each(event.ch, (session, { held }) => (held ? held.push(event) : session.port.postMessage(text)));
  }

  #reset(session: Session, one: Followed): void {
    if (one.held) one.isLost = true;
    else session.say({ ctl: "reset", d: { ch: one.ch, ...this.#engine.position(one.ch) } });
  }

  #ended(session: Session, ch: string, error?: CallError): void {
    const one = session.followed.get(ch)!;
    session.followed.delete(ch);
    session.rooms.delete(ch);
    const { code, name } = error ?? { code: wire.SEAT_EXPIRED, name: "seat_expired" };
    if (one.held) one.done(undefined, new CallError({ code, name, message: name }));
    // Who left knows it by the answer.
    else if (error || session.leaving !== ch) session.say({ ctl: "unsubscribed", d: { ch, code, name } });
  }

  #told(state: State): void {
    for (const session of [...this.#sessions]) {
      if (state.status === "stopped") this.#dismiss(session, state.closeCode!);
      else session.say({ ctl: "state", d: state });
    }
  }
}

/** Run in a shared worker: `serve({ url })` is all its file has to say. */
export function serve(options: HubOptions): void {
  const hub = new Hub(options);
  (globalThis as unknown as { onconnect: (event: MessageEvent) => void }).onconnect = ({ ports }) => hub.accept(ports[0]!);
}

/** One room while its page is open: what the server says of it, the own seat, the call, and what was said. */
import { computed, effect, signal } from "@preact/signals";
import type { Call } from "../media/call";
import { Devices } from "../media/devices";
import { PeerCall } from "../media/peer";
import { type Asked, call, codeOf, connection, on, Refused, say, serverNow, type Shown, subscribe, tell } from "../server";
import type { OwnWait, Seated, Waiting } from "../wire";
import { apply, begin, recall, type RoomState } from "./state";

/** Why one is no longer in the room. */
export type Why = "left" | "kicked" | "banned" | "evicted" | "closed" | "elsewhere" | "expired";

export type Phase =
  | { at: "loading" }
  | { at: "refused"; error: unknown }
  | { at: "preview" }
  | { at: "waiting"; position: number }
  | { at: "offered"; until: number }
  | { at: "inside" }
  | { at: "over"; why: Why };

/** How somebody's media are, as they say it themselves; nobody counts it. */
export interface Shows {
  microphone: boolean;
  camera: boolean;
  screen: boolean;
  hand: boolean;
}

export interface Unsent {
  key: string;
  text: string;
  error: unknown;
}

export interface Reaction {
  id: number;
  from: string;
  emoji: string;
}

export const REACTIONS = ["👍", "👏", "😂", "❤️", "🎉", "🤔"] as const;
// PROTOCOL: the others hear of it so often while somebody is in the call.
const SHOWN_EVERY_MS = 15_000;
const REACTION_MS = 4_000;
// A media server that starts again is back after a few seconds.
const AGAIN_MS = 3_000;
// What a channel gives again reaches back so far.
const RECALLED = 1_000;
const PAGE = 200;

export class LiveRoom {
  readonly phase = signal<Phase>({ at: "loading" });
  readonly state = signal<RoomState | null>(null);
  readonly call = signal<Call | null>(null);
  /** A seat is being asked for. */
  readonly isJoining = signal(false);
  /** Why the last wish was not granted. */
  readonly trouble = signal<unknown>(null);
  readonly shows = signal<ReadonlyMap<string, Shows>>(new Map());
  readonly unsent = signal<readonly Unsent[]>([]);
  readonly reactions = signal<readonly Reaction[]>([]);
  readonly hasHandUp = signal(false);
  readonly devices = new Devices();
  readonly ownShows = computed<Shows>(() => ({
    microphone: this.devices.microphone.value !== null && this.devices.isOn.microphone.value,
    camera: this.devices.sent.camera.value !== null,
    screen: this.devices.screen.value !== null,
    hand: this.hasHandUp.value,
  }));
  readonly isInside = computed(() => this.phase.value.at === "inside");
  readonly isHost = computed(() => this.state.value?.room.host === this.own);
  /** The tutor of a booking is paid for a student who is not there, so they put nobody out. */
  readonly mayRemove = computed(() => this.isHost.value && this.state.value?.room.kind !== "booking");
  readonly others = computed(() => (this.state.value?.people ?? []).filter(({ user_id }) => user_id !== this.own));

  /** What this page calls itself, so that it knows when the same person is in the call elsewhere. */
  readonly #page = crypto.randomUUID();
  readonly #ends: (() => void)[] = [];
  #unfollow: () => void = () => undefined;
  #early: Shown[] = [];
  #isLoading = false;
  #isOutdated = false;
  #isBanned = false;
  /** Counts ends: an answer to a question of before says nothing any more. */
  #turn = 0;
  #isClosed = false;
  #beginning = 0;
  #generation = 0;
  #mediaGeneration = 0;

  constructor(
    readonly id: string,
    readonly own: string,
  ) {
    this.#ends.push(
      on("room.signal", ({ d }) => d.room_id === id && this.call.value?.hear(d.from, d.data)),
      on("seat.offered", ({ d }) => d.room_id === id && this.#offered(d.expires_in_s)),
      on("queue.updated", ({ d }) => d.room_id === id && this.#moveUp(d.position)),
      this.#followConnection(),
      effect(() => this.call.value?.meet(this.others.value.map(({ user_id, seat_generation }) => ({ id: user_id, generation: seat_generation })))),
      ...(["microphone", "camera", "screen"] as const).map((kind) =>
        effect(() => void this.call.value?.send(kind, this.devices.sent[kind].value)),
      ),
      effect(() => this.#followEnd(this.call.value?.end.value ?? null)),
      this.#keepShowing(),
    );
    this.#follow();
    void this.#load();
  }

  /** The page is left, and with it the room. */
  close(): void {
    this.#turn += 1;
    this.#isClosed = true;
    const { at } = this.phase.value;
    if (at === "inside" || at === "waiting" || at === "offered") void this.leave();
    for (const end of this.#ends) end();
    this.#unfollow();
    this.#hangUp();
    this.devices.rest();
  }

  // --- Wishes ---

  /** Take a seat; with `queue` wait for one. */
  async join(queue = false): Promise<void> {
    this.isJoining.value = true;
    this.trouble.value = null;
    // Who was put out, or left, does not hear the room any more.
    if (this.phase.value.at === "over") {
      this.#follow();
      void this.devices.open();
    }
    try {
      await this.#take(queue);
      // Two devices of one person in one call would talk to each other: the earlier one steps back.
      if (this.isInside.value) this.#tell("room.send", { room_id: this.id, kind: "here", data: { page: this.#page } });
    } catch (error) {
      this.trouble.value = error;
      if (this.phase.value.at !== "preview") await this.#look().catch(() => undefined);
      this.phase.value = { at: "preview" };
    } finally {
      this.isJoining.value = false;
    }
  }

  async leave(): Promise<void> {
    this.#end(this.phase.value.at === "inside" ? "left" : null);
    await call("room.leave", { room_id: this.id }).catch(() => undefined);
    // With the seat, or the place in the queue, the channel was given up too.
    if (!this.#isClosed && this.phase.value.at === "preview") this.#follow();
  }

  async closeForAll(): Promise<void> {
    await call("room.close", { room_id: this.id });
  }

  async remove(person: string, isForGood: boolean): Promise<void> {
    await call("room.kick", { room_id: this.id, user_id: person, ban: isForGood });
  }

  /** Say something, once, and in its order, whatever happens to the connection. */
  async say(text: string, key: string = crypto.randomUUID()): Promise<void> {
    this.unsent.value = [...this.unsent.value.filter((one) => one.key !== key), { key, text, error: null }];
    try {
      const { message } = await say(`room:${this.id}`, "chat.send", { text });
      const { id, user_id, sent_at } = message;
      // It may be answered before its event comes.
      const event = { ev: "message.created", d: { id, user_id, text: message.text, sent_at, edited_at: null } } as Shown;
      if (this.state.value !== null) this.state.value = recall(this.state.value, event);
      this.unsent.value = this.unsent.value.filter((one) => one.key !== key);
    } catch (error) {
      this.unsent.value = this.unsent.value.map((one) => (one.key === key ? { ...one, error } : one));
    }
  }

  react(emoji: string): void {
    this.#tell("room.send", { room_id: this.id, kind: "reaction", data: { emoji } });
  }

  #tell<O extends "room.media_state" | "room.send" | "room.signal">(op: O, d: Asked<O>): void {
    tell(`room:${this.id}`, op, d);
  }

  // --- What the server says ---

  /** Hear the room, from now on anew. */
  #follow(): void {
    this.#unfollow();
    this.#unfollow = subscribe(`room:${this.id}`, { onReset: () => void this.#load(), onEvent: (event) => this.#hear(event) });
  }

  /** Fetch what the room is now, and what was said that is not known yet. */
  async #load(): Promise<void> {
    if (this.#isClosed) return;
    if (this.#isLoading) {
      this.#isOutdated = true;
      return;
    }
    this.#isLoading = true;
    this.#isOutdated = false;
    try {
      await (this.#isSeated() ? this.#take(false) : this.#look());
    } catch (error) {
      this.#cannotLoad(error);
    } finally {
      this.#isLoading = false;
    }
    if (this.#isOutdated) await this.#load();
  }

  #isSeated(): boolean {
    const { at } = this.phase.value;
    return at === "inside" || at === "waiting";
  }

  #cannotLoad(error: unknown): void {
    const { at } = this.phase.value;
    if (error instanceof Refused && isPassing(error.code)) {
      if (connection.value.status === "open") setTimeout(() => void this.#load(), AGAIN_MS);
      return;
    }
    if (at === "loading") this.phase.value = codeOf(error) === "banned" ? { at: "over", why: "banned" } : { at: "refused", error };
    else if (error instanceof Refused && this.#isSeated())
      this.#end(error.code === "banned" ? "banned" : error.code === "room_closed" ? "closed" : "expired");
  }

  async #look(): Promise<void> {
    const room = await call("room.get", { room_id: this.id });
    await this.#begin(room);
    const { at } = this.phase.value;
    if (room.state === "closing" || room.state === "closed") this.phase.value = { at: "over", why: at === "over" ? (this.phase.value as { why: Why }).why : "closed" };
    else if (at === "loading" || at === "refused" || this.#hasLapsed()) await this.#stand(room.own_wait);
  }

  /** Go on where one stood before the page was loaded. */
  async #stand(wait: OwnWait | null): Promise<void> {
    if (wait === null) this.phase.value = { at: "preview" };
    else if (wait.offered_until !== null) this.phase.value = { at: "offered", until: Date.parse(wait.offered_until) };
    else {
      this.phase.value = { at: "waiting", position: wait.position };
      // The place is kept for as long as this connection is there, and no more for that of before.
      await this.#take(false);
    }
  }

  #hasLapsed(): boolean {
    const phase = this.phase.value;
    return phase.at === "offered" && phase.until < serverNow();
  }

  async #take(queue: boolean): Promise<void> {
    const turn = this.#turn;
    const answer: Seated | Waiting = await call("room.join", { room_id: this.id, queue: queue || this.phase.value.at === "waiting" });
    if (turn !== this.#turn) {
      // The page was left meanwhile, and nobody else would give the seat back.
      if (this.#isClosed) void call("room.leave", { room_id: this.id }).catch(() => undefined);
      return;
    }
    if ("queue" in answer) {
      this.phase.value = { at: "waiting", position: answer.queue.position };
      return;
    }
    await this.#begin(answer.room);
    if (turn !== this.#turn) return;
    await this.#ring(answer);
    if (turn !== this.#turn) {
      this.#hangUp();
      return;
    }
    this.phase.value = { at: "inside" };
    this.#show();
  }

  async #begin(room: Seated["room"]): Promise<void> {
    const before = this.state.value;
    const since = Math.max(before?.off ?? 0, room.off - RECALLED);
    this.#beginning += 1;
    try {
      const found = await this.#recall(begin(room, before, serverNow()), since);
      // Two may have asked at once: an answer that comes behind a later one takes nothing back.
      const now = this.state.value;
      if (now === null || now.room.epoch !== found.room.epoch || now.off <= found.off) this.state.value = found;
    } finally {
      this.#beginning -= 1;
    }
    const early = this.#early;
    this.#early = [];
    for (const event of early) this.#hear(event);
  }

  /** Add what was said after an offset, up to the snapshot. */
  async #recall(state: RoomState, off: number): Promise<RoomState> {
    const { epoch, off: end } = state.room;
    if (off >= end) return state;
    const page = await call("history", { ch: `room:${this.id}`, since: { epoch, off }, limit: PAGE }).catch((error: unknown) => {
      if (codeOf(error) === "unrecoverable_position") return null;
      throw error;
    });
    // What is older than a day is not given again.
    if (page === null) return state;
    const events = (page.events as Shown[]).filter((event) => (event.off ?? 0) <= end);
    const known = events.reduce(recall, state);
    const last = events.at(-1)?.off;
    return page.more && last !== undefined ? this.#recall(known, last) : known;
  }

  #hear(event: Shown): void {
    if (event.off === undefined) {
      this.#hearPassing(event);
      return;
    }
    // What comes while the snapshot is being completed goes on from it, not from what it replaces.
    if (this.#beginning > 0) {
      this.#early.push(event);
      return;
    }
    const state = this.state.value;
    const next = state === null ? null : apply(state, event, serverNow());
    if (next === null) {
      this.#early.push(event);
      if (state !== null) void this.#load();
      return;
    }
    if (next === state) return;
    this.state.value = next;
    this.#react(event);
  }

  #react(event: Shown): void {
    switch (event.ev) {
      case "participant.joined":
        // Who comes knows nothing of how our media are.
        if (event.d.user_id !== this.own) this.#show();
        break;
      case "participant.kicked":
        if (event.d.user_id === this.own) this.#isBanned = event.d.banned;
        if (event.d.user_id === this.own && !this.isInside.value) this.#end(event.d.banned ? "banned" : "kicked");
        break;
      case "participant.left":
        this.shows.value = new Map([...this.shows.value].filter(([id]) => id !== event.d.user_id));
        if (event.d.user_id === this.own && event.d.seat_generation === this.#generation && this.isInside.value) this.#lost(event.d.reason);
        break;
      case "room.closing":
      case "room.closed":
        if (this.phase.value.at !== "over") this.#end("closed");
        break;
      default:
    }
  }

  #lost(reason: "closed" | "evicted" | "expired" | "kicked" | "left"): void {
    // We were away for too long, and are back: there may still be a seat.
    if (reason === "expired") void this.#load();
    else this.#end(reason === "kicked" && this.#isBanned ? "banned" : reason);
  }

  #hearPassing(event: Shown): void {
    if (event.ev === "participant.media") this.shows.value = new Map([...this.shows.value, [event.d.user_id, event.d.state as Shows]]);
    if (event.ev !== "room.message") return;
    const { from, kind, data } = event.d;
    if (kind === "here" && from === this.own && this.isInside.value && (data as { page: string }).page !== this.#page) this.#end("elsewhere");
    if (kind === "reaction") this.#shine(from, (data as { emoji: string }).emoji);
  }

  #offered(forS: number): void {
    if (this.phase.value.at === "waiting") this.phase.value = { at: "offered", until: serverNow() + forS * 1000 };
  }

  #moveUp(position: number | null): void {
    const { at } = this.phase.value;
    if (at === "waiting" && position !== null) this.phase.value = { at, position };
    else if ((at === "waiting" || at === "offered") && position === null && !this.isJoining.value) this.phase.value = { at: "preview" };
  }

  // --- The call ---

  async #ring({ media, seat, room }: Seated): Promise<void> {
    const isSame = this.call.value !== null && seat.generation === this.#generation && room.generation === this.#mediaGeneration;
    this.#generation = seat.generation;
    this.#mediaGeneration = room.generation;
    if (isSame && this.call.value?.end.value === null) {
      this.call.value.again();
      return;
    }
    this.#hangUp();
    if (media.provider === "livekit") {
      const { LiveKitCall } = await import("../media/livekit");
      this.call.value = new LiveKitCall(media);
    } else
      this.call.value = new PeerCall({
        own: { id: this.own, generation: seat.generation },
        servers: media.ice_servers,
        others: this.others.value.map(({ user_id, seat_generation }) => ({ id: user_id, generation: seat_generation })),
        deliver: (to, data) => this.#tell("room.signal", { room_id: this.id, to, data }),
      });
  }

  #hangUp(): void {
    this.call.value?.leave();
    this.call.value = null;
  }

  #end(why: Why | null): void {
    this.#turn += 1;
    this.#hangUp();
    if (why === null) void this.devices.shareScreen(false);
    else this.devices.rest();
    this.hasHandUp.value = false;
    this.phase.value = why === null ? { at: "preview" } : { at: "over", why };
  }

  #followEnd(end: "elsewhere" | "lost" | null): void {
    if (end === "elsewhere") this.#end("elsewhere");
    else if (end === "lost") setTimeout(() => void this.#load(), AGAIN_MS);
  }

  // --- Around it ---

  /** After every connection the seat is taken again, which changes nothing where it is still held. */
  #followConnection(): () => void {
    let wasAway = false;
    return effect(() => {
      const { status } = connection.value;
      if (status === "open" && wasAway) void this.#load();
      wasAway = status !== "open";
    });
  }

  #keepShowing(): () => void {
    const timer = setInterval(() => this.#show(), SHOWN_EVERY_MS);
    const end = this.ownShows.subscribe(() => this.#show());
    return () => {
      clearInterval(timer);
      end();
    };
  }

  /** Tell the others how the own media are. */
  #show(): void {
    if (this.isInside.peek()) this.#tell("room.media_state", { room_id: this.id, state: this.ownShows.peek() });
  }

  #shine(from: string, emoji: string): void {
    if (!(REACTIONS as readonly string[]).includes(emoji)) return;
    const reaction = { id: Math.random(), from, emoji };
    this.reactions.value = [...this.reactions.value, reaction];
    setTimeout(() => {
      this.reactions.value = this.reactions.value.filter((one) => one !== reaction);
    }, REACTION_MS);
  }
}

/** Whether what failed may do better on the next connection, or in a moment. */
function isPassing(code: Refused["code"]): boolean {
  return ["internal", "offline", "overloaded", "timeout_unknown_outcome", "too_many_requests"].includes(code);
}

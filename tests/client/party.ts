/**
 * People who talk in a room over the client library, and write down what they hear. Run by `test_line.py`, which breaks the
 * line between them and the server; the plan is the first argument, what is wanted next comes by line on stdin.
 */
import { type Client, connect, type State } from "../../server/web/client/src/index.ts";
import { Hub } from "../../server/web/client/src/hub.ts";

interface Plan {
  /** Where sockets go: the line that breaks. */
  url: string;
  /** Where tickets are had. */
  base: string;
  room_id: string;
  tokens: string[];
  /** How often everybody says something. */
  every_ms: number;
  /** How long a tab sleeps: longer than the worker waits for it, or not. */
  frozen_ms: number;
}

interface Notes {
  name: string;
  /** Where the snapshots stood: the first, and one after each reset. */
  snapshots: number[];
  /** Offset, and what was said, of every replayable event. */
  events: [number, string | null][];
  resets: number;
  ends: string[];
}

const plan: Plan = JSON.parse(process.argv[2]!);
const ROOM = `room:${plan.room_id}`;
// Short, so that a thousand cuts take minutes and not hours; the rules are the same.
const backoff = { baseMs: 50, capMs: 1_000, stableMs: 0 };
const all: Notes[] = [];
const codes: Record<string, number> = {};
const answered: string[] = [];
const failed: string[] = [];
let isOver = false;
let connections = 0;

function options(token: string) {
  const ticket = async (): Promise<string> => {
    const headers = { Authorization: `Bearer ${token}` };
    const answer = await fetch(`${plan.base}/api/v1/auth/ws-ticket`, { method: "POST", headers, signal: AbortSignal.timeout(3_000) });
    if (!answer.ok) throw new Error(`no ticket: ${answer.status}`);
    return ((await answer.json()) as { ticket: string }).ticket;
  };
  return { url: plan.url, ticket, backoff };
}

function noted(name: string): Notes {
  const notes: Notes = { name, snapshots: [], events: [], resets: 0, ends: [] };
  all.push(notes);
  return notes;
}

/** Take a seat, and write down what happens in the room. */
function sit(client: Client, name: string): Promise<Notes> {
  const notes = noted(name);
  return new Promise((seated) =>
    client.subscribe(ROOM, {
      join: () => client.call("room.join", { room_id: plan.room_id }),
      onSnapshot: ({ sub }: { sub: { off: number } }) => {
        notes.snapshots.push(sub.off);
        seated(notes);
      },
      ...writing(notes),
    }),
  );
}

/** Look on only. */
function watch(client: Client, name: string): () => void {
  const notes = noted(name);
  return client.subscribe(ROOM, {
    load: () => client.call("room.get", { room_id: plan.room_id }, { repeat: true }),
    onSnapshot: ({ off }: { off: number }) => notes.snapshots.push(off),
    ...writing(notes),
  });
}

function writing(notes: Notes) {
  return {
    onEvent: (event: { off?: number; d: { text?: string } }) => {
      if (event.off !== undefined) notes.events.push([event.off, event.d.text ?? null]);
    },
    onReset: () => notes.resets++,
    onEnd: (error: Error) => notes.ends.push(error.name),
  };
}

function counted(client: Client): void {
  client.onState(({ status, closeCode }: State) => {
    if (status === "open") connections++;
    if (status === "offline" || status === "stopped") codes[closeCode!] = (codes[closeCode!] ?? 0) + 1;
  });
}

/** Whoever has so much unsent stops writing: the library keeps a thousand. */
const UNSENT = 100;

/** Say numbered things until it is over, also without a connection and before earlier ones are answered. */
function talk(client: Client, name: string): void {
  let number = 0;
  let unsent = 0;
  const timer = setInterval(() => {
    if (isOver) return clearInterval(timer);
    if (unsent === UNSENT) return;
    unsent++;
    const text = `${name} ${++number}`;
    client
      .send("chat.send", { text }, { ch: ROOM })
      .then(
        () => answered.push(text),
        (error: Error) => failed.push(`${text}: ${error.name} ${error.message}`),
      )
      .finally(() => unsent--);
  }, plan.every_ms);
}

/** A port of a tab that may be frozen: what comes then waits, as the browser keeps it. */
class Tab {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  #port: MessagePort;
  #kept: unknown[] = [];
  #isFrozen = false;

  constructor(hub: Hub) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.onmessage = ({ data }) => {
      this.#kept.push(data);
      this.#take();
    };
    hub.accept(port2);
  }

  freeze(ms: number): void {
    this.#isFrozen = true;
    setTimeout(() => {
      this.#isFrozen = false;
      this.#take();
    }, ms);
  }

  #take(): void {
    while (!this.#isFrozen && this.onmessage && this.#kept.length > 0) this.onmessage({ data: this.#kept.shift() });
  }

  postMessage(data: unknown): void {
    this.#port.postMessage(data);
  }

  close(): void {
    this.#port.close();
  }
}

/** Somebody with several tabs and one connection: one talks, one falls asleep again and again, others come and go. */
async function browse(token: string, name: string): Promise<Client> {
  Object.assign(globalThis, { SharedWorker: Tab });
  const hub = new Hub({ url: plan.url, backoff });
  const tab = () => {
    let port!: Tab;
    const worker = () => ({ port: (port = new Tab(hub)) }) as unknown as SharedWorker;
    return { client: connect({ ...options(token), worker }), freeze: () => port.freeze(plan.frozen_ms) };
  };
  const first = tab();
  await sit(first.client, `${name} first tab`);
  const sleeper = tab();
  watch(sleeper.client, `${name} sleeping tab`);
  const sleeping = setInterval(() => (isOver ? clearInterval(sleeping) : sleeper.freeze()), plan.frozen_ms * 2);
  const coming = setInterval(() => {
    if (isOver) return clearInterval(coming);
    const { client } = tab();
    watch(client, `${name} passing tab`);
    setTimeout(() => client.close(), 800);
  }, 1_000);
  return first.client;
}

const [shared, ...others] = plan.tokens;
const clients: Client[] = [];
for (const [number, token] of others.entries()) {
  const client = connect(options(token));
  clients.push(client);
  await sit(client, `${number}`);
}
clients.push(await browse(shared!, "shared"));
for (const [number, client] of clients.entries()) {
  counted(client);
  talk(client, `${number}`);
}
console.log("talking");

const lines = (async function* () {
  let rest = "";
  for await (const chunk of process.stdin.setEncoding("utf8")) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
})();

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
await lines.next(); // enough was said
isOver = true;
// A message that is not answered is one that may be repeated, so these are the last that come.
await Promise.all(clients.map((client) => client.send("chat.send", { text: `the end` }, { ch: ROOM })));
console.log("silent");

const head = Number((await lines.next()).value);
const isThere = ({ name, events, snapshots, ends }: Notes) =>
  name.includes("passing") || ends.length > 0 || Math.max(events.at(-1)?.[0] ?? 0, snapshots.at(-1) ?? 0) >= head;
for (let tries = 0; !all.every(isThere) && tries < 600; tries++) await pause(50);
// A pipe takes megabytes in its own time.
process.stdout.write(`${JSON.stringify({ all, answered, failed, codes, connections })}\n`, () => process.exit(0));

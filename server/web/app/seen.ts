/**
 * The last answers of the pages that are read most, for times without the server: each account's own, forgotten at its
 * logout. They stand where the worker keeps the pages themselves, so there are none where there is no such worker.
 */
import { signal } from "@preact/signals";
import { kept } from "./kept";
import type { Operations } from "./wire";

type Op = keyof Operations;

const OPS: ReadonlySet<string> = new Set<Op>(["booking.get", "booking.list", "course.get", "course.list", "me.get", "notification.count", "notification.list", "purchase.list", "wallet.entries", "wallet.get"]);
const NAME = "seen";
// All courses of a full page of purchases, and what stands beside them.
const MOST = 40;

/** When what is shown was seen, at its oldest; `null` while it is as it is now. */
export const seenAt = signal<number | null>(null);

/** Whether the last answer to a question is kept: of a list in pages it is the first one. */
export function isSeen(op: Op, d: object): boolean {
  return OPS.has(op) && !("cursor" in d && typeof d.cursor === "string");
}

/** Keep an answer for whoever it was given to. */
export async function see(op: Op, d: object, answer: unknown): Promise<void> {
  const request = addressOf(op, d);
  const seen = await globalThis.caches?.open(NAME);
  // Somebody may have logged out by now.
  if (seen === undefined || request !== addressOf(op, d)) return;
  await seen.put(request, Response.json({ at: Date.now(), answer }));
  const all = await seen.keys();
  await Promise.all(all.slice(0, Math.max(all.length - MOST, 0)).map((one) => seen.delete(one)));
}

interface Seen<O extends Op> {
  at: number;
  answer: Operations[O]["ok"];
}

/** Return the last answer, and when it came. */
export async function recall<O extends Op>(op: O, d: Operations[O]["d"]): Promise<Seen<O> | undefined> {
  const found = await globalThis.caches?.match(addressOf(op, d), { cacheName: NAME });
  return found?.json();
}

/** Show an answer, and say from now on that not all is as it is now. */
export function showSeen<O extends Op>({ at, answer }: Seen<O>): Operations[O]["ok"] {
  seenAt.value = Math.min(seenAt.peek() ?? at, at);
  return answer;
}

/** Forget everything: somebody has logged out. */
export async function forget(): Promise<void> {
  await globalThis.caches?.delete(NAME);
}

function addressOf(op: Op, d: object): string {
  return `/${NAME}/${kept.get("member") ?? "guest"}/${op}?${encodeURIComponent(JSON.stringify(d))}`;
}

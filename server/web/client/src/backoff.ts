/** How long to wait before the next connection. */
import type { Verdict } from "./wire.ts";

export interface Backoff {
  /** First ceiling of the wait; it doubles with each failure. 500 ms: a cut of Wi-Fi heals in about that. */
  baseMs: number;
  /** Highest ceiling: PROTOCOL's 30 s. */
  capMs: number;
  /**
   * A connection that stood for this long forgives the failures before it. Shorter, and a server that lets people in
   * and drops them at once is asked several times a second by everybody, for ever.
   */
  stableMs: number;
}

export const BACKOFF: Backoff = { baseMs: 500, capMs: 30_000, stableMs: 30_000 };

/** After 4100–4199 nobody comes back sooner (PROTOCOL 3). */
const LEAST_MS = 1_000;

/**
 * Full jitter: anything between nothing and a ceiling that doubles, so that a crowd that was cut at once comes back
 * spread over the whole of it.
 *
 * @param failures how many connections ended before this wait without having been stable, the last one included
 * @param hintMs what the server asked for: never less than that
 */
export function delayOf(verdict: Verdict, failures: number, hintMs: number, backoff: Backoff): number {
  const ceiling = (doublings: number) =>
    Math.random() * Math.min(backoff.capMs, backoff.baseMs * 2 ** Math.min(doublings, 30));
  if (verdict === "wait") return Math.max(LEAST_MS, hintMs, ceiling(failures + 1));
  // "Now" is meant once; a server that says it again and again is having a bad time.
  if (verdict === "now") return Math.max(hintMs, failures > 1 ? ceiling(failures - 1) : 0);
  return Math.max(hintMs, ceiling(failures - 1));
}

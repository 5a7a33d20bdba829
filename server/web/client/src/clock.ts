/** The server's clock, told from the answers that say what time it is. */

/** A sample this old is replaced by any newer one: oscillators of phones drift by some milliseconds an hour. */
const STALE_MS = 3_600_000;

export class Clock {
  #time = Date.now();
  #at = performance.now();
  #error = Infinity;

  /** Note that the server said `time` (ms) in an answer to what was sent `rtt` ms ago; the quickest answer is kept. */
  sample(time: number, rtt: number): void {
    const at = performance.now();
    // The answer was made somewhere between asking and hearing: half of that is what it can be wrong by.
    if (rtt / 2 > this.#error && at - this.#at < STALE_MS) return;
    this.#error = rtt / 2;
    this.#time = time + rtt / 2;
    this.#at = at;
  }

  /** Forget how good the sample was: the machine may have slept, and `performance.now()` with it. */
  doubt(): void {
    this.#error = Infinity;
  }

  /** Milliseconds of the Unix epoch at the server; our own clock's until the server has been heard. */
  now(): number {
    return this.#time + performance.now() - this.#at;
  }
}

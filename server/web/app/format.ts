/** Money and time as people read them: in the page's language, and in the viewer's zone, which is always named. */
import { signal } from "@preact/signals";
import { language } from "./texts";
import type { Instant, Money } from "./wire";

export const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
/** The viewer's zone: the account's, or the browser's where nobody is logged in. */
export const zone = signal(ownZone);

/** How many decimals an amount in minor units has belongs to its currency (USD 2, VND 0), and Intl knows it. */
export function money({ amount, currency }: Money): string {
  const format = new Intl.NumberFormat(language.value, { style: "currency", currency });
  return format.format(amount / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
}

/** "Thu 26 Nov, 15:30 GMT+7" */
export function instant(at: Instant): string {
  return write(at, { weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit", timeZoneName: "short" });
}

/** "26 November 2026" */
export function day(at: Instant): string {
  return write(at, { dateStyle: "long" });
}

/** "5 minutes ago", "in 2 hours" */
export function fromNow(at: Instant, now: number): string {
  const seconds = Math.round((Date.parse(at) - now) / 1000);
  const [unit, size] = UNITS.find(([, least]) => Math.abs(seconds) >= least) ?? ["minute", 60];
  return new Intl.RelativeTimeFormat(language.value, { numeric: "auto" }).format(Math.trunc(seconds / size), unit);
}

/** "Vietnamese" for `vi`; what is no code of a language is shown as it was written. */
export function languageName(code: string): string {
  const name = known(code) ?? code;
  return name.charAt(0).toLocaleUpperCase(language.value) + name.slice(1);
}

const UNITS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

function known(code: string): string | undefined {
  try {
    return new Intl.DisplayNames(language.value, { type: "language" }).of(code);
  } catch {
    return undefined;
  }
}

function write(at: Instant, options: Intl.DateTimeFormatOptions): string {
  return new Intl.DateTimeFormat(language.value, { timeZone: zone.value, ...options }).format(new Date(at));
}

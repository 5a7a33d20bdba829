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

/** What somebody typed, like "12.50" or "12,50", as money; `null` where it is no amount. */
export function typed(text: string, currency = "USD"): Money | null {
  const decimals = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits ?? 2;
  const digits = text.trim().replace(",", ".");
  if (!new RegExp(`^\\d{1,9}(\\.\\d{0,${decimals}})?$`).test(digits)) return null;
  return { amount: Math.round(Number(digits) * 10 ** decimals), currency };
}

/** Seconds as a clock shows them: "1:20:00", or "18:00" below an hour; the same in every language. */
export function clock(seconds: number): string {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** "15:30", without its day; to the second where seconds decide. */
export function time(at: Instant, isExact = false): string {
  return write(at, { hour: "numeric", minute: "2-digit", ...(isExact ? { second: "2-digit" } : {}) });
}

/** An instant as a field for date and time wants it, in the viewer's zone: "2026-11-26T15:30". */
export function wallTime(at: Instant): string {
  return new Intl.DateTimeFormat("sv-SE", { timeZone: zone.value, dateStyle: "short", timeStyle: "short" }).format(new Date(at)).replace(" ", "T");
}

/** The instant that the viewer's clocks show as `wall` ("2026-11-26T15:30"); the later one where they are turned back. */
export function atWallTime(wall: string): Instant {
  const asUtc = Date.parse(`${wall}Z`);
  // How far the zone is from UTC depends on the instant that is looked for: the second guess is right.
  const guess = asUtc - offset(asUtc);
  return new Date(asUtc - offset(guess)).toISOString();
}

/** "Thu 26 Nov, 15:30 GMT+7"; by the clocks of the viewer's zone, or of another one. */
export function instant(at: Instant, timeZone = zone.value): string {
  return write(at, { weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit", timeZoneName: "short", timeZone });
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

function two(n: number): string {
  return String(n).padStart(2, "0");
}

/** How far the viewer's clocks are ahead of UTC at an instant. */
function offset(at: number): number {
  return Date.parse(`${wallTime(new Date(at).toISOString())}Z`) - at;
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

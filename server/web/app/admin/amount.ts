/** What somebody writes for money, in minor units. */

/** `undefined` where it is no amount above zero of this currency: "12.5", "12,50" and "1200" are. */
export function minorUnits(text: string, currency: string): number | undefined {
  const digits = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits ?? 2;
  const found = /^(\d{1,12})(?:[.,](\d+))?$/.exec(text.trim());
  if (found === null || (found[2]?.length ?? 0) > digits) return undefined;
  const minor = Number(`${found[1]}${(found[2] ?? "").padEnd(digits, "0")}`);
  return minor > 0 ? minor : undefined;
}

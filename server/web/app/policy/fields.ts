/** The terms as people write them: shares in percent, money in the major unit. Pure. */
import type { Changes, Policy, Tier } from "../wire";

export type Unit = "basis_points" | "percent" | "minor_units" | "days" | "hours" | "minutes" | "tiers" | "truth" | "choice";
export type Name = Exclude<keyof Policy, "version">;

const HUNDREDTHS: ReadonlySet<Unit> = new Set(["basis_points", "minor_units"]);

/** A value as it stands in its field. */
export function written(unit: Unit, value: Policy[Name]): string {
  if (HUNDREDTHS.has(unit)) return hundredths(Number(value));
  return String(value);
}

/** What was written, as the server takes it; a word that is no number stays one, for the server to refuse. */
export function read(unit: Unit, text: string): unknown {
  if (unit === "truth") return text === "true";
  if (unit === "choice") return text;
  const number = Number(text.trim().replace(",", "."));
  if (text.trim() === "" || Number.isNaN(number)) return text;
  // Not by multiplying alone: 19.99 × 100 is 1998.9999…
  return HUNDREDTHS.has(unit) ? Math.round(number * 100 * 1e6) / 1e6 : number;
}

/** Only what differs from the terms that it is made from. */
export function changes(terms: Policy, values: Readonly<Partial<Record<Name, unknown>>>): Changes {
  const differs = Object.entries(values).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(terms[name as Name]));
  return Object.fromEntries(differs) as Changes;
}

export function tier(from: string, fee: string): Tier {
  return { from_earned: read("minor_units", from) as number, fee_bps: read("basis_points", fee) as number };
}

export function hundredths(value: number): string {
  return (value / 100).toFixed(value % 100 === 0 ? 0 : 2);
}

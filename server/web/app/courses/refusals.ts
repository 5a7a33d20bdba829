/** What the server refuses about courses, in the reader's words. */
import { words } from "../parts/states";
import { codeOf, Refused } from "../server";
import { t } from "./texts";

// The field of the form that a conflict is about, which the server names by a code alone.
const FIELDS: Record<string, string> = { session_overlaps: "starts_at", notice_too_short: "starts_at", number_taken: "number" };

/** There is no such course, or the address names none. */
export function isMissing(error: unknown): boolean {
  return codeOf(error) === "not_found" || codeOf(error) === "bad_request";
}

/** The words alone, where no form shows them. */
export function said(error: unknown): string {
  return t().refusals[codeOf(error)] ?? words(error);
}

/** Do it; a refusal is in the reader's words, and at its field. */
export async function saying<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw error instanceof Refused ? inWords(error) : error;
  }
}

function inWords(refused: Refused): Refused {
  const text = t().refusals[refused.code];
  if (text === undefined) {
    const fields = Object.entries(refused.fields).map(([name, its]) => [name, wrong(name) ?? its] as const);
    return new Refused(refused.code, refused.message, Object.fromEntries(fields), refused.facts);
  }
  const field = FIELDS[refused.code];
  // The form has words of its own for the codes that it knows; this one is said as it stands.
  return new Refused("conflict", text, field === undefined ? {} : { [field]: text }, refused.facts);
}

/** The reader's words for a field; the server counts prices, say, in minor units, which nobody typed. */
function wrong(field: string): string | undefined {
  if (field.startsWith("price_")) return t().priceHint;
  return { number: t().refusedNumber, starts_at: t().refusedTime }[field];
}

/** What the server refuses about courses, in the reader's words. */
import { words } from "../parts/states";
import { Refused } from "../server";
import { t } from "./texts";

// The field of the form that a conflict is about, which the server names by a code alone.
const FIELDS: Record<string, string> = { session_overlaps: "starts_at", notice_too_short: "starts_at", number_taken: "number" };

export function codeOf(error: unknown): string {
  return error instanceof Refused ? error.code : "";
}

export function said(error: unknown): string {
  return t().refusals[codeOf(error)] ?? words(error);
}

/** Do it; a refusal is in the reader's words, and at its field. */
export async function saying<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const text = t().refusals[codeOf(error)];
    if (!(error instanceof Refused) || text === undefined) throw error;
    const field = FIELDS[error.code];
    // The form has words of its own for the codes that it knows; this one is said as it stands.
    throw new Refused("conflict", text, field === undefined ? {} : { [field]: text }, error.facts);
  }
}

/** An offer or a package in a few words, and what the server refuses of them. */
import { fromNow } from "../format";
import { codeOf, serverNow } from "../server";
import { words } from "../parts/states";
import type { OptionView, PackageSummary } from "../wire";
import { t } from "./texts";

export function holds({ validity_days, is_rolling }: Pick<OptionView, "validity_days" | "is_rolling">): string {
  if (validity_days === null) return t().never;
  return is_rolling ? `${t().days(validity_days)}, ${t().rolling}` : t().days(validity_days);
}

export function end({ ended_at, expires_at }: Pick<PackageSummary, "ended_at" | "expires_at">): string {
  if (ended_at !== null) return t().endedAt(fromNow(ended_at, serverNow()));
  return expires_at === null ? t().never : t().ends(fromNow(expires_at, serverNow()));
}

export function said(error: unknown): string {
  return t().refusals[codeOf(error)] ?? words(error);
}

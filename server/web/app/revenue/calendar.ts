/** The days or months of a span, those in which nothing moved too, so that a chart keeps time. */
import type { RevenueView } from "../wire";

const DAY_MS = 86_400_000;

export function begins({ since, until, by }: Pick<RevenueView, "since" | "until" | "by">): string[] {
  const [first, last] = [new Date(`${since}T00:00:00Z`), new Date(`${until}T00:00:00Z`)];
  if (by === "day") return Array.from({ length: (last.getTime() - first.getTime()) / DAY_MS + 1 }, (_, days) => written(first.getTime() + days * DAY_MS));
  const months = (last.getUTCFullYear() - first.getUTCFullYear()) * 12 + last.getUTCMonth() - first.getUTCMonth() + 1;
  return Array.from({ length: months }, (_, month) => written(Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + month, 1)));
}

function written(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}

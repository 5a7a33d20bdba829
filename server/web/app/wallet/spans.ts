/** Where presence stands in a picture of it. */
import type { Attendance, Instant } from "../wire";

/** Of the picture, in its own units: a thousandth is finer than any screen that shows it. */
export const WIDTH = 1000;

interface Layout {
  /** `null` where it is not known when the lesson was. */
  spans: readonly { x: number; width: number }[] | null;
  attended: number;
  required: number;
}

type Measured = Pick<Attendance, "intervals" | "attended_s" | "required_s" | "total_s">;

export function layout({ intervals, attended_s, required_s, total_s }: Measured, startsAt: Instant | null, endsAt: Instant | null): Layout {
  const share = (seconds: number) => (total_s === 0 ? 0 : within(seconds / total_s));
  const lengths = { attended: share(attended_s), required: share(required_s) };
  if (startsAt === null || endsAt === null) return { spans: null, ...lengths };
  const [start, end] = [Date.parse(startsAt), Date.parse(endsAt)];
  const place = (at: Instant) => within((Date.parse(at) - start) / (end - start));
  return { spans: intervals.map(({ from, to }) => ({ x: place(from), width: place(to) - place(from) })), ...lengths };
}

function within(part: number): number {
  return Math.min(1, Math.max(0, part)) * WIDTH;
}

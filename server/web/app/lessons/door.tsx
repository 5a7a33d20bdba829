/** The door of a lesson: when it is, how long until one may enter, and the way in. */
import { useEffect, useState } from "preact/hooks";
import { clock, fromNow, instant } from "../format";
import { serverNow } from "../server";
import type { Instant, SessionView } from "../wire";
import { t } from "./texts";

type Lesson = Pick<SessionView, "title" | "starts_at" | "ends_at" | "room_id" | "status">;

// The door opens ten minutes before the lesson (DOOR in the contract); the server has the last word on it.
const OPENS_BEFORE_MS = 10 * 60_000;
const CLOSES_AFTER_MS = 5 * 60_000;
const DAY_MS = 86_400_000;
const TICK_MS = 1_000;

export function Door({ lesson }: { lesson: Lesson }) {
  const now = useNow();
  const opens = opensAt(lesson.starts_at);
  // It may end before its time.
  const isOver = lesson.status === "completed" || lesson.status === "cancelled" || now >= shutsAt(lesson.ends_at);
  return (
    <>
      <div class="about">
        <strong>{lesson.title}</strong>
        <time class="soft" dateTime={lesson.starts_at}>
          {instant(lesson.starts_at)}
        </time>
      </div>
      {isOver ? (
        <span class="chip">{t().over}</span>
      ) : now < opens ? (
        opens - now < DAY_MS && <span class="chip figures">{t().opensIn(clock((opens - now) / 1000))}</span>
      ) : (
        <a class="button primary" href={`/rooms/${lesson.room_id}`}>
          {t().enter}
        </a>
      )}
    </>
  );
}

/** When a lesson's door opens, in milliseconds of the Unix epoch. */
export function opensAt(startsAt: Instant): number {
  return Date.parse(startsAt) - OPENS_BEFORE_MS;
}

function shutsAt(endsAt: Instant): number {
  return Date.parse(endsAt) + CLOSES_AFTER_MS;
}

/** How long until a door opens; to the second once it is less than a day. */
export function untilOpen(opens: number, now: number): string {
  if (opens - now < DAY_MS) return t().opensIn(clock((opens - now) / 1000));
  return t().opens(fromNow(new Date(opens).toISOString(), now));
}

/** How much of a lesson is left, or how long until it begins, as it passes. `ahead`: of the server's clock is the lesson's. */
export function TimeLeft({ starts, ends, ahead }: { starts: Instant; ends: Instant; ahead: number }) {
  const now = useNow() + ahead;
  const until = (at: number) => clock(Math.max(0, at - now) / 1000);
  const [begin, end] = [Date.parse(starts), Date.parse(ends)];
  return (
    <p class="faint figures" role="timer">
      {now < begin ? t().beginsIn(until(begin)) : now < end ? t().left(until(end)) : t().overtime(until(shutsAt(ends)))}
    </p>
  );
}

/** The server's time, while somebody looks. */
export function useNow(): number {
  const [now, setNow] = useState(serverNow());
  useEffect(() => {
    const timer = setInterval(() => setNow(serverNow()), TICK_MS);
    return () => clearInterval(timer);
  }, []);
  return now;
}

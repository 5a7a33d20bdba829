/** The door of a lesson: when it is, how long until one may enter, and the way in. */
import { useEffect, useState } from "preact/hooks";
import { clock, instant } from "../format";
import { serverNow } from "../server";
import type { SessionView } from "../wire";
import { t } from "./texts";

type Lesson = Pick<SessionView, "title" | "starts_at" | "ends_at" | "room_id">;

// The door opens ten minutes before the lesson (DOOR in the contract); the server has the last word on it.
const OPENS_BEFORE_MS = 10 * 60_000;
const CLOSES_AFTER_MS = 5 * 60_000;
const DAY_MS = 86_400_000;
const TICK_MS = 1_000;

export function Door({ lesson }: { lesson: Lesson }) {
  const now = useNow();
  const opens = Date.parse(lesson.starts_at) - OPENS_BEFORE_MS;
  const isOpen = now >= opens && now < Date.parse(lesson.ends_at) + CLOSES_AFTER_MS;
  return (
    <>
      <div class="about">
        <strong>{lesson.title}</strong>
        <time class="soft" dateTime={lesson.starts_at}>
          {instant(lesson.starts_at)}
        </time>
      </div>
      {isOpen ? (
        <a class="button primary" href={`/rooms/${lesson.room_id}`}>
          {t().enter}
        </a>
      ) : now < opens ? (
        opens - now < DAY_MS && <span class="chip figures">{t().opensIn(clock((opens - now) / 1000))}</span>
      ) : (
        <span class="chip">{t().over}</span>
      )}
    </>
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

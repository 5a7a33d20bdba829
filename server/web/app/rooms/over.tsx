/** After the call: why, and where to go from here. */
import { talks as talksIcon } from "../icons/places";
import { Empty } from "../parts/states";
import type { Snapshot } from "../wire";
import type { LiveRoom, Why } from "./live";
import { refusal } from "./preview";
import { t } from "./texts";

const FINAL: ReadonlySet<Why> = new Set(["banned", "closed", "evicted"]);

export function Over({ live, why }: { live: LiveRoom; why: Why }) {
  const room = live.state.value?.room ?? null;
  const isLesson = room !== null && room.kind !== "talk";
  return (
    <Empty icon={talksIcon} title={(isLesson ? t().lessonOver[why] : undefined) ?? t().over[why]} isPage>
      <p>{why === "closed" && room !== null ? closedWhy(room) : ((isLesson ? t().lessonOverWhy[why] : undefined) ?? t().overWhy[why])}</p>
      {room?.state === "closing" && <p role="status">{t().closing}</p>}
      {live.trouble.value !== null && (
        <p class="alert" role="alert">
          {refusal(live.trouble.value)}
        </p>
      )}
      <div class="row onward">
        {!FINAL.has(why) && (
          <button type="button" class="button primary" disabled={live.isJoining.value} aria-busy={live.isJoining.value} onClick={() => void live.join()}>
            {why === "elsewhere" ? t().goOnHere : t().back}
          </button>
        )}
        {!isLesson ? (
          <a class="button" href="/">
            {t().talks}
          </a>
        ) : (
          <a class="button" href={room.kind === "booking" ? `/bookings/${room.id}` : room.host === live.own ? "/teach/earnings" : "/holds"}>
            {t().outcome}
          </a>
        )}
      </div>
    </Empty>
  );
}

/** In the reader's words, by the room's own reason: a word for programs, but what a person wrote who cancelled a lesson. */
function closedWhy({ kind, reason, ended_at, ends_at }: Snapshot): string {
  if (kind === "talk" || reason === null) return t().closedWhy[reason ?? ""] ?? t().overWhy.closed;
  if (reason === "expired") return t().nobodyCame;
  if (reason !== "ended") return t().closedWhy[reason] ?? t().cancelled(reason);
  return ended_at !== null && ends_at !== null && Date.parse(ended_at) < Date.parse(ends_at) ? t().endedEarly : t().timeUp;
}

/** After the call: why, and where to go from here. */
import talksIcon from "../icons/talks.svg";
import { Empty } from "../parts/states";
import type { LiveRoom, Why } from "./live";
import { refusal } from "./preview";
import { t } from "./texts";

const FINAL: ReadonlySet<Why> = new Set(["banned", "closed", "evicted"]);

export function Over({ live, why }: { live: LiveRoom; why: Why }) {
  const isEmpty = why === "closed" && live.state.value?.room.reason === "empty";
  return (
    <Empty icon={talksIcon} title={t().over[why]} isPage>
      <p>{isEmpty ? t().empty : t().overWhy[why]}</p>
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
        {live.state.value === null || live.state.value.room.kind === "talk" ? (
          <a class="button" href="/">
            {t().talks}
          </a>
        ) : (
          <a class="button" href={live.state.value.room.host === live.own ? "/teach/earnings" : "/holds"}>
            {t().outcome}
          </a>
        )}
      </div>
    </Empty>
  );
}

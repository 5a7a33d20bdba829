/** Where operators begin: what waits for somebody to look, in each section. */
import { useLoaded } from "../parts/loaded";
import { call } from "../server";
import { Frame } from "./frame";
import { Integrity } from "./integrity";
import { t } from "./texts";

// More than this is "many" to whoever has to look at them.
const COUNTED = 20;

export default function Desk() {
  return (
    <Frame title={t().desk}>
      <div class="row spread">
        <p class="soft">{t().deskWhy}</p>
        <div class="row">
          <a class="button" href="/bookings">
            {t().bookings}
          </a>
          <Integrity />
        </div>
      </div>
      <ul class="desk">
        <Waiting section="tutors" load={() => call("admin.user.list", { role: "tutor", tutor_status: "pending", limit: COUNTED })} />
        <Waiting section="withdrawals" load={() => call("admin.withdrawal.list", { status: "pending", limit: COUNTED })} />
        <Waiting section="disputes" load={() => call("dispute.list", { status: "open", limit: COUNTED })} />
        <Waiting section="reviews" load={() => call("review.list", { limit: COUNTED })} />
        <Waiting section="jobs" load={() => call("job.list", { state: "dead", limit: COUNTED })} />
      </ul>
    </Frame>
  );
}

interface Options {
  section: "tutors" | "withdrawals" | "disputes" | "reviews" | "jobs";
  load: () => Promise<{ items: readonly unknown[]; next_cursor: string | null }>;
}

function Waiting({ section, load }: Options) {
  const { value, error } = useLoaded(load, []);
  const count = value?.items.length ?? 0;
  return (
    <li>
      <a class="card" href={`/admin/${section}`}>
        <span class="soft">{t().sections[section]}</span>
        <strong class="figures">
          {value === undefined ? (error === undefined ? "…" : "–") : count === 0 ? t().waits.nothing : t().waits[section](`${count}${value.next_cursor === null ? "" : "+"}`)}
        </strong>
      </a>
    </li>
  );
}

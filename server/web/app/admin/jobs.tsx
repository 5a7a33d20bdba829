/** What runs by itself: waiting, running, or given up and to be tried anew. */
import { useState } from "preact/hooks";
import { fromNow } from "../format";
import { Choice } from "../parts/choice";
import { usePages } from "../parts/pages";
import { toast } from "../parts/toast";
import { call, serverNow } from "../server";
import { language } from "../texts";
import type { JobView } from "../wire";
import { Deed } from "./deed";
import { Frame } from "./frame";
import { List } from "./list";
import { t } from "./texts";

const STATES = ["dead", "waiting", "running"] as const satisfies readonly JobView["state"][];

export default function Jobs() {
  const [state, setState] = useState<JobView["state"]>("dead");
  const [asked, setAsked] = useState<JobView | null>(null);
  const paged = usePages((cursor: string | null) => call("job.list", { state, cursor }), [state]);
  return (
    <Frame title={t().sections.jobs}>
      <Choice label={t().status} options={STATES.map((one) => [one, t().jobStates[one]] as const)} value={state} choose={setState} />
      <List paged={paged} none={t().noJobs}>
        {(job) => (
          <>
            <div class="about">
              <h2>{job.kind}</h2>
              <p class="faint figures">{facts(job).join(" · ")}</p>
              {job.error !== null && <p class="quote">{job.error}</p>}
            </div>
            {job.state === "dead" && (
              <div class="deeds">
                <button type="button" class="button" onClick={() => setAsked(job)}>
                  {t().retry}
                </button>
              </div>
            )}
          </>
        )}
      </List>
      {asked !== null && (
        <Deed
          title={t().retryJob(asked.kind)}
          what={t().retryJobWhat}
          confirm={t().retry}
          act={async ({ reason = "" }) => {
            await call("job.retry", { job_id: asked.id, reason });
            toast(t().done);
            await paged.reload();
          }}
          close={() => setAsked(null)}
        />
      )}
    </Frame>
  );
}

function span(seconds: number): string {
  const [unit, size] = UNITS.find(([, least]) => seconds % least === 0) ?? ["second", 1];
  return new Intl.NumberFormat(language.value, { style: "unit", unit, unitDisplay: "long" }).format(seconds / size);
}

const UNITS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
] as const;

function facts(job: JobView): string[] {
  const now = serverNow();
  return [
    // Periodic work has no name of its own.
    ...(job.every_s === null ? [job.key] : [t().every(span(job.every_s))]),
    t().runsAt(fromNow(job.run_at, now)),
    ...(job.tries > 0 ? [t().tries(job.tries)] : []),
    ...(job.last_run_at === null ? [] : [t().lastRun(fromNow(job.last_run_at, now), job.last_duration_ms ?? 0, job.last_count ?? 0)]),
  ];
}

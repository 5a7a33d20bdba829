/** What a period would have been under changed terms: as a chart, as a table, and tutor by tutor. */
import { useState } from "preact/hooks";
import { useNames } from "../admin/names";
import { day, money } from "../format";
import { Choice } from "../parts/choice";
import { useLoaded } from "../parts/loaded";
import { Failure, Loading } from "../parts/states";
import { call, serverNow } from "../server";
import type { BackTestOutcome, Changes } from "../wire";
import { Chart } from "./chart";
import { t } from "./texts";

const DAY_MS = 86_400_000;
const PERIODS = ["30", "90", "365"] as const;
const ROWS = ["released", "refunded", "to_tutors", "to_platform", "to_students"] as const;

export function BackTest({ changes }: { changes: Changes }) {
  const [days, setDays] = useState<(typeof PERIODS)[number]>("30");
  const { value, error, reload } = useLoaded(() => {
    const until = serverNow();
    // Without an end the server takes its own now, which time travel may have moved.
    return call("policy.preview", days === "30" ? { changes } : { changes, since: new Date(until - Number(days) * DAY_MS).toISOString() });
  }, [changes, days]);
  const names = useNames(value?.report.tutors.map(({ tutor_id }) => tutor_id) ?? []);
  const columns: readonly (readonly [string, BackTestOutcome])[] =
    value === undefined ? [] : [[t().was, value.report.was], [t().underNewest(value.base_version), value.under_newest], [t().wouldBe, value.report.would_be]];
  return (
    <section class="stack back-test" aria-labelledby="back-test">
      <header class="row spread">
        <h3 id="back-test">{t().backTest}</h3>
        <Choice label={t().period} options={PERIODS.map((one) => [one, t().lastDays(one)] as const)} value={days} choose={setDays} />
      </header>
      {value === undefined ? (
        error === undefined ? <Loading heights={["12rem"]} /> : <Failure error={error} again={reload} />
      ) : (
        <>
          <p class="soft" role="status">
            {day(value.report.since)} – {day(value.report.until)}: {t().changed(value.report.changed, value.report.holds)}
          </p>
          {value.report.holds > 0 && <Chart rows={columns} />}
          {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls has to be reached by keys */}
          <div class="scroll" tabIndex={0} role="region" aria-labelledby="back-test">
            <table>
              <thead>
                <tr>
                  <th scope="col">
                    <span class="visually-hidden">{t().what}</span>
                  </th>
                  {columns.map(([name]) => (
                    <th key={name} scope="col">
                      {name}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {ROWS.map((row) => (
                  <tr key={row}>
                    <th scope="row">{t().parts[row]}</th>
                    {columns.map(([name, one]) => {
                      const cell = one[row];
                      return <td key={name}>{typeof cell === "number" ? cell : money(cell)}</td>;
                    })}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {value.report.tutors.length > 0 && (
            // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- likewise
            <div class="scroll" tabIndex={0} role="region" aria-label={t().byTutor}>
              <table>
                <thead>
                  <tr>
                    <th scope="col">{t().byTutor}</th>
                    <th scope="col">{t().was}</th>
                    <th scope="col">{t().wouldBe}</th>
                    <th scope="col">{t().change}</th>
                  </tr>
                </thead>
                <tbody>
                  {value.report.tutors.map((one) => (
                    <tr key={one.tutor_id}>
                      <th scope="row">{names.name(one.tutor_id)}</th>
                      <td>{money(one.was)}</td>
                      <td>{money(one.would_be)}</td>
                      <td>{money(one.change)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </>
      )}
    </section>
  );
}

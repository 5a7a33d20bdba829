/** What a period brought the platform, for its owner. */
import { useState } from "preact/hooks";
import { Frame } from "../admin/frame";
import { t as admin } from "../admin/texts";
import { money } from "../format";
import { Choice } from "../parts/choice";
import { Field, Form, Submit } from "../parts/form";
import { useLoaded } from "../parts/loaded";
import { Failure, Loading } from "../parts/states";
import { type Asked, call, codeOf, Refused } from "../server";
import { language } from "../texts";
import type { RevenueView } from "../wire";
import { begins } from "./calendar";
import { Chart } from "./chart";
import { t } from "./texts";

type By = RevenueView["by"];
const PARTS = ["to_tutors", "to_platform", "to_students"] as const;

export default function Page() {
  const [asked, setAsked] = useState<Asked<"revenue.get">>({ by: "day" });
  const { value, error, reload } = useLoaded(() => call("revenue.get", asked), [asked]);
  return (
    <Frame title={admin().sections.revenue}>
      <p class="soft">{t().why}</p>
      {value === undefined ? (
        error === undefined ? <Loading heights={["5rem", "6rem", "14rem"]} /> : <Failure error={error} again={reload} />
      ) : (
        <>
          <Span shown={value} ask={setAsked} />
          <Sums shown={value} />
          {value.periods.length === 0 ? (
            <p class="soft">{t().none}</p>
          ) : (
            <>
              <section class="card stack" aria-labelledby="chart">
                <h2 id="chart">{t().chart}</h2>
                <Chart all={begins(value)} periods={value.periods} name={(first) => nameOf(first, value.by)} />
              </section>
              <Sources shown={value} />
              <Costs shown={value} />
            </>
          )}
        </>
      )}
    </Frame>
  );
}

function Span({ shown, ask }: { shown: RevenueView; ask: (asked: Asked<"revenue.get">) => void }) {
  const [by, setBy] = useState<By>(shown.by);
  async function show({ since = "", until = "" }: Record<string, string>): Promise<void> {
    const wanted = { by, since, until };
    // The server says whether it shows so much; the page stays as it was if not.
    await call("revenue.get", wanted).catch((error: unknown) => {
      throw codeOf(error) === "bad_request" ? new Refused("bad_request", t().wrong, { since: t().wrong }) : error;
    });
    ask(wanted);
  }
  return (
    <section class="card" aria-label={admin().sections.revenue}>
      <Form submit={show}>
        <div class="pair">
          <Field name="since" label={t().since} type="date" required defaultValue={shown.since} />
          <Field name="until" label={t().until} type="date" required defaultValue={shown.until} />
        </div>
        <div class="row">
          <Choice label={t().by} options={[["day", t().bys.day], ["month", t().bys.month]]} value={by} choose={setBy} />
          <Submit>{t().show}</Submit>
        </div>
      </Form>
    </section>
  );
}

function Sums({ shown: { net, total, costs_in_all } }: { shown: RevenueView }) {
  const sums = [[t().net, net], [t().toPlatform, total.to_platform], [t().costs, costs_in_all]] as const;
  return (
    <dl class="balances" aria-live="polite">
      {sums.map(([name, sum]) => (
        <div class="card" key={name}>
          <dt>{name}</dt>
          <dd class="figures">{money(sum)}</dd>
        </div>
      ))}
    </dl>
  );
}

function Sources({ shown: { sources, total } }: { shown: RevenueView }) {
  if (sources.length === 0) return null;
  return (
    <section class="card stack" aria-labelledby="sources">
      <h2 id="sources">{t().sources}</h2>
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls has to be reached by keys */}
      <div class="scroll" tabIndex={0} role="group" aria-labelledby="sources">
        <table class="revenue">
          <thead>
            <tr>
              <th scope="col">
                <span class="visually-hidden">{t().what}</span>
              </th>
              {PARTS.map((part) => (
                <th key={part} scope="col">
                  {t().parts[part]}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {sources.map((one) => (
              <tr key={one.source_kind}>
                <th scope="row">{t().kinds[one.source_kind]}</th>
                {PARTS.map((part) => (
                  <td key={part}>{money(one[part])}</td>
                ))}
              </tr>
            ))}
          </tbody>
          <tfoot>
            <tr>
              <th scope="row">{t().sum}</th>
              {PARTS.map((part) => (
                <td key={part}>{money(total[part])}</td>
              ))}
            </tr>
          </tfoot>
        </table>
      </div>
    </section>
  );
}

function Costs({ shown: { costs } }: { shown: RevenueView }) {
  if (costs.length === 0) return null;
  return (
    <section class="card stack" aria-labelledby="costs">
      <h2 id="costs">{t().costList}</h2>
      <ul class="lines-of">
        {costs.map(({ kind, amount }) => (
          <li key={kind}>
            <div class="about">
              <strong>{t().costKinds[kind] ?? kind}</strong>
            </div>
            <span class="amount figures">{money(amount)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function nameOf(first: string, by: By): string {
  const options = by === "day" ? ({ day: "numeric", month: "short" } as const) : ({ month: "short", year: "numeric" } as const);
  return new Intl.DateTimeFormat(language.value, { ...options, timeZone: "UTC" }).format(new Date(`${first}T00:00:00Z`));
}

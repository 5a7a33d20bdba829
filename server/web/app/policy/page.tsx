/** The terms: in force, to come, and as they were; and for the owner, new ones, tried on the past before they are made. */
import { useState } from "preact/hooks";
import { Frame } from "../admin/frame";
import { day, instant, money, ownZone } from "../format";
import { Deed } from "../admin/deed";
import { Field } from "../parts/form";
import { useLoaded } from "../parts/loaded";
import { More } from "../parts/more";
import { usePages } from "../parts/pages";
import { Failure, Loading } from "../parts/states";
import { toast } from "../parts/toast";
import { call, Refused, serverNow } from "../server";
import { me } from "../session";
import { language } from "../texts";
import type { Changes, Policy, PolicyVersion, PolicyView } from "../wire";
import { BackTest } from "./back_test";
import { Editor } from "./editor";
import { hundredths, type Name, type Unit } from "./fields";
import { replacedBy } from "./planned";
import { t } from "./texts";

export default function Terms() {
  const inForce = useLoaded(() => call("policy.get", {}), []);
  const versions = usePages((cursor: number | null) => call("policy.list", { cursor }), []);
  const [tried, setTried] = useState<Changes | null>(null);
  const [isAsking, setAsking] = useState(false);
  const view = inForce.value;
  const newest = versions.items?.[0];
  const error = inForce.error ?? versions.error;
  async function reload(): Promise<void> {
    await Promise.all([inForce.reload(), versions.reload()]);
  }
  if (view === undefined || newest === undefined)
    return <Frame title={t().title}>{error === undefined ? <Loading heights={["14rem", "10rem"]} /> : <Failure error={error} again={() => void reload()} />}</Frame>;
  const changesOf = (made: Changes) => differences(newest.terms, { ...newest.terms, ...(made as Partial<Policy>) }, view);
  return (
    <Frame title={t().title}>
      <div class="terms">
        <InForce view={view} />
        {me.value?.role === "owner" ? (
          <section class="card stack" aria-labelledby="new-terms">
            <h2 id="new-terms">{t().change}</h2>
            <p class="faint">{t().changeWhy(newest.terms.version)}</p>
            <Editor key={newest.terms.version} terms={newest.terms} rules={view.rules} attempt={setTried} />
            {tried !== null && (
              <>
                <BackTest changes={tried} />
                <Differences lines={changesOf(tried)} />
                <div>
                  <button type="button" class="button danger" onClick={() => setAsking(true)}>
                    {t().make}
                  </button>
                </div>
              </>
            )}
          </section>
        ) : (
          <p class="faint">{t().ownerOnly}</p>
        )}
        <section class="stack" aria-labelledby="versions">
          <h2 id="versions">{t().versions}</h2>
          <ol class="items">
            {versions.items?.map((one, index) => (
              <Version key={one.terms.version} one={one} before={versions.items?.[index + 1]} view={view} />
            ))}
          </ol>
          <More more={versions.more} />
        </section>
      </div>
      {isAsking && tried !== null && (
        <Make
          newest={newest}
          versions={versions.items ?? []}
          changes={tried}
          lines={changesOf(tried)}
          done={async () => {
            setTried(null);
            await reload();
          }}
          close={() => setAsking(false)}
        />
      )}
    </Frame>
  );
}

interface MakeOptions {
  newest: PolicyVersion;
  versions: readonly PolicyVersion[];
  changes: Changes;
  lines: readonly string[];
  done: () => Promise<void>;
  close: () => void;
}

function Make({ newest, versions, changes, lines, done, close }: MakeOptions) {
  const [from, setFrom] = useState("");
  // Which of them: another moment replaces others, and that is asked anew.
  const [agreed, setAgreed] = useState("");
  const now = serverNow();
  const replaced = replacedBy(versions, from === "" ? now : Date.parse(from), now);
  const names = replaced.map(({ terms, effective_from }) => t().planned(terms.version, instant(effective_from)));
  const isAgreed = agreed === names.join();
  return (
    <Deed
      title={t().makeSure(newest.terms.version + 1)}
      what={t().makeWhat}
      confirm={t().make}
      isDangerous
      act={async ({ reason = "", effective_from = "" }, key) => {
        if (!isAgreed) throw new Refused("conflict", t().replaceFirst);
        await call(
          "policy.set",
          {
            base_version: newest.terms.version,
            changes,
            reason,
            effective_from: effective_from === "" ? null : new Date(effective_from).toISOString(),
            replace_planned: replaced.length > 0,
          },
          { key },
        );
        toast(t().made);
        await done();
      }}
      close={close}
    >
      <Differences lines={lines} />
      <div onInput={({ target }) => setFrom((target as HTMLInputElement).value)}>
        <Field name="effective_from" label={t().from} type="datetime-local" hint={t().fromHint(ownZone)} />
      </div>
      {replaced.length > 0 && (
        <div class="replacing stack" role="status">
          <p>{t().replaces}</p>
          <Differences lines={names} />
          <label class="check">
            <input type="checkbox" checked={isAgreed} onChange={({ currentTarget }) => setAgreed(currentTarget.checked ? names.join() : "")} /> {t().replace}
          </label>
        </div>
      )}
    </Deed>
  );
}

function InForce({ view }: { view: PolicyView }) {
  return (
    <section class="card stack" aria-labelledby="in-force">
      <header class="row spread">
        <h2 id="in-force">{t().inForce(view.terms.version)}</h2>
        <span class="faint">{begun(view.effective_from, day)}</span>
      </header>
      {view.next_change_at !== null && (
        <p>
          <span class="chip warn">{t().nextChange(instant(view.next_change_at))}</span>
        </p>
      )}
      <ul class="rules">
        {view.rules.map((rule) => (
          <li key={rule.name}>{language.value === "vi" ? rule.vi : rule.en}</li>
        ))}
      </ul>
    </section>
  );
}

function Version({ one, before, view }: { one: PolicyVersion; before: PolicyVersion | undefined; view: PolicyView }) {
  const lines = before === undefined ? [] : differences(before.terms, one.terms, view);
  return (
    <li class="item card">
      <div class="about">
        <h3>
          {t().version(one.terms.version)} {one.terms.version === view.terms.version && <span class="chip accent">{t().now}</span>}
          {one.is_replaced && <span class="chip warn">{t().replaced}</span>}
        </h3>
        <p class="faint">
          {begun(one.effective_from, instant)} · {one.made_by_name ?? t().product}
        </p>
        <p class="quote">{one.reason}</p>
        <Differences lines={lines} />
      </div>
    </li>
  );
}

/** The first version has been in force since the beginning of time. */
function begun(at: string, write: (at: string) => string): string {
  return Date.parse(at) === 0 ? t().fromStart : t().since(write(at));
}

function Differences({ lines }: { lines: readonly string[] }) {
  return lines.length === 0 ? null : (
    <ul class="differences">
      {lines.map((line) => (
        <li key={line}>{line}</li>
      ))}
    </ul>
  );
}

function differences(was: Policy, is: Policy, { rules }: PolicyView): string[] {
  return rules
    .map(({ name, unit }) => ({ name: name as Name, unit }))
    .filter(({ name }) => JSON.stringify(was[name]) !== JSON.stringify(is[name]))
    .map(({ name, unit }) => `${t().names[name]}: ${shown(unit, was[name])} → ${shown(unit, is[name])}`);
}

function shown(unit: Unit, value: Policy[Name]): string {
  switch (unit) {
    case "basis_points":
      return `${hundredths(Number(value))} %`;
    case "percent":
      return `${value} %`;
    case "minor_units":
      return money({ amount: Number(value), currency: "USD" });
    case "tiers":
      return (value as Policy["booking_tiers"]).map(({ from_earned, fee_bps }) => `${money({ amount: from_earned, currency: "USD" })}+ ${hundredths(fee_bps)} %`).join("; ");
    case "truth":
      return value === true ? t().yes : t().no;
    case "choice":
      return t().choices[value as Policy["package_expiry"]];
    case "days":
    case "hours":
    case "minutes":
      return t().spans[unit](Number(value));
  }
}

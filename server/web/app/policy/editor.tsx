/** New terms, written over the newest ones. */
import { useState } from "preact/hooks";
import { Field, Form, Select, Submit } from "../parts/form";
import { Refused } from "../server";
import type { Changes, Policy, PolicyView } from "../wire";
import { changes, hundredths, type Name, read, tier, type Unit, written } from "./fields";
import { t } from "./texts";

interface Options {
  terms: Policy;
  rules: PolicyView["rules"];
  attempt: (changes: Changes) => void;
}

export function Editor({ terms, rules, attempt }: Options) {
  const [truth, setTruth] = useState(String(terms.tiers_count_everything));
  const [choice, setChoice] = useState<string>(terms.package_expiry);
  const [steps, setSteps] = useState(() => terms.booking_tiers.map(({ from_earned, fee_bps }, id) => ({ id, from: hundredths(from_earned), fee: hundredths(fee_bps) })));

  async function send(values: Record<string, string>): Promise<void> {
    const found: Partial<Record<Name, unknown>> = { booking_tiers: steps.map(({ from, fee }) => tier(from, fee)) };
    for (const { name, unit } of rules) if (unit !== "tiers") found[name as Name] = read(unit, values[name] ?? "");
    const different = changes(terms, found);
    if (Object.keys(different).length === 0) throw new Refused("conflict", t().nothingChanged);
    attempt(different);
  }

  function field({ name, unit }: { name: string; unit: Unit }) {
    const known = name as Name;
    const label = t().names[known];
    switch (unit) {
      case "truth":
        return <Select key={name} name={name} label={label} options={[["true", t().yes], ["false", t().no]]} value={truth} choose={setTruth} />;
      case "choice":
        return <Select key={name} name={name} label={label} options={Object.entries(t().choices)} value={choice} choose={setChoice} />;
      case "tiers":
        return null;
      default:
        return <Field key={name} name={name} label={`${label} (${t().units[unit]})`} defaultValue={written(unit, terms[known])} required />;
    }
  }

  const change = (id: number, part: "from" | "fee", text: string) => setSteps(steps.map((step) => (step.id === id ? { ...step, [part]: text } : step)));
  return (
    <Form submit={send}>
      <div class="pair">{rules.map(field)}</div>
      <fieldset class="tiers">
        <legend>{t().names.booking_tiers}</legend>
        {steps.map(({ id, from, fee }, index) => (
          <div class="row" key={id}>
            <label>
              {t().tierFrom}
              <input inputMode="decimal" value={from} onInput={({ currentTarget }) => change(id, "from", currentTarget.value)} />
            </label>
            <label>
              {t().tierFee}
              <input inputMode="decimal" value={fee} onInput={({ currentTarget }) => change(id, "fee", currentTarget.value)} />
            </label>
            {index > 0 && (
              <button type="button" class="button square" aria-label={t().tierRemove(index + 1)} onClick={() => setSteps(steps.filter((step) => step.id !== id))}>
                ×
              </button>
            )}
          </div>
        ))}
        <button
          type="button"
          class="button"
          onClick={() => setSteps([...steps, { id: Math.max(...steps.map((step) => step.id)) + 1, from: "", fee: "" }])}
        >
          {t().tierAdd}
        </button>
      </fieldset>
      <div>
        <Submit>{t().try}</Submit>
      </div>
    </Form>
  );
}

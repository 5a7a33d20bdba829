/** A field for an amount of money. */
import { typed } from "../format";
import { Refused } from "../server";
import { Field } from "./form";
import { t } from "./texts";

export function AmountField({ name, label, hint, defaultValue }: { name: string; label: string; hint?: string; defaultValue?: string }) {
  return <Field name={name} label={`${label} (USD)`} inputMode="decimal" autocomplete="off" required {...(hint === undefined ? {} : { hint })} {...(defaultValue === undefined ? {} : { defaultValue })} />;
}

/** The amount in a form's field; what is none is refused at the field. */
export function amountOf(text: string | undefined, field: string): { amount: number; currency: "USD" } {
  const money = typed(text ?? "");
  if (money === null || money.amount === 0) throw new Refused("bad_request", t().money, { [field]: t().money });
  return { amount: money.amount, currency: "USD" };
}

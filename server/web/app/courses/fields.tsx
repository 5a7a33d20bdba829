/** What a course is made of, for the draft and for its changes. */
import { useState } from "preact/hooks";
import { languageName } from "../format";
import { amountOf, AmountField } from "../parts/amount";
import { Choice } from "../parts/choice";
import { Field, Select, TextField } from "../parts/form";
import { Refused } from "../server";
import type { CourseSummary, Money } from "../wire";
import { LANGUAGES, LEVELS } from "./choices";
import { t } from "./texts";

const SALES = ["per_session", "full_course", "both"] as const;
// What the server takes; it says so of a field, but in English.
export const LIMITS = { sessions: [1, 100], hours: [1, 10_000], places: [1, 1_000], minutes: [15, 480] } as const;
type Sale = (typeof SALES)[number];

const typedAs = (price: Money | null | undefined) => (price === null || price === undefined ? "" : (price.amount / 100).toFixed(2));

export function Fields({ course }: { course?: CourseSummary }) {
  const [language, setLanguage] = useState(course?.language ?? "en");
  const [level, setLevel] = useState<string>(course?.level ?? "B1");
  const [sale, setSale] = useState<Sale>(course === undefined ? "both" : saleOf(course));
  const languages = [...new Set([...LANGUAGES, language])];
  return (
    <>
      <Field name="title" label={t().title} maxLength={255} required defaultValue={course?.title ?? ""} />
      <TextField name="description" label={t().description} maxLength={5000} required defaultValue={course?.description ?? ""} />
      <div class="pair">
        <Select name="language" label={t().language} options={languages.map((code) => [code, languageName(code)])} value={language} choose={setLanguage} />
        <Select name="level" label={t().level} options={LEVELS.map((one) => [one, one])} value={level} choose={setLevel} />
      </div>
      <Field name="category" label={t().category} hint={t().categoryHint} maxLength={100} required defaultValue={course?.category ?? ""} />
      <div class="pair">
        <Field name="total_sessions" refusal={t().between(...LIMITS.sessions)} label={t().totalSessions} type="number" required defaultValue={String(course?.total_sessions ?? 4)} />
        <Field name="duration_hours" refusal={t().between(...LIMITS.hours)} label={t().durationHours} inputMode="decimal" required defaultValue={String(course?.duration_hours ?? 6)} />
        <Field name="max_students" refusal={t().between(...LIMITS.places)} label={t().maxStudents} type="number" required defaultValue={String(course?.max_students ?? 20)} />
      </div>
      <div class="field">
        <span class="faint" aria-hidden="true">
          {t().sale}
        </span>
        <Choice label={t().sale} options={SALES.map((one) => [one, t().saleWays[one]] as const)} value={sale} choose={setSale} />
      </div>
      <div class="pair">
        {sale !== "full_course" && <AmountField name="price_per_session" label={t().pricePerSession} hint={t().priceHint} defaultValue={typedAs(course?.price_per_session)} />}
        {sale !== "per_session" && <AmountField name="price_full_course" label={t().priceFull} hint={t().priceHint} defaultValue={typedAs(course?.price_full_course)} />}
      </div>
    </>
  );
}

function saleOf({ price_per_session, price_full_course }: CourseSummary): Sale {
  if (price_per_session === null) return "full_course";
  return price_full_course === null ? "per_session" : "both";
}

/** What the fields say, as the server wants it; a price whose field is not there is none. */
export function read(values: Record<string, string>) {
  const price = (name: string) => (values[name] === undefined ? null : amountOf(values[name], name));
  const prices = { price_per_session: price("price_per_session"), price_full_course: price("price_full_course") };
  return {
    title: values["title"] ?? "",
    description: values["description"] ?? "",
    category: values["category"] ?? "",
    language: values["language"] ?? "en",
    level: LEVELS.find((level) => level === values["level"]) ?? ("B1" as const),
    duration_hours: number(values, "duration_hours"),
    total_sessions: number(values, "total_sessions"),
    max_students: number(values, "max_students"),
    price_type: prices.price_per_session === null ? ("full_course" as const) : ("per_session" as const),
    ...prices,
  };
}

export function number(values: Record<string, string>, name: string): number {
  const found = Number((values[name] ?? "").replace(",", "."));
  if (!Number.isFinite(found)) throw new Refused("bad_request", t().refusedNumber, { [name]: t().refusedNumber });
  return found;
}

/**
 * Asking a tutor for a lesson: when, how long, about what, and what pays for it. The server says what it costs and what is
 * missing; is the price another one by then, it refuses and it is shown anew.
 */
import { useLocation } from "preact-iso";
import { useEffect, useRef, useState } from "preact/hooks";
import { atWallTime, money, zone } from "../format";
import { Cost, TopUp } from "../parts/cost";
import { Field, Form, Select, Submit, TextField } from "../parts/form";
import { useKeys } from "../parts/keys";
import { useLoaded } from "../parts/loaded";
import { Failure, Loading } from "../parts/states";
import { toast } from "../parts/toast";
import { type Asked, call, codeOf, Refused } from "../server";
import { me } from "../session";
import type { BookingQuote, Id, TutorView, UsablePackage } from "../wire";
import { type Draft, draft } from "./draft";
import { t } from "./texts";
import { refused } from "./words";

// B-07, as the contract has them.
const LENGTHS = [25, 30, 45, 50, 60, 90, 120] as const;
type Length = (typeof LENGTHS)[number];
const WALLET = "wallet";
// The field that a refusal is about, which the server names by a code alone.
const FIELDS: Readonly<Record<string, string>> = {
  slot_no_longer_available: "starts_at",
  package_ends_before: "starts_at",
  student_is_busy: "starts_at",
  package_exhausted: "pay",
  package_over: "pay",
  package_not_found: "pay",
};
// After these the server has other terms than those on the page.
const STALE = new Set(["price_changed", "insufficient_funds", "package_exhausted", "package_over", "package_not_found"]);

export function Ask({ tutor }: { tutor: TutorView }) {
  const { path, query } = useLocation();
  const section = useRef<HTMLElement>(null);
  // In the address, so that the way over the login or a top-up leads back to it.
  const isWanted = query["ask"] !== undefined || query["package"] !== undefined;
  useEffect(() => {
    if (isWanted) section.current?.scrollIntoView();
  }, [isWanted]);
  const account = me.value;
  if (account === undefined || (account !== null && account.role !== "student")) return null;
  return (
    <section class="card stack" aria-labelledby="ask" ref={section}>
      <h2 id="ask">{t().ask}</h2>
      {account === null ? (
        <a class="button primary start" href={`/login?next=${encodeURIComponent(`${path}?ask`)}`}>
          {t().askLogIn}
        </a>
      ) : (
        <Request tutor={tutor} own={account.id} wanted={query["package"]} />
      )}
    </section>
  );
}

interface Terms {
  /** `null`: this tutor gives lessons of packages only. */
  quote: BookingQuote | null;
  packages: readonly UsablePackage[];
}

async function termsOf({ id, hourly_rate }: TutorView, minutes: Length): Promise<Terms> {
  if (hourly_rate !== null) {
    const quote = await call("booking.quote", { tutor_id: id, minutes });
    return { quote, packages: quote.packages };
  }
  const { items } = await call("package.list", { status: "active", limit: 100 });
  return { quote: null, packages: items.filter(({ tutor_id, remaining }) => tutor_id === id && remaining > 0) };
}

function Request({ tutor, own, wanted }: { tutor: TutorView; own: Id; wanted: string | undefined }) {
  const { path, route } = useLocation();
  const [before] = useState(() => draft.get(own, tutor.id));
  const [minutes, setMinutes] = useState<Length>(LENGTHS.find((one) => String(one) === before["minutes"]) ?? 60);
  const [pay, setPay] = useState(wanted ?? before["pay"] ?? WALLET);
  const { value: terms, error, reload } = useLoaded(() => termsOf(tutor, minutes), [tutor.id, own, minutes]);
  const keyOf = useKeys();
  if (terms === undefined) return error === undefined ? <Loading heights={["4rem", "4rem", "9rem"]} /> : <Failure error={error} again={reload} />;

  const { quote, packages } = terms;
  const ways = [
    ...(quote === null ? [] : [[WALLET, t().wallet(money(quote.balance))] as const]),
    ...packages.map(({ id, title, remaining, minutes: each }) => [id, t().packageOption(title, remaining, each)] as const),
  ];
  const [first] = ways;
  if (first === undefined) return <p class="soft">{t().noRate(tutor.name)}</p>;
  // What was chosen may be used up, or be a package of somebody else.
  const way = ways.some(([one]) => one === pay) ? pay : first[0];
  const chosen = packages.find(({ id }) => id === way);
  // While another length is asked for, nothing is known of its price.
  const price = quote !== null && quote.minutes === minutes ? quote : undefined;
  const isMissing = chosen === undefined && price !== undefined && price.shortfall.amount > 0;

  async function ask(values: Draft): Promise<void> {
    const asked: Asked<"booking.request"> = {
      tutor_id: tutor.id,
      starts_at: atWallTime(values["starts_at"] ?? ""),
      topic: values["topic"] ?? "",
      notes: values["notes"] ?? "",
      ...(chosen === undefined ? { minutes, price: { amount: price?.price.amount ?? 0 } } : { package_id: chosen.id }),
    };
    // The same wish under the same key: whoever presses again after a broken line asks once.
    const made = await call("booking.request", asked, { key: keyOf(asked) }).catch((refusal: unknown) => {
      if (STALE.has(codeOf(refusal))) void reload();
      throw inWords(refusal);
    });
    draft.set(own, tutor.id, null);
    toast(t().asked);
    route(`/bookings/${made.id}`);
  }

  return (
    <div onInput={({ currentTarget }) => draft.set(own, tutor.id, written(currentTarget))}>
      <Form submit={ask}>
        <div class="pair">
          <Field
            name="starts_at"
            label={t().startsAt(zone.value.replaceAll("_", " "))}
            hint={t().startsAtHint(tutor.name, tutor.timezone.replaceAll("_", " "))}
            type="datetime-local"
            required
            defaultValue={before["starts_at"] ?? ""}
          />
          {chosen === undefined && (
            <Select
              name="minutes"
              label={t().length}
              options={LENGTHS.map((one) => [String(one), t().minutes(one)])}
              value={String(minutes)}
              choose={(one) => setMinutes(LENGTHS.find((length) => String(length) === one) ?? 60)}
            />
          )}
        </div>
        <Field name="topic" label={t().topic} hint={t().topicHint} maxLength={255} defaultValue={before["topic"] ?? ""} />
        <TextField name="notes" label={t().notes} hint={t().notesHint} rows={3} maxLength={2000} defaultValue={before["notes"] ?? ""} />
        {(packages.length > 0 || way !== WALLET) && (
          <Select name="pay" label={t().payWith} options={ways} value={way} choose={setPay} {...(chosen && { hint: t().lengthOfPackage(chosen.minutes) })} />
        )}
        {chosen === undefined && quote !== null && <Agreement quote={price} rule={quote.cancel_rule} />}
        {chosen !== undefined && quote !== null && <p class="soft">{quote.cancel_rule}</p>}
        {isMissing ? (
          <TopUp shortfall={price.shortfall} words={t()} next={`${path}?ask`} />
        ) : chosen !== undefined ? (
          <Submit>{t().askWithPackage}</Submit>
        ) : price === undefined ? (
          <Loading heights={["2.75rem"]} />
        ) : (
          <Submit>{t().askNow(money(price.price))}</Submit>
        )}
      </Form>
    </div>
  );
}

function inWords(error: unknown): unknown {
  if (error instanceof Refused && "starts_at" in error.fields) return new Refused(error.code, error.message, { starts_at: t().startsAtWrong });
  return refused(error, t().askRefusals, FIELDS);
}

/** What stands in the form, field by field. */
function written(around: Element): Draft {
  const form = around.querySelector("form");
  return form === null ? {} : Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value)]));
}

function Agreement({ quote, rule }: { quote: BookingQuote | undefined; rule: string }) {
  if (quote === undefined) return <Loading heights={["9rem"]} />;
  return (
    <div class="stack" aria-live="polite">
      <Cost quote={quote} words={t()} />
      <section class="fine">
        <h3>{t().cancelling}</h3>
        <p class="soft">{rule}</p>
        <p class="soft">{t().putAside}</p>
      </section>
    </div>
  );
}

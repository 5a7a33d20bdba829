/** Paying money in: an amount, a page of the payment provider or a saved card, and the way back. */
import { useEffect, useState } from "preact/hooks";
import { ownPath } from "../accounts/paths";
import { money } from "../format";
import { kept } from "../kept";
import { amountOf, AmountField } from "../parts/amount";
import { useBusy } from "../parts/busy";
import { Form, Select, Submit } from "../parts/form";
import { type Loaded, useLoaded } from "../parts/loaded";
import { Failure, words } from "../parts/states";
import { toast } from "../parts/toast";
import { call, Refused, subscribe } from "../server";
import { me } from "../session";
import type { MethodView, TopUpPage, TopUpView } from "../wire";
import { orders } from "./order";
import { t } from "./texts";

const USUAL = [10, 25, 50, 100];
// The provider tells us within a second; what is lost on the way is found by asking.
const ASK_AGAIN_MS = 2_000;
const HOSTED = "hosted";

interface Options {
  /** In minor units, from the address. */
  wanted: string | undefined;
  next: string | undefined;
}

/** How somebody can pay: what the top-up before says of limits, and the saved cards. */
interface Ways {
  past: TopUpPage;
  cards: readonly MethodView[];
}

export function TopUp({ ways: { value, error, reload }, wanted, next }: Options & { ways: Loaded<Ways> }) {
  return (
    <section class="card stack" aria-labelledby="top-up">
      <h2 id="top-up">{t().topUp}</h2>
      {value === undefined ? (
        <Failure error={error} again={reload} />
      ) : (
        <Pay {...value} wanted={wanted} next={next} />
      )}
    </section>
  );
}

function Pay({ past, cards, wanted, next }: Options & Ways) {
  const missing = wanted === undefined || !/^\d{1,9}$/.test(wanted) ? undefined : Number(wanted);
  // A missing amount below the least is topped up by the least.
  const first = missing === undefined ? "" : (Math.max(missing, past.least.amount) / 100).toFixed(2);
  const [start, setStart] = useState({ amount: first, count: 0 });
  const [way, setWay] = useState(cards[0]?.id ?? HOSTED);
  const [order] = useState(orders);

  async function pay({ amount: text }: Record<string, string>): Promise<void> {
    const asked =
      way === HOSTED ? { amount: amountOf(text, "amount"), way: "hosted" as const } : { amount: amountOf(text, "amount"), way: "saved" as const, method_id: way };
    const made = await order(asked).catch((error: unknown) => {
      throw inWords(error, past);
    });
    kept.set("after_top_up", next === undefined ? null : ownPath(next));
    // A page of the provider's, or, where the card has paid already, our own.
    location.assign(made.url ?? `/wallet?top_up=${made.id}`);
    // Until the browser is there, the button stays busy; who goes back finds the page as it was, and may press it again.
    await new Promise((done) => addEventListener("pageshow", done, { once: true }));
  }

  return (
    <Form submit={pay}>
      {missing !== undefined && next !== undefined && <p>{t().forPurchase(money({ ...past.least, amount: missing }))}</p>}
      {past.test && <p class="notice">{t().testNote}</p>}
      <div class="row" role="group" aria-label={t().amounts}>
        {USUAL.map((dollars) => (
          <button key={dollars} type="button" class="button" onClick={() => setStart(({ count }) => ({ amount: String(dollars), count: count + 1 }))}>
            {money({ amount: dollars * 100, currency: "USD" })}
          </button>
        ))}
      </div>
      <div class="pair">
        {/* The amount of a button is a new start of the field. */}
        <AmountField key={start.count} name="amount" label={t().amount} hint={t().between(money(past.least), money(past.most))} defaultValue={start.amount} />
        {cards.length > 0 && (
          <Select
            name="way"
            label={t().payBy}
            options={[...cards.map((card) => [card.id, t().card(card.brand, card.last4)] as const), [HOSTED, t().newWay]]}
            value={way}
            choose={setWay}
          />
        )}
      </div>
      <Submit>{way === HOSTED ? t().goOn : t().payNow}</Submit>
    </Form>
  );
}

function inWords(error: unknown, { least, most }: TopUpPage): unknown {
  if (!(error instanceof Refused)) return error;
  switch (error.code) {
    case "top_up_out_of_range":
      return new Refused("conflict", t().outOfRange(money(least), money(most)), { amount: t().outOfRange(money(least), money(most)) });
    case "card_declined":
      return new Refused("conflict", t().declined);
    case "payments_unavailable":
      return new Refused("conflict", t().away);
    default:
      return error;
  }
}

/** What became of the payment that somebody comes back from. */
export function Returned({ id }: { id: string }) {
  const { value, error, reload } = useLoaded(() => call("top_up.get", { top_up_id: id }), [id]);
  const isWaiting = value !== undefined && (value.status === "created" || value.status === "pending");
  useEffect(() => {
    if (!isWaiting) return undefined;
    const timer = setInterval(() => void reload(), ASK_AGAIN_MS);
    const end = subscribe(`user:${me.value?.id ?? ""}`, {
      onReset: () => undefined,
      onEvent: ({ ev }) => ev === "top_up.updated" && void reload(),
    });
    return () => {
      clearInterval(timer);
      end();
    };
  }, [isWaiting]);
  if (error !== undefined && value === undefined) return <Failure error={error} again={reload} />;
  return (
    <div class="card stack returned" role="status">
      {value === undefined ? <p>{t().waiting}</p> : <Outcome made={value} />}
    </div>
  );
}

function Outcome({ made }: { made: TopUpView }) {
  const next = kept.get("after_top_up");
  switch (made.status) {
    case "succeeded":
      return (
        <>
          <h2>{t().paid(money(made.amount))}</h2>
          {next !== null && (
            <a class="button primary" href={next} onClick={() => kept.set("after_top_up", null)}>
              {t().backToPurchase}
            </a>
          )}
        </>
      );
    case "failed":
      return (
        <>
          <h2>{t().failed}</h2>
          <p class="soft">{t().failedWhy}</p>
        </>
      );
    case "expired":
      return <h2>{t().expired}</h2>;
    default:
      return made.url === null || made.url === undefined ? (
        <>
          <h2>{t().waiting}</h2>
          <p class="soft">{t().waitingWhy}</p>
        </>
      ) : (
        <>
          <h2>{t().open}</h2>
          <p class="soft">{t().openWhy}</p>
          <a class="button" href={made.url} target="_top">
            {t().finish}
          </a>
        </>
      );
  }
}

export function Cards({ cards, changed }: { cards: readonly MethodView[]; changed: () => Promise<void> }) {
  const [going, setGoing] = useState<string>();
  const [, alone] = useBusy();
  async function remove(id: string): Promise<void> {
    setGoing(id);
    try {
      await call("payment_method.remove", { method_id: id });
      toast(t().removed);
      await changed();
    } catch (error) {
      toast(words(error));
    } finally {
      setGoing(undefined);
    }
  }
  return (
    <section class="card stack" aria-labelledby="cards">
      <h2 id="cards">{t().cards}</h2>
      {cards.length === 0 ? (
        <p class="faint">{t().cardsWhy}</p>
      ) : (
        <ul class="lines-of">
          {cards.map((card) => (
            <li key={card.id}>
              <div class="about">
                <strong>{t().card(card.brand, card.last4)}</strong>
                <span class="faint">{t().expires(card.exp_month, card.exp_year)}</span>
              </div>
              <button
                type="button"
                class="button quiet"
                disabled={going === card.id}
                aria-busy={going === card.id}
                aria-label={`${t().remove}: ${t().card(card.brand, card.last4)}`}
                onClick={() => void alone(() => remove(card.id))}
              >
                {t().remove}
              </button>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

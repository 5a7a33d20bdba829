/** What something costs and what of that the reader has, as it stands above each button that asks for money. */
import { useLocation } from "preact-iso";
import type { ComponentChildren } from "preact";
import { money } from "../format";
import type { Money } from "../wire";

interface Quoted {
  price: Money;
  balance: Money;
  shortfall: Money;
  /** Comes back before it is paid. */
  returned_first?: Money;
}

interface CostOptions {
  quote: Quoted;
  words: Readonly<Record<"price" | "balance" | "after" | "missing", string>>;
  /** What stands before the end of the account. */
  children?: ComponentChildren;
}

export function Cost({ quote: { price, balance, shortfall, returned_first }, words, children }: CostOptions) {
  const after = { ...price, amount: balance.amount + (returned_first?.amount ?? 0) - price.amount };
  return (
    <dl class="sums">
      <Sum name={words.price} value={money(price)} kind="total" />
      <Sum name={words.balance} value={money(balance)} />
      {children}
      {shortfall.amount === 0 ? <Sum name={words.after} value={money(after)} /> : <Sum name={words.missing} value={money(shortfall)} kind="missing" />}
    </dl>
  );
}

/** A line of an account, inside of `dl.sums`. */
export function Sum({ name, value, kind = "" }: { name: string; value: string; kind?: "" | "total" | "missing" }) {
  return (
    <div class={kind}>
      <dt>{name}</dt>
      <dd class="figures">{value}</dd>
    </div>
  );
}

interface PayOptions {
  quote: Quoted;
  words: Readonly<Record<"topUp" | "confirm", (sum: string) => string>>;
  isBusy: boolean;
  confirm: () => void;
}

/** The button that pays what was quoted; where money is missing, the way to it and back. */
export function Pay({ quote: { price, shortfall }, words, isBusy, confirm }: PayOptions) {
  const { url } = useLocation();
  if (shortfall.amount > 0) return <TopUp shortfall={shortfall} words={words} next={url} />;
  return (
    <button type="button" class="button primary" disabled={isBusy} aria-busy={isBusy} onClick={confirm}>
      {words.confirm(money(price))}
    </button>
  );
}

/** The way to the wallet for what is missing, and then on. */
export function TopUp({ shortfall, words, next }: { shortfall: Money; words: Readonly<Record<"topUp", (sum: string) => string>>; next: string }) {
  return (
    <a class="button primary" href={`/wallet?amount=${shortfall.amount}&next=${encodeURIComponent(next)}`}>
      {words.topUp(money(shortfall))}
    </a>
  );
}

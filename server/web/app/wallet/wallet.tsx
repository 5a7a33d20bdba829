/** What somebody has, what moved it, and the way to have more. */
import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { instant, money } from "../format";
import { wallet as walletIcon } from "../icons/places";
import { areThere, useLoaded } from "../parts/loaded";
import { More } from "../parts/more";
import { type Paged, usePages } from "../parts/pages";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { call, subscribe } from "../server";
import { me } from "../session";
import { language } from "../texts";
import type { EntryView, WalletView } from "../wire";
import { Download } from "./download";
import { t } from "./texts";
import { Cards, Returned, TopUp } from "./top_up";

// Where it is explained what a movement belongs to.
const PAGES: Record<string, (id: string) => string> = { booking: (id) => `/bookings/${id}`, hold: (id) => `/holds/${id}`, lesson: () => "/holds", purchase: () => "/learning", withdrawal: () => "/teach/earnings" };

export default function Wallet() {
  const { query } = useLocation();
  const id = me.value?.id ?? "";
  const has = useLoaded(() => call("wallet.get", {}), [id]);
  const entries = usePages((cursor: string | null) => call("wallet.entries", { cursor, limit: 20 }), [id]);
  const ways = useLoaded(async () => ({ past: await call("top_up.list", { limit: 1 }), cards: (await call("payment_method.list", {})).items }), [id]);
  useEffect(() => {
    const renew = () => void Promise.all([has.reload(), entries.reload()]);
    return subscribe(`user:${id}`, { onReset: () => undefined, onEvent: ({ ev }) => ev === "wallet.updated" && renew() });
  }, [id]);
  // Who comes from a purchase is here to pay: that stands first.
  const isWanted = query["amount"] !== undefined;
  const topUp = <TopUp ways={ways} wanted={query["amount"]} next={query["next"]} />;
  return (
    <>
      <Title
        beside={
          <a class="button" href="/packages">
            {t().packages}
          </a>
        }
      >
        {t().wallet}
      </Title>
      <div class="wallet">
        {query["top_up"] !== undefined && <Returned id={query["top_up"]} />}
        {areThere(has, ways, { value: entries.items, error: entries.error }) ? (
          <>
            {isWanted && topUp}
            {has.value === undefined ? <Failure error={has.error} again={has.reload} /> : <Sums has={has.value} />}
            {!isWanted && topUp}
            <Entries {...entries} />
            <Statement />
            {ways.value !== undefined && <Cards cards={ways.value.cards} changed={ways.reload} />}
          </>
        ) : (
          <Loading heights={["8rem", "20rem", "20rem"]} />
        )}
      </div>
    </>
  );
}

function Sums({ has }: { has: WalletView }) {
  const { available, pending } = has.earnings;
  return (
    <dl class="balances" aria-live="polite">
      <div class="card">
        <dt>{t().balance}</dt>
        <dd class="figures">{money(has.balance)}</dd>
        <dd class="faint">{t().balanceWhy}</dd>
      </div>
      <div class="card">
        <dt>{t().held}</dt>
        <dd class="figures">{money(has.held)}</dd>
        <dd class="faint">
          {t().heldWhy} <a href="/holds">{t().toHolds}</a>
        </dd>
      </div>
      {me.value?.role === "tutor" && (
        <div class="card">
          <dt>{t().earnings}</dt>
          <dd class="figures">{money({ ...available, amount: available.amount + pending.amount })}</dd>
          <dd class="faint">
            <a href="/teach/earnings">{t().toEarnings}</a>
          </dd>
        </div>
      )}
    </dl>
  );
}

function Entries({ items: value, error, reload, more }: Paged<EntryView>) {
  return (
    <section class="card stack" aria-labelledby="entries">
      <h2 id="entries">{t().entries}</h2>
      {value === undefined ? (
        <Failure error={error} again={reload} />
      ) : value.length === 0 ? (
        <Empty icon={walletIcon} title={t().noEntries}>
          <p>{t().noEntriesWhy}</p>
        </Empty>
      ) : (
        <ul class="lines-of">
          {value.map((entry) => (
            <Entry key={entry.id} entry={entry} />
          ))}
        </ul>
      )}
      <More more={more} />
    </section>
  );
}

function Entry({ entry }: { entry: EntryView }) {
  const page = PAGES[entry.reference.type]?.(entry.reference.id);
  const account = t().accounts[entry.account];
  return (
    <li>
      <div class="about">
        <strong>{t().kinds[entry.kind]}</strong>
        <span class="soft">{why(entry.reason)}</span>
        <span class="faint">
          <time dateTime={entry.at}>{instant(entry.at)}</time>
          {account !== undefined && ` · ${account}`}
        </span>
      </div>
      <span class={`amount figures ${entry.amount.amount > 0 ? "in" : ""}`}>
        {entry.amount.amount > 0 && "+"}
        {money(entry.amount)}
      </span>
      <span class="row actions">
        {page !== undefined && (
          <a class="button quiet" href={page}>
            {t().why}
          </a>
        )}
        <Download path={`/wallet/entries/${entry.id}/receipt.pdf`} label={t().paperOf(t().kinds[entry.kind])} isQuiet>
          {t().paper}
        </Download>
      </span>
    </li>
  );
}

/** A settlement gives its cause as its reason; people write sentences. */
function why(reason: string): string {
  return Object.entries(t().causes).find(([cause]) => cause === reason)?.[1] ?? reason;
}

const MONTHS = 12;

/** A month of the account's own calendar, as the server cuts it. */
function Statement() {
  const [chosen, setChosen] = useState(0);
  const span = `since=${dayOf(chosen, 1)}&until=${dayOf(chosen - 1, 0)}`;
  const name = new Intl.DateTimeFormat(language.value, { month: "long", year: "numeric", timeZone: "UTC" });
  return (
    <section class="card stack" aria-labelledby="statement">
      <h2 id="statement">{t().statement}</h2>
      <div class="row">
        <div class="field">
          <select aria-label={t().month} value={chosen} onChange={({ currentTarget }) => setChosen(Number(currentTarget.value))}>
            {Array.from({ length: MONTHS }, (_, before) => (
              <option key={before} value={before}>
                {name.format(new Date(dayOf(before, 1)))}
              </option>
            ))}
          </select>
        </div>
        <Download path={`/wallet/statement.csv?${span}`}>{t().csv}</Download>
        <Download path={`/wallet/statement.pdf?${span}`}>{t().pdf}</Download>
      </div>
    </section>
  );
}

/** A day of the month that was so many months ago; the zeroth is the last day of the one before it. */
function dayOf(monthsAgo: number, day: number): string {
  const today = new Date();
  return new Date(Date.UTC(today.getFullYear(), today.getMonth() - monthsAgo, day)).toISOString().slice(0, 10);
}

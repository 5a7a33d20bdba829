/** What moves one person's money by hand: an adjustment, goodwill, and the way back from either. */
import { useState } from "preact/hooks";
import { money } from "../format";
import { AmountField, amountOf } from "../parts/amount";
import { Choice } from "../parts/choice";
import { Field, Form, Select, Submit } from "../parts/form";
import { toast } from "../parts/toast";
import { call, Refused } from "../server";
import type { GiveGoodwill, ManagedAccount, Money } from "../wire";
import { Deed } from "./deed";
import { t } from "./texts";

interface Moving {
  /** Told which journal of the ledger it was, that can be undone. */
  moved: (journal: string) => void;
}

export function Adjust({ moved }: Moving) {
  const [isTaking, setTaking] = useState(false);
  const [asked, setAsked] = useState<{ user: ManagedAccount; sum: Money } | null>(null);
  const [round, setRound] = useState(0);

  return (
    <section class="card stack" aria-labelledby="adjust">
      <h2 id="adjust">{t().adjust}</h2>
      <p class="faint">{t().adjustWhy}</p>
      <Form
        key={round}
        submit={async ({ email = "", amount = "" }) => {
          const sum = amountOf(amount, "amount");
          setAsked({ user: await personOf(email), sum });
        }}
      >
        <Field name="email" label={t().adjustWho} type="email" required />
        <Choice
          label={t().direction}
          options={[["give", t().give], ["take", t().take]]}
          value={isTaking ? "take" : "give"}
          choose={(way) => setTaking(way === "take")}
        />
        <Field name="amount" label={t().amount("USD")} required />
        <Submit>{t().look}</Submit>
      </Form>
      {asked !== null && (
        <Deed
          title={(isTaking ? t().takeFrom : t().giveTo)(money(asked.sum), `${asked.user.first_name} ${asked.user.last_name}`)}
          what={t().adjustWhat(asked.user.email)}
          confirm={isTaking ? t().take : t().give}
          isDangerous={isTaking}
          act={async ({ reason = "" }, key) => {
            const signed = { amount: isTaking ? -asked.sum.amount : asked.sum.amount, currency: "USD" as const };
            const { id, balance } = await call("wallet.adjust", { user_id: asked.user.id, money: signed, reason }, { key });
            toast(t().adjusted(money(balance)));
            moved(id);
            setRound(round + 1);
          }}
          close={() => setAsked(null)}
        />
      )}
    </section>
  );
}

type Why = GiveGoodwill["why"];

export function Goodwill({ moved }: Moving) {
  const [user, setUser] = useState<ManagedAccount | null>(null);
  const [why, setWhy] = useState<Why>("minor_trouble");
  const [round, setRound] = useState(0);
  const reasons = Object.entries(t().goodwillReasons) as [Why, string][];

  return (
    <section class="card stack" aria-labelledby="goodwill">
      <h2 id="goodwill">{t().goodwill}</h2>
      <p class="faint">{t().goodwillWhy}</p>
      <Form key={round} submit={async ({ email = "" }) => setUser(await personOf(email))}>
        <Field name="email" label={t().adjustWho} type="email" required />
        <Submit>{t().look}</Submit>
      </Form>
      {user !== null && (
        <Deed
          title={t().goodwillTo(`${user.first_name} ${user.last_name}`)}
          what={t().goodwillWhat(user.email)}
          confirm={t().give}
          act={async ({ reason = "", amount = "" }, key) => {
            const { id, balance } = await call("wallet.goodwill", { user_id: user.id, money: amountOf(amount, "amount"), why, reason }, { key }).catch(tooMuch);
            toast(t().adjusted(money(balance)));
            moved(id);
            setRound(round + 1);
          }}
          close={() => setUser(null)}
        >
          <Select name="why" label={t().goodwillFor} options={reasons} value={why} choose={(chosen) => setWhy(chosen as Why)} />
          <AmountField name="amount" label={t().sum} />
        </Deed>
      )}
    </section>
  );
}

/** What an administrator may not give the owner may: that is said at the amount. */
function tooMuch(error: unknown): never {
  const most = error instanceof Refused ? (error.facts.most as Money | undefined) : undefined;
  if (most === undefined) throw error;
  const said = t().goodwillOwner(money(most));
  throw new Refused("permission_denied", said, { amount: said });
}

/** `newest`: the journal of what was moved last here, which is the likeliest to be undone; empty where there is none. */
export function Undo({ newest, moved }: Moving & { newest: string }) {
  const [isAsking, setAsking] = useState(false);
  return (
    <section class="card stack" aria-labelledby="undo">
      <h2 id="undo">{t().undo}</h2>
      <p class="faint">{t().undoWhy}</p>
      {newest !== "" && <p>{t().undoNewest(newest)}</p>}
      <div>
        <button type="button" class="button" onClick={() => setAsking(true)}>
          {t().undoOne}
        </button>
      </div>
      {isAsking && (
        <Deed
          title={t().undoSure}
          what={t().undoWhat}
          confirm={t().undoOne}
          isDangerous
          act={async ({ reason = "", journal_id = "" }, key) => {
            const { id, reverses } = await call("ledger.reverse", { journal_id: journal_id.trim(), reason }, { key });
            toast(t().undone(reverses, id));
            moved("");
          }}
          close={() => setAsking(false)}
        >
          <Field name="journal_id" label={t().journalId} hint={t().journalIdHint} refusal={t().journalIdHint} inputMode="numeric" defaultValue={newest} required />
        </Deed>
      )}
    </section>
  );
}

async function personOf(email: string): Promise<ManagedAccount> {
  const [user] = (await call("admin.user.list", { email })).items;
  if (user === undefined) throw new Refused("not_found", t().noSuchPerson, { email: t().noSuchPerson });
  return user;
}

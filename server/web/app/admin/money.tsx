/** The two deeds that move money without anybody having asked: a wallet adjusted, a hold given back. */
import { useState } from "preact/hooks";
import { instant, money } from "../format";
import { amountOf } from "../parts/amount";
import { Choice } from "../parts/choice";
import { Field, Form, Submit } from "../parts/form";
import { type Paged, usePages } from "../parts/pages";
import { toast } from "../parts/toast";
import { call, Refused } from "../server";
import type { HoldDetail, ManagedAccount, Money } from "../wire";
import { Deed } from "./deed";
import { part } from "./disputes";
import { Frame } from "./frame";
import { List } from "./list";
import { useNames } from "./names";
import { t } from "./texts";

export default function MoneyPage() {
  const [hold, setHold] = useState<HoldDetail | null>(null);
  const paged = usePages((cursor: string | null) => call("hold.list", { cursor }), []);
  return (
    <Frame title={t().sections.money}>
      <div class="pairing">
        <Adjust />
        <Refund take={setHold} />
      </div>
      <Holds paged={paged} take={setHold} />
      {hold !== null && <GiveBack hold={hold} done={paged.reload} close={() => setHold(null)} />}
    </Frame>
  );
}

function Adjust() {
  const [isTaking, setTaking] = useState(false);
  const [asked, setAsked] = useState<{ user: ManagedAccount; sum: Money } | null>(null);
  const [round, setRound] = useState(0);

  async function find({ email = "", amount = "" }: Record<string, string>): Promise<void> {
    const sum = amountOf(amount, "amount");
    const [user] = (await call("admin.user.list", { email })).items;
    if (user === undefined) throw new Refused("not_found", t().noSuchPerson, { email: t().noSuchPerson });
    setAsked({ user, sum });
  }

  return (
    <section class="card stack" aria-labelledby="adjust">
      <h2 id="adjust">{t().adjust}</h2>
      <p class="faint">{t().adjustWhy}</p>
      <Form key={round} submit={find}>
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
            const { balance } = await call("wallet.adjust", { user_id: asked.user.id, money: signed, reason }, { key });
            toast(t().adjusted(money(balance)));
            setRound(round + 1);
          }}
          close={() => setAsked(null)}
        />
      )}
    </section>
  );
}

function Refund({ take }: { take: (hold: HoldDetail) => void }) {
  async function find({ hold_id = "" }: Record<string, string>): Promise<void> {
    try {
      take(await call("hold.get", { hold_id: hold_id.trim() }));
    } catch (error) {
      // What is no id is no hold either.
      const isUnknown = error instanceof Refused && (error.code === "hold_not_found" || error.code === "not_found" || error.code === "bad_request");
      throw isUnknown ? new Refused("not_found", t().noSuchHold, { hold_id: t().noSuchHold }) : error;
    }
  }

  return (
    <section class="card stack" aria-labelledby="refund-hold">
      <h2 id="refund-hold">{t().refundHold}</h2>
      <p class="faint">{t().refundHoldWhy}</p>
      <Form submit={find}>
        <Field name="hold_id" label={t().holdId} required />
        <Submit>{t().look}</Submit>
      </Form>
    </section>
  );
}

function Holds({ paged, take }: { paged: Paged<HoldDetail>; take: (hold: HoldDetail) => void }) {
  const names = useNames(paged.items?.flatMap(({ student_id, tutor_id }) => [student_id, tutor_id]) ?? []);
  return (
    <section class="stack" aria-labelledby="holds">
      <h2 id="holds">{t().holds}</h2>
      <List paged={paged} none={t().nothing}>
        {(hold) => (
          <>
            <div class="about">
              <h3>
                {money(hold.amount)} · {t().between(names.name(hold.student_id), names.name(hold.tutor_id))}
              </h3>
              <p class="faint figures">
                {hold.id} · <time dateTime={hold.placed_at}>{instant(hold.placed_at)}</time>
              </p>
              <p class="faint">{hold.explanation}</p>
            </div>
            <div class="deeds">
              <span class="chip">{t().holdStates[hold.status]}</span>
              {hold.refunded.amount < hold.amount.amount && (
                <button type="button" class="button danger" onClick={() => take(hold)}>
                  {t().giveBack}
                </button>
              )}
            </div>
          </>
        )}
      </List>
    </section>
  );
}

function GiveBack({ hold, done, close }: { hold: HoldDetail; done: () => Promise<void>; close: () => void }) {
  const names = useNames([hold.student_id]);
  return (
    <Deed
      title={t().refundHoldSure(names.name(hold.student_id))}
      what={
        <>
          {t().refundHoldWhat(money(hold.amount), money(hold.refunded))} {hold.explanation}
        </>
      }
      confirm={t().giveBack}
      isDangerous
      act={async ({ reason = "", amount = "" }, key) => {
        const { refunded } = await call("hold.refund", { hold_id: hold.id, reason, money: part(amount) }, { key });
        toast(t().refundDone(money(refunded)));
        await done();
      }}
      close={close}
    >
      <Field
        name="amount"
        label={t().amount(hold.amount.currency)}
        hint={t().wholeRest(money({ ...hold.amount, amount: hold.amount.amount - hold.refunded.amount }))}
      />
    </Deed>
  );
}

/** The deeds that move money without anybody having asked: wallets moved by hand, holds given back or paid out. */
import { useState } from "preact/hooks";
import { instant, money } from "../format";
import { Field, Form, Submit } from "../parts/form";
import { type Paged, usePages } from "../parts/pages";
import { toast } from "../parts/toast";
import { call, codeOf, Refused } from "../server";
import type { HoldDetail, SourceKind } from "../wire";
import { Deed } from "./deed";
import { part } from "./disputes";
import { Frame } from "./frame";
import { List } from "./list";
import { useNames } from "./names";
import { t } from "./texts";
import { Adjust, Goodwill, Undo } from "./wallets";

// Everything else ends by itself; the server says so where it is asked for all the same.
const OF_COURSES: ReadonlySet<SourceKind> = new Set(["course_session", "course_slice"]);

interface Asked {
  hold: HoldDetail;
  isRelease: boolean;
}

export default function MoneyPage() {
  const [asked, setAsked] = useState<Asked | null>(null);
  const [newest, setNewest] = useState("");
  const paged = usePages((cursor: string | null) => call("hold.list", { cursor }), []);
  return (
    <Frame title={t().sections.money}>
      <div class="pairing">
        <Adjust moved={setNewest} />
        <Goodwill moved={setNewest} />
        <ByNumber ask={setAsked} />
        <Undo newest={newest} moved={setNewest} />
      </div>
      <Holds paged={paged} ask={setAsked} />
      {asked !== null && !asked.isRelease && <GiveBack hold={asked.hold} done={paged.reload} close={() => setAsked(null)} />}
      {asked?.isRelease && <PayOut hold={asked.hold} done={paged.reload} close={() => setAsked(null)} />}
    </Frame>
  );
}

function ByNumber({ ask }: { ask: (asked: Asked) => void }) {
  async function find({ hold_id = "" }: Record<string, string>, pressed: string): Promise<void> {
    try {
      ask({ hold: await call("hold.get", { hold_id: hold_id.trim() }), isRelease: pressed === "release" });
    } catch (error) {
      // What is no id is no hold either.
      const isUnknown = ["hold_not_found", "not_found", "bad_request"].includes(codeOf(error));
      throw isUnknown ? new Refused("not_found", t().noSuchHold, { hold_id: t().noSuchHold }) : error;
    }
  }

  return (
    <section class="card stack" aria-labelledby="settle-hold">
      <h2 id="settle-hold">{t().settleHold}</h2>
      <p class="faint">{t().settleHoldWhy}</p>
      <Form submit={find}>
        <Field name="hold_id" label={t().holdId} required />
        <div class="row">
          <Submit>{t().giveBack}</Submit>
          <Submit isSecond value="release">
            {t().payOut}
          </Submit>
        </div>
      </Form>
    </section>
  );
}

function Holds({ paged, ask }: { paged: Paged<HoldDetail>; ask: (asked: Asked) => void }) {
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
              {hold.status === "held" && OF_COURSES.has(hold.source_kind) && (
                <button type="button" class="button" onClick={() => ask({ hold, isRelease: true })}>
                  {t().payOut}
                </button>
              )}
              {hold.refunded.amount < hold.amount.amount && (
                <button type="button" class="button danger" onClick={() => ask({ hold, isRelease: false })}>
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

function PayOut({ hold, done, close }: { hold: HoldDetail; done: () => Promise<void>; close: () => void }) {
  const names = useNames([hold.tutor_id]);
  return (
    <Deed
      title={t().payOutSure(names.name(hold.tutor_id))}
      what={
        <>
          {t().payOutWhat(money(hold.amount))} {hold.explanation}
        </>
      }
      confirm={t().payOut}
      isDangerous
      act={async ({ reason = "", percent = "" }, key) => {
        const { tutor_share, refunded } = await call("hold.release", { hold_id: hold.id, percent: Number(percent.trim()), reason }, { key });
        toast(t().paidOut(money(tutor_share), money(refunded)));
        await done();
      }}
      close={close}
    >
      <Field name="percent" label={t().percent} hint={t().percentHint} refusal={t().percentHint} inputMode="numeric" defaultValue="100" required />
    </Deed>
  );
}

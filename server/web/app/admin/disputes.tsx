/** What students say was not settled as it should be, and the word about it. */
import { useState } from "preact/hooks";
import { instant, money } from "../format";
import { Choice } from "../parts/choice";
import { amountOf } from "../parts/amount";
import { Field } from "../parts/form";
import { usePages } from "../parts/pages";
import { toast } from "../parts/toast";
import { call } from "../server";
import type { DisputeStatus, DisputeView } from "../wire";
import { Deed } from "./deed";
import { Frame } from "./frame";
import { List } from "./list";
import { useNames } from "./names";
import { t } from "./texts";

const STATES = ["open", "resolved_refunded", "resolved_upheld"] as const satisfies readonly DisputeStatus[];

export default function Disputes() {
  const [status, setStatus] = useState<DisputeStatus>("open");
  const [deed, setDeed] = useState<{ isRefund: boolean; one: DisputeView } | null>(null);
  const paged = usePages((cursor: string | null) => call("dispute.list", { status, cursor }), [status]);
  const names = useNames(paged.items?.flatMap(({ student_id, tutor_id }) => [student_id, tutor_id]) ?? []);
  const done = async () => {
    toast(t().done);
    await paged.reload();
  };
  return (
    <Frame title={t().sections.disputes}>
      <Choice label={t().status} options={STATES.map((one) => [one, t().disputeStates[one]] as const)} value={status} choose={setStatus} />
      <List paged={paged} none={t().noDisputes}>
        {(one) => (
          <>
            <div class="about">
              <h2>{t().disputeReasons[one.reason]}</h2>
              <p class="faint">
                {t().between(names.name(one.student_id), names.name(one.tutor_id))} · <time dateTime={one.opened_at}>{instant(one.opened_at)}</time>
              </p>
              <p>{one.refunded === null ? t().about(money(one.amount), money(one.rest)) : t().refunded(money(one.refunded))}</p>
              <p class="quote">{one.text}</p>
              {one.notes !== null && <p class="quote">{one.notes}</p>}
            </div>
            {one.status === "open" && (
              <div class="deeds">
                <button type="button" class="button" onClick={() => setDeed({ isRefund: false, one })}>
                  {t().uphold}
                </button>
                <button type="button" class="button danger" onClick={() => setDeed({ isRefund: true, one })}>
                  {t().giveBack}
                </button>
              </div>
            )}
          </>
        )}
      </List>
      {deed !== null && !deed.isRefund && (
        <Deed
          title={t().upholdDispute}
          what={t().upholdDisputeWhat(names.name(deed.one.student_id))}
          confirm={t().uphold}
          reason="notes"
          act={async ({ notes = "" }, key) => {
            await call("dispute.resolve", { dispute_id: deed.one.id, decision: "upheld", notes }, { key });
            await done();
          }}
          close={() => setDeed(null)}
        />
      )}
      {deed?.isRefund && (
        <Deed
          title={t().refundDispute}
          what={t().refundDisputeWhat(names.name(deed.one.student_id))}
          confirm={t().giveBack}
          isDangerous
          reason="notes"
          act={async ({ notes = "", amount = "" }, key) => {
            await call("dispute.resolve", { dispute_id: deed.one.id, decision: "refunded", notes, money: part(amount) }, { key });
            await done();
          }}
          close={() => setDeed(null)}
        >
          <Field name="amount" label={t().amount(deed.one.amount.currency)} hint={t().wholeRest(money(deed.one.rest))} />
        </Deed>
      )}
    </Frame>
  );
}

/** The part that was written; `null`, everything that is left, where nothing was. */
export function part(text: string): { amount: number; currency: "USD" } | null {
  return text.trim() === "" ? null : amountOf(text, "amount");
}

/** Not agreeing with how a hold was settled: asked by its student, once and within its time; the answer is read by both. */
import { useEffect, useState } from "preact/hooks";
import { instant, money } from "../format";
import { Answers, Modal } from "../parts/dialog";
import { Form, Select, Submit, TextField } from "../parts/form";
import { useKeys } from "../parts/keys";
import { useLoaded } from "../parts/loaded";
import { call, Refused, serverNow, subscribe } from "../server";
import { me } from "../session";
import type { DisputeView, HoldDetail, OpenDispute } from "../wire";
import { t } from "./texts";

const DAY_MS = 86_400_000;

export function Dispute({ hold, isAllBack }: { hold: HoldDetail; isAllBack: boolean }) {
  const { value, reload } = useLoaded(() => call("dispute.list", { hold_id: hold.id, limit: 1 }), [hold.id]);
  const [isAsking, setAsking] = useState(false);
  useEffect(
    () => subscribe(`user:${me.value?.id ?? ""}`, { onReset: () => undefined, onEvent: ({ ev }) => ev === "dispute.updated" && void reload() }),
    [reload],
  );
  if (value === undefined) return null;
  const [made] = value.items;
  if (made !== undefined) return <Opened made={made} />;
  const until = new Date(Date.parse(hold.settled_at ?? "") + hold.policy.dispute_days * DAY_MS);
  if (isAllBack || hold.student_id !== me.value?.id || serverNow() >= until.getTime()) return null;
  return (
    <section class="card stack" aria-labelledby="dispute">
      <h2 id="dispute">{t().dispute}</h2>
      <p class="soft">{t().disputeWhy(instant(until.toISOString()))}</p>
      <button type="button" class="button start" onClick={() => setAsking(true)}>
        {t().disputeOpen}
      </button>
      {isAsking && (
        <Ask
          hold={hold}
          close={(isSent) => {
            setAsking(false);
            if (isSent) void reload();
          }}
        />
      )}
    </section>
  );
}

function Ask({ hold, close }: { hold: HoldDetail; close: (isSent: boolean) => void }) {
  const keyOf = useKeys();
  const [reason, setReason] = useState<OpenDispute["reason"]>("tutor_no_show");
  const reasons = Object.entries(t().disputeReasons).filter(([name]) => name !== "contradicting_evidence");
  async function send({ text = "" }: Record<string, string>): Promise<void> {
    const asked = { hold_id: hold.id, reason, text };
    await call("dispute.open", asked, { key: keyOf(asked) }).catch((error: unknown) => {
      throw inWords(error);
    });
    close(true);
  }
  return (
    <Modal title={t().disputeOpen} close={() => close(false)}>
      <p class="soft">{t().disputeOnce}</p>
      <Form submit={send}>
        <Select name="reason" label={t().disputeReason} options={reasons} value={reason} choose={(one) => setReason(one as OpenDispute["reason"])} />
        <TextField name="text" label={t().disputeText} hint={t().disputeTextHint} refusal={t().disputeTextHint} maxLength={2000} rows={5} required />
        <Answers close={() => close(false)}>
          <Submit>{t().disputeSend}</Submit>
        </Answers>
      </Form>
    </Modal>
  );
}

function inWords(error: unknown): unknown {
  const text = error instanceof Refused ? t().disputeRefusals[error.code] : undefined;
  return text === undefined ? error : new Refused("conflict", text);
}

function Opened({ made }: { made: DisputeView }) {
  return (
    <section class="card stack" aria-labelledby="dispute">
      <h2 id="dispute">{t().dispute}</h2>
      <p class="row">
        <span class={`chip ${made.status === "open" ? "accent" : ""}`}>{t().disputeStates[made.status]}</span>
        <span>{t().disputeReasons[made.reason]}</span>
        <span class="faint">{instant(made.opened_at)}</span>
      </p>
      <p class="text">{made.text}</p>
      {made.status === "open" && <p class="soft">{t().disputeWaits}</p>}
      {made.refunded !== null && <p>{t().disputeRefunded(money(made.refunded))}</p>}
      {made.notes !== null && (
        <>
          <h3>{t().disputeAnswer}</h3>
          <p class="text">{made.notes}</p>
        </>
      )}
    </section>
  );
}

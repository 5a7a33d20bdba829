/** Money that tutors ask for: said yes or no to, stopped, paid, and the bank data to pay it by. */
import { useState } from "preact/hooks";
import { instant, money } from "../format";
import { Field } from "../parts/form";
import { Choice } from "../parts/choice";
import { usePages } from "../parts/pages";
import { toast } from "../parts/toast";
import { call } from "../server";
import type { BankAccountView, WithdrawalStatus, WithdrawalView } from "../wire";
import { Deed } from "./deed";
import { Frame } from "./frame";
import { List } from "./list";
import { useNames } from "./names";
import { Fact } from "./room";
import { t } from "./texts";

const STATES = ["pending", "processing", "completed", "rejected"] as const satisfies readonly WithdrawalStatus[];
type Kind = "approve" | "reject" | "hold" | "letGo" | "complete" | "retry" | "reveal";

export default function Withdrawals() {
  const [status, setStatus] = useState<WithdrawalStatus>("pending");
  const [deed, setDeed] = useState<{ kind: Kind; one: WithdrawalView } | null>(null);
  const [bank, setBank] = useState<{ id: string; data: BankAccountView } | null>(null);
  const paged = usePages((cursor: string | null) => call("admin.withdrawal.list", { status, cursor }), [status]);
  const names = useNames(paged.items?.map(({ tutor_id }) => tutor_id) ?? []);
  return (
    <Frame title={t().sections.withdrawals}>
      <Choice label={t().status} options={STATES.map((one) => [one, t().withdrawalStates[one]] as const)} value={status} choose={setStatus} />
      <List paged={paged} none={t().noWithdrawals}>
        {(one) => (
          <>
            <div class="about">
              <h2>
                {money(one.amount)} · {names.name(one.tutor_id)}
              </h2>
              <p class="faint">
                {names.email(one.tutor_id)} · <time dateTime={one.requested_at}>{instant(one.requested_at)}</time>
              </p>
              <p class="row">
                <span class="chip">
                  {t().methods[one.method]}
                  {one.account_last4 !== null && ` · ${t().endsWith(one.account_last4)}`}
                </span>
                {one.status === "pending" && one.approvals_needed > 1 && <span class="chip">{t().approvals(one.approvals, one.approvals_needed)}</span>}
                {one.is_held && <span class="chip warn">{t().held}</span>}
              </p>
              {[one.note, one.held_reason, one.answer, one.reference].map((words) => words !== null && <p class="quote" key={words}>{words}</p>)}
            </div>
            <div class="deeds">
              {kinds(one).map((kind) => (
                <button
                  type="button"
                  key={kind}
                  class={`button ${kind === "approve" || kind === "complete" ? "primary" : kind === "reject" ? "danger" : ""}`}
                  onClick={() => setDeed({ kind, one })}
                >
                  {t()[kind]}
                </button>
              ))}
            </div>
            {bank?.id === one.id && <Bank data={bank.data} hide={() => setBank(null)} />}
          </>
        )}
      </List>
      {deed !== null && (
        <Asked
          kind={deed.kind}
          one={deed.one}
          name={names.name(deed.one.tutor_id)}
          reveal={(data) => setBank({ id: deed.one.id, data })}
          done={async () => {
            toast(t().done);
            await paged.reload();
          }}
          close={() => setDeed(null)}
        />
      )}
    </Frame>
  );
}

/** What makes sense to offer; what may be done is the server's to say. */
function kinds({ status, method, is_held }: WithdrawalView): Kind[] {
  if (status !== "pending" && status !== "processing") return [];
  const stop: Kind = is_held ? "letGo" : "hold";
  const reveal: Kind[] = method === "bank" ? ["reveal"] : [];
  const go: Kind[] = is_held ? [] : [status === "pending" ? "approve" : method === "bank" ? "complete" : "retry"];
  return [...go, ...reveal, stop, "reject"];
}

function Bank({ data, hide }: { data: BankAccountView; hide: () => void }) {
  return (
    <div class="wide stack" role="status">
      <dl class="facts">
        {(["bank_name", "account_number", "account_holder", "branch", "swift"] as const).map(
          (field) => data[field] !== null && <Fact key={field} name={t().bank[field]} value={data[field]} />,
        )}
      </dl>
      <p class="row spread">
        <span class="faint">{t().audited}</span>
        <button type="button" class="button" onClick={hide}>
          {t().hide}
        </button>
      </p>
    </div>
  );
}

interface AskedOptions {
  kind: Kind;
  one: WithdrawalView;
  name: string;
  reveal: (data: BankAccountView) => void;
  done: () => Promise<void>;
  close: () => void;
}

function Asked({ kind, one, name, reveal, done, close }: AskedOptions) {
  const withdrawal_id = one.id;
  const amount = money(one.amount);
  const act = (deed: (values: Record<string, string>, once: { key: string }) => Promise<unknown>) => async (values: Record<string, string>, key: string) => {
    await deed(values, { key });
    await done();
  };
  switch (kind) {
    case "approve":
      return (
        <Deed
          title={t().approveWithdrawal(amount, name)}
          what={t().approveWithdrawalWhat(one.method, one.approvals + 1 >= one.approvals_needed)}
          confirm={t().approve}
          reason={null}
          act={act((_, once) => call("admin.withdrawal.approve", { withdrawal_id }, once))}
          close={close}
        />
      );
    case "reject":
      return (
        <Deed
          title={t().rejectWithdrawal(amount, name)}
          what={t().rejectWithdrawalWhat}
          confirm={t().reject}
          isDangerous
          reason="answer"
          act={act(({ answer = "" }, once) => call("admin.withdrawal.reject", { withdrawal_id, answer }, once))}
          close={close}
        />
      );
    case "hold":
      return (
        <Deed
          title={t().holdWithdrawal(amount, name)}
          what={t().holdWithdrawalWhat}
          confirm={t().hold}
          act={act(({ reason = "" }, once) => call("admin.withdrawal.hold", { withdrawal_id, reason }, once))}
          close={close}
        />
      );
    case "letGo":
      return (
        <Deed
          title={t().letGoWithdrawal(amount, name)}
          what={t().letGoWithdrawalWhat}
          confirm={t().letGo}
          reason={null}
          act={act((_, once) => call("admin.withdrawal.let_go", { withdrawal_id }, once))}
          close={close}
        />
      );
    case "complete":
      return (
        <Deed
          title={t().completeWithdrawal(amount, name)}
          what={t().completeWithdrawalWhat}
          confirm={t().complete}
          reason={null}
          act={act(({ reference = "" }, once) => call("admin.withdrawal.complete", { withdrawal_id, reference }, once))}
          close={close}
        >
          <Field name="reference" label={t().reference} required />
        </Deed>
      );
    case "retry":
      return (
        <Deed
          title={t().retryWithdrawal(amount, name)}
          what={t().retryWithdrawalWhat}
          confirm={t().retry}
          reason={null}
          act={act((_, once) => call("admin.withdrawal.retry", { withdrawal_id }, once))}
          close={close}
        />
      );
    case "reveal":
      return (
        <Deed
          title={t().revealBank(name)}
          what={t().revealBankWhat}
          confirm={t().reveal}
          act={async ({ reason = "" }) => reveal(await call("admin.withdrawal.reveal", { withdrawal_id, reason }))}
          close={close}
        />
      );
  }
}

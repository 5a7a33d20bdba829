/** What a tutor earned, where it is, and the ways out of it. */
import { useState } from "preact/hooks";
import { Share } from "../courses/share";
import { day, instant, money } from "../format";
import { amountOf, AmountField } from "../parts/amount";
import { Choice } from "../parts/choice";
import { Answers, Modal } from "../parts/dialog";
import { Field, Form, Submit } from "../parts/form";
import { useKeys } from "../parts/keys";
import { areThere, type Loaded, useLoaded } from "../parts/loaded";
import { More } from "../parts/more";
import { type Paged, usePages } from "../parts/pages";
import { Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { toast } from "../parts/toast";
import { call, codeOf, Refused, serverNow } from "../server";
import { language } from "../texts";
import type { EarningsView, PayoutAccountView, ReferralSummary, WithdrawalView } from "../wire";
import { Download } from "../wallet/download";
import { People } from "./referred";
import { AtStripe, ByStripe } from "./stripe";
import { t } from "./texts";

export default function Earnings() {
  const earned = useLoaded(() => call("earnings.get", {}), []);
  const account = useLoaded(payoutAccount, []);
  const withdrawals = usePages((cursor: string | null) => call("withdrawal.list", { cursor, limit: 20 }), []);
  const { value, error, reload } = earned;
  const changed = () => Promise.all([reload(), withdrawals.reload()]);
  return (
    <>
      <Title>{t().earnings}</Title>
      <div class="wallet">
        {!areThere(earned, account, { value: withdrawals.items, error: withdrawals.error }) ? (
          <Loading heights={["8rem", "12rem", "20rem"]} />
        ) : value === undefined ? (
          <Failure error={error} again={reload} />
        ) : (
          <>
            <Standing earned={value} />
            <div class="halves">
              <Withdraw earned={value} account={account} changed={changed} />
              <Spend earned={value} changed={changed} />
            </div>
            <Withdrawals {...withdrawals} />
            <Months earned={value} />
            <Referral />
          </>
        )}
      </div>
    </>
  );
}

/** `null`: the tutor has not said where the money goes. */
async function payoutAccount(): Promise<PayoutAccountView | null> {
  try {
    return await call("payout_account.get", {});
  } catch (error) {
    if (codeOf(error) === "no_payout_account") return null;
    throw error;
  }
}

function Standing({ earned }: { earned: EarningsView }) {
  const names = ["available", "pending", "held", "reserved", "withdrawn", "owed"] as const;
  // A debt is rare, and would frighten where there is none.
  const shown = names.filter((name) => name !== "owed" || earned.standing.owed.amount > 0);
  return (
    <dl class="balances" aria-live="polite">
      {shown.map((name) => (
        <div key={name} class="card">
          <dt>{t().standing[name]}</dt>
          <dd class="figures">{money(earned.standing[name])}</dd>
          <dd class="faint">{t().standingWhy[name]}</dd>
        </div>
      ))}
    </dl>
  );
}

function Withdraw({ earned, account, changed }: { earned: EarningsView; account: Loaded<PayoutAccountView | null>; changed: () => Promise<unknown> }) {
  const [isChanging, setChanging] = useState(false);
  const [round, setRound] = useState(0);
  const keyOf = useKeys();
  const { value: where } = account;
  async function withdraw({ amount: text, note = "" }: Record<string, string>): Promise<void> {
    const asked = { amount: amountOf(text, "amount"), note: note.trim() === "" ? null : note };
    await call("withdrawal.request", asked, { key: keyOf(asked, round) }).catch((error: unknown) => {
      throw inWords(error, money(earned.withdrawal_least));
    });
    toast(t().requested);
    setRound(round + 1);
    await changed();
  }
  const isUsable = where !== null && where !== undefined && Date.parse(where.usable_from) <= serverNow();
  const form = isUsable && (
    <Form key={round} submit={withdraw}>
      <AmountField name="amount" label={t().amount} hint={t().withdrawWhy(money(earned.withdrawal_least))} />
      <Field name="note" label={t().note} maxLength={500} />
      <Submit>{t().withdraw}</Submit>
    </Form>
  );
  return (
    <section class="card stack" aria-labelledby="withdraw">
      <h2 id="withdraw">{t().withdraw}</h2>
      {where === undefined ? (
        <Failure error={account.error} again={account.reload} />
      ) : (
        <>
          <div class="row spread">
            <p class="soft">{where === null ? t().noBank : where.last4 === null ? t().toStripe : t().to(where.last4)}</p>
            <button type="button" class="button" onClick={() => setChanging(true)}>
              {where === null ? t().setBank : t().changeBank}
            </button>
          </div>
          {where !== null && !isUsable && <p class="notice">{t().usableFrom(instant(where.usable_from))}</p>}
          {where?.method === "stripe" ? <AtStripe>{form}</AtStripe> : form}
        </>
      )}
      {isChanging && (
        <Change
          close={(isSaved) => {
            setChanging(false);
            if (isSaved) void account.reload();
          }}
        />
      )}
    </section>
  );
}

function inWords(error: unknown, least: string): unknown {
  if (!(error instanceof Refused)) return error;
  const said: Record<string, string> = { withdrawal_too_small: t().tooSmall(least), insufficient_funds: t().tooMuch, payout_account_frozen: t().frozen };
  const text = said[error.code];
  return text === undefined ? error : new Refused("conflict", text, { amount: text });
}

function Change({ close }: { close: (isSaved: boolean) => void }) {
  const [way, setWay] = useState<"bank" | "stripe">("bank");
  return (
    <Modal title={t().account} close={() => close(false)}>
      <Choice label={t().account} options={[["bank", t().ways.bank], ["stripe", t().ways.stripe]]} value={way} choose={setWay} />
      {way === "bank" ? <Bank close={close} /> : <ByStripe close={() => close(false)} />}
    </Modal>
  );
}

function Bank({ close }: { close: (isSaved: boolean) => void }) {
  const keyOf = useKeys();
  async function save({ bank_name = "", account_number = "", account_holder = "", branch = "", swift = "" }: Record<string, string>): Promise<void> {
    const asked = { bank_name, account_number, account_holder, branch: branch || null, swift: swift.toUpperCase() || null };
    await call("payout_account.set_bank", asked, { key: keyOf(asked) });
    toast(t().bankSaved);
    close(true);
  }
  return (
    <>
      <p class="faint">{t().bankWhy}</p>
      <Form submit={save}>
        <Field name="account_holder" label={t().accountHolder} maxLength={200} autocomplete="off" required />
        <Field name="bank_name" label={t().bankName} maxLength={200} autocomplete="off" required />
        <Field name="account_number" label={t().accountNumber} refusal={t().accountWrong} maxLength={40} autocomplete="off" required />
        <div class="pair">
          <Field name="branch" label={t().branch} maxLength={200} autocomplete="off" />
          <Field name="swift" label={t().swift} refusal={t().swiftWrong} maxLength={11} autocomplete="off" />
        </div>
        <Answers close={() => close(false)}>
          <Submit>{t().setBank}</Submit>
        </Answers>
      </Form>
    </>
  );
}

function Spend({ earned, changed }: { earned: EarningsView; changed: () => Promise<unknown> }) {
  const [round, setRound] = useState(0);
  const keyOf = useKeys();
  async function spend({ amount: text }: Record<string, string>): Promise<void> {
    const asked = { amount: amountOf(text, "amount") };
    const { amount } = await call("earnings.spend", asked, { key: keyOf(asked, round) }).catch((error: unknown) => {
      throw inWords(error, money(earned.withdrawal_least));
    });
    toast(t().spent(money(amount)));
    setRound(round + 1);
    await changed();
  }
  return (
    <section class="card stack" aria-labelledby="spend">
      <h2 id="spend">{t().spend}</h2>
      <p class="soft">{t().spendWhy}</p>
      <Form key={round} submit={spend}>
        <AmountField name="amount" label={t().amount} />
        <Submit>{t().spend}</Submit>
      </Form>
    </section>
  );
}

function Withdrawals({ items: value, error, reload, more }: Paged<WithdrawalView>) {
  return (
    <section class="card stack" aria-labelledby="withdrawals">
      <div class="row spread">
        <h2 id="withdrawals">{t().withdrawals}</h2>
        <Download path="/withdrawals/export" name="withdrawals.csv">
          {t().export}
        </Download>
      </div>
      {value === undefined ? (
        <Failure error={error} again={reload} />
      ) : value.length === 0 ? (
        <p class="soft">{t().noWithdrawals}</p>
      ) : (
        <ul class="lines-of">
          {value.map((one) => (
            <li key={one.id}>
              <div class="about">
                <strong>{t().status[one.status]}</strong>
                {one.is_held && <span class="soft">{t().onHold}</span>}
                {one.answer !== null && <span class="soft">{one.answer}</span>}
                <span class="faint">
                  {day(one.requested_at)}
                  {one.account_last4 !== null && ` · …${one.account_last4}`}
                </span>
              </div>
              <span class="amount figures">{money(one.amount)}</span>
            </li>
          ))}
        </ul>
      )}
      <More more={more} />
    </section>
  );
}

function Months({ earned }: { earned: EarningsView }) {
  const name = new Intl.DateTimeFormat(language.value, { month: "long", year: "numeric", timeZone: "UTC" });
  const periods = earned.periods.filter(({ lessons, refunded }) => lessons > 0 || refunded.amount > 0).toReversed();
  return (
    <section class="card stack" aria-labelledby="months">
      <h2 id="months">{t().months}</h2>
      {periods.length === 0 ? (
        <p class="soft">{t().noMonths}</p>
      ) : (
        <ul class="lines-of">
          {periods.map((period) => (
            <li key={period.begins}>
              <div class="about">
                <strong>{name.format(new Date(`${period.begins}T00:00:00Z`))}</strong>
                <span class="faint">
                  {t().lessons(period.lessons)} · {t().gross} {money(period.gross)} · {t().fee} {money(period.fee)}
                </span>
              </div>
              <span class="amount figures">{money(period.net)}</span>
            </li>
          ))}
        </ul>
      )}
      {earned.shares.length > 0 && (
        <>
          <h3>{t().shares}</h3>
          <ul class="lines-of">
            {earned.shares.map((share) => (
              <li key={`${share.source_kind} ${share.attribution} ${share.tutor_bps}`}>
                <div class="about">
                  <strong>{t().sources[share.source_kind]}</strong>
                  <span class="faint">
                    {t().attribution[share.attribution] ?? share.attribution} · {share.tutor_bps / 100} %
                  </span>
                </div>
                <span class="amount figures">{money(share.net)}</span>
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

function Referral() {
  const { value, error, reload } = useLoaded(() => call("referral.summary", {}), []);
  if (value === undefined) return error === undefined ? <Loading heights={["10rem"]} /> : <Failure error={error} again={reload} />;
  return (
    <section class="card stack" aria-labelledby="referral">
      <h2 id="referral">{t().referral}</h2>
      <p class="soft">{t().referralWhy}</p>
      {value.share_link === null || value.qr_svg === null ? <p class="notice">{t().noCode}</p> : <Share link={value.share_link} qr={value.qr_svg} isInside />}
      <p class="soft">
        {t().people(value.referred)}, {t().buyers(value.buyers)}.
      </p>
      <Brought brought={value.brought} />
      <People />
      <Codes codes={value.codes.filter(({ course_id }) => course_id !== null)} />
    </section>
  );
}

function Brought({ brought }: Pick<ReferralSummary, "brought">) {
  const names = ["sold", "earned", "held", "refunded"] as const;
  return (
    <>
      <h3>{t().brought}</h3>
      <dl class="figures-of">
        {names.map((name) => (
          <div key={name}>
            <dt>{t().broughtSums[name]}</dt>
            <dd class="figures">{money(brought[name])}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

function Codes({ codes }: Pick<ReferralSummary, "codes">) {
  if (codes.length === 0) return null;
  return (
    <details>
      <summary>{t().codes}</summary>
      <ul class="lines-of">
        {codes.map((code) => (
          <li key={code.code}>
            <div class="about">
              <strong>{code.course_title}</strong>
              <span class="faint address">{code.share_link}</span>
            </div>
            <span class="chip">{t().people(code.registered)}</span>
          </li>
        ))}
      </ul>
    </details>
  );
}

/**
 * The purchase: what it costs, what is missing, what is agreed; a second step confirms it, and what was shown is what is
 * paid. Is the offer another one by then, the server refuses and it is shown anew.
 */
import { useEffect, useState } from "preact/hooks";
import { money } from "../format";
import { useBusy } from "../parts/busy";
import { Cost, Pay, Sum } from "../parts/cost";
import { Answers, Modal } from "../parts/dialog";
import { useKeys } from "../parts/keys";
import { Failure, Loading } from "../parts/states";
import { call, codeOf } from "../server";
import type { ChangedPurchase, CourseView, Quote, SessionView } from "../wire";
import { said } from "./refusals";
import { t } from "./texts";

// After these the same quote may still be confirmed, with the same key: whether it was is not known.
const UNKNOWN = new Set(["offline", "timeout_unknown_outcome", "overloaded", "too_many_requests"]);

interface Options {
  course: CourseView;
  /** `null`: the whole course. */
  session: SessionView | null;
  close: (hasBought: boolean) => void;
}

export function Buy({ course, session, close }: Options) {
  const [quote, setQuote] = useState<Quote>();
  const [refusal, setRefusal] = useState<unknown>();
  const [notice, setNotice] = useState<string>();
  const [bought, setBought] = useState<ChangedPurchase>();
  const [isBusy, alone] = useBusy();
  const keyOf = useKeys();

  async function ask(): Promise<void> {
    setRefusal(undefined);
    try {
      setQuote(await call("purchase.quote", { course_id: course.id, session_id: session?.id ?? null }));
    } catch (error) {
      setQuote(undefined);
      setRefusal(error);
    }
  }
  useEffect(() => void ask(), []);

  async function confirm({ quote_token }: Quote): Promise<void> {
    setNotice(undefined);
    try {
      setBought(await call("purchase.confirm", { quote_token }, { key: keyOf(quote_token) }));
    } catch (error) {
      setNotice(codeOf(error).startsWith("quote_") ? t().changed : said(error));
      if (!UNKNOWN.has(codeOf(error))) await ask();
    }
  }

  if (bought !== undefined) return <Done bought={bought} close={() => close(true)} />;
  return (
    <Modal title={t().buyTitle} close={() => close(false)}>
      <p>
        <strong>{course.title}</strong>
        <br />
        <span class="soft">{session === null ? t().item.full_course : session.title}</span>
      </p>
      {notice !== undefined && quote !== undefined && (
        <p class="alert" role="alert">
          {notice}
        </p>
      )}
      {quote === undefined ? (
        refusal === undefined ? (
          <Loading heights={["9rem", "4rem"]} />
        ) : codeOf(refusal) in t().refusals ? (
          <p class="alert" role="alert">
            {said(refusal)}
          </p>
        ) : (
          <Failure error={refusal} again={ask} />
        )
      ) : (
        <Agreement quote={quote} />
      )}
      <Answers close={() => close(false)} isDone={quote === undefined}>{quote && <Pay quote={quote} words={t()} isBusy={isBusy} confirm={() => void alone(() => confirm(quote))} />}</Answers>
    </Modal>
  );
}

function Agreement({ quote }: { quote: Quote }) {
  const { returned_first, split, refund_rule } = quote;
  return (
    <>
      <Cost quote={quote} words={t()}>
        {returned_first.amount > 0 && <Sum name={`${t().returnedFirst} ${t().returnedFirstWhy}`} value={`+ ${money(returned_first)}`} />}
      </Cost>
      <section class="fine">
        <h3>{t().refunds}</h3>
        <p class="soft">{refund_rule}</p>
        <h3>{t().splitTitle}</h3>
        <p class="soft">
          {t().splitTutor(split.tutor_bps / 100)}, {t().splitPlatform(split.platform_bps / 100)}
        </p>
      </section>
    </>
  );
}

function Done({ bought, close }: { bought: ChangedPurchase; close: () => void }) {
  const [hold, ...others] = bought.holds;
  return (
    <Modal title={t().bought} close={close}>
      <p role="status">{t().boughtNext(money(bought.price))}</p>
      <dl class="sums">
        <Sum name={t().balance} value={money(bought.balance)} />
      </dl>
      <Answers close={close} isDone>
        {hold && others.length === 0 && (
          <a class="button" href={`/holds/${hold.id}`}>
            {t().toHold}
          </a>
        )}
        <a class="button primary" href="/learning">
          {t().toLearning}
        </a>
      </Answers>
    </Modal>
  );
}

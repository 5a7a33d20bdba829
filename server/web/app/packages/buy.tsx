/**
 * The purchase of a package: what it costs, what is missing, what becomes of the rest; a second step confirms it. Has the
 * offer changed by then, the server refuses and it is shown anew.
 */
import { useEffect, useState } from "preact/hooks";
import { useBusy } from "../parts/busy";
import { Cost, Pay } from "../parts/cost";
import { Answers, Modal } from "../parts/dialog";
import type { KeyOf } from "../parts/keys";
import { Failure, Loading } from "../parts/states";
import { call, codeOf } from "../server";
import type { OfferedOption, PackageQuote, PackageView } from "../wire";
import { t } from "./texts";
import { holds, said } from "./words";

export function Buy({ offer, keyOf, close }: { offer: OfferedOption; keyOf: KeyOf; close: (hasBought: boolean) => void }) {
  const [quote, setQuote] = useState<PackageQuote>();
  const [refusal, setRefusal] = useState<unknown>();
  const [notice, setNotice] = useState<string>();
  const [bought, setBought] = useState<PackageView>();
  const [isBusy, alone] = useBusy();

  async function ask(): Promise<void> {
    setRefusal(undefined);
    try {
      setQuote(await call("package.quote", { option_id: offer.id }));
    } catch (error) {
      setQuote(undefined);
      setRefusal(error);
    }
  }
  useEffect(() => void ask(), []);

  async function confirm({ option_id, terms }: PackageQuote): Promise<void> {
    setNotice(undefined);
    try {
      // The same terms under the same key: whoever presses again after a broken line buys once.
      setBought(await call("package.buy", { option_id, terms }, { key: keyOf(option_id, terms) }));
    } catch (error) {
      const isChanged = codeOf(error).startsWith("quote_");
      setNotice(isChanged ? t().changed : said(error));
      if (isChanged || codeOf(error) === "insufficient_funds") await ask();
    }
  }

  if (bought !== undefined)
    return (
      <Modal title={t().bought} close={() => close(true)}>
        <p role="status">
          <strong>{bought.title}</strong>
          <br />
          {t().boughtNext(bought.purchased)}
        </p>
        <Answers close={() => close(true)} isDone>
          <a class="button primary" href={`/packages/${bought.id}`}>
            {t().toPackage}
          </a>
        </Answers>
      </Modal>
    );
  return (
    <Modal title={t().buyTitle} close={() => close(false)}>
      <p>
        <strong>{offer.title}</strong>
        <br />
        <span class="soft">{t().by(offer.tutor_name)}</span>
      </p>
      {notice !== undefined && (
        <p class="alert" role="alert">
          {notice}
        </p>
      )}
      {quote !== undefined ? (
        <Agreement quote={quote} />
      ) : refusal === undefined ? (
        <Loading heights={["9rem", "4rem"]} />
      ) : codeOf(refusal) in t().refusals ? (
        <p class="alert" role="alert">
          {said(refusal)}
        </p>
      ) : (
        <Failure error={refusal} again={ask} />
      )}
      <Answers close={() => close(false)} isDone={quote === undefined}>
        {quote !== undefined && <Pay quote={quote} words={t()} isBusy={isBusy} confirm={() => void alone(() => confirm(quote))} />}
      </Answers>
    </Modal>
  );
}

function Agreement({ quote }: { quote: PackageQuote }) {
  const { sessions, minutes, refund_rule } = quote;
  return (
    <>
      <p class="faint">
        {t().lessons(sessions, minutes)} · {holds(quote)}
      </p>
      <Cost quote={quote} words={t()} />
      <section class="fine">
        <h3>{t().refunds}</h3>
        <p class="soft">{refund_rule}</p>
      </section>
    </>
  );
}

/** The own packages, and what tutors offer. */
import { useEffect, useState } from "preact/hooks";
import { money } from "../format";
import { useKeys } from "../parts/keys";
import { More } from "../parts/more";
import { type Paged, usePages } from "../parts/pages";
import { Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { call, subscribe } from "../server";
import { me } from "../session";
import type { OfferedOption } from "../wire";
import { Buy } from "./buy";
import { List } from "./list";
import { t } from "./texts";
import { holds } from "./words";

export default function Packages() {
  const id = me.value?.id ?? "";
  const own = usePages((cursor: string | null) => call("package.list", { cursor, limit: 20 }), [id]);
  const offered = usePages((cursor: string | null) => call("package_option.browse", { cursor, limit: 20 }), []);
  useEffect(() => subscribe(`user:${id}`, { onReset: () => undefined, onEvent: ({ ev }) => ev.startsWith("package.") && void own.reload() }), [id]);
  return (
    <>
      <Title>{t().packages}</Title>
      <div class="wallet">
        <p class="soft">{t().why}</p>
        <section class="card stack" aria-labelledby="yours">
          <h2 id="yours">{t().yours}</h2>
          <List paged={own} none={t().noneYours} />
        </section>
        <Offered offered={offered} bought={own.reload} />
      </div>
    </>
  );
}

function Offered({ offered: { items, error, reload, more }, bought }: { offered: Paged<OfferedOption>; bought: () => Promise<void> }) {
  const [wanted, setWanted] = useState<OfferedOption | null>(null);
  // They outlive the dialog: whoever closes it without an answer, and buys again, may have bought already.
  const [round, setRound] = useState(0);
  const keyOf = useKeys();
  return (
    <section class="stack" aria-labelledby="offered">
      <h2 id="offered">{t().offered}</h2>
      {items === undefined ? (
        error === undefined ? <Loading heights={["7rem", "7rem"]} /> : <Failure error={error} again={reload} />
      ) : items.length === 0 ? (
        <p class="soft">{t().noneOffered}</p>
      ) : (
        <ul class="offers">
          {items.map((offer) => (
            <li key={offer.id} class="card offer">
              <h3>{offer.title}</h3>
              <p class="row">
                <span class="chip">{t().lessons(offer.sessions, offer.minutes)}</span>
                {offer.is_popular && <span class="chip accent">{t().popular}</span>}
              </p>
              <p class="faint">
                {t().by(offer.tutor_name)} · {holds(offer)}
              </p>
              {offer.description !== "" && <p class="soft lines">{offer.description}</p>}
              <p class="row spread">
                <span>
                  <strong class="figures">{money(offer.price)}</strong> <span class="faint">{t().each(money(offer.per_session))}</span>
                </span>
                {offer.tutor_id !== me.value?.id && (
                  <button type="button" class="button primary" aria-label={t().buyWhat(offer.title)} onClick={() => setWanted(offer)}>
                    {t().buy}
                  </button>
                )}
              </p>
            </li>
          ))}
        </ul>
      )}
      <More more={more} />
      {wanted !== null && (
        <Buy
          offer={wanted}
          keyOf={(...asked) => keyOf(...asked, round)}
          close={(hasBought) => {
            setWanted(null);
            if (hasBought) setRound(round + 1);
            void Promise.all([bought(), reload()]);
          }}
        />
      )}
    </section>
  );
}

/** Packages on offer, each with the way to buy it. */
import { useLocation } from "preact-iso";
import { useState } from "preact/hooks";
import { money } from "../format";
import { useKeys } from "../parts/keys";
import { me } from "../session";
import type { OfferedOption } from "../wire";
import { Buy } from "./buy";
import { t } from "./texts";
import { holds } from "./words";

export function Offers({ offers, closed }: { offers: readonly OfferedOption[]; closed: (hasBought: boolean) => void }) {
  const { url } = useLocation();
  const [wanted, setWanted] = useState<OfferedOption | null>(null);
  // They outlive the dialog: whoever closes it without an answer, and buys again, may have bought already.
  const [round, setRound] = useState(0);
  const keyOf = useKeys();
  return (
    <>
      <ul class="offers">
        {offers.map((offer) => (
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
              {me.value === null ? (
                <a class="button primary" aria-label={t().buyWhat(offer.title)} href={`/login?next=${encodeURIComponent(url)}`}>
                  {t().buy}
                </a>
              ) : (
                offer.tutor_id !== me.value?.id && (
                  <button type="button" class="button primary" aria-label={t().buyWhat(offer.title)} onClick={() => setWanted(offer)}>
                    {t().buy}
                  </button>
                )
              )}
            </p>
          </li>
        ))}
      </ul>
      {wanted !== null && (
        <Buy
          offer={wanted}
          keyOf={(...asked) => keyOf(...asked, round)}
          close={(hasBought) => {
            setWanted(null);
            if (hasBought) setRound(round + 1);
            closed(hasBought);
          }}
        />
      )}
    </>
  );
}

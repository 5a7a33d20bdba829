/** The own holds, newest first: as student or as tutor. */
import { instant, money } from "../format";
import { wallet as walletIcon } from "../icons/places";
import { More } from "../parts/more";
import { usePages } from "../parts/pages";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { call } from "../server";
import { t } from "./texts";

export default function Holds() {
  const { items: value, error, reload, more } = usePages((cursor: string | null) => call("hold.list", { cursor, limit: 20 }), []);
  return (
    <>
      <Title>{t().holds}</Title>
      <div class="wallet">
        {value === undefined ? (
          error === undefined ? <Loading heights={["5rem", "5rem", "5rem"]} /> : <Failure error={error} again={reload} />
        ) : value.length === 0 ? (
          <Empty icon={walletIcon} title={t().noHolds}>
            <p>{t().noHoldsWhy}</p>
          </Empty>
        ) : (
          <ul class="lines-of card">
            {value.map((hold) => (
              <li key={hold.id}>
                <div class="about">
                  <a href={`/holds/${hold.id}`}>{hold.title ?? t().undated(hold.slice_no)}</a>
                  <span class="faint">
                    {t().sources[hold.source_kind]} · {instant(hold.placed_at)}
                    {hold.cause !== null && ` · ${t().causes[hold.cause]}`}
                  </span>
                </div>
                <span class="chip">{t().status[hold.status]}</span>
                <span class="amount figures">{money(hold.amount)}</span>
              </li>
            ))}
          </ul>
        )}
        <More more={more} />
      </div>
    </>
  );
}

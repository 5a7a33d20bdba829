/** Packages that somebody bought or sold, newest first. */
import { fromNow, money } from "../format";
import { More } from "../parts/more";
import { type Paged } from "../parts/pages";
import { Failure, Loading } from "../parts/states";
import { serverNow } from "../server";
import { me } from "../session";
import type { PackageSummary } from "../wire";
import { t } from "./texts";
import { end } from "./words";

export function List({ paged: { items, error, reload, more }, none }: { paged: Paged<PackageSummary>; none: string }) {
  if (items === undefined) return error === undefined ? <Loading heights={["4rem", "4rem"]} /> : <Failure error={error} again={reload} />;
  if (items.length === 0) return <p class="soft">{none}</p>;
  return (
    <>
      <ul class="lines-of">
        {items.map((one) => (
          <li key={one.id}>
            <div class="about">
              <a href={`/packages/${one.id}`}>{one.title}</a>
              <span class="soft">{one.student_id === me.value?.id ? t().by(one.tutor_name) : t().sold(one.student_name)}</span>
              <span class="faint">
                {t().left(one.remaining, one.purchased)} · {end(one)}
              </span>
            </div>
            {one.ends_soon && one.expires_at !== null ? (
              <span class="chip soon">{t().endsSoon(fromNow(one.expires_at, serverNow()))}</span>
            ) : (
              <span class={`chip ${one.status === "active" ? "accent" : ""}`}>{t().status[one.status]}</span>
            )}
            <span class="amount figures">{money(one.price)}</span>
          </li>
        ))}
      </ul>
      <More more={more} />
    </>
  );
}

/** The own packages, and what tutors offer. */
import { useEffect } from "preact/hooks";
import { More } from "../parts/more";
import { type Paged, usePages } from "../parts/pages";
import { Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { call, subscribe } from "../server";
import { me } from "../session";
import type { OfferedOption } from "../wire";
import { List } from "./list";
import { Offers } from "./offered";
import { t } from "./texts";

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
  return (
    <section class="stack" aria-labelledby="offered">
      <h2 id="offered">{t().offered}</h2>
      {items === undefined ? (
        error === undefined ? <Loading heights={["7rem", "7rem"]} /> : <Failure error={error} again={reload} />
      ) : items.length === 0 ? (
        <p class="soft">{t().noneOffered}</p>
      ) : (
        <Offers offers={items} closed={() => void Promise.all([bought(), reload()])} />
      )}
      <More more={more} />
    </section>
  );
}

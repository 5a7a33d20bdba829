/** What providers told us, and whether it was taken in. */
import { useState } from "preact/hooks";
import { fromNow, instant } from "../format";
import { Choice } from "../parts/choice";
import { usePages } from "../parts/pages";
import { call, serverNow } from "../server";
import type { ListWebhooks } from "../wire";
import { Frame } from "./frame";
import { List } from "./list";
import { t } from "./texts";

type Provider = ListWebhooks["provider"];
// Names, the same in every language.
const PROVIDERS: readonly (readonly [Provider, string])[] = [["livekit", "LiveKit"], ["stripe", "Stripe"]];

export default function Webhooks() {
  const [provider, setProvider] = useState<Provider>("livekit");
  const [waiting, setWaiting] = useState(false);
  const paged = usePages((cursor: string | null) => call("admin.webhook.list", { provider, waiting, cursor }), [provider, waiting]);
  return (
    <Frame title={t().sections.webhooks}>
      <div class="row">
        <Choice label={t().provider} options={PROVIDERS} value={provider} choose={setProvider} />
        <Choice
          label={t().status}
          options={[["all", t().all], ["waiting", t().onlyWaiting]]}
          value={waiting ? "waiting" : "all"}
          choose={(which) => setWaiting(which === "waiting")}
        />
      </div>
      <List paged={paged} none={waiting ? t().noWebhooksWaiting : t().noWebhooks}>
        {(one) => (
          <>
            <div class="about">
              <h2>{one.type}</h2>
              <p class="faint figures">
                {one.id}
                {one.about !== null && ` · ${one.about}`}
              </p>
              <p class="faint">
                <time dateTime={one.created_at}>{instant(one.created_at)}</time> · {t().received(fromNow(one.received_at, serverNow()))}
              </p>
            </div>
            <div class="deeds">
              <span class={`chip ${one.handled_at === null ? "warn" : "accent"}`}>{one.handled_at === null ? t().notHandled : t().handled}</span>
            </div>
          </>
        )}
      </List>
    </Frame>
  );
}

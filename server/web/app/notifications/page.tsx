/** Everything that somebody was told, the newest first. */
import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { fromNow, instant } from "../format";
import icon from "../icons/bell.svg";
import { useBusy } from "../parts/busy";
import { Choice } from "../parts/choice";
import { More } from "../parts/more";
import { usePages } from "../parts/pages";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { call, serverNow } from "../server";
import type { NotificationView } from "../wire";
import { t } from "./texts";
import { arrivals, unread } from "./unread";

export default function Notifications() {
  const [onlyUnread, setOnlyUnread] = useState(false);
  const [isBusy, alone] = useBusy();
  const { items, error, reload, more } = usePages((cursor: string | null) => call("notification.list", { unread: onlyUnread, cursor }), [onlyUnread]);
  useEffect(() => {
    if (arrivals.value > 0) void reload();
  }, [arrivals.value, reload]);

  async function readAll(): Promise<void> {
    unread.value = (await call("notification.read_all", {})).unread;
    await reload();
  }

  return (
    <>
      <Title
        beside={
          <button type="button" class="button" disabled={isBusy || unread.value === 0} aria-busy={isBusy} onClick={() => void alone(readAll)}>
            {t().readAll}
          </button>
        }
      >
        {t().title}
      </Title>
      <div class="notifications">
        <Choice
          label={t().which}
          options={[["all", t().all], ["unread", t().unread]]}
          value={onlyUnread ? "unread" : "all"}
          choose={(which) => setOnlyUnread(which === "unread")}
        />
        {items === undefined ? (
          error === undefined ? <Loading heights={["4.5rem", "4.5rem", "4.5rem"]} /> : <Failure error={error} again={reload} />
        ) : items.length === 0 ? (
          <Empty icon={icon} title={onlyUnread ? t().noneUnread : t().none}>
            <p>{t().noneWhy}</p>
          </Empty>
        ) : (
          <ul>
            {items.map((one) => (
              <Row key={one.id} one={one} reload={reload} />
            ))}
          </ul>
        )}
        <More more={more} />
      </div>
    </>
  );
}

function Row({ one, reload }: { one: NotificationView; reload: () => Promise<void> }) {
  const { route } = useLocation();
  const isNew = one.read_at === null;
  const [, alone] = useBusy();

  async function read(): Promise<void> {
    if (!isNew) return;
    await call("notification.read", { notification_id: one.id });
    unread.value = Math.max(unread.peek() - 1, 0);
    await reload();
  }

  const text = (
    <>
      <strong>
        {one.title}
        {isNew && <span class="visually-hidden"> ({t().isNew})</span>}
      </strong>
      <span>{one.text}</span>
      <time class="faint" dateTime={one.created_at} title={instant(one.created_at)}>
        {fromNow(one.created_at, serverNow())}
      </time>
    </>
  );
  return (
    <li class={isNew ? "new" : ""}>
      {one.link === null ? (
        <button type="button" disabled={!isNew} onClick={() => void alone(read)}>
          {text}
        </button>
      ) : (
        <a
          href={one.link}
          onClick={(event) => {
            event.preventDefault();
            // It opens whatever becomes of the mark.
            void alone(read).catch(() => undefined);
            route(one.link ?? "/");
          }}
        >
          {text}
        </a>
      )}
    </li>
  );
}

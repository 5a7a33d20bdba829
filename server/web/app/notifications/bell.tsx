/** The bell of the shell: how much is unread, as it is now. */
import { useEffect } from "preact/hooks";
import icon from "../icons/bell.svg";
import { Icon } from "../parts/icon";
import { t } from "./texts";
import { arrivals, followUnread, unread } from "./unread";

// Two digits fit; more than that is "many".
const SHOWN_MOST = 99;

export function Bell({ isCurrent }: { isCurrent: boolean }) {
  useEffect(followUnread, []);
  const count = unread.value;
  return (
    <>
      <a class="bell" href="/notifications" aria-current={isCurrent ? "page" : undefined} aria-label={t().bell(count)}>
        <Icon drawing={icon} />
        {count > 0 && <span class="count figures">{count > SHOWN_MOST ? `${SHOWN_MOST}+` : count}</span>}
      </a>
      <span class="visually-hidden" role="status">
        {arrivals.value > 0 && t().arrived(count)}
      </span>
    </>
  );
}

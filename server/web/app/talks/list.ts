/** The list of open talks while a page shows it: a channel tells what comes, changes and goes. */
import { useEffect, useRef, useState } from "preact/hooks";
import { useLoaded } from "../parts/loaded";
import { isMember, me } from "../session";
import { call, connection, type Shown, subscribe } from "../server";
import type { TalkPage } from "../wire";
import { after, type Filter } from "./changes";

// The channel keeps nothing, so what was lost on its way is found by asking. A household of visitors, who have no
// channel, shares sixty requests a minute.
const MEMBER_MS = 60_000;
const VISITOR_MS = 15_000;
// Whether a talk fits a filter only the server says. All who look at such a list ask when one is opened: not all at once.
const SPREAD_MS = 1_500;

export function useTalks(filter: Filter) {
  const { value, error, reload } = useLoaded<TalkPage>(() => call("talk.list", filter), [filter, me.value?.id]);
  // What the channel has made of the page that was fetched.
  const [told, setTold] = useState<{ of: TalkPage; page: TalkPage }>();
  const page = told !== undefined && told.of === value ? told.page : value;
  const current = useRef({ value, page, filter, reload });
  current.current = { value, page, filter, reload };

  useEffect(() => {
    const timer = setInterval(() => document.hidden || void reload(), isMember.value ? MEMBER_MS : VISITOR_MS);
    return () => clearInterval(timer);
  }, [reload]);

  useEffect(() => {
    if (!isMember.value) return undefined;
    let timer = 0;
    function hear(event: Shown): void {
      const now = current.current;
      if (now.value === undefined || now.page === undefined) return;
      const next = after(now.page, event, now.filter);
      if (next === "ask") {
        clearTimeout(timer);
        timer = setTimeout(() => void current.current.reload(), Math.random() * SPREAD_MS);
      } else if (next !== now.page) {
        current.current = { ...now, page: next };
        setTold({ of: now.value, page: next });
      }
    }
    const end = subscribe("lobby:talks", { onReset: () => undefined, onEvent: hear });
    return () => {
      clearTimeout(timer);
      end();
    };
  }, [me.value?.id]);

  // What was told while the connection was away.
  const isOpen = connection.value.status === "open";
  const wasOpen = useRef(isOpen);
  useEffect(() => {
    if (isOpen && !wasOpen.current) void reload();
    wasOpen.current = isOpen;
  }, [isOpen, reload]);

  return { value: page, error, reload };
}

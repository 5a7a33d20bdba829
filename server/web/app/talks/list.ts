/** The list of open talks while a page shows it. */
import { useEffect } from "preact/hooks";
import { useLoaded } from "../parts/loaded";
import { isMember, me } from "../session";
import { type Asked, call, subscribe } from "../server";
import type { TalkPage } from "../wire";

export type Filter = Pick<Asked<"talk.list">, "nearby" | "language" | "level" | "topic">;

// No channel tells of talks that are opened, so the list is asked for again. A member asks over the socket, which is
// cheap; a household of visitors shares sixty requests a minute.
const MEMBER_MS = 4_000;
const VISITOR_MS = 15_000;
// Four people who come at once are one change of the list.
const TOGETHER_MS = 300;

export function useTalks(filter: Filter) {
  const loaded = useLoaded<TalkPage>(() => call("talk.list", filter), [filter, me.value?.id]);
  const { value, reload } = loaded;

  useEffect(() => {
    const timer = setInterval(() => document.hidden || void reload(), isMember.value ? MEMBER_MS : VISITOR_MS);
    return () => clearInterval(timer);
  }, [reload]);

  const rooms = value?.items.map(({ room_id }) => room_id).join(" ") ?? "";
  useEffect(() => {
    if (rooms === "" || !isMember.value) return undefined;
    let timer = 0;
    const soon = () => {
      clearTimeout(timer);
      timer = setTimeout(() => void reload(), TOGETHER_MS);
    };
    const ends = rooms.split(" ").map((id) => subscribe(`room:${id}`, { onEvent: soon, onReset: () => undefined }));
    return () => {
      clearTimeout(timer);
      for (const end of ends) end();
    };
  }, [rooms, reload]);

  return loaded;
}

/** What an event of the channel of open talks makes of a page of the list. */
import type { Asked, Shown } from "../server";
import type { ListedTalk, TalkPage } from "../wire";

export type Filter = Pick<Asked<"talk.list">, "nearby" | "language" | "level" | "topic">;

/** The page afterwards, or `"ask"` where only the server knows it: what moves up, and a new talk that may fit the filter. */
export function after(page: TalkPage, event: Shown, filter: Filter): TalkPage | "ask" {
  if (event.ev === "talk.unlisted") {
    const items = page.items.filter(({ id }) => id !== event.d.id);
    if (items.length === page.items.length) return page;
    return page.next_cursor === null ? { ...page, items } : "ask";
  }
  if (event.ev !== "talk.listed") return page;
  const talk = event.d;
  const isShown = page.items.some(({ id }) => id === talk.id);
  // What it is about may have changed too, so that it fits the filter no more.
  if (Object.values(filter).some(Boolean)) {
    if (isShown) return isSame(page, talk) ? replaced(page, talk) : "ask";
    return mayFit(talk, filter) ? "ask" : page;
  }
  return isShown ? replaced(page, talk) : inserted(page, talk);
}

/** Whether it cannot be told from here that it does not. */
function mayFit(talk: ListedTalk, { language, level }: Filter): boolean {
  const speaks = !language || talk.language.toLowerCase() === language.toLowerCase();
  return speaks && (!level || talk.level === level);
}

function isSame(page: TalkPage, talk: ListedTalk): boolean {
  return page.items.some(({ id, language, level, topic, region }) => id === talk.id && language === talk.language && level === talk.level && topic === talk.topic && region === talk.region);
}

function replaced(page: TalkPage, talk: ListedTalk): TalkPage {
  return { ...page, items: page.items.map((one) => (one.id === talk.id ? talk : one)) };
}

/** The newest stand first; what would stand below the end of the page is not on it. */
function inserted(page: TalkPage, talk: ListedTalk): TalkPage {
  const place = page.items.findIndex(({ created_at }) => Date.parse(created_at) < Date.parse(talk.created_at));
  if (place === -1) return page.next_cursor === null ? { ...page, items: [...page.items, talk] } : page;
  return { ...page, items: page.items.toSpliced(place, 0, talk) };
}

/** What an event of the channel of open talks makes of a page of the list. */
import type { Shown } from "../server";
import type { ListedTalk, TalkPage } from "../wire";

/** The page afterwards, or `"ask"` where only the server knows it: a new talk, and a list that shows only some. */
export function after(page: TalkPage, event: Shown, isNarrow: boolean): TalkPage | "ask" {
  if (event.ev === "talk.unlisted") {
    const items = page.items.filter(({ id }) => id !== event.d.id);
    return items.length === page.items.length ? page : { ...page, items };
  }
  if (event.ev !== "talk.listed") return page;
  const talk = event.d;
  const isShown = page.items.some(({ id }) => id === talk.id);
  // What it is about may have changed too, so that it fits the filter no more.
  if (isNarrow) return isShown && isSame(page, talk) ? replaced(page, talk) : "ask";
  return isShown ? replaced(page, talk) : inserted(page, talk);
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

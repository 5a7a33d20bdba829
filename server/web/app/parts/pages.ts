/** A list that comes in pages, the newest first, for as long as a component shows it. */
import { useState } from "preact/hooks";
import { useLoaded } from "./loaded";

export interface Page<Item, Cursor> {
  items: readonly Item[];
  next_cursor: Cursor | null;
}

export interface Paged<Item> {
  items: readonly Item[] | undefined;
  error: unknown;
  reload: () => Promise<void>;
  /** Fetch what comes after; `undefined` at the end of the list. */
  more: (() => Promise<void>) | undefined;
}

/** Fetch the first page by `load`, and again when one of `keys` changes; then one page more at each `more()`. */
export function usePages<Item, Cursor>(
  load: (cursor: Cursor | null) => Promise<Page<Item, Cursor>>,
  keys: readonly unknown[],
): Paged<Item> {
  const [further, setFurther] = useState<{ after: unknown; pages: readonly Page<Item, Cursor>[] }>({ after: null, pages: [] });
  const { value: first, error, reload } = useLoaded(() => load(null), keys);
  // What followed another first page has nothing to do with this one.
  const pages = first === undefined ? [] : [first, ...(further.after === first ? further.pages : [])];
  const last = pages.at(-1);
  const cursor = last?.next_cursor ?? null;
  return {
    items: first === undefined ? undefined : pages.flatMap(({ items }) => items),
    error,
    reload,
    more:
      cursor === null
        ? undefined
        : async () => {
            const page = await load(cursor);
            setFurther({ after: first, pages: [...pages.slice(1), page] });
          },
  };
}

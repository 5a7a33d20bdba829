/** Lists that come page by page. */
import { useEffect, useState } from "preact/hooks";
import { type Loaded, useLoaded } from "./loaded";
import { t } from "./texts";

interface Page<Item> {
  items: readonly Item[];
  next_cursor: string | null;
}

export interface Pages<Item> extends Loaded<readonly Item[]> {
  /** Missing where everything is there. */
  more: (() => Promise<void>) | undefined;
}

/** The first page by `load(null)`, and one more at each `more()`; all anew when one of `keys` changes. */
export function usePages<Item>(load: (cursor: string | null) => Promise<Page<Item>>, keys: readonly unknown[]): Pages<Item> {
  const { value: first, error, reload } = useLoaded(() => load(null), keys);
  const [later, setLater] = useState<readonly Page<Item>[]>([]);
  useEffect(() => setLater([]), [first]);
  const cursor = (later.at(-1) ?? first)?.next_cursor ?? null;
  return {
    value: first && [...first.items, ...later.flatMap(({ items }) => items)],
    error,
    reload,
    more: cursor === null ? undefined : async () => setLater([...later, await load(cursor)]),
  };
}

export function More({ more }: { more: (() => Promise<void>) | undefined }) {
  const [isBusy, setBusy] = useState(false);
  if (more === undefined) return null;
  return (
    <button type="button" class="button" disabled={isBusy} aria-busy={isBusy} onClick={() => {
        setBusy(true);
        void more().finally(() => setBusy(false));
      }}>
      {t().more}
    </button>
  );
}

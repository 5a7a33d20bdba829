/** Lists that come page by page. */
import { useEffect, useState } from "preact/hooks";
import { type Loaded, useLoaded } from "./loaded";
import { words } from "./states";
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

/** The end of a list: more of it, while there is more. */
export function More({ more }: { more: (() => Promise<void>) | undefined }) {
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<unknown>(null);
  if (more === undefined) return null;
  async function fetch(): Promise<void> {
    setBusy(true);
    setFailure(null);
    await more?.().catch(setFailure);
    setBusy(false);
  }
  return (
    <div class="more">
      {failure !== null && (
        <p class="alert" role="alert">
          {words(failure)}
        </p>
      )}
      <button type="button" class="button" disabled={isBusy} aria-busy={isBusy} onClick={() => void fetch()}>
        {t().more}
      </button>
    </div>
  );
}

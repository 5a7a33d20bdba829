/** Something that the server has, for as long as a component shows it. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

export interface Loaded<T> {
  /** What came last; it stays while it is fetched again. */
  value: T | undefined;
  error: unknown;
  reload: () => Promise<void>;
}

/** Fetch by `load`, and again when one of `keys` changes. An answer that was overtaken by a later one is not shown. */
export function useLoaded<T>(load: () => Promise<T>, keys: readonly unknown[]): Loaded<T> {
  const [value, setValue] = useState<T>();
  const [error, setError] = useState<unknown>();
  const newest = useRef(0);
  const shown = useRef<readonly unknown[]>(keys);
  const reload = useCallback(async () => {
    newest.current += 1;
    const own = newest.current;
    try {
      const found = await load();
      if (own !== newest.current) return;
      shown.current = keys;
      setValue(found);
      setError(undefined);
    } catch (refused) {
      if (own !== newest.current) return;
      setError(refused);
      // What was there for other keys is no answer to these.
      if (shown.current !== keys) setValue(undefined);
    }
    // The keys say when `load` means something else.
  }, keys);
  useEffect(() => {
    void reload();
    return () => {
      newest.current += 1;
    };
  }, [reload]);
  return { value, error, reload };
}

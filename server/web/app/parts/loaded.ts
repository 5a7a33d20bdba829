/** Something that the server has, for as long as a component shows it. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { seenAt } from "../seen";
import { codeOf, returned } from "../server";

export interface Loaded<T> {
  /** What came last; it stays while it is fetched again. */
  value: T | undefined;
  error: unknown;
  reload: () => Promise<void>;
}

/** Whether all of these have come, or will not: what comes later pushes aside what stands below it. */
export function areThere(...all: readonly { value: unknown; error: unknown }[]): boolean {
  return all.every(({ value, error }) => value !== undefined || error !== undefined);
}

/** Fetch by `load`, and again when one of `keys` changes, or when the server is there again that was away. An answer that was overtaken by a later one is not shown. */
export function useLoaded<T>(load: () => Promise<T>, keys: readonly unknown[]): Loaded<T> {
  const [value, setValue] = useState<T>();
  const [error, setError] = useState<unknown>();
  const newest = useRef(0);
  const isLacking = useRef(false);
  const shown = useRef<readonly unknown[]>(keys);
  const reload = useCallback(async () => {
    newest.current += 1;
    const own = newest.current;
    try {
      const found = await load();
      if (own !== newest.current) return;
      shown.current = keys;
      isLacking.current = seenAt.peek() !== null;
      setValue(found);
      setError(undefined);
    } catch (refused) {
      if (own !== newest.current) return;
      setError(refused);
      isLacking.current = codeOf(refused) === "offline";
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
  useEffect(() => returned.subscribe(() => isLacking.current && void reload()), [reload]);
  return { value, error, reload };
}

/** Keys of what must happen once. */
import { useRef } from "preact/hooks";

/**
 * A key for each thing that is asked while a dialog is open: whoever presses twice, or again after the connection broke,
 * asks for the same; who changed the amount asks for something else.
 */
export function useKeys(): (...asked: readonly unknown[]) => string {
  const keys = useRef(new Map<string, string>());
  return (...asked) => {
    const name = JSON.stringify(asked);
    const key = keys.current.get(name) ?? crypto.randomUUID();
    keys.current.set(name, key);
    return key;
  };
}

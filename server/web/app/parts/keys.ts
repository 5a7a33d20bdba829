/** Keys of what must happen once. */
import { useState } from "preact/hooks";

export type KeyOf = (...asked: readonly unknown[]) => string;

/**
 * A key for each thing that is asked: whoever presses twice, or again after the connection broke, asks for the same; who
 * changed the amount asks for something else.
 */
export function keys(): KeyOf {
  const known = new Map<string, string>();
  return (...asked) => {
    const name = JSON.stringify(asked);
    const key = known.get(name) ?? crypto.randomUUID();
    known.set(name, key);
    return key;
  };
}

/** The same while a dialog is open. */
export function useKeys(): KeyOf {
  return useState(keys)[0];
}

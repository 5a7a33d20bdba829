/** Keys of a page: single letters, and what else is not meant for the field or button that has the focus. */
import { useEffect, useRef } from "preact/hooks";

/** By the key in capitals. */
export function useKeys(keys: Readonly<Record<string, () => void>>): void {
  const current = useRef(keys);
  current.current = keys;
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const action = current.current[event.key.toUpperCase()];
      if (action === undefined || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      const isTyping = event.target instanceof HTMLElement && event.target.matches("input, textarea, select, [contenteditable]");
      const isPressing = event.key === "Enter" && event.target instanceof HTMLElement && event.target.matches("button, a, summary");
      // A dialog has its own Escape, and nothing else is meant for what is under it.
      if (isPressing || (isTyping && event.key !== "Escape") || document.querySelector("dialog[open]") !== null) return;
      event.preventDefault();
      action();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

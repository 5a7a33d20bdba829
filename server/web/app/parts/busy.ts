/** What a button does, once: pressed again before it is done, it does nothing. */
import { useRef, useState } from "preact/hooks";

/** Whether something is being done, and a way to do something while nothing else is. */
export function useBusy(): readonly [isBusy: boolean, alone: (work: () => Promise<void>) => Promise<void>] {
  const [isBusy, setBusy] = useState(false);
  // A second press can come before the button is drawn as one that cannot be pressed.
  const isTaken = useRef(false);
  async function alone(work: () => Promise<void>): Promise<void> {
    if (isTaken.current) return;
    isTaken.current = true;
    setBusy(true);
    try {
      await work();
    } finally {
      isTaken.current = false;
      setBusy(false);
    }
  }
  return [isBusy, alone];
}

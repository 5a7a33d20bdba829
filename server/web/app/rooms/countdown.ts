import { useEffect, useState } from "preact/hooks";
import { serverNow } from "../server";

// Twice a second, so that no second is skipped.
const EVERY_MS = 500;

/** Whole seconds until a moment of the server's clock; 0 once it is over. */
export function useSecondsLeft(until: number): number {
  const [left, setLeft] = useState(() => leftOf(until));
  useEffect(() => {
    setLeft(leftOf(until));
    const timer = setInterval(() => setLeft(leftOf(until)), EVERY_MS);
    return () => clearInterval(timer);
  }, [until]);
  return left;
}

function leftOf(until: number): number {
  return Math.max(0, Math.ceil((until - serverNow()) / 1000));
}

/** How many notifications the person logged in has not read: fetched at the start, and again whenever one comes. */
import { effect, signal } from "@preact/signals";
import { call, subscribe } from "../server";
import { me } from "../session";

export const unread = signal(0);
/** Rises with each notification that comes while somebody looks. */
export const arrivals = signal(0);

/** Follow the own channel for as long as somebody is logged in, whoever it is. */
export function followUnread(): () => void {
  let end: (() => void) | undefined;
  let who: string | undefined;
  const stop = effect(() => {
    const id = me.value?.id;
    if (id === who) return;
    who = id;
    end?.();
    end = undefined;
    unread.value = 0;
    if (id === undefined) return;
    void count();
    end = subscribe(`user:${id}`, {
      onReset: () => void count(),
      onEvent: ({ ev }) => {
        if (ev !== "notification.created") return;
        unread.value = unread.peek() + 1;
        arrivals.value = arrivals.peek() + 1;
      },
    });
  });
  return () => {
    stop();
    end?.();
  };
}

async function count(): Promise<void> {
  try {
    unread.value = (await call("notification.count", {})).unread;
  } catch {
    // The number is a hint: the page of notifications says what is wrong.
  }
}

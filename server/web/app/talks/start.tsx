/** One click, and one is in a talk of one's own. */
import { useLocation } from "preact-iso";
import { useState } from "preact/hooks";
import { useBusy } from "../parts/busy";
import { words } from "../parts/states";
import { toast } from "../parts/toast";
import { isMember, me } from "../session";
import { call } from "../server";
import { language } from "../texts";
import { t } from "./texts";

export function useStart() {
  const { route } = useLocation();
  const [isBusy, alone] = useBusy();
  // Should the answer be lost, the second click opens no second talk.
  const [key] = useState(() => crypto.randomUUID());
  async function start(): Promise<void> {
    try {
      const talk = await call("talk.create", { title: t().titleOf(me.value?.first_name ?? ""), language: language.value }, { key });
      route(`/rooms/${talk.room_id}?new`);
    } catch (error) {
      toast(words(error));
    }
  }
  return { start: () => alone(start), isBusy };
}

export function StartTalk() {
  const { start, isBusy } = useStart();
  return (
    <button type="button" class="button primary" disabled={isBusy || !isMember.value} aria-busy={isBusy} onClick={() => void start()}>
      {t().startTalk}
    </button>
  );
}

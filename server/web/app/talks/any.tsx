/** One click, and one is in a talk of others, or in line for a seat in one. */
import { useLocation } from "preact-iso";
import { useState } from "preact/hooks";
import { useBusy } from "../parts/busy";
import { Dialog } from "../parts/dialog";
import { words } from "../parts/states";
import { toast } from "../parts/toast";
import { isMember, me } from "../session";
import { call, codeOf } from "../server";
import type { Id } from "../wire";
import type { Filter } from "./changes";
import { useStart } from "./start";
import { t } from "./texts";

// What one talk says, and the next may not.
const NEXT: ReadonlySet<ReturnType<typeof codeOf>> = new Set(["banned", "not_found", "permission_denied", "room_closed", "room_full"]);

export function JoinAny({ filter }: { filter: Filter }) {
  const { route } = useLocation();
  const { start } = useStart();
  const [isBusy, alone] = useBusy();
  const [isNone, setNone] = useState(false);
  async function join(): Promise<void> {
    try {
      const room = (await first(filter, false)) ?? (await first(filter, true));
      if (room === null) setNone(true);
      else route(`/rooms/${room}?straight`);
    } catch (error) {
      toast(words(error));
    }
  }
  return (
    <>
      <button type="button" class="button" disabled={isBusy || !isMember.value} aria-busy={isBusy} onClick={() => void alone(join)}>
        {t().joinAny}
      </button>
      {isNone && (
        <Dialog
          title={Object.values(filter).some(Boolean) ? t().noneFound : t().noneOfOthers}
          confirm={t().startTalk}
          close={(isConfirmed) => {
            setNone(false);
            if (isConfirmed) void start();
          }}
        >
          <p>{t().startWhy}</p>
        </Dialog>
      )}
    </>
  );
}

/** Take a seat in the first talk that has one, or a place in the line of the first that is full; `null` where none has. */
async function first(filter: Filter, full: boolean): Promise<Id | null> {
  const { items } = await call("talk.list", { ...filter, full });
  // In an own one, or one that is only announced, there is nobody to talk with.
  for (const { room_id } of items.filter(({ host, seats }) => host.user_id !== me.value?.id && seats.taken > 0))
    try {
      await call("room.join", { room_id, queue: full });
      return room_id;
    } catch (error) {
      if (!NEXT.has(codeOf(error))) throw error;
    }
  return null;
}

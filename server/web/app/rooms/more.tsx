/** What is not needed every minute: hand, reactions, people, devices, keys, and the end for everybody. */
import { useState } from "preact/hooks";
import editIcon from "../icons/edit.svg";
import handIcon from "../icons/hand.svg";
import inviteIcon from "../icons/invite.svg";
import { Dialog } from "../parts/dialog";
import { Icon } from "../parts/icon";
import { toast } from "../parts/toast";
import type { Participant } from "../wire";
import { Edit } from "./edit";
import { type LiveRoom, REACTIONS } from "./live";
import { DeviceChoice, refusal } from "./preview";
import { Sheet } from "./sheet";
import { Shortcuts } from "./shortcuts";
import { t } from "./texts";

export function More({ live, close, invite }: { live: LiveRoom; close: () => void; invite: (() => void) | null }) {
  const [leaving, setLeaving] = useState<Participant | null>(null);
  const [isClosing, setClosing] = useState(false);
  const [isForGood, setForGood] = useState(false);
  const [isEditing, setEditing] = useState(false);
  const isHost = live.isHost.value;
  const isUp = live.hasHandUp.value;

  async function doIt(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      toast(refusal(error));
    }
    close();
  }

  if (leaving !== null)
    return (
      <Dialog
        title={t().removeTitle(leaving.name)}
        confirm={t().remove}
        isDangerous
        close={(isConfirmed) => (isConfirmed ? void doIt(live.remove(leaving.user_id, isForGood)) : setLeaving(null))}
      >
        <p>{t().removeWhy}</p>
        <label class="row tick">
          <input type="checkbox" checked={isForGood} onChange={({ currentTarget }) => setForGood(currentTarget.checked)} />
          {t().forGood}
        </label>
      </Dialog>
    );
  if (isEditing) return <Edit room={live.id} close={close} />;
  if (isClosing)
    return (
      <Dialog title={t().closeTitle} confirm={t().closeAll} isDangerous close={(isConfirmed) => (isConfirmed ? void doIt(live.closeForAll()) : setClosing(false))}>
        <p>{t().closeWhy}</p>
      </Dialog>
    );
  return (
    <Sheet title={t().more} close={close}>
      <div class="row">
        <button
          type="button"
          class="button"
          aria-pressed={isUp}
          onClick={() => {
            live.hasHandUp.value = !isUp;
            close();
          }}
        >
          <Icon drawing={handIcon} />
          {t().hand}
        </button>
        {invite !== null && (
          <button type="button" class="button" onClick={invite}>
            <Icon drawing={inviteIcon} />
            {t().invite}
          </button>
        )}
        {isHost && invite !== null && (
          <button type="button" class="button" onClick={() => setEditing(true)}>
            <Icon drawing={editIcon} />
            {t().edit}
          </button>
        )}
      </div>
      <div class="reactions" role="group" aria-label={t().react}>
        {REACTIONS.map((emoji) => (
          <button
            key={emoji}
            type="button"
            class="button square"
            onClick={() => {
              live.react(emoji);
              close();
            }}
          >
            {emoji}
          </button>
        ))}
      </div>
      {live.mayRemove.value && live.others.value.length > 0 && (
        <section class="stack tight">
          <h3>{t().people}</h3>
          <ul class="crowd">
            {live.others.value.map((one) => (
              <li key={one.user_id} class="row spread">
                <span>{one.name}</span>
                <button type="button" class="button danger" aria-label={t().removeWho(one.name)} onClick={() => setLeaving(one)}>
                  {t().remove}
                </button>
              </li>
            ))}
          </ul>
        </section>
      )}
      <section class="stack tight">
        <h3>{t().devices}</h3>
        <DeviceChoice devices={live.devices} />
      </section>
      <section class="stack tight">
        <h3>{t().shortcuts}</h3>
        <Shortcuts />
      </section>
      {isHost && (
        <button type="button" class="button danger wide" onClick={() => setClosing(true)}>
          {t().closeAll}
        </button>
      )}
    </Sheet>
  );
}

/** The link of a talk, to copy, to hand on, and to be held before another phone. */
import { Failure, Loading } from "../parts/states";
import { useLoaded } from "../parts/loaded";
import { toast } from "../parts/toast";
import { call } from "../server";
import { Sheet } from "./sheet";
import { t } from "./texts";

export function Invite({ room, close }: { room: string; close: () => void }) {
  const { value: talk, error, reload } = useLoaded(() => call("talk.get", { talk_id: room }), [room]);
  return (
    <Sheet title={t().inviteTitle} close={close}>
      {talk === undefined ? (
        error === undefined ? <Loading heights={["3rem", "12rem"]} /> : <Failure error={error} again={() => void reload()} />
      ) : (
        <>
          <p class="soft">{t().inviteWhy}</p>
          <div class="field">
            <input aria-label={t().link} readOnly value={talk.share_link} onFocus={({ currentTarget }) => currentTarget.select()} />
          </div>
          <div class="row">
            <button type="button" class="button primary" onClick={() => void copy(talk.share_link)}>
              {t().copy}
            </button>
            {"share" in navigator && (
              <button type="button" class="button" onClick={() => void navigator.share({ title: talk.title, url: talk.share_link }).catch(() => undefined)}>
                {t().share}
              </button>
            )}
          </div>
          <img class="qr" src={`data:image/svg+xml,${encodeURIComponent(talk.qr_svg)}`} alt={t().qr} width={192} height={192} />
        </>
      )}
    </Sheet>
  );
}

async function copy(link: string): Promise<void> {
  // Without TLS there is no clipboard; the link stands there to be copied by hand.
  await navigator.clipboard?.writeText(link);
  toast(t().copied);
}

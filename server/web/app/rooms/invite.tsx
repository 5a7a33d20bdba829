/** The link of a talk, to copy, to hand on, and to be held before another phone. */
import { useRef } from "preact/hooks";
import { copy } from "../parts/copy";
import { Failure, Loading } from "../parts/states";
import { useLoaded } from "../parts/loaded";
import { call } from "../server";
import { Sheet } from "./sheet";
import { t } from "./texts";

export function Invite({ room, close }: { room: string; close: () => void }) {
  const { value: talk, error, reload } = useLoaded(() => call("talk.get", { talk_id: room }), [room]);
  const field = useRef<HTMLInputElement>(null);
  return (
    <Sheet title={t().inviteTitle} close={close}>
      {talk === undefined ? (
        error === undefined ? <Loading heights={["3rem", "12rem"]} /> : <Failure error={error} again={() => void reload()} />
      ) : (
        <>
          <p class="soft">{t().inviteWhy}</p>
          <div class="field">
            <input ref={field} aria-label={t().link} readOnly value={talk.share_link} onFocus={({ currentTarget }) => currentTarget.select()} />
          </div>
          <div class="row">
            <button type="button" class="button primary" onClick={() => void copy(talk.share_link, field.current)}>
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

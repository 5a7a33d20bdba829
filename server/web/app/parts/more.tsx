/** The end of a list that comes in pages (`usePages`). */
import { useState } from "preact/hooks";
import { words } from "./states";
import { t } from "./texts";

/** More of it, while there is more. */
export function More({ more }: { more: (() => Promise<void>) | undefined }) {
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<unknown>(null);
  if (more === undefined) return null;
  async function fetch(): Promise<void> {
    setBusy(true);
    setFailure(null);
    await more?.().catch(setFailure);
    setBusy(false);
  }
  return (
    <div class="more">
      {failure !== null && (
        <p class="alert" role="alert">
          {words(failure)}
        </p>
      )}
      <button type="button" class="button" disabled={isBusy} aria-busy={isBusy} onClick={() => void fetch()}>
        {t().more}
      </button>
    </div>
  );
}

/** The end of a list that comes in pages (`usePages`). */
import { useState } from "preact/hooks";
import { useBusy } from "./busy";
import { words } from "./states";
import { t } from "./texts";

/** More of it, while there is more. */
export function More({ more }: { more: (() => Promise<void>) | undefined }) {
  const [isBusy, alone] = useBusy();
  const [failure, setFailure] = useState<unknown>(null);
  if (more === undefined) return null;
  async function fetch(): Promise<void> {
    setFailure(null);
    await more?.().catch(setFailure);
  }
  return (
    <div class="more">
      {failure !== null && (
        <p class="alert" role="alert">
          {words(failure)}
        </p>
      )}
      <button type="button" class="button" disabled={isBusy} aria-busy={isBusy} onClick={() => void alone(fetch)}>
        {t().more}
      </button>
    </div>
  );
}

/** A button that saves a file of the server's. */
import { useBusy } from "../parts/busy";
import { words } from "../parts/states";
import { toast } from "../parts/toast";
import { download } from "../server";

interface DownloadOptions {
  path: string;
  /** For a file that the server gives none. */
  name?: string;
  label?: string;
  isQuiet?: boolean;
  children: string;
}

export function Download({ path, name = "fourtalk", label, isQuiet = false, children }: DownloadOptions) {
  const [isBusy, alone] = useBusy();
  async function save(): Promise<void> {
    try {
      await download(path, name);
    } catch (error) {
      toast(words(error));
    }
  }
  return (
    <button type="button" class={`button ${isQuiet ? "quiet" : ""}`} aria-label={label} disabled={isBusy} aria-busy={isBusy} onClick={() => void alone(save)}>
      {children}
    </button>
  );
}

/** A button that saves a file of the server's. */
import { useState } from "preact/hooks";
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
  const [isBusy, setBusy] = useState(false);
  async function save(): Promise<void> {
    setBusy(true);
    try {
      await download(path, name);
    } catch (error) {
      toast(words(error));
    } finally {
      setBusy(false);
    }
  }
  return (
    <button type="button" class={`button ${isQuiet ? "quiet" : ""}`} aria-label={label} disabled={isBusy} aria-busy={isBusy} onClick={save}>
      {children}
    </button>
  );
}

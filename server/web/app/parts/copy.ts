/** To the clipboard, where there is one; without TLS a browser has none. */
import { t } from "./texts";
import { toast } from "./toast";

/** Copy a text and say so; where that cannot be, select it where it is shown, for who copies by hand, and say that. */
export async function copy(text: string, shown: Element | null): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toast(t().copied);
  } catch {
    if (shown instanceof HTMLInputElement) shown.select();
    else if (shown !== null) getSelection()?.selectAllChildren(shown);
    toast(t().selected);
  }
}

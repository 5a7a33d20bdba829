/** Something to look at over the call, with a cross; the browser keeps the focus in it and gives it back. */
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import closeIcon from "../icons/close.svg";
import { useModal } from "../parts/dialog";
import { Icon } from "../parts/icon";
import { t } from "./texts";

export function Sheet({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useModal();
  const heading = useId();
  return (
    <dialog class="dialog sheet" ref={dialog} aria-labelledby={heading} onClose={close}>
      <form method="dialog">
        <div class="row spread">
          <h2 id={heading}>{title}</h2>
          <button type="submit" class="button quiet square" aria-label={t().shut}>
            <Icon drawing={closeIcon} />
          </button>
        </div>
        {children}
      </form>
    </dialog>
  );
}

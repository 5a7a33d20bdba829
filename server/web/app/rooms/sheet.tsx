/** Something to look at over the call, with a cross; the browser keeps the focus in it and gives it back. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import closeIcon from "../icons/close.svg";
import { Icon } from "../parts/icon";
import { t } from "./texts";

export function Sheet({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => dialog.current?.showModal(), []);
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

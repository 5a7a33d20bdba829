/** A question that has to be answered before anything else: the browser's own dialog, which keeps and gives back the focus. */
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { giveFocusBack } from "./focus";
import { t } from "./texts";

interface Options {
  title: string;
  confirm: string;
  isDangerous?: boolean;
  children: ComponentChildren;
  /** Closes it; `true` after the confirm button. */
  close: (confirmed: boolean) => void;
}

/** Opens a dialog for as long as it is in the page, with the focus in it. */
export function useModal(): RefObject<HTMLDialogElement | null> {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    // A dialog that goes with its page's part gives the focus back to nobody by itself.
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => giveFocusBack(before);
  }, []);
  return dialog;
}

/** Open for as long as it is in the page. */
export function Dialog({ title, confirm, isDangerous = false, children, close }: Options) {
  const dialog = useModal();
  const heading = useId();
  return (
    <dialog class="dialog" ref={dialog} aria-labelledby={heading} onClose={() => close(dialog.current?.returnValue === "yes")}>
      <form method="dialog">
        <h2 id={heading}>{title}</h2>
        {children}
        <div class="answers">
          <button type="submit" class="button" value="">
            {t().cancel}
          </button>
          <button type="submit" class={`button ${isDangerous ? "danger" : "primary"}`} value="yes">
            {confirm}
          </button>
        </div>
      </form>
    </dialog>
  );
}

/** A dialog that stays until what it asks for is answered: with a form inside, and a way out. */
export function Modal({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useModal();
  const heading = useId();
  return (
    <dialog class="dialog" ref={dialog} aria-labelledby={heading} onClose={close}>
      <div class="stack">
        <h2 id={heading}>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

interface AnswersOptions {
  close: () => void;
  /** Nothing is left to be broken off. */
  isDone?: boolean;
  /** What is asked is itself called "cancel", so the way out has another name. */
  isCancelling?: boolean;
  children?: ComponentChildren;
}

/** The row below a form in a `Modal`: its own button, and that which closes it. */
export function Answers({ close, isDone = false, isCancelling = false, children }: AnswersOptions) {
  return (
    <div class="answers">
      <button type="button" class="button" onClick={close}>
        {isDone ? t().close : isCancelling ? t().keep : t().cancel}
      </button>
      {children}
    </div>
  );
}

/** A deed that cannot be taken back: says what it will do, asks why, does it once, and shows the server's no where it stands. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Field, Form, Submit } from "../parts/form";
import { t as common } from "../parts/texts";
import { t } from "./texts";

interface Options {
  title: string;
  /** What it will do, in words. */
  what: ComponentChildren;
  confirm: string;
  isDangerous?: boolean;
  /** What is asked for besides. */
  children?: ComponentChildren;
  /** Name of the field in which the reason is; `null` where none is asked. */
  reason?: "reason" | "answer" | "notes" | null;
  /** What a reason has to be like, where that is another than everywhere. */
  hint?: string;
  /** The key makes a deed that moves money happen once, however often it is asked for. */
  act: (values: Record<string, string>, key: string) => Promise<void>;
  close: () => void;
}

/** Open for as long as it is in the page. */
export function Deed({ title, what, confirm, isDangerous = false, children, reason = "reason", hint = t().reasonHint, act, close }: Options) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  const [key] = useState(() => crypto.randomUUID());
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog class={`dialog deed ${isDangerous ? "dangerous" : ""}`} ref={dialog} aria-labelledby={heading} onClose={close}>
      <div class="stack">
        <h2 id={heading}>{title}</h2>
        <p class="soft">{what}</p>
        <Form
          submit={async (values) => {
            await act(values, key);
            dialog.current?.close();
          }}
        >
          {children}
          {reason !== null && (
            <Field name={reason} label={t().reasons[reason]} hint={hint} refusal={hint} maxLength={500} required />
          )}
          <div class="answers">
            <button type="button" class="button" onClick={() => dialog.current?.close()}>
              {common().cancel}
            </button>
            <Submit>{confirm}</Submit>
          </div>
        </Form>
      </div>
    </dialog>
  );
}

/** What is said in the room, beside the call. */
import { useEffect, useRef } from "preact/hooks";
import { zone } from "../format";
import closeIcon from "../icons/close.svg";
import sendIcon from "../icons/send.svg";
import { giveFocusBack } from "../parts/focus";
import { Icon } from "../parts/icon";
import { language } from "../texts";
import type { LiveRoom } from "./live";
import { refusal } from "./preview";
import { t } from "./texts";

// As the room's own rule of a message.
const TEXT_MAX = 2_000;

export function Chat({ live, close }: { live: LiveRoom; close: () => void }) {
  const state = live.state.value;
  const log = useRef<HTMLOListElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const lines = state?.lines ?? [];
  const unsent = live.unsent.value;
  useEffect(() => {
    const before = document.activeElement;
    field.current?.focus();
    return () => giveFocusBack(before);
  }, []);
  useEffect(() => log.current?.lastElementChild?.scrollIntoView({ block: "end" }), [lines.length, unsent.length]);

  function send(event: SubmitEvent): void {
    event.preventDefault();
    const text = field.current?.value.trim() ?? "";
    if (text === "" || field.current === null) return;
    field.current.value = "";
    void live.say(text);
  }

  return (
    <section class="chat" aria-label={t().chat}>
      <header class="row spread">
        <h2>{t().chat}</h2>
        <button type="button" class="button quiet square" aria-label={t().shut} onClick={close}>
          <Icon drawing={closeIcon} />
        </button>
      </header>
      {lines.length + unsent.length === 0 && <p class="soft">{t().noChat}</p>}
      {/* A region that scrolls has to be reached by keyboard. */}
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div class="lines" role="log" aria-label={t().chat} tabIndex={0}>
      <ol ref={log}>
        {lines.map(({ id, from, text, sentAt, isEdited }) => (
          <li key={id} class={from === live.own ? "own" : ""}>
            <p class="faint">
              {from === live.own ? t().you : (state?.names.get(from) ?? t().somebody)} · <time dateTime={sentAt}>{clock(sentAt)}</time>
              {isEdited && ` · ${t().edited}`}
            </p>
            <p class="text">{text}</p>
          </li>
        ))}
        {unsent.map(({ key, text, error }) => (
          <li key={key} class="own unsent">
            <p class="text">{text}</p>
            {error === null ? (
              <p class="faint">{t().sending}</p>
            ) : (
              <p class="wrong">
                {t().notSent} {refusal(error)}{" "}
                <button type="button" class="button quiet" onClick={() => void live.say(text, key)}>
                  {t().again}
                </button>
              </p>
            )}
          </li>
        ))}
      </ol>
      </div>
      <form class="say" onSubmit={send}>
        <input ref={field} name="text" maxLength={TEXT_MAX} autocomplete="off" aria-label={t().message} placeholder={t().message} />
        <button type="submit" class="button primary square" aria-label={t().send}>
          <Icon drawing={sendIcon} />
        </button>
      </form>
    </section>
  );
}

function clock(at: string): string {
  return new Intl.DateTimeFormat(language.value, { timeZone: zone.value, hour: "numeric", minute: "2-digit" }).format(new Date(at));
}

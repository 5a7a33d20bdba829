/** A link to give on, also as a picture that phones read. */
import { useRef } from "preact/hooks";
import { copy } from "../parts/copy";
import { t } from "./texts";

export function Share({ link, qr, isInside = false }: { link: string; qr: string; isInside?: boolean }) {
  const address = useRef<HTMLParagraphElement>(null);
  return (
    <section class={`share ${isInside ? "" : "card"}`} aria-label={t().share}>
      {/* Drawn by our server. */}
      <div class="qr" role="img" aria-label={t().qr} dangerouslySetInnerHTML={{ __html: qr }} />
      <div class="stack">
        {!isInside && <h2>{t().share}</h2>}
        <p class="faint address" ref={address}>
          {link}
        </p>
        <button type="button" class="button" onClick={() => void copy(link, address.current)}>
          {t().copy}
        </button>
      </div>
    </section>
  );
}

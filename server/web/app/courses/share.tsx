/** A link to give on, also as a picture that phones read. */
import { toast } from "../parts/toast";
import { t } from "./texts";

export function Share({ link, qr, isInside = false }: { link: string; qr: string; isInside?: boolean }) {
  return (
    <section class={`share ${isInside ? "" : "card"}`} aria-label={t().share}>
      {/* Drawn by our server. */}
      <div class="qr" role="img" aria-label={t().qr} dangerouslySetInnerHTML={{ __html: qr }} />
      <div class="stack">
        {!isInside && <h2>{t().share}</h2>}
        <p class="faint address">{link}</p>
        <button
          type="button"
          class="button"
          onClick={() => {
            void navigator.clipboard.writeText(link).then(() => toast(t().copied));
          }}
        >
          {t().copy}
        </button>
      </div>
    </section>
  );
}

/** Settlements that late evidence contradicts: what nobody adjusts by themselves waits here for a person. */
import { useState } from "preact/hooks";
import { instant, money } from "../format";
import { Choice } from "../parts/choice";
import { usePages } from "../parts/pages";
import { toast } from "../parts/toast";
import { call } from "../server";
import type { ListReviews, ReviewView } from "../wire";
import { Deed } from "./deed";
import { Frame } from "./frame";
import { List } from "./list";
import { useNames } from "./names";
import { t } from "./texts";

type State = NonNullable<ListReviews["state"]>;
const STATES: readonly State[] = ["open", "closed"];

export default function Reviews() {
  const [state, setState] = useState<State>("open");
  const [deed, setDeed] = useState<ReviewView | null>(null);
  const paged = usePages((cursor: string | null) => call("review.list", { state, cursor }), [state]);
  const names = useNames(paged.items?.flatMap(({ student_id, tutor_id }) => [student_id, tutor_id]) ?? []);
  return (
    <Frame title={t().sections.reviews}>
      <Choice label={t().status} options={STATES.map((one) => [one, t().reviewStates[one]] as const)} value={state} choose={setState} />
      <List paged={paged} none={t().noReviews}>
        {(one) => (
          <>
            <div class="about">
              <h2>{t().between(names.name(one.student_id), names.name(one.tutor_id))}</h2>
              <p>{one.settled === null ? t().returnedEvidence(money(one.by_evidence)) : t().settledEvidence(money(one.settled), money(one.by_evidence))}</p>
              <p class="faint figures">
                {t().holdNo(one.hold_id)} · {money(one.amount)} · <time dateTime={one.opened_at}>{instant(one.opened_at)}</time>
              </p>
              {one.notes !== null && <p class="quote">{one.notes}</p>}
            </div>
            {one.closed_at === null && (
              <div class="deeds">
                <button type="button" class="button" onClick={() => setDeed(one)}>
                  {t().closeReview}
                </button>
              </div>
            )}
          </>
        )}
      </List>
      {deed !== null && (
        <Deed
          title={t().closeReviewTitle}
          what={t().closeReviewWhat}
          confirm={t().closeReview}
          reason="notes"
          act={async ({ notes = "" }, key) => {
            await call("review.close", { review_id: deed.id, notes }, { key });
            toast(t().done);
            await paged.reload();
          }}
          close={() => setDeed(null)}
        />
      )}
    </Frame>
  );
}

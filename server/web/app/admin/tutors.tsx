/** Who wants to teach, and the word about it. */
import { useState } from "preact/hooks";
import { day } from "../format";
import { Choice } from "../parts/choice";
import { usePages } from "../parts/pages";
import { toast } from "../parts/toast";
import { call } from "../server";
import type { ManagedAccount, TutorStatus } from "../wire";
import { Deed } from "./deed";
import { Frame } from "./frame";
import { List } from "./list";
import { t } from "./texts";

const STATES = ["incomplete", "pending", "approved", "rejected"] as const satisfies readonly TutorStatus[];

export default function Tutors() {
  const [state, setState] = useState<TutorStatus>("incomplete");
  const [deed, setDeed] = useState<{ kind: "approve" | "reject"; tutor: ManagedAccount } | null>(null);
  const paged = usePages((cursor: string | null) => call("admin.user.list", { role: "tutor", tutor_status: state, cursor }), [state]);
  const done = async () => {
    toast(t().done);
    await paged.reload();
  };
  return (
    <Frame title={t().sections.tutors}>
      <Choice label={t().status} options={STATES.map((one) => [one, t().tutorStates[one]] as const)} value={state} choose={setState} />
      <List paged={paged} none={t().noTutors}>
        {(tutor) => (
          <>
            <div class="about">
              <h2>
                {tutor.first_name} {tutor.last_name}
              </h2>
              <p class="faint">
                {tutor.email} · {t().joined(day(tutor.created_at))}
              </p>
              {tutor.blocked && (
                <p>
                  <span class="chip bad">{t().blocked}</span>
                </p>
              )}
            </div>
            <div class="deeds">
              {tutor.tutor_status !== "approved" && (
                <button type="button" class="button primary" onClick={() => setDeed({ kind: "approve", tutor })}>
                  {t().approve}
                </button>
              )}
              {tutor.tutor_status !== "rejected" && (
                <button type="button" class="button danger" onClick={() => setDeed({ kind: "reject", tutor })}>
                  {t().reject}
                </button>
              )}
            </div>
          </>
        )}
      </List>
      {deed?.kind === "approve" && (
        <Deed
          title={t().approveTutor(deed.tutor.first_name)}
          what={t().approveTutorWhat(deed.tutor.email)}
          confirm={t().approve}
          reason={null}
          act={async () => {
            await call("admin.tutor.approve", { user_id: deed.tutor.id });
            await done();
          }}
          close={() => setDeed(null)}
        />
      )}
      {deed?.kind === "reject" && (
        <Deed
          title={t().rejectTutor(deed.tutor.first_name)}
          what={t().rejectTutorWhat(deed.tutor.email)}
          confirm={t().reject}
          isDangerous
          act={async ({ reason = "" }) => {
            await call("admin.tutor.reject", { user_id: deed.tutor.id, reason });
            await done();
          }}
          close={() => setDeed(null)}
        />
      )}
    </Frame>
  );
}

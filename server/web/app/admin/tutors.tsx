/** Who wants to teach, and the word about it. */
import { useState } from "preact/hooks";
import { day } from "../format";
import { Choice } from "../parts/choice";
import { useLoaded } from "../parts/loaded";
import { usePages } from "../parts/pages";
import { Failure, Loading } from "../parts/states";
import { toast } from "../parts/toast";
import { call } from "../server";
import { Said } from "../tutors/said";
import type { Id, ManagedAccount, TutorStatus } from "../wire";
import { Deed } from "./deed";
import { Frame } from "./frame";
import { List } from "./list";
import { t } from "./texts";

const STATES = ["pending", "incomplete", "approved", "rejected"] as const satisfies readonly TutorStatus[];

export default function Tutors() {
  const [state, setState] = useState<TutorStatus>("pending");
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
              <Written id={tutor.id} />
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
          hint={t().rejectHint}
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

/** What a tutor says of themselves, fetched when somebody wants to read it. */
function Written({ id }: { id: Id }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <details onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>{t().profile}</summary>
      {isOpen && <Fetched id={id} />}
    </details>
  );
}

function Fetched({ id }: { id: Id }) {
  const { value, error, reload } = useLoaded(() => call("admin.tutor.profile", { user_id: id }), [id]);
  if (value === undefined) return error === undefined ? <Loading heights={["6rem"]} /> : <Failure error={error} again={reload} />;
  return <Said profile={value} />;
}

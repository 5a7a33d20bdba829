/** A tutor's application: what it still needs, that it is being read, why it was refused; and what it says. */
import { useEffect, useId, useState } from "preact/hooks";
import { LANGUAGES } from "../courses/choices";
import { instant, languageName } from "../format";
import { Field, Form, Submit, TextField } from "../parts/form";
import { useLoaded } from "../parts/loaded";
import { Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { toast } from "../parts/toast";
import { call, Refused, subscribe } from "../server";
import { me, renew } from "../session";
import type { ProfileView } from "../wire";
import { Said } from "./said";
import { t } from "./texts";
import { read } from "./written";

export default function Profile() {
  const id = me.value?.id ?? "";
  const { value, error, reload } = useLoaded(() => call("tutor_profile.get", {}), [id]);
  useEffect(() => {
    const look = () => void Promise.all([reload(), renew()]).catch(() => undefined);
    return subscribe(`user:${id}`, { onReset: () => undefined, onEvent: ({ ev }) => ev === "notification.created" && look() });
  }, [id]);
  return (
    <>
      <Title
        beside={
          <a class="button" href="/teach/courses">
            {t().toTeaching}
          </a>
        }
      >
        {t().profile}
      </Title>
      <div class="editor">
        {value === undefined ? (
          error === undefined ? <Loading heights={["7rem", "24rem"]} /> : <Failure error={error} again={reload} />
        ) : (
          <>
            <Standing profile={value} />
            <section class="card" aria-label={t().profile}>
              {value.status === "pending" ? <Said profile={value} /> : <Write key={value.status} profile={value} changed={reload} />}
            </section>
          </>
        )}
      </div>
    </>
  );
}

function Standing({ profile: { status, answer, missing, submitted_at } }: { profile: ProfileView }) {
  return (
    <section class="card stack standing" role="status">
      <p class={status === "rejected" ? "alert" : "notice"}>
        {t().status[status]}
        {status === "pending" && submitted_at !== null && ` ${t().sent(instant(submitted_at))}`}
      </p>
      {answer !== null && (
        <div>
          <h2>{t().why}</h2>
          <p class="text">{answer}</p>
        </div>
      )}
      {status !== "pending" && missing.length > 0 && (
        <div>
          <h2>{t().needed}</h2>
          <ul class="needed">
            {missing.map((part) => (
              <li key={part}>{t().parts[part]}</li>
            ))}
          </ul>
        </div>
      )}
    </section>
  );
}

function Write({ profile, changed }: { profile: ProfileView; changed: () => Promise<void> }) {
  const [languages, setLanguages] = useState<readonly string[]>(profile.languages);
  const [isAdult, setAdult] = useState(profile.is_adult);
  const isApproved = profile.status === "approved";

  async function save(values: Record<string, string>, pressed: string): Promise<void> {
    const wantsToSend = pressed === "send";
    const saved = await call("tutor_profile.update", read(values, { languages, isAdult })).catch((error: unknown) => {
      throw inWords(error);
    });
    if (!wantsToSend) toast(t().saved);
    else if (saved.missing.length === 0) {
      await call("tutor_profile.submit", {});
      toast(t().wasSent);
    }
    await Promise.all([changed(), renew()]);
    if (wantsToSend && saved.missing.length > 0) throw lacking(saved.missing);
  }

  return (
    <Form submit={save}>
      <Field name="title" label={t().title} hint={t().titleHint} maxLength={200} defaultValue={profile.title} />
      <TextField name="description" label={t().description} hint={t().descriptionHint} rows={10} maxLength={5000} defaultValue={profile.description} />
      <Field name="subjects" label={t().subjects} hint={t().subjectsHint} refusal={t().subjectsWrong} autocomplete="off" defaultValue={profile.subjects.join(", ")} />
      <Languages chosen={languages} choose={setLanguages} />
      <div class="pair">
        <Field
          name="hourly_rate"
          label={`${t().rate} (USD)`}
          hint={t().rateHint}
          refusal={t().rateHint}
          inputMode="decimal"
          autocomplete="off"
          defaultValue={profile.hourly_rate === null ? "" : (profile.hourly_rate.amount / 100).toFixed(2)}
        />
        <Field
          name="experience_years"
          label={t().years}
          hint={t().yearsHint}
          refusal={t().yearsWrong}
          inputMode="numeric"
          autocomplete="off"
          defaultValue={profile.experience_years === null ? "" : String(profile.experience_years)}
        />
      </div>
      <Check isOn={isAdult} turn={setAdult}>
        {t().adult}
      </Check>
      <div class="row">
        {isApproved ? (
          <Submit>{t().save}</Submit>
        ) : (
          <>
            {/* The first one answers the Enter key: nobody sends an application by it. */}
            <Submit isSecond>{t().saveForLater}</Submit>
            <Submit value="send">{t().send}</Submit>
          </>
        )}
      </div>
    </Form>
  );
}

function Languages({ chosen, choose }: { chosen: readonly string[]; choose: (languages: readonly string[]) => void }) {
  const label = useId();
  const offered = [...new Set([...LANGUAGES, ...chosen])];
  return (
    <div class="field" role="group" aria-labelledby={label}>
      <label id={label}>{t().languages}</label>
      <div class="checks">
        {offered.map((code) => (
          <Check key={code} isOn={chosen.includes(code)} turn={(isOn) => choose(isOn ? [...chosen, code] : chosen.filter((one) => one !== code))}>
            {languageName(code)}
          </Check>
        ))}
      </div>
    </div>
  );
}

/** Without a name: its state is the component's, not the form's. */
function Check({ isOn, turn, children }: { isOn: boolean; turn: (isOn: boolean) => void; children: string }) {
  return (
    <label class="check">
      <input type="checkbox" checked={isOn} onChange={({ currentTarget }) => turn(currentTarget.checked)} /> {children}
    </label>
  );
}

/** What is missing, each at its field; what has none is said above. */
function lacking(missing: ProfileView["missing"]): Refused {
  return new Refused("profile_incomplete", t().lacks, Object.fromEntries(missing.map((part) => [part, t().parts[part]])));
}

/** A wrong subject is refused as one of the list. */
function inWords(error: unknown): unknown {
  if (!(error instanceof Refused)) return error;
  const fields = Object.fromEntries(Object.entries(error.fields).map(([name, said]) => [name.replace(/[.[].*$/, ""), said]));
  return new Refused(error.code, error.message, fields, error.facts);
}

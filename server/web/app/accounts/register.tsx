import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { kept } from "../kept";
import { Choice } from "../parts/choice";
import { Field, Form, Submit } from "../parts/form";
import { Title } from "../parts/title";
import { me, register } from "../session";
import { ownPath } from "./paths";
import { Names } from "./names";
import { saying } from "./refusals";
import { t } from "./texts";

export default function Register() {
  const { query, route } = useLocation();
  const [role, setRole] = useState<"student" | "tutor">("student");
  const next = ownPath(query["next"]);
  useEffect(() => {
    if (me.value) route(next, true);
  }, [me.value]);

  function submit({ first_name = "", last_name = "", email = "", password = "", referral_code = "" }: Record<string, string>) {
    const code = referral_code.trim() === "" ? {} : { referral_code: referral_code.trim() };
    return saying(register({ first_name, last_name, email, password, role, ...code }));
  }

  return (
    <div class="entrance">
      <Title>{t().registerTitle}</Title>
      <div class="card">
        <Form submit={submit}>
          <div class="field">
            <span class="faint" aria-hidden="true">
              {t().role}
            </span>
            <Choice label={t().role} options={[["student", t().student], ["tutor", t().tutor]]} value={role} choose={setRole} />
          </div>
          <Names />
          <Field name="email" label={t().email} type="email" autocomplete="username" required refusal={t().emailWrong} />
          <Field name="password" label={t().password} type="password" autocomplete="new-password" required hint={t().passwordRule} refusal={t().passwordRule} />
          <Field name="referral_code" label={t().code} autocomplete="off" defaultValue={kept.get("referral") ?? ""} hint={t().codeHint} refusal={t().codeWrong} />
          <Submit wide>{t().register}</Submit>
        </Form>
      </div>
      <p>
        {t().hasAccount} <a href="/login">{t().logIn}</a>
      </p>
    </div>
  );
}

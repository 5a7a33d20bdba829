/** A forgotten password: ask for a link. The answer is the same whether there is such an account. */
import { useState } from "preact/hooks";
import { Field, Form, Submit } from "../parts/form";
import { Title } from "../parts/title";
import { call } from "../server";
import { t } from "./texts";

export default function Forgot() {
  const [sentTo, setSentTo] = useState<string | null>(null);

  async function ask({ email = "" }: Record<string, string>): Promise<void> {
    await call("auth.reset_request", { email });
    setSentTo(email.trim());
  }

  return (
    <div class="entrance">
      <Title>{t().forgotTitle}</Title>
      <div class="card stack">
        <div role="status">{sentTo === null ? <p class="soft">{t().forgotWhy}</p> : <p class="notice">{t().resetSent(sentTo)}</p>}</div>
        {sentTo === null ? (
          <Form submit={ask}>
            <Field name="email" label={t().email} type="email" autocomplete="username" required refusal={t().emailWrong} />
            <Submit wide>{t().sendLink}</Submit>
          </Form>
        ) : (
          <>
            <p class="soft">{t().resetNext}</p>
            <button type="button" class="button wide" onClick={() => setSentTo(null)}>
              {t().otherAddress}
            </button>
          </>
        )}
      </div>
      <p>
        <a href="/login">{t().backToLogIn}</a>
      </p>
    </div>
  );
}

import { useLocation } from "preact-iso";
import { useEffect } from "preact/hooks";
import { Field, Form, Submit } from "../parts/form";
import { Title } from "../parts/title";
import { logIn, me } from "../session";
import { ownPath } from "./paths";
import { saying } from "./refusals";
import { t } from "./texts";

export default function Login() {
  const { query, route } = useLocation();
  const next = ownPath(query["next"]);
  useEffect(() => {
    if (me.value) route(next, true);
  }, [me.value]);
  return (
    <div class="entrance">
      <Title>{t().logInTitle}</Title>
      <div class="card">
        <Form submit={({ email = "", password = "" }) => saying(logIn({ email, password }))}>
          <Field name="email" label={t().email} type="email" autocomplete="username" required />
          <Field name="password" label={t().password} type="password" autocomplete="current-password" required />
          <Submit wide>{t().logIn}</Submit>
        </Form>
      </div>
      <p>
        <a href="/forgot">{t().forgot}</a>
      </p>
      <p>
        {t().noAccount} <a href={`/register${query["next"] === undefined ? "" : `?next=${encodeURIComponent(next)}`}`}>{t().register}</a>
      </p>
    </div>
  );
}

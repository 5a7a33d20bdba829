/** Where the link of a mail leads: a new password. The link's secret stands behind the `#`, and goes from the address at once. */
import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import missing from "../icons/missing.svg";
import { Field, Form, Submit } from "../parts/form";
import { useLoaded } from "../parts/loaded";
import { Empty, Failure, Loading } from "../parts/states";
import { Title } from "../parts/title";
import { toast } from "../parts/toast";
import { call, codeOf } from "../server";
import { logOut, me } from "../session";
import { t } from "./texts";

export default function Reset() {
  const { route } = useLocation();
  const [token] = useState(() => location.hash.slice(1));
  const [isOver, setOver] = useState(token === "");
  const { value, error, reload } = useLoaded(async () => (token === "" ? null : call("auth.reset_verify", { token })), []);
  // Nobody who looks over a shoulder or into the history finds it there.
  useEffect(() => history.replaceState(history.state, "", "/reset"), []);

  async function set({ password = "" }: Record<string, string>): Promise<void> {
    try {
      await call("auth.reset_confirm", { token, password });
    } catch (refused) {
      if (isInvalid(refused)) setOver(true);
      throw refused;
    }
    // Whoever is logged in here may be that account, whose sessions have all ended.
    if (me.value) await logOut().catch(() => undefined);
    toast(t().passwordSet);
    route("/login", true);
  }

  if (isOver || isInvalid(error))
    return (
      <Empty icon={missing} title={t().linkOver} isPage>
        <p>{t().linkOverWhy}</p>
        <a class="button" href="/forgot">
          {t().newLink}
        </a>
      </Empty>
    );
  return (
    <div class="entrance">
      <Title>{t().resetTitle}</Title>
      <div class="card">
        {value === undefined ? (
          error === undefined ? <Loading heights={["9rem"]} /> : <Failure error={error} again={reload} />
        ) : (
          <Form submit={set}>
            <Field name="password" label={t().next} type="password" autocomplete="new-password" required hint={t().passwordRule} refusal={t().passwordRule} />
            <Submit wide>{t().setPassword}</Submit>
          </Form>
        )}
      </div>
      <p>{t().resetWhy}</p>
    </div>
  );
}

function isInvalid(error: unknown): boolean {
  return codeOf(error) === "reset_link_invalid";
}

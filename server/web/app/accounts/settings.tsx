import { useState } from "preact/hooks";
import { fromNow, instant, zone } from "../format";
import { Choice } from "../parts/choice";
import { Dialog } from "../parts/dialog";
import { Field, Form, Select, Submit } from "../parts/form";
import { useLoaded } from "../parts/loaded";
import { Failure, Loading, words } from "../parts/states";
import { Title } from "../parts/title";
import { toast } from "../parts/toast";
import { call, serverNow } from "../server";
import { logOut, logOutEverywhere, me, update } from "../session";
import { isLanguage, type Language, language, LANGUAGES } from "../texts";
import { chooseTheme, type Theme, theme } from "../theme";
import type { ComponentChildren } from "preact";
import { Names } from "./names";
import { t } from "./texts";

export default function Settings() {
  return (
    <>
      <Title>{t().settings}</Title>
      <div class="settings">
        <Profile />
        <Section title={t().appearance}>
          <Choice<Theme>
            label={t().appearance}
            options={[["system", t().themes.system], ["light", t().themes.light], ["dark", t().themes.dark]]}
            value={theme.value}
            choose={chooseTheme}
          />
        </Section>
        <Password />
        <Sessions />
      </div>
    </>
  );
}

function Section({ title, why, children }: { title: string; why?: string; children: ComponentChildren }) {
  return (
    <section class="card">
      <header>
        <h2>{title}</h2>
        {why !== undefined && <p class="faint">{why}</p>}
      </header>
      {children}
    </section>
  );
}

function Profile() {
  const account = me.value;
  const [spoken, setSpoken] = useState<Language>(language.value);
  const [timezone, setTimezone] = useState(zone.value);
  if (!account) return null;

  async function save({ first_name = "", last_name = "" }: Record<string, string>): Promise<void> {
    await update({ first_name, last_name, locale: spoken, timezone });
    toast(t().saved);
  }

  const clock = new Intl.DateTimeFormat(language.value, { timeZone: timezone, timeStyle: "short" }).format(new Date());
  return (
    <Section title={t().profile} why={t().profileWhy}>
      <Form submit={save}>
        <Names account={account} />
        <Select
          name="locale"
          label={t().language}
          options={Object.entries(LANGUAGES)}
          value={spoken}
          choose={(value) => isLanguage(value) && setSpoken(value)}
        />
        <Select
          name="timezone"
          label={t().zone}
          hint={t().zoneHint(clock)}
          options={zones(account.timezone).map((name) => [name, name.replaceAll("_", " ")])}
          value={timezone}
          choose={setTimezone}
        />
        <Submit>{t().save}</Submit>
      </Form>
    </Section>
  );
}

function Password() {
  const [round, setRound] = useState(0);

  async function change({ current_password = "", password = "" }: Record<string, string>): Promise<void> {
    await update({ current_password, password });
    toast(t().changed);
    // A form anew, with nothing in it.
    setRound(round + 1);
  }

  return (
    <Section title={t().changePassword} why={t().changePasswordWhy}>
      <Form key={round} submit={change}>
        <Field name="current_password" label={t().current} type="password" autocomplete="current-password" required refusal={t().currentWrong} />
        <Field name="password" label={t().next} type="password" autocomplete="new-password" required hint={t().passwordRule} refusal={t().passwordRule} />
        <Submit>{t().save}</Submit>
      </Form>
    </Section>
  );
}

function Sessions() {
  const { value, error, reload } = useLoaded(() => call("login.list", {}), []);
  const [isAsking, setAsking] = useState(false);
  return (
    <Section title={t().sessions} why={t().sessionsWhy}>
      <div class="stack">
        {value === undefined ? (
          error === undefined ? <Loading heights={["4rem"]} /> : <Failure error={error} again={reload} />
        ) : (
          <ul class="sessions">
            {value.items.map(({ id, address, created_at, used_at }) => (
              <li key={id}>
                <span>{t().since(instant(created_at))}</span>
                <span class="faint">
                  {t().used(fromNow(used_at, serverNow()))}
                  {address !== null && ` · ${address}`}
                </span>
              </li>
            ))}
          </ul>
        )}
        <div class="row">
          <button type="button" class="button" onClick={() => void logOut().catch(tell)}>
            {t().logOut}
          </button>
          <button type="button" class="button danger" onClick={() => setAsking(true)}>
            {t().logOutEverywhere}
          </button>
        </div>
      </div>
      {isAsking && (
        <Dialog
          title={t().logOutEverywhereSure}
          confirm={t().logOutEverywhere}
          isDangerous
          close={(confirmed) => {
            setAsking(false);
            if (confirmed) void logOutEverywhere().catch(tell);
          }}
        >
          <p class="soft">{t().logOutEverywhereWhy}</p>
        </Dialog>
      )}
    </Section>
  );
}

function tell(error: unknown): void {
  toast(words(error));
}

/** The zones that the browser knows, and the account's, whose name may be an older one. */
function zones(own: string): string[] {
  const known = Intl.supportedValuesOf("timeZone");
  return [...new Set([...known, "UTC", own])].toSorted();
}

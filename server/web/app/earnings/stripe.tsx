/** Money that goes to a tutor by Stripe: the way there, and what Stripe says of the account. */
import type { ComponentChildren } from "preact";
import { useLocation } from "preact-iso";
import { useState } from "preact/hooks";
import { Answers } from "../parts/dialog";
import { Form, Select, Submit } from "../parts/form";
import { useLoaded } from "../parts/loaded";
import { Failure, Loading } from "../parts/states";
import { call, codeOf } from "../server";
import { me } from "../session";
import { language } from "../texts";
import { t } from "./texts";

// Where Stripe pays out. It says no itself where this list is older than its own.
const COUNTRIES =
  "AE AT AU BE BG BR CA CH CY CZ DE DK EE ES FI FR GB GI GR HK HR HU IE IT JP LI LT LU LV MT MX MY NL NO NZ PL PT RO SE SG SI SK TH US".split(" ");

export function ByStripe({ close }: { close: () => void }) {
  return (
    <>
      <p class="faint">{t().stripeWhy}</p>
      <Onboard close={close} />
    </>
  );
}

/** Asks for the country and leaves for Stripe; the account is made there once, however often this is pressed. */
function Onboard({ close }: { close?: () => void }) {
  const own = me.value?.region ?? "";
  const [country, setCountry] = useState(COUNTRIES.includes(own) ? own : "US");
  const name = new Intl.DisplayNames(language.value, { type: "region" });
  const named = COUNTRIES.map((code) => [code, name.of(code) ?? code] as const).toSorted(([, one], [, other]) => one.localeCompare(other, language.value));
  return (
    <Form submit={() => leave(country)}>
      <Select name="country" label={t().country} options={named} value={country} choose={setCountry} />
      {close === undefined ? (
        <Submit>{t().toOnboarding}</Submit>
      ) : (
        <Answers close={close}>
          <Submit>{t().toOnboarding}</Submit>
        </Answers>
      )}
    </Form>
  );
}

async function leave(country: string): Promise<void> {
  const { url } = await call("payout_account.onboard", { country });
  location.assign(url);
}

/** How far the account is, asked of Stripe itself; `children` are what can be done once money can go there. */
export function AtStripe({ children }: { children: ComponentChildren }) {
  const { query } = useLocation();
  const { value, error, reload } = useLoaded(() => call("payout_account.stripe", {}).catch(notBegun), []);
  if (value === undefined) return error === undefined ? <Loading heights={["4rem"]} /> : <Failure error={error} again={reload} />;
  const isReady = value !== null && value.may_receive && value.may_pay_out;
  const wanted = value === null ? [] : value.wanted;
  const isWanted = value === null || wanted.length > 0;
  return (
    <>
      <div class="stack" role="status">
        {query["stripe"] === "returned" && <p class="soft">{t().returned}</p>}
        <p class={isReady ? "notice" : "soft"}>{isReady ? t().stripeReady : isWanted ? t().stripeWants : t().stripeWaits}</p>
        {isReady && isWanted && <p class="soft">{t().stripeSoon}</p>}
        {wanted.length > 0 && (
          <ul class="needed">
            {wanted.map((one) => (
              <li key={one}>{inWords(one)}</li>
            ))}
          </ul>
        )}
        {!isReady && <p class="soft">{t().orBank(t().changeBank)}</p>}
      </div>
      {value === null ? (
        <Onboard />
      ) : isWanted ? (
        // Stripe knows the country of an account that is there.
        <Form submit={() => leave(me.value?.region ?? "US")}>
          <Submit isSecond>{t().toOnboarding}</Submit>
        </Form>
      ) : (
        !isReady && (
          <button type="button" class="button" onClick={() => void reload()}>
            {t().look}
          </button>
        )
      )}
      {isReady && children}
    </>
  );
}

/** `null`: the account was wished for, but Stripe has not heard of it yet. */
function notBegun(error: unknown): null {
  if (codeOf(error) === "no_payout_account") return null;
  throw error;
}

/** Stripe names what it wants by a path; the longest part of it that has words. */
function inWords(path: string): string {
  const parts = path.split(".");
  for (let length = parts.length; length > 0; length -= 1) {
    const said = t().wanted[parts.slice(0, length).join(".")];
    if (said !== undefined) return said;
  }
  return path.replaceAll(/[._]/g, " ");
}

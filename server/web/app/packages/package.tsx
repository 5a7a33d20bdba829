/** One package: what is left of it, until when, and what became of each of its lessons. */
import { useEffect, useState } from "preact/hooks";
import { day, fromNow, instant, money } from "../format";
import type { PageProperties } from "../feature";
import { Answers, Modal } from "../parts/dialog";
import { Form, Submit } from "../parts/form";
import { useKeys } from "../parts/keys";
import { useLoaded } from "../parts/loaded";
import { Missing, Pending } from "../parts/states";
import { Title } from "../parts/title";
import { toast } from "../parts/toast";
import { call, codeOf, serverNow, subscribe } from "../server";
import { me } from "../session";
import type { PackageView } from "../wire";
import { t } from "./texts";
import { end } from "./words";

const UNKNOWN = new Set(["package_not_found", "not_found", "bad_request"]);

export default function One({ params: { id = "" } }: PageProperties) {
  const own = me.value?.id ?? "";
  const { value, error, reload } = useLoaded(() => call("package.get", { package_id: id }), [id]);
  useEffect(() => subscribe(`user:${own}`, { onReset: () => undefined, onEvent: ({ ev }) => /^(package|hold)\./.test(ev) && void reload() }), [own, reload]);
  if (value === undefined)
    return UNKNOWN.has(codeOf(error)) ? <Missing /> : <Pending title={t().one} heights={["3rem", "10rem", "12rem"]} error={error} again={reload} />;
  return (
    <>
      <Title
        beside={
          <a class="button" href="/packages">
            {t().back}
          </a>
        }
      >
        {value.title}
      </Title>
      <div class="wallet">
        <Facts one={value} />
        <Slices one={value} />
        <GiveBack one={value} done={reload} />
      </div>
    </>
  );
}

function Facts({ one }: { one: PackageView }) {
  const isStudent = one.student_id === me.value?.id;
  return (
    <section class="card stack" aria-label={one.title}>
      <p class="row">
        <span class={`chip ${one.status === "active" ? "accent" : ""}`}>{t().status[one.status]}</span>
        <span class="chip">{isStudent ? t().by(one.tutor_name) : t().sold(one.student_name)}</span>
      </p>
      {one.ends_soon && one.expires_at !== null && (
        <p class="notice soon" role="status">
          {t().endsSoon(fromNow(one.expires_at, serverNow()))}. {isStudent && t().onExpiry[one.on_expiry]}
        </p>
      )}
      <p class="credits">
        <strong class="figures">{t().left(one.remaining, one.purchased)}</strong>
        <meter min={0} max={one.purchased} value={one.remaining} aria-hidden="true" />
      </p>
      {isStudent && one.status === "active" && one.remaining > 0 && (
        <a class="button primary start" href={`/tutors/${one.tutor_id}?package=${one.id}`}>
          {t().ask}
        </a>
      )}
      <dl class="figures-of">
        <div>
          <dt>{t().paid}</dt>
          <dd class="figures">{money(one.price)}</dd>
        </div>
        <div>
          <dt>{t().boughtAt}</dt>
          <dd>{day(one.bought_at)}</dd>
        </div>
        <div>
          <dt>{t().until}</dt>
          <dd>{one.expires_at === null ? t().never : day(one.expires_at)}</dd>
        </div>
      </dl>
      <p class="faint">
        {t().lessons(one.purchased, one.minutes)} · {end(one)}
        {one.is_rolling && ` · ${t().rolling}`}
      </p>
    </section>
  );
}

function Slices({ one }: { one: PackageView }) {
  return (
    <section class="card stack" aria-labelledby="slices">
      <h2 id="slices">{t().slices}</h2>
      <ul class="lines-of">
        {one.slices.map((slice) => (
          <li key={slice.hold_id}>
            <div class="about">
              <a href={`/holds/${slice.hold_id}`}>{t().slice(slice.number)}</a>
              {slice.lesson_id !== null ? <a href={`/bookings/${slice.lesson_id}`}>{t().taken}</a> : slice.status === "held" && <span class="faint">{t().unused}</span>}
            </div>
            <span class="chip">{t().sliceStatus[slice.status]}</span>
            <span class="amount figures">{money(slice.amount)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function GiveBack({ one, done }: { one: PackageView; done: () => Promise<void> }) {
  const [isAsking, setAsking] = useState(false);
  const keyOf = useKeys();
  const isOffered = one.student_id === me.value?.id && one.status === "active" && Date.parse(one.refundable_until) > serverNow();
  if (!isOffered) return null;

  async function giveBack(): Promise<void> {
    await call("package.refund", { package_id: one.id }, { key: keyOf(one.id) });
    toast(t().givenBack);
    setAsking(false);
    await done();
  }

  return (
    <section class="card row spread" aria-label={t().giveBack}>
      <p class="soft">{t().giveBackUntil(instant(one.refundable_until))}</p>
      <button type="button" class="button danger" onClick={() => setAsking(true)}>
        {t().giveBack}
      </button>
      {isAsking && (
        <Modal title={t().giveBackSure(one.remaining)} close={() => setAsking(false)}>
          <p class="soft">{t().giveBackWhat}</p>
          <Form submit={giveBack}>
            <Answers close={() => setAsking(false)}>
              <Submit isDangerous>{t().giveBack}</Submit>
            </Answers>
          </Form>
        </Modal>
      )}
    </section>
  );
}
